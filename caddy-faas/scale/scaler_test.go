package scale

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// A testEngine is an engine whose replicas take a second to start; the test sees what it was asked for.
type testEngine struct {
	mu       sync.Mutex
	reg      *Registry
	others   []*Registry // of other gateways
	now      map[faas.ID]faas.Deployment
	asked    []string // NAME=N
	start    time.Duration
	err      error
	neverUp  map[string]bool
	replicas int
}

func (e *testEngine) Scale(_ context.Context, id faas.ID, n int) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked = append(e.asked, fmt.Sprintf("%s=%d", id.Name, n))
	if e.err != nil {
		return e.err
	}
	e.set(id, n)
	return nil
}

// refuse makes the engine answer every change with an error; nil: no longer.
func (e *testEngine) refuse(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.err = err
}

func (e *testEngine) set(id faas.ID, n int) {
	d := e.now[id]
	d.Desired = n
	d.Replicas = slices.Clone(d.Replicas[:min(n, len(d.Replicas))])
	for slot := len(d.Replicas) + 1; slot <= n; slot++ {
		e.replicas++
		r := faas.Replica{ID: fmt.Sprint(e.replicas), Slot: slot, Addr: fmt.Sprint("a:", e.replicas)}
		d.Replicas = append(d.Replicas, r)
		if !e.neverUp[id.Name] {
			time.AfterFunc(e.start, func() { e.up(id, r.ID) })
		}
	}
	e.now[id] = d
	for _, r := range append(e.others, e.reg) {
		r.Set(d)
	}
}

func (e *testEngine) up(id faas.ID, replica string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	d := e.now[id]
	d.Replicas = slices.Clone(d.Replicas)
	for i := range d.Replicas {
		if d.Replicas[i].ID == replica {
			d.Replicas[i].Ready = true
		}
	}
	e.now[id] = d
	for _, r := range append(e.others, e.reg) {
		r.Set(d)
	}
}

// calls returns what was asked for since the last time.
func (e *testEngine) calls() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	defer func() { e.asked = nil }()
	return strings.Join(e.asked, " ")
}

// hand sets a number of replicas as a person would.
func (e *testEngine) hand(id faas.ID, n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.set(id, n)
}

// deploy adds a function with so many replicas, which are ready in a moment.
func (e *testEngine) deploy(name string, n int, labels ...string) *Target {
	id := faas.ParseID(name)
	d := faas.Deployment{Function: faas.Function{ID: id, Labels: map[string]string{}}}
	for i := 0; i < len(labels); i += 2 {
		d.Labels[labels[i]] = labels[i+1]
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.now[id] = d
	e.set(id, n)
	return e.reg.get(id)
}

// withEngine runs a test with such an engine in fake time.
func withEngine(t *testing.T, test func(*testing.T, *testEngine)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e := &testEngine{now: map[faas.ID]faas.Deployment{}, start: time.Second, neverUp: map[string]bool{}}
		e.reg = NewRegistry(e, zap.NewNop(), func(faas.ID) {})
		t.Cleanup(e.reg.Close)
		e.reg.Synced()
		test(t, e)
	})
}

// serve makes a request that takes so long.
func serve(t *testing.T, target *Target, takes time.Duration) error {
	i, err := target.Invoke(t.Context(), 0, nil)
	defer i.End()
	if err == nil {
		time.Sleep(takes)
	}
	return err
}

// expect fails unless the function has so many replicas.
func expect(t *testing.T, target *Target, when string, n int) {
	t.Helper()
	if got := target.Status(); got.Desired != n {
		t.Errorf("%s: %+v, want %d", when, got, n)
	}
}

func TestToZeroAndBack(t *testing.T) {
	withEngine(t, func(t *testing.T, e *testEngine) {
		f := e.deploy("f", 1, faas.LabelZero, "true", faas.LabelZeroDuration, "2m", faas.LabelMin, "2")
		time.Sleep(90 * time.Second)
		expect(t, f, "deployed with less than the least", 2)
		if err := serve(t, f, time.Second); err != nil {
			t.Fatal(err)
		}
		time.Sleep(119 * time.Second)
		expect(t, f, "before it was unused for long enough", 2)
		time.Sleep(3 * time.Second)
		expect(t, f, "unused", 0)
		if got := f.Status().Reason; got != "2 -> 0: not used for 2m0s" {
			t.Errorf("the reason is %q", got)
		}
		e.calls()
		begin := time.Now()
		if err := serve(t, f, 0); err != nil || time.Since(begin) != time.Second {
			t.Errorf("woken: %v after %s, want one start", err, time.Since(begin))
		}
		if got := e.calls(); got != "f=2" {
			t.Errorf("asked for %q to wake it", got)
		}
		stream := mustInvoke(t, f)
		stream.Stream()
		time.Sleep(10 * time.Minute)
		expect(t, f, "with an open stream", 2)
		stream.End()
		time.Sleep(119 * time.Second)
		expect(t, f, "just after it", 2)
		time.Sleep(3 * time.Second)
		expect(t, f, "long after it", 0)
		time.Sleep(time.Hour)
		if got := e.calls(); got != "f=0" {
			t.Errorf("asked for %q", got)
		}
	})
}

// A request that comes just when its function goes to zero is served.
func TestRequestMeetsGoingToZero(t *testing.T) {
	withEngine(t, func(t *testing.T, e *testEngine) {
		f := e.deploy("f", 1, faas.LabelZero, "true", faas.LabelZeroDuration, "3s")
		var all sync.WaitGroup
		for n := range 200 { // past the moment, in small steps
			all.Go(func() {
				time.Sleep(time.Duration(n) * 10 * time.Second)
				time.Sleep(time.Duration(n) * 20 * time.Millisecond)
				if err := serve(t, f, 0); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if got := e.calls(); strings.Count(got, "f=0") < 100 {
			t.Errorf("it went to zero only %d times", strings.Count(got, "f=0"))
		}
	})
}

// Replicas that are to go get no new requests and keep those that they have.
func TestLoweringDrains(t *testing.T) {
	withEngine(t, func(t *testing.T, e *testEngine) {
		f := e.deploy("f", 4, faas.LabelConcurrency, "2", faas.LabelDownWindow, "10s", faas.LabelMax, "4")
		time.Sleep(2 * time.Second)
		var held []*Invocation
		highest := map[string]*Invocation{}
		for range 8 {
			i := mustInvoke(t, f)
			if i.replica.slot > 1 {
				highest[i.Addr()] = i
				i.Stream() // how long it takes does not count
			}
			held = append(held, i)
		}
		for _, i := range held {
			if highest[i.Addr()] != i {
				i.End()
			}
		}
		if len(highest) != 3 {
			t.Fatal("not every replica got its share")
		}
		narrowing := func() bool { return len(f.now.Load().narrowing()) > 0 }
		for range 1000 {
			if time.Sleep(100 * time.Millisecond); narrowing() {
				break
			}
		}
		for range 50 {
			before := len(f.now.Load().ready) // the scaler may look at the same instant
			i := mustInvoke(t, f)
			if stay := max(before, len(f.now.Load().ready)); i.replica.slot > stay {
				t.Fatalf("a request was given to slot %d, of which only %d stay", i.replica.slot, stay)
			}
			i.End()
			time.Sleep(100 * time.Millisecond)
		}
		expect(t, f, "while the highest slots were busy", 4)
		for _, i := range highest {
			i.End()
		}
		time.Sleep(2 * time.Second)
		if got := f.Status(); got.Desired >= 4 || narrowing() {
			t.Errorf("when they were not: %+v", got)
		}
	})
}

// Requests that take long hold the replicas that are to go for as long as they may, or for ever.
func TestProtect(t *testing.T) {
	for _, protect := range []string{"", "in-flight"} {
		withEngine(t, func(t *testing.T, e *testEngine) {
			f := e.deploy("f", 4, faas.LabelConcurrency, "1", faas.LabelDownWindow, "10s", faas.LabelMax, "4", faas.LabelProtect, protect)
			time.Sleep(2 * time.Second)
			var last *Invocation
			var rest []*Invocation
			for range 4 {
				if i := mustInvoke(t, f); i.replica.slot == 4 {
					last = i
					i.Stream() // how long it takes does not count
				} else {
					rest = append(rest, i)
				}
			}
			for _, i := range rest {
				i.End()
			}
			time.Sleep(10 * time.Minute)
			if got := f.Status().Desired; (got == 4) != (protect != "") {
				t.Errorf("protect %q: %d replicas while the last one is busy", protect, got)
			}
			last.End()
		})
	}
}

func TestWhatIsSetByHandIsKept(t *testing.T) {
	withEngine(t, func(t *testing.T, e *testEngine) {
		f := e.deploy("f", 1)
		time.Sleep(time.Minute)
		e.hand(f.ID(), 7)
		time.Sleep(59 * time.Second)
		expect(t, f, "within the window", 7)
		if got := f.Status().Reason; got != "1 -> 7: set by hand, or by another program" {
			t.Errorf("the reason is %q", got)
		}
		time.Sleep(10 * time.Second)
		expect(t, f, "after it", 1)
		e.hand(f.ID(), 0)
		time.Sleep(time.Hour)
		expect(t, f, "set to zero", 0)
		if err := serve(t, f, 0); err != nil {
			t.Error(err)
		}
		expect(t, f, "used again", 1)
		e.calls()
		fixed := e.deploy("fixed", 5, faas.LabelAuto, "false")
		time.Sleep(2 * time.Second)
		for range 100 {
			go serve(t, fixed, time.Minute)
		}
		time.Sleep(time.Hour)
		e.hand(fixed.ID(), 0)
		serve(t, fixed, 0)
		if got := e.calls(); got != "fixed=1" {
			t.Errorf("with faas.scale.auto false it asked for %q, want only to be woken", got)
		}
	})
}

// So is what is set by hand on a function in use, and on one that would go to zero, as an alert keeps it.
func TestWhatIsAskedForIsKept(t *testing.T) {
	for name, ask := range map[string]func(*testEngine, *Target){
		"by hand":     func(e *testEngine, f *Target) { e.hand(f.ID(), 3) },
		"by an alert": func(_ *testEngine, f *Target) { f.Alert(true) },
	} {
		t.Run(name, func(t *testing.T) {
			withEngine(t, func(t *testing.T, e *testEngine) {
				used := e.deploy("used", 1, faas.LabelMin, "1")
				idle := e.deploy("idle", 1, faas.LabelZero, "true", faas.LabelZeroDuration, "5s")
				go func() {
					for range 300 {
						serve(t, used, time.Second)
					}
				}()
				time.Sleep(90 * time.Second)
				expect(t, idle, "not used", 0)
				ask(e, used)
				ask(e, idle)
				before := used.Status().Desired
				time.Sleep(57 * time.Second)
				if calls := e.calls(); strings.Count(calls, "idle=0") != 1 {
					t.Errorf("within a minute the engine was asked for %q", calls)
				}
				if got, now := used.Status(), idle.Status(); got.Desired < max(2, before) || now.Desired < 2 {
					t.Errorf("within a minute: %+v, %+v", got, now)
				}
				time.Sleep(15 * time.Second)
				expect(t, idle, "not used any more", 0)
				time.Sleep(time.Minute)
				expect(t, used, "used by one", 1)
				time.Sleep(5 * time.Minute)
			})
		})
	}
}

// A step that an alert goes down leaves the rest of its floor; an alert that adds nothing is none.
func TestStepsOfAlerts(t *testing.T) {
	withEngine(t, func(t *testing.T, e *testEngine) {
		f := e.deploy("f", 1, faas.LabelResolve, ResolveStep, faas.LabelDownWindow, "1s")
		none := e.deploy("none", 1, faas.LabelFactor, "0", faas.LabelDownWindow, "1s")
		time.Sleep(2 * time.Second)
		for n, firing := range []bool{true, true, false, false} {
			f.Alert(firing)
			none.Alert(firing)
			time.Sleep(20 * time.Second)
			expect(t, f, fmt.Sprint("after alert ", n), []int{3, 5, 3, 1}[n])
			expect(t, none, "with the factor 0", 1)
		}
		e.hand(none.ID(), 4)
		time.Sleep(time.Second)
		none.Alert(true)
		time.Sleep(10 * time.Second)
		expect(t, none, "which an alert does not hold", 1)
	})
}

// What the engine is at already, or has just refused, it is not asked for.
func TestLoweringWaits(t *testing.T) {
	withEngine(t, func(t *testing.T, e *testEngine) {
		f := e.deploy("f", 3)
		rolling := func(is bool) {
			e.mu.Lock()
			defer e.mu.Unlock()
			d := e.now[f.ID()]
			d.Rolling = is
			e.now[f.ID()] = d
			e.reg.Set(d)
		}
		rolling(true)
		time.Sleep(5 * time.Minute)
		if got := e.calls(); got != "" {
			t.Errorf("while it rolls: %q", got)
		}
		e.refuse(errors.New("no quorum"))
		rolling(false)
		time.Sleep(retryAfter + tick)
		if got := e.calls(); got != "f=1" && got != "f=1 f=1" {
			t.Errorf("while the engine refuses: %q", got)
		}
		e.refuse(nil)
		time.Sleep(retryAfter + tick)
		expect(t, f, "when the engine is well", 1)
	})
}

// After a restart the load is not known: what runs is kept for a window.
func TestRestartKeeps(t *testing.T) {
	withEngine(t, func(t *testing.T, e *testEngine) {
		e.reg = NewRegistry(e, zap.NewNop(), func(faas.ID) {})
		t.Cleanup(e.reg.Close)
		f := e.deploy("f", 9)
		e.reg.Synced()
		time.Sleep(59 * time.Second)
		expect(t, f, "within the window", 9)
		time.Sleep(10 * time.Second)
		expect(t, f, "after it", 1)
	})
}

// A function that fails to start is raised no further, however many come.
func TestFailingIsNotRaised(t *testing.T) {
	withEngine(t, func(t *testing.T, e *testEngine) {
		f := e.deploy("f", 0, faas.LabelConcurrency, "1")
		f.service.Store(int64(time.Second)) // once it worked
		had := 0
		e.neverUp["f"] = true
		time.AfterFunc(2*time.Second, func() {
			e.mu.Lock()
			defer e.mu.Unlock()
			d := e.now[f.ID()]
			d.Failing, d.Reason = true, "exit status 3"
			had = d.Desired
			e.now[f.ID()] = d
			for _, r := range append(e.others, e.reg) {
				r.Set(d)
			}
		})
		begin := time.Now()
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() { wantRefusal(t, serve(t, f, 0), StartFailed) })
		}
		all.Wait()
		if took := time.Since(begin); took != 2*time.Second {
			t.Errorf("told after %s, want as soon as it was known", took)
		}
		for range 1000 {
			wantRefusal(t, serve(t, f, 0), StartFailed)
			time.Sleep(100 * time.Millisecond)
		}
		if got := f.Status(); got.Desired > had {
			t.Errorf("raised from %d: %+v", had, got)
		}
		e.mu.Lock()
		d := e.now[f.ID()]
		d.Failing, d.Pending, d.Reason = false, d.Desired, "no suitable node"
		for _, r := range append(e.others, e.reg) {
			r.Set(d)
		}
		e.mu.Unlock()
		wantRefusal(t, serve(t, f, 0), NoCapacity)
	})
}

// Where there is room for some replicas, requests wait for these.
func TestRoomForSome(t *testing.T) {
	withEngine(t, func(t *testing.T, e *testEngine) {
		f := e.deploy("f", 0, faas.LabelMin, "3")
		time.AfterFunc(time.Second/2, func() {
			e.mu.Lock()
			defer e.mu.Unlock()
			d := e.now[f.ID()]
			d.Pending, d.Reason = 2, "no suitable node"
			e.now[f.ID()] = d
			e.reg.Set(d)
		})
		if err := serve(t, f, 0); err != nil {
			t.Error(err)
		}
	})
}

// A function that nobody uses any more is not looked at, and costs little.
func TestIdleFunctionsCostNothing(t *testing.T) {
	const n = 10_000
	reg := NewRegistry(new(raiser), zap.NewNop(), func(faas.ID) {})
	t.Cleanup(reg.Close)
	reg.Synced()
	var all []faas.Deployment
	for i := range n {
		d := deployment(1, map[string]string{faas.LabelConcurrency: "4"})
		d.Name = fmt.Sprint("f", i)
		all = append(all, d)
	}
	before := heap()
	for _, d := range all {
		reg.Set(d)
	}
	each := float64(heap()-before) / n
	runtime.KeepAlive(all)
	if t.Logf("%.0f bytes for each function", each); each > 1024 && !raceDetector {
		t.Error("want at most 1024")
	}
	reg.scaler.mu.Lock()
	if reg.scaler.running {
		t.Error("the scaler runs although nothing is used")
	}
	reg.scaler.mu.Unlock()

	withEngine(t, func(t *testing.T, e *testEngine) {
		var all []*Target
		for i := range 100 {
			all = append(all, e.deploy(fmt.Sprint("f", i), 1))
		}
		time.Sleep(2 * time.Minute)
		for _, f := range all {
			if err := serve(t, f, time.Second); err != nil {
				t.Fatal(err)
			}
			if !f.active.Load() {
				t.Error("it is in use, and not looked at")
			}
		}
		time.Sleep(2 * time.Minute)
		for _, f := range all {
			if f.active.Load() || f.Status().Rate != 0 {
				t.Fatalf("%+v: still looked at", f.Status())
			}
		}
		all[0].started.Add(1) // a request that is not in flight yet
		all[0].attend()
		if time.Sleep(1500 * time.Millisecond); !all[0].active.Load() {
			t.Error("a function to which a request has come is not looked at")
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(e.reg.scaler.used) != 0 || len(e.reg.scaler.busy) != 0 {
			t.Errorf("%d are still looked at", len(e.reg.scaler.used))
		}
	})
}

// heap is what live objects take.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Functions are lowered more slowly than they are raised, those first that have the most replicas too many.
func TestLoweredSlowly(t *testing.T) {
	withEngine(t, func(t *testing.T, e *testEngine) {
		d := NewDefaults()
		d.Zero, d.ZeroAfter = true, 10*time.Second
		e.reg.Configure(d)
		for i := range 40 {
			e.deploy(fmt.Sprint("f", i), 1)
		}
		e.deploy("big", 10, faas.LabelMin, "10")
		time.Sleep(time.Second / 2) // between the scaler's ticks
		var calls []string
		for range 20 {
			time.Sleep(time.Second)
			if calls = strings.Fields(e.calls()); len(calls) > 0 {
				break
			}
		}
		if len(calls) > 5 || !slices.Contains(calls, "big=0") {
			t.Errorf("lowered at first: %v, want a few, and the one with ten replicas among them", calls)
		}
		lowered := len(calls)
		time.Sleep(10 * time.Second)
		if lowered += len(strings.Fields(e.calls())); lowered < 25 || lowered > 30 {
			t.Errorf("%d functions are lowered within 10 s, want 20 and 8 more", lowered)
		}
		time.Sleep(30 * time.Second)
		if lowered += len(strings.Fields(e.calls())); lowered != 41 {
			t.Errorf("%d of 41 functions are lowered", lowered)
		}
	})
}

// Until it is a function's turn to be lowered, all its replicas are given requests.
func TestLoweringDrainsNoSooner(t *testing.T) {
	withEngine(t, func(t *testing.T, e *testEngine) {
		var all []*Target
		for i := range 40 {
			all = append(all, e.deploy(fmt.Sprint("f", i), 4, faas.LabelConcurrency, "1"))
		}
		time.Sleep(time.Second / 2) // between the scaler's ticks
		waited, last := 0, all[0]
		for range 120 {
			time.Sleep(time.Second)
			for _, f := range all {
				switch s := f.now.Load(); {
				case len(s.narrowing()) > 0:
					t.Fatalf("%+v: requests are given to %d replicas", f.Status(), len(s.ready))
				case f.Status().Held != "":
					waited++
					last = f
				}
			}
		}
		if waited == 0 {
			t.Error("none had to wait for its turn")
		}
		expect(t, last, "after its turn", 1)
	})
}

// A turn to lower a function is not lost if there is no call left for it.
func TestLoweringKeepsItsTurn(t *testing.T) {
	withEngine(t, func(t *testing.T, e *testEngine) {
		d := NewDefaults()
		d.Writes = 1
		e.reg.Configure(d)
		f := e.deploy("f", 4, faas.LabelDownWindow, "20s")
		wake := func(i int) {
			if err := serve(t, e.deploy(fmt.Sprint("wake", i), 0), 0); err != nil {
				t.Error(err)
			}
		}
		var all sync.WaitGroup
		for i := range 90 { // more of them than calls
			all.Go(func() { wake(i) })
			time.Sleep(900 * time.Millisecond)
		}
		if got := f.Status().Desired; got != 4 {
			t.Fatalf("%d replicas while there were no calls left for it", got)
		}
		all.Wait()
		time.Sleep(3 * time.Second)
		expect(t, f, "when there were", 1)
	})
}
