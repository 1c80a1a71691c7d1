package faastest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// A Recorder is a sink that remembers the present state, lets tests wait for
// one, and fails the test when the rules of [faas.Sink] are broken.
type Recorder struct {
	// OnSet, if not nil, is called within each Set.
	OnSet func(faas.Deployment)

	t       testing.TB
	mu      sync.Mutex
	now     map[faas.ID]faas.Deployment
	busy    map[faas.ID]bool
	synced  int
	ended   bool
	changed chan struct{} // closed and replaced at each change
}

// Record watches a provider until the test ends, and returns once it is synced.
func Record(t testing.TB, p faas.Provider, onSet func(faas.Deployment)) *Recorder {
	t.Helper()
	r := &Recorder{OnSet: onSet, t: t, now: map[faas.ID]faas.Deployment{}, busy: map[faas.ID]bool{}, changed: make(chan struct{})}
	w, ok := p.(faas.Watcher)
	if !ok {
		t.Fatalf("%T is no Watcher", p)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Watch(ctx, r)
		r.mu.Lock()
		r.ended = true
		r.mu.Unlock()
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	r.Until(t, "synced", func(map[faas.ID]faas.Deployment) bool { return r.synced > 0 })
	return r
}

// Set is of [faas.Sink].
func (r *Recorder) Set(d faas.Deployment) {
	defer r.call(d.ID)()
	if r.OnSet != nil {
		r.OnSet(d)
	}
	r.mu.Lock()
	r.now[d.ID] = d
	r.mu.Unlock()
}

// Delete is of [faas.Sink].
func (r *Recorder) Delete(id faas.ID) {
	defer r.call(id)()
	r.mu.Lock()
	delete(r.now, id)
	r.mu.Unlock()
}

// Synced is of [faas.Sink].
func (r *Recorder) Synced() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.synced++
	r.wake()
}

// call notes a call for a function, and its end.
func (r *Recorder) call(id faas.ID) (end func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.busy[id] {
		r.t.Errorf("two calls for %s at the same time", id)
	}
	if r.ended {
		r.t.Errorf("a call for %s after the watch ended", id)
	}
	r.busy[id] = true
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.busy[id] = false
		r.wake()
	}
}

func (r *Recorder) wake() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// Until waits for a state; what names it.
func (r *Recorder) Until(t testing.TB, what string, is func(map[faas.ID]faas.Deployment) bool) {
	t.Helper()
	late := time.After(Patience)
	for {
		ok, state, changed := r.look(is)
		if ok {
			return
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("waited in vain for: %s\nit is: %s", what, state)
		}
	}
}

// look tells whether the state is the wanted one, how it is if not, and what will be closed when it changes.
func (r *Recorder) look(is func(map[faas.ID]faas.Deployment) bool) (ok bool, state string, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ok = is(r.now); !ok {
		state = fmt.Sprintf("%+v", r.now)
	}
	return ok, state, r.changed
}

// UntilReady waits until exactly so many replicas of a function are ready and no others are there, and returns them.
func (r *Recorder) UntilReady(t testing.TB, id faas.ID, n int) (replicas []faas.Replica) {
	t.Helper()
	r.Until(t, fmt.Sprintf("%d ready replicas of %s", n, id), func(now map[faas.ID]faas.Deployment) bool {
		d, ok := now[id]
		replicas = d.Replicas
		return ok && len(replicas) == n && Ready(d) == n
	})
	return replicas
}

// Deployment is a function's present state; the zero value if it is unknown.
func (r *Recorder) Deployment(id faas.ID) faas.Deployment {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now[id]
}

// Ready counts the ready replicas.
func Ready(d faas.Deployment) (n int) {
	for _, r := range d.Replicas {
		if r.Ready {
			n++
		}
	}
	return n
}
