package caddyfaas

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// functions are called in ways that go well, and in ways that don't.
const functions = `functions:
  echo:
    fprocess: cat
  env:
    fprocess: env
  asleep:
    fprocess: cat
    labels:
      com.openfaas.scale.min: "0"
  alexa:
    fprocess: sh -c 'cat >/dev/null; echo "{\"version\":\"1.0\",\"response\":{\"by\":\"alexa\"}}"'
    labels:
      faas.alexa: "true"
  speaks:
    fprocess: sh -c 'cat >/dev/null; echo "{\"version\":\"1.0\",\"response\":{\"by\":\"speaks\"}}"'
  fails:
    fprocess: sh -c 'echo no luck >&2; exit 3'
  endless:
    fprocess: sleep 1000
    environment:
      exec_timeout: 200ms
  missing:
    fprocess: there-is-no-such-command
  marks:
    fprocess: sh -c 'mktemp mark.XXXXXX >&2; case $Http_Path in /hang) exec sleep 1000; esac'
  ignores:
    fprocess: "true"
  pair:
    fprocess: sh -c 'echo $PWD; exec cat'
    labels:
      com.openfaas.scale.min: "2"
`

func TestInvoke(t *testing.T) {
	t.Parallel()
	g := newSite(t, functions)
	intent := func(name string) string {
		return `{"version":"1.0","session":{"application":{"applicationId":"a"}},"request":{"type":"IntentRequest","intent":{"name":"` + name + `"}}}`
	}
	asJSON := []string{"Content-Type", "application/json"}
	tests := []struct {
		name, method, path, body string
		header                   []string
		status                   int
		want                     string // contained in the body
		reason                   string // X-Faas-Reason
	}{
		{"by path", "POST", "/function/echo", "hello", nil, 200, "hello", ""},
		{"by qualified name", "POST", "/function/echo.openfaas-fn", "hello", nil, 200, "hello", ""},
		{"by header", "PUT", "/", "hello", []string{"X-Function", "echo"}, 200, "hello", ""},
		{"by the directive's argument", "PATCH", "/fixed/x", "hello", nil, 200, "hello", ""},
		{"by Alexa intent", "POST", "/", intent("alexa"), asJSON, 200, `{"by":"alexa"}`, ""},
		{"by mapped Alexa intent", "POST", "/", intent("Mapped"), asJSON, 200, `{"by":"speaks"}`, ""},
		{"method and path reach the function", "DELETE", "/function/env/a%2Fb/c?d=e%20f", "", nil, 200, "Http_Path=/a/b/c\n", ""},
		{"query reaches the function", "GET", "/function/env/?d=e%20f", "", nil, 200, "Http_Query=d=e%20f\n", ""},
		{"no HTTP_PROXY from outside", "GET", "/function/env", "", []string{"Proxy", "http://evil"}, 200, "Http_Method=GET\n", ""},
		{"options", "OPTIONS", "/function/env", "", nil, 200, "Http_Method=OPTIONS\n", ""},
		{"another method", "TRACE", "/function/env", "", nil, 405, "GET, HEAD, POST", ""},
		{"unknown function", "GET", "/function/nobody", "", nil, 404, "/function/NAME", ""},
		{"unknown namespace", "GET", "/function/echo.elsewhere", "", nil, 404, "echo.elsewhere", ""},
		{"unlabelled function by Alexa intent", "POST", "/", intent("speaks"), asJSON, 200, "Sorry, that did not work.", "unknown"},
		{"unknown function by Alexa intent", "POST", "/", intent("localhost"), asJSON, 200, "Sorry, that did not work.", "unknown"},
		{"nothing named", "POST", "/", "x", nil, 400, "X-Function", ""},
		{"no name in the path", "POST", "/function/", "x", nil, 404, "/function/NAME", ""},
		{"body over the limit", "POST", "/function/echo", strings.Repeat("x", 1_100_000), nil, 413, "too large", ""},
		{"failing function", "POST", "/function/fails", "", nil, 500, "no luck", ""},
		{"time limit", "POST", "/function/endless", "", nil, 504, "exec_timeout", ""},
		{"function that can't start", "POST", "/function/missing", "", nil, 503, "there-is-no-such-command", "start-failed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := g.call(t, tt.method, tt.path, tt.body, tt.header...)
			if a.StatusCode != tt.status || !strings.Contains(a.body, tt.want) {
				t.Errorf("got %d %.300q, want %d with %.100q", a.StatusCode, a.body, tt.status, tt.want)
			}
			if got := a.Header.Get("X-Faas-Reason"); got != tt.reason {
				t.Errorf("X-Faas-Reason %q, want %q", got, tt.reason)
			}
			if tt.reason != "" && tt.status != 200 && a.Header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			if strings.Contains(strings.ToUpper(a.body), "HTTP_PROXY=") {
				t.Errorf("the function got HTTP_PROXY: %s", a.body)
			}
		})
	}
	metrics := g.call(t, "GET", "/metrics", "").body
	for _, unknown := range []string{"nobody", "elsewhere", "localhost"} {
		if strings.Contains(metrics, unknown) {
			t.Errorf("a series of the unknown name %s", unknown)
		}
	}
	g.counts(t, `gateway_function_invocation_total{code="504",function_name="endless.openfaas-fn"}`, 1)
	g.counts(t, `gateway_function_invocation_total{code="503",function_name="missing.openfaas-fn"}`, 1)
	g.counts(t, `gateway_service_count{function_name="pair.openfaas-fn"}`, 2)
}

// A function that answers while it reads gets its whole body, however it is sent.
func TestLargeBodyIsEchoedWhole(t *testing.T) {
	t.Parallel()
	g := newSite(t, stackFile)
	body := make([]byte, 900_000)
	if _, err := rand.Read(body); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1, 64 << 10, 64<<10 + 1, 200_000, len(body)} {
		for _, r := range []io.Reader{bytes.NewReader(body[:size]), io.MultiReader(bytes.NewReader(body[:size]))} { // the second's length is unknown
			a, err := g.try(t.Context(), "POST", "/function/echo", r)
			if err != nil || a.StatusCode != 200 || a.body != string(body[:size]) {
				t.Errorf("%d bytes as %T: %v, status %d, %d bytes came back", size, r, err, a.StatusCode, len(a.body))
			}
		}
	}
}

func TestCallIsIdentified(t *testing.T) {
	t.Parallel()
	g := newSite(t, functions)
	a := g.call(t, "GET", "/function/env", "")
	made := a.Header.Get("X-Call-Id")
	if len(made) != 36 || a.Header.Get("X-Start-Time") == "" {
		t.Errorf("answer has X-Call-Id %q, X-Start-Time %q", made, a.Header.Get("X-Start-Time"))
	}
	if !strings.Contains(a.body, "Http_X_Call_Id="+made+"\n") || !strings.Contains(a.body, "Http_X_Start_Time="+a.Header.Get("X-Start-Time")+"\n") {
		t.Errorf("the function saw other values:\n%s", a.body)
	}
	if a := g.call(t, "GET", "/function/env", "", "X-Call-Id", "mine"); a.Header.Get("X-Call-Id") != "mine" || !strings.Contains(a.body, "Http_X_Call_Id=mine\n") {
		t.Errorf("the client's X-Call-Id was not kept: %q", a.Header.Get("X-Call-Id"))
	}
	if a := g.call(t, "GET", "/function/env", "", "X-Call-Id", strings.Repeat("x", 129)); len(a.Header.Get("X-Call-Id")) != 36 {
		t.Errorf("an endless X-Call-Id was kept")
	}
	g.call(t, "POST", "/function/asleep", "x")
	eventually(t, "the access log tells of the cold start", func() bool {
		for line := range strings.Lines(g.log.String()) {
			var entry struct {
				Function  string  `json:"function"`
				CallID    string  `json:"call_id"`
				ColdStart float64 `json:"cold_start"`
			}
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Function == "asleep.openfaas-fn" && entry.CallID != "" && entry.ColdStart > 0 {
				return true
			}
		}
		return false
	})
}

func TestFunctionAtZeroIsWokenOnce(t *testing.T) {
	t.Parallel()
	g := newSite(t, functions)
	g.counts(t, `gateway_service_count{function_name="asleep.openfaas-fn"}`, 0)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			a, err := g.try(t.Context(), "POST", "/function/asleep", strings.NewReader("awake"))
			if err != nil || a.StatusCode != 200 || a.body != "awake" {
				t.Errorf("%v, %+v", err, a)
			}
		})
	}
	all.Wait()
	if n := strings.Count(g.log.String(), `"waking function"`); n != 1 {
		t.Errorf("raised %d times", n)
	}
	g.counts(t, `gateway_function_invocation_total{code="200",function_name="asleep.openfaas-fn"}`, 50)
	g.counts(t, `gateway_service_count{function_name="asleep.openfaas-fn"}`, 1)
}

// A request whose replica dies under it was executed: it is answered 502 and not sent again.
func TestReplicaThatDiesAnswersOnce(t *testing.T) {
	t.Parallel()
	hangs := fmt.Sprintf("sleep 4141.%d", os.Getpid()) // unlike any other
	g := newSite(t, strings.Replace(functions, "exec sleep 1000", "exec "+hangs, 1))
	work := filepath.Join(g.data(), "local/work/marks.openfaas-fn/1/1/mark.*")
	marks := func() int {
		m, err := filepath.Glob(work)
		if err != nil {
			t.Fatal(err)
		}
		return len(m)
	}
	// On a connection that was used before, net/http would send a GET again.
	g.call(t, "GET", "/function/marks", "")
	answered := make(chan *answer, 1)
	go func() {
		a, err := g.try(t.Context(), "GET", "/function/marks/hang", nil)
		if err != nil {
			t.Error(err)
		}
		answered <- a
	}()
	var all []int
	eventually(t, "the function runs", func() bool { all = processes(t, hangs); return len(all) > 0 })
	for _, pid := range g.watchdogs(t) {
		if children(t, pid, all) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	a := <-answered
	if a.StatusCode != 502 || a.Header.Get("X-Faas-Reason") != "connection-lost" || strings.Contains(a.body, "unix") {
		t.Errorf("got %d, reason %q: %s", a.StatusCode, a.Header.Get("X-Faas-Reason"), a.body)
	}
	if n := marks(); n != 2 {
		t.Errorf("executed %d times, want 2: once before", n)
	}
	// It is started again. The dying process may take one more connection before the kernel closes its socket.
	eventually(t, "it answers again", func() bool { return g.call(t, "GET", "/function/marks", "").StatusCode == 200 })
	if n := marks(); n != 3 {
		t.Errorf("executed %d times, want 3: once afterwards", n)
	}
}

// Whatever becomes of a request, the rest of its body is never taken for the next one.
func TestBodyIsNeverARequest(t *testing.T) {
	t.Parallel()
	g := newSite(t, functions)
	host := strings.TrimPrefix(g.url, "http://")
	smuggled := "GET /function/echo?smuggled HTTP/1.1\r\nHost: " + host + "\r\n\r\n"
	for _, path := range []string{"/function/missing", "/function/ignores", "/function/fails", "/function/echo", "/function/nobody"} {
		for _, size := range []int{10, 5_000, 70_000, 300_000, 900_000} {
			for _, sent := range []int{0, size / 2, size} { // before the answer is read
				if size <= 64<<10 || path != "/function/ignores" && path != "/function/fails" {
					sent = size // the watchdog waits for a short body, net/http for a refused one, echo for any
				}
				c, err := net.Dial("tcp", host)
				if err != nil {
					t.Fatal(err)
				}
				body := strings.Repeat(smuggled, size/len(smuggled)+1)[:size]
				fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", path, host, size, body[:sent])
				r := bufio.NewReader(c)
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Fatalf("%s with %d of %d bytes sent: no answer: %v", path, sent, size, err)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil {
					t.Errorf("%s with %d of %d bytes sent: %v", path, sent, size, err)
				}
				io.WriteString(c, body[sent:])
				if !resp.Close { // then another request can follow
					fmt.Fprintf(c, "POST /function/wrong HTTP/1.1\r\nHost: %s\r\nContent-Length: 1\r\n\r\nx", host)
					if resp, err = http.ReadResponse(r, nil); err != nil || resp.StatusCode != 404 {
						t.Errorf("%s with %d of %d bytes sent: the next answer: %+v, %v", path, sent, size, resp, err)
					}
				} else if resp, err = http.ReadResponse(r, nil); err == nil {
					t.Errorf("%s with %d of %d bytes sent: a second answer %s", path, sent, size, resp.Status)
				}
				c.Close()
			}
		}
	}
	if log := g.log.String(); strings.Contains(log, "smuggled") || strings.Contains(log, "panic") {
		t.Error("a body was taken for a request, or the server panicked")
	}
}

// A body that breaks off is the client's fault.
func TestBrokenBody(t *testing.T) {
	t.Parallel()
	g := newSite(t, functions)
	host := strings.TrimPrefix(g.url, "http://")
	c, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST /function/echo HTTP/1.1\r\nHost: %s\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nnonsense\r\n", host)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if resp.StatusCode != 400 || resp.Header.Get("X-Faas-Reason") != "" {
		t.Errorf("answered %d %s (%v), want 400", resp.StatusCode, b, err)
	}
}

// children tells whether one of the pids descends from parent.
func children(t *testing.T, parent int, pids []int) bool {
	t.Helper()
	return slices.ContainsFunc(pids, func(pid int) bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return false
		}
		var ppid int
		fmt.Sscan(strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))[1], &ppid)
		return ppid == parent
	})
}

// A long-lived server behind the gateway: parts of an answer come as they are
// written, and an upgraded connection goes both ways.
func TestStreamsPassThrough(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	g := newSite(t, fmt.Sprintf(`functions:
  server:
    handler: %s
    fprocess: ./%s
    environment:
      mode: http
      %s: "1"
`, filepath.Dir(self), filepath.Base(self), asServer))
	resp, err := http.Get(g.url + "/function/server/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	events := bufio.NewReader(resp.Body)
	if line, err := events.ReadString('\n'); line != "data: first\n" {
		t.Fatalf("%s: read %q, %v while the server holds the rest back", resp.Status, line, err)
	}
	g.counts(t, `gateway_function_invocation_inflight{function_name="server.openfaas-fn"}`, 1)

	c, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /function/server/upgrade HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", strings.TrimPrefix(g.url, "http://"))
	r := bufio.NewReader(c)
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 101 {
		t.Fatalf("upgrade: %v, %+v", err, resp)
	}
	for _, line := range []string{"one\n", "two\n"} {
		fmt.Fprint(c, line)
		if got, err := r.ReadString('\n'); got != line {
			t.Errorf("sent %q, got %q, %v", line, got, err)
		}
	}
	g.counts(t, `gateway_function_invocation_inflight{function_name="server.openfaas-fn"}`, 2)
	c.Close()
	resp.Body.Close()
	g.counts(t, `gateway_function_invocation_inflight{function_name="server.openfaas-fn"}`, 0)
}

func TestKilledGatewayLeavesNothing(t *testing.T) {
	t.Parallel()
	mark := fmt.Sprintf("4242.%d", os.Getpid()) // unlike any other sleep
	g := newSite(t, `functions:
  background:
    fprocess: sh -c 'sleep `+mark+` & wait'
  daemon:
    fprocess: sh -c 'setsid sleep `+mark+` & wait'
`)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, name := range []string{"background", "daemon"} {
		go g.try(ctx, "POST", "/function/"+name, nil)
	}
	eventually(t, "both functions run", func() bool { return len(processes(t, mark)) >= 4 })
	watchdogs := g.watchdogs(t)
	g.stop(t, syscall.SIGKILL)
	eventually(t, "no process is left", func() bool { return len(processes(t, mark)) == 0 && !alive(t, watchdogs) })
}

func TestErrorsAtStart(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, caddyfile, want string
	}{
		{"no admin password", strings.ReplaceAll(read(t, "../Caddyfile"), "FAAS_DATA", "FAAS_TEST_DATA"), "caddy faas init"},
		{"no stack file", "{\n\tadmin off\n\tfaas {\n\t\tdata DATA\n\t\tfunctions nowhere.yml\n\t}\n}\nSITE {\n\tfaas\n}\n", "nowhere.yml"},
		{"no watchdog", "{\n\tadmin off\n\tfaas {\n\t\tdata DATA\n\t\twatchdog /nowhere/fwatchdog\n\t}\n}\nSITE {\n\tfaas\n}\n", "/nowhere/fwatchdog"},
		{"unknown provider", "{\n\tfaas {\n\t\tprovider cloud\n\t}\n}\n", "faas.providers.cloud"},
		{"unverified Alexa", "SITE {\n\tfaas {\n\t\talexa\n\t}\n}\n", "insecure_skip_verify"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newGateway(t, map[string]string{"Caddyfile": tt.caddyfile})
			out, err := g.caddy("run", "--config", "Caddyfile").CombinedOutput()
			if err == nil || !strings.Contains(string(out), tt.want) {
				t.Errorf("ended with %v, want an error with %q:\n%s", err, tt.want, out)
			}
		})
	}
}
