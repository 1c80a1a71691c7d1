package scale

import (
	"testing"
	"time"
)

// Three gateways, each with a third of the load, share the replicas' places by what
// the others had to do half a second ago: few requests come to a full replica, most of
// them when a burst begins, and requests wait hardly longer than with one gateway.
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
		// Replicas take what each gateway gives them.
		three := run(3, false)
		if three.p99 > 1.3*one.p99+0.4 || full && (three.late > 2.2*one.late+1 || 4*three.starts > 5*one.starts+20 || three.over > 1.3*one.over) {
			t.Errorf("%s: three gateways do worse than one", tr.name)
		} else if full && three.over < 0.7*one.over { // then each goes by its own load
			t.Errorf("%s: three gateways have replicas for a part of the load", tr.name)
		}
		if 10*three.beyond > three.requests {
			t.Errorf("%s: three gateways give replicas more than they have places for", tr.name)
		}
		// They refuse what is too much.
		three = run(3, true)
		if three.p99 > 1.5*one.p99+0.4 || full && three.starts > 2*one.starts {
			t.Errorf("%s: three gateways wait for full replicas, or start too many", tr.name)
		}
		if 5*three.beyond > three.requests {
			t.Errorf("%s: three gateways have too much refused", tr.name)
		}
	}
}
