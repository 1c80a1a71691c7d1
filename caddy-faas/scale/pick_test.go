package scale

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

func TestPart(t *testing.T) {
	for _, gateways := range []int64{1, 2, 3, 7} {
		for slots := range int64(20) {
			sum := int64(0)
			for place := range gateways {
				all, busy := part{gateways, place, 0}, part{gateways, place, 1000}
				if got := all.of(slots); got != max(1, slots) {
					t.Errorf("while the others do nothing, %d of %d", got, slots)
				}
				sum += busy.of(slots)
			}
			if sum != max(slots, gateways) && slots >= gateways || sum > 2*gateways && slots < gateways {
				t.Errorf("%d gateways that have much to do take %d of %d", gateways, sum, slots)
			}
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
			i, err := target.Invoke(t.Context(), time.Second)
			if err != nil {
				t.Errorf("two new replicas have nothing to do: %v", err)
			}
			defer i.End()
		}
		if i, err := target.Invoke(t.Context(), time.Second); err == nil {
			t.Error("a third request is in two replicas that take one each")
			i.End()
		}
	})
}
