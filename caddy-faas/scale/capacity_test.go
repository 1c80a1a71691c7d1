package scale

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// What is told of functions without room, and of nodes without work: each change once, when it has lasted.
func TestCapacityWatch(t *testing.T) {
	begin := time.Unix(1e9, 0)
	defaults := NewDefaults()
	at := func(s int) time.Time { return begin.Add(time.Duration(s) * time.Second) }
	pending := func(name string, n int) faas.Deployment {
		return faas.Deployment{Function: faas.Function{ID: faas.ParseID(name)}, Pending: n}
	}
	node := func(id string, replicas int) faas.Node {
		return faas.Node{ID: id, State: faas.NodeReady, Availability: faas.NodeActive, Replicas: replicas}
	}
	c := NewCapacityWatch()
	var nodes []faas.Node
	step := func(s int, want ...string) {
		t.Helper()
		var got []string
		for _, e := range append(c.Due(at(s), &defaults), c.DueNodes(at(s), &defaults, nodes)...) {
			got = append(got, fmt.Sprint(e.Kind, " ", e.ID.Name, " ", e.Function.Pending, "/", e.Total, " ", e.For))
			c.Told(e)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("after %d s: %q, want %q", s, got, want)
		}
	}
	c.Set(pending("a", 0), at(0))
	c.Set(pending("a", 2), at(0))
	c.Set(pending("b", 1), at(5))
	step(9)
	step(10, "pending a 2/3 10s")
	c.Set(pending("a", 1), at(11))
	step(12)
	c.Set(pending("b", 0), at(13)) // it was soon over
	step(30)
	c.Set(pending("a", 0), at(31))
	c.Set(pending("a", 1), at(35)) // not over yet
	step(60)
	c.Set(pending("a", 0), at(61))
	step(70)
	step(71, "cleared a 0/0 1m1s")
	step(100)
	c.Set(pending("a", 1), at(100))
	c.Set(pending("b", 1), at(100))
	step(110, "pending a 1/2 10s", "pending b 1/2 10s")
	c.Delete(faas.ParseID("a"), at(120))
	step(130, "cleared a 0/1 20s")
	// It comes back while it is told that it was over.
	c.Set(pending("b", 0), at(140))
	over := c.Due(at(150), &defaults)
	c.Set(pending("b", 1), at(150))
	c.Told(over[0])
	step(151, "pending b 1/1 51s")
	c.Set(pending("b", 0), at(160))
	step(170, "cleared b 0/0 1m0s")
	// Just when it would have been told it is over: then there is nothing to tell.
	c.Set(pending("a", 1), at(200))
	step(209)
	c.Set(pending("a", 0), at(210))
	step(211)
	step(300)

	idle := int(defaults.NodeIdle / time.Second)
	paused, down := node("paused", 0), node("down", 0)
	paused.Availability, down.State = "pause", "down"
	nodes = []faas.Node{node("n1", 1), node("n2", 0), node("n3", 0), paused, down}
	step(1000)
	step(1000 + idle - 1)
	nodes[2].Replicas = 1
	step(1000+idle, "idle n2 0/0 10m0s")
	nodes[2].Replicas = 0
	step(1001 + idle)
	step(1001+2*idle, "idle n3 0/0 10m0s")
	nodes[1].Replicas = 1
	step(1002 + 2*idle)
	nodes[1].Replicas = 0
	step(1003 + 2*idle)
	nodes = []faas.Node{node("n2", 0)} // the last one
	step(9000)
}
