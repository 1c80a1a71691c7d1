package scale

import (
	"cmp"
	"slices"
	"time"
)

// drainTime is how long replicas that are to go may keep their requests before the
// engine is told, unless the function's time limit is shorter. The engine lets them end what they do all the same.
const drainTime = 30 * time.Second

// lowerable tells that a function may have fewer replicas now.
func (f *scaled) lowerable(now int64) bool {
	if !f.others.owned() { // its owner lowers it, and is helped
		f.lowerBy, f.excess = 0, 0
		f.held.Store(notHeld)
		f.narrow(f.others.narrowed())
		return false
	}
	desired := f.desired()
	least, _ := f.least(now)
	keeps := notHeld
	if r := &f.rules; least < desired || r.Auto && !f.others.Whole && max(f.decided.Keep, r.wake()) < desired {
		keeps = f.keeps(now)
	}
	f.held.Store(keeps)
	if least >= desired || keeps != notHeld || f.writing != nil || f.goal.asked != none || now < f.retry {
		f.widen()
		return false
	}
	if f.excess == 0 {
		f.excess = now
	}
	return true
}

// What keeps a function from being lowered.
const (
	notHeld int32 = iota
	notHeard
	onHold
	rolling
	inTurn
)

// held tells of it.
var held = [...]string{
	notHeard: "another gateway is not heard, which may have requests for it",
	onHold:   "an alert of severity hold",
	rolling:  "it is being updated",
	inTurn:   "others are lowered first",
}

func (f *scaled) keeps(now int64) int32 {
	switch {
	case !f.others.Whole:
		return notHeard
	case f.others.stay || now < f.goal.stay:
		return onHold
	case f.now.Rolling:
		return rolling
	}
	return notHeld
}

// lower asks the engine for fewer replicas of some functions, no more often than it may be asked for
// that: those first that have had the most too many for the longest.
func (s *scaler) lower(all []*scaled, now int64) {
	waste := func(f *scaled) int64 {
		least, _ := f.least(now)
		return int64(f.desired()-least) * (now - f.excess + int64(tick))
	}
	slices.SortFunc(all, func(a, b *scaled) int { return cmp.Compare(waste(b), waste(a)) })
	for _, f := range all {
		switch least, why := f.least(now); {
		case f.lowerBy == 0 && (s.budget.writes.TokensAt(at(now)) < 1 || !s.budget.lowers.AllowN(at(now), 1)):
			f.held.Store(inTurn)
		case f.drained(least, now) && s.budget.writes.AllowN(at(now), 1):
			f.lowerBy, f.excess = 0, 0
			s.write(f, least, why)
		}
	}
}

// drained tells that the replicas that are to go, the highest slots, have none of their requests any
// more, or have had their time for these. From the first time on they get no more.
func (f *scaled) drained(least int, now int64) bool {
	if f.lowerBy == 0 {
		wait := drainTime
		if limit := f.rules.Timeout; limit > 0 {
			wait = min(wait, limit)
		}
		f.lowerBy = now + int64(wait)
	}
	if least == 0 { // none has any
		return true
	}
	f.narrow(least)
	busy := int64(0)
	for _, r := range f.Target.now.Load().narrowing() {
		busy += r.inFlight.Load()
	}
	return busy == 0 || now >= f.lowerBy && !f.rules.Protect
}

// widen gives all replicas requests again.
func (f *scaled) widen() {
	f.lowerBy, f.excess = 0, 0
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
