package scale

import (
	"testing"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// As long as a gateway may be there that does not tell, nothing is lowered; once it has ended, the rest does it.
func TestLostSight(t *testing.T) {
	withGateways(t, func(t *testing.T, e *testEngine, all map[string]*testGateway) {
		f := e.deploy("f", 1, faas.LabelConcurrency, "1", faas.LabelMax, "50")
		owner := Owner(f.id, []string{"a", "b", "c"})
		other := map[string]string{"a": "b", "b": "c", "c": "a"}[owner]
		third := map[string]string{"a": "c", "b": "a", "c": "b"}[owner]
		stop := all[owner].load(t, f.id, 7)
		time.Sleep(time.Minute)
		all[other].is(true, false)
		stop()
		before := f.Status().Desired
		time.Sleep(time.Hour)
		if got := all[owner].get(f.id).Status(); got.Desired != before || before < 10 || got.Held != held[notHeard] {
			t.Errorf("without load, and without sight of one: %+v, before %d", got, before)
		}
		stop = all[third].load(t, f.id, 14)
		time.Sleep(time.Minute)
		if got := f.Status(); got.Desired < 20 {
			t.Errorf("without sight of one it is not raised: %+v", got)
		}
		stop()
		all[other].is(false, false)
		time.Sleep(2 * time.Minute)
		expect(t, f, "heard again", 1)
		if got := all[owner].get(f.id).Status().Held; got != "" {
			t.Errorf("heard again, it is held: %s", got)
		}
		stop = all[other].load(t, f.id, 7)
		time.Sleep(time.Minute)
		stop()
		all[owner].is(true, true)
		all[owner].Registry.Close()
		time.Sleep(3 * time.Minute)
		expect(t, f, "without its owner", 1)
		if heir := Owner(f.id, []string{other, third}); all[heir].lowered() == "" {
			t.Errorf("it was not %s that lowered it", heir)
		}
	})
}

// What came to a gateway while it was not seen is spread over all that time when
// it tells of it: by that a function is neither lowered nor taken for unused.
func TestSightIsBack(t *testing.T) {
	withGateways(t, func(t *testing.T, e *testEngine, all map[string]*testGateway) {
		f := e.deploy("f", 1, faas.LabelTarget, "1", faas.LabelMax, "50", faas.LabelDownWindow, "10s")
		rest := e.deploy("rest", 1, faas.LabelZero, "true", faas.LabelZeroDuration, "30s")
		names := []string{"a", "b", "c"}
		var other *testGateway // that owns neither
		for _, name := range names {
			if name != Owner(f.id, names) && name != Owner(rest.id, names) {
				other = all[name]
			}
		}
		time.Sleep(10 * time.Second)
		other.is(true, false)
		time.Sleep(time.Minute)
		stop := other.load(t, f.id, 14)
		time.Sleep(20 * time.Second) // what another gateway raised is not lowered in the first window
		if err := serve(t, other.get(rest.id), time.Second); err != nil {
			t.Error(err)
		}
		before := f.Status().Desired
		other.is(false, false)
		time.Sleep(8 * time.Second)
		if got := f.Status().Desired; got != before || before < 14 || all[Owner(f.id, names)].lowered() != "" {
			t.Errorf("for 14 at once there were %d replicas, and are %d; lowered %q", before, got, all[Owner(f.id, names)].lowered())
		}
		if got := rest.Status().Desired; got != 1 {
			t.Errorf("8 s after the last request there are %d replicas", got)
		}
		time.Sleep(3 * time.Minute)
		if got := f.Status().Desired; got < 14 {
			t.Errorf("for 14 at once there are %d replicas", got)
		}
		expect(t, rest, "unused", 0)
		stop()
		time.Sleep(time.Minute)
		expect(t, f, "without load", 1)
	})
}

// A gateway that says nothing any more keeps no replica from getting requests, either.
func TestSilentOwnerDrainsNothing(t *testing.T) {
	withGateways(t, func(t *testing.T, e *testEngine, all map[string]*testGateway) {
		f := e.deploy("f", 5, faas.LabelConcurrency, "1", faas.LabelDownWindow, "10s")
		owner := Owner(f.id, []string{"a", "b", "c"})
		other := all[map[string]string{"a": "b", "b": "c", "c": "a"}[owner]].get(f.id)
		time.Sleep(1500 * time.Millisecond)
		var held []*Invocation
		for range 5 {
			held = append(held, mustInvoke(t, all[owner].get(f.id)))
		}
		for _, i := range held {
			if i.replica.slot == 5 {
				defer i.End()
			} else {
				i.End()
			}
		}
		time.Sleep(15 * time.Second)
		if n := len(other.now.Load().ready); n == 5 || other.Ready() != 5 {
			t.Fatalf("requests are given to %d replicas of %d while the owner lowers it", n, other.Ready())
		}
		all[owner].is(true, false)
		all[owner].Registry.Close()
		time.Sleep(2 * sightFor)
		if n := len(other.now.Load().ready); n != 5 {
			t.Errorf("requests are given to %d replicas of 5 while the owner is silent", n)
		}
	})
}

// However many reports come between two looks, the rate is that of the arrivals.
func TestReportsAreSpread(t *testing.T) {
	var o others
	report := func(at time.Duration) { o.add("other", Report{At: at, Arrived: uint64(at / (time.Second / 100))}) }
	report(time.Second)
	at, last := time.Second, o.sum.Arrived
	for n := range 100 {
		at += []time.Duration{1500, 500, 1000, 1200, 800}[n%5] * time.Millisecond
		report(at)
		var from Others = silentOthers{}
		o.ask(&from, faas.ID{}, time.Second)
		if got := o.sum.Arrived - last; n > 5 && (got < 99 || got > 101) {
			t.Errorf("look %d: %d have arrived in a second, want 100", n, got)
		}
		last = o.sum.Arrived
	}
	at += time.Minute
	report(at) // after a silence
	for n := range 8 {
		last = o.sum.Arrived
		var from Others = silentOthers{}
		o.ask(&from, faas.ID{}, time.Second)
		at += time.Second
		o.add("other", Report{At: at, Arrived: o.told["other"].last.Arrived})
		if got := o.sum.Arrived - last; n == 0 && (got < 99 || got > 101) || n == 7 && got > 5 {
			t.Errorf("%d s after a minute's silence %d have arrived in a second", n, got)
		}
	}
	last = o.sum.Arrived
	o.add("restarted", Report{At: time.Second, Arrived: 1 << 40})
	o.add("restarted", Report{At: 2 * time.Second, Arrived: 7, Completed: 7}) // the function was made anew
	o.add("other", Report{At: at, InFlight: -5, Queued: 1 << 50})
	if o.ask(nil, faas.ID{}, time.Hour); o.sum.Arrived != last || o.sum.InFlight != 0 || !o.owned() || !o.Whole {
		t.Errorf("alone: %+v", o)
	}
	for range 3 {
		var from Others = silentOthers{}
		o.ask(&from, faas.ID{}, forgotten/2)
	}
	if len(o.told) > 0 {
		t.Errorf("after more than an hour %d silent gateways are known", len(o.told))
	}
}

type silentOthers struct{}

func (silentOthers) Self() string { return "" }

func (silentOthers) Ask(faas.ID, func(string, Report)) Sight { return Sight{} }
