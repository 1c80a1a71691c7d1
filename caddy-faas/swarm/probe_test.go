package swarm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/internal/faastest"
)

func TestAsk(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, closed.Close())
	serve := func(status int, body string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/_/health" {
				t.Errorf("asked for %s", r.URL)
			}
			http.Error(w, body, status)
		}))
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	other, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer other.Close()
	go func() {
		for {
			c, err := other.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("220 not HTTP\r\n"))
			c.Close()
		}
	}()
	for addr, want := range map[string]string{
		closed.Addr().String(): "nothing listens on port", serve(200, ""): "", serve(404, ""): "", serve(302, ""): "",
		serve(503, "starting"): "not healthy: starting", other.Addr().String(): "",
	} {
		err := ask(background, addr)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", addr, err, want)
		}
	}
}

func TestAskUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		unreachable := errUnreachable
		for name, answers := range map[string][]error{
			"late":        {errors.New("refused"), errors.New("refused"), errors.New("refused"), nil},
			"unreachable": {unreachable, errors.New("refused"), unreachable},
		} {
			var asked int
			var told []bool
			askUntil(background, func(context.Context, string) error { asked++; return answers[asked-1] }, "a:1", func(ready bool, err error) {
				if err != answers[asked-1] {
					t.Errorf("told %v", err)
				}
				told = append(told, ready)
			})
			if asked != len(answers) || len(told) != asked || !told[asked-1] || told[asked-2] {
				t.Errorf("%s: asked %d times, told %v", name, asked, told)
			}
		}
		ctx, cancel := context.WithCancel(background)
		var asked atomic.Int64
		done := make(chan struct{})
		go func() {
			defer close(done)
			askUntil(ctx, func(context.Context, string) error { asked.Add(1); return errors.New("refused") }, "a:1", func(bool, error) {})
		}()
		synctest.Wait()
		cancel()
		<-done
		if asked.Load() == 0 {
			t.Error("never asked")
		}
	})
}

// The replica's own engine tells that its container runs before Swarm does.
func TestStartedContainer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, e, _ := onFake(t)
		watch := faastest.Record(t, e, nil)
		must(t, e.Create(background, plain))
		old := watch.UntilReady(t, plain.ID, 1)[0]
		tell := func(task string, started bool) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.tell(event{service: "s1", task: task, started: started})
		}
		set := func(state swarm.TaskState, n uint64) (id string) {
			f.set("s1", func(s *swarm.Service, _ []swarm.Task) []swarm.Task {
				next := task(*s, 1, state, swarm.TaskStateRunning, n)
				id = next.ID
				return []swarm.Task{next}
			})
			return id
		}
		ready := func(n int) {
			t.Helper()
			watch.Until(t, fmt.Sprintf("%d ready replicas", n), func(now map[faas.ID]faas.Deployment) bool { return faastest.Ready(now[plain.ID]) == n })
		}
		next := set(swarm.TaskStateStarting, 77)
		tell(old.ID, false)
		ready(0)
		tell(next, false) // it waits for a health check
		time.Sleep(time.Minute)
		ready(0)
		tell(next, true)
		ready(1)
		time.Sleep(time.Minute)
		ready(1)
		tell(next, false) // its container has died
		ready(0)
		tell(next, true)
		ready(1)
		set(swarm.TaskStateFailed, 77) // Swarm knows better
		tell("", false)
		ready(0)
		set(swarm.TaskStateStarting, 77)
		time.Sleep(time.Minute)
		ready(0)
	})
}
