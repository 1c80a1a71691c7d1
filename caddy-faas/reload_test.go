package caddyfaas

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// site is a Caddyfile with all that the tests call for; EXTRA is more options of the app.
const site = `{
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
	log
	handle /metrics {
		metrics {
			disable_openmetrics
		}
	}
	handle /function/* {
		request_body {
			max_size 1MB
		}
		faas {
			wait 20s
		}
	}
	handle /fixed/* {
		faas echo
	}
	handle {
		faas {
			alexa {
				intent Mapped speaks
				insecure_skip_verify
			}
		}
	}
	handle_errors {
		respond "{err.message}" {err.status_code}
	}
}
`

// slow says that it has begun, and ends when its body does.
const stackFile = `functions:
  echo:
    fprocess: cat
  slow:
    fprocess: sh -c 'echo begun; cat'
`

func newSite(t *testing.T, stack string) *gateway {
	g := newGateway(t, map[string]string{
		"Caddyfile": strings.Replace(site, "EXTRA", "", 1),
		"stack.yml": stack,
	})
	g.start(t)
	return g
}

// held is a request inside a function, which ends when its body does.
type held struct {
	body *io.PipeWriter
	done chan *answer
	err  error
}

// hold sends a request to slow and returns once the function has answered the body's first part.
func (g *gateway) hold(t *testing.T) *held {
	t.Helper()
	r, w := io.Pipe()
	h := &held{body: w, done: make(chan *answer, 1)}
	begun := make(chan struct{})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, "POST", g.url+"/function/slow", r)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		resp, err := (&http.Client{Transport: &http.Transport{}}).Do(req)
		if err != nil {
			h.err = err
			close(begun)
			h.done <- nil
			return
		}
		defer resp.Body.Close()
		first := make([]byte, len("begun\n"))
		_, h.err = io.ReadFull(resp.Body, first)
		close(begun)
		rest, err := io.ReadAll(resp.Body)
		if h.err == nil {
			h.err = err
		}
		h.done <- &answer{resp, string(first) + string(rest)}
	}()
	<-begun
	if h.err != nil {
		t.Fatalf("holding a request: %v", h.err)
	}
	return h
}

// end finishes the body and checks the whole answer.
func (h *held) end(t *testing.T) {
	t.Helper()
	if _, err := io.WriteString(h.body, "the end"); err != nil {
		t.Error(err)
	}
	h.body.Close()
	a := <-h.done
	if h.err != nil || a.StatusCode != 200 || a.body != "begun\nthe end" {
		t.Errorf("held request: %v, answer %+v", h.err, a)
	}
}

func TestReloadKeepsWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	g := newSite(t, stackFile)
	g.call(t, "POST", "/function/echo", "x")
	h := g.hold(t)
	before := g.watchdogs(t) // both functions have answered
	g.reload(t)
	h.end(t)
	if after := g.watchdogs(t); !slices.Equal(before, after) || len(before) != 2 {
		t.Errorf("watchdogs %v became %v", before, after)
	}
	g.call(t, "POST", "/function/echo", "x")
	for _, series := range []string{
		`gateway_function_invocation_total{code="200",function_name="echo.openfaas-fn"}`,
		`gateway_function_invocation_started{function_name="echo.openfaas-fn"}`,
		`gateway_functions_seconds_count{code="200",function_name="echo.openfaas-fn"}`,
	} {
		g.counts(t, series, 2)
	}
	g.counts(t, `gateway_function_invocation_inflight{function_name="slow.openfaas-fn"}`, 0)
}

func TestFiftyReloadsLeakNothing(t *testing.T) {
	t.Parallel()
	g := newSite(t, stackFile)
	g.call(t, "POST", "/function/echo", "x")
	g.reload(t)
	begin := g.goroutines(t)
	for range 50 {
		g.reload(t)
	}
	// Caddy's own go away by and by.
	eventually(t, fmt.Sprintf("the goroutines are at most %d again", begin+5), func() bool { return g.goroutines(t) <= begin+5 })
}

// A reload with other options, under load: the processes stay, and no request is lost.
func TestReloadWithOtherOptionsUnderLoad(t *testing.T) {
	t.Parallel()
	g := newSite(t, stackFile)
	var before []int
	eventually(t, "both functions run", func() bool { before = g.watchdogs(t); return len(before) == 2 })
	stop := make(chan struct{})
	var sent atomic.Int64
	var load sync.WaitGroup
	for n := range 4 {
		load.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				want := fmt.Sprint("request ", n, " ", i)
				a, err := g.try(t.Context(), "POST", "/function/echo", strings.NewReader(want))
				if err != nil || a.StatusCode != 200 || a.body != want {
					t.Errorf("%s: %v, %+v", want, err, a)
					return
				}
				sent.Add(1)
			}
		})
	}
	for i := range 10 {
		g.write(t, "Caddyfile", strings.Replace(site, "EXTRA", fmt.Sprintf("provider local {\n\t\tlog_lines %d\n\t}", 100+i), 1))
		g.reload(t)
	}
	close(stop)
	load.Wait()
	if sent.Load() == 0 {
		t.Error("no request was sent")
	}
	if after := g.watchdogs(t); !slices.Equal(before, after) {
		t.Errorf("watchdogs %v became %v", before, after)
	}
}

// A configuration that fails after the functions' part of it was applied changes nothing.
func TestFailedReloadIsRolledBack(t *testing.T) {
	t.Parallel()
	g := newSite(t, stackFile)
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	g.write(t, "other.yml", strings.Replace(stackFile, "  slow:", "  other:", 1))
	for _, bad := range []string{
		// A port that is taken.
		strings.NewReplacer("SITE {", "SITE http://"+other.Addr().String()+" {\n\tbind 127.0.0.1", "functions stack.yml", "functions other.yml").Replace(site),
		strings.Replace(site, "functions stack.yml", "functions nowhere.yml", 1),
	} {
		g.write(t, "Caddyfile", strings.Replace(bad, "EXTRA", "", 1))
		out, err := g.caddy("reload", "--force", "--config", "Caddyfile").CombinedOutput()
		if err == nil {
			t.Fatalf("a bad configuration was loaded:\n%s", out)
		}
		if a := g.call(t, "POST", "/function/echo", "still"); a.StatusCode != 200 || a.body != "still" {
			t.Errorf("after a failed reload: %d %s", a.StatusCode, a.body)
		}
		if a := g.call(t, "POST", "/function/other", ""); a.StatusCode != 404 {
			t.Errorf("a function of the failed configuration: %d %s", a.StatusCode, a.body)
		}
		g.hold(t).end(t)
	}
}

func TestTerminationLetsRequestsEnd(t *testing.T) {
	t.Parallel()
	g := newSite(t, stackFile)
	h := g.hold(t)
	watchdogs := g.watchdogs(t)
	if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the gateway accepts no more", func() bool {
		c, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	h.end(t)
	<-g.ended
	if alive(t, watchdogs) {
		t.Errorf("of the watchdogs %v some are left", watchdogs)
	}
}

func TestTwoSitesShareTheApp(t *testing.T) {
	t.Parallel()
	g := newGateway(t, map[string]string{"stack.yml": stackFile})
	second := "http://localhost:" + freePort(t)
	g.write(t, "Caddyfile", strings.Replace(site, "EXTRA", "", 1)+second+" {\n\tfaas\n}\n")
	g.start(t)
	g.reload(t)
	for _, url := range []string{g.url, second} {
		resp, err := http.Post(url+"/function/echo", "text/plain", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Errorf("%s: %s", url, resp.Status)
		}
	}
	g.counts(t, `gateway_function_invocation_total{code="200",function_name="echo.openfaas-fn"}`, 2)
}

func TestValidateTouchesNothing(t *testing.T) {
	t.Parallel()
	g := newGateway(t, map[string]string{"Caddyfile": strings.Replace(site, "EXTRA", "watchdog /nowhere", 1)})
	if out, err := g.caddy("validate", "--config", "Caddyfile").CombinedOutput(); err != nil {
		t.Errorf("validate: %v\n%s", err, out)
	}
	if _, err := os.Stat(g.data()); err == nil {
		t.Error("validate made the state directory")
	}
}

// In this process: however often it is loaded, the engine has one user, and none after the end.
func TestEngineIsReleased(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	data := t.TempDir()
	load := func(lines int) error {
		config, err := adapt(t, fmt.Sprintf("{\n\tadmin off\n\tfaas {\n\t\tprovider local {\n\t\t\tlog_lines %d\n\t\t}\n\t\tdata %s\n\t\twatchdog %s/fwatchdog\n\t}\n}\nhttp://localhost:%s {\n\tfaas\n}\n",
			lines, data, binDir, freePort(t)))
		if err != nil {
			t.Fatal(err)
		}
		return caddy.Load(config, true)
	}
	key := "local local:" + data
	for n := range 5 {
		if err := load(n + 1); err != nil {
			t.Fatal(err)
		}
		if users, ok := engines.References(key); !ok || users != 1 {
			t.Errorf("after load %d the engine has %d users", n+1, users)
		}
	}
	if err := caddy.Stop(); err != nil {
		t.Error(err)
	}
	if users, ok := engines.References(key); ok {
		t.Errorf("after the end the engine has %d users", users)
	}
}

// A site on a unix socket goes through reloads, too.
func TestReloadOfUnixSocket(t *testing.T) {
	t.Parallel()
	g := newGateway(t, map[string]string{"stack.yml": stackFile})
	text := strings.Replace(strings.Replace(site, "EXTRA", "", 1), "SITE {", "SITE {\n\tbind unix/"+g.dir+"/site.sock", 1)
	g.write(t, "Caddyfile", text)
	g.start(t)
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", g.dir+"/site.sock")
	}}}
	for range 3 {
		resp, err := c.Post(g.url+"/function/echo", "text/plain", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		c.CloseIdleConnections()
		g.reload(t)
	}
}

// While a configuration with another data directory takes over, and afterwards, /metrics answers.
func TestReloadWithOtherData(t *testing.T) {
	t.Parallel()
	g := newSite(t, stackFile)
	g.call(t, "POST", "/function/echo", "x")
	g.write(t, "Caddyfile", strings.Replace(strings.Replace(site, "EXTRA", "", 1), "data DATA", "data DATA/other", 1))
	done := make(chan struct{})
	go func() { g.reload(t); close(done) }()
	for {
		if a := g.call(t, "GET", "/metrics", ""); a.StatusCode != 200 {
			t.Fatalf("/metrics: %d %s", a.StatusCode, a.body)
		}
		select {
		case <-done:
			g.call(t, "POST", "/function/echo", "x")
			g.counts(t, `gateway_service_count{function_name="echo.openfaas-fn"}`, 1)
			return
		default:
		}
	}
}

func TestHandoverMustBeFirst(t *testing.T) {
	t.Parallel()
	for _, wrappers := range []string{"tls\n\t\t\tfaas_handover", "faas_handover", "http_redirect\n\t\t\tfaas_handover\n\t\t\ttls"} {
		g := newGateway(t, map[string]string{"Caddyfile": strings.Replace(strings.Replace(site, "EXTRA", "", 1), "faas_handover\n\t\t\ttls", wrappers, 1)})
		if out, err := g.caddy("validate", "--config", "Caddyfile").CombinedOutput(); err == nil {
			t.Errorf("%q passed:\n%s", wrappers, out)
		}
	}
}
