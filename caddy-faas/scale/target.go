package scale

import (
	"container/list"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// QueueDepth is how many requests may wait for one function. Past it they are refused.
const QueueDepth = 1000

// ejection is how long a replica that refused a connection is passed over. Its
// provider usually replaces it sooner; then the new one is used at once.
const ejection = 2 * time.Second

// A Target is one function as requests meet it: what runs, and who waits.
type Target struct {
	id       faas.ID
	registry *Registry
	now      atomic.Pointer[snapshot]
	counters

	mu      sync.Mutex
	waiters list.List // of *waiter, the oldest first
	wake    wakeState
	agreed  int64 // the clock when the engine agreed to raise
	gone    atomic.Bool
}

// snapshot is never changed once it is published.
type snapshot struct {
	faas.Deployment
	all, ready  []*replica
	concurrency int64
}

// replica counts the leases on one replica; it outlives the snapshots that name it.
type replica struct {
	id, addr string
	inFlight atomic.Int64
	ejected  atomic.Int64 // until this clock; 0: never was
}

// wakeState says how far the raise of a function at zero has got, so that there is one however many wait.
type wakeState int

const (
	asleep  wakeState = iota
	calling           // the engine has been asked
	awaited           // it agreed; its provider has yet to tell
)

// waiter is one request in the queue; it gets exactly one grant.
type waiter struct {
	grant chan grant    // of capacity 1
	place *list.Element // nil once it has left the queue
}

type grant struct {
	replica *replica
	err     error
}

func newTarget(r *Registry, d faas.Deployment) *Target {
	t := &Target{id: d.ID, registry: r}
	t.now.Store(newSnapshot(d, nil))
	return t
}

func newSnapshot(d faas.Deployment, old *snapshot) *snapshot {
	s := &snapshot{Deployment: d, concurrency: int64(d.Concurrency())}
	for _, r := range d.Replicas {
		k := old.known(r)
		s.all = append(s.all, k)
		if r.Ready {
			s.ready = append(s.ready, k)
		}
	}
	return s
}

// known returns the record of r, so that its leases stay counted, or a new one.
func (s *snapshot) known(r faas.Replica) *replica {
	if s != nil {
		for _, k := range s.all {
			if k.id == r.ID && k.addr == r.Addr {
				return k
			}
		}
	}
	return &replica{id: r.ID, addr: r.Addr}
}

// ID names the function.
func (t *Target) ID() faas.ID { return t.id }

// Deployment is the function's present state; not to be changed.
func (t *Target) Deployment() *faas.Deployment { return &t.now.Load().Deployment }

// Ready is the number of ready replicas.
func (t *Target) Ready() int { return len(t.now.Load().ready) }

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

func (t *Target) set(d faas.Deployment) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := newSnapshot(d, t.now.Load())
	t.now.Store(s)
	if d.Desired > 0 {
		t.wake = asleep
	}
	if err := s.startFailure(); err != nil {
		t.failLocked(err)
		return
	}
	t.dispatchLocked()
	if t.waiters.Len() > 0 {
		t.wakeLocked(s)
	}
}

// startFailure is the error for a request that comes while nothing runs and the engine has given up for now.
func (s *snapshot) startFailure() error {
	if !s.Failing || len(s.ready) > 0 {
		return nil
	}
	return &Refusal{Reason: StartFailed, RetryAfter: 5 * time.Second, Detail: s.Reason}
}

// lease takes a slot of a replica or waits in the queue for one: then the
// result comes through the waiter, which is nil otherwise.
func (t *Target) lease() (*replica, *waiter, error) {
	if t.queued.Load() == 0 {
		if r := t.pick(); r != nil {
			return r, nil, nil
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.now.Load()
	switch {
	case t.gone.Load():
		return nil, nil, faas.ErrNotFound
	case s.startFailure() != nil:
		return nil, nil, s.startFailure()
	case t.waiters.Len() >= QueueDepth:
		return nil, nil, &Refusal{Reason: QueueFull, RetryAfter: time.Second, Detail: fmt.Sprintf("%d requests wait already", QueueDepth)}
	}
	w := &waiter{grant: make(chan grant, 1)}
	w.place = t.waiters.PushBack(w)
	// Counted before the slots are looked at again: release frees its slot before it
	// looks at the count, so one of the two sees the other.
	t.queued.Add(1)
	t.dispatchLocked()
	if t.waiters.Len() > 0 {
		t.wakeLocked(s)
	}
	return nil, w, nil
}

// pick takes a slot of the ready replica with the fewest leases, or returns
// nil. It starts at a random one, so that equals share the load.
func (t *Target) pick() *replica {
	s := t.now.Load()
	n := len(s.ready)
	if n == 0 {
		return nil
	}
	first, now := 0, clock()
	if n > 1 {
		first = rand.IntN(n)
	}
	for {
		var best *replica
		var least int64
		for i := range n {
			r := s.ready[(first+i)%n]
			if until := r.ejected.Load(); until != 0 && until > now {
				continue
			}
			if leases := r.inFlight.Load(); best == nil || leases < least {
				best, least = r, leases
			}
		}
		switch {
		case best == nil || s.concurrency > 0 && least >= s.concurrency:
			return nil
		case best.inFlight.CompareAndSwap(least, least+1):
			t.inFlight.Add(1)
			return best
		}
	}
}

// release gives a slot back.
func (t *Target) release(r *replica) {
	r.inFlight.Add(-1)
	t.inFlight.Add(-1)
	if t.queued.Load() > 0 {
		t.dispatch()
	}
}

// eject passes over a replica that refused a connection, for a while.
func (t *Target) eject(r *replica) {
	r.ejected.Store(clock() + int64(ejection))
	// It may be the only one: whoever waits by then gets it back.
	time.AfterFunc(ejection, t.dispatch)
}

func (t *Target) dispatch() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dispatchLocked()
}

// dispatchLocked hands free slots to those who wait, in their order.
func (t *Target) dispatchLocked() {
	for e := t.waiters.Front(); e != nil; e = t.waiters.Front() {
		r := t.pick()
		if r == nil {
			return
		}
		t.grantLocked(e.Value.(*waiter), grant{replica: r})
	}
}

func (t *Target) grantLocked(w *waiter, g grant) {
	t.waiters.Remove(w.place)
	w.place = nil
	w.grant <- g
	t.queued.Add(-1)
	if t.waiters.Len() == 0 && t.wake == awaited {
		t.wake = asleep
	}
}

// leave takes a waiter out of the queue; what it was granted meanwhile goes back.
func (t *Target) leave(w *waiter) {
	t.mu.Lock()
	if w.place != nil {
		t.grantLocked(w, grant{})
	}
	t.mu.Unlock()
	if g := <-w.grant; g.replica != nil {
		t.release(g.replica)
	}
}

// fail ends every wait, now and later, with err.
func (t *Target) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gone.Store(true)
	t.failLocked(err)
}

func (t *Target) failLocked(err error) {
	for e := t.waiters.Front(); e != nil; e = t.waiters.Front() {
		t.grantLocked(e.Value.(*waiter), grant{err: err})
	}
}

// wakeLocked raises a function that should have no replica, once; again if
// nothing has come of it for long, since somebody may have lowered it meanwhile.
func (t *Target) wakeLocked(s *snapshot) {
	late := t.wake == awaited && clock()-t.agreed > int64(raiseTimeout)
	if s.Desired > 0 || t.wake != asleep && !late {
		return
	}
	t.wake = calling
	t.registry.raise(t, s.WakeReplicas())
}

// raised is told how the engine answered.
func (t *Target) raised(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err != nil:
		t.wake = asleep
		t.failLocked(&Refusal{Reason: StartFailed, RetryAfter: 5 * time.Second, Detail: err.Error()})
	case t.wake == calling && t.waiters.Len() > 0:
		t.wake, t.agreed = awaited, clock()
	case t.wake == calling:
		t.wake = asleep
	}
}
