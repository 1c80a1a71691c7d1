package swarm

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
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
