package scale

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// rules are the defaults with these labels.
func rules(labels map[string]string) Rules {
	d := NewDefaults()
	return d.For(&faas.Function{ID: echo, Labels: labels})
}

var four = map[string]string{faas.LabelConcurrency: "4", faas.LabelMax: "100"}

// steady is a function to which rate requests a second come, each of which takes so long, for some seconds.
func steady(p Policy, r Rules, from Sample, seconds int, rate, service float64) (Sample, Decision) {
	var d Decision
	s := from
	for range seconds {
		s.At += time.Second
		s.Arrived += uint64(rate)
		s.Completed += uint64(rate)
		s.Busy += time.Duration(rate * service * float64(time.Second))
		s.InFlight = int(rate * service)
		d = p.Decide(r, s)
	}
	return s, d
}

func TestDemand(t *testing.T) {
	second := time.Second
	for _, tt := range []struct {
		name   string
		labels map[string]string
		s      Sample
		rate   float64 // before s, with 0.2 s each
		want   int
	}{
		{"nothing", four, Sample{}, 0, 0},
		{"nothing is known, one came", four, Sample{Arrived: 1, Queued: 1}, 0, 1},
		{"nothing is known, many came", four, Sample{Arrived: 100, Queued: 100}, 0, initialSpare},
		{"nothing is known, some are ready", four, Sample{Arrived: 100, Queued: 92, InFlight: 8, Ready: 2}, 0, 4 + initialSpare},
		{"without a limit one replica takes the target", nil, Sample{Arrived: 50, Queued: 50}, 0, 1},
		{"Little's law", four, Sample{}, 140, 10},
		{"and the queue, within a start", four, Sample{Queued: 140, Start: 2 * second}, 140, 15},
		{"and the queue, within a second at least", four, Sample{Queued: 140, Start: second / 10}, 140, 20},
		{"no more than there may be", map[string]string{faas.LabelConcurrency: "4"}, Sample{Queued: 10000}, 140, 20},
		{"streams hold their places", four, Sample{InFlight: 28, Streams: 28}, 1, 11},
		{"what is in flight has to stay somewhere", four, Sample{InFlight: 80}, 1, 20},
		{"a target below the limit", map[string]string{faas.LabelConcurrency: "4", faas.LabelTarget: "2", faas.LabelMax: "100"}, Sample{}, 140, 20},
		{"a target above the limit", map[string]string{faas.LabelConcurrency: "4", faas.LabelTarget: "9", faas.LabelMax: "100"}, Sample{}, 140, 10},
		{"a target without a limit", map[string]string{faas.LabelTarget: "4", faas.LabelMax: "100"}, Sample{}, 140, 10},
		{"all of the target", map[string]string{faas.LabelTarget: "4", faas.LabelProportion: "1"}, Sample{}, 140, 7},
		{"by rate", map[string]string{faas.LabelType: "rps", faas.LabelTarget: "20"}, Sample{}, 140, 10},
		{"by the queue", map[string]string{faas.LabelType: "queue", faas.LabelTarget: "10"}, Sample{Queued: 70}, 140, 10},
	} {
		p, r := NewDemand(0), rules(tt.labels)
		var before Sample
		if tt.rate > 0 {
			before, _ = steady(p, r, before, 60, tt.rate, 0.2)
			if tt.s.InFlight == 0 {
				tt.s.InFlight = before.InFlight
			}
		}
		tt.s.At = before.At + 100*time.Millisecond
		tt.s.Arrived += before.Arrived
		tt.s.Completed, tt.s.Busy = before.Completed, before.Busy
		if got := p.Decide(r, tt.s); got.Want != tt.want || got.Keep < got.Want {
			t.Errorf("%s: %+v, want %d", tt.name, got, tt.want)
		}
	}
}

// Replicas follow a load that goes only after the window, and then to what there is.
func TestDemandKeeps(t *testing.T) {
	p, r := NewDemand(0), rules(four)
	s, d := steady(p, r, Sample{}, 30, 140, 0.2)
	gone := s.At
	for s.At < gone+55*time.Second {
		if s, d = steady(p, r, s, 1, 7, 0.2); d.Keep != 10 {
			t.Fatalf("%s after the load went: %+v, want 10 to be kept", s.At-gone, d)
		}
	}
	if s, d = steady(p, r, s, 20, 7, 0.2); d.Want != 1 || d.Keep != 1 {
		t.Errorf("%s after the load went: %+v, want 1", s.At-gone, d)
	}
	s.At += time.Hour
	s.InFlight = 0
	if d = p.Decide(r, s); d.Want != 0 || d.Keep != 0 || d.Rate > 0 {
		t.Errorf("an hour later: %+v, want nothing", d)
	}
}

// A function that begins to hang is noticed before anything has completed.
func TestDemandOfWhatHangs(t *testing.T) {
	p, r := NewDemand(0), rules(four)
	s, _ := steady(p, r, Sample{}, 30, 10, 0.1)
	var d Decision
	for range 10 {
		s.At += time.Second
		s.Arrived += 10
		s.InFlight, s.Ready = 4, 1
		s.Queued += 10
		d = p.Decide(r, s)
	}
	if d.Want < 20 {
		t.Errorf("after 10 s in which nothing completed: %+v, want 20 at least", d)
	}
}

// Many requests at once after a time without any don't count as if they had hung since then.
func TestDemandOfBursts(t *testing.T) {
	r := rules(map[string]string{faas.LabelConcurrency: "1", faas.LabelMax: "1000"})
	for wait := time.Millisecond; wait < time.Second; wait += 50 * time.Millisecond {
		p := NewDemand(time.Second / 20)
		p.Decide(r, Sample{At: time.Minute})
		got := p.Decide(r, Sample{At: time.Minute + wait, Arrived: 50, InFlight: 1, Queued: 49, Ready: 1})
		if got.Want > 25 {
			t.Errorf("50 requests of 50 ms each, %s after a look: %+v, want half as many replicas at most", wait, got)
		}
	}
}

// What takes minutes and comes rarely is no burst.
func TestDemandOfLongRequests(t *testing.T) {
	p, r := NewDemand(0), rules(map[string]string{faas.LabelConcurrency: "1", faas.LabelMax: "1000"})
	s, most := Sample{Ready: 20}, 0
	for now := range 1800 { // one every ten seconds takes 60 s: 6 at once
		s.At = time.Duration(now) * time.Second
		if now%10 == 0 {
			s.Arrived++
			if now >= 60 {
				s.Completed++
				s.Busy += time.Minute
			}
		}
		s.InFlight = int(s.Arrived - s.Completed)
		if d := p.Decide(r, s); now > 600 {
			most = max(most, d.Keep)
		}
	}
	if most < 6 || most > 20 {
		t.Errorf("up to %d replicas for 6 requests at once", most)
	}
}

// Whatever happens: never more than the most, never less kept than wanted, no
// less than is in flight, and nothing wanted when nothing comes for long.
func TestDemandAlways(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		r := rules(nil)
		r.Concurrency, r.Target, r.Max = rnd.IntN(20), 1+rnd.IntN(20), 1+rnd.IntN(50)
		r.Window = time.Duration(rnd.Int64N(int64(faas.MaxDownWindow)))
		r.Type = []string{Capacity, Rate, Backlog}[rnd.IntN(3)]
		p := NewDemand(time.Duration(rnd.Int64N(2) * rnd.Int64N(int64(time.Minute))))
		var s Sample
		for range 500 {
			s.At += time.Duration(rnd.ExpFloat64() * float64(time.Second))
			s.Arrived += rnd.Uint64N(1 << rnd.IntN(20))
			n := rnd.Uint64N(s.Arrived - s.Completed + 1)
			s.Completed += n
			s.Busy += time.Duration(n * rnd.Uint64N(uint64(10*time.Second)))
			s.InFlight, s.Queued = rnd.IntN(300), rnd.IntN(2000)
			s.Streams, s.Ready, s.Start = rnd.IntN(s.InFlight+1), rnd.IntN(50), time.Duration(rnd.Int64N(int64(10*time.Second)))
			d := p.Decide(r, s)
			least := 0
			if r.Concurrency > 0 && d.Service > 0 {
				least = min(r.Max, (s.InFlight+r.Concurrency-1)/r.Concurrency)
			}
			if d.Want < 0 || d.Want > r.Max || d.Keep < d.Want || d.Keep > r.Max || d.Want < least && p.learnt >= known || d.Rate < 0 || d.Service < 0 {
				t.Fatalf("seed %d: %+v of %+v by %+v", seed, d, s, r)
			}
		}
		s.InFlight, s.Queued, s.Streams = 0, 0, 0
		s.Completed = s.Arrived
		var d Decision
		for range 10 {
			s.At += faas.MaxDownWindow
			d = p.Decide(r, s)
		}
		if d.Want != 0 && d.Rate > 0 || d.Keep != d.Want {
			t.Fatalf("seed %d: %+v long after the last request", seed, d)
		}
	}
}

func TestWindow(t *testing.T) {
	var w window
	for _, row := range []struct{ at, last, n, most int }{
		{0, 60, 3, 3}, {4, 60, 7, 7}, {59, 60, 1, 7}, {64, 60, 2, 7}, {65, 60, 2, 2}, {66, 60, 9, 9}, {1000, 60, 0, 0},
		{1000, 60, 5, 5}, {1010, 10, 1, 5}, {1021, 10, 1, 1}, {1021, 300, 1, 1}, {1100, 300, 4, 4}, {1399, 300, 0, 4}, {1405, 300, 0, 0}, {1405, 0, 2, 2}, {1411, 0, 0, 0},
	} {
		if got := w.most(time.Duration(row.at)*time.Second, time.Duration(row.last)*time.Second, row.n); got != row.most {
			t.Errorf("at %d the most of %d s is %d, want %d", row.at, row.last, got, row.most)
		}
	}
}

func TestRules(t *testing.T) {
	d := NewDefaults()
	if got := d.For(&faas.Function{}); got != d.Rules {
		t.Errorf("without labels: %+v", got)
	}
	all := Rules{
		Min: 3, Max: 9, Type: Rate, Target: 7, Proportion: 0.5, Window: faas.MaxDownWindow, Zero: true, ZeroAfter: time.Minute, Concurrency: 2,
		Depth: 5, QueueTimeout: time.Second, Timeout: 90 * time.Second, Factor: 50, Resolve: ResolveStep, Priority: 4, Protect: true,
	}
	got := d.For(&faas.Function{Labels: map[string]string{
		faas.LabelAuto: "false", faas.LabelMin: "3", faas.LabelMax: "9", faas.LabelType: "rps", faas.LabelTarget: "7", faas.LabelProportion: "0.5",
		faas.LabelDownWindow: "1h", faas.LabelZero: "true", faas.LabelZeroDuration: "60", faas.LabelConcurrency: "2", faas.LabelQueueDepth: "5",
		faas.LabelQueueTimeout: "1s", faas.LabelTimeout: "1m30s", faas.LabelFactor: "50", faas.LabelResolve: "step", faas.LabelPriority: "4", faas.LabelProtect: "in-flight",
	}})
	if got != all {
		t.Errorf("with every label: %+v", got)
	}
	bad := map[string]string{}
	for _, name := range []string{
		faas.LabelAuto, faas.LabelMin, faas.LabelMax, faas.LabelType, faas.LabelTarget, faas.LabelProportion, faas.LabelDownWindow, faas.LabelZero, faas.LabelZeroDuration,
		faas.LabelConcurrency, faas.LabelQueueDepth, faas.LabelQueueTimeout, faas.LabelTimeout, faas.LabelFactor, faas.LabelResolve, faas.LabelPriority, faas.LabelProtect,
	} {
		bad[name] = "-1"
	}
	if got := d.For(&faas.Function{Labels: bad}); got != d.Rules {
		t.Errorf("with labels that can't be read: %+v", got)
	}
	if got := d.For(&faas.Function{Labels: map[string]string{faas.LabelMin: "30", faas.LabelProportion: "NaN", faas.LabelFactor: "101"}}); got.Max != 30 || got.Proportion != 0.7 || got.Factor != 10 {
		t.Errorf("a minimum above the maximum: %+v", got)
	}
	if got := d.For(&faas.Function{Labels: map[string]string{faas.LabelConcurrency: "9223372036854775807"}}); got.Concurrency != math.MaxInt32 {
		t.Errorf("as many as there can be: %+v", got)
	}
}

func TestByAlert(t *testing.T) {
	for _, tt := range []struct {
		min, max, factor int
		resolve          string
		now              int
		firing           bool
		want             int
	}{
		{1, 20, 10, ResolveMin, 1, true, 3}, {1, 20, 10, ResolveMin, 19, true, 20}, {1, 20, 10, ResolveMin, 30, true, 30}, {1, 5, 1, ResolveMin, 1, true, 2},
		{2, 10, 35, ResolveMin, 1, true, 5}, {1, 20, 0, ResolveMin, 4, true, 4}, {4, 20, 10, ResolveMin, 0, true, 4},
		{1, 20, 10, ResolveMin, 20, false, 1}, {2, 20, 10, ResolveMin, 1, false, 1}, {1, 20, 0, ResolveMin, 4, false, 1},
		{1, 20, 10, ResolveStep, 20, false, 18}, {1, 20, 10, ResolveStep, 2, false, 1}, {3, 20, 10, ResolveStep, 2, false, 2},
	} {
		r := Rules{Min: tt.min, Max: tt.max, Factor: tt.factor, Resolve: tt.resolve}
		if got := ByAlert(r, tt.now, tt.firing); got != tt.want {
			t.Errorf("%+v: got %d", tt, got)
		}
	}
}
