package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// maxReplicas bounds what one function may be scaled to, against a slip of the keyboard.
const maxReplicas = 10000

var errClosed = errors.New("local provider is closed")

// An Engine runs functions as processes. It outlives the configurations that
// use it; [Provider.Apply] starts it and changes its options.
type Engine struct {
	data string // the app's data directory
	dir  string // DATA/local
	run  string // RUN; set by the first apply
	log  *zap.Logger

	secrets secrets
	mounted string // where functions see their secrets, if mounts are private; tests have another place

	op      *semaphore.Weighted       // a mutex whose waiters may give up, held to create, update or remove a function or a secret, and to apply a configuration
	started bool                      // guarded by op
	kept    records                   // set by the first apply
	held    io.Closer                 // the lock; set by the first apply
	spawn   spawner                   // set by the first apply
	iso     isolation                 // set by the first apply
	groups  *cgroups                  // set by the first apply
	weaken  func(isolation) isolation // for tests; nil: as much as there is
	opt     atomic.Value              // options in force
	offers  atomic.Pointer[catalog]   // nil before the first apply
	damaged map[faas.ID]error         // records that can't be read; set by the first apply

	stack   atomic.Pointer[stackFile] // in force; stored with op held
	applied chan struct{}             // a configuration was applied: look at once

	loaded, closed chan struct{} // closed after the first apply, by Close
	once           sync.Once     // closes loaded
	closing        sync.Mutex    // held by Close

	mu        sync.Mutex
	functions map[faas.ID]*function
	removed   map[faas.ID]record // stack file's functions that somebody removed
	leaving   map[*function]bool // removed ones whose replicas still drain
	wg        sync.WaitGroup     // the supervisors and the watcher

	sinkMu sync.RWMutex // read-held while the sink is told something
	sink   faas.Sink
}

var (
	_ faas.Provider = (*Engine)(nil)
	_ faas.Watcher  = (*Engine)(nil)
	_ faas.Logger   = (*Engine)(nil)
	_ faas.Guard    = (*Engine)(nil)
	_ faas.Paced    = (*Engine)(nil)
	_ io.Closer     = (*Engine)(nil)

	_ faas.SecretStore = (*Engine)(nil)
)

// newEngine touches nothing outside.
func newEngine(data string, log *zap.Logger) *Engine {
	return &Engine{
		data: data, dir: filepath.Join(data, "local"), log: log,
		secrets: secrets(filepath.Join(data, "local", "secrets")), mounted: secretsPlace,
		op: semaphore.NewWeighted(1), applied: make(chan struct{}, 1),
		loaded: make(chan struct{}), closed: make(chan struct{}),
		functions: map[faas.ID]*function{}, removed: map[faas.ID]record{}, leaving: map[*function]bool{},
	}
}

// pace is how many processes a second may start or end because of load: more take longer than they are worth waiting for.
const pace = 500

// Pace is of [faas.Paced].
func (e *Engine) Pace() int { return pace }

// options are those in force.
func (e *Engine) options() options { return e.opt.Load().(options) }

// find returns nil when there is no such function.
func (e *Engine) find(id faas.ID) *function {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.functions[id]
}

func (e *Engine) all() []*function {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Collect(maps.Values(e.functions))
}

// List returns every function; none before the first Apply.
func (e *Engine) List(ctx context.Context) ([]faas.Deployment, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	all := []faas.Deployment{}
	for _, f := range e.all() {
		all = append(all, f.deployment())
	}
	return all, nil
}

// Create deploys a function and starts it.
func (e *Engine) Create(ctx context.Context, fn faas.Function) error {
	if err := check(fn); err != nil {
		return fmt.Errorf("creating %s: %w", fn.ID, err)
	}
	fn = e.imaged(fn)
	return e.change(ctx, fn.ID, "creating", func() error {
		if err := e.possible(fn); err != nil {
			return err
		}
		if e.find(fn.ID) != nil {
			return faas.ErrExists
		}
		e.mu.Lock()
		rec := record{Entry: e.removed[fn.ID].Entry}
		e.mu.Unlock()
		return e.install(rec, fn)
	})
}

// Update replaces a function's definition and rolls its replicas. One that
// names no handler folder keeps the one that the function has, because
// OpenFaaS's API can't name any.
func (e *Engine) Update(ctx context.Context, fn faas.Function) error {
	if err := check(fn); err != nil {
		return fmt.Errorf("updating %s: %w", fn.ID, err)
	}
	fn = e.imaged(fn)
	return e.change(ctx, fn.ID, "updating", func() error {
		f := e.find(fn.ID)
		if f == nil {
			return faas.ErrNotFound
		}
		f.op.Acquire(context.Background(), 1)
		defer f.op.Release(1)
		rec := f.record()
		if fn.Handler == "" {
			fn.Handler = rec.Function.Handler
		}
		if err := e.possible(fn); err != nil {
			return err
		}
		return f.replace(rec, fn)
	})
}

// Remove deletes a function. Its requests may end; no new one reaches it.
func (e *Engine) Remove(ctx context.Context, id faas.ID) error {
	return e.change(ctx, id, "removing", func() error {
		f := e.find(id)
		if f == nil {
			return faas.ErrNotFound
		}
		return e.discard(f, true)
	})
}

// Scale sets the number of replicas. A slot that still drains is not used again, so after
// a quick way down and up a replica may have a higher slot than there are replicas.
func (e *Engine) Scale(ctx context.Context, id faas.ID, replicas int) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("scaling %s to %d: %w", id, replicas, err)
		}
	}()
	if replicas < 0 || replicas > maxReplicas {
		return fmt.Errorf("%w: want 0 to %d replicas", faas.ErrInvalid, maxReplicas)
	}
	f := e.find(id)
	if f == nil {
		return faas.ErrNotFound
	}
	if err := f.op.Acquire(ctx, 1); err != nil {
		return err
	}
	defer f.op.Release(1)
	if f.ending() {
		return faas.ErrNotFound
	}
	before := f.record()
	if before.Desired == replicas {
		return nil
	}
	after := before
	after.Desired = replicas
	f.set(after) // first, because somebody may be waiting for the replica: the disk takes milliseconds
	defer f.publish()
	if err := e.kept.save(after); err != nil {
		f.set(before)
		return err
	}
	return nil
}

// change runs one change of the set of functions, or of the secrets, alone.
func (e *Engine) change(ctx context.Context, what fmt.Stringer, doing string, do func() error) error {
	err := e.op.Acquire(ctx, 1)
	if err == nil {
		err = errClosed
		if e.started {
			err = do()
		}
		e.op.Release(1)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", doing, what, err)
	}
	return nil
}

// install keeps and starts a function that isn't there; what rec says beside the definition is kept.
// A damaged record is not overwritten: what it says was acknowledged once.
func (e *Engine) install(rec record, fn faas.Function) error {
	if err := e.damaged[fn.ID]; err != nil {
		if _, gone := os.Lstat(e.kept.path(fn.ID)); gone == nil {
			return fmt.Errorf("%w; remove that file, or mend it and restart", err)
		}
	}
	rec.Function = clone(fn)
	rec.Desired = fn.InitialReplicas()
	rec.Created = time.Now().UTC()
	rec.Version = e.lastVersion(fn.ID) + 1
	rec.UID = e.freeUID(fn.ID)
	if err := e.kept.save(rec); err != nil {
		return err
	}
	e.begin(rec)
	e.log.Info("function created", zap.Stringer("function", fn.ID))
	return nil
}

// begin starts the supervisor of a record's function.
func (e *Engine) begin(rec record) {
	f := newFunction(e, rec)
	e.mu.Lock()
	e.functions[f.id] = f
	delete(e.removed, f.id)
	e.mu.Unlock()
	e.wg.Add(1)
	f.publish()
	go f.supervise()
}

// discard deletes a function. With mark, one of the stack file's stays away until its entry changes.
func (e *Engine) discard(f *function, mark bool) error {
	f.op.Acquire(context.Background(), 1)
	defer f.op.Release(1)
	rec := f.record()
	if rec.Removed = mark && rec.Entry != ""; !rec.Removed {
		if err := e.kept.drop(f.id); err != nil {
			return err
		}
	} else if err := e.kept.save(rec); err != nil {
		return err
	}
	e.mu.Lock()
	e.leaving[f] = true // before its supervisor can be done
	e.mu.Unlock()
	f.end(true)
	e.mu.Lock()
	delete(e.functions, f.id)
	if rec.Removed {
		e.removed[f.id] = rec
	}
	e.mu.Unlock()
	f.wake()
	e.log.Info("function removed", zap.Stringer("function", f.id))
	return nil
}

// lastVersion is the version of a removed function of this ID that still
// drains: its working directories must not be met again.
func (e *Engine) lastVersion(id faas.ID) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	last := e.removed[id].Version
	for f := range e.leaving {
		if f.id == id {
			last = max(last, f.record().Version)
		}
	}
	return last
}

// left is called by a supervisor that has nothing more to do.
func (e *Engine) left(f *function) {
	e.mu.Lock()
	delete(e.leaving, f)
	e.mu.Unlock()
	e.wg.Done()
}

// Close lets requests end, within each function's own time limit, stops every
// replica and gives the data directory back.
func (e *Engine) Close() error {
	e.closing.Lock() // a second call returns when the first does
	defer e.closing.Unlock()
	e.op.Acquire(context.Background(), 1)
	select {
	case <-e.closed:
		e.op.Release(1)
		return nil
	default:
	}
	close(e.closed)
	started := e.started
	e.started = false
	e.op.Release(1) // from here on whatever needs it is refused, and need not wait for the requests
	if !started {
		return nil
	}
	for _, f := range e.all() {
		f.end(false)
		f.wake()
	}
	e.wg.Wait()
	e.spawn.end()
	e.groups.end()
	return errors.Join(os.Remove(e.run), e.held.Close())
}

// check reports what can't be run by this provider at all.
func check(fn faas.Function) error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{faas.ErrInvalid}, args...)...)
	}
	if err := fn.Validate(); err != nil {
		return fail("%w", err)
	}
	if fn.Handler != "" && !filepath.IsAbs(fn.Handler) {
		return fail("handler %q: want an absolute path", fn.Handler)
	}
	if fn.IsJob() {
		return fail("label %s: jobs need the swarm provider; here let cron or a systemd timer run the command itself", faas.LabelJob)
	}
	if fn.Command() != "" {
		if _, err := faas.Words(fn.Command()); err != nil {
			return fail("fprocess: %w", err)
		}
	}
	if _, err := limitsOf(fn, limits{}); err != nil {
		return fail("%w", err)
	}
	for _, s := range secretsOf(fn) {
		if err := s.Validate(); err != nil {
			return fail("%w", err)
		}
	}
	for name, value := range fn.Env {
		if !validEnv(name, value) {
			return fail("environment variable %q can't be set", name)
		}
	}
	return nil
}

// clone copies what a caller might change later.
func clone(fn faas.Function) faas.Function {
	fn.Env, fn.Labels, fn.Annotations = maps.Clone(fn.Env), maps.Clone(fn.Labels), maps.Clone(fn.Annotations)
	fn.Limits, fn.Requests = maps.Clone(fn.Limits), maps.Clone(fn.Requests)
	fn.Secrets, fn.Constraints = slices.Clone(fn.Secrets), slices.Clone(fn.Constraints)
	return fn
}
