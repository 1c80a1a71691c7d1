package faas

import "context"

// A NodeLister is a Provider that knows the machines which it runs functions on.
type NodeLister interface {
	// Nodes returns every machine, by name. It asks nobody: it is as old as what the provider told last.
	Nodes(context.Context) ([]Node, error)
}

// A Node is a machine that runs replicas.
type Node struct {
	// ID is unique among all machines that ever were.
	ID   string `json:"id"`
	Name string `json:"name"`
	// Role is leader, manager or worker; "" where there is no such thing.
	Role string `json:"role,omitempty"`
	// State is ready if the machine answers, else the engine's word, such as down.
	State string `json:"state"`
	// Availability is active if the machine is given new replicas; pause if not, and drain if those that it has must go, too.
	Availability string `json:"availability"`
	// CPU is in thousandths of a core; 0: not known.
	CPU int64 `json:"cpu"`
	// Memory is in bytes; 0: not known.
	Memory int64 `json:"memory"`
	// Replicas are those of functions, also those that start.
	Replicas int `json:"replicas"`
	// ReservedCPU and ReservedMemory are what the engine keeps for these replicas, whether they use it or not.
	ReservedCPU    int64 `json:"reservedCPU"`
	ReservedMemory int64 `json:"reservedMemory"`
}

// Free tells that the machine takes replicas and has none.
func (n *Node) Free() bool {
	return n.State == NodeReady && n.Availability == NodeActive && n.Replicas == 0
}

// What nodes are when all is well.
const (
	NodeReady  = "ready"
	NodeActive = "active"
)
