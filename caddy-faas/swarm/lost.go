package swarm

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// A loss is a replica that ran on a node when the managers lost it. They may be wrong: a node that is merely
// slow misses its heartbeats, too. So its replicas are asked, and are given up once they can't be reached either.
type loss struct {
	cancel context.CancelFunc
	node   string
	sure   bool
}

// mourn looks for replicas that a row has on nodes which have been lost since it was last called, and forgets those
// whose node is back. The tasks are as they were before: Swarm soon calls them doomed.
func (t *table) mourn(r *row) {
	for id, l := range r.losses {
		if !t.down[l.node] {
			l.cancel()
			delete(r.losses, id)
		}
	}
	for i := range r.tasks {
		task := &r.tasks[i]
		addr := r.addr(task, t.network)
		if t.down[task.NodeID] && task.Status.State == swarm.TaskStateRunning && addr != "" && r.losses[task.ID] == nil {
			t.await(r, task, addr)
		}
	}
}

// await makes sure of a loss in the background.
func (t *table) await(r *row, task *swarm.Task, addr string) {
	ctx, cancel := context.WithCancel(context.Background())
	l := &loss{cancel: cancel, node: task.NodeID}
	id := task.ID
	r.losses[id] = l
	t.probes.Go(func() {
		defer cancel()
		for misses := 0; misses < unreached; {
			if errors.Is(t.ask(ctx, addr), errUnreachable) {
				misses++
			} else {
				misses = 0
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(maxPause):
			}
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.sink != nil && r.losses[id] == l {
			l.sure = true
			t.tell(r.id)
		}
	})
}

// lost are the replicas that are lost for sure.
func (r *row) lost() []string {
	var all []string
	for _, id := range slices.Sorted(maps.Keys(r.losses)) {
		if r.losses[id].sure {
			all = append(all, id)
		}
	}
	return all
}

// minDoubt is how often requests that fail make a function be read.
const minDoubt = time.Second

// doubt makes a function be read at once, unless that was done within the last second. If nothing was on its way,
// it is looked at for a while: the managers hear of what has ended elsewhere a moment later.
func (t *table) doubt(id faas.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if len(t.claims[id]) == 0 || now.Sub(t.claims[id][0].doubts) < minDoubt {
		return
	}
	r := t.claims[id][0]
	if r.due.IsZero() {
		r.since = now
	}
	r.due, r.doubts = now, now
	signal(t.changed)
}
