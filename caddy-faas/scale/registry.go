// Package scale knows which replicas are ready, hands each request one with a
// free slot, holds the requests that find none, and sees to it that there are
// as many replicas as the load needs.
//
// The [Registry] is fed by a provider. An [Invocation] leases replicas from a
// [Target], which is one function. What happened to the target a [Policy]
// turns into a number of replicas, and the scaler asks the engine for it, as
// far as its budget of starts and calls goes. Functions that nobody uses cost
// nothing but memory.
package scale

import (
	"context"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// A Raiser sets how many replicas a function has; [faas.Provider] is one.
type Raiser interface {
	Scale(ctx context.Context, id faas.ID, replicas int) error
}

// adjust raises or lowers a function from was to n replicas, and returns how many there should be
// now, and should have been just before: if the provider can tell, one that somebody else changes meanwhile is never lowered.
func (r *Registry) adjust(ctx context.Context, id faas.ID, was, n int) (has, had int, err error) {
	a, ok := r.raiser.(faas.Adjuster)
	if !ok {
		return n, was, r.raiser.Scale(ctx, id, n)
	}
	has, err = a.Adjust(ctx, id, func(now int) int {
		had = now
		if n < was && now == was {
			return n
		}
		if n < was {
			return now
		}
		return max(n, now)
	})
	return has, had, err
}

// pace is how many changes a second the provider is asked for because of load.
func (r *Registry) pace() int {
	if n := r.defaults.Load().Writes; n > 0 {
		return n
	}
	if p, ok := r.raiser.(faas.Paced); ok {
		return max(1, p.Pace())
	}
	return faas.DefaultPace
}

// Registry holds every function that the provider has told of. It is a
// [faas.Sink]; a look-up takes no lock.
type Registry struct {
	raiser      Raiser
	began       time.Time
	log         *zap.Logger
	removed     func(faas.ID)
	targets     sync.Map // faas.ID -> *Target
	synced      chan struct{}
	once        sync.Once
	defaults    atomic.Pointer[Defaults]
	queued      atomic.Int64 // for all functions together
	queuedBytes atomic.Int64 // of their headers
	startup     mean         // how long replicas of any function take to become ready
	scaler      *scaler
	used        sync.Map // of *Target: those that the scaler looks at
	others      atomic.Pointer[Others]
}

var _ faas.Sink = (*Registry)(nil)

// NewRegistry returns an empty registry which scales functions through r, by
// [NewDefaults] at first. After a function has gone, removed is called with its ID.
func NewRegistry(r Raiser, log *zap.Logger, removed func(faas.ID)) *Registry {
	reg := &Registry{raiser: r, began: time.Now(), log: log, removed: removed, synced: make(chan struct{})}
	d := NewDefaults()
	reg.defaults.Store(&d)
	reg.scaler = newScaler(reg)
	return reg
}

// Configure makes functions obey other defaults from now on.
func (r *Registry) Configure(d Defaults) {
	if *r.defaults.Load() == d {
		return
	}
	r.defaults.Store(&d)
	for t := range r.All() {
		t.reconsider()
	}
}

// Heed makes functions be scaled by what all gateways have to do, from now on; nil: there are no other ones.
func (r *Registry) Heed(o Others) {
	if o == nil {
		r.others.Store(nil)
		return
	}
	r.others.Store(&o)
}

// Close ends the scaler and its calls to the engine. Requests that wait still end by their own deadlines.
func (r *Registry) Close() { r.scaler.close() }

// Lookup returns the function, or nil if there is none. Until the provider has
// told of all that exist, it waits for that, no longer than wait and the context.
func (r *Registry) Lookup(ctx context.Context, id faas.ID, wait time.Duration) *Target {
	if t := r.get(id); t != nil {
		return t
	}
	r.Wait(ctx, wait)
	return r.get(id)
}

// Wait reports whether the provider has told of all functions that exist. It
// waits for that, no longer than wait and the context.
func (r *Registry) Wait(ctx context.Context, wait time.Duration) bool {
	select {
	case <-r.synced:
		return true
	default:
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-r.synced:
		return true
	case <-ctx.Done():
	case <-timer.C:
	}
	return false
}

// All yields every function.
func (r *Registry) All() iter.Seq[*Target] {
	return func(yield func(*Target) bool) {
		r.targets.Range(func(_, t any) bool { return yield(t.(*Target)) })
	}
}

// Set makes d what requests meet from now on.
func (r *Registry) Set(d faas.Deployment) {
	t := r.get(d.ID)
	if t == nil {
		t = newTarget(r, d)
		r.targets.Store(d.ID, t)
		t.look()
		return
	}
	t.set(d)
}

// Delete forgets a function; those who wait for it are told that there is none.
func (r *Registry) Delete(id faas.ID) {
	if t, ok := r.targets.LoadAndDelete(id); ok {
		t.(*Target).fail(faas.ErrNotFound)
		r.removed(id)
	}
}

// Synced lets look-ups of unknown names fail from now on.
func (r *Registry) Synced() { r.once.Do(func() { close(r.synced) }) }

func (r *Registry) get(id faas.ID) *Target {
	if t, ok := r.targets.Load(id); ok {
		return t.(*Target)
	}
	return nil
}

// clock counts nanoseconds from shortly before the registry was made, so that 0
// is long ago. Changes of the wall clock don't move it.
func (r *Registry) clock() int64 { return int64(time.Since(r.began) + time.Hour) }

// counters are what the metrics, the page and the scaler all read.
type counters struct {
	started, coldStarts, completed atomic.Uint64
	inFlight, queued, streams      atomic.Int64
	busy                           atomic.Int64 // ns that the completed ones took
}

// A mean of durations gives the latest a weight of a quarter. It is changed by the scaler only; 0: nothing is known.
type mean struct{ ns atomic.Int64 }

func (m *mean) add(d time.Duration) {
	old := m.ns.Load()
	if old == 0 {
		old = int64(d)
	}
	m.ns.Store(old + (int64(d)-old)/4)
}

func (m *mean) load() time.Duration { return time.Duration(m.ns.Load()) }
