package scale

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// A trace is the load of one function.
type trace struct {
	name    string
	rate    func(s float64) float64  // requests/s at a time
	most    float64                  // of rate
	gap     func(*rand.Rand) float64 // s between two requests, in place of rate; nil: by rate
	delay   time.Duration            // before the first request
	length  time.Duration            // from then on
	service float64                  // s, the mean; lognormal
	sigma   float64
	labels  map[string]string
}

// ten are two functions of each trace, which begin one after the other.
func ten(length time.Duration) (all []trace) {
	for i := range 2 {
		for j, tr := range traces(length) {
			tr.delay = time.Duration(5*i+j) * 11 * time.Second
			all = append(all, tr)
		}
	}
	return all
}

// The traces of one function; of those of cc 4 a request takes 0.2 s.
func traces(length time.Duration) []trace {
	busy := map[string]string{faas.LabelConcurrency: "4", faas.LabelMax: "100"}
	return []trace{
		{"step", func(float64) float64 { return 200 }, 200, nil, 0, min(length, 5*time.Minute), 0.2, 0.6, busy},
		{"onoff", func(s float64) float64 {
			if math.Mod(s, 90) < 10 {
				return 100
			}
			return 0
		}, 100, nil, 0, length, 0.2, 0.6, busy},
		{"sine", func(s float64) float64 { return 150 - 140*math.Cos(2*math.Pi*s/300) }, 290, nil, 0, length, 0.2, 0.6, busy},
		{"spike", func(s float64) float64 {
			if math.Mod(s, 117) < 1 {
				return 300
			}
			return 5
		}, 300, nil, 0, length, 0.2, 0.6, busy},
		{"slow", func(s float64) float64 { return 3 + 9*s/length.Seconds() }, 12, nil, 0, length, 2, 0.6, map[string]string{faas.LabelConcurrency: "1", faas.LabelMax: "100"}},
	}
}

// drawn is a trace that nothing was tuned on: some levels of load, each for a while.
func drawn(seed uint64, length time.Duration) trace {
	rnd := rand.New(rand.NewPCG(seed, 7))
	levels := make([]float64, 1+int(length/(10*time.Second)))
	level := 0.0
	for i := range levels {
		if rnd.IntN(4) == 0 {
			level = max(0, 200*math.Pow(rnd.Float64(), 3)-5)
		}
		levels[i] = level
	}
	service := 0.02 * math.Pow(50, rnd.Float64())
	concurrency := 1 + rnd.IntN(8)
	return trace{
		fmt.Sprint("drawn ", seed), func(s float64) float64 { return min(levels[int(s/10)], 60*float64(concurrency)/service/4) }, 200, nil, 0, length, service, 0.8,
		map[string]string{faas.LabelConcurrency: fmt.Sprint(concurrency), faas.LabelMax: "100"},
	}
}

// population is functions as those of a large public service are used, by
// published figures: 45% at most once an hour, 81% at most once a minute, the rest
// more, with a long tail; from milliseconds to a minute each; by timers, at random, or in bursts.
func population(seed uint64, n int, length time.Duration) (all []trace) {
	rnd := rand.New(rand.NewPCG(seed, 3))
	for i := range n {
		var rate float64
		switch u := rnd.Float64(); {
		case u < 0.45:
			rate = (0.1 + 0.9*rnd.Float64()) / 3600
		case u < 0.81:
			rate = math.Pow(60, rnd.Float64()) / 3600
		default:
			rate = min(20, math.Pow(1-rnd.Float64(), -1/0.9)/60)
		}
		tr := trace{name: fmt.Sprint("f", i), length: length, service: min(60, math.Exp(-0.38+2.36*rnd.NormFloat64())), sigma: 0.5}
		tr.labels = map[string]string{faas.LabelMax: "100", faas.LabelConcurrency: []string{"1", "10"}[i%2]}
		first, left := true, 0
		switch u := rnd.Float64(); {
		case u < 0.3:
			tr.gap = func(rnd *rand.Rand) float64 {
				if first {
					first = false
					return rnd.Float64() / rate
				}
				return 1 / rate
			}
		case u < 0.6:
			tr.gap = func(rnd *rand.Rand) float64 { return rnd.ExpFloat64() / rate }
		default:
			tr.gap = func(rnd *rand.Rand) float64 {
				if left--; left > 0 {
					return rnd.ExpFloat64() / max(10, 2*rate)
				}
				left = 1 + int(10*rnd.ExpFloat64())
				return rnd.ExpFloat64() / rate * float64(left)
			}
		}
		all = append(all, tr)
	}
	return all
}
