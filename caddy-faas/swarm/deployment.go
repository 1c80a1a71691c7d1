package swarm

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// A state is what was read of one service.
type state struct {
	service swarm.Service
	id      faas.ID
	fn      faas.Function
	tasks   []swarm.Task // by slot, then the latest first; past ones too, if history was read
	mishap  string       // what became of the task that failed the last update
}

// view is what else decides how a state looks.
type view struct {
	network string          // the ID of the functions' network
	down    map[string]bool // IDs of nodes that the managers have lost
	// answers tells what came of asking a replica whether it serves; nil: nobody asks.
	answers func(task string) (ready bool, reason string)
	// old is set once the state has not been as it should for a while: what may pass by itself is then told.
	old bool
	now time.Time // zero: nothing is told of how replicas have fared lately
}

// newState sorts what was read of a service; false if it is no function.
func newState(s swarm.Service, tasks []swarm.Task) (*state, bool) {
	id, ok := identity(&s.Spec)
	if !ok || s.Spec.Mode.GlobalJob != nil {
		return nil, false
	}
	tasks = slices.Clone(tasks)
	slices.SortFunc(tasks, func(a, b swarm.Task) int {
		return cmp.Or(cmp.Compare(a.Slot, b.Slot), cmp.Compare(a.NodeID, b.NodeID), b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	st := &state{service: s, id: id, fn: functionOf(&s.Spec, id), tasks: tasks}
	for i := range tasks {
		if u := s.UpdateStatus; u != nil && failed(&tasks[i]) && strings.Contains(u.Message, tasks[i].ID) {
			st.mishap = sentence(&tasks[i])
		}
	}
	return st, true
}

// keep takes over what a state knew that is not read each time.
func (s *state) keep(old *state) {
	if s.mishap == "" && s.service.UpdateStatus != nil && old.service.UpdateStatus != nil && s.service.UpdateStatus.State != swarm.UpdateStateUpdating {
		s.mishap = old.mishap
	}
}

// on tells whether the service is on a network, by its name or ID.
func on(s *swarm.ServiceSpec, name, id string) bool {
	return slices.ContainsFunc(s.TaskTemplate.Networks, func(n swarm.NetworkAttachmentConfig) bool {
		return n.Target == name || n.Target == id
	})
}

// wanted is the number of replicas that there should be.
func (s *state) wanted() int {
	if r := s.service.Spec.Mode.Replicated; r != nil && r.Replicas != nil {
		return int(*r.Replicas)
	}
	n := 0 // global: one for each node that Swarm finds fit
	for i := range s.tasks {
		if live(&s.tasks[i]) {
			n++
		}
	}
	return n
}

// live tells of tasks that should run, now or soon, and have not ended.
func live(t *swarm.Task) bool {
	switch t.Status.State {
	case swarm.TaskStateComplete, swarm.TaskStateShutdown, swarm.TaskStateFailed, swarm.TaskStateRejected, swarm.TaskStateRemove, swarm.TaskStateOrphaned:
		return false
	}
	return t.DesiredState == swarm.TaskStateRunning || t.DesiredState == swarm.TaskStateReady
}

// failed tells of tasks that ended though nobody asked them to.
func failed(t *swarm.Task) bool {
	return t.Status.State == swarm.TaskStateFailed || t.Status.State == swarm.TaskStateRejected ||
		t.Status.State == swarm.TaskStateComplete && t.DesiredState != swarm.TaskStateRemove
}

// current tells whether a task is of the service's present definition.
func (s *state) current(t *swarm.Task) bool {
	return t.Spec.ForceUpdate == s.service.Spec.TaskTemplate.ForceUpdate && reflect.DeepEqual(t.Spec.ContainerSpec, s.service.Spec.TaskTemplate.ContainerSpec)
}

// deployment is what requests meet.
func (s *state) deployment(v view) faas.Deployment {
	if s.service.Spec.Mode.ReplicatedJob != nil {
		return s.jobDeployment(v)
	}
	d := faas.Deployment{Function: s.fn, Created: s.service.CreatedAt, Desired: s.wanted()}
	ready, unready := 0, ""
	for i := range s.tasks {
		t := &s.tasks[i]
		if !live(t) {
			continue
		}
		d.Rolling = d.Rolling || !s.current(t)
		if t.DesiredState != swarm.TaskStateRunning {
			continue // it waits for the one before it to end
		}
		r := faas.Replica{ID: t.ID, Slot: max(t.Slot, 1), Addr: s.addr(t, v.network)}
		if r.Ready = t.Status.State == swarm.TaskStateRunning && r.Addr != "" && !v.down[t.NodeID]; r.Ready && v.answers != nil {
			var why string
			if r.Ready, why = v.answers(t.ID); why != "" && unready == "" {
				unready = fmt.Sprintf("replica %d: %s", r.Slot, why)
			}
		}
		if r.Ready {
			ready++
		}
		d.Replicas = append(d.Replicas, r)
	}
	if s.service.Spec.Mode.Global != nil {
		for i := range d.Replicas {
			d.Replicas[i].Slot = i + 1
		}
	}
	s.ail(&d, v, ready)
	d.Reason = cmp.Or(d.Reason, unready)
	return d
}

// addr is where a task listens on the functions' network; "" until it has an address there.
func (s *state) addr(t *swarm.Task, network string) string {
	for _, a := range t.NetworksAttachments {
		if a.Network.ID != network || len(a.Addresses) == 0 {
			continue
		}
		if p, err := netip.ParsePrefix(a.Addresses[0]); err == nil {
			return net.JoinHostPort(p.Addr().String(), port(t.Spec.ContainerSpec))
		}
	}
	return ""
}

// settled tells whether nothing is on its way: only an event can change it.
func (s *state) settled(d faas.Deployment) bool {
	if d.Job != nil {
		return !d.Job.Ended.IsZero()
	}
	if u := s.service.UpdateStatus; u != nil && (u.State == swarm.UpdateStateUpdating || u.State == swarm.UpdateStateRollbackStarted) {
		return false
	}
	if _, halfway := rest(&s.service); halfway {
		return false
	}
	if d.Rolling || len(d.Replicas) != d.Desired {
		return false
	}
	return !slices.ContainsFunc(d.Replicas, func(r faas.Replica) bool { return !r.Ready })
}

// ail says what keeps replicas from being ready, in the engine's words, and
// whether there is no use in waiting for the first one.
func (s *state) ail(d *faas.Deployment, v view, ready int) {
	d.Reason = s.afterUpdate()
	if d.Desired == 0 {
		return
	}
	if t := s.relapsing(v.now); t != nil && !d.Rolling {
		d.Reason = cmp.Or(d.Reason, sentence(t)+", again and again")
	}
	if ready >= d.Desired && !d.Rolling {
		return
	}
	var stuck, dead *swarm.Task
	failures, pending := 0, 0
	served := map[string]bool{} // places with a ready replica: what was before it is of no interest
	for _, r := range d.Replicas {
		i := slices.IndexFunc(s.tasks, func(t swarm.Task) bool { return t.ID == r.ID })
		served[place(&s.tasks[i])] = served[place(&s.tasks[i])] || r.Ready && s.current(&s.tasks[i])
	}
	for i := range s.tasks {
		switch t := &s.tasks[i]; {
		case !s.current(t), served[place(t)]:
		case live(t) && t.Status.Err != "" && v.old:
			if t.Status.State == swarm.TaskStatePending {
				pending++
			}
			if stuck == nil {
				stuck = t
			}
		case failed(t):
			failures++
			if dead == nil || t.Status.Timestamp.After(dead.Status.Timestamp) {
				dead = t
			}
		}
	}
	// A node may still come, but not soon.
	d.Pending = pending
	// One failure may be bad luck.
	d.Failing = ready == 0 && failures > 1 && s.looping()
	reason := ""
	switch {
	case dead != nil:
		reason = sentence(dead)
	case stuck != nil:
		reason = sentence(stuck)
	default:
		return
	}
	if d.Rolling && ready > 0 {
		reason = "the earlier version serves on, because the new one does not start: " + reason
	}
	d.Reason = cmp.Or(d.Reason, reason)
}

// relapsing is the last task of a place where two have failed within the last minute; nil if there is none. There may
// be a ready replica now, but for how long?
func (s *state) relapsing(now time.Time) *swarm.Task {
	last := map[string]*swarm.Task{} // by place; tasks are sorted by age in it
	for i := range s.tasks {
		t := &s.tasks[i]
		if now.IsZero() || now.Sub(t.Status.Timestamp) > time.Minute || !failed(t) || !s.current(t) {
			continue
		}
		if last[place(t)] != nil {
			return last[place(t)]
		}
		last[place(t)] = t
	}
	return nil
}

// onTrial tells whether a replica is so new that it is looked at now and then: nobody tells of those that end on another machine.
func (s *state) onTrial(now time.Time) bool {
	return s.relapsing(now) != nil || slices.ContainsFunc(s.tasks, func(t swarm.Task) bool {
		return live(&t) && now.Sub(t.Status.Timestamp).Abs() < trial
	})
}

// looping tells whether the last task that ended in every slot failed.
func (s *state) looping() bool {
	last := map[string]bool{} // by place; tasks are sorted by age in it
	for i := range s.tasks {
		t := &s.tasks[i]
		if _, known := last[place(t)]; !known && !live(t) && s.current(t) {
			last[place(t)] = failed(t)
		}
	}
	for _, failed := range last {
		if !failed {
			return false
		}
	}
	return len(last) > 0
}

// afterUpdate is what became of the last update, if not what was asked for.
func (s *state) afterUpdate() string {
	u := s.service.UpdateStatus
	if u == nil {
		return ""
	}
	text := ""
	switch u.State {
	case swarm.UpdateStateRollbackStarted, swarm.UpdateStateRollbackCompleted:
		text = "rollback to the earlier version: "
	case swarm.UpdateStatePaused, swarm.UpdateStateRollbackPaused:
		text = "the update is on pause: "
	default:
		return ""
	}
	text += u.Message
	if s.mishap != "" {
		text += ": " + s.mishap
	}
	return text
}

// place is what a task and those that replaced it have in common: the slot, or the node of a global service.
func place(t *swarm.Task) string {
	if t.Slot > 0 {
		return strconv.Itoa(t.Slot)
	}
	return t.NodeID
}

// sentence says what became of a task, in the engine's words.
func sentence(t *swarm.Task) string {
	text := cmp.Or(t.Status.Err, t.Status.Message)
	if t.Status.State == swarm.TaskStateComplete {
		text = "it ended with exit status 0"
	}
	return fmt.Sprintf("replica %d: %s", max(t.Slot, 1), text)
}

// trial is how long a new replica is on trial.
const trial = 10 * time.Second

// patience is how long a state may be on its way before what may pass by itself is told.
const patience = 3 * time.Second
