package scale

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

func TestPart(t *testing.T) {
	for _, all := range [][]int64{{7}, {30, 30}, {10, 20, 30}, {1, 100, 1}, {9, 9, 9, 9, 9, 9, 9}} {
		total := int64(0)
		for _, own := range all {
			total += own
		}
		for slots := int64(1); slots < total; slots++ {
			sum, before := int64(0), int64(0)
			for place, own := range all {
				p := part{int64(len(all)), int64(place), total - own, before}
				got := p.of(slots, own)
				if exact := float64(slots*own) / float64(total); math.Abs(float64(got.most)-max(1, exact)) >= 1 {
					t.Errorf("one that has %d of %d requests takes %d of %d slots, want %.1f", own, total, got.most, slots, exact)
				}
				if got.lo < 0 || got.hi > slots || got.hi-got.lo != got.most {
					t.Errorf("%+v of %d", got, slots)
				}
				sum += got.most
				before += own
			}
			if sum < slots || sum > slots+int64(len(all)) { // each has one at least
				t.Errorf("gateways with %v requests take %d of %d slots", all, sum, slots)
			}
		}
	}
	for others := range int64(5) {
		p := part{2, 1, others, others}
		if got := p.of(10, 1); got != (quota{10 - others, 0, 10, 5}) {
			t.Errorf("while the other one has %d requests, %+v of 10 slots", others, got)
		}
	}
}

// Three gateways that all have too much to do give no replica more than one would; one that has it alone gives them all.
func TestGatewaysShareSlots(t *testing.T) {
	withGateways(t, func(t *testing.T, e *testEngine, all map[string]*testGateway) {
		f := e.deploy("f", 4, faas.LabelConcurrency, "3", faas.LabelMin, "4", faas.LabelMax, "4")
		stop := map[string]func(){}
		for name, g := range all {
			stop[name] = g.load(t, f.id, 12)
		}
		time.Sleep(10 * time.Second)
		sum := map[string]int64{}
		for name, g := range all {
			f := g.get(f.id)
			if got := f.InFlight(); got != 4 {
				t.Errorf("%s has %d requests in replicas, want 4", name, got)
			}
			for _, r := range f.now.Load().ready {
				sum[r.addr] += r.inFlight.Load()
			}
		}
		for addr, n := range sum {
			if n > 3 {
				t.Errorf("%s has %d requests, want 3", addr, n)
			}
		}
		stop["a"]()
		stop["b"]()
		time.Sleep(5 * time.Second)
		if got := all["c"].get(f.id).InFlight(); got != 12 {
			t.Errorf("one alone has %d requests in replicas, want 12", got)
		}
		stop["c"]()
	})
}

// one is a second gateway that has nothing to do.
type one struct{}

func (one) Self() string                            { return "" }
func (one) Ask(faas.ID, func(string, Report)) Sight { return Sight{Whole: true, Others: 1} }

// What still is inside replicas that have been replaced takes no slot of those that are there now.
func TestLeavingTakeNoSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deployment(2, map[string]string{faas.LabelConcurrency: "1", faas.LabelMin: "2"})
		reg, target := setUp(t, new(raiser), d)
		reg.Heed(one{})
		defer mustInvoke(t, target).End()
		defer mustInvoke(t, target).End()
		time.Sleep(3 * time.Second) // the scaler knows of both gateways
		for i := range d.Replicas {
			d.Replicas[i].ID += " replaced"
		}
		reg.Set(d)
		for range 2 {
			i, err := target.Invoke(t.Context(), time.Second, nil)
			if err != nil {
				t.Errorf("two new replicas have nothing to do: %v", err)
			}
			defer i.End()
		}
		if i, err := target.Invoke(t.Context(), time.Second, nil); err == nil {
			t.Error("a third request is in two replicas that take one each")
			i.End()
		}
	})
}

// busyOther is a second gateway that has many requests.
type busyOther struct{}

func (busyOther) Self() string { return "" }
func (busyOther) Ask(_ faas.ID, told func(string, Report)) Sight {
	told("other", Report{InFlight: 10})
	return Sight{Whole: true, Others: 1}
}

// A gateway whose part of the replicas accepts no connections takes others.
func TestPartThatIsNotThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg, target := setUp(t, new(raiser), deployment(4, map[string]string{faas.LabelConcurrency: "1", faas.LabelMin: "4"}))
		reg.Heed(busyOther{})
		mustInvoke(t, target).End()
		time.Sleep(3 * time.Second) // the scaler knows of both gateways
		begin := time.Now()
		i := mustInvoke(t, target)
		defer i.End()
		refuse(i.Trace(), i.Addr())
		if err := i.Next(t.Context()); err != nil || time.Since(begin) > 0 {
			t.Errorf("%v, after %s", err, time.Since(begin))
		}
	})
}
