package caddyfaas

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/caddy-faas/faas/caddy-faas/internal/faastest"
)

// asCaddy makes the test binary Caddy itself, so that tests run the real
// program, race detector included, without linking it a second time.
const asCaddy = "FAAS_TEST_AS_CADDY"

// patience bounds every wait for a condition. Nothing is asserted about how long it took.
const patience = faastest.Patience

var (
	eventually = faastest.Eventually
	needs      = faastest.Needs
)

// binDir holds fwatchdog, and caddy: a link to the test binary.
var binDir string

func TestMain(m *testing.M) {
	if os.Getenv(askRoots) != "" {
		printRoots()
		return
	}
	if os.Getenv(asCaddy) != "" {
		trustTestAmazon()
		settling = 10 * time.Second // what the answers say depends on it on a busy machine
		caddycmd.Main()
		return
	}
	if gate := os.Getenv(asServer); gate != "" {
		fmt.Fprintln(os.Stderr, serveStreams(gate))
		os.Exit(1)
	}
	os.Exit(runTests(m))
}

// asServer makes the test binary a function of mode http, which begins once it can read a line from a file of that name; "1": at once.
const asServer = "FAAS_TEST_AS_SERVER"

// serveStreams is that function: /events sends the first of two parts, /upgrade echoes, /count counts the body's bytes.
func serveStreams(gate string) error {
	if gate != "1" {
		f, err := os.Open(gate)
		if err != nil {
			return err
		}
		if _, err := f.Read(make([]byte, 1)); err != nil {
			return err
		}
		f.Close()
	}
	http.HandleFunc("/count", func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			return
		}
		fmt.Fprint(w, n, " bytes")
	})
	http.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "data: first\n")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	http.HandleFunc("/upgrade", func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(c, rw)
	})
	return http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil)
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "faas")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binDir = dir
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, filepath.Join(dir, "caddy"))
	}
	if err == nil {
		err = goBuild("..", "./watchdog", filepath.Join(dir, "fwatchdog"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "preparing the tests:", err)
		return 1
	}
	return m.Run()
}

// goBuild builds as xcaddy.sh does, so that what either has built is the other's too.
func goBuild(module, pkg, file string) error {
	build := exec.Command("go", "build", "-C", module, "-trimpath", "-ldflags", "-s -w", "-o", file, pkg)
	build.Env, build.Stderr = append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
	return build.Run()
}

// buildSamples builds the sample functions in their folders.
var buildSamples = sync.OnceValue(func() error {
	mains, err := filepath.Glob("../functions/*/main.go")
	if err == nil && len(mains) == 0 {
		err = errors.New("there are no sample functions")
	}
	for _, main := range mains {
		name := filepath.Base(filepath.Dir(main))
		err = errors.Join(err, goBuild("../functions", "./"+name, name+"/handler"))
	}
	return err
})

// gateway is a running Caddy with a state directory of its own.
type gateway struct {
	dir, url, admin string
	client          *http.Client
	password        string   // sent to /system/, if there is one
	env             []string // more of it
	cmd             *exec.Cmd
	log             logBuffer
	ended           chan struct{}
}

// caddy is a command of the program, run in the gateway's folder.
func (g *gateway) caddy(args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(binDir, "caddy"), args...)
	c.Dir = g.dir
	c.Env = append(os.Environ(), asCaddy+"=1", "FAAS_DATA="+g.data(), "FAAS_SITE="+g.url, "OPENFAAS_URL="+g.url, "OPENFAAS_CONFIG="+filepath.Join(g.dir, "openfaas"),
		"PATH="+binDir+":"+os.Getenv("PATH"), "XDG_DATA_HOME="+g.dir, "XDG_CONFIG_HOME="+g.dir)
	c.Env = append(c.Env, g.env...)
	return c
}

func (g *gateway) data() string { return filepath.Join(g.dir, "data") }

// newGateway prepares a gateway in a folder of its own. In files, SITE and DATA stand for its address and state directory.
func newGateway(t testing.TB, files map[string]string) *gateway {
	t.Helper()
	// Short, for the admin socket's path; and others may enter, as they may a clone.
	dir, err := os.MkdirTemp("", "gw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	g := &gateway{dir: dir, url: "http://localhost:" + freePort(t), client: &http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: 100},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	g.admin = filepath.Join(g.data(), "admin.sock")
	for name, text := range files {
		g.write(t, name, text)
	}
	return g
}

func (g *gateway) write(t testing.TB, name, text string) {
	t.Helper()
	text = strings.NewReplacer("SITE", g.url, "DATA", g.data()).Replace(text)
	if err := os.WriteFile(filepath.Join(g.dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// start runs the gateway's Caddyfile and waits until it serves.
func (g *gateway) start(t testing.TB) {
	t.Helper()
	if err := os.MkdirAll(g.data(), 0o711); err != nil {
		t.Fatal(err)
	}
	g.cmd = g.caddy("run", "--config", "Caddyfile")
	g.log.reset() // of an earlier run
	g.cmd.Stdout, g.cmd.Stderr = &g.log, &g.log
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	g.ended = ended
	go func(c *exec.Cmd) { c.Wait(); close(ended) }(g.cmd)
	t.Cleanup(func() {
		g.stop(t, syscall.SIGTERM)
		if _, race, found := strings.Cut(g.log.String(), "WARNING: DATA RACE"); found {
			t.Errorf("the gateway has a data race:%.5000s", race)
		}
		if t.Failed() {
			t.Logf("end of the gateway's log:\n%s", g.log.tail(20))
		}
	})
	eventually(t, "the gateway serves", func() bool {
		select {
		case <-ended:
			t.Fatalf("the gateway ended: %s\n%s", g.cmd.ProcessState, g.log.String())
		default:
		}
		return strings.Contains(g.log.String(), "serving initial configuration")
	})
}

// stop sends a signal and waits for the end.
func (g *gateway) stop(t testing.TB, s syscall.Signal) {
	t.Helper()
	g.cmd.Process.Signal(s) // it may have ended
	select {
	case <-g.ended:
	case <-time.After(patience):
		g.cmd.Process.Kill()
		t.Errorf("the gateway did not end on %s", s)
	}
}

// reload loads the Caddyfile anew, changed or not.
func (g *gateway) reload(t *testing.T) {
	t.Helper()
	if out, err := g.caddy("reload", "--force", "--config", "Caddyfile").CombinedOutput(); err != nil {
		t.Fatalf("reload: %v\n%s", err, out)
	}
	if file, err := os.ReadFile(filepath.Join(g.dir, "Caddyfile")); err != nil {
		t.Fatal(err)
	} else if !strings.Contains(string(file), "faas_handover") {
		g.client.CloseIdleConnections() // Caddy closes them, and may do so when a request has just been sent
	}
}

// call sends one request and returns the answer with its body read.
func (g *gateway) call(t testing.TB, method, path, body string, header ...string) *answer {
	t.Helper()
	a, err := g.try(t.Context(), method, path, strings.NewReader(body), header...)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	isDescribed(t, method, path, a.StatusCode, a.Header, a.body)
	isTaken(t, method, path, body, a.StatusCode)
	return a
}

type answer struct {
	*http.Response
	body string
}

func (g *gateway) try(ctx context.Context, method, path string, body io.Reader, header ...string) (*answer, error) {
	r, err := http.NewRequestWithContext(ctx, method, g.url+path, body)
	if err != nil {
		return nil, err
	}
	if g.password != "" && strings.HasPrefix(path, "/system/") {
		r.SetBasicAuth("admin", g.password)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return whole(g.client.Do(r))
}

// do sends a request and returns the answer with its body read.
func (g *gateway) do(t *testing.T, r *http.Request) *answer {
	t.Helper()
	a, err := whole(g.client.Do(r))
	if err != nil {
		t.Fatalf("%s %s: %v", r.Method, r.URL, err)
	}
	return a
}

func whole(resp *http.Response, err error) (*answer, error) {
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return &answer{resp, string(b)}, err
}

// counts waits until a series of /metrics, as it is written there, has a value:
// an invocation is counted just after its answer. A missing series counts as 0.
func (g *gateway) counts(t *testing.T, series string, want float64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s is %g", series, want), func() bool {
		got := 0.0
		for line := range strings.Lines(g.call(t, "GET", "/metrics", "").body) {
			if rest, ok := strings.CutPrefix(line, series+" "); ok {
				var err error
				if got, err = strconv.ParseFloat(strings.TrimSpace(rest), 64); err != nil {
					t.Fatalf("%s: %v", series, err)
				}
			}
		}
		return got == want
	})
}

// goroutines is how many the gateway has now, by its admin endpoint.
func (g *gateway) goroutines(t *testing.T) int {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", g.admin)
	}}}
	resp, err := c.Get("http://admin/debug/pprof/goroutine?debug=1")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`goroutine profile: total (\d+)`).FindSubmatch(b)
	if m == nil {
		t.Fatalf("no goroutine count in %.200s", b)
	}
	n, _ := strconv.Atoi(string(m[1]))
	return n
}

// processes are the pids whose command line contains a text, by ps.
func processes(t *testing.T, text string) []int {
	t.Helper()
	out, err := exec.Command("ps", "-A", "-o", "pid=,stat=,args=").Output()
	if err != nil {
		t.Fatalf("ps: %v", err)
	}
	var pids []int
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) > 2 && !strings.HasPrefix(f[1], "Z") && strings.Contains(line, text) {
			pid, _ := strconv.Atoi(f[0])
			pids = append(pids, pid)
		}
	}
	return pids
}

// alive tells whether one of these watchdogs still runs.
func alive(t *testing.T, watchdogs []int) bool {
	t.Helper()
	return slices.ContainsFunc(processes(t, filepath.Join(binDir, "fwatchdog")), func(pid int) bool { return slices.Contains(watchdogs, pid) })
}

// watchdogs are the pids of the gateway's replicas.
func (g *gateway) watchdogs(t *testing.T) []int {
	t.Helper()
	out, err := exec.Command("ps", "-A", "-o", "pid=,ppid=,args=").Output()
	if err != nil {
		t.Fatalf("ps: %v", err)
	}
	var pids []int
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) > 2 && f[1] == strconv.Itoa(g.cmd.Process.Pid) && strings.Contains(f[2], "fwatchdog") {
			pid, _ := strconv.Atoi(f[0])
			pids = append(pids, pid)
		}
	}
	return pids
}

// ports are those that this run of the tests has claimed, by listening on the one before them:
// two gateways that share a port share its connections.
var ports struct {
	sync.Mutex
	next, end int
	claims    []net.Listener
}

// freePort is a port that no other test gets, below those that the kernel gives to connections:
// else one of these could have it before it is listened on, or while a gateway restarts.
func freePort(t testing.TB) string {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	for range 1000 {
		if ports.next == ports.end {
			first := 10_000 + 100*rand.IntN(200)
			l, err := net.Listen("tcp", ":"+strconv.Itoa(first))
			if err != nil {
				continue
			}
			ports.claims = append(ports.claims, l)
			ports.next, ports.end = first+1, first+100
		}
		port := strconv.Itoa(ports.next)
		ports.next++
		if l, err := net.Listen("tcp", ":"+port); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return ""
}

func atoi(t testing.TB, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// logBuffer is a log that can be read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Reset()
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// tail is the last lines but those of the access log.
func (l *logBuffer) tail(n int) string {
	var lines []string
	for line := range strings.Lines(l.String()) {
		if !strings.Contains(line, "http.log.access") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-n):], "")
}
