package scale

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// The engine is asked no more while it refuses, and then again.
func TestBreaker(t *testing.T) {
	withEngine(t, func(t *testing.T, e *testEngine) {
		f := e.deploy("f", 0)
		e.refuse(errors.New("no space left"))
		for range 50 {
			r := wantRefusal(t, serve(t, f, 0), StartFailed)
			if !strings.Contains(r.Error(), "no space left") || r.RetryAfter < 800*time.Millisecond || r.RetryAfter > 72*time.Second {
				t.Errorf("%+v", r)
			}
		}
		if got := e.calls(); got != "f=1 f=1" {
			t.Errorf("asked for %q, want two tries", got)
		}
		f.Alert(true) // nor because of an alert
		time.Sleep(breakTime)
		if got := e.calls(); strings.Count(got, "f=") > 3 {
			t.Errorf("asked for %q because of an alert", got)
		}
		e.refuse(nil)
		time.Sleep(breakTime)
		if err := serve(t, f, 0); err != nil {
			t.Errorf("when the engine is well again: %v", err)
		}
		e.hand(f.ID(), 0)
		e.calls()
		e.refuse(errors.New("no space left again"))
		for range 5 {
			wantRefusal(t, serve(t, f, 0), StartFailed)
		}
		if got := e.calls(); strings.Count(got, "f=") != 2 {
			t.Errorf("asked for %q, want two tries again", got)
		}
	})
}

// Who waits for a replica that is there is not told that the engine refuses a further one.
func TestRefusalWhileReady(t *testing.T) {
	withEngine(t, func(t *testing.T, e *testEngine) {
		f := e.deploy("f", 1, faas.LabelConcurrency, "1")
		time.Sleep(2 * time.Second)
		e.refuse(errors.New("no space left"))
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				if err := serve(t, f, 3*time.Second); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if got := e.calls(); got == "" {
			t.Error("the engine was not asked")
		}
	})
}

func TestScatter(t *testing.T) {
	for d, want := range map[time.Duration]time.Duration{0: time.Second, 10 * time.Second: 10 * time.Second, time.Hour: time.Minute} {
		for range 100 {
			if got := scatter(d); got < want*8/10 || got > want*12/10 {
				t.Errorf("%s became %s, want about %s", d, got, want)
			}
		}
	}
}

// A slot that is granted to a request just when it gives up is given back.
func TestGrantToWhoLeaves(t *testing.T) {
	withEngine(t, func(t *testing.T, e *testEngine) {
		f := e.deploy("f", 1, faas.LabelConcurrency, "1")
		time.Sleep(2 * time.Second)
		first := mustInvoke(t, f)
		_, w, err := f.lease(&Invocation{target: f, begin: time.Now()}, 0)
		if w == nil || err != nil {
			t.Fatalf("it does not wait: %v", err)
		}
		first.End()
		f.leave(w)
		if f.InFlight() != 0 || f.Queued() != 0 {
			t.Errorf("%d in flight, %d wait", f.InFlight(), f.Queued())
		}
		mustInvoke(t, f).End()
	})
}

func TestWhoWaitsIsBounded(t *testing.T) {
	withEngine(t, func(t *testing.T, e *testEngine) {
		d := NewDefaults()
		d.QueueTotal = 30
		e.reg.Configure(d)
		e.neverUp["a"], e.neverUp["b"] = true, true
		a, b := e.deploy("a", 1, faas.LabelQueueDepth, "20"), e.deploy("b", 1)
		for range 20 {
			go serve(t, a, 0)
		}
		synctest.Wait()
		if r := wantRefusal(t, serve(t, a, 0), QueueFull); r.Detail != "20 requests wait already" {
			t.Errorf("%+v", r)
		}
		for range 10 {
			go serve(t, b, 0)
		}
		synctest.Wait()
		if r := wantRefusal(t, serve(t, b, 0), QueueFull); r.Detail != "30 requests wait already, for all functions together" {
			t.Errorf("%+v", r)
		}
		time.Sleep(time.Minute)
		if n := e.reg.queued.Load(); n != 0 {
			t.Errorf("%d still wait, for all functions together", n)
		}
	})
}

// However few wait, their headers are bounded.
func TestHeadersOfWhoWaitsAreBounded(t *testing.T) {
	withEngine(t, func(t *testing.T, e *testEngine) {
		e.neverUp["f"] = true
		f := e.deploy("f", 1)
		huge := http.Header{"X": {strings.Repeat("x", 100<<20)}}
		for range 2 {
			go func() {
				i, _ := f.Invoke(t.Context(), 0, huge)
				i.End()
			}()
		}
		synctest.Wait()
		i, err := f.Invoke(t.Context(), 0, huge)
		i.End()
		if r := wantRefusal(t, err, QueueFull); r.Detail != "requests with 256 MiB of headers wait already, for all functions together" {
			t.Errorf("%+v", r)
		}
		go serve(t, f, 0)
		synctest.Wait()
		if f.Queued() != 3 {
			t.Errorf("%d wait, want a small one, too", f.Queued())
		}
		time.Sleep(time.Minute)
		if n := e.reg.queuedBytes.Load(); n != 0 {
			t.Errorf("%d bytes still wait", n)
		}
	})
}

// Where no request may wait, one does so all the same for a first replica, which nobody would start otherwise.
func TestNobodyMayWait(t *testing.T) {
	withEngine(t, func(t *testing.T, e *testEngine) {
		f := e.deploy("f", 0, faas.LabelQueueDepth, "0", faas.LabelConcurrency, "1", faas.LabelMax, "1")
		woken := make(chan error)
		go func() { woken <- serve(t, f, time.Minute) }()
		synctest.Wait()
		wantRefusal(t, serve(t, f, 0), QueueFull)
		time.Sleep(2 * time.Second) // it has started
		if r := wantRefusal(t, serve(t, f, 0), QueueFull); r.Detail != "0 requests wait already" {
			t.Errorf("%+v", r)
		}
		if err := <-woken; err != nil {
			t.Errorf("the first request: %v", err)
		}
	})
}

// A request that could not be served in time by as many replicas as there may be is told at once.
func TestWithoutHope(t *testing.T) {
	withEngine(t, func(t *testing.T, e *testEngine) {
		f := e.deploy("f", 2, faas.LabelConcurrency, "1", faas.LabelMax, "2", faas.LabelQueueTimeout, "10s")
		time.Sleep(2 * time.Second)
		for range 5 {
			serve(t, f, 2*time.Second)
		}
		time.Sleep(time.Second)
		var all sync.WaitGroup
		var mu sync.Mutex
		refused, atOnce := 0, 0
		for range 30 {
			all.Go(func() {
				begin := time.Now()
				if err := serve(t, f, 2*time.Second); err != nil {
					wantRefusal(t, err, Busy)
					mu.Lock()
					defer mu.Unlock()
					if refused++; time.Since(begin) == 0 {
						atOnce++
					}
				}
			})
			synctest.Wait()
		}
		all.Wait()
		if refused < 16 || refused > 20 || refused-atOnce > 2 { // 2 are served at once, 10 within 10 s
			t.Errorf("%d of 30 refused, %d of these at once", refused, atOnce)
		}
	})
}

func TestPatience(t *testing.T) {
	withEngine(t, func(t *testing.T, e *testEngine) {
		f := e.deploy("f", 0)
		for _, tt := range []struct {
			labels map[string]string
			start  time.Duration
			bound  time.Duration
			want   time.Duration
		}{
			{nil, 0, 0, 30 * time.Second}, {nil, 0, time.Second, time.Second}, {nil, time.Second, 0, 10 * time.Second}, {nil, 10 * time.Second, 0, 35 * time.Second},
			{map[string]string{faas.LabelTimeout: "2m"}, time.Second, 0, 2 * time.Minute}, {map[string]string{faas.LabelTimeout: "1s"}, time.Second, 0, 10 * time.Second},
			{map[string]string{faas.LabelTimeout: "2m", faas.LabelQueueTimeout: "5s"}, time.Second, 0, 5 * time.Second},
			{map[string]string{faas.LabelQueueTimeout: "5m"}, 0, 3 * time.Minute, 3 * time.Minute},
		} {
			d := e.now[f.ID()]
			d.Labels = tt.labels
			e.reg.Set(d)
			f.startup = mean{}
			f.startup.ns.Store(int64(tt.start))
			if got := f.patience(tt.bound); got != tt.want {
				t.Errorf("%+v: %s", tt, got)
			}
		}
	})
}
