package swarm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/internal/faastest"
)

// A fake is a cluster in memory: what a service wants runs at once.
type fake struct {
	mu        sync.Mutex
	all       map[string]swarm.Service
	byTask    map[string][]swarm.Task // by service
	kept      []swarm.Secret
	machines  []swarm.Node
	down      []string // nodes
	silent    bool     // every call waits for its deadline
	broken    error    // every call fails
	conflicts int      // so many updates are out of sequence
	between   func()   // done once after an update
	version   uint64
	log       string // of every service, framed
	calls     map[string]int
	watchers  []chan event
	end       []chan error
}

func newFake() *fake {
	return &fake{all: map[string]swarm.Service{}, byTask: map[string][]swarm.Task{}, calls: map[string]int{}}
}

// enter counts a call, and fails it when it must.
func (f *fake) enter(ctx context.Context, name string, limit time.Duration) error {
	f.mu.Lock()
	f.calls[name]++
	silent, broken := f.silent, f.broken
	f.mu.Unlock()
	if broken != nil {
		return broken
	}
	return call(ctx, limit, func(ctx context.Context) error {
		if silent {
			<-ctx.Done()
		}
		return ctx.Err()
	})
}

func (f *fake) node(ctx context.Context) (string, error) {
	return "n1", f.enter(ctx, "node", readTimeout)
}

func (f *fake) consumed(ctx context.Context, _ string) (time.Duration, uint64, error) {
	return time.Second, 1 << 20, f.enter(ctx, "consumed", readTimeout)
}

func (f *fake) services(ctx context.Context, ids ...string) (some []swarm.Service, err error) {
	err = f.enter(ctx, "services", readTimeout)
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, s := range f.all {
		if len(ids) == 0 || slices.Contains(ids, id) {
			some = append(some, s)
		}
	}
	return some, err
}

func (f *fake) createService(ctx context.Context, spec swarm.ServiceSpec, _ string) (string, error) {
	if err := f.enter(ctx, "create", writeTimeout); err != nil {
		return "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.all {
		if s.Spec.Name == spec.Name {
			return "", faas.ErrExists
		}
	}
	f.version++
	if n := spec.TaskTemplate.Networks; n[0].Target == "net" { // as the engine does
		spec.TaskTemplate.Networks = []swarm.NetworkAttachmentConfig{{Target: "net-id", Aliases: n[0].Aliases}}
	}
	s := swarm.Service{ID: fmt.Sprint("s", f.version), Spec: spec}
	s.CreatedAt = time.Now()
	f.keep(s, spec)
	return s.ID, nil
}

// keep stores a service and what runs of it.
func (f *fake) keep(s swarm.Service, spec swarm.ServiceSpec) {
	f.version++
	if old, ok := f.all[s.ID]; ok {
		s.PreviousSpec = &old.Spec
	}
	s.Spec, s.Version = spec, swarm.Version{Index: f.version}
	f.all[s.ID] = s
	f.byTask[s.ID] = nil
	for slot := range *spec.Mode.Replicated.Replicas {
		f.byTask[s.ID] = append(f.byTask[s.ID], task(s, int(slot)+1, swarm.TaskStateRunning, swarm.TaskStateRunning, f.version))
	}
	f.tell(event{service: s.ID})
}

// task is one of a service on node n1, on the network net.
func task(s swarm.Service, slot int, state, desired swarm.TaskState, n uint64) swarm.Task {
	t := swarm.Task{ID: fmt.Sprintf("%s.%d.%d", s.ID, slot, n), ServiceID: s.ID, Slot: slot, NodeID: "n1", DesiredState: desired, Spec: s.Spec.TaskTemplate}
	t.Status.State = state
	t.Status.ContainerStatus = &swarm.ContainerStatus{ContainerID: t.ID}
	t.CreatedAt = time.Unix(int64(n), 0)
	t.Status.Timestamp = t.CreatedAt
	a := swarm.NetworkAttachment{Addresses: []string{fmt.Sprintf("10.0.0.%d/24", slot)}}
	a.Network.ID = "net-id"
	t.NetworksAttachments = []swarm.NetworkAttachment{a}
	return t
}

// set replaces a service's tasks without anybody being told.
func (f *fake) set(id string, change func(s *swarm.Service, tasks []swarm.Task) []swarm.Task) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.all[id]
	f.byTask[id] = change(&s, slices.Clone(f.byTask[id]))
	f.all[id] = s
}

func (f *fake) tell(ev event) {
	for _, w := range f.watchers {
		w <- ev
	}
}

func (f *fake) updateService(ctx context.Context, s swarm.Service, spec swarm.ServiceSpec, _ string) error {
	if err := f.enter(ctx, "update", writeTimeout); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	now, ok := f.all[s.ID]
	if f.conflicts > 0 || ok && now.Version != s.Version {
		f.conflicts--
		return errOutOfSequence
	}
	if !ok {
		return faas.ErrNotFound
	}
	f.keep(now, spec)
	if between := f.between; between != nil {
		f.between = nil
		f.mu.Unlock()
		between()
		f.mu.Lock()
	}
	return nil
}

func (f *fake) removeService(ctx context.Context, id string) error {
	if err := f.enter(ctx, "remove", writeTimeout); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.all, id)
	delete(f.byTask, id)
	f.tell(event{service: id})
	return nil
}

func (f *fake) tasks(ctx context.Context, services ...string) (some []swarm.Task, err error) {
	err = f.enter(ctx, "tasks", readTimeout)
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, tasks := range f.byTask {
		for _, t := range tasks {
			if slices.Contains(services, id) || len(services) == 0 && t.DesiredState == swarm.TaskStateRunning {
				some = append(some, t)
			}
		}
	}
	return some, err
}

func (f *fake) nodes(ctx context.Context) (all []swarm.Node, err error) {
	f.mu.Lock()
	all = slices.Clone(f.machines)
	for _, id := range f.down {
		all = append(all, swarm.Node{ID: id, Status: swarm.NodeStatus{State: swarm.NodeStateDown}})
	}
	f.mu.Unlock()
	return all, f.enter(ctx, "nodes", readTimeout)
}

func (f *fake) networkID(ctx context.Context, name string) (string, error) {
	return name + "-id", f.enter(ctx, "network", readTimeout)
}

func (f *fake) events(context.Context) (<-chan event, <-chan error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	events, ended := make(chan event, 1000), make(chan error, 1)
	f.watchers, f.end = append(f.watchers, events), append(f.end, ended)
	return events, ended
}

func (f *fake) ping(ctx context.Context) error { return f.enter(ctx, "ping", readTimeout) }

func (f *fake) secrets(context.Context) ([]swarm.Secret, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.kept), nil
}

func (f *fake) createSecret(_ context.Context, spec swarm.SecretSpec) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := swarm.Secret{ID: fmt.Sprint("secret", len(f.kept)), Spec: spec}
	f.kept = append(f.kept, s)
	return s.ID, nil
}

func (f *fake) removeSecret(context.Context, string) error { return errors.ErrUnsupported }
func (f *fake) logs(context.Context, string, faas.LogQuery) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(f.log)), nil
}
func (f *fake) Close() error { return nil }

// hush makes every call wait for its deadline, or fail with an error, and ends the streams of events.
func (f *fake) hush(silent bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.silent, f.broken = silent, err
	for _, c := range f.end {
		c <- io.EOF
	}
	f.watchers, f.end = nil, nil
}

// fail makes every call fail with an error, or none any more.
func (f *fake) fail(err error) {
	f.mu.Lock()
	f.broken = err
	f.mu.Unlock()
}

func (f *fake) count() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.calls)
}

// onFake is an engine on a fake cluster.
func onFake(t *testing.T) (*fake, *Engine, *observer.ObservedLogs) {
	core, log := observer.New(zapcore.InfoLevel)
	f := newFake()
	return f, f.engine(t, zap.WrapCore(func(zapcore.Core) zapcore.Core { return core })), log
}

// engine is one more on it.
func (f *fake) engine(t *testing.T, log ...zap.Option) *Engine {
	p := &Provider{Network: "net", docker: f}
	e := p.Open(faas.Settings{}, zap.NewNop().WithOptions(log...)).(*Engine)
	e.table.ask = func(context.Context, string) error { return nil }
	must(t, p.Apply(background, e, faas.Settings{}))
	return e
}

var plain = faas.Function{ID: faas.ParseID("f"), Image: "img"}

func TestSilentEngine(t *testing.T) {
	for name, cause := range map[string]error{"no answer": nil, "refused": fmt.Errorf("%w: connection refused", faas.ErrUnavailable)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, e, log := onFake(t)
				if _, ok := e.Age(); ok {
					t.Error("an engine that never answered has an age")
				}
				watch := faastest.Record(t, e, nil)
				must(t, e.Create(background, plain))
				replica := watch.UntilReady(t, plain.ID, 1)[0]
				f.hush(cause == nil, cause)
				time.Sleep(10 * time.Minute)
				if age, ok := e.Age(); !ok || age < 9*time.Minute {
					t.Errorf("age is %s, %v", age, ok)
				}
				if now := watch.Deployment(plain.ID); faastest.Ready(now) != 1 || now.Replicas[0] != replica {
					t.Errorf("what was known has become %+v", now)
				}
				began := time.Now()
				for what, err := range map[string]error{
					"create": e.Create(background, faas.Function{ID: faas.ParseID("g"), Image: "img"}), "update": e.Update(background, plain),
					"scale": e.Scale(background, plain.ID, 2), "remove": e.Remove(background, plain.ID), "ping": e.Ping(background),
				} {
					if !errors.Is(err, faas.ErrUnavailable) {
						t.Errorf("%s: %v", what, err)
					}
				}
				if took := time.Since(began); took > 60*time.Second {
					t.Errorf("five calls took %s", took)
				}
				if n := log.FilterMessageSnippet("going on with what is known").Len(); n != 1 {
					t.Errorf("logged %d times", n)
				}
				f.hush(false, nil)
				must(t, e.Scale(background, plain.ID, 2))
				watch.UntilReady(t, plain.ID, 2)
				time.Sleep(readTimeout + 2*reconnect)
				if age, _ := e.Age(); age > heartbeat || log.FilterMessageSnippet("answers again").Len() != 1 {
					t.Errorf("age is %s; %v", age, log.All())
				}
			})
		})
	}
}

func TestOutOfSequence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, e, _ := onFake(t)
		must(t, e.Create(background, plain))
		f.conflicts = tries - 1
		must(t, e.Scale(background, plain.ID, 3))
		f.conflicts = 2
		looked := 0
		if n, err := e.Adjust(background, plain.ID, func(now int) int { looked++; return now + 2 }); n != 5 || err != nil || looked != 3 {
			t.Errorf("adjusted from 3 to %d after %d looks, want 5 after 3: %v", n, looked, err)
		}
		f.conflicts = tries
		if err := e.Scale(background, plain.ID, 4); !errors.Is(err, errOutOfSequence) {
			t.Errorf("%v", err)
		}
		f.conflicts = 1000
		ctx, cancel := context.WithTimeout(background, 50*time.Millisecond)
		defer cancel()
		if err := e.Scale(ctx, plain.ID, 4); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}

// At rest nothing is read but the heartbeat and the full read, which is rarer the more functions there are.
func TestRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, e, _ := onFake(t)
		for i := range 200 {
			fn := plain
			fn.Name = fmt.Sprint("f", i)
			spec, err := e.opt.Load().spec(fn, nil)
			must(t, err)
			_, err = f.createService(background, spec, "")
			must(t, err)
		}
		faastest.Record(t, e, nil)
		time.Sleep(time.Minute)
		before := f.count()
		time.Sleep(10 * time.Minute)
		after := f.count()
		if full, beats := after["services"]-before["services"], after["ping"]-before["ping"]; full > 43 || full < 41 || beats < 100 || beats > 125 {
			t.Errorf("in ten minutes %d full reads and %d heartbeats", full, beats)
		}
	})
	if a, b, c := resyncAfter(5), resyncAfter(1000), resyncAfter(100000); a != 5*time.Second || b < 2*time.Minute || b > 4*time.Minute || c != 5*time.Minute {
		t.Errorf("full reads come after %s, %s, %s", a, b, c)
	}
}

// What nobody tells of is found by the full read.
func TestUntold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, e, _ := onFake(t)
		watch := faastest.Record(t, e, nil)
		must(t, e.Create(background, plain))
		old := watch.UntilReady(t, plain.ID, 1)[0]
		time.Sleep(time.Minute)
		f.set("s1", func(s *swarm.Service, _ []swarm.Task) []swarm.Task {
			return []swarm.Task{task(*s, 1, swarm.TaskStateRunning, swarm.TaskStateRunning, 77)}
		})
		watch.Until(t, "the other replica", func(now map[faas.ID]faas.Deployment) bool {
			d := now[plain.ID]
			return faastest.Ready(d) == 1 && d.Replicas[0].ID != old.ID
		})
	})
}

// amongThousand is the function plain on a fake that has a thousand others, of which full reads are minutes apart.
func amongThousand(t *testing.T) (*fake, *Engine, swarm.Service, *faastest.Recorder) {
	t.Helper()
	f, e, _ := onFake(t)
	for i := range 1000 {
		fn := plain
		fn.Name = fmt.Sprint("g", i)
		spec, err := e.opt.Load().spec(fn, nil)
		must(t, err)
		_, err = f.createService(background, spec, "")
		must(t, err)
	}
	must(t, e.Create(background, plain))
	service, err := e.find(background, plain.ID)
	must(t, err)
	return f, e, service, faastest.Record(t, e, nil)
}

// Replicas that end soon after their start are found where full reads are minutes apart and nobody tells of them, and
// it is told that they do while the next one serves, for a minute.
func TestShortLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, e, service, watch := amongThousand(t)
		life := func(ends int, at time.Time) (all []swarm.Task) { // the last of them runs since then
			for n := range ends + 1 {
				all = append(all, task(service, 1, swarm.TaskStateFailed, swarm.TaskStateShutdown, uint64(n)))
				all[n].Status.Err = "task: non-zero exit (3)"
				all[n].Status.Timestamp = at
			}
			all[ends].Status.Err, all[ends].Status.State, all[ends].DesiredState = "", swarm.TaskStateRunning, swarm.TaskStateRunning
			return all
		}
		began := time.Now()
		f.set(service.ID, func(*swarm.Service, []swarm.Task) []swarm.Task { return life(0, began) })
		e.Refresh(plain.ID)
		const reason = "replica 1: task: non-zero exit (3), again and again"
		for ends := range 4 {
			now := time.Now()
			f.set(service.ID, func(*swarm.Service, []swarm.Task) []swarm.Task { return life(ends, now) })
			time.Sleep(8 * time.Second)
			d := watch.Deployment(plain.ID)
			if want := map[bool]string{true: reason}[ends > 1]; faastest.Ready(d) != 1 || d.Replicas[0].ID != life(ends, now)[ends].ID || d.Reason != want {
				t.Errorf("after %d ends: %+v %q", ends, d.Replicas, d.Reason)
			}
		}
		must(t, e.readAll(background)) // past tasks are not among what this reads first
		if d := watch.Deployment(plain.ID); d.Reason != reason {
			t.Errorf("the reason has become %q", d.Reason)
		}
		time.Sleep(time.Minute)
		if d := watch.Deployment(plain.ID); d.Reason != "" {
			t.Errorf("a minute after its last end: %q", d.Reason)
		}
	})
}

// A request that failed makes the function be read at once, but no more than once a second.
func TestRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, e, service, watch := amongThousand(t)
		time.Sleep(time.Minute)
		f.set(service.ID, func(s *swarm.Service, _ []swarm.Task) []swarm.Task {
			return []swarm.Task{task(*s, 1, swarm.TaskStateRunning, swarm.TaskStateRunning, 77)}
		})
		began, calls := time.Now(), f.count()["tasks"]
		e.Refresh(plain.ID)
		watch.Until(t, "the other replica", func(now map[faas.ID]faas.Deployment) bool {
			d := now[plain.ID]
			return faastest.Ready(d) == 1 && d.Replicas[0].ID == task(service, 1, "", "", 77).ID
		})
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %s", took)
		}
		for range 100 {
			e.Refresh(plain.ID)
			e.Refresh(faas.ParseID("nothing"))
		}
		time.Sleep(minDoubt - time.Since(began) - time.Millisecond)
		if n := f.count()["tasks"] - calls; n > int(calm/minPoll)+2 {
			t.Errorf("read %d times within a second", n)
		}
		// Where something is on its way it is read neither more often nor taken for younger.
		f.set(service.ID, func(s *swarm.Service, _ []swarm.Task) []swarm.Task {
			stuck := task(*s, 1, swarm.TaskStatePending, swarm.TaskStateRunning, 78)
			stuck.Status.Err = "no suitable node"
			return []swarm.Task{stuck}
		})
		for range 30 {
			e.Refresh(plain.ID)
			time.Sleep(time.Second)
		}
		if d := watch.Deployment(plain.ID); d.Pending == 0 || !strings.Contains(d.Reason, "no suitable node") {
			t.Errorf("it is %+v", d)
		}
	})
}

// A replica on a lost node is lost once it can't be reached either, whatever Swarm says of it by then.
func TestLostReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, e, _ := onFake(t)
		var reach atomic.Bool
		reach.Store(true)
		e.table.ask = func(context.Context, string) error {
			if reach.Load() {
				return nil
			}
			return errUnreachable
		}
		watch := faastest.Record(t, e, nil)
		must(t, e.Create(background, plain))
		old := watch.UntilReady(t, plain.ID, 1)[0]
		down := func(nodes ...string) {
			f.mu.Lock()
			f.down = nodes
			f.tell(event{node: "n1"})
			f.mu.Unlock()
		}
		down("n1")
		f.set("s1", func(s *swarm.Service, tasks []swarm.Task) []swarm.Task {
			tasks[0].DesiredState = swarm.TaskStateShutdown
			next := task(*s, 1, swarm.TaskStateRunning, swarm.TaskStateRunning, 77)
			next.NodeID = "n2"
			return append(tasks, next)
		})
		watch.Until(t, "the replica that replaces it", func(now map[faas.ID]faas.Deployment) bool {
			d := now[plain.ID]
			return faastest.Ready(d) == 1 && d.Replicas[0].ID != old.ID
		})
		time.Sleep(time.Minute)
		if d := watch.Deployment(plain.ID); len(d.Lost) > 0 {
			t.Errorf("a replica that can be reached is lost: %+v", d)
		}
		reach.Store(false)
		watch.Until(t, "the replica is lost", func(now map[faas.ID]faas.Deployment) bool {
			return slices.Equal(now[plain.ID].Lost, []string{old.ID})
		})
		down()
		watch.Until(t, "its node is back", func(now map[faas.ID]faas.Deployment) bool { return len(now[plain.ID].Lost) == 0 })
	})
}

func TestLostNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, e, _ := onFake(t)
		watch := faastest.Record(t, e, nil)
		must(t, e.Create(background, plain))
		watch.UntilReady(t, plain.ID, 1)
		f.mu.Lock()
		f.down = []string{"n1"}
		f.tell(event{node: "n1"})
		f.mu.Unlock()
		watch.Until(t, "no replica is ready", func(now map[faas.ID]faas.Deployment) bool { return faastest.Ready(now[plain.ID]) == 0 })
	})
}

func TestTwoClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, e, _ := onFake(t)
		must(t, e.Create(background, plain))
		spec := f.all["s1"].Spec
		time.Sleep(time.Second)
		spec.Name = "stack_f"
		_, err := f.createService(background, spec, "")
		must(t, err)
		watch := faastest.Record(t, e, nil)
		if d := watch.Deployment(plain.ID); len(d.Replicas) != 1 || !strings.HasPrefix(d.Replicas[0].ID, "s1.") || !strings.Contains(d.Reason, "stack_f") {
			t.Errorf("%+v", d.Reason)
		}
		if all, err := e.List(background); err != nil || len(all) != 1 {
			t.Errorf("listed %d, %v", len(all), err)
		}
		must(t, e.Remove(background, plain.ID))
		watch.Until(t, "the younger one serves", func(now map[faas.ID]faas.Deployment) bool {
			d := now[plain.ID]
			return faastest.Ready(d) == 1 && !strings.HasPrefix(d.Replicas[0].ID, "s1.") && d.Reason == ""
		})
	})
}

// Services that carry the label but can't be functions are left alone, and named once in the log.
func TestStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, e, log := onFake(t)
		must(t, e.Create(background, plain))
		spec := f.all["s1"].Spec
		for name, label := range map[string]string{"a": "../x", "b": "elsewhere"} {
			other := clone(t, spec)
			other.Name, other.Labels[labelFunction] = name, label
			if name == "b" {
				other.TaskTemplate.Networks[0].Target = "another"
			}
			_, err := f.createService(background, other, "")
			must(t, err)
		}
		watch := faastest.Record(t, e, nil)
		time.Sleep(time.Minute)
		watch.Until(t, "one function", func(now map[faas.ID]faas.Deployment) bool { return len(now) == 1 })
		if n := log.FilterMessageSnippet("no function of this gateway").Len(); n != 2 {
			t.Errorf("logged %d times", n)
		}
		e.opt.Store(nil)
		if err := e.Create(background, faas.Function{ID: faas.ParseID("g"), Image: "img"}); !errors.Is(err, faas.ErrUnavailable) {
			t.Errorf("before the options are known: %v", err)
		}
	})
}
