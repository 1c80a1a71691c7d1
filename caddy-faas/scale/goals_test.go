package scale

import (
	"fmt"
	"testing"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// full tells that the goals are looked at over the whole length of the traces.
// The race detector has enough with a part, in which the first start weighs more.
var full = !raceDetector

// The goals of scaling, in units of a start, which takes a second: how long
// requests wait with this policy, queue and budget, with OpenFaaS's alerts, and
// with a policy like Knative's.
func TestGoals(t *testing.T) {
	length := 15 * time.Minute
	if !full {
		length = 3 * time.Minute
	}
	all := traces(length)
	for seed := range uint64(4) {
		all = append(all, drawn(seed, length))
	}
	policies := []struct {
		name string
		make func(*Target) Policy
	}{{"ours", nil}, {"KPA", kpa}, {"alert-15", alertEvery(15 * time.Second)}, {"alert-30", alertEvery(30 * time.Second)}}
	for _, tr := range all {
		got := map[string]outcome{}
		for _, p := range policies {
			got[p.name] = (&simulation{policy: p.make, starters: 4, start: time.Second, traces: []trace{tr}, seed: 1}).run(t)
			t.Logf("%-8s %-9s %s", tr.name, p.name, got[p.name])
		}
		ours, other := got["ours"], got["KPA"]
		if ours.dropped > 0 {
			t.Errorf("%s: dropped %d", tr.name, ours.dropped)
		}
		if ours.p99 > other.p99+0.05 || ours.late > other.late+0.1 {
			t.Errorf("%s: requests wait longer than with a policy like Knative's", tr.name)
		}
		if ours.over > 1.7*other.over {
			t.Errorf("%s: more than 1.7 times the replicas of a policy like Knative's", tr.name)
		}
		switch alert := got["alert-15"]; tr.name {
		case "step":
			if ours.starts > 30 || ours.p99 > 1.3 && full || alert.p99 < 10*ours.p99 {
				t.Errorf("step: want p99 at most 1.3 s, 30 starts at most, and a tenth of what waits with alerts")
			}
		case "onoff":
			if (ours.p99 > 1.2 || ours.late > 5) && full || alert.p99 < 10*ours.p99 {
				t.Errorf("onoff: want p99 at most 1.2 s, 5%% at most later than 1 s, and a tenth of what waits with alerts")
			}
		}
	}
}

// Ten functions ask for more starts than there can be. Those that need them most
// get them first, and what is no longer needed is not started. All at once they
// need some sixty replicas in the first second, of which the engine starts five
// in a second, so that nobody's requests could wait for 2.5 starts only: asked at once
// for what each function needs at its peak, and for no less later on, with the same
// budget, they wait for 5.2 s.
func TestGoalsOfTen(t *testing.T) {
	length := 15 * time.Minute
	if !full {
		length = 3 * time.Minute
	}
	together := append(traces(length), traces(length)...)
	run := func(name string, s *simulation) outcome {
		s.starters, s.start, s.seed = 4, time.Second, 1
		o := s.run(t)
		t.Logf("%-24s %s", name, o)
		return o
	}
	apart := run("one after the other", &simulation{traces: ten(length)})
	if apart.p99 > 2.5 && full || apart.dropped > 0 {
		t.Error("want p99 at most 2.5 s and none dropped")
	}
	fair := run("all at once", &simulation{traces: together})
	unfair := run("all at once, in order", &simulation{traces: together, unfair: true})
	other := run("all at once, KPA", &simulation{traces: together, policy: kpa})
	if fair.dropped > 0 || fair.p99 > 0.75*unfair.p99 || fair.p999 > 0.6*unfair.p999 || 10*fair.starts > 7*unfair.starts || 3*fair.starts > other.starts || fair.p99 > other.p99/2 {
		t.Error("want fewer starts and shorter waits than without a budget of starts, and than with a policy like Knative's")
	}
}

// A thousand functions, most of which are hardly used, and go to zero: the engine is asked for little,
// whether there is one gateway or three.
func TestGoalsOfThousand(t *testing.T) {
	length := time.Hour
	if !full {
		length = 10 * time.Minute
	}
	run := func(name string, length time.Duration, s *simulation) (o outcome, perSecond float64) {
		s.starters, s.start, s.traces, s.seed, s.strict = 10, time.Second, population(1, 1000, length), 1, true
		o = s.run(t)
		perSecond = float64(o.writes) / length.Seconds()
		t.Logf("1000 functions, %-10s: %s, %.2f writes a second, %.0f replica-hours", name, o, perSecond, s.lived/3600)
		return o, perSecond
	}
	other, otherPerSecond := run("KPA", length, &simulation{zero: 90 * time.Second, policy: kpa})
	ours := func(gateways int, length time.Duration) (o outcome, perSecond float64) {
		o, perSecond = run(fmt.Sprintf("%d gateways", gateways), length, &simulation{zero: 5 * time.Minute, gateways: gateways})
		if o.dropped > 0 || o.p99 > 0.7*other.p99 {
			t.Error("want p99 at most 0.7 of what it is with a policy like Knative's, and none dropped")
		}
		return o, perSecond
	}
	if o, perSecond := ours(1, length); full && (o.p99 > 1.2 || perSecond > 2 || perSecond > 0.7*otherPerSecond) {
		t.Error("want p99 at most 1.2 s, at most 2 calls of the engine a second, and 0.7 of those with a policy like Knative's")
	}
	one, onePerSecond := ours(1, length/3)
	three, threePerSecond := ours(3, length/3)
	if full && (three.p99 > 1.1*one.p99+0.2 || threePerSecond > 1.2*onePerSecond) {
		t.Error("three gateways do worse than one")
	}
}

// However much is asked for at once, the engine is asked for no more than so much a second.
func TestEngineIsAskedSlowly(t *testing.T) {
	var all []trace
	functions := 2000
	if !full {
		functions = 500
	}
	for i := range functions {
		all = append(all, trace{
			name: fmt.Sprint("f", i), rate: func(float64) float64 { return 1 }, most: 1, length: 20 * time.Second, service: 0.1, sigma: 0.1,
			labels: map[string]string{faas.LabelConcurrency: "1"},
		})
	}
	s := &simulation{starters: 1000, start: 100 * time.Millisecond, traces: all, seed: 1}
	o := s.run(t)
	t.Log(o)
	// The requests of the last ones wait for a minute longer.
	if o.writes < functions/2 || o.writes > 20*85 {
		t.Errorf("%d writes in 80 s, want 20 a second at most", o.writes)
	}
}
