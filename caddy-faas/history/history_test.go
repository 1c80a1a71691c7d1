package history

import (
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

var (
	echo  = faas.ID{Name: "echo", Namespace: "openfaas-fn"}
	start = time.Unix(1_800_000_000, 0) // begins a step
)

// same answers every question after gauges with the same ones.
func same(g Gauges) func(faas.ID) (Gauges, bool) {
	return func(faas.ID) (Gauges, bool) { return g, true }
}

func TestPoints(t *testing.T) {
	var s Store
	one := Gauges{Desired: 1, Ready: 1}
	for i := range 100 {
		s.Observe(echo, start, time.Duration(i+1)*time.Millisecond, i%10 == 0)
	}
	s.Advance(start.Add(Step), same(one))
	s.Observe(echo, start.Add(Step), time.Second, false)
	s.Advance(start.Add(2*Step), same(Gauges{Desired: 2, Ready: 1, Queued: 3}))
	points, last := s.Points(echo)
	if len(points) != 2 || last != StepOf(start)+1 {
		t.Fatalf("%d points, the last is of step %d: %+v", len(points), last-StepOf(start), points)
	}
	p := points[0]
	if p.Ended != 100 || p.Failed != 10 || p.Gauges != one {
		t.Errorf("first step: %+v", p)
	}
	if math.Abs(float64(p.P50)-0.05) > 0.01 || math.Abs(float64(p.P99)-0.099) > 0.03 {
		t.Errorf("of 1 to 100 ms the median is %v and the 99th percentile %v", p.P50, p.P99)
	}
	if p = points[1]; p.Ended != 1 || p.Failed != 0 || p.P50 < 0.7 || p.P50 > 1.1 || p.Queued != 3 || p.Desired != 2 {
		t.Errorf("second step: %+v", p)
	}
}

func TestSummary(t *testing.T) {
	var s Store
	if sum := s.Summary(echo, start); sum.Rate != 0 || sum.P50 != 0 || sum.Recent != nil {
		t.Errorf("of a function that did nothing: %+v", sum)
	}
	for range 20 {
		s.Observe(echo, start, 10*time.Millisecond, false)
	}
	s.Advance(start.Add(Step), same(Gauges{}))
	for range 10 {
		s.Observe(echo, start.Add(Step), 10*time.Millisecond, true)
	}
	sum := s.Summary(echo, start.Add(Step+5*time.Second))
	if sum.Rate != 2 || sum.Failures != 10.0/15 || len(sum.Recent) != 1 {
		t.Errorf("30 in 15 seconds: %+v", sum)
	}
	for i := range recentSteps + 2 {
		s.Advance(start.Add(time.Duration(i+2)*Step), same(Gauges{}))
	}
	if sum = s.Summary(echo, start.Add((recentSteps+3)*Step)); sum.Rate != 0 || sum.P50 != 0 || len(sum.Recent) != recentSteps {
		t.Errorf("five minutes later: rate %v, p50 %v, %d points", sum.Rate, sum.P50, len(sum.Recent))
	}
}

// A history is no longer than an hour, and goes once it says nothing any more.
func TestBounded(t *testing.T) {
	var s Store
	now := start
	tick := func() {
		now = now.Add(Step)
		s.Advance(now, same(Gauges{Desired: 1, Ready: 1}))
	}
	for range 3 * Points {
		s.Observe(echo, now, time.Millisecond, false)
		tick()
	}
	if points, _ := s.Points(echo); len(points) != Points || points[0].Ended != 1 {
		t.Fatalf("%d points", len(points))
	}
	for range Points - 1 {
		tick()
	}
	if points, _ := s.Points(echo); len(points) != Points {
		t.Fatalf("%d points, though one within the hour tells something", len(points))
	}
	tick()
	if points, _ := s.Points(echo); points != nil {
		t.Errorf("%d points of a function that did nothing for an hour", len(points))
	}
}

// While the machine sleeps no step ends; what it slept through is empty.
func TestPause(t *testing.T) {
	var s Store
	s.Observe(echo, start, time.Millisecond, false)
	s.Advance(start.Add(5*Step), same(Gauges{Ready: 1}))
	if points, last := s.Points(echo); len(points) != 5 || points[0].Ended != 0 || points[4].Ended != 1 || last != StepOf(start)+4 {
		t.Errorf("%+v", points)
	}
	s.Advance(start.Add(24*time.Hour), same(Gauges{Ready: 1}))
	if points, _ := s.Points(echo); points != nil && len(points) != Points {
		t.Errorf("%d points after a day", len(points))
	}
	s.Observe(echo, start.Add(24*time.Hour), time.Millisecond, false)
	s.Advance(start.Add(12*time.Hour), same(Gauges{})) // the clock was set back
	s.Advance(start.Add(24*time.Hour+Step), func(faas.ID) (Gauges, bool) { return Gauges{}, false })
	if points, _ := s.Points(echo); points != nil {
		t.Errorf("%d points of a function that is gone", len(points))
	}
}

// The points begin with how a function was before it changed.
func TestChanged(t *testing.T) {
	var s Store
	s.Changed(echo, start, Gauges{Desired: 1, Ready: 1})
	s.Changed(echo, start, Gauges{Desired: 2, Ready: 1})
	s.Advance(start.Add(Step), same(Gauges{Desired: 3, Ready: 3}))
	points, _ := s.Points(echo)
	if len(points) != 2 || points[0].Desired != 1 || points[1].Ready != 3 {
		t.Errorf("%+v", points)
	}
	s.Forget(echo)
	if points, _ := s.Points(echo); points != nil {
		t.Errorf("forgotten, it has %d points", len(points))
	}
}

func TestConcurrent(t *testing.T) {
	var s Store
	var all sync.WaitGroup
	const each = 1000
	for range 4 {
		all.Go(func() {
			for i := range each {
				s.Observe(echo, start, time.Duration(i)*time.Microsecond, i%2 == 0)
			}
		})
	}
	for i := range 20 {
		s.Advance(start.Add(time.Duration(i+1)*Step), same(Gauges{Ready: uint32(i)}))
		s.Summary(echo, start.Add(time.Duration(i+1)*Step))
	}
	all.Wait()
	s.Advance(start.Add(21*Step), same(Gauges{}))
	points, _ := s.Points(echo)
	var ended, failed uint32
	for _, p := range points {
		ended, failed = ended+p.Ended, failed+p.Failed
	}
	if ended != 4*each || failed != 2*each {
		t.Errorf("of %d invocations, half of them failed, %d ended and %d failed", 4*each, ended, failed)
	}
}

func TestBuckets(t *testing.T) {
	for i, b := range bounds {
		at := time.Duration(b * float64(time.Second))
		if low, high := bucketOf(at-time.Microsecond), bucketOf(at+time.Microsecond); low != i || high != i+1 {
			t.Errorf("around %s: buckets %d and %d, want %d and %d", at, low, high, i, i+1)
		}
	}
	if b := bucketOf(time.Hour); b != buckets-1 {
		t.Errorf("an hour: bucket %d", b)
	}
	if b := bucketOf(-time.Second); b != 0 {
		t.Errorf("less than nothing: bucket %d", b)
	}
}

func TestJournal(t *testing.T) {
	var j Journal
	if events, newest := j.Since(0); events == nil || len(events) != 0 || newest != 0 {
		t.Errorf("of nothing: %v, %d", events, newest)
	}
	fail := Event{Time: start, Function: "echo.openfaas-fn", Kind: Failed, Text: "500"}
	j.Add(Event{Time: start, Function: "echo.openfaas-fn", Kind: Deployed})
	j.Add(fail)
	j.Add(Event{Time: start, Function: "cat.openfaas-fn", Kind: Failed, Text: "500"})
	j.Add(fail)
	events, newest := j.Since(1)
	if newest != 4 || len(events) != 2 || events[0].Function != "cat.openfaas-fn" || events[1].Count != 2 || events[1].Seq != 4 {
		t.Errorf("%+v, %d", events, newest)
	}
	fail.Time = start.Add(sameAfter)
	j.Add(fail)
	if events, _ := j.Since(4); len(events) != 1 || events[0].Count != 1 {
		t.Errorf("ten minutes later: %+v", events)
	}
	j.Add(Event{Time: start, Function: "echo.openfaas-fn", Kind: Failing, Text: "again in 1s"})
	j.Add(Event{Time: start, Function: "echo.openfaas-fn", Kind: Failing, Text: "again in 2s"})
	if events, _ := j.Since(5); len(events) != 1 || events[0].Count != 2 || events[0].Text != "again in 2s" {
		t.Errorf("failing on: %+v", events)
	}
	for i := range 3 * JournalSize {
		j.Add(Event{Time: start, Function: fmt.Sprint(i), Kind: Ready, Text: string(make([]byte, 2*maxText))})
	}
	events, newest = j.Since(0)
	if len(events) != JournalSize || events[JournalSize-1].Seq != newest || len(events[0].Text) > maxText+len("…") {
		t.Errorf("%d events, the last is %d of %d", len(events), events[len(events)-1].Seq, newest)
	}
}
