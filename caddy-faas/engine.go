package caddyfaas

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/scale"
)

// engine is a provider and what is known of its functions. It lives from the
// first configuration that names it to the last.
type engine struct {
	provider      faas.Provider
	orchestration string // the provider module's name
	registry      *scale.Registry
	domains       *domains
	edges         sync.Map // faas.ID -> *edge
	alerts        alerts
	past          past
	peering       *peering
	capacity      *scale.CapacityWatch
	feed          *feed
	log           *zap.Logger

	mu      sync.Mutex
	running []*App // started and not stopped, the one that is obeyed last
	cancel  context.CancelFunc
	watch   sync.WaitGroup
}

func newEngine(p faas.Provider, name string, log *zap.Logger) (*engine, error) {
	if _, ok := p.(faas.Watcher); !ok {
		return nil, fmt.Errorf("provider %T does not tell what runs: it is no faas.Watcher", p)
	}
	e := &engine{provider: p, orchestration: name, log: log}
	e.registry = scale.NewRegistry(p, log, e.forget)
	e.domains = newDomains(e.registry)
	e.feed = newFeed(e)
	e.peering = newPeering(e.registry, &e.alerts, log)
	e.capacity = scale.NewCapacityWatch()
	return e, nil
}

// forget drops what is kept of a function that is gone.
func (e *engine) forget(id faas.ID) {
	e.edges.Delete(id)
	forgetMetrics(id)
	e.past.Forget(id)
}

// start makes the provider obey a. The first start also begins to watch it.
func (e *engine) start(a *App) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := a.provider.Apply(context.Background(), e.provider, a.settings); err != nil {
		return err
	}
	e.registry.Configure(a.Scale.defaults())
	e.peering.configure(a.group)
	e.running = append(e.running, a)
	if e.cancel == nil {
		var ctx context.Context
		ctx, e.cancel = context.WithCancel(context.Background())
		e.watch.Go(func() { e.remember(ctx) })
		e.watch.Go(func() { e.peering.run(ctx) })
		e.watch.Go(func() { e.tellCapacity(ctx) })
		e.watch.Go(func() {
			if err := e.provider.(faas.Watcher).Watch(ctx, &chronicle{engine: e}); err != nil && ctx.Err() == nil {
				e.log.Error("watching functions ended; the gateway must be restarted", zap.Error(err))
			}
		})
	}
	return nil
}

// stop lets a go. Caddy starts the new configuration before it stops the old
// one, and stops the new one first if another app of it fails to start: then
// the old options come back into force.
func (e *engine) stop(a *App) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := slices.Index(e.running, a)
	if i < 0 {
		return nil
	}
	obeyed := i == len(e.running)-1
	e.running = slices.Delete(e.running, i, i+1)
	if !obeyed || len(e.running) == 0 {
		return nil
	}
	old := e.running[len(e.running)-1]
	e.registry.Configure(old.Scale.defaults())
	e.peering.configure(old.group)
	if err := old.provider.Apply(context.Background(), e.provider, old.settings); err != nil {
		return fmt.Errorf("going back to the earlier configuration: %w", err)
	}
	return nil
}

// Destruct ends the provider and with it, for the local one, its processes.
func (e *engine) Destruct() error {
	if e.cancel != nil {
		e.cancel()
	}
	e.watch.Wait()
	e.registry.Close()
	others := make(map[faas.ID]bool)
	for t := range everyTarget() {
		others[t.ID()] = true
	}
	for t := range e.registry.All() {
		if !others[t.ID()] {
			forgetMetrics(t.ID())
		}
	}
	if c, ok := e.provider.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// liveCore logs through whatever logger Caddy has at the moment: an engine outlives the one that it was made under.
type liveCore struct{ fields []zapcore.Field }

func (c liveCore) Enabled(l zapcore.Level) bool { return caddy.Log().Core().Enabled(l) }

func (c liveCore) With(f []zapcore.Field) zapcore.Core {
	return liveCore{slices.Concat(c.fields, f)}
}

func (c liveCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c liveCore) Write(e zapcore.Entry, f []zapcore.Field) error {
	if ce := caddy.Log().Core().Check(e, nil); ce != nil {
		ce.Write(slices.Concat(c.fields, f)...)
	}
	return nil
}

func (c liveCore) Sync() error { return nil }

var (
	_ caddy.Destructor = (*engine)(nil)
	_ zapcore.Core     = liveCore{}
)
