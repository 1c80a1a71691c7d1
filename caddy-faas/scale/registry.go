// Package scale knows which replicas are ready, hands each request one with a
// free slot, and holds the requests that find none: the [Registry] is fed by
// a provider, an [Invocation] leases replicas from it.
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

// raiseTimeout bounds one call to the engine, and the time until the provider
// tells what came of it. Those who wait have deadlines of their own.
const raiseTimeout = 30 * time.Second

// Registry holds every function that the provider has told of. It is a
// [faas.Sink]; a look-up takes no lock.
type Registry struct {
	raiser  Raiser
	log     *zap.Logger
	removed func(faas.ID)
	targets sync.Map // faas.ID -> *Target
	synced  chan struct{}
	once    sync.Once
	raises  sync.WaitGroup
	ctx     context.Context
	cancel  context.CancelFunc
}

var _ faas.Sink = (*Registry)(nil)

// NewRegistry returns an empty registry which wakes functions through r.
// After a function has gone, removed is called with its ID.
func NewRegistry(r Raiser, log *zap.Logger, removed func(faas.ID)) *Registry {
	ctx, cancel := context.WithCancel(context.Background())
	return &Registry{raiser: r, log: log, removed: removed, synced: make(chan struct{}), ctx: ctx, cancel: cancel}
}

// Close ends the calls to the engine that are under way. Requests that wait still end by their own deadlines.
func (r *Registry) Close() {
	r.cancel()
	r.raises.Wait()
}

// Lookup returns the function, or nil if there is none. Until the provider has
// told of all that exist, it waits for that, no longer than wait and the context.
func (r *Registry) Lookup(ctx context.Context, id faas.ID, wait time.Duration) *Target {
	if t := r.get(id); t != nil {
		return t
	}
	select {
	case <-r.synced:
		return r.get(id)
	default:
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-r.synced:
	case <-ctx.Done():
	case <-timer.C:
	}
	return r.get(id)
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

// raise asks the engine for t's first replica, in the background, and tells t how that went.
func (r *Registry) raise(t *Target, replicas int) {
	r.raises.Go(func() {
		ctx, cancel := context.WithTimeout(r.ctx, raiseTimeout)
		defer cancel()
		r.log.Info("waking function", zap.Stringer("function", t.id), zap.Int("replicas", replicas))
		err := r.raiser.Scale(ctx, t.id, replicas)
		if err != nil {
			r.log.Error("waking function failed", zap.Stringer("function", t.id), zap.Error(err))
		}
		t.raised(err)
	})
}

// clock counts nanoseconds since the program began, unmoved by changes of the wall clock.
func clock() int64 { return int64(time.Since(began)) }

var began = time.Now()

// counters are what the metrics, the page and the scaler all read.
type counters struct {
	started, coldStarts atomic.Uint64
	inFlight, queued    atomic.Int64
}
