package caddyfaas

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/scale"
)

// refused checks the answer to a request that got no replica.
func refused(t *testing.T, a *answer, status int, reason, want string) {
	t.Helper()
	after, err := strconv.Atoi(a.Header.Get("Retry-After"))
	if a.StatusCode != status || a.Header.Get("X-Faas-Reason") != reason || !strings.Contains(a.body, reason+": "+want) {
		t.Errorf("%d, reason %q: %s", a.StatusCode, a.Header.Get("X-Faas-Reason"), a.body)
	}
	if err != nil || after < 1 || after > 72 || a.Header.Get("X-Faas-Cold-Start") != "" || a.Header.Get("X-Call-Id") == "" {
		t.Errorf("%s: Retry-After %q, X-Faas-Cold-Start %q, X-Call-Id %q", reason, a.Header.Get("Retry-After"), a.Header.Get("X-Faas-Cold-Start"), a.Header.Get("X-Call-Id"))
	}
}

// Replicas that are busy: what waits is bounded in number and time.
func TestBusyReplicasRefuse(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	g := behind(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
		io.WriteString(w, "done")
	})
	g.label(t, "f0", `"faas.concurrency":"1","com.openfaas.scale.max":"1","faas.queue.timeout":"300ms"`)
	g.label(t, "f1", `"faas.concurrency":"1","com.openfaas.scale.max":"1","faas.queue.depth":"1"`)
	held := make(chan *answer, 3)
	hold := func(name string) {
		a, err := g.try(t.Context(), "POST", "/function/"+name, strings.NewReader("x"))
		if err != nil {
			t.Error(err)
		}
		held <- a
	}
	go hold("f0")
	go hold("f1")
	eventually(t, "both are busy", func() bool { return g.status(t, "f0").Scaling.InFlight+g.status(t, "f1").Scaling.InFlight == 2 })
	go hold("f1")
	eventually(t, "one waits", func() bool { return g.status(t, "f1").Scaling.Queued == 1 })
	refused(t, g.call(t, "POST", "/function/f1", "x"), 429, "queue-full", "1 requests wait already")
	refused(t, g.call(t, "POST", "/function/f0", "x"), 429, "limit", "no replica had one of its 1 slots free within 300ms")
	close(release)
	for range 3 {
		if a := <-held; a == nil || a.StatusCode != 200 || a.body != "done" || a.Header.Get("Retry-After")+a.Header.Get("X-Faas-Reason") != "" {
			t.Errorf("one that was not refused got %+v", a)
		}
	}
}

// Replicas that are not ready in time, and one that should be and is not there.
func TestColdReplicasRefuse(t *testing.T) {
	t.Parallel()
	g := newSite(t, "functions:\n  hangs:\n    fprocess: sleep 1000\n    environment:\n      mode: http\n    labels:\n      faas.queue.timeout: 500ms\n")
	refused(t, g.call(t, "POST", "/function/hangs", "x"), 503, "cold-start-timeout", "no replica was ready within 500ms")
	s := httptest.NewServer(nil)
	addr := strings.TrimPrefix(s.URL, "http://")
	s.Close()
	g = newGateway(t, map[string]string{"Caddyfile": "{\n\tadmin unix/DATA/admin.sock|0600\n\tfaas {\n\t\tprovider fixed " + addr + " 1\n\t\tdata DATA\n\t}\n}\nSITE {\n\thandle /system/* {\n\t\tfaas_api\n\t}\n\tfaas\n\thandle_errors {\n\t\trespond \"{err.message}\" {err.status_code}\n\t}\n}\n"})
	g.start(t)
	g.label(t, "f0", `"faas.queue.timeout":"500ms"`)
	refused(t, g.call(t, "POST", "/function/f0", "x"), 502, "unreachable", "")
}

// TestFailure: each cause has its status, and says when to come again where that makes sense.
func TestFailure(t *testing.T) {
	refusal := func(reason string) error {
		return &scale.Refusal{Reason: reason, RetryAfter: 1500 * time.Millisecond}
	}
	for _, tt := range []struct {
		err           error
		status        int
		reason, after string
	}{
		{refusal(scale.QueueFull), 429, "queue-full", "2"},
		{refusal(scale.Busy), 429, "limit", "2"},
		{refusal(scale.ColdStartTimeout), 503, "cold-start-timeout", "2"},
		{refusal(scale.StartFailed), 503, "start-failed", "2"},
		{refusal(scale.NoCapacity), 503, "no-capacity", "2"},
		{refusal(scale.Unreachable), 502, "unreachable", "2"},
		{scale.ErrLost, 502, "replica-lost", "1"},
		{faas.ErrNotFound, 404, "", ""},
		{newTimeLimit(time.Second), 504, "", ""},
		{context.DeadlineExceeded, 504, "", ""},
		{context.Canceled, 499, "", ""},
		{errors.New("anything"), 500, "", ""},
	} {
		w := httptest.NewRecorder()
		e := failure(w, faas.ParseID("f"), tt.err)
		if got := w.Header(); e.StatusCode != tt.status || got.Get("X-Faas-Reason") != tt.reason || got.Get("Retry-After") != tt.after {
			t.Errorf("%v: %d, %v", tt.err, e.StatusCode, got)
		}
	}
}
