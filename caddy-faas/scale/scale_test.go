package scale

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// raiser records how often functions were raised, and lets the test answer.
type raiser struct {
	calls atomic.Int64
	do    func(id faas.ID, replicas int) error
}

func (r *raiser) Scale(_ context.Context, id faas.ID, replicas int) error {
	r.calls.Add(1)
	if r.do == nil {
		return nil
	}
	return r.do(id, replicas)
}

var echo = faas.ParseID("echo")

func newRegistry(t *testing.T, r Raiser) *Registry {
	reg := NewRegistry(r, zap.NewNop(), func(faas.ID) {})
	t.Cleanup(reg.Close)
	return reg
}

// deployment is echo with this many ready replicas; desired as many.
func deployment(ready int, labels map[string]string) faas.Deployment {
	d := faas.Deployment{Function: faas.Function{ID: echo, Labels: labels}, Desired: ready}
	for i := range ready {
		d.Replicas = append(d.Replicas, faas.Replica{ID: fmt.Sprint("r", i), Slot: i + 1, Addr: fmt.Sprintf("127.0.0.1:%d", i), Ready: true})
	}
	return d
}

func setUp(t *testing.T, r *raiser, d faas.Deployment) (*Registry, *Target) {
	t.Helper()
	reg := newRegistry(t, r)
	reg.Set(d)
	reg.Synced()
	return reg, reg.Lookup(t.Context(), echo, 0)
}

func mustInvoke(t *testing.T, target *Target) *Invocation {
	t.Helper()
	i, err := target.Invoke(t.Context(), time.Minute, nil)
	if err != nil {
		t.Fatalf("Invoke: %v", err)
	}
	return i
}

func wantRefusal(t *testing.T, err error, reason string) *Refusal {
	t.Helper()
	var r *Refusal
	if !errors.As(err, &r) || r.Reason != reason {
		t.Fatalf("got error %v, want a refusal for %s", err, reason)
	}
	return r
}

func TestLeastInFlightIsPicked(t *testing.T) {
	_, target := setUp(t, new(raiser), deployment(3, nil))
	got := map[string]int{}
	var held []*Invocation
	for range 30 {
		i := mustInvoke(t, target)
		got[i.Addr()]++
		held = append(held, i)
	}
	for addr, n := range got {
		if n != 10 {
			t.Errorf("replica %s got %d of 30 leases, want 10", addr, n)
		}
	}
	for _, i := range held {
		i.End()
		i.End() // harmless
	}
	if n := target.InFlight(); n != 0 {
		t.Errorf("%d in flight after all ended", n)
	}
}

func TestOneRaiseHoweverManyWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := new(raiser)
		reg, target := setUp(t, r, deployment(0, nil))
		var served atomic.Int64
		var all sync.WaitGroup
		for range 500 {
			all.Go(func() {
				i, err := target.Invoke(t.Context(), time.Minute, nil)
				if err != nil {
					t.Errorf("Invoke: %v", err)
				}
				served.Add(1)
				i.End()
			})
		}
		synctest.Wait()
		if calls, queued := r.calls.Load(), target.Queued(); calls != 1 || queued != 500 || served.Load() != 0 {
			t.Fatalf("with nothing running: %d raises, %d queued, %d served; want 1, 500, 0", calls, queued, served.Load())
		}
		starting := deployment(1, nil)
		starting.Replicas[0].Ready = false
		reg.Set(starting)
		synctest.Wait()
		if served.Load() != 0 || target.Queued() != 500 {
			t.Fatal("requests were let go before the replica was ready")
		}
		reg.Set(deployment(1, nil))
		all.Wait()
		if served.Load() != 500 || target.Queued() != 0 || target.InFlight() != 0 || r.calls.Load() != 1 {
			t.Errorf("served %d, queued %d, in flight %d, raises %d; want 500, 0, 0, 1", served.Load(), target.Queued(), target.InFlight(), r.calls.Load())
		}
		if target.ColdStarts() != 500 || target.Started() != 500 {
			t.Errorf("%d cold starts of %d invocations, want 500 of 500", target.ColdStarts(), target.Started())
		}
	})
}

func TestScaledToZeroWhileWaitingIsRaisedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := new(raiser)
		reg, target := setUp(t, r, deployment(0, nil))
		done := make(chan error)
		go func() {
			i, err := target.Invoke(t.Context(), time.Minute, nil)
			i.End()
			done <- err
		}()
		synctest.Wait()
		starting := deployment(1, nil)
		starting.Replicas = nil
		reg.Set(starting)
		reg.Set(deployment(0, nil)) // somebody else's doing
		synctest.Wait()
		if n := r.calls.Load(); n != 2 {
			t.Errorf("%d raises, want 2", n)
		}
		reg.Set(deployment(1, nil))
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestWaitEnds(t *testing.T) {
	tests := []struct {
		name   string
		before faas.Deployment
		then   func(*Registry, context.CancelFunc)
		check  func(*testing.T, error)
	}{
		{"at its deadline", faas.Deployment{Function: faas.Function{ID: echo}, Desired: 1, Reason: "image is pulled"}, nil, func(t *testing.T, err error) {
			if r := wantRefusal(t, err, ColdStartTimeout); r.Detail != "no replica was ready within 10s: image is pulled" {
				t.Errorf("detail %q", r.Detail)
			}
		}},
		{"before a first slot is there", deployment(0, map[string]string{faas.LabelConcurrency: "1"}), nil, func(t *testing.T, err error) {
			wantRefusal(t, err, ColdStartTimeout)
		}},
		{"with its client", deployment(0, nil), func(_ *Registry, cancel context.CancelFunc) { cancel() }, func(t *testing.T, err error) {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		}},
		{"with the function", deployment(0, nil), func(r *Registry, _ context.CancelFunc) { r.Delete(echo) }, func(t *testing.T, err error) {
			if !errors.Is(err, faas.ErrNotFound) {
				t.Errorf("got %v", err)
			}
		}},
		{"when starts fail", deployment(0, nil), func(r *Registry, _ context.CancelFunc) {
			r.Set(faas.Deployment{Function: faas.Function{ID: echo}, Desired: 1, Failing: true, Reason: "exit status 3"})
		}, func(t *testing.T, err error) {
			if r := wantRefusal(t, err, StartFailed); r.Detail != "exit status 3" {
				t.Errorf("detail %q", r.Detail)
			}
		}},
		{"while all slots are taken", deployment(1, map[string]string{faas.LabelConcurrency: "1"}), nil, func(t *testing.T, err error) {
			wantRefusal(t, err, Busy)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reg, target := setUp(t, new(raiser), tt.before)
				if target.Ready() > 0 {
					defer mustInvoke(t, target).End()
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := make(chan error)
				go func() {
					i, err := target.Invoke(ctx, 10*time.Second, nil)
					i.End()
					done <- err
				}()
				synctest.Wait()
				if tt.then != nil {
					tt.then(reg, cancel)
				}
				tt.check(t, <-done)
				if n := target.Queued(); n != 0 {
					t.Errorf("%d still queued", n)
				}
			})
		})
	}
}

func TestRaiseRefusedByTheEngine(t *testing.T) {
	r := &raiser{do: func(faas.ID, int) error { return errors.New("no space left") }}
	_, target := setUp(t, r, deployment(0, nil))
	for n := range int64(2) { // each request asks anew
		_, err := target.Invoke(t.Context(), time.Minute, nil)
		wantRefusal(t, err, StartFailed)
		if got := r.calls.Load(); got != n+1 {
			t.Errorf("%d raises after %d requests", got, n+1)
		}
	}
}

func TestFailingFunctionRefusesAtOnce(t *testing.T) {
	d := deployment(0, nil)
	d.Desired, d.Failing, d.Reason = 1, true, "exit status 3: boom"
	reg, target := setUp(t, new(raiser), d)
	_, err := target.Invoke(t.Context(), time.Hour, nil)
	wantRefusal(t, err, StartFailed)
	d.Replicas = deployment(1, nil).Replicas // an older version goes on serving
	reg.Set(d)
	mustInvoke(t, target).End()
}

func TestSlotsAreGrantedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, target := setUp(t, new(raiser), deployment(1, map[string]string{faas.LabelConcurrency: "1"}))
		first := mustInvoke(t, target)
		order := make(chan int, 10)
		for n := range 10 {
			go func() {
				i, err := target.Invoke(t.Context(), time.Minute, nil)
				if err != nil {
					t.Errorf("Invoke: %v", err)
				}
				order <- n
				i.End()
			}()
			synctest.Wait() // it waits now
		}
		first.End()
		for n := range 10 {
			if got := <-order; got != n {
				t.Fatalf("request %d was served as number %d", got, n)
			}
		}
	})
}

// A request that a full replica did not take waits before those that came later.
func TestWhoComesAgainIsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, target := setUp(t, new(raiser), deployment(1, map[string]string{faas.LabelConcurrency: "1"}))
		first := mustInvoke(t, target)
		order := make(chan string, 2)
		go func() {
			i, err := target.Invoke(t.Context(), time.Minute, nil)
			order <- fmt.Sprint("second ", err)
			i.End()
		}()
		synctest.Wait() // it waits now
		first.Full()
		err := first.Next(t.Context())
		order <- fmt.Sprint("first ", err)
		first.End()
		if a, b := <-order, <-order; a != "first <nil>" || b != "second <nil>" {
			t.Errorf("%s, then %s", a, b)
		}
	})
}

func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, target := setUp(t, new(raiser), deployment(0, nil))
		for range NewDefaults().Depth {
			go func() {
				i, _ := target.Invoke(t.Context(), time.Second, nil)
				i.End()
			}()
		}
		synctest.Wait()
		_, err := target.Invoke(t.Context(), time.Second, nil)
		wantRefusal(t, err, QueueFull)
		time.Sleep(2 * time.Second) // synctest's clock
		synctest.Wait()
		if n := target.Queued(); n != 0 {
			t.Errorf("%d still queued", n)
		}
	})
}

func TestRefusedConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, target := setUp(t, new(raiser), deployment(2, nil))
		i := mustInvoke(t, target)
		bad := i.Addr()
		refuse(i.Trace(), bad)
		if err := i.Next(t.Context()); err != nil || i.Addr() == bad {
			t.Fatalf("second try: %v at %s, want the other replica", err, i.Addr())
		}
		for range 5 {
			other := mustInvoke(t, target)
			if other.Addr() == bad {
				t.Fatal("a replica that refused the connection was leased")
			}
			defer other.End()
		}
		refuse(i.Trace(), bad) // a dial given up earlier reports late: not this replica's fault
		good := i.Addr()
		if err := i.Next(t.Context()); err != nil || i.Addr() != good {
			t.Fatalf("third try: %v at %s, want %s again", err, i.Addr(), good)
		}
		refuse(i.Trace(), good)
		if err := i.Next(t.Context()); err != nil { // waits until the first is given another chance
			t.Fatalf("fourth try: %v", err)
		}
		i.End()
	})
}

func TestOnlyReplicaRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, target := setUp(t, new(raiser), deployment(1, nil))
		i, err := target.Invoke(t.Context(), time.Second, nil) // shorter than an ejection
		if err != nil {
			t.Fatal(err)
		}
		refuse(i.Trace(), i.Addr())
		wantRefusal(t, i.Next(t.Context()), Unreachable)
		if i.Err() == nil || i.Next(t.Context()) != i.Err() {
			t.Error("Next went on after it had failed")
		}
		i.End()
		time.Sleep(ejection) // synctest's clock
		mustInvoke(t, target).End()
	})
}

func refuse(trace *httptrace.ClientTrace, addr string) {
	trace.ConnectDone("tcp", addr, errors.New("connection refused"))
}

func TestLookupWaitsForTheFirstSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := newRegistry(t, new(raiser))
		found := make(chan *Target)
		go func() { found <- reg.Lookup(t.Context(), echo, time.Minute) }()
		synctest.Wait()
		reg.Set(deployment(1, nil))
		reg.Synced()
		if <-found == nil {
			t.Error("function not found although it came with the first sync")
		}
		if reg.Lookup(t.Context(), faas.ParseID("nobody"), time.Minute) != nil {
			t.Error("found a function that there isn't")
		}
	})
}

// Slots are never exceeded and no wake-up is lost while replicas come and go.
func TestLeasesUnderChange(t *testing.T) {
	const limit = 2
	labels := map[string]string{faas.LabelConcurrency: fmt.Sprint(limit)}
	reg, target := setUp(t, new(raiser), deployment(3, labels))
	var inside [3]atomic.Int64
	stop := make(chan struct{})
	var changer, all sync.WaitGroup
	changer.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				reg.Set(deployment(3, labels))
				return
			default:
				d := deployment(3, labels)
				d.Replicas[n%3].Ready = false
				reg.Set(d)
			}
		}
	})
	for range 50 {
		all.Go(func() {
			for range 200 {
				i, err := target.Invoke(t.Context(), time.Minute, nil)
				if err != nil {
					t.Errorf("Invoke: %v", err)
					return
				}
				n := i.Addr()[len(i.Addr())-1] - '0'
				if inside[n].Add(1) > limit {
					t.Errorf("more than %d requests in one replica", limit)
				}
				inside[n].Add(-1)
				i.End()
			}
		})
	}
	all.Wait()
	close(stop)
	changer.Wait()
	if target.InFlight() != 0 || target.Queued() != 0 {
		t.Errorf("%d in flight, %d queued at the end", target.InFlight(), target.Queued())
	}
}

// Somebody lowers the function again before the provider has told of the raise, and requests keep coming.
func TestRaiseOfWhichNothingIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := new(raiser)
		reg, target := setUp(t, r, deployment(0, map[string]string{faas.LabelQueueTimeout: "1h"}))
		done := make(chan error, 2)
		invoke := func() {
			i, err := target.Invoke(t.Context(), 2*callTimeout, nil)
			i.End()
			done <- err
		}
		go invoke()
		synctest.Wait()
		reg.Set(deployment(0, nil))
		time.Sleep(callTimeout + time.Second) // synctest's clock
		go invoke()
		synctest.Wait()
		if n := r.calls.Load(); n != 2 {
			t.Errorf("%d raises, want 2", n)
		}
		reg.Set(deployment(1, nil))
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// However many replicas there are to ask, a request that all of them refuse ends with its wait, and counts as nothing that was served.
func TestFullReplicasAreAskedNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, target := setUp(t, new(raiser), deployment(100, nil))
		i, err := target.Invoke(t.Context(), time.Second, nil)
		defer i.End()
		for range 1000 {
			time.Sleep(2 * time.Millisecond) // that the replica takes to say so
			if err = i.Full(); err != nil {
				break
			}
			if err = i.Next(t.Context()); err != nil {
				break
			}
		}
		wantRefusal(t, err, Busy)
		if i.End(); target.completed.Load() != 0 {
			t.Error("it is counted as served")
		}
	})
}
