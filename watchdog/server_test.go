package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Connections that are idle for longer than every time limit, used or not, still take a POST; so none can be lost on them.
func TestIdleConnectionsStayOpen(t *testing.T) {
	t.Parallel()
	d := startPort(t, "fprocess=cat", "read_timeout=1s", "write_timeout=1s", "exec_timeout=1m")
	unused := d.mustDial()
	used := d.mustDial()
	in := map[net.Conn]*bufio.Reader{unused: bufio.NewReader(unused), used: bufio.NewReader(used)}
	post := func(c net.Conn, body string) {
		t.Helper()
		fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		res, err := http.ReadResponse(in[c], nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(res.Body); err != nil || string(got) != body || res.Close {
			t.Fatalf("%q, %v, close %v", got, err, res.Close)
		}
	}
	post(used, "first")
	for range 2 {
		time.Sleep(1200 * time.Millisecond) // the idle time is what is tested
		post(used, "again")
	}
	post(unused, "late")
	post(unused, "later")
}

// Bodies that come in pieces, each request within read_timeout but together far beyond it.
func TestPacedBodies(t *testing.T) {
	t.Parallel()
	d := startDog(t, "fprocess=cat", "read_timeout=5s")
	for range 3 {
		body, end := io.Pipe()
		go func() {
			for range 4 {
				io.WriteString(end, "piece ")
				time.Sleep(500 * time.Millisecond) // the pace is what is tested
			}
			end.Close()
		}()
		d.do("POST", "/", body).want(t, 200, "piece piece piece piece ")
	}
}

// Clients that send without a pause through SIGTERM and until the socket is gone lose no request. While draining each answer announces
// the end of its connection, and the watchdog is unhealthy.
func TestDrainLosesNothing(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T, ...string) *dog{"unix": startDog, "inherited": startInherited, "tcp": startPort} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := start(t, "fprocess=cat", "healthcheck_interval=2s")
			var answered, drained atomic.Int64
			var unready atomic.Bool
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for i := 0; ; i++ {
						// On a port a connection may sit in the kernel's queue at the instant of closing, which no server can
						// prevent: there clients heed readiness, as the gateway does.
						if name == "tcp" && unready.Load() {
							return
						}
						text := strconv.Itoa(i)
						r := d.do("POST", "/", strings.NewReader(text))
						var op *net.OpError
						if errors.As(r.err, &op) && op.Op == "dial" {
							return
						}
						if r.err != nil || r.status != 200 || r.body != text {
							t.Errorf("lost: status %d, error %v, body %q", r.status, r.err, r.body)
							return
						}
						answered.Add(1)
						if unready.Load() {
							drained.Add(1)
						}
					}
				})
			}
			d.eventually("load", func() bool { return answered.Load() > 20 })
			d.cmd.Process.Signal(syscall.SIGTERM)
			d.eventually("unreadiness", func() bool {
				r := d.get("/_/ready")
				return r.status == 503 && r.closes
			})
			if r := d.get("/_/health"); r.status != 503 {
				t.Errorf("healthy while draining: %+v", r)
			}
			unready.Store(true)
			wg.Wait()
			if name != "tcp" && drained.Load() == 0 {
				t.Error("no request was served in the lame duck")
			}
			if code := d.awaitExit(); code != 0 {
				t.Errorf("exit status %d", code)
			}
		})
	}
}

// inheritable is a socket as a parent makes it, and its descriptor.
func inheritable(t *testing.T) (socket string, f *os.File) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	if f, err = ln.(*net.UnixListener).File(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return socket, f
}

// startInherited starts a watchdog on a socket that the test has bound.
func startInherited(t *testing.T, env ...string) *dog {
	t.Helper()
	socket, f := inheritable(t)
	cmd := command(t, testBinary, env, "-listen-fd", "3")
	cmd.ExtraFiles = []*os.File{f}
	d := launchDog(t, cmd, socket)
	f.Close()
	return d
}

// Whoever has connected to an inherited socket before the watchdog runs is answered; the socket's file outlives the watchdog, and nobody
// can connect to it then.
func TestInheritedSocket(t *testing.T) {
	t.Parallel()
	for _, end := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		socket, f := inheritable(t)
		early, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer early.Close()
		io.WriteString(early, "GET /_/ready HTTP/1.0\r\n\r\n")
		cmd := command(t, testBinary, []string{"fprocess=sh -c 'ls /proc/self/fd'", "healthcheck_interval=0"}, "-listen-fd", "3")
		cmd.ExtraFiles = []*os.File{f}
		d := launchDog(t, cmd, socket)
		f.Close()
		if text, err := io.ReadAll(early); err != nil || !strings.Contains(string(text), " 200 ") {
			t.Errorf("early client: %q, %v", text, err)
		}
		r := d.get("/")
		r.want(t, 200, "2\n")
		if strings.Contains(r.body, "4\n") { // 3 is what ls reads
			t.Errorf("the socket leaks into the function: %q", r.body)
		}
		cmd.Process.Signal(end)
		d.awaitExit()
		if _, err := os.Lstat(socket); err != nil || !d.refuses() {
			t.Errorf("after %v: %v, or it accepts", end, err)
		}
	}
	out, err := command(t, testBinary, []string{"fprocess=cat"}, "-listen-fd", "9").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "-listen-fd 9: ") {
		t.Errorf("without the descriptor: %v, %q", err, out)
	}
}

// A client that is still in the kernel's queue when the listening ends is accepted.
func TestQueuedClientIsAccepted(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run("own", func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "s")
			l, err := listen(&config{}, socket, -1)
			if err != nil {
				t.Fatal(err)
			}
			acceptsQueue(t, l, socket, late)
		})
		t.Run("inherited", func(t *testing.T) {
			socket, f := inheritable(t)
			fd, err := syscall.Dup(int(f.Fd()))
			if err != nil {
				t.Fatal(err)
			}
			l, err := listen(&config{}, "", fd)
			if err != nil {
				t.Fatal(err)
			}
			acceptsQueue(t, l, socket, late)
		})
	}
}

// A watchdog that ends leaves its successor's socket alone.
func TestUnlinksItsOwnSocketOnly(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	first, err := listen(&config{}, socket, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := listen(&config{}, socket+"2", -1)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := os.Rename(socket+"2", socket); err != nil {
		t.Fatal(err)
	}
	first.unlink()
	if _, err := os.Lstat(socket); err != nil {
		t.Errorf("replaced, then unlinked: %v", err)
	}
	second.socket = socket
	second.unlink()
	if _, err := os.Lstat(socket); err == nil {
		t.Error("it is still there")
	}
	if err := os.WriteFile(socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if second.made, err = os.Lstat(socket); err != nil { // a file system may give the number of a removed file to the next
		t.Fatal(err)
	}
	second.unlink()
	if _, err := os.Lstat(socket); err != nil {
		t.Errorf("unlinked twice: %v", err)
	}
}

// A Read that begins after the request's end doesn't wait for the client.
func TestReadAfterEnd(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	b := &body{ReadCloser: server, conn: &conn{Conn: server}, limit: time.Now().Add(time.Hour), since: time.Now()}
	b.end()
	read := make(chan error)
	go func() {
		_, err := b.Read(make([]byte, 1))
		read <- err
	}()
	select {
	case err := <-read:
		if err == nil {
			t.Error("no error")
		}
	case <-time.After(patience):
		t.Fatal("it waits")
	}
}

func acceptsQueue(t *testing.T, l *listener, socket string, late bool) {
	defer l.Close()
	for range 3 {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	finished := make(chan struct{})
	go func() { l.finish(); close(finished) }()
	eventually(t, "the end of the socket", func() bool { return l.finishing.Load() })
	if late { // Accept was not given the processor in time
		l.until = time.Now()
		l.setDeadline(l.until)
	}
	accepted := 0
	for c, err := l.Accept(); ; c, err = l.Accept() {
		if err != nil {
			break
		}
		accepted++
		c.Close()
	}
	<-finished
	if c, err := net.Dial("unix", socket); err == nil && runtime.GOOS == "linux" {
		c.Close()
		t.Error("a client could still connect")
	}
	if accepted != 3 {
		t.Errorf("%d of 3 clients were accepted", accepted)
	}
}

// A request in flight at SIGTERM is finished, new connections are refused meanwhile.
func TestDrainFinishesRequests(t *testing.T) {
	t.Parallel()
	d := startDog(t, "fprocess=cat", "healthcheck_interval=0")
	body, end := io.Pipe()
	done := make(chan reply)
	go func() { done <- d.do("POST", "/", body) }()
	io.WriteString(end, "before ")
	d.eventually("the call", func() bool { return strings.Contains(d.log.String(), "Forking fprocess") })
	d.cmd.Process.Signal(syscall.SIGTERM)
	d.eventually("the end of listening", d.refuses)
	io.WriteString(end, "after")
	end.Close()
	(<-done).want(t, 200, "before after")
	if code := d.awaitExit(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	if _, err := os.Lstat(d.socket); err == nil {
		t.Error("the socket is left")
	}
}

func TestDrainEndsAtExecTimeout(t *testing.T) {
	t.Parallel()
	d := startDog(t, "fprocess=sh -c 'echo pid $$ >&2; sleep 100000'", "healthcheck_interval=0", "exec_timeout=1s")
	done := make(chan reply)
	go func() { done <- d.get("/") }()
	group := d.printed("pid ")
	d.cmd.Process.Signal(syscall.SIGINT)
	(<-done).want(t, 504, "exec_timeout")
	if code := d.awaitExit(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	groupGone(t, group)
}

func TestSecondSignal(t *testing.T) {
	t.Parallel()
	for _, env := range []string{"healthcheck_interval=100000", "healthcheck_interval=0"} {
		d := startDog(t, env, "exec_timeout=0", "fprocess=sh -c 'echo pid $$ >&2; sleep 100000'")
		done := make(chan reply)
		go func() { done <- d.get("/") }()
		group := d.printed("pid ")
		d.cmd.Process.Signal(syscall.SIGTERM)
		d.eventually("draining", func() bool { return strings.Contains(d.log.String(), "Draining") })
		d.cmd.Process.Signal(syscall.SIGTERM)
		if code := d.awaitExit(); code != 1 {
			t.Errorf("exit status %d", code)
		}
		groupGone(t, group)
		if r := <-done; r.err == nil && r.status != 500 {
			t.Errorf("answered: %+v", r)
		}
	}
}

// The end of the parent's pipe ends everything; a function does not inherit the pipe, or it could never end.
func TestParentGone(t *testing.T) {
	t.Parallel()
	for _, env := range []string{"mode=fork", "mode=http"} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		socket := filepath.Join(t.TempDir(), "s")
		cmd := command(t, testBinary, []string{"exec_timeout=0", env, "fprocess=sh -c 'ls /proc/self/fd >&2; echo pid $$ >&2; sleep 100000'"},
			"-socket", socket, "-parent-fd", "3")
		cmd.ExtraFiles = []*os.File{r, r, r} // two that nobody speaks of
		d := launchDog(t, cmd, socket)
		r.Close()
		go d.get("/")
		group := d.printed("pid ")
		// 0, 1, 2 and the directory that ls reads
		if log := d.log.String(); strings.Contains(log, "stderr: 4\n") || strings.Contains(log, "stderr: 5\n") {
			t.Error("a descriptor leaks into the function")
		}
		w.Close()
		if code := d.awaitExit(); code != 1 {
			t.Errorf("exit status %d", code)
		}
		groupGone(t, group)
		if _, err := os.Lstat(socket); err == nil {
			t.Error("the socket is left")
		}
	}
}

func TestSocket(t *testing.T) {
	d := startDog(t, "fprocess=cat")
	if info, err := os.Stat(d.socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", info, err)
	}
	other := command(t, testBinary, []string{"fprocess=cat"}, "-socket", d.socket)
	if out, _ := other.CombinedOutput(); other.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "another process listens") {
		t.Errorf("a second watchdog on the socket: %v, %q", other.ProcessState, out)
	}
	d.cmd.Process.Kill()
	d.awaitExit()
	d = launchDog(t, command(t, testBinary, []string{"fprocess=cat"}, "-socket", d.socket), d.socket)
	d.get("/_/health").want(t, 200, "")
}

func TestRunHealthcheck(t *testing.T) {
	t.Parallel()
	ask := func(d *dog) int {
		cmd := command(t, testBinary, nil, "-run-healthcheck", "-socket", d.socket)
		if d.socket == "" {
			_, port, _ := net.SplitHostPort(d.addr)
			cmd = command(t, testBinary, []string{"port=" + port}, "-run-healthcheck")
		}
		cmd.Run()
		return cmd.ProcessState.ExitCode()
	}
	for _, d := range []*dog{startDog(t, "fprocess=cat", "healthcheck_interval=100000"), startPort(t, "fprocess=cat", "healthcheck_interval=100000")} {
		if code := ask(d); code != 0 {
			t.Errorf("healthy, but status %d", code)
		}
		d.cmd.Process.Signal(syscall.SIGTERM)
		d.eventually("ill health", func() bool { return ask(d) == 1 })
		d.cmd.Process.Kill()
		d.awaitExit()
		if code := ask(d); code != 1 {
			t.Errorf("gone, but status %d", code)
		}
	}
}

func TestLockFile(t *testing.T) {
	d := startPort(t, "fprocess=cat", "healthcheck_interval=100000")
	var lock string
	_, port, _ := net.SplitHostPort(d.addr)
	for _, v := range d.cmd.Env {
		if dir, ok := strings.CutPrefix(v, "TMPDIR="); ok {
			lock = filepath.Join(dir, ".lock-"+port)
		}
	}
	d.get("/_/health").want(t, 200, "")
	if err := os.Rename(lock, lock+"-away"); err != nil {
		t.Fatal(err)
	}
	d.get("/_/health").want(t, 503, "lock")
	os.Rename(lock+"-away", lock)
	d.get("/_/health").want(t, 200, "")
	d.cmd.Process.Signal(syscall.SIGTERM)
	d.eventually("removal of the lock", func() bool { _, err := os.Stat(lock); return err != nil })
	for _, d := range []*dog{startPort(t, "fprocess=cat", "suppress_lock=true"), startDog(t, "fprocess=cat")} {
		d.get("/_/health").want(t, 200, "")
		for _, v := range d.cmd.Env {
			if dir, ok := strings.CutPrefix(v, "TMPDIR="); ok {
				if files, err := filepath.Glob(filepath.Join(dir, ".lock*")); err != nil || len(files) > 0 {
					t.Errorf("lock files: %v, %v", files, err)
				}
			}
		}
	}
}

func TestMetrics(t *testing.T) {
	port := freePort(t)
	address := "127.0.0.1:" + port
	d := startDog(t, "metrics_port="+port, "exec_timeout=10s", `fprocess=sh -c 'cat; exit "${Http_X_Code:-0}"'`)
	metricsText := func() string {
		res, err := http.Get("http://" + address + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, _ := io.ReadAll(res.Body)
		return string(text)
	}
	body, end := io.Pipe()
	done := make(chan reply)
	go func() { done <- d.do("POST", "/", body) }()
	d.eventually("a request in flight", func() bool { return strings.Contains(metricsText(), "\nhttp_requests_in_flight 1\n") })
	end.Close()
	(<-done).want(t, 200, "")
	d.do("POST", "/", nil, "X-Code", "1").want(t, 500, "")
	d.do("BREW", "/", nil).want(t, 200, "")
	d.do("GET", "/", nil, "X-Code", "1").want(t, 500, "")
	d.get("/_/health")
	d.eventually("no request in flight", func() bool { return strings.Contains(metricsText(), "\nhttp_requests_in_flight 0\n") })
	text := metricsText()
	for _, want := range []string{
		"# TYPE http_requests_total counter", "# TYPE http_request_duration_seconds histogram", "# TYPE http_requests_in_flight gauge",
		`http_requests_total{code="200",method="post"} 1`, `http_requests_total{code="500",method="post"} 1`,
		`http_requests_total{code="500",method="get"} 1`, `http_requests_total{code="200",method="unknown"} 1`,
		`http_request_duration_seconds_bucket{code="200",method="post",le="10"} 1`,
		`http_request_duration_seconds_bucket{code="200",method="post",le="+Inf"} 1`,
		`http_request_duration_seconds_count{code="200",method="post"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no line %q in\n%s", want, text)
		}
	}
	line := regexp.MustCompile(`^(# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\{([a-z]+="[^"]*",?)+\})? [0-9.e+-]+)$`)
	for l := range strings.Lines(text) {
		if !line.MatchString(strings.TrimSuffix(l, "\n")) {
			t.Errorf("not Prometheus' format: %q", l)
		}
	}
}

// What the histogram says of durations on and between the bounds.
func TestHistogram(t *testing.T) {
	m := newMetrics()
	for _, took := range []float64{0.001, 0.005, 0.0051, 10, 11} {
		m.inflight++
		m.count(labels{200, "get"}, took)
	}
	text := string(m.text())
	for le, n := range map[string]int{"0.005": 2, "0.01": 3, "5": 3, "10": 4, "+Inf": 5} {
		if want := fmt.Sprintf(`le="%s"} %d`, le, n); !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if !strings.Contains(text, "_sum{code=\"200\",method=\"get\"} 21.0111\n") {
		t.Errorf("wrong sum in\n%s", text)
	}
}

// A request that breaks off, and an abandoned one, are counted too.
func TestMetricsOfAbortedRequest(t *testing.T) {
	m := newMetrics()
	func() {
		defer func() { recover() }()
		req, _ := http.NewRequestWithContext(context.Background(), "GET", "/", nil)
		rec := m.begin(nil, req)
		defer rec.end()
		panic(http.ErrAbortHandler)
	}()
	if text := string(m.text()); !strings.Contains(text, `http_requests_total{code="499",method="get"} 1`) || m.inflight != 0 {
		t.Errorf("%s", text)
	}
}

// What two servers could read in two ways is refused, so that no request hides in another's body.
func TestAmbiguousRequests(t *testing.T) {
	d := startPort(t, "fprocess=cat")
	const hidden = "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, head := range map[string]string{
		"two lengths":            fmt.Sprintf("Content-Length: 0\r\nContent-Length: %d", len(hidden)),
		"two lengths in one":     fmt.Sprintf("Content-Length: 0, %d", len(hidden)),
		"a space before a colon": fmt.Sprintf("Content-Length : 0\r\nContent-Length: %d", len(hidden)),
		"another encoding":       "Transfer-Encoding: xchunked",
		"two encodings":          "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
		"a NUL":                  "X-A: \x00",
		"a bare return":          "X-A: b\rX-B: c",
		"two hosts":              "Host: y",
	} {
		c := d.mustDial()
		fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n%s", head, hidden)
		in := bufio.NewReader(c)
		res, err := http.ReadResponse(in, nil)
		if err != nil || res.StatusCode < 400 || !res.Close {
			t.Errorf("%s: %v, %+v", name, err, res)
			continue
		}
		io.Copy(io.Discard, res.Body)
		if res, err := http.ReadResponse(in, nil); err == nil {
			t.Errorf("%s: a second answer %s", name, res.Status)
		}
	}
}
