// Package history remembers what functions did within the last hour, in
// memory that is bounded for each of them: [Store] their rates, latencies and
// replicas, [Journal] what happened to them.
package history

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// Step is the time that one point covers, and Points is how many are kept: an hour.
const (
	Step   = 10 * time.Second
	Points = 360
)

// A Point is what a function did within one step. Its percentiles, in seconds,
// are 0 if no invocation ended.
type Point struct {
	Ended, Failed uint32
	P50, P99      float32
	Gauges
}

// Gauges are what is so at one moment.
type Gauges struct {
	Desired, Ready, InFlight, Queued uint32
}

// Store holds a history, of about 17 KB, for each function that did anything within the last
// hour. Those that did not cost nothing.
type Store struct {
	records sync.Map // faas.ID -> *record
}

// record is one function's history.
type record struct {
	now histogram // of this step, counted without a lock

	mu     sync.Mutex
	last   int64   // the step of the newest point
	points []Point // the oldest first
	recent [recentSteps]counts
	quiet  int // steps without a change
}

// recentSteps is how many steps the percentiles in a Summary are taken over, besides the present one: five minutes.
const recentSteps = 30

// StepOf numbers the step that a time is in.
func StepOf(at time.Time) int64 { return at.UnixNano() / int64(Step) }

// Observe counts an invocation that has ended.
func (s *Store) Observe(id faas.ID, at time.Time, took time.Duration, failed bool) {
	r, ok := s.records.Load(id)
	if !ok {
		r = s.begin(id, at)
	}
	r.(*record).now.observe(took, failed)
}

// Changed begins a function's history with how it was before its gauges changed.
func (s *Store) Changed(id faas.ID, at time.Time, before Gauges) {
	r := s.begin(id, at)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.quiet = 0
	if len(r.points) == 0 {
		r.points = append(r.points, Point{Gauges: before})
	}
}

func (s *Store) begin(id faas.ID, at time.Time) *record {
	r, _ := s.records.LoadOrStore(id, &record{last: StepOf(at) - 1})
	return r.(*record)
}

// Forget drops the history of a function that is gone.
func (s *Store) Forget(id faas.ID) { s.records.Delete(id) }

// Advance ends the steps before now. gauges tells how a function is, and
// whether there is one. What has not changed for an hour is forgotten.
func (s *Store) Advance(now time.Time, gauges func(faas.ID) (Gauges, bool)) {
	step := StepOf(now) - 1
	s.records.Range(func(id, v any) bool {
		r := v.(*record)
		g, ok := gauges(id.(faas.ID))
		if !ok || r.advance(step, g) {
			s.records.CompareAndDelete(id, v)
		}
		return true
	})
}

// advance adds a point for each step up to the given one, and tells whether all that are kept say the same.
func (r *record) advance(step int64, g Gauges) (quiet bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if step <= r.last {
		return false
	}
	c := r.now.take()
	for n := max(r.last+1, step-Points+1); n <= step; n++ {
		p := Point{Gauges: g}
		r.recent[n%recentSteps] = counts{}
		if n == step { // after a pause of the whole program the other steps are empty
			p.Ended, p.Failed, p.P50, p.P99 = c.ended(), c.failed, c.quantile(0.5), c.quantile(0.99)
			r.recent[n%recentSteps] = c
		}
		r.add(p)
	}
	r.last = step
	return r.quiet >= Points
}

func (r *record) add(p Point) {
	if len(r.points) == Points {
		copy(r.points, r.points[1:])
		r.points = r.points[:Points-1]
	}
	r.quiet++
	if p.Ended > 0 || p.InFlight > 0 || p.Queued > 0 || len(r.points) > 0 && p.Gauges != r.points[len(r.points)-1].Gauges {
		r.quiet = 0
	}
	r.points = append(r.points, p)
}

// Points returns a copy of a function's points, the newest last, and the step
// of that one; none for a function that did nothing within the last hour.
func (s *Store) Points(id faas.ID) (points []Point, last int64) {
	v, ok := s.records.Load(id)
	if !ok {
		return nil, 0
	}
	r := v.(*record)
	r.mu.Lock()
	defer r.mu.Unlock()
	return append(points, r.points...), r.last
}

// A Summary is how a function does at present.
type Summary struct {
	Rate, Failures float64 // per second, over the last 10 to 20 seconds
	P50, P99       float64 // in seconds, over five minutes; 0 if no invocation ended
	Recent         []Point // of five minutes, the newest last
}

// Summary returns how a function does, all zero without a history.
func (s *Store) Summary(id faas.ID, now time.Time) (sum Summary) {
	v, ok := s.records.Load(id)
	if !ok {
		return sum
	}
	r := v.(*record)
	c := r.now.read()
	r.mu.Lock()
	defer r.mu.Unlock()
	ended, failed := float64(c.ended()), float64(c.failed)
	span := time.Duration(now.UnixNano() - (r.last+1)*int64(Step))
	if n := len(r.points); n > 0 {
		ended, failed, span = ended+float64(r.points[n-1].Ended), failed+float64(r.points[n-1].Failed), span+Step
	}
	if seconds := max(span, time.Second).Seconds(); ended > 0 {
		sum.Rate, sum.Failures = ended/seconds, failed/seconds
	}
	for i := range r.recent {
		c.add(&r.recent[i])
	}
	sum.P50, sum.P99 = float64(c.quantile(0.5)), float64(c.quantile(0.99))
	sum.Recent = append(sum.Recent, r.points[max(0, len(r.points)-recentSteps):]...)
	return sum
}

// histogram counts durations without a lock.
type histogram struct {
	failed  atomic.Uint32
	buckets [buckets]atomic.Uint32
}

func (h *histogram) observe(took time.Duration, failed bool) {
	if failed {
		h.failed.Add(1)
	}
	h.buckets[bucketOf(took)].Add(1)
}

func (h *histogram) read() (c counts) {
	c.failed = h.failed.Load()
	for i := range h.buckets {
		c.buckets[i] = h.buckets[i].Load()
	}
	return c
}

func (h *histogram) take() (c counts) {
	c.failed = h.failed.Swap(0)
	for i := range h.buckets {
		c.buckets[i] = h.buckets[i].Swap(0)
	}
	return c
}
