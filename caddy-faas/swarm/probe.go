package swarm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/docker/docker/api/types/swarm"
)

// Swarm calls a task running once its process is, unless its image has a health
// check. So each replica is asked once whether it serves: a request that comes
// too early would only have to be sent again.
const (
	probeTimeout = time.Second
	// unreached is how many times a replica may not be reached at all before requests are sent to it nevertheless.
	unreached = 2

	minPause, maxPause = 10 * time.Millisecond, 250 * time.Millisecond
)

// errUnreachable is of an address that nothing answers from, not even with a refusal.
var errUnreachable = errors.New("its address can't be reached from here: is the gateway on the functions' network?")

// prober asks replicas. It follows no redirect and keeps no connection.
var prober = &http.Client{
	Timeout:       probeTimeout,
	Transport:     &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{Timeout: probeTimeout}).DialContext},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// ask tells whether the replica at an address serves: nil once it accepts
// connections and, if it is a watchdog, is healthy.
func ask(ctx context.Context, addr string) error {
	conn, err := (&net.Dialer{Timeout: probeTimeout}).DialContext(ctx, "tcp", addr)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nothing listens on port %s yet", addr[strings.LastIndexByte(addr, ':')+1:])
	case err != nil:
		return fmt.Errorf("%w (%w)", errUnreachable, err)
	}
	conn.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/_/health", nil)
	if err != nil {
		return err
	}
	resp, err := prober.Do(req)
	if err != nil {
		return nil // it accepts; what it speaks is not for us to judge
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		return nil
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 500))
	return fmt.Errorf("not healthy: %s", strings.TrimSpace(string(text)))
}

// askUntil asks until the replica serves, or can't be reached at all; it tells each answer.
func askUntil(ctx context.Context, ask func(context.Context, string) error, addr string, tell func(ready bool, err error)) {
	misses := 0
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		err := ask(ctx, addr)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errUnreachable) {
			misses++
		}
		ready := err == nil || misses >= unreached
		tell(ready, err)
		if ready {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// A probe is what came of asking one task.
type probe struct {
	cancel context.CancelFunc
	ready  bool
	reason string
	since  time.Time
}

// started takes in that a task's container has started or died, which its own
// engine tells at once. Swarm gathers what its nodes say for a tenth of a second.
func (t *table) started(ev event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.rows[ev.service]
	switch {
	case r == nil:
	case ev.started:
		r.starts[ev.task] = true
	default:
		delete(r.starts, ev.task)
	}
}

// advance takes tasks that are known to run for running in what was read next.
func (r *row) advance(next *state) {
	for id := range r.starts {
		i := slices.IndexFunc(next.tasks, func(t swarm.Task) bool { return t.ID == id })
		if i < 0 || !live(&next.tasks[i]) || next.tasks[i].Status.State == swarm.TaskStateRunning {
			delete(r.starts, id) // Swarm knows, or knows better
			continue
		}
		next.tasks[i].Status.State = swarm.TaskStateRunning
	}
}

// watchTasks begins to ask the replicas that run now, and no longer asks those that don't.
func (t *table) watchTasks(r *row) {
	asked := map[string]bool{}
	for i := range r.tasks {
		task := &r.tasks[i]
		addr := r.addr(task, t.network)
		if task.Status.State != swarm.TaskStateRunning || task.DesiredState != swarm.TaskStateRunning || addr == "" {
			continue
		}
		asked[task.ID] = true
		if r.probes[task.ID] == nil {
			t.probe(r, task.ID, addr)
		}
	}
	for id, p := range r.probes {
		if !asked[id] {
			p.cancel()
			delete(r.probes, id)
		}
	}
}

// probe asks a task's replica in the background until it serves.
func (t *table) probe(r *row, task, addr string) {
	ctx, cancel := context.WithCancel(context.Background())
	p := &probe{cancel: cancel, since: time.Now()}
	r.probes[task] = p
	t.probes.Go(func() {
		defer cancel()
		askUntil(ctx, t.ask, addr, func(ready bool, err error) {
			t.mu.Lock()
			defer t.mu.Unlock()
			if t.sink == nil || r.probes[task] != p {
				return
			}
			p.ready, p.reason = ready, ""
			if err != nil {
				p.reason = err.Error()
			}
			t.tell(r.id)
		})
	})
}
