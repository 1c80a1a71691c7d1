package swarm

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"github.com/docker/docker/api/types/swarm"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// A table is what is known of the functions while somebody watches.
type table struct {
	log *zap.Logger

	mu      sync.Mutex
	sink    faas.Sink
	synced  bool         // the sink knows everything that there was
	network string       // the functions' network's ID, as of the last full read
	nodes   []swarm.Node // as of then, too
	down    map[string]bool
	read    uint64             // tickets given out: later reads see later states
	rows    map[string]*row    // by service
	claims  map[faas.ID][]*row // the services of one function, the oldest first
	told    map[faas.ID]faas.Deployment
	strange map[string]string // services that can't be functions though they are labelled so, and why
	probes  sync.WaitGroup
	changed chan struct{} // a row may have to be read sooner than was planned
	spare   chan struct{} // versions of secrets may no longer be needed
	ask     func(ctx context.Context, addr string) error
}

// A row is one service's.
type row struct {
	*state
	ticket  uint64        // of the read that it is from
	since   time.Time     // when it was last seen to change
	due     time.Time     // when to read it again; zero: no need to
	gone    chan struct{} // closed when the service is
	probes  map[string]*probe
	losses  map[string]*loss // by task
	halfway time.Time        // since when a scaling of it has been seen halfway; zero: it is not
	doubts  time.Time        // when it was last read because somebody doubted it
	starts  map[string]bool  // tasks whose containers are known to run, before Swarm tells so
	usage   consumption
}

func newTable(log *zap.Logger) *table {
	return &table{log: log, changed: make(chan struct{}, 1), spare: make(chan struct{}, 1), ask: ask}
}

// begin makes a sink be told of everything from now on.
func (t *table) begin(sink faas.Sink) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sink != nil {
		return false
	}
	t.sink, t.synced, t.read = sink, false, 0
	t.rows, t.claims, t.told, t.strange = map[string]*row{}, map[faas.ID][]*row{}, map[faas.ID]faas.Deployment{}, map[string]string{}
	return true
}

// end tells the sink nothing any more.
func (t *table) end() {
	t.mu.Lock()
	for _, r := range t.rows {
		r.drop()
	}
	t.sink, t.synced = nil, false
	t.mu.Unlock()
	t.probes.Wait()
}

// ticket marks the beginning of a read.
func (t *table) ticket() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.read++
	return t.read
}

// A reading is what one read found, of all services or of some.
type reading struct {
	ticket   uint64
	full     bool
	asked    []string // unless full
	services []swarm.Service
	tasks    map[string][]swarm.Task // by service
	network  string
	nodes    []swarm.Node // of a full one
}

// apply puts a reading into the table and tells the sink what it changed.
func (t *table) apply(r *reading) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sink == nil {
		return
	}
	if r.network != "" {
		t.network, t.nodes, t.down = r.network, r.nodes, lost(r.nodes)
		for _, row := range t.rows {
			t.mourn(row)
		}
	}
	there := map[string]bool{}
	for _, s := range r.services {
		there[s.ID] = true
		t.put(r, s)
	}
	missing := r.asked
	if r.full {
		missing = slices.Collect(maps.Keys(t.rows))
		for id := range t.strange {
			if !there[id] {
				delete(t.strange, id)
			}
		}
	}
	for _, id := range missing {
		if row := t.rows[id]; row != nil && !there[id] && row.ticket < r.ticket {
			t.drop(id)
		}
	}
	if r.full && !t.synced {
		t.synced = true
		t.sink.Synced()
	}
}

// put takes one service's state in.
func (t *table) put(r *reading, s swarm.Service) {
	old := t.rows[s.ID]
	if old != nil && (old.ticket >= r.ticket || old.service.Version.Index > s.Version.Index) {
		return
	}
	next, ok := newState(s, r.tasks[s.ID])
	if ok {
		ok = t.possible(next, r.network)
	}
	if !ok {
		t.drop(s.ID)
		return
	}
	if old != nil && old.id != next.id {
		t.drop(s.ID)
		old = nil
	}
	now := time.Now()
	if old == nil {
		since := now
		if r.full {
			since = now.Add(-calm) // who knows when it was made
		}
		old = &row{since: since, gone: make(chan struct{}), probes: map[string]*probe{}, losses: map[string]*loss{}, starts: map[string]bool{}, usage: consumption{lock: semaphore.NewWeighted(1)}}
		t.rows[s.ID] = old
		t.claims[next.id] = append(t.claims[next.id], old)
		old.state = next
		slices.SortFunc(t.claims[next.id], func(a, b *row) int { return a.service.CreatedAt.Compare(b.service.CreatedAt) })
	} else {
		next.keep(old.state)
		old.advance(next)
		if !same(old.state, next) {
			old.since = now
		}
	}
	if _, halfway := rest(&s); !halfway {
		old.halfway = time.Time{}
	} else if old.halfway.IsZero() {
		old.halfway = now
	}
	old.state, old.ticket = next, r.ticket
	t.watchTasks(old)
	t.tell(next.id)
}

// same tells whether nothing has happened between two states.
func same(a, b *state) bool {
	if a.service.Version != b.service.Version {
		return false
	}
	running := func(s *state) map[string]swarm.TaskState {
		all := map[string]swarm.TaskState{}
		for i := range s.tasks {
			if live(&s.tasks[i]) {
				all[s.tasks[i].ID] = s.tasks[i].Status.State + "/" + s.tasks[i].DesiredState
			}
		}
		return all
	}
	return maps.Equal(running(a), running(b))
}

// possible tells whether a labelled service can be a function of ours, and logs once if not.
func (t *table) possible(s *state, network string) bool {
	why := ""
	if network == "" {
		network = t.network
	}
	if err := s.id.Validate(); err != nil {
		why = err.Error()
	} else if !on(&s.service.Spec, network, network) {
		why = "it is not on the functions' network"
	}
	if why == "" {
		delete(t.strange, s.service.ID)
		return true
	}
	if t.strange[s.service.ID] != why {
		t.log.Info("a service with a function's label is no function of this gateway", zap.String("service", s.service.Spec.Name), zap.String("reason", why))
	}
	t.strange[s.service.ID] = why
	return false
}

// drop forgets a service.
func (t *table) drop(id string) {
	r := t.rows[id]
	if r == nil {
		return
	}
	r.drop()
	delete(t.rows, id)
	t.claims[r.id] = slices.DeleteFunc(t.claims[r.id], func(other *row) bool { return other == r })
	if len(t.claims[r.id]) == 0 {
		delete(t.claims, r.id)
	}
	t.tell(r.id)
}

func (r *row) drop() {
	close(r.gone)
	for _, p := range r.probes {
		p.cancel()
	}
	clear(r.probes)
	for _, l := range r.losses {
		l.cancel()
	}
	clear(r.losses)
}

// tell tells the sink how a function is, if that is news.
func (t *table) tell(id faas.ID) {
	if len(t.claims[id]) == 0 {
		if _, known := t.told[id]; known {
			delete(t.told, id)
			t.sink.Delete(id)
		}
		return
	}
	first := t.claims[id][0]
	d := t.look(first)
	d.Lost = first.lost()
	if rest := t.claims[id][1:]; len(rest) > 0 {
		d.Reason = strings.TrimPrefix(d.Reason+"; "+t.rivals(rest), "; ")
	}
	for _, r := range t.claims[id] {
		t.plan(r, d)
	}
	if before, known := t.told[id]; known && reflect.DeepEqual(before, d) {
		return
	}
	if before := t.told[id]; d.Reason != before.Reason && d.Reason != "" {
		t.log.Warn("function ails", zap.Stringer("function", id), zap.String("reason", d.Reason))
	}
	t.told[id] = d
	t.sink.Set(d)
}

// look is how a row looks from here.
func (t *table) look(r *row) faas.Deployment {
	return r.deployment(view{network: t.network, down: t.down, old: time.Since(r.since) > patience, now: time.Now(), answers: func(task string) (bool, string) {
		p := r.probes[task]
		switch {
		case p == nil:
			return false, ""
		case p.reason == "" || !p.ready && time.Since(p.since) < patience:
			return p.ready, ""
		}
		return p.ready, p.reason
	}})
}

// rivals says which services lost their claim of a name to an older one.
func (t *table) rivals(rest []*row) string {
	var names []string
	for _, r := range rest {
		names = append(names, r.service.Spec.Name)
	}
	return fmt.Sprintf("younger services claim the name, too, and get no requests: %s", strings.Join(names, ", "))
}

const (
	minPoll, maxPoll = 50 * time.Millisecond, 2 * time.Second
	// calm is how long a state is still looked at after it has settled: reads of several managers' stores may be stale.
	calm = 500 * time.Millisecond
)

// plan says when a row must be read again: soon after it has changed, less and less often while nothing comes of it.
func (t *table) plan(r *row, d faas.Deployment) {
	now := time.Now()
	if r.settled(d) && now.Sub(r.since) > calm {
		next := time.Time{}
		if r.onTrial(now) {
			next = now.Add(maxPoll)
		} else if !r.due.IsZero() && len(r.fn.Secrets) > 0 {
			signal(t.spare)
		}
		r.due = next
		return
	}
	r.due = now.Add(min(max(now.Sub(r.since)/20, minPoll), maxPoll))
}

// touch makes services be read at once.
func (t *table) touch(services ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	for _, id := range services {
		if r := t.rows[id]; r != nil {
			r.due, r.since = now, now
		}
	}
	signal(t.changed)
}

// unsettled are the services of which something is known that isn't read each time.
func (t *table) unsettled() map[string]bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := map[string]bool{}
	for id, r := range t.rows {
		if !r.due.IsZero() {
			all[id] = true
		}
	}
	return all
}

// touchNode does so with the services that have a replica on a node: they may lose it, or have it back, soon.
func (t *table) touchNode(node string) {
	t.mu.Lock()
	var on []string
	for id, r := range t.rows {
		if slices.ContainsFunc(r.tasks, func(task swarm.Task) bool { return task.NodeID == node }) {
			on = append(on, id)
		}
	}
	t.mu.Unlock()
	t.touch(on...)
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// next says which services are due, and when the next ones will be.
func (t *table) next() (due []string, wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	wait = time.Hour
	for id, r := range t.rows {
		switch {
		case r.due.IsZero():
		case !r.due.After(now):
			due = append(due, id)
		default:
			wait = min(wait, r.due.Sub(now))
		}
	}
	return due, wait
}

// left are functions that have been halfway through a scaling for so long that whoever began it must have ended;
// each again after as long, until somebody has completed it.
func (t *table) left() (all []faas.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	for id, claims := range t.claims {
		if r := claims[0]; !r.halfway.IsZero() && now.Sub(r.halfway) > patience {
			r.halfway = now
			all = append(all, id)
		}
	}
	return all
}

// size is the number of functions' services.
func (t *table) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.rows)
}

// find is the service that has a function's name, as far as is known; the channel is closed when it is gone.
func (t *table) find(id faas.ID) (service string, gone <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.claims[id]) == 0 {
		return "", nil
	}
	r := t.claims[id][0]
	return r.service.ID, r.gone
}

// watched tells whether there is somebody to be told.
func (t *table) watched() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sink != nil
}
