package scale

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// Starts that hang hold up others for a moment only, and what has none comes first.
func TestBudgetOfStarts(t *testing.T) {
	withEngine(t, func(t *testing.T, e *testEngine) {
		d := NewDefaults()
		d.Starting = 2
		e.reg.Configure(d)
		e.neverUp["hangs0"], e.neverUp["hangs1"] = true, true
		for name := range e.neverUp {
			go serve(t, e.deploy(name, 0), 0)
		}
		synctest.Wait()
		first, second := e.deploy("second", 0), e.deploy("first", 0, faas.LabelPriority, "1")
		go serve(t, first, 0)
		time.Sleep(time.Millisecond)
		go serve(t, second, 0)
		time.Sleep(time.Second)
		if got := e.calls(); got != "hangs0=1 hangs1=1" && got != "hangs1=1 hangs0=1" {
			t.Errorf("asked for %q, want the first two", got)
		}
		time.Sleep(3 * time.Second)
		if got := e.calls(); got != "first=1 second=1" && got != "second=1 first=1" {
			t.Errorf("asked for %q, want the other two", got)
		}
	})
}

func TestNeeds(t *testing.T) {
	order := []need{{none: true}, {priority: 1, waiting: 1}, {waiting: 5, missing: 1}, {waiting: 2, missing: 9}, {missing: 3}, {missing: 2}}
	for i, a := range order {
		for j, b := range order {
			if a.before(b) != (i < j) {
				t.Errorf("%+v before %+v: %t", a, b, a.before(b))
			}
		}
	}
	f := &scaled{Target: new(Target), now: new(snapshot), own: Sample{Queued: 1}}
	f.goal.asked = none
	if !f.need(1).none {
		t.Error("one without a replica does not come first")
	}
	f.granted = 1
	if f.need(1).none {
		t.Error("one that has been given its first replica comes first again")
	}
}

// Gateways share the calls that lower functions.
func TestBudgetOfLowering(t *testing.T) {
	for _, tt := range []struct{ writes, gateways, first, then int }{{20, 1, 20, 80}, {20, 3, 6, 26}, {1, 1, 1, 4}, {1, 3, 1, 1}} {
		var b budget
		now := at(int64(time.Hour))
		took := func() (n int) {
			for b.allow(now, tt.writes, tt.gateways); b.lowers.AllowN(now, 1); n++ {
			}
			return n
		}
		first, then := took(), 0
		for range 100 {
			now = now.Add(time.Second)
			then += took()
		}
		if first != tt.first || then != tt.then {
			t.Errorf("%+v: %d at first, %d in the next 100 s", tt, first, then)
		}
	}
}
