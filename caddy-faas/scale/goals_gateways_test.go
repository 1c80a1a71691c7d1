package scale

import (
	"testing"
	"time"
)

// Three gateways, each with a third of the load, make requests wait as one does,
// where replicas take what each gateway gives them. Where they refuse what is too
// much, gateways that don't know of each other's requests meet full replicas while these
// are few, and requests wait for some three starts.
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
		if three := run(3, false); three.p99 > 1.1*one.p99+0.05 || full && (three.late > 1.1*one.late+0.5 || 4*three.starts > 5*one.starts+20 || three.over > 1.3*one.over) {
			t.Errorf("%s: three gateways do worse than one", tr.name)
		} else if full && three.over < 0.7*one.over { // then each goes by its own load
			t.Errorf("%s: three gateways have replicas for a part of the load", tr.name)
		}
		if three := run(3, true); three.p99 > 3.5 || full && three.starts > 2*one.starts {
			t.Errorf("%s: three gateways meet full replicas for longer than three starts, or start too many", tr.name)
		}
	}
}
