package scale

import (
	"container/list"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

const (
	// maxQueuedBytes bounds the headers of all requests that wait; their bodies are not read.
	maxQueuedBytes = 256 << 20
	// minQueueTimeout and startsWaited bound a wait where it is known how long a start takes.
	minQueueTimeout = 10 * time.Second
	startsWaited    = 3.5
	// firstQueueTimeout bounds it where that is not known.
	firstQueueTimeout = 30 * time.Second

	// After so many calls in a row that the engine refused, none is made for breakTime.
	breakAfter = 2
	breakTime  = 10 * time.Second
)

// waiter is one request in the queue; it gets exactly one grant.
type waiter struct {
	since int64         // clock
	size  int64         // of its header
	grant chan grant    // of capacity 1
	place *list.Element // nil once it has left the queue
}

type grant struct {
	replica *replica
	err     error
}

// A breaker keeps a function from being asked for again and again when the engine refuses.
type breaker struct {
	failures int // in a row
	until    int64
	err      *Refusal
}

// startFailure is the error for a request that comes while nothing runs and the engine has given up for now.
func (s *snapshot) startFailure() error {
	switch {
	case len(s.ready) > 0:
		return nil
	case s.Pending > 0 && s.Pending >= s.Desired: // else others may be ready soon
		return &Refusal{Reason: NoCapacity, RetryAfter: scatter(10 * time.Second), Detail: s.Reason}
	case s.Failing:
		return &Refusal{Reason: StartFailed, RetryAfter: scatter(5 * time.Second), Detail: s.Reason}
	}
	return nil
}

// lease takes a slot of a replica or waits in the queue for one: then the
// result comes through the waiter, which is nil otherwise.
// One that comes again, as a replica did not take it, came so long ago: it goes before those that wait.
func (t *Target) lease(i *Invocation, ago time.Duration) (*replica, *waiter, error) {
	if ago > 0 || t.queued.Load() == 0 {
		if r := t.pick(); r != nil {
			return r, nil, nil
		}
	}
	size := i.size()
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.refuseLocked(i.patience(), size); err != nil {
		return nil, nil, err
	}
	w := &waiter{since: t.registry.clock() - int64(ago), size: size, grant: make(chan grant, 1)}
	if ago > 0 {
		w.place = t.waiters.PushFront(w)
	} else {
		w.place = t.waiters.PushBack(w)
	}
	// Counted before the slots are looked at again: release frees its slot before it
	// looks at the count, so one of the two sees the other.
	t.queued.Add(1)
	t.registry.queued.Add(1)
	t.registry.queuedBytes.Add(size)
	t.dispatchLocked()
	if t.waiters.Len() == 1 { // from now on the scaler looks at it by itself
		t.attend()
	}
	return nil, w, nil
}

// refuseLocked is why a request can't wait.
func (t *Target) refuseLocked(patience time.Duration, size int64) error {
	s := t.now.Load()
	if t.gone.Load() {
		return faas.ErrNotFound
	}
	if err := s.startFailure(); err != nil {
		return err
	}
	if left := t.breaker.until - t.registry.clock(); t.breaker.err != nil && left > 0 && len(s.ready) == 0 {
		again := *t.breaker.err
		again.RetryAfter = scatter(time.Duration(left))
		return &again
	}
	r := s.rules()
	depth, total := r.Depth, t.registry.defaults.Load().QueueTotal
	if s.up == 0 {
		depth = max(1, depth) // what nobody waits for is not started
	}
	switch waiting := t.waiters.Len(); {
	case waiting >= depth:
		return &Refusal{Reason: QueueFull, RetryAfter: t.drained(s), Detail: fmt.Sprintf("%d requests wait already", depth)}
	case t.registry.queued.Load() >= int64(total):
		return &Refusal{Reason: QueueFull, RetryAfter: t.drained(s), Detail: fmt.Sprintf("%d requests wait already, for all functions together", total)}
	case t.registry.queuedBytes.Load()+size > maxQueuedBytes:
		return &Refusal{Reason: QueueFull, RetryAfter: t.drained(s), Detail: fmt.Sprintf("requests with %d MiB of headers wait already, for all functions together", maxQueuedBytes>>20)}
	case r.Concurrency > 0:
		slots := max(s.up, r.Max) * r.Concurrency
		if need := time.Duration(float64(t.service.Load()) * (float64(waiting)/float64(slots) + 0.5)); need > patience {
			return &Refusal{Reason: Busy, RetryAfter: t.drained(s), Detail: fmt.Sprintf("%d requests wait already, more than all replicas that there may be can take within %s", waiting, patience)}
		}
	}
	return nil
}

// patience is how long a request may wait, if what sends it sets no bound (0).
func (t *Target) patience(bound time.Duration) time.Duration {
	r := t.now.Load().rules()
	d := r.QueueTimeout
	if d == 0 {
		d = firstQueueTimeout
		if start := t.startup.load(); start > 0 {
			d = max(minQueueTimeout, time.Duration(startsWaited*float64(start)))
		}
		d = max(d, r.Timeout) // those before it may take as long
	}
	if bound > 0 {
		d = min(d, bound)
	}
	return d
}

// drained is in how long those who wait will have been served, at a guess.
func (t *Target) drained(s *snapshot) time.Duration {
	slots := len(s.ready) * max(1, int(s.limit))
	if slots == 0 {
		return scatter(t.starting())
	}
	return scatter(time.Duration(t.service.Load()) * time.Duration(t.queued.Load()) / time.Duration(slots))
}

// starting is how long a replica takes to become ready, by what is known.
func (t *Target) starting() time.Duration {
	for _, m := range []*mean{&t.startup, &t.registry.startup} {
		if d := m.load(); d > 0 {
			return d
		}
	}
	return time.Second
}

// scatter bounds when to come again, and keeps those who were refused together from coming together.
func scatter(d time.Duration) time.Duration {
	d = min(max(d, time.Second), time.Minute)
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
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
	t.registry.queued.Add(-1)
	t.registry.queuedBytes.Add(-w.size)
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

// answered takes in what the engine said to a call for n replicas: that there should be so many
// now. Whoever waits for the first one is told of an error.
func (t *Target) answered(n, has int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		t.breaker = breaker{}
		if has != n {
			t.goal.asked = none // somebody else was faster
		}
		return
	}
	t.goal.asked = none
	if errors.Is(err, faas.ErrNotFound) {
		t.failLocked(faas.ErrNotFound)
		return
	}
	if n == 0 || len(t.now.Load().ready) > 0 {
		return
	}
	refusal := &Refusal{Reason: StartFailed, RetryAfter: scatter(5 * time.Second), Detail: err.Error()}
	t.breaker.failures++
	if t.breaker.failures >= breakAfter {
		t.breaker.until, t.breaker.err = t.registry.clock()+int64(breakTime), refusal
	}
	t.failLocked(refusal)
}
