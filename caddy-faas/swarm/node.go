package swarm

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/docker/docker/api/types/swarm"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

var _ faas.NodeLister = (*Engine)(nil)

// Nodes are those of the swarm, as the watch knows them.
func (e *Engine) Nodes(context.Context) ([]faas.Node, error) {
	all, ok := e.table.nodesNow()
	if !ok {
		return nil, fmt.Errorf("%w: the swarm has not been read yet", faas.ErrUnavailable)
	}
	return all, nil
}

// nodesNow is every node with what the functions have there; false before the first full read.
func (t *table) nodesNow() ([]faas.Node, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.synced {
		return nil, false
	}
	all := make([]faas.Node, len(t.nodes))
	at := map[string]*faas.Node{}
	for i := range t.nodes {
		all[i] = nodeOf(&t.nodes[i])
		at[all[i].ID] = &all[i]
	}
	for _, r := range t.rows {
		for i := range r.tasks {
			task := &r.tasks[i]
			n := at[task.NodeID]
			if n == nil || !live(task) {
				continue
			}
			n.Replicas++
			if has := task.Spec.Resources; has != nil && has.Reservations != nil {
				n.ReservedCPU += has.Reservations.NanoCPUs / 1e6
				n.ReservedMemory += has.Reservations.MemoryBytes
			}
		}
	}
	slices.SortFunc(all, func(a, b faas.Node) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return all, true
}

// lost are the IDs of nodes that the managers have lost.
func lost(nodes []swarm.Node) map[string]bool {
	down := map[string]bool{}
	for i := range nodes {
		down[nodes[i].ID] = nodes[i].Status.State == swarm.NodeStateDown
	}
	return down
}

func nodeOf(n *swarm.Node) faas.Node {
	role := string(n.Spec.Role)
	if n.ManagerStatus != nil && n.ManagerStatus.Leader {
		role = "leader"
	}
	return faas.Node{
		ID: n.ID, Name: cmp.Or(n.Description.Hostname, n.ID), Role: role, State: string(n.Status.State), Availability: string(n.Spec.Availability),
		CPU: n.Description.Resources.NanoCPUs / 1e6, Memory: n.Description.Resources.MemoryBytes,
	}
}
