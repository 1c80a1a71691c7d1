package scale

import (
	"sync"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// What is told of an engine's capacity.
const (
	// CapacityPending: for a while there has been no room for a replica of a function.
	CapacityPending = "pending"
	// CapacityCleared: of a function of which that was told, no replica has waited for room for a while.
	CapacityCleared = "cleared"
	// CapacityIdle: a node among others has had no replica for a while.
	CapacityIdle = "idle"
)

// A CapacityEvent tells whoever adds and removes nodes what may be news to him.
type CapacityEvent struct {
	Kind string
	// ID is what it is about, for [Registry.Owns]: the function, or the node's ID.
	ID faas.ID
	// Function is that of pending, and of cleared with its last reason.
	Function faas.Deployment
	// Total is how many replicas of all functions have no room now.
	Total int
	Node  faas.Node
	// For is how long it lasts, or has lasted.
	For time.Duration
}

// A CapacityWatch notes for which functions the engine has no room, and which nodes
// have nothing to do. What lasts is told once, and once that it is over.
type CapacityWatch struct {
	mu    sync.Mutex
	lacks map[faas.ID]*lack
	idle  map[string]*lack // by node's ID
}

// A lack is there since a time, and over since another one.
type lack struct {
	faas.Deployment
	since, over time.Time
	due, told   bool // it has lasted; and that was told
}

func (l *lack) lasted(now time.Time) time.Duration {
	if l.over.IsZero() {
		return now.Sub(l.since)
	}
	return l.over.Sub(l.since)
}

// NewCapacityWatch returns one that knows nothing.
func NewCapacityWatch() *CapacityWatch {
	return &CapacityWatch{lacks: map[faas.ID]*lack{}, idle: map[string]*lack{}}
}

// Set takes in a function's present state.
func (c *CapacityWatch) Set(d faas.Deployment, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch l := c.lacks[d.ID]; {
	case d.Pending > 0 && l == nil:
		c.lacks[d.ID] = &lack{Deployment: d, since: now}
	case d.Pending > 0:
		l.Deployment, l.over = d, time.Time{}
	case l != nil && l.over.IsZero():
		l.Pending, l.over = 0, now
	}
}

// Delete is for a function that is gone.
func (c *CapacityWatch) Delete(id faas.ID, now time.Time) {
	c.Set(faas.Deployment{Function: faas.Function{ID: id}}, now)
}

// Due are the events that have not been told yet.
func (c *CapacityWatch) Due(now time.Time, d *Defaults) (all []CapacityEvent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	total := 0
	for _, l := range c.lacks {
		total += l.Pending
	}
	for id, l := range c.lacks {
		e := CapacityEvent{ID: id, Function: l.Deployment, Total: total, For: l.lasted(now)}
		switch over := !l.over.IsZero(); {
		case over && !l.due:
			delete(c.lacks, id)
			continue
		case e.For >= d.PendingAfter && !over && !l.told:
			l.due, e.Kind = true, CapacityPending
		case over && now.Sub(l.over) >= d.PendingAfter:
			e.Kind = CapacityCleared
		default:
			continue
		}
		all = append(all, e)
	}
	return all
}

// DueNodes are the events of nodes, of which these are all.
func (c *CapacityWatch) DueNodes(now time.Time, d *Defaults, nodes []faas.Node) (all []CapacityEvent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	there := map[string]bool{}
	for _, n := range nodes {
		if !n.Free() || len(nodes) == 1 { // without the last node there is nothing
			continue
		}
		there[n.ID] = true
		l := c.idle[n.ID]
		if l == nil {
			l = &lack{since: now}
			c.idle[n.ID] = l
		}
		if lasts := l.lasted(now); lasts >= d.NodeIdle && !l.told {
			all = append(all, CapacityEvent{Kind: CapacityIdle, ID: faas.ID{Name: n.ID}, Node: n, For: lasts})
		}
	}
	for id := range c.idle {
		if !there[id] {
			delete(c.idle, id)
		}
	}
	return all
}

// Told takes in that an event was told, by this gateway or another one.
func (c *CapacityWatch) Told(e CapacityEvent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch l := c.lacks[e.ID]; {
	case e.Kind == CapacityIdle:
		if l := c.idle[e.ID.Name]; l != nil {
			l.told = true
		}
	case l == nil:
	case e.Kind == CapacityPending:
		l.told = true
	case l.over.IsZero(): // it has come back meanwhile
		l.told = false
	default:
		delete(c.lacks, e.ID)
	}
}

// Owns tells whether it is for this gateway, among all, to act on what an ID stands for.
func (r *Registry) Owns(id faas.ID) bool {
	o := r.others.Load()
	return o == nil || (*o).Ask(id, func(string, Report) {}).Owner == ""
}
