package scale

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/internal/bench"
)

// BenchmarkDecide is one decision on a function in use.
func BenchmarkDecide(b *testing.B) {
	p, r := NewDemand(0), rules(four)
	var s Sample
	for b.Loop() {
		s.At += time.Second
		s.Arrived += 50
		s.Completed += 50
		s.Busy += 10 * time.Second
		s.InFlight = 10
		p.Decide(r, s)
	}
}

// BenchmarkInvoke is what a request costs beside the proxy.
func BenchmarkInvoke(b *testing.B) {
	reg := NewRegistry(new(raiser), zap.NewNop(), func(faas.ID) {})
	b.Cleanup(reg.Close)
	reg.Set(deployment(4, nil))
	reg.Synced()
	target := reg.get(echo)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i, err := target.Invoke(context.Background(), 0, nil)
			if err != nil {
				b.Fatal(err)
			}
			i.End()
		}
	})
}

// BenchmarkCompareScaler compares a second of the scaler's work for 1,000
// functions in use with the same beside 100,000 that are not.
func BenchmarkCompareScaler(b *testing.B) {
	const inUse, idle = 1000, 100_000
	begin := func(registered int) (*scaler, float64) {
		reg := NewRegistry(new(raiser), zap.NewNop(), func(faas.ID) {})
		b.Cleanup(reg.Close)
		reg.Synced()
		all := make([]faas.Deployment, registered)
		for i := range all {
			all[i] = deployment(1, map[string]string{faas.LabelConcurrency: "4"})
			all[i].Name = fmt.Sprint("f", i)
		}
		before := heap()
		for _, d := range all {
			reg.Set(d)
		}
		each := float64(heap()-before) / float64(registered)
		runtime.KeepAlive(all)
		s := reg.scaler
		s.running = true // it is this benchmark that makes it work
		for t := range reg.All() {
			if len(s.used) == inUse {
				break
			}
			t.inFlight.Add(1) // stays in use
			s.used[t] = &scaled{Target: t, policy: s.policy(t), usedAt: reg.clock()}
		}
		return s, each
	}
	few, _ := begin(inUse)
	many, each := begin(inUse + idle)
	var alone, beside []float64
	second := func(s *scaler, into *[]float64) func() {
		now := s.registry.clock()
		return func() {
			now += int64(time.Second)
			began := time.Now()
			s.pass(now)
			*into = append(*into, float64(time.Since(began).Nanoseconds())/inUse)
		}
	}
	bench.Alternate(200, second(few, &alone), second(many, &beside))
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(bench.Median(alone), "alone-ns/function")
	b.ReportMetric(bench.Median(beside), "beside-ns/function")
	b.ReportMetric(1e9/bench.Median(beside), "decisions/s")
	b.ReportMetric(bench.Ratio(beside, alone), "beside/alone")
	b.ReportMetric(each, "B/idle-function")
	if each > 1024 || bench.Median(beside) > 5000 {
		b.Errorf("%.0f bytes for an idle function, %.0f ns a second for one in use; want 1,024 and 5,000 at most", each, bench.Median(beside))
	}
}
