package scale

// Alert obeys an alert on the load of a function that is scaled by load: while
// it fires the function has no fewer replicas than [ByAlert] says, for
// a while; what it has beyond that its load decides.
func (t *Target) Alert(firing bool) {
	t.mu.Lock()
	now, r := t.registry.clock(), t.now.Load().rules()
	has := max(t.now.Load().Desired, t.goal.asked, t.goal.alert.at(now))
	switch n := ByAlert(r, has, firing); {
	case firing && r.Factor > 0, !firing && r.Resolve == ResolveStep && n > r.Min:
		t.goal.alert = floor{n, now + int64(t.registry.defaults.Load().AlertFor)}
	case !firing:
		t.goal.alert = floor{}
	}
	t.mu.Unlock()
	t.attend()
}

// Stay keeps a function from being lowered while an alert fires that says so, for a while.
func (t *Target) Stay(firing bool) {
	t.mu.Lock()
	t.goal.stay = 0
	if firing {
		t.goal.stay = t.registry.clock() + int64(t.registry.defaults.Load().AlertFor)
	}
	t.mu.Unlock()
	t.attend()
}

// ByAlert is how many replicas a function that has so many should have after an
// alert on its load: while it fires, a step of its factor (in percent of its
// maximum, at least one) more than now; once it is resolved, a step less or its
// minimum, as the rules say, and never more than it has.
func ByAlert(r Rules, now int, firing bool) int {
	least := r.Min
	switch {
	case r.Factor == 0 && firing:
		return now
	case firing:
		return max(now, least, min(now+alertStep(r), r.Max))
	case r.Resolve == ResolveStep:
		return min(now, max(least, now-alertStep(r)))
	}
	return min(now, least)
}

func alertStep(r Rules) int { return max(1, (r.Max*r.Factor+99)/100) }
