package scale

import "time"

// drainTime is how long replicas that are to go may keep their requests before the
// engine is told, unless the function's time limit is shorter. The engine lets them end what they do all the same.
const drainTime = 30 * time.Second

// lower lets a function have fewer replicas. Those that are to go, the highest
// slots, first get no more requests, so that they end those that they have.
func (s *scaler) lower(f *scaled, now int64) {
	if !f.others.owned() { // its owner lowers it, and is helped
		f.lowerBy = 0
		f.narrow(f.others.narrowed())
		return
	}
	desired := f.desired()
	least, why := f.least(now)
	if least >= desired || !f.others.Whole || f.others.stay || f.writing != nil || f.goal.asked != none || f.now.Rolling || now < f.retry || now < f.goal.stay {
		f.widen()
		return
	}
	if least > 0 {
		if f.lowerBy == 0 {
			wait := drainTime
			if limit := f.rules.Timeout; limit > 0 {
				wait = min(wait, limit)
			}
			f.lowerBy = now + int64(wait)
		}
		f.narrow(least)
		busy := int64(0)
		for _, r := range f.Target.now.Load().narrowing() {
			busy += r.inFlight.Load()
		}
		if busy > 0 && (now < f.lowerBy || f.rules.Protect) {
			return
		}
	}
	if s.budget.write(now, s.registry.defaults.Load().Writes) {
		f.lowerBy = 0
		s.write(f, least, why)
	}
}

// widen gives all replicas requests again.
func (f *scaled) widen() {
	f.lowerBy = 0
	f.narrow(none)
}

// least is how many replicas the function may be lowered to.
func (f *scaled) least(now int64) (n int, why string) {
	r := &f.rules
	if !r.Auto {
		return f.desired(), ""
	}
	least := max(1, r.Min)
	if now < f.goal.held.until {
		least = f.goal.held.replicas
	}
	least = max(least, f.before.at(now), f.goal.alert.at(now), f.others.least)
	if r.Zero && now-f.usedAt >= int64(r.ZeroAfter+tick) && now >= f.goal.held.until && max(f.goal.alert.at(now), f.others.least) == 0 {
		return 0, "not used for " + r.ZeroAfter.String()
	}
	return max(least, f.decided.Keep), "less load for " + r.Window.String()
}
