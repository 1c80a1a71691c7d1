package swarm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"golang.org/x/sync/semaphore"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/internal/meter"
)

var _ faas.Meter = (*Engine)(nil)

// usageFresh is how long an answer is good for: each takes a call for each replica.
const usageFresh = 2 * time.Second

// errElsewhere is of a function whose usage isn't known.
var errElsewhere = errors.New("it has a replica on another node, whose engine alone knows")

// A consumption is what the replicas of one function use.
type consumption struct {
	lock *semaphore.Weighted // held to ask
	at   time.Time
	last faas.Usage
	cpu  map[string]*meter.CPU // by container
}

// Usage is that of all replicas together, if all run on the engine's own node.
// CPU is averaged over the time since it was last asked for, at first since the start.
func (e *Engine) Usage(ctx context.Context, id faas.ID) (faas.Usage, error) {
	c, tasks := e.table.running(id)
	if c == nil {
		return faas.Usage{}, fmt.Errorf("usage of %s: %w", id, faas.ErrNotFound)
	}
	if err := c.lock.Acquire(ctx, 1); err != nil {
		return faas.Usage{}, err
	}
	defer c.lock.Release(1)
	if time.Since(c.at) < usageFresh {
		return c.last, nil
	}
	err := e.measure(ctx, c, tasks)
	if err != nil {
		return faas.Usage{}, fmt.Errorf("usage of %s: %w", id, err)
	}
	return c.last, nil
}

func (e *Engine) measure(ctx context.Context, c *consumption, tasks []swarm.Task) error {
	node, err := e.docker.node(ctx)
	if err != nil {
		return err
	}
	var sum faas.Usage
	cpus := map[string]*meter.CPU{}
	for _, t := range tasks {
		if t.NodeID != node {
			return errElsewhere
		}
		id := t.Status.ContainerStatus.ContainerID
		cpu, memory, err := e.docker.consumed(ctx, id)
		if errors.Is(err, faas.ErrNotFound) {
			continue // it has just ended
		}
		if err != nil {
			return err
		}
		if cpus[id] = c.cpu[id]; cpus[id] == nil {
			cpus[id] = meter.NewCPU(t.Status.Timestamp) // since when it runs
		}
		sum.CPU += cpus[id].Average(time.Now(), cpu)
		sum.Memory += float64(memory)
	}
	c.at, c.last, c.cpu = time.Now(), sum, cpus
	return nil
}

// running are the tasks of a function that use something, and what was measured of them; nil if it isn't known.
func (t *table) running(id faas.ID) (c *consumption, tasks []swarm.Task) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.claims[id]) == 0 {
		return nil, nil
	}
	r := t.claims[id][0]
	for _, task := range r.tasks {
		if task.Status.State == swarm.TaskStateRunning && task.Status.ContainerStatus != nil {
			tasks = append(tasks, task)
		}
	}
	return &r.usage, tasks
}
