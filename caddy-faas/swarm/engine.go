package swarm

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"github.com/docker/docker/api/types/swarm"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// tries is how often a change is made anew because somebody else made one meanwhile.
const tries = 10

// An Engine runs functions as services. It keeps nothing but what it has read:
// the swarm has it all. [Provider.Apply] changes its options.
type Engine struct {
	network string // its name
	docker  cluster
	log     *zap.Logger
	opt     atomic.Pointer[options] // nil before the first apply
	table   *table
	heard   atomic.Int64 // when the engine last answered, in Unix nanoseconds; 0: never
	seed    maphash.Seed
	locks   [64]*semaphore.Weighted // changes of one function come one after the other
	secrets *semaphore.Weighted     // changes of secrets do; held while functions are changed for them
}

var (
	_ faas.Provider  = (*Engine)(nil)
	_ faas.Watcher   = (*Engine)(nil)
	_ faas.Pinger    = (*Engine)(nil)
	_ faas.Guard     = (*Engine)(nil)
	_ faas.Aging     = (*Engine)(nil)
	_ faas.Adjuster  = (*Engine)(nil)
	_ faas.Refresher = (*Engine)(nil)
	_ io.Closer      = (*Engine)(nil)
)

// newEngine touches nothing outside.
func newEngine(docker cluster, network string, log *zap.Logger) *Engine {
	e := &Engine{network: network, docker: docker, log: log, table: newTable(log), seed: maphash.MakeSeed(), secrets: semaphore.NewWeighted(1)}
	for i := range e.locks {
		e.locks[i] = semaphore.NewWeighted(1)
	}
	return e
}

// options are those in force.
func (e *Engine) options() (*options, error) {
	if o := e.opt.Load(); o != nil {
		return o, nil
	}
	return nil, fmt.Errorf("%w: the gateway is starting", faas.ErrUnavailable)
}

// Close lets go of the connection. Functions go on.
func (e *Engine) Close() error { return e.docker.Close() }

// answered notes that the engine is there.
func (e *Engine) answered() { e.heard.Store(time.Now().UnixNano()) }

// Age is how long ago the engine last answered.
func (e *Engine) Age() (time.Duration, bool) {
	at := e.heard.Load()
	return time.Since(time.Unix(0, at)), at != 0
}

// Refresh reads a function again, as [faas.Refresher] says: of what ends on another machine nobody tells.
func (e *Engine) Refresh(id faas.ID) { e.table.doubt(id) }

// Ping makes the manager read its store.
func (e *Engine) Ping(ctx context.Context) error {
	if err := e.docker.ping(ctx); err != nil {
		return err
	}
	e.answered()
	return nil
}

// Allowed reports why an image may not be deployed: its options hold whatever else is allowed.
func (e *Engine) Allowed(fn faas.Function, _, _ bool) error {
	o, err := e.options()
	if err != nil {
		return err
	}
	return o.allowed(fn.Image)
}

// List reads every function from the swarm.
func (e *Engine) List(ctx context.Context) ([]faas.Deployment, error) {
	all, network, err := e.functions(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing functions: %w", err)
	}
	tasks, err := e.docker.tasks(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing functions: %w", err)
	}
	r := &reading{services: all, tasks: byService(tasks), network: network}
	if err := e.addHistory(ctx, r); err != nil {
		return nil, fmt.Errorf("listing functions: %w", err)
	}
	list := []faas.Deployment{}
	seen := map[faas.ID]bool{}
	for _, s := range all {
		st, ok := newState(s, r.tasks[s.ID])
		if ok && !seen[st.id] {
			seen[st.id] = true
			list = append(list, st.deployment(view{network: network, now: time.Now()}))
		}
	}
	return list, nil
}

// functions reads the services that are functions of this network, the oldest first.
func (e *Engine) functions(ctx context.Context) (all []swarm.Service, network string, err error) {
	if network, err = e.docker.networkID(ctx, e.network); errors.Is(err, faas.ErrNotFound) {
		return nil, "", e.noNetwork()
	} else if err != nil {
		return nil, "", err
	}
	if all, err = e.docker.services(ctx); err != nil {
		return nil, "", err
	}
	all = slices.DeleteFunc(all, func(s swarm.Service) bool {
		id, ok := identity(&s.Spec)
		return !ok || id.Validate() != nil || !on(&s.Spec, e.network, network)
	})
	slices.SortFunc(all, func(a, b swarm.Service) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return all, network, nil
}

// find reads the service of a function; ErrNotFound.
func (e *Engine) find(ctx context.Context, id faas.ID) (swarm.Service, error) {
	if service, _ := e.table.find(id); service != "" {
		some, err := e.docker.services(ctx, service)
		if err != nil {
			return swarm.Service{}, err
		}
		if len(some) == 1 {
			return some[0], nil
		}
	}
	all, _, err := e.functions(ctx) // another gateway may just have made it
	if err != nil {
		return swarm.Service{}, err
	}
	for _, s := range all {
		if got, _ := identity(&s.Spec); got == id {
			return s, nil
		}
	}
	return swarm.Service{}, faas.ErrNotFound
}

// Create deploys a function as a new service.
func (e *Engine) Create(ctx context.Context, fn faas.Function) error {
	return e.alone(ctx, fn.ID, "creating", func() error {
		if err := fn.Validate(); err != nil {
			return fmt.Errorf("%w: %w", faas.ErrInvalid, err)
		}
		switch _, err := e.find(ctx, fn.ID); {
		case err == nil:
			return faas.ErrExists
		case !errors.Is(err, faas.ErrNotFound):
			return err
		}
		spec, auth, err := e.specOf(ctx, fn)
		if err != nil {
			return err
		}
		id, err := e.docker.createService(ctx, spec, auth)
		if errors.Is(err, faas.ErrExists) {
			return e.taken(ctx, fn.ID, spec.Name)
		}
		if err != nil {
			return err
		}
		e.log.Info("function created", zap.Stringer("function", fn.ID))
		e.refresh(ctx, id)
		return nil
	})
}

// taken says whose a service's name is: another gateway may have made the same function meanwhile.
func (e *Engine) taken(ctx context.Context, id faas.ID, name string) error {
	if _, err := e.find(ctx, id); err == nil {
		return faas.ErrExists
	}
	return fmt.Errorf("%w: the swarm has another service named %s, which is not this function", faas.ErrInvalid, name)
}

// specOf is the service for a definition, and what to pull its image with.
func (e *Engine) specOf(ctx context.Context, fn faas.Function) (spec swarm.ServiceSpec, auth string, err error) {
	o, err := e.options()
	if err != nil {
		return spec, "", err
	}
	secrets, err := e.secretsOf(ctx, o, fn)
	if err != nil {
		return spec, "", err
	}
	if spec, err = o.spec(fn, secrets); err != nil {
		return spec, "", err
	}
	auth, err = o.authFor(fn.Image)
	return spec, auth, err
}

// Update replaces a function's definition. What the old one and the new one agree in stays as somebody may have set it since.
func (e *Engine) Update(ctx context.Context, fn faas.Function) error {
	return e.alone(ctx, fn.ID, "updating", func() error {
		if err := fn.Validate(); err != nil {
			return fmt.Errorf("%w: %w", faas.ErrInvalid, err)
		}
		return e.change(ctx, fn.ID, func(s swarm.Service) (spec swarm.ServiceSpec, auth string, err error) {
			after, auth, err := e.specOf(ctx, fn)
			if err != nil {
				return spec, "", err
			}
			if (after.Mode.ReplicatedJob != nil) != (s.Spec.Mode.ReplicatedJob != nil) {
				return spec, "", fmt.Errorf("%w: label %s: what is called can't become a job, nor the reverse: remove it first", faas.ErrInvalid, faas.LabelJob)
			}
			old := functionOf(&s.Spec, fn.ID)
			o, err := e.options()
			if err != nil {
				return spec, "", err
			}
			before, err := o.build(old, mounts(old.Secrets))
			if err != nil { // it was deployed under other rules, or otherwise
				before = emptySpec()
			}
			return merge(s.Spec, before, after), auth, nil
		})
	})
}

// Remove deletes a function's service; its replicas end in good order.
func (e *Engine) Remove(ctx context.Context, id faas.ID) error {
	return e.alone(ctx, id, "removing", func() error {
		s, err := e.find(ctx, id)
		if err != nil {
			return err
		}
		if err := e.docker.removeService(ctx, s.ID); err != nil {
			return err
		}
		e.log.Info("function removed", zap.Stringer("function", id))
		e.refresh(ctx, s.ID)
		return nil
	})
}

// errNothing ends a change that changes nothing.
var errNothing = errors.New("nothing to change")

// change replaces a service's spec by what do makes of it, again if somebody else changes it meanwhile.
// A scaling that somebody has left halfway is completed first.
func (e *Engine) change(ctx context.Context, id faas.ID, do func(swarm.Service) (swarm.ServiceSpec, string, error)) error {
	for try := 1; ; try++ {
		s, err := e.find(ctx, id)
		if err != nil {
			return err
		}
		auth := authOfPrevious
		spec, halfway := rest(&s)
		if !halfway {
			s.Spec = unmarked(s.Spec)
			spec, auth, err = do(s)
		}
		if errors.Is(err, errNothing) {
			e.refresh(ctx, s.ID)
			return nil
		}
		if err != nil {
			return err
		}
		err = e.docker.updateService(ctx, s, spec, auth)
		if errors.Is(err, errOutOfSequence) && try < tries {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Duration(10+rand.IntN(40)) * time.Millisecond):
			}
			continue
		}
		if err != nil {
			return err
		}
		if halfway {
			continue
		}
		e.refresh(ctx, s.ID)
		return nil
	}
}

// alone runs one change of a function at a time.
func (e *Engine) alone(ctx context.Context, id faas.ID, doing string, do func() error) error {
	return locked(ctx, e.locks[maphash.Comparable(e.seed, id)%uint64(len(e.locks))], doing+" "+id.String(), do)
}

// locked does something while it has a lock. Who has that of secrets may take a function's, not the reverse.
func locked(ctx context.Context, lock *semaphore.Weighted, doing string, do func() error) error {
	err := lock.Acquire(ctx, 1)
	if err == nil {
		err = do()
		lock.Release(1)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

// refresh tells the watch what a change has done. The change is made, so what fails here is left to the watch.
func (e *Engine) refresh(ctx context.Context, service string) {
	if !e.table.watched() {
		return
	}
	if err := e.readSome(context.WithoutCancel(ctx), service); err != nil {
		e.log.Warn("reading a changed service", zap.String("service", service), zap.Error(err))
	}
	e.table.touch(service)
}
