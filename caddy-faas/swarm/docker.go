package swarm

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// A cluster is what this package asks of a Docker engine that manages a swarm.
// Every call but for the two streams, events and logs, has a deadline of its own. Errors are faas's: ErrNotFound,
// ErrExists, ErrInvalid, ErrUnavailable; and errOutOfSequence.
type cluster interface {
	// services are those of these IDs which exist; without an ID, all.
	services(ctx context.Context, ids ...string) ([]swarm.Service, error)
	createService(ctx context.Context, spec swarm.ServiceSpec, auth string) (id string, err error)
	// updateService replaces the spec of a service as it was read; without auth, it keeps what the service has.
	updateService(ctx context.Context, s swarm.Service, spec swarm.ServiceSpec, auth string) error
	removeService(ctx context.Context, id string) error
	// tasks are those of these services, past ones included; without an ID, those of all services that should run.
	tasks(ctx context.Context, services ...string) ([]swarm.Task, error)
	nodes(ctx context.Context) ([]swarm.Node, error)
	// networkID is the ID of the swarm's network of a name.
	networkID(ctx context.Context, name string) (string, error)
	secrets(ctx context.Context) ([]swarm.Secret, error)
	createSecret(ctx context.Context, spec swarm.SecretSpec) (id string, err error)
	removeSecret(ctx context.Context, id string) error
	// events tell what to read again, until the context ends; the error says why they ended.
	events(ctx context.Context) (<-chan event, <-chan error)
	// logs is the stream of a service's lines, with details and timestamps; framed, unless the service has a terminal.
	logs(ctx context.Context, service string, q faas.LogQuery) (io.ReadCloser, error)
	// node is the ID of the node that the engine is.
	node(ctx context.Context) (id string, err error)
	// consumed is what a container of the engine has used of the CPU so far, and uses of memory.
	consumed(ctx context.Context, container string) (cpu time.Duration, memory uint64, err error)
	ping(ctx context.Context) error
	io.Closer
}

// An event names what changed.
type event struct {
	service, node string // both are empty when it isn't known
	task          string // whose container has started or died
	started       bool   // and nothing but Swarm's own word is missing for it to be running
}

// authOfPrevious is the auth of an update to a service's previous spec: what its image was pulled with.
const authOfPrevious = "previous"

// errOutOfSequence is of an update of what somebody else has changed since it was read.
var errOutOfSequence = errors.New("changed meanwhile")

const (
	readTimeout  = 5 * time.Second
	writeTimeout = 10 * time.Second
)

// defaultEndpoint is the engine of this machine.
const defaultEndpoint = client.DefaultDockerHost

// docker is a cluster by Docker's Go client.
type docker struct {
	client *client.Client
}

// newDocker returns a client of the engine at an address; "" for DOCKER_HOST's or
// the usual socket. It connects when it is used first.
func newDocker(endpoint string) (*docker, error) {
	options := []client.Opt{client.FromEnv, client.WithAPIVersionNegotiation()}
	if endpoint != "" {
		options = []client.Opt{client.WithTLSClientConfigFromEnv(), client.WithHost(endpoint), client.WithAPIVersionNegotiation()}
	}
	c, err := client.NewClientWithOpts(options...)
	if err != nil {
		return nil, fmt.Errorf("endpoint %q: %w", endpoint, err)
	}
	return &docker{c}, nil
}

// call runs one call of the engine under its deadline.
func call(ctx context.Context, limit time.Duration, do func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := do(limited)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case limited.Err() != nil:
		return fmt.Errorf("%w: no answer within %s", faas.ErrUnavailable, limit)
	}
	return translate(err)
}

// translate gives an error of the client its meaning, and the engine's own words.
func translate(err error) error {
	text := strings.TrimPrefix(err.Error(), "Error response from daemon: ")
	if rest, ok := strings.CutPrefix(text, "rpc error: code = "); ok {
		if _, desc, ok := strings.Cut(rest, " desc = "); ok {
			text = desc
		}
	}
	kind := error(nil)
	switch {
	case strings.Contains(text, "update out of sequence"):
		return errOutOfSequence
	case client.IsErrConnectionFailed(err), errdefs.IsUnavailable(err), strings.Contains(text, "context deadline exceeded"),
		strings.Contains(text, "does not have a leader"):
		kind = faas.ErrUnavailable
	case errdefs.IsNotFound(err):
		kind = faas.ErrNotFound
	case errdefs.IsConflict(err), errdefs.IsAlreadyExists(err):
		kind = faas.ErrExists
	case errdefs.IsInvalidArgument(err):
		kind = faas.ErrInvalid
	case errdefs.IsPermissionDenied(err): // by a proxy before the engine
		kind = faas.ErrForbidden
	default:
		return errors.New(text)
	}
	return fmt.Errorf("%w: %s", kind, text)
}

func (d *docker) services(ctx context.Context, ids ...string) (all []swarm.Service, err error) {
	err = call(ctx, readTimeout, func(ctx context.Context) (err error) {
		all, err = d.client.ServiceList(ctx, swarm.ServiceListOptions{Filters: anyOf("id", ids)})
		return err
	})
	return all, err
}

func (d *docker) createService(ctx context.Context, spec swarm.ServiceSpec, auth string) (id string, err error) {
	err = call(ctx, writeTimeout, func(ctx context.Context) error {
		made, err := d.client.ServiceCreate(ctx, spec, swarm.ServiceCreateOptions{EncodedRegistryAuth: auth})
		id = made.ID
		return err
	})
	return id, err
}

func (d *docker) updateService(ctx context.Context, s swarm.Service, spec swarm.ServiceSpec, auth string) error {
	o := swarm.ServiceUpdateOptions{EncodedRegistryAuth: auth, RegistryAuthFrom: swarm.RegistryAuthFromSpec}
	if auth == authOfPrevious {
		o = swarm.ServiceUpdateOptions{RegistryAuthFrom: swarm.RegistryAuthFromPreviousSpec}
	}
	return call(ctx, writeTimeout, func(ctx context.Context) error {
		_, err := d.client.ServiceUpdate(ctx, s.ID, s.Version, spec, o)
		return err
	})
}

func (d *docker) removeService(ctx context.Context, id string) error {
	return call(ctx, writeTimeout, func(ctx context.Context) error { return d.client.ServiceRemove(ctx, id) })
}

func (d *docker) tasks(ctx context.Context, services ...string) (all []swarm.Task, err error) {
	wanted := anyOf("service", services)
	if len(services) == 0 {
		wanted = anyOf("desired-state", []string{string(swarm.TaskStateRunning), string(swarm.TaskStateReady)})
	}
	err = call(ctx, readTimeout, func(ctx context.Context) (err error) {
		all, err = d.client.TaskList(ctx, swarm.TaskListOptions{Filters: wanted})
		return err
	})
	if len(services) > 0 && errors.Is(err, faas.ErrNotFound) { // the filter fails when one of the services is gone
		return d.tasksOneByOne(ctx, services)
	}
	return all, err
}

func (d *docker) tasksOneByOne(ctx context.Context, services []string) (all []swarm.Task, err error) {
	for _, id := range services {
		var some []swarm.Task
		err := call(ctx, readTimeout, func(ctx context.Context) (err error) {
			some, err = d.client.TaskList(ctx, swarm.TaskListOptions{Filters: anyOf("service", []string{id})})
			return err
		})
		if err != nil && !errors.Is(err, faas.ErrNotFound) {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

func (d *docker) nodes(ctx context.Context) (all []swarm.Node, err error) {
	err = call(ctx, readTimeout, func(ctx context.Context) (err error) {
		all, err = d.client.NodeList(ctx, swarm.NodeListOptions{})
		return err
	})
	return all, err
}

func (d *docker) networkID(ctx context.Context, name string) (id string, err error) {
	err = call(ctx, readTimeout, func(ctx context.Context) error {
		n, err := d.client.NetworkInspect(ctx, name, network.InspectOptions{Scope: "swarm"})
		id = n.ID
		return err
	})
	return id, err
}

func (d *docker) secrets(ctx context.Context) (all []swarm.Secret, err error) {
	err = call(ctx, readTimeout, func(ctx context.Context) (err error) {
		all, err = d.client.SecretList(ctx, swarm.SecretListOptions{})
		return err
	})
	return all, err
}

func (d *docker) createSecret(ctx context.Context, spec swarm.SecretSpec) (id string, err error) {
	err = call(ctx, writeTimeout, func(ctx context.Context) error {
		made, err := d.client.SecretCreate(ctx, spec)
		id = made.ID
		return err
	})
	return id, err
}

func (d *docker) removeSecret(ctx context.Context, id string) error {
	return call(ctx, writeTimeout, func(ctx context.Context) error { return d.client.SecretRemove(ctx, id) })
}

// events are those of services and nodes, which every manager tells, and of
// containers that start and die, which only their own engine does.
func (d *docker) events(ctx context.Context) (<-chan event, <-chan error) {
	all := filters.NewArgs()
	for key, values := range map[string][]string{"type": {"service", "node", "container"}, "event": {"create", "update", "remove", "start", "die"}} {
		for _, value := range values {
			all.Add(key, value)
		}
	}
	messages, errs := d.client.Events(ctx, events.ListOptions{Filters: all})
	out := make(chan event)
	go func() {
		for {
			var e event
			select {
			case m := <-messages:
				switch m.Type {
				case events.ServiceEventType:
					e.service = m.Actor.ID
				case events.NodeEventType:
					e.node = m.Actor.ID
				default:
					e.service, e.task = m.Actor.Attributes["com.docker.swarm.service.id"], m.Actor.Attributes["com.docker.swarm.task.id"]
					e.started = e.task != "" && m.Action == events.ActionStart && d.unchecked(ctx, m.Actor.ID)
				}
			case <-ctx.Done():
				return
			}
			if e == (event{}) {
				continue
			}
			select {
			case out <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, errs
}

// unchecked tells that a container runs, and without a health check, for which Swarm would wait.
func (d *docker) unchecked(ctx context.Context, id string) bool {
	var c container.InspectResponse
	err := call(ctx, readTimeout, func(ctx context.Context) (err error) {
		c, err = d.client.ContainerInspect(ctx, id)
		return err
	})
	return err == nil && c.State.Running && c.State.Health == nil
}

func (d *docker) logs(ctx context.Context, service string, q faas.LogQuery) (io.ReadCloser, error) {
	o := container.LogsOptions{ShowStdout: true, ShowStderr: true, Timestamps: true, Details: true, Follow: q.Follow}
	if q.Tail >= 0 {
		o.Tail = strconv.Itoa(q.Tail)
	}
	if !q.Since.IsZero() {
		o.Since = fmt.Sprintf("%d.%09d", q.Since.Unix(), q.Since.Nanosecond())
	}
	r, err := d.client.ServiceLogs(ctx, service, o)
	if err != nil {
		return nil, cmp.Or(ctx.Err(), translate(err))
	}
	return r, nil
}

func (d *docker) node(ctx context.Context) (id string, err error) {
	err = call(ctx, readTimeout, func(ctx context.Context) error {
		info, err := d.client.Info(ctx)
		id = info.Swarm.NodeID
		return err
	})
	return id, err
}

func (d *docker) consumed(ctx context.Context, id string) (cpu time.Duration, memory uint64, err error) {
	var s container.StatsResponse
	err = call(ctx, readTimeout, func(ctx context.Context) error {
		r, err := d.client.ContainerStatsOneShot(ctx, id)
		if err != nil {
			return err
		}
		defer r.Body.Close()
		return json.NewDecoder(r.Body).Decode(&s)
	})
	// Without the cache of files that nobody needs now, as docker stats counts it: by control groups v1 or v2.
	idle := cmp.Or(s.MemoryStats.Stats["total_inactive_file"], s.MemoryStats.Stats["inactive_file"])
	return time.Duration(s.CPUStats.CPUUsage.TotalUsage), s.MemoryStats.Usage - min(idle, s.MemoryStats.Usage), err
}

// ping makes the manager read its store, which an engine that left the swarm or lost the quorum can't.
func (d *docker) ping(ctx context.Context) error {
	_, err := d.services(ctx, "none")
	return err
}

func (d *docker) Close() error { return d.client.Close() }

func anyOf(key string, values []string) filters.Args {
	all := filters.NewArgs()
	for _, value := range values {
		all.Add(key, value)
	}
	return all
}
