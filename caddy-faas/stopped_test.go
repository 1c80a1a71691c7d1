package caddyfaas

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/caddy-faas/faas/caddy-faas/scale"
)

// lowerings are those so far.
func (s *sharedServer) lowerings() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lowered)
}

// forget forgets the lowerings so far.
func (s *sharedServer) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lowered = nil
}

// owns tells whether the gateway is the one that lowers f0.
func (g *gateway) owns(t *testing.T) bool {
	t.Helper()
	var c uiCluster
	if err := json.Unmarshal([]byte(g.call(t, "GET", "/ui/cluster", "").body), &c); err != nil {
		t.Fatal(err)
	}
	return c.Gateways[0].Owns == 1
}

// looks waits until the others have asked the gateway so often how functions stand there: each
// has looked at them about as often in between.
func (g *gateway) looks(t *testing.T, n int) {
	t.Helper()
	asked := func() int { return strings.Count(g.log.String(), "handled request") }
	n += asked()
	eventually(t, "the others look often", func() bool { return asked() >= n })
}

// One of three processes is stopped as if its machine hung, and goes on later with what it
// knew: meanwhile functions are raised and not lowered, and afterwards by nobody's old news.
func TestStoppedGateway(t *testing.T) {
	t.Parallel()
	const looks = 15                             // of a second each at least while one is stopped: load is forgotten after ten
	s, all, _ := threeGateways(t, scale.Backlog) // not by a rate, which decays slowly after long requests; no more than half of them ever wait
	for _, g := range all {
		eventually(t, "all gateways are heard", func() bool { return g.gatewaysThat(t, gatewayHeard) == 3 })
	}
	slices.SortFunc(all, func(a, b *gateway) int { // the owner first
		switch {
		case a.owns(t):
			return -1
		case b.owns(t):
			return 1
		}
		return 0
	})
	owner, other, third := all[0], all[1], all[2]
	signal := func(g *gateway, sig syscall.Signal) {
		t.Helper()
		if err := g.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { signal(owner, syscall.SIGCONT); signal(other, syscall.SIGCONT) })
	silent := func(at *gateway) {
		t.Helper()
		eventually(t, "it is silent", func() bool { return strings.Count(at.log.String(), "does not tell how functions stand") == 1 })
	}

	wait := hold(t, all, 6)
	eventually(t, "there are replicas for half of them", func() bool { return s.replicas() >= 9 })
	signal(other, syscall.SIGSTOP)
	silent(owner)
	third.looks(t, 3) // what it told counts for two seconds more
	s.forget()
	raised := 0
	s.end(func() {
		third.looks(t, looks)
		if raised = s.replicas(); raised < 9 || len(s.lowerings()) > 0 {
			t.Fatalf("without load, and one stopped, there are %d replicas; lowered: %v", raised, s.lowerings())
		}
	})
	rest := hold(t, []*gateway{third}, 3*raised) // more wait than there are replicas
	eventually(t, "one that is left raises it", func() bool { return s.replicas() > raised })
	s.end(func() {
		rest()
		signal(other, syscall.SIGCONT)
		wait()
	})
	eventually(t, "all see each other, and there is one", func() bool { return s.replicas() == 1 })
	for _, g := range all[1:] {
		if strings.Contains(g.log.String(), "less load for") {
			t.Error("one that does not own it has lowered it")
		}
	}

	// The owner wakes up with the news of a time without load.
	owner.log.reset()
	signal(owner, syscall.SIGSTOP)
	s.forget()
	wait = hold(t, all[1:], 20)
	eventually(t, "those that are left raise it", func() bool { return s.replicas() >= 20 })
	third.looks(t, looks)
	signal(owner, syscall.SIGCONT)
	third.looks(t, looks)
	for _, l := range append(s.lowerings(), fmt.Sprint("now-", s.replicas())) {
		// Those that were too many may have gone: some come in excess before a gateway hears of the other's requests.
		if _, to, _ := strings.Cut(l, "-"); len(to) < 2 || to < "20" {
			t.Fatalf("after the owner has gone on: %s, of 40 requests", l)
		}
	}
	s.end(wait)
	eventually(t, "there is one again", func() bool { return s.replicas() == 1 })
	if !strings.Contains(owner.log.String(), "less load for") {
		t.Error("it was not its owner that lowered it")
	}
}
