package scale

import (
	"cmp"
	"container/list"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// A replica that refused a connection is passed over for ejection: its provider
// usually replaces it sooner, and then the new one is used at once. One that
// says that it is full, because others use it as well, for fullness, and each time that it
// says so again for twice as long, up to longFull.
const (
	ejection = 2 * time.Second
	fullness = 25 * time.Millisecond
	longFull = 100 * time.Millisecond
)

// A Target is one function as requests meet it: what runs, and who waits.
type Target struct {
	id       faas.ID
	name     string
	registry *Registry
	now      atomic.Pointer[snapshot]
	counters
	gone    atomic.Bool
	active  atomic.Bool                 // the scaler looks at it each second
	poked   atomic.Bool                 // the scaler will look at it at once
	held    atomic.Int32                // what keeps it from being lowered
	rate    atomic.Uint64               // math.Float64bits of invocations a second
	service atomic.Int64                // ns that an invocation takes inside a replica; 0: not known
	part    atomic.Pointer[part]        // of the slots; nil: all
	startup mean                        // how long a replica takes to become ready
	why     atomic.Pointer[explanation] // of the last change

	mu      sync.Mutex
	waiters list.List // of *waiter, the oldest first
	breaker breaker
	goal    goal
}

// A goal is what is agreed on the number of replicas beside the load.
type goal struct {
	asked    int   // the engine was asked for so many and the provider has yet to tell; none
	askedAt  int64 // the clock then
	narrowed int   // requests are given to the lowest so many replicas only, as the others will go; none
	held     floor // as somebody else has set it
	alert    floor // as an alert asked for
	stay     int64 // no lowering until this clock, as an alert asked for
}

// none is no number of replicas.
const none = -1

// A floor is a least number of replicas for a while.
type floor struct {
	replicas int
	until    int64 // clock
}

func (f floor) at(now int64) int {
	if now < f.until {
		return f.replicas
	}
	return 0
}

// snapshot is never changed once it is published.
type snapshot struct {
	faas.Deployment
	shared  unique.Handle[Rules] // few of them differ
	limit   int64                // of requests in one replica; 0: none
	all     []*replica
	ready   []*replica // that requests are given to; behind them, up to up, those that get no more
	up      int        // ready ones, whether requests are given to them or not
	leaving []*replica // that are there no more, with requests inside
}

func (s *snapshot) rules() Rules { return s.shared.Value() }

// narrowing are ready replicas that get no more requests.
func (s *snapshot) narrowing() []*replica { return s.ready[len(s.ready):s.up] }

// replica counts the leases on one replica; it outlives the snapshots that name it.
type replica struct {
	id, addr string
	slot     int
	inFlight atomic.Int64
	ejected  atomic.Int64 // until this clock; 0: never was
	full     atomic.Int64 // ns that it was passed over for because it was full; 0: it has answered since
	inside
}

func newTarget(r *Registry, d faas.Deployment) *Target {
	t := &Target{id: d.ID, name: d.ID.String(), registry: r, goal: goal{asked: none, narrowed: none}}
	t.publish(d)
	return t
}

// publish makes a snapshot of d what requests meet.
func (t *Target) publish(d faas.Deployment) *snapshot {
	old := t.now.Load()
	rules := t.registry.defaults.Load().For(&d.Function)
	s := &snapshot{Deployment: d, shared: unique.Make(rules), limit: int64(rules.Concurrency)}
	for _, r := range d.Replicas {
		k := old.known(r)
		s.all = append(s.all, k)
		if r.Ready {
			s.ready = append(s.ready, k)
		}
	}
	s.up = len(s.ready)
	slices.SortFunc(s.ready, func(a, b *replica) int { return cmp.Compare(a.slot, b.slot) })
	if n := t.goal.narrowed; n != none && n < s.up {
		s.ready = s.ready[:n]
	}
	s.follow(old)
	t.now.Store(s)
	return s
}

// known returns the record of r, so that its leases stay counted, or a new one.
func (s *snapshot) known(r faas.Replica) *replica {
	if s != nil {
		for _, some := range [][]*replica{s.all, s.leaving} {
			for _, k := range some {
				if k.id == r.ID && k.addr == r.Addr {
					return k
				}
			}
		}
	}
	return &replica{id: r.ID, addr: r.Addr, slot: r.Slot}
}

// ID names the function.
func (t *Target) ID() faas.ID { return t.id }

// Name is the ID's String, made once.
func (t *Target) Name() string { return t.name }

// Deployment is the function's present state; not to be changed.
func (t *Target) Deployment() *faas.Deployment { return &t.now.Load().Deployment }

// Rules say how the function is scaled.
func (t *Target) Rules() Rules { return t.now.Load().rules() }

// Ready is the number of ready replicas.
func (t *Target) Ready() int { return t.now.Load().up }

// Gone tells that the function was removed.
func (t *Target) Gone() bool { return t.gone.Load() }

// Started counts invocations since the gateway began.
func (t *Target) Started() uint64 { return t.started.Load() }

// ColdStarts counts invocations that met no ready replica.
func (t *Target) ColdStarts() uint64 { return t.coldStarts.Load() }

// InFlight is the number of invocations now inside a replica.
func (t *Target) InFlight() int64 { return t.inFlight.Load() }

// Queued is the number of invocations that wait for a replica.
func (t *Target) Queued() int64 { return t.queued.Load() }

// set takes in what the provider tells.
func (t *Target) set(d faas.Deployment) {
	t.mu.Lock()
	switch before := t.now.Load().Desired; {
	case d.Desired == t.goal.asked:
		t.goal.asked, t.goal.narrowed = none, none
	case d.Desired != before: // somebody else's doing
		t.goal.held = floor{d.Desired, t.registry.clock() + int64(t.now.Load().rules().Window)}
		t.goal.narrowed = none
		t.explain(before, d.Desired, t.registry.stranger())
	}
	s := t.publish(d)
	if err := s.startFailure(); err != nil {
		t.failLocked(err)
	} else {
		t.dispatchLocked()
	}
	t.mu.Unlock()
	t.look()
}

// reconsider applies changed defaults.
func (t *Target) reconsider() {
	t.mu.Lock()
	t.publish(t.now.Load().Deployment)
	t.dispatchLocked()
	t.mu.Unlock()
	t.look()
}

// look lets the scaler look at the function, if there may be anything to do.
func (t *Target) look() {
	s := t.now.Load()
	r := s.rules()
	settled := s.Desired == 0 || s.Desired == r.wake() && !r.Zero || !r.Auto
	if t.active.Load() || !settled || t.queued.Load() > 0 {
		t.attend()
	}
}

// attend lets the scaler look at the function now, and until it is no longer in use.
func (t *Target) attend() {
	t.active.Store(true)
	t.registry.scaler.poke(t)
}

// narrow gives requests to the n lowest replicas only; to all again with none.
func (t *Target) narrow(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.goal.narrowed == n {
		return
	}
	t.goal.narrowed = n
	t.publish(t.now.Load().Deployment)
	t.dispatchLocked()
}

// release gives a slot back.
func (t *Target) release(r *replica) {
	r.inFlight.Add(-1)
	t.inFlight.Add(-1)
	if t.queued.Load() > 0 {
		t.dispatch()
	}
}

// eject passes over a replica for a while.
func (t *Target) eject(r *replica, d time.Duration) {
	r.ejected.Store(t.registry.clock() + int64(d))
	// It may be the only one: whoever waits by then gets it back.
	time.AfterFunc(d, t.dispatch)
}
