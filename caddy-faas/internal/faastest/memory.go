// Package faastest holds what tests of the whole program need: a provider in
// memory, and the contract that every provider passes.
package faastest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// Memory is a provider without an engine: a replica is an address that the
// test gives. The zero value is ready for use.
type Memory struct {
	// Addr says where a new replica is, "" for one that is not ready until
	// Replicas says otherwise. Nil: ready at "127.0.0.1:1", where nobody listens.
	// It is called with a lock held and must not call the provider.
	Addr func(id faas.ID, slot int) string

	mu        sync.Mutex
	functions map[faas.ID]faas.Deployment
	secrets   map[faas.Secret][]byte
	started   int
	sink      faas.Sink
}

var (
	_ faas.Provider    = (*Memory)(nil)
	_ faas.Watcher     = (*Memory)(nil)
	_ faas.SecretStore = (*Memory)(nil)
	_ faas.Runner      = (*Memory)(nil)
)

// List returns every function.
func (m *Memory) List(ctx context.Context) ([]faas.Deployment, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.functions)), ctx.Err()
}

// Create deploys a function.
func (m *Memory) Create(ctx context.Context, fn faas.Function) error {
	return m.change(ctx, fn.ID, func(d faas.Deployment, there bool) (faas.Deployment, error) {
		if there {
			return d, faas.ErrExists
		}
		d = faas.Deployment{Function: fn, Created: time.Now(), Desired: fn.InitialReplicas()}
		if fn.IsJob() {
			d.Desired, d.Job = 0, ranJob(1, fn.Number(faas.LabelCompletions, 1))
		}
		return d, m.invalid(fn)
	})
}

// Update replaces a function's definition, and its replicas.
func (m *Memory) Update(ctx context.Context, fn faas.Function) error {
	return m.change(ctx, fn.ID, func(d faas.Deployment, there bool) (faas.Deployment, error) {
		if !there {
			return d, faas.ErrNotFound
		}
		if fn.IsJob() != (d.Job != nil) {
			return d, fmt.Errorf("%w: it can't become a job, nor the reverse", faas.ErrInvalid)
		}
		d.Function, d.Replicas = fn, nil
		if d.Job != nil {
			d.Job = ranJob(d.Job.Iteration+1, fn.Number(faas.LabelCompletions, 1))
		}
		return d, m.invalid(fn)
	})
}

// Remove deletes a function.
func (m *Memory) Remove(ctx context.Context, id faas.ID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, there := m.functions[id]; !there {
		return faas.ErrNotFound
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	delete(m.functions, id)
	if m.sink != nil {
		m.sink.Delete(id)
	}
	return nil
}

// Scale sets the number of replicas.
func (m *Memory) Scale(ctx context.Context, id faas.ID, replicas int) error {
	return m.change(ctx, id, func(d faas.Deployment, there bool) (faas.Deployment, error) {
		if !there {
			return d, faas.ErrNotFound
		}
		if replicas < 0 {
			return d, fmt.Errorf("%w: %d replicas", faas.ErrInvalid, replicas)
		}
		if d.Job != nil {
			return d, fmt.Errorf("%w: it is a job, which has no replicas: run it", faas.ErrInvalid)
		}
		d.Desired = replicas
		return d, nil
	})
}

// Run runs a job, which ends at once.
func (m *Memory) Run(ctx context.Context, id faas.ID, completions int) error {
	return m.change(ctx, id, func(d faas.Deployment, there bool) (faas.Deployment, error) {
		switch {
		case !there:
			return d, faas.ErrNotFound
		case d.Job == nil || completions < 0:
			return d, fmt.Errorf("%w: it is no job", faas.ErrInvalid)
		case d.Job.Ended.IsZero():
			return d, faas.ErrRunning
		case completions == 0:
			completions = d.Number(faas.LabelCompletions, 1)
		}
		d.Job = ranJob(d.Job.Iteration+1, completions)
		return d, nil
	})
}

func ranJob(iteration, completions int) *faas.Job {
	now, code := time.Now(), 0
	return &faas.Job{Iteration: iteration, Completions: completions, Done: completions, Began: now, Ended: now, ExitCode: &code}
}

// Job sets how a job stands.
func (m *Memory) Job(id faas.ID, j faas.Job) {
	m.alter(id, func(d *faas.Deployment) { d.Job, d.Reason = &j, j.Failure })
}

// Replicas sets what runs of a function, whatever is desired; the next change
// of the function starts from there.
func (m *Memory) Replicas(id faas.ID, replicas ...faas.Replica) {
	m.alter(id, func(d *faas.Deployment) { d.Replicas = replicas })
}

// Fail sets a function's Failing and Reason.
func (m *Memory) Fail(id faas.ID, failing bool, reason string) {
	m.alter(id, func(d *faas.Deployment) { d.Failing, d.Reason = failing, reason })
}

// Watch feeds the sink until the context ends.
func (m *Memory) Watch(ctx context.Context, sink faas.Sink) error {
	m.mu.Lock()
	if m.sink != nil {
		m.mu.Unlock()
		return errors.New("watched already")
	}
	m.sink = sink
	for _, d := range m.functions {
		sink.Set(d)
	}
	sink.Synced()
	m.mu.Unlock()
	<-ctx.Done()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sink = nil
	return ctx.Err()
}

// change replaces one deployment by what do makes of it.
func (m *Memory) change(ctx context.Context, id faas.ID, do func(d faas.Deployment, there bool) (faas.Deployment, error)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	d, there := m.functions[id]
	d, err := do(d, there)
	if err != nil {
		return err
	}
	m.set(m.settle(d))
	return nil
}

func (m *Memory) alter(id faas.ID, do func(*faas.Deployment)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if d, there := m.functions[id]; there {
		do(&d)
		m.set(d)
	}
}

// settle starts and stops replicas; slots are 1 to Desired.
func (m *Memory) settle(d faas.Deployment) faas.Deployment {
	d.Replicas = slices.Clone(d.Replicas[:min(len(d.Replicas), d.Desired)])
	for slot := len(d.Replicas) + 1; slot <= d.Desired; slot++ {
		addr := "127.0.0.1:1"
		if m.Addr != nil {
			addr = m.Addr(d.ID, slot)
		}
		m.started++
		d.Replicas = append(d.Replicas, faas.Replica{ID: fmt.Sprintf("replica-%d", m.started), Slot: slot, Addr: addr, Ready: addr != ""})
	}
	return d
}

func (m *Memory) set(d faas.Deployment) {
	if m.functions == nil {
		m.functions = map[faas.ID]faas.Deployment{}
	}
	m.functions[d.ID] = d
	if m.sink != nil {
		m.sink.Set(d)
	}
}

func (m *Memory) invalid(fn faas.Function) error {
	if err := fn.Validate(); err != nil {
		return fmt.Errorf("%w: %w", faas.ErrInvalid, err)
	}
	for _, name := range fn.Secrets {
		if _, there := m.secrets[faas.Secret{Name: name, Namespace: fn.Namespace}]; !there {
			return fmt.Errorf("%w: there is no secret %q in namespace %s", faas.ErrInvalid, name, fn.Namespace)
		}
	}
	return nil
}
