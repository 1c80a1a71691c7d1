package scale

import (
	"testing"
	"time"
)

// Three gateways, each with a third of the load, do as well as one: they ask each other how functions
// stand as soon as requests wait, share the replicas' places by that, and count what others have asked the engine for.
// Few requests come to a replica without a free place, most of them when a burst begins; one that is strict refuses them.
func TestGoalsOfThreeGateways(t *testing.T) {
	length := 15 * time.Minute
	if !full {
		length = 3 * time.Minute
	}
	for _, tr := range traces(length) {
		run := func(gateways int, strict bool) outcome {
			o := (&simulation{gateways: gateways, strict: strict, starters: 4, start: time.Second, traces: []trace{tr}, seed: 1}).run(t)
			t.Logf("%-6s %d gateways, strict %-5v %s", tr.name, gateways, strict, o)
			if o.dropped > 0 {
				t.Errorf("%s: dropped %d", tr.name, o.dropped)
			}
			return o
		}
		one := run(1, true)
		if one.beyond > 0 {
			t.Errorf("%s: one gateway gives replicas more than they have places for", tr.name)
		}
		for _, strict := range []bool{false, true} {
			three := run(3, strict)
			if full && (three.p99 > 1.1*one.p99+0.02 || three.over > 1.1*one.over || 10*three.starts > 11*one.starts+20) {
				t.Errorf("%s: three gateways do worse than one by more than a tenth", tr.name)
			}
			if three.p99 > 1.5*one.p99+0.4 {
				t.Errorf("%s: with three gateways requests wait longer", tr.name)
			}
			if full && three.over < 0.8*one.over { // then each goes by its own load
				t.Errorf("%s: three gateways have replicas for a part of the load", tr.name)
			}
			if full && tr.name == "onoff" && three.late > 6 {
				t.Error("onoff: want 6% at most later than 1 s")
			}
			if 8*three.beyond > three.requests {
				t.Errorf("%s: three gateways give replicas more than they have places for", tr.name)
			}
		}
	}
}
