package swarm

import (
	"errors"
	"reflect"
	"testing"
	"testing/synctest"

	"github.com/docker/docker/api/types/swarm"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/internal/faastest"
)

// Nodes are told with what functions have there, without asking the engine.
func TestNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, e, _ := onFake(t)
		if _, err := e.Nodes(background); !errors.Is(err, faas.ErrUnavailable) {
			t.Errorf("before the first read: %v", err)
		}
		idle, busy := swarm.Node{ID: "n2"}, swarm.Node{ID: "n1", ManagerStatus: &swarm.ManagerStatus{Leader: true}}
		for _, n := range []*swarm.Node{&idle, &busy} {
			n.Description.Hostname = map[string]string{"n1": "b", "n2": "a"}[n.ID]
			n.Description.Resources = swarm.Resources{NanoCPUs: 2e9, MemoryBytes: 1 << 30}
			n.Spec.Role, n.Spec.Availability, n.Status.State = swarm.NodeRoleWorker, swarm.NodeAvailabilityActive, swarm.NodeStateReady
		}
		idle.Spec.Availability = swarm.NodeAvailabilityDrain
		f.machines = []swarm.Node{busy, idle}
		watch := faastest.Record(t, e, nil)
		fn := plain
		fn.Requests = faas.Resources{faas.Memory: "64Mi", faas.CPU: "250m"}
		must(t, e.Create(background, fn))
		must(t, e.Scale(background, fn.ID, 3))
		watch.UntilReady(t, fn.ID, 3)
		calls := f.count()
		got, err := e.Nodes(background)
		must(t, err)
		want := []faas.Node{
			{ID: "n2", Name: "a", Role: "worker", State: "ready", Availability: "drain", CPU: 2000, Memory: 1 << 30},
			{ID: "n1", Name: "b", Role: "leader", State: "ready", Availability: "active", CPU: 2000, Memory: 1 << 30, Replicas: 3, ReservedCPU: 750, ReservedMemory: 192 << 20},
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("nodes are\n%+v, want\n%+v", got, want)
		}
		if after := f.count(); !reflect.DeepEqual(after, calls) {
			t.Errorf("the engine was asked: %v, then %v", calls, after)
		}
	})
}
