package swarm

import (
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// replicated is a service of n replicas.
func replicated(t *testing.T, n uint64) swarm.Service {
	spec, err := (&options{network: "net-id"}).spec(plain, nil)
	must(t, err)
	spec.Mode.Replicated.Replicas = &n
	return swarm.Service{ID: "s", Spec: spec}
}

func TestDeployment(t *testing.T) {
	const running, ready, shutdown = swarm.TaskStateRunning, swarm.TaskStateReady, swarm.TaskStateShutdown
	with := func(t swarm.Task, change func(*swarm.Task)) swarm.Task {
		change(&t)
		return t
	}
	message := func(text string) func(*swarm.Task) { return func(t *swarm.Task) { t.Status.Err = text } }
	older := func(t *swarm.Task) { t.Spec.ForceUpdate = 7 }
	one := replicated(t, 1)
	for _, tt := range []struct {
		name    string
		service swarm.Service
		tasks   []swarm.Task
		view    view
		ready   string // slots
		there   int    // replicas
		rolling bool
		failing bool
		pending int
		settled bool
		reason  string
	}{
		{name: "runs", service: one, tasks: []swarm.Task{task(one, 1, running, running, 1)}, ready: "1", there: 1, settled: true},
		{name: "doomed", service: one, tasks: []swarm.Task{task(one, 1, running, shutdown, 1)}},
		{name: "doomed and replaced", service: one, tasks: []swarm.Task{task(one, 1, running, shutdown, 1), task(one, 1, ready, ready, 2)}},
		{name: "starts", service: one, tasks: []swarm.Task{task(one, 1, swarm.TaskStateStarting, running, 1)}, there: 1},
		{name: "without an address", service: one, tasks: []swarm.Task{with(task(one, 1, running, running, 1), func(t *swarm.Task) { t.NetworksAttachments = nil })}, there: 1},
		{name: "on another network", service: one, tasks: []swarm.Task{with(task(one, 1, running, running, 1), func(t *swarm.Task) { t.NetworksAttachments[0].Network.ID = "x" })}, there: 1},
		{name: "node lost", service: one, tasks: []swarm.Task{task(one, 1, running, running, 1)}, view: view{down: map[string]bool{"n1": true}}, there: 1},
		{name: "not yet asked", service: one, tasks: []swarm.Task{task(one, 1, running, running, 1)},
			view: view{answers: func(string) (bool, string) { return false, "nothing listens" }}, there: 1, reason: "replica 1: nothing listens"},
		{name: "rolls", service: one, tasks: []swarm.Task{with(task(one, 1, running, running, 1), older), task(one, 1, swarm.TaskStateStarting, running, 2)}, ready: "1", there: 2, rolling: true},
		{name: "failed once", service: one, tasks: []swarm.Task{with(task(one, 1, swarm.TaskStateFailed, shutdown, 1), message("exit 1")), task(one, 1, ready, ready, 2)}, reason: "replica 1: exit 1"},
		{name: "crash loop", service: one, tasks: []swarm.Task{
			with(task(one, 1, swarm.TaskStateFailed, shutdown, 1), message("exit 1")), with(task(one, 1, swarm.TaskStateRejected, shutdown, 2), message("exit 2")),
			task(one, 1, ready, ready, 3)}, failing: true, reason: "replica 1: exit 2"},
		{name: "crash loop of the earlier version", service: one, tasks: []swarm.Task{
			with(with(task(one, 1, swarm.TaskStateFailed, shutdown, 1), message("exit 1")), older), with(with(task(one, 1, swarm.TaskStateFailed, shutdown, 2), message("exit 2")), older),
			task(one, 1, swarm.TaskStatePreparing, running, 3)}, there: 1},
		{name: "crashed and recovered", service: one, tasks: []swarm.Task{with(task(one, 1, swarm.TaskStateFailed, shutdown, 1), message("exit 1")), task(one, 1, running, running, 2)},
			ready: "1", there: 1, settled: true},
		{name: "crashes again and again", service: one, tasks: []swarm.Task{
			with(task(one, 1, swarm.TaskStateFailed, shutdown, 1000), message("exit 1")), with(task(one, 1, swarm.TaskStateFailed, shutdown, 1010), message("exit 2")), task(one, 1, running, running, 1015)},
			view: view{now: time.Unix(1020, 0)}, ready: "1", there: 1, settled: true, reason: "replica 1: exit 2, again and again"},
		{name: "has long run since it crashed again", service: one, tasks: []swarm.Task{
			with(task(one, 1, swarm.TaskStateFailed, shutdown, 1000), message("exit 1")), with(task(one, 1, swarm.TaskStateFailed, shutdown, 1010), message("exit 2")), task(one, 1, running, running, 1015)},
			view: view{now: time.Unix(1065, 0)}, ready: "1", there: 1, settled: true},
		{name: "two places crash once each", service: replicated(t, 2), tasks: []swarm.Task{
			with(task(one, 1, swarm.TaskStateFailed, shutdown, 1000), message("exit 1")), with(task(one, 2, swarm.TaskStateFailed, shutdown, 1010), message("exit 2")),
			task(one, 1, running, running, 1015), task(one, 2, running, running, 1016)},
			view: view{now: time.Unix(1020, 0)}, ready: "12", there: 2, settled: true},
		{name: "new version crashes", service: one, tasks: []swarm.Task{
			with(task(one, 1, running, running, 1), older), with(task(one, 1, swarm.TaskStateFailed, shutdown, 2), message("exit 1")), task(one, 1, ready, ready, 3)},
			ready: "1", there: 1, rolling: true, reason: "the earlier version serves on, because the new one does not start: replica 1: exit 1"},
		{name: "no node, just now", service: one, tasks: []swarm.Task{with(task(one, 1, swarm.TaskStatePending, running, 1), message("no suitable node"))}, there: 1},
		{name: "no node", service: one, tasks: []swarm.Task{with(task(one, 1, swarm.TaskStatePending, running, 1), message("no suitable node"))}, view: view{old: true},
			there: 1, pending: 1, reason: "replica 1: no suitable node"},
		{name: "zero", service: replicated(t, 0), settled: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, ok := newState(tt.service, tt.tasks)
			if !ok {
				t.Fatal("it is no function")
			}
			tt.view.network = "net-id"
			d := s.deployment(tt.view)
			slots := ""
			for _, r := range d.Replicas {
				if r.Ready {
					slots += string(rune('0' + r.Slot))
				}
			}
			if slots != tt.ready || len(d.Replicas) != tt.there || d.Rolling != tt.rolling || d.Failing != tt.failing || d.Pending != tt.pending || d.Reason != tt.reason || s.settled(d) != tt.settled {
				t.Errorf("ready %q of %d, rolling %v, failing %v, %d pending, settled %v, %q", slots, len(d.Replicas), d.Rolling, d.Failing, d.Pending, s.settled(d), d.Reason)
			}
		})
	}
	d := func() faas.Deployment {
		s, _ := newState(one, []swarm.Task{task(one, 1, running, running, 1)})
		return s.deployment(view{network: "net-id"})
	}()
	if d.Replicas[0].Addr != "10.0.0.1:8080" || d.Replicas[0].ID != "s.1.1" {
		t.Errorf("replica %+v", d.Replicas[0])
	}
	job := one
	job.Spec.Mode = swarm.ServiceMode{GlobalJob: &swarm.GlobalJob{}}
	if _, ok := newState(job, nil); ok {
		t.Error("a job on each node is taken for a function")
	}
	global := one
	global.Spec.Mode = swarm.ServiceMode{Global: &swarm.GlobalService{}}
	s, _ := newState(global, []swarm.Task{task(one, 0, running, running, 1), with(task(one, 0, running, running, 2), func(t *swarm.Task) { t.NodeID = "n2" })})
	if d := s.deployment(view{network: "net-id"}); d.Desired != 2 || d.Replicas[1].Slot != 2 || !s.settled(d) {
		t.Errorf("global: %+v", d.Replicas)
	}
}
