package scale

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

const (
	// tick is how often functions in use are looked at. Lowering happens then only.
	tick = time.Second
	// lookEvery is how often a function for which requests wait is looked at, and how often it is raised at most.
	lookEvery = 200 * time.Millisecond
	// After a pass that took long the scaler rests for share times as long, at most rest.
	share, rest = 3, 50 * time.Millisecond
	// callTimeout bounds one call to the engine, and the time until the provider
	// tells what came of it. Those who wait have deadlines of their own.
	callTimeout = 30 * time.Second
	// retryAfter is when the engine is asked again after it has refused to raise or lower a function.
	retryAfter = 5 * time.Second
	// drainTime is how long replicas that are to go may keep their requests before the
	// engine is told, unless the function's time limit is shorter. The engine lets them end what they do all the same.
	drainTime = 30 * time.Second
)

// A scaler is the goroutine that raises and lowers functions. It looks at those
// that are in use once a second, and at one for which requests wait at once.
// While none is in use it sleeps.
type scaler struct {
	registry *Registry
	policy   func(*Target) Policy
	kick     chan struct{} // of capacity 1
	ctx      context.Context
	cancel   context.CancelFunc
	work     sync.WaitGroup // the goroutine, and calls to the engine

	mu      sync.Mutex
	running bool
	closed  bool
	fresh   []*Target // to be looked at now

	// The goroutine's own.
	used     map[*Target]*scaled
	busy     map[*scaled]bool // those of them that wait for replicas, or for which requests wait
	nextTick int64
	budget   budget
}

// scaled is what the scaler knows of a function in use.
type scaled struct {
	*Target
	policy  Policy
	now     *snapshot
	rules   Rules
	goal    goal
	before  floor  // what it had when it came into use, the gateway began, or the others were seen again: the load that this was for is not known
	own     Sample // as it stands at this gateway
	others  others // and at the other ones
	load    Sample // at all of them
	decided Decision
	want    int // replicas that it is to be raised to; no more than there are: none is needed
	writing chan error
	asking  int     // while writing
	raised  int64   // when it last was
	due     int64   // when to look at it again because requests wait; 0: at the next tick
	retry   int64   // when to ask the engine again that has refused
	looked  int64   // when it was last looked at
	started uint64  // at the last look
	seen    int     // ready replicas then
	usedAt  int64   // when it was last in use
	sighted int64   // when the sight of the others was last whole
	oldest  int64   // since when the first in the queue waits
	lowerBy int64   // when replicas that are to go have had their time; 0: none are to go
	starts  []int64 // when the replicas that start were asked for
	granted int     // starts, in the present round
}

func newScaler(r *Registry) *scaler {
	ctx, cancel := context.WithCancel(context.Background())
	return &scaler{
		registry: r, kick: make(chan struct{}, 1), ctx: ctx, cancel: cancel, used: map[*Target]*scaled{}, busy: map[*scaled]bool{},
		policy: func(t *Target) Policy { return NewDemand(time.Duration(t.service.Load())) },
	}
}

// poke makes the scaler look at a function.
func (s *scaler) poke(t *Target) {
	if t.poked.Swap(true) {
		return
	}
	s.mu.Lock()
	s.fresh = append(s.fresh, t)
	if !s.running && !s.closed {
		s.running = true
		s.work.Go(s.run)
	}
	s.mu.Unlock()
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

func (s *scaler) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.work.Wait()
}

func (s *scaler) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.kick:
		case <-timer.C:
		}
		began := s.registry.clock()
		next := s.pass(began)
		now := s.registry.clock()
		if took := time.Duration(now - began); took > time.Millisecond {
			// So many functions wait that a look at them takes long: not a core all the time.
			pause := time.NewTimer(min(share*took, rest))
			select {
			case <-s.ctx.Done():
			case <-pause.C:
			}
			pause.Stop()
		}
		if next > 0 {
			timer.Reset(time.Duration(next - s.registry.clock()))
		} else {
			timer.Stop()
		}
	}
}

// pass looks at what has to be looked at, and does what there is to do. It
// returns the clock of the next time; 0: when it is poked.
func (s *scaler) pass(now int64) (next int64) {
	s.mu.Lock()
	fresh := s.fresh
	s.fresh = nil
	s.mu.Unlock()
	for _, t := range fresh {
		t.poked.Store(false)
		f := s.used[t]
		if f == nil {
			f = &scaled{Target: t, policy: s.policy(t), started: math.MaxUint64, usedAt: now}
			s.used[t] = f
			s.registry.used.Store(t, nil)
		}
		s.look(f, now, false)
	}
	for f := range s.busy {
		if f.due > 0 && f.due <= now {
			s.look(f, now, false)
		}
	}
	ticks := now >= s.nextTick
	if ticks {
		s.nextTick = now + int64(tick)
		for _, f := range s.used {
			if !f.gone.Load() {
				s.look(f, now, true)
				s.lower(f, now)
			}
		}
	}
	next = s.raise(now)
	if ticks {
		for _, f := range s.used {
			s.leave(f, now)
		}
	}
	for f := range s.busy {
		next = earlier(next, f.due)
	}
	if len(s.used) > 0 {
		next = earlier(next, s.nextTick)
	}
	return next
}

func earlier(a, b int64) int64 {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// look takes in how a function stands, and how many replicas it should have.
func (s *scaler) look(f *scaled, now int64, ticks bool) {
	f.sample(now)
	s.count(f, now)
	f.decided = f.policy.Decide(f.rules, f.load)
	f.rate.Store(math.Float64bits(f.decided.Rate))
	f.service.Store(int64(f.decided.Service))
	if now-f.sighted > int64(loadFor) {
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
		case err := <-f.writing:
			if f.writing = nil; err != nil {
				f.retry = now + int64(retryAfter)
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
	if f.now.startFailure() != nil { // more of the same would not help
		want = min(want, max(desired, 1))
	}
	return max(want, desired)
}

// soonDrained tells that those who wait will have been served long before a further replica could be ready.
func (f *scaled) soonDrained() bool {
	slots := f.load.Ready * f.rules.Concurrency
	return slots > 0 && f.decided.Service > 0 && f.decided.Service*time.Duration(f.load.Queued)/time.Duration(slots) < f.load.Start/4
}

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

// leave forgets a function that is not in use.
func (s *scaler) leave(f *scaled, now int64) {
	r := &f.rules
	// A request that has just begun may not be in flight yet.
	idle := now-f.usedAt > 2*int64(tick) && f.load.InFlight+f.load.Queued == 0 && f.decided.Rate == 0 && f.writing == nil && f.goal.asked == none && len(f.starts) == 0 && f.lowerBy == 0
	settled := f.now.Desired == 0 || !r.Auto || f.now.Desired == r.wake() && !r.Zero
	if !f.gone.Load() && (!idle || !settled || now < max(f.goal.alert.until, f.goal.stay)) {
		return
	}
	delete(s.used, f.Target)
	delete(s.busy, f)
	f.widen()
	s.registry.used.Delete(f.Target)
	f.active.Store(false)
	if f.Target.started.Load() != f.own.Arrived && !f.gone.Load() { // just now
		f.attend()
	}
}

// write asks the engine for n replicas, in the background, and has the function looked at again when it has answered.
func (s *scaler) write(f *scaled, n int, why string) {
	was := f.desired()
	done := make(chan error, 1)
	f.writing, f.asking = done, n
	f.mu.Lock()
	f.Target.goal.asked, f.Target.goal.askedAt = n, s.registry.clock()
	f.explain(was, n, why)
	f.mu.Unlock()
	message := "scaling function"
	if was == 0 {
		message = "waking function"
	}
	s.registry.log.Info(message, zap.Stringer("function", f.id), zap.Int("from", was), zap.Int("replicas", n), zap.String("reason", why))
	s.work.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, callTimeout)
		defer cancel()
		has, err := s.registry.adjust(ctx, f.id, was, n)
		if err != nil && !errors.Is(err, faas.ErrNotFound) && s.ctx.Err() == nil {
			s.registry.log.Error("scaling function failed", zap.Stringer("function", f.id), zap.Int("replicas", n), zap.Error(err))
		}
		f.answered(n, has, err)
		done <- err
		s.poke(f.Target)
	})
}
