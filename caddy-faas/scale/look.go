package scale

import (
	"math"
	"time"
)

// look takes in how a function stands, and how many replicas it should have.
func (s *scaler) look(f *scaled, now int64, ticks bool) {
	f.sample(now)
	s.count(f, now)
	f.decided = f.policy.Decide(f.rules, f.load)
	f.rate.Store(math.Float64bits(f.decided.Rate))
	f.service.Store(int64(f.decided.Service))
	if now-f.sighted > int64(loadFor) { // what came meanwhile is known as a mean only
		f.before = floor{f.desired(), now + int64(f.rules.Window)}
	}
	if f.others.Whole {
		f.sighted = now
	}
	if f.started != f.load.Arrived || f.load.InFlight+f.load.Queued > 0 || f.others.arriving {
		f.started, f.usedAt = f.load.Arrived, now
	}
	if f.want = f.wanted(now); !ticks && f.desired() > 0 && f.soonDrained() {
		f.want = f.desired()
	}
	if f.goal.narrowed != none && f.decided.Want > f.goal.narrowed {
		f.widen()
	}
	f.looked, f.due = now, 0
	if f.load.Queued > 0 {
		f.due = now + int64(lookEvery)
	}
	if f.due > 0 || f.want > f.desired() || len(f.starts) > 0 {
		s.busy[f] = true
	} else {
		delete(s.busy, f)
	}
}

func (f *scaled) sample(now int64) {
	if f.writing != nil {
		select {
		case w := <-f.writing:
			if f.writing = nil; w.err != nil {
				f.retry = now + int64(retryAfter)
			}
			if !w.alone { // what start is whose can't be told
				for i := range f.starts {
					f.starts[i].ours = false
				}
			}
		default:
		}
	}
	f.mu.Lock()
	if now-f.Target.goal.askedAt > int64(callTimeout) {
		f.Target.goal.asked = none // nothing has come of it: somebody may have lowered it meanwhile
	}
	f.now, f.goal, f.oldest = f.Target.now.Load(), f.Target.goal, now
	if first := f.waiters.Front(); first != nil {
		f.oldest = first.Value.(*waiter).since
	}
	f.mu.Unlock()
	f.rules = f.now.rules()
	f.own = Sample{
		At: time.Duration(now), Completed: f.completed.Load(), Busy: time.Duration(f.busy.Load()), Streams: int(f.streams.Load()),
		InFlight: int(f.inFlight.Load()), Queued: int(f.queued.Load()), Arrived: f.Target.started.Load(), Ready: f.now.up, Start: f.starting(),
	}
	f.others.ask(f.registry.others.Load(), f.id, time.Duration(now-f.looked))
	f.load = f.own.plus(f.others.sum)
	f.divide()
}

// desired is how many replicas there should be as far as the engine knows, or will in a moment.
func (f *scaled) desired() int {
	switch {
	case f.writing != nil:
		return f.asking
	case f.goal.asked != none:
		return f.goal.asked
	}
	return f.now.Desired
}

// wanted is how many replicas the function should have at least, now.
func (f *scaled) wanted(now int64) int {
	r, desired := &f.rules, f.desired()
	want := 0
	if r.Auto {
		want = f.goal.alert.at(now)
		if f.others.owned() || f.own.InFlight+f.own.Queued > 0 {
			want = max(want, f.decided.Want)
		}
		if desired > 0 && now >= f.goal.held.until {
			want = max(want, r.wake())
		}
	}
	if f.own.Queued > 0 && desired == 0 {
		want = max(want, r.wake())
	}
	if desired == 0 && f.own.Queued == 0 && f.goal.alert.at(now) == 0 {
		return 0 // what it does still it can end
	}
	if f.now.up == 0 && (f.now.Failing || f.now.Pending > 0) { // more of the same would not help
		want = min(want, max(desired, 1))
	}
	return max(want, desired)
}

// soonDrained tells that those who wait will have been served long before a further replica could be ready.
func (f *scaled) soonDrained() bool {
	slots := f.load.Ready * f.rules.Concurrency
	return slots > 0 && f.decided.Service > 0 && f.decided.Service*time.Duration(f.load.Queued)/time.Duration(slots) < f.load.Start/4
}
