package scale

import (
	"cmp"
	"fmt"
	"math"
	"time"

	"golang.org/x/time/rate"
)

// A budget bounds what the engine is asked for because of load: an engine that
// starts many replicas at once starts each of them later, and those that need
// one most wait for those that need a further one.
type budget struct {
	limit  int           // starts at once
	first  int           // what limit began with, as it is configured; 0: not begun
	stable int           // starts that have ended since limit was last changed
	recent float64       // s that starts take of late
	usual  float64       // s that they take when the engine has nothing else to do
	writes *rate.Limiter // calls, up to a quarter of a second's at once
	lowers *rate.Limiter // those that lower functions, up to a second's calls at once
}

// lowering is how many calls there may be for each that lowers a function: keeping for longer
// what is not used costs less than waiting for what is not there, and each call is work for an engine's managers.
const lowering = 25

// allow makes it so many calls a second, and for all gateways together what one may do to lower functions.
func (b *budget) allow(now time.Time, writes, gateways int) {
	if b.writes == nil {
		b.writes, b.lowers = rate.NewLimiter(0, max(1, writes/4)), rate.NewLimiter(0, writes)
	}
	b.writes.SetLimitAt(now, rate.Limit(writes))
	b.writes.SetBurstAt(now, max(1, writes/4))
	b.lowers.SetLimitAt(now, rate.Limit(writes)/rate.Limit(lowering*gateways))
	b.lowers.SetBurstAt(now, max(1, writes/gateways))
}

// at is what a clock is for limiters.
func at(clock int64) time.Time { return time.Time{}.Add(time.Duration(clock)) }

// ended takes in how long a start took: a quarter less at once when starts take
// half as long again as usual, one more when they don't.
func (b *budget) ended(took time.Duration) {
	d := took.Seconds()
	if b.recent == 0 {
		b.recent, b.usual = d, d
	}
	b.recent += (d - b.recent) / 4
	b.usual = min(d, b.usual*1.01)
	switch b.stable++; {
	case b.stable < b.limit:
	case b.recent > 1.5*b.usual:
		b.limit, b.stable = max(1, b.limit*3/4), 0
	default:
		b.limit, b.stable = min(4*b.first, b.limit+1), 0
	}
}

// stuckAfter is when a start no longer counts: something other than a busy engine delays it.
func stuckAfter(start time.Duration) time.Duration { return max(2*time.Second, 3*start) }

// count takes in which of a function's starts have ended, and those that somebody else has asked for.
func (s *scaler) count(f *scaled, now int64) {
	if first := max(1, s.registry.defaults.Load().Starting); first != s.budget.first {
		s.budget.first, s.budget.limit = first, first
	}
	left := f.desired() - f.now.up
	if f.now.Failing || f.now.Pending > 0 || len(f.starts) > 0 && now-f.starts[len(f.starts)-1].asked > int64(callTimeout) {
		left = 0
	}
	for more := f.desired() - f.sought; more > 0 && len(f.starts) < left; more-- {
		f.starts = append(f.starts, start{asked: now})
	}
	f.sought = f.desired()
	for len(f.starts) > max(0, left) {
		if first := f.starts[0]; f.now.up > f.seen && first.ours {
			took := time.Duration(now - first.asked)
			f.startup.add(took)
			s.registry.startup.add(took)
			s.budget.ended(took)
		}
		f.starts = f.starts[1:]
	}
	f.seen = f.now.up
}

// A start is of a replica that is not ready yet.
type start struct {
	asked int64 // clock when it was asked for or, if not ours, seen
	ours  bool  // asked for by this gateway, because of load
}

// raise gives the free starts to those that need them most, one after the
// other, and asks the engine for them. It returns when to try again; 0: when something has changed.
func (s *scaler) raise(now int64) (again int64) {
	starting := 0
	var needy, granted []*scaled
	for f := range s.busy {
		f.granted = 0
		for _, one := range f.starts {
			if now-one.asked < int64(stuckAfter(f.load.Start)) {
				starting++
			}
		}
		if f.lacks(now) {
			needy = append(needy, f)
		}
	}
	calls := int(s.budget.writes.TokensAt(at(now)))
	for free := s.budget.limit - starting; free > 0; {
		var first *scaled
		var most need
		for _, f := range needy {
			if !f.lacks(now) || f.granted == 0 && len(granted) >= calls {
				continue
			}
			if n := f.need(now); first == nil || n.before(most) {
				first, most = f, n
			}
		}
		if first == nil {
			break
		}
		if first.looked != now { // it may have been some time ago that it needed this
			s.look(first, now, false)
			continue
		}
		free--
		if first.granted == 0 {
			granted = append(granted, first)
		}
		first.granted++
	}
	for _, f := range granted {
		s.budget.writes.AllowN(at(now), 1)
		f.raised = now
		f.widen()
		for range f.granted {
			f.starts = append(f.starts, start{now, true})
		}
		s.write(f, f.desired()+f.granted, f.reason(now))
	}
	if len(needy) > len(granted) && s.budget.writes.TokensAt(at(now)) < 1 {
		again = now + int64(float64(time.Second)/float64(s.budget.writes.Limit()))
	}
	return again
}

// lacks tells that a function needs a further replica, and may be given one now. One without any need not wait its turn.
func (f *scaled) lacks(now int64) bool {
	switch desired := f.desired(); {
	case desired+f.granted >= f.want || f.writing != nil || f.gone.Load():
		return false
	case desired == 0 && f.own.Queued > 0:
		return true
	}
	return now >= max(f.retry, f.raised+int64(lookEvery))
}

// A need says how much a function needs a further replica.
type need struct {
	priority int
	none     bool // it has none, and has not been granted one
	waiting  float64
	missing  int
}

func (f *scaled) need(now int64) need {
	starts := len(f.starts) + f.granted
	return need{
		priority: f.rules.Priority, none: f.now.up == 0 && starts == 0 && f.own.Queued > 0,
		waiting: time.Duration(now-f.oldest).Seconds() * float64(f.load.Queued) / float64(1+starts),
		missing: f.want - f.desired() - f.granted,
	}
}

// before tells whose need is the greater one.
func (n need) before(other need) bool {
	if n.none != other.none {
		return n.none
	}
	return cmp.Or(cmp.Compare(n.priority, other.priority), cmp.Compare(n.waiting, other.waiting), cmp.Compare(n.missing, other.missing)) > 0
}

// reason says why a function is raised.
func (f *scaled) reason(now int64) string {
	r, d := &f.rules, f.decided
	switch {
	case f.desired() == 0 && f.want == r.wake():
		return fmt.Sprintf("%d waiting and no replica", f.load.Queued)
	case f.want > d.Want && f.want == f.goal.alert.at(now):
		return fmt.Sprintf("an alert asks for %d", f.want)
	case f.want > d.Want:
		return fmt.Sprintf("the least is %d", f.want)
	case d.Service == 0:
		return fmt.Sprintf("%d in flight and %d waiting", f.load.InFlight, f.load.Queued)
	}
	return fmt.Sprintf("%.3g requests/s of %s, %d waiting: %d replicas at %.0f%% of %d", d.Rate, d.Service.Round(time.Millisecond/10),
		f.load.Queued, d.Want, math.Round(100*r.Proportion), r.Target)
}
