package caddyfaas

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddy-faas/faas/caddy-faas/scale"
)

// behind is a gateway whose functions f0 and f1 have their replicas at one server, and at further addresses.
func behind(t *testing.T, upstream http.HandlerFunc, further ...string) *gateway {
	t.Helper()
	s := httptest.NewServer(upstream)
	t.Cleanup(s.Close)
	g := newGateway(t, map[string]string{"Caddyfile": `{
	admin unix/DATA/admin.sock|0600
	faas {
		provider fixed ` + strings.Join(append(further, strings.TrimPrefix(s.URL, "http://")), ",") + ` 2
		data DATA
	}
}
SITE {
	handle /system/* {
		faas_api
	}
	handle /metrics {
		metrics
	}
	handle {
		faas
	}
	handle_errors {
		respond "{err.message}" {err.status_code}
	}
}
`})
	g.start(t)
	return g
}

// label changes a function's labels.
func (g *gateway) label(t *testing.T, name, labels string) {
	t.Helper()
	if a := g.call(t, "PUT", "/system/functions", `{"service":"`+name+`","image":"i","labels":{`+labels+`}}`); a.StatusCode != 202 {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
}

// double gives a function two replicas.
func (g *gateway) double(t *testing.T, name string) {
	t.Helper()
	g.label(t, name, `"com.openfaas.scale.min":"2"`)
	eventually(t, "there are two replicas", func() bool { return g.status(t, name).AvailableReplicas == 2 })
}

// A request without a body that a watchdog does not take, because it has as many as it takes, waits for a free place;
// of one with a body some may have been sent.
func TestReplicaFull(t *testing.T) {
	t.Parallel()
	var calls, full atomic.Int64
	g := behind(t, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) <= full.Load() {
			w.Header().Set("X-Faas-Replica-Full", "1")
			w.Header().Set("Retry-After", "1")
			http.Error(w, "max_inflight of 1 requests reached", http.StatusTooManyRequests)
			return
		}
		io.Copy(w, r.Body)
		io.WriteString(w, "done")
	})
	for _, tt := range []struct {
		method, body        string
		full, status, calls int
	}{
		{"GET", "", 0, 200, 1}, {"GET", "", 1, 200, 2}, {"GET", "", 7, 200, 8},
		{"HEAD", "", 1, 200, 2}, {"DELETE", "", 1, 200, 2}, {"POST", "x", 1, 429, 1}, {"POST", "", 1, 200, 2},
	} {
		calls.Store(0)
		full.Store(int64(tt.full))
		a := g.call(t, tt.method, "/function/f1", tt.body)
		if a.StatusCode != tt.status || int(calls.Load()) != tt.calls {
			t.Errorf("%+v: %d after %d calls: %s", tt, a.StatusCode, calls.Load(), a.body)
		}
		if a.StatusCode == 200 && (a.body != tt.body+"done" && tt.method != "HEAD" || a.Header.Get("Retry-After")+a.Header.Get("X-Faas-Replica-Full") != "" || len(a.Header["X-Call-Id"]) != 1 || len(a.Header["Content-Type"]) != 1) {
			t.Errorf("%+v: %q %v", tt, a.body, a.Header)
		}
		if a.StatusCode == 429 && (a.Header.Get("Retry-After") != "1" || !strings.Contains(a.body, "max_inflight")) {
			t.Errorf("%+v: %q %v", tt, a.body, a.Header)
		}
	}
}

// What is longer than a watchdog's answer is a function's, whatever it says, and isn't kept in memory.
func TestLongAnswerIsNoFullReplica(t *testing.T) {
	t.Parallel()
	g := behind(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Faas-Replica-Full", "1")
		w.WriteHeader(http.StatusTooManyRequests)
		io.WriteString(w, strings.Repeat("long", maxFull))
	})
	if a := g.call(t, "GET", "/function/f1", ""); a.StatusCode != 429 || len(a.body) != 4*maxFull {
		t.Errorf("%d with %d bytes", a.StatusCode, len(a.body))
	}
}

// Where replicas stay full, a request waits as long as any that finds no free place.
func TestReplicaStaysFull(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	g := behind(t, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		w.Header().Set("X-Faas-Replica-Full", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	g.label(t, "f1", `"faas.concurrency":"1","faas.queue.timeout":"1s"`)
	a := g.call(t, "GET", "/function/f1", "")
	if a.StatusCode != 429 || a.Header.Get("X-Faas-Reason") != scale.Busy || a.Header.Get("Retry-After") == "" || a.Header.Get("X-Faas-Replica-Full") != "" {
		t.Errorf("%d %v %s", a.StatusCode, a.Header, a.body)
	}
	if n := calls.Load(); n < 3 || n > 100 {
		t.Errorf("it was sent %d times", n)
	}
	g.label(t, "f1", `"faas.queue.timeout":"1s"`) // its max_inflight is known to the watchdog alone
	if a := g.call(t, "GET", "/function/f1", ""); a.StatusCode != 429 || a.Header.Get("X-Faas-Reason") != scale.Busy {
		t.Errorf("%d %v %s", a.StatusCode, a.Header, a.body)
	}
}

// The time limit is for the execution, not for the wait for a replica that takes it.
func TestFullReplicasUseNoTime(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	g := behind(t, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) < 30 { // the gateway's limit is 2 s longer than the label
			w.Header().Set("X-Faas-Replica-Full", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	})
	g.label(t, "f1", `"faas.timeout":"1ms"`)
	if a := g.call(t, "GET", "/function/f1", ""); a.StatusCode != 200 {
		t.Errorf("%d %s after %d calls", a.StatusCode, a.body, calls.Load())
	}
}

// One that a full replica did not take goes to another one.
func TestReplicaFullIsPassedOver(t *testing.T) {
	t.Parallel()
	full := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Faas-Replica-Full", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	t.Cleanup(full.Close)
	g := behind(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "done") }, strings.TrimPrefix(full.URL, "http://"))
	g.double(t, "f0")
	for range 100 {
		if a := g.call(t, "GET", "/function/f0", ""); a.StatusCode != 200 || a.body != "done" {
			t.Fatalf("%d %s", a.StatusCode, a.body)
		}
	}
}

// A request whose replica accepts no connection goes to another one, whole; one that a replica has taken does not.
func TestOnlyRefusedConnectionsAreRetried(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	g := behind(t, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		b, err := io.ReadAll(r.Body)
		if err != nil || r.URL.Query().Has("reset") {
			panic(http.ErrAbortHandler) // closes the connection
		}
		w.Write(b)
	}, "127.0.0.1:"+freePort(t))
	g.double(t, "f0")
	body := strings.Repeat("body", 50_000)
	for n := range 30 { // the first that meets the one which is not there keeps the next ones from it
		var r io.Reader = strings.NewReader(body)
		if n%2 > 0 {
			r = io.MultiReader(r) // of unknown length
		}
		if a, err := g.try(t.Context(), "POST", "/function/f0", r); err != nil || a.StatusCode != 200 || a.body != body {
			t.Errorf("%v, %d, %d bytes came back", err, a.StatusCode, len(a.body))
		}
	}
	if n := calls.Swap(0); n != 30 {
		t.Errorf("30 requests were executed %d times", n)
	}
	for _, method := range []string{"GET", "POST", "DELETE"} {
		a := g.call(t, method, "/function/f0?reset", "")
		if n := calls.Swap(0); n != 1 || a.StatusCode != 502 || a.Header.Get("X-Faas-Reason") != "connection-lost" {
			t.Errorf("%s: executed %d times, %d %s", method, n, a.StatusCode, a.body)
		}
	}
}

// The gateway keeps a function's time limit where the replica does not, but not for what has no end.
func TestTimeLimitOfTheGateway(t *testing.T) {
	t.Parallel()
	release, over := make(chan struct{}), make(chan struct{})
	g := behind(t, func(w http.ResponseWriter, r *http.Request) {
		var mine chan struct{} // only the stream is released: the others may not yet have noticed that they were broken off
		if r.URL.Query().Has("events") {
			w.Header().Set("Content-Type", "text/event-stream")
			mine = release
		}
		if !r.URL.Query().Has("silent") {
			http.NewResponseController(w).Flush()
		}
		select {
		case <-mine:
		case <-over:
		case <-r.Context().Done():
		}
		io.WriteString(w, "end")
	})
	defer close(over)
	g.label(t, "f1", `"faas.timeout":"3s"`) // enough for the stream to begin, on a busy machine too
	events, err := http.Get(g.url + "/function/f1?events")
	if err != nil {
		t.Fatal(err)
	}
	defer events.Body.Close()
	a := g.call(t, "POST", "/function/f1?silent", "body")
	if a.StatusCode != 504 || !strings.Contains(a.body, "faas.timeout of 3s exceeded") {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	if a, err := g.try(t.Context(), "GET", "/function/f1", nil); err == nil {
		t.Errorf("an answer that was broken off came whole: %+v", a)
	}
	eventually(t, "the stream alone is in flight", func() bool { s := g.status(t, "f1").Scaling; return s.InFlight == 1 && s.Streams == 1 })
	release <- struct{}{} // the stream goes on after all this
	if rest, err := io.ReadAll(events.Body); string(rest) != "end" || err != nil {
		t.Errorf("the stream ended with %q, %v", rest, err)
	}
	eventually(t, "it has ended", func() bool { s := g.status(t, "f1").Scaling; return s.InFlight == 0 && s.Streams == 0 })
}

func TestColdStartIsTold(t *testing.T) {
	t.Parallel()
	g := newSite(t, functions)
	a := g.call(t, "POST", "/function/asleep", "x")
	ms, err := strconv.Atoi(a.Header.Get("X-Faas-Cold-Start"))
	if a.StatusCode != 200 || err != nil || ms < 1 {
		t.Errorf("%d, X-Faas-Cold-Start %q", a.StatusCode, a.Header.Get("X-Faas-Cold-Start"))
	}
	if a := g.call(t, "POST", "/function/asleep", "x"); a.Header.Get("X-Faas-Cold-Start") != "" {
		t.Errorf("it was warm: X-Faas-Cold-Start %q", a.Header.Get("X-Faas-Cold-Start"))
	}
	g.counts(t, `gateway_function_cold_start_seconds_count{function_name="asleep.openfaas-fn"}`, 1)
	if a := g.call(t, "POST", "/function/missing", "x"); a.StatusCode != 503 || a.Header.Get("X-Faas-Cold-Start") != "" {
		t.Errorf("it never started: %d, X-Faas-Cold-Start %q", a.StatusCode, a.Header.Get("X-Faas-Cold-Start"))
	}
	g.counts(t, `gateway_function_cold_start_seconds_count{function_name="missing.openfaas-fn"}`, 0)
}

// Load raises a function, and its status says why; a changed configuration holds at once, and keeps every process.
func TestLoadRaises(t *testing.T) {
	t.Parallel()
	g := newGateway(t, map[string]string{
		"Caddyfile": strings.Replace(managed, "EXTRA", "scale {\n\t\t\tdown_window 5m\n\t\t}", 1),
		"stack.yml": "functions:\n  slow:\n    fprocess: sh -c 'sleep 0.2; cat'\n    labels:\n      faas.concurrency: \"1\"\n      com.openfaas.scale.max: \"3\"\n",
	})
	g.start(t)
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for range 10 {
		load.Go(func() {
			for ctx.Err() == nil {
				if a, err := g.try(t.Context(), "POST", "/function/slow", strings.NewReader("x")); err != nil || a.StatusCode != 200 {
					t.Errorf("%v %+v", err, a)
				}
			}
		})
	}
	eventually(t, "there are three replicas", func() bool { return g.status(t, "slow").AvailableReplicas == 3 })
	if s := g.status(t, "slow").Scaling; s.Desired != 3 || s.Ready != 3 || s.InFlight == 0 || s.Rate == 0 || !strings.Contains(s.Reason, "-> 3: ") || s.Since.IsZero() {
		t.Errorf("its status says %+v", s)
	}
	before := fmt.Sprint(g.watchdogs(t))
	stop()
	load.Wait()
	g.reload(t)
	if after := fmt.Sprint(g.watchdogs(t)); after != before {
		t.Errorf("a reload changed the processes from %s to %s", before, after)
	}
	text, err := os.ReadFile(g.dir + "/Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	g.write(t, "Caddyfile", strings.Replace(string(text), "down_window 5m", "down_window 1s", 1))
	g.reload(t)
	eventually(t, "there is one again", func() bool { return len(g.watchdogs(t)) == 1 })
}

// managed is a site with functions, the API and metrics; EXTRA is more options of the app.
const managed = `{
	admin unix/DATA/admin.sock|0600
	grace_period 30s
	servers {
		listener_wrappers {
			faas_handover
			tls
		}
	}
	faas {
		data DATA
		functions stack.yml
		EXTRA
	}
}
SITE {
	handle /system/* {
		faas_api
	}
	handle /metrics {
		metrics {
			disable_openmetrics
		}
	}
	handle {
		faas
	}
	handle_errors {
		respond "{err.message}" {err.status_code}
	}
}
`
