package scale

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

func TestOwner(t *testing.T) {
	const functions = 9000
	owners := func(gateways ...string) (all []string) {
		for n := range functions {
			all = append(all, Owner(faas.ID{Name: fmt.Sprint("f", n), Namespace: "ns"}, gateways))
		}
		return all
	}
	three := owners("a", "b", "c")
	if !slices.Equal(three, owners("c", "a", "b")) {
		t.Error("it depends on their order")
	}
	share := map[string]int{}
	for _, name := range three {
		share[name]++
	}
	for _, name := range []string{"a", "b", "c"} {
		if n := share[name]; n < functions*9/30 || n > functions*11/30 {
			t.Errorf("%s owns %d of %d", name, n, functions)
		}
	}
	two, four := owners("a", "b"), owners("a", "b", "c", "d")
	for n := range functions {
		if three[n] != "c" && two[n] != three[n] {
			t.Fatalf("without c, %d moves from %s to %s", n, three[n], two[n])
		}
		if four[n] != "d" && four[n] != three[n] {
			t.Fatalf("with d, %d moves from %s to %s", n, three[n], four[n])
		}
	}
}

// A testGateway is one of several that have one engine.
type testGateway struct {
	*Registry
	*Peers
	engine *testEngine
	mu     sync.Mutex
	silent bool // it does not answer
	ended  bool // it refuses connections
	lowers []string
}

func (g *testGateway) is(silent, ended bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.silent, g.ended = silent, ended
}

func (g *testGateway) state() (silent, ended bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.silent, g.ended
}

func (g *testGateway) lowered() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return strings.Join(g.lowers, " ")
}

func (g *testGateway) Scale(context.Context, faas.ID, int) error { panic("it does not look first") }

func (g *testGateway) Adjust(_ context.Context, id faas.ID, next func(int) int) (int, error) {
	g.engine.mu.Lock()
	defer g.engine.mu.Unlock()
	now := g.engine.now[id].Desired
	n := next(now)
	if n != now {
		g.engine.set(id, n)
	}
	if n < now {
		g.mu.Lock()
		g.lowers = append(g.lowers, fmt.Sprintf("%d-%d", now, n))
		g.mu.Unlock()
	}
	return n, nil
}

// ask does what the gateway's program does.
func (g *testGateway) ask(ctx context.Context, all map[string]*testGateway) {
	g.Run(ctx, g.Registry, func() {
		g.List([]string{"a", "b", "c"}, true)
		for _, addr := range g.Addrs() {
			switch silent, ended := all[addr].state(); {
			case ended:
				g.End(addr)
			case !silent:
				g.Hear(addr, addr, time.Now(), all[addr].Reports())
			}
		}
	})
}

// withGateways runs a test with three gateways, a, b and c, in fake time.
func withGateways(t *testing.T, test func(*testing.T, *testEngine, map[string]*testGateway)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e := &testEngine{now: map[faas.ID]faas.Deployment{}, start: time.Second, neverUp: map[string]bool{}}
		all := map[string]*testGateway{}
		for _, name := range []string{"a", "b", "c"} {
			g := &testGateway{Peers: NewPeers(name), engine: e}
			g.Registry = NewRegistry(g, zap.NewNop(), func(faas.ID) {})
			g.Heed(g.Peers)
			g.Synced()
			if e.reg == nil {
				e.reg = g.Registry
			} else {
				e.others = append(e.others, g.Registry)
			}
			all[name] = g
		}
		ctx, cancel := context.WithCancel(t.Context())
		var asking sync.WaitGroup
		for _, g := range all {
			asking.Go(func() { g.ask(ctx, all) })
		}
		defer func() {
			cancel()
			asking.Wait()
			for _, g := range all {
				g.Registry.Close()
			}
		}()
		test(t, e, all)
	})
}

// load makes so many clients call a function at a gateway, one request of a second after the other, until the returned function is called.
// It is not quite a second: else requests would come at the very instants of looks and reports, which may count them or not.
func (g *testGateway) load(t *testing.T, id faas.ID, clients int) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for n := range clients {
		all.Go(func() {
			time.Sleep(time.Duration(n)*time.Second/time.Duration(clients) + 13*time.Millisecond)
			for ctx.Err() == nil {
				if err := serve(t, g.get(id), time.Second+3_141_593); err != nil {
					t.Error(err)
				}
			}
		})
	}
	return func() { cancel(); all.Wait() }
}

// The load of all gateways decides, as if it were at one, and only the owner lowers.
func TestSeveralGateways(t *testing.T) {
	withGateways(t, func(t *testing.T, e *testEngine, all map[string]*testGateway) {
		f := e.deploy("f", 1, faas.LabelConcurrency, "2", faas.LabelMax, "50")
		owner := Owner(f.id, []string{"a", "b", "c"})
		var stops []func()
		for name, g := range all {
			stops = append(stops, g.load(t, f.id, map[string]int{"a": 2, "b": 4, "c": 8}[name]))
		}
		time.Sleep(3 * time.Minute)
		for name, g := range all { // 14 at once at 70% of 2, and what is counted late adds to a rate
			if got := g.get(f.id).Status(); got.Desired < 10 || got.Desired > 12 {
				t.Errorf("%s has %+v, want 10 to 12", name, got)
			}
		}
		for _, stop := range stops {
			stop()
		}
		time.Sleep(3 * time.Minute)
		expect(t, f, "without load", 1)
		for name, g := range all {
			if lowered := g.lowered(); (lowered != "") != (name == owner) {
				t.Errorf("%s, with the owner %s, lowered %q", name, owner, lowered)
			}
		}
	})
}

// What nobody waits for a gateway raises by the load of all, where it has a part of it; to zero a function goes when nobody uses it.
func TestSeveralGatewaysToZero(t *testing.T) {
	withGateways(t, func(t *testing.T, e *testEngine, all map[string]*testGateway) {
		f := e.deploy("f", 0, faas.LabelTarget, "4", faas.LabelZero, "true", faas.LabelZeroDuration, "2m")
		owner := Owner(f.id, []string{"a", "b", "c"})
		other := map[string]string{"a": "b", "b": "c", "c": "a"}[owner]
		stop := all[other].load(t, f.id, 14)
		time.Sleep(10 * time.Minute)
		if got := f.Status(); got.Desired < 5 || got.Desired > 9 { // one gateway makes it 9 for a moment, too
			t.Errorf("14 at once, at a gateway that does not own it: %+v, want 5 to 9", got)
		}
		stop()
		time.Sleep(115 * time.Second)
		if got := f.Status().Desired; got != 1 {
			t.Errorf("soon after the last request there are %d", got)
		}
		time.Sleep(10 * time.Second)
		expect(t, f, "unused", 0)
		if all[other].lowered() != "" || all[owner].lowered() == "" {
			t.Errorf("lowered: %q, the owner %q", all[other].lowered(), all[owner].lowered())
		}
		if err := serve(t, all[other].get(f.id), time.Second); err != nil {
			t.Error(err)
		}
	})
}

// Replicas that the owner lets run empty get no requests from the others either.
func TestOthersHelpToDrain(t *testing.T) {
	withGateways(t, func(t *testing.T, e *testEngine, all map[string]*testGateway) {
		f := e.deploy("f", 5, faas.LabelConcurrency, "1", faas.LabelDownWindow, "10s")
		owner := Owner(f.id, []string{"a", "b", "c"})
		other := all[map[string]string{"a": "b", "b": "c", "c": "a"}[owner]].get(f.id)
		time.Sleep(1500 * time.Millisecond)
		var last *Invocation
		var rest []*Invocation
		for range 5 {
			i := mustInvoke(t, all[owner].get(f.id))
			if i.replica.slot == 5 {
				last = i
			} else {
				rest = append(rest, i)
			}
		}
		for _, i := range rest {
			i.End()
		}
		narrowed := func(f *Target) int {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.goal.narrowed
		}
		mine := none
		for range 30 {
			time.Sleep(time.Second)
			if mine = narrowed(all[owner].get(f.id)); mine != none {
				break
			}
		}
		time.Sleep(2 * time.Second)
		if got := narrowed(other); mine == none || got != narrowed(all[owner].get(f.id)) {
			t.Errorf("the owner gives requests to %d replicas, another gateway to %d", mine, got)
		}
		last.End()
	})
}

// An alert that one gateway got holds for all of them.
func TestAlertAtAnotherGateway(t *testing.T) {
	withGateways(t, func(t *testing.T, e *testEngine, all map[string]*testGateway) {
		f := e.deploy("f", 1, faas.LabelConcurrency, "1", faas.LabelMax, "50", faas.LabelDownWindow, "1s")
		owner := Owner(f.id, []string{"a", "b", "c"})
		other := map[string]string{"a": "b", "b": "c", "c": "a"}[owner]
		stop := all[owner].load(t, f.id, 7)
		time.Sleep(time.Minute)
		all[other].get(f.id).Stay(true)
		stop()
		before := f.Status().Desired
		time.Sleep(50 * time.Second)
		expect(t, f, "an alert holds", before)
		time.Sleep(time.Minute)
		expect(t, f, "it holds no longer", 1)
		all[other].get(f.id).Alert(true) // a tenth of 50
		time.Sleep(10 * time.Second)
		lowered := all[owner].lowered()
		time.Sleep(40 * time.Second)
		expect(t, f, "an alert fires", 6)
		if got := all[owner].lowered(); got != lowered {
			t.Errorf("lowered meanwhile: %s, then %s", lowered, got)
		}
		time.Sleep(time.Minute)
		expect(t, f, "it is long ago", 1)
	})
}

// An engine that others have changed meanwhile is not set back.
func TestAdjust(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &testEngine{now: map[faas.ID]faas.Deployment{}, start: time.Second}
		g := &testGateway{Peers: NewPeers("a"), engine: e}
		g.Registry = NewRegistry(g, zap.NewNop(), func(faas.ID) {})
		e.reg = g.Registry
		f := e.deploy("f", 3)
		for _, tt := range []struct{ has, was, n, want int }{
			{3, 3, 5, 5}, {6, 3, 5, 6}, {2, 3, 5, 5}, {3, 3, 1, 1}, {6, 3, 1, 6}, {0, 3, 1, 0}, {3, 3, 0, 0}, {4, 3, 0, 4},
		} {
			e.hand(f.id, tt.has)
			if got, _, err := g.adjust(t.Context(), f.id, tt.was, tt.n); got != tt.want || err != nil {
				t.Errorf("%+v: %d, %v", tt, got, err)
			}
		}
		synctest.Wait() // the scaler has had its look
		f.mu.Lock()
		f.goal.asked = 5
		f.mu.Unlock()
		f.answered(5, 6, nil) // another gateway was faster; nothing is to be waited for
		f.mu.Lock()
		asked := f.goal.asked
		f.mu.Unlock()
		if asked != none {
			t.Errorf("waits for %d", asked)
		}
		g.Registry.Close()
	})
}

func TestPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		id := faas.ParseID("f")
		p := NewPeers("me")
		expect := func(when string, whole bool, load int) {
			t.Helper()
			sum := 0
			if sight := p.Ask(id, func(_ string, r Report) { sum += r.InFlight }); sight.Whole != whole || sum != load {
				t.Errorf("%s: %+v with %d in flight, want %t, %d", when, sight, sum, whole, load)
			}
		}
		told := func(n int) map[string]Report { return map[string]Report{id.String(): {InFlight: n}} }
		expect("at first", false, 0)
		p.List([]string{"1", "2", "3"}, true)
		p.Hear("1", "me", time.Now(), told(100))
		p.Hear("2", "other", time.Now(), told(5))
		expect("one is not heard yet", false, 5)
		p.Hear("3", "other", time.Now(), told(5)) // another address of the same
		expect("all are heard", true, 5)
		if got := p.Addrs(); len(got) != 2 || slices.Contains(got, "1") {
			t.Errorf("asks at %v", got)
		}
		time.Sleep(3 * time.Second)
		expect("they are silent", false, 5)
		time.Sleep(8 * time.Second)
		expect("for long", false, 0)
		p.End("3")
		p.Hear("2", "other", time.Now(), told(6))
		expect("one is heard again, one has ended", true, 6)
		p.List([]string{"4"}, false)
		expect("names are not found", false, 6)
		p.Hear("4", "fourth", time.Now(), told(1))
		expect("one that was is heard", false, 7)
		p.List([]string{"1"}, true)
		p.Hear("2", "other", time.Now(), told(7)) // late
		expect("it is gone", true, 0)
		p.List([]string{"2"}, true)
		p.Hear("2", "other", time.Now().Add(-3*time.Second), told(8))
		expect("its answer lay unread for long", false, 8)
	})
}
