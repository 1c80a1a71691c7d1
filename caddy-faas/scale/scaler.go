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
	gateways int // that scale the same functions
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
	writing chan written
	asking  int     // while writing
	raised  int64   // when it last was
	due     int64   // when to look at it again because requests wait; 0: at the next tick
	retry   int64   // when to ask the engine again that has refused
	looked  int64   // when it was last looked at
	started uint64  // at the last look
	seen    int     // ready replicas then
	sought  int     // replicas that there should have been then
	usedAt  int64   // when it was last in use
	sighted int64   // when the sight of the others was last whole
	oldest  int64   // since when the first in the queue waits
	excess  int64   // since when it has replicas that it may be without; 0: it has none
	lowerBy int64   // when replicas that are to go, as it is its turn, have had their time; 0: none are to go
	starts  []start // those that have not ended, the oldest first
	granted int     // starts, in the present round
}

// written is what came of a call to the engine.
type written struct {
	alone bool // nobody else has changed the number meanwhile
	err   error
}

func newScaler(r *Registry) *scaler {
	ctx, cancel := context.WithCancel(context.Background())
	return &scaler{
		registry: r, kick: make(chan struct{}, 1), ctx: ctx, cancel: cancel, used: map[*Target]*scaled{}, gateways: 1, busy: map[*scaled]bool{},
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
	s.budget.allow(at(now), s.registry.pace(), s.gateways)
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
		var low []*scaled
		for _, f := range s.used {
			if f.gone.Load() {
				continue
			}
			s.look(f, now, true)
			if s.gateways = f.others.Others + 1; f.lowerable(now) {
				low = append(low, f)
			}
		}
		s.lower(low, now)
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
	f.held.Store(notHeld)
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
	done := make(chan written, 1)
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
		has, had, err := s.registry.adjust(ctx, f.id, was, n)
		if err != nil && !errors.Is(err, faas.ErrNotFound) && s.ctx.Err() == nil {
			s.registry.log.Error("scaling function failed", zap.Stringer("function", f.id), zap.Int("replicas", n), zap.Error(err))
		}
		f.answered(n, has, err)
		done <- written{had == was, err}
		s.poke(f.Target)
	})
}
