package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// startWeb starts a watchdog in mode http in front of the helper web.
func startWeb(t *testing.T, env ...string) *dog {
	t.Helper()
	d := startDog(t, append([]string{"mode=http", "fprocess=" + os.Args[0], "FWATCHDOG_HELPER=web"}, env...)...)
	return d
}

func (d *dog) awaitReady() *dog {
	d.t.Helper()
	d.eventually("readiness", func() bool { return d.get("/_/ready").status == 200 })
	return d
}

func TestProxy(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "up")
	for name, env := range map[string][]string{
		"port picked": {"PORT=1"},
		"unix socket": {"SOCKET=" + socket, "upstream_url=unix:" + socket},
	} {
		t.Run(name, func(t *testing.T) {
			d := startWeb(t, env...).awaitReady()
			for _, n := range []int{0, 10, 3*maxPipe + 1} {
				sent := bytes.Repeat([]byte("x"), n)
				r := d.do("PUT", "/echo?a=1&b;c", bytes.NewReader(sent), "X-Forwarded-For", "10.1.1.1")
				if r.err != nil || r.status != 202 || r.body != string(sent) || r.header.Get("X-Duration-Seconds") == "" {
					t.Fatalf("%d bytes: status %d, error %v, %d bytes back, %v", n, r.status, r.err, len(r.body), r.header)
				}
				if got := r.header.Get("X-Saw"); got != "PUT function.test /echo?a=1&b;c 10.1.1.1" {
					t.Errorf("the function saw %q", got)
				}
			}
			d.get("/nothing").want(t, 404, "")
			if r := d.get("/full"); r.status != 429 || r.header.Get("X-Faas-Replica-Full") != "" {
				t.Errorf("what a function says of another one's replica is passed on: %d, %v", r.status, r.header)
			}
			d.do("POST", "/ignore", zeros(5*maxPipe)).want(t, 200, "ignored")
		})
	}
}

func TestProxyStart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "go")
	d := startWeb(t, "WAIT_FOR="+file)
	for _, path := range []string{"/_/health", "/_/ready", "/echo"} {
		d.get(path).want(t, 503, "starting")
	}
	os.WriteFile(file, nil, 0o644)
	d.awaitReady().get("/echo").want(t, 202, "")
	d.get("/_/health").want(t, 200, "")
}

// Callers are told what went wrong with the connection, and the log where.
func TestRefusalWithoutAddress(t *testing.T) {
	var log bytes.Buffer
	p := &proxy{cfg: new(config), log: newLogger(&log, true)}
	r := httptest.NewRequest("GET", "/", nil)
	r = r.WithContext(context.WithValue(r.Context(), exchangeKey{}, new(exchange)))
	w := httptest.NewRecorder()
	_, err := net.Dial("tcp", "127.0.0.1:1")
	p.refuse(w, r, fmt.Errorf("dialling: %w", err))
	if got := w.Body.String(); w.Code != 502 || strings.Contains(got, "127.0.0.1") || !strings.Contains(got, "connection refused") {
		t.Errorf("%d %s", w.Code, got)
	}
	if !strings.Contains(log.String(), "127.0.0.1:1") {
		t.Errorf("log: %s", &log)
	}
}

func TestProxyRestart(t *testing.T) {
	t.Parallel()
	d := startWeb(t).awaitReady()
	first := d.printed("pid ")
	d.get("/exit").want(t, http.StatusBadGateway, "did not answer")
	d.eventually("another process", func() bool { return strings.Count(d.log.String(), "stderr: pid ") == 2 })
	d.awaitReady().get("/echo").want(t, 202, "")
	groupGone(t, first)
	if !strings.Contains(d.log.String(), "exit status 3; starting it again in 100ms") {
		t.Error("the log does not say why it was started again")
	}
	// One that never comes up: the delays grow, requests get an answer.
	d = startDog(t, "mode=http", "fprocess=sh -c 'exit 5'")
	for _, delay := range []string{"100ms", "200ms", "400ms"} {
		d.eventually("delay of "+delay, func() bool {
			return strings.Contains(d.log.String(), "exit status 5; starting it again in "+delay)
		})
	}
	d.get("/").want(t, 503, "")
}

// Two functions with one upstream_url: each request is answered by its own function, or not at all.
func TestProxyTargetTaken(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "taken")
	port := freePort(t)
	for url, where := range map[string]string{"http://127.0.0.1:" + port: "PORT=" + port, "unix:" + socket: "SOCKET=" + socket} {
		startWeb(t, "upstream_url="+url, where).awaitReady()
		// It comes second.
		d := startWeb(t, "upstream_url="+url, where)
		d.eventually("the reason", func() bool { return strings.Contains(d.log.String(), "can't be started: something else listens on ") })
		d.get("/echo").want(t, 503, "something else listens on ")
		if strings.Contains(d.log.String(), "Started fprocess") {
			t.Error("it was started")
		}
	}
	if runtime.GOOS != "linux" {
		return
	}
	// Another program comes first while the function is starting.
	file := filepath.Join(t.TempDir(), "go")
	port = freePort(t)
	d := startWeb(t, "upstream_url=http://127.0.0.1:"+port, "PORT="+port, "WAIT_FOR="+file)
	d.eventually("the start", func() bool { return strings.Contains(d.log.String(), "Started fprocess") })
	var accepted atomic.Int64
	ln, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	go http.Serve(ln, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { accepted.Add(1) }))
	d.eventually("the reason", func() bool { return strings.Contains(d.get("/echo").body, "something else listens on ") })
	ln.Close()
	os.WriteFile(file, nil, 0o644)
	d.awaitReady().get("/echo").want(t, 202, "")
	if accepted.Load() > 0 || strings.Count(d.log.String(), "fprocess accepts") != 1 {
		t.Errorf("%d requests got elsewhere", accepted.Load())
	}
}

func TestProxyTimeouts(t *testing.T) {
	t.Parallel()
	d := startWeb(t, "exec_timeout=1s").awaitReady()
	d.get("/hang").want(t, 504, "exec_timeout of 1s exceeded")
	if r := d.get("/half"); !errors.Is(r.err, io.ErrUnexpectedEOF) {
		t.Errorf("time limit after the beginning: status %d, %q, error %v", r.status, r.body, r.err)
	}
	d = startWeb(t, "read_timeout=300ms").awaitReady()
	for range 5 {
		c := d.mustDial()
		io.WriteString(c, "POST /hang HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n123")
		if answer, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 408 ") {
			t.Errorf("a slow body: %q, %v", answer, err)
		}
	}
}

// A client that takes the end of the connection for the end of the answer sees that an answer is incomplete.
func TestProxyHTTP10(t *testing.T) {
	t.Parallel()
	d := startPort(t, "mode=http", "fprocess="+os.Args[0], "FWATCHDOG_HELPER=web", "exec_timeout=1s").awaitReady()
	c := d.mustDial()
	io.WriteString(c, "GET /half HTTP/1.0\r\n\r\n")
	if text, err := io.ReadAll(c); err == nil || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %q, error %v", text, err)
	}
}

func TestProxyClientGone(t *testing.T) {
	d := startWeb(t, "exec_timeout=0").awaitReady()
	for i, body := range []io.Reader{nil, strings.NewReader("x"), zeros(maxPipe)} {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan reply)
		go func() { done <- d.request(ctx, "POST", "/hang", body) }()
		d.eventually("the request", func() bool { return strings.Count(d.log.String(), "hanging") == i+1 })
		cancel()
		<-done
		d.eventually("the function's notice", func() bool { return strings.Count(d.log.String(), "left alone") == i+1 })
	}
}

// Each event arrives before the next is sent, and the stream outlives exec_timeout.
func TestProxyEvents(t *testing.T) {
	t.Parallel()
	d := startWeb(t, "exec_timeout=1s").awaitReady()
	file := filepath.Join(t.TempDir(), "f")
	res, err := d.client.Get("http://function.test/events?file=" + file)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for i := range 3 {
		want := "data: " + string(rune('0'+i))
		if !lines.Scan() || lines.Text() != want || !lines.Scan() {
			t.Fatalf("got %q, error %v; want %q", lines.Text(), lines.Err(), want)
		}
		d.get("/hang").want(t, 504, "") // lets exec_timeout pass
		os.WriteFile(file+string(rune('0'+i)), nil, 0o644)
	}
	if lines.Scan() || lines.Err() != nil {
		t.Errorf("got %q, error %v; want the end", lines.Text(), lines.Err())
	}
}

func (d *dog) shout() (io.ReadWriteCloser, *bufio.Reader) {
	d.t.Helper()
	c := d.mustDial()
	io.WriteString(c, "GET /upgrade HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n")
	in := bufio.NewReader(c)
	res, err := http.ReadResponse(in, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		d.t.Fatalf("upgrading: %v, %v", res, err)
	}
	return c, in
}

func shouted(t *testing.T, c io.Writer, in *bufio.Reader) {
	t.Helper()
	io.WriteString(c, "hello\n")
	if line, err := in.ReadString('\n'); err != nil || line != "HELLO\n" {
		t.Fatalf("%q, %v", line, err)
	}
}

// An upgraded connection outlives exec_timeout, and draining waits for it before the function is told to end.
func TestProxyUpgrade(t *testing.T) {
	t.Parallel()
	d := startWeb(t, "exec_timeout=1s", "healthcheck_interval=0").awaitReady()
	c, in := d.shout()
	shouted(t, c, in)
	d.get("/hang").want(t, 504, "")
	shouted(t, c, in)
	d.cmd.Process.Signal(syscall.SIGTERM)
	d.eventually("the end of listening", d.refuses)
	for range 50 {
		shouted(t, c, in)
		time.Sleep(20 * time.Millisecond) // that it lasts is what is tested
	}
	if strings.Contains(d.log.String(), "terminated") {
		t.Error("the function was told to end with a connection open")
	}
	c.Close()
	if code := d.awaitExit(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	if !strings.Contains(d.log.String(), "stdout: terminated") {
		t.Error("the function was not told to end")
	}
}
