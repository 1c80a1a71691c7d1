package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a condition may take to come true on a loaded machine. No test measures time.
const patience = 2 * time.Minute

// The watchdog as users build it, and as the tests run it: with the race detector if they have it.
var plainBinary, testBinary string

func TestMain(m *testing.M) {
	if name := os.Getenv("FWATCHDOG_HELPER"); name != "" {
		helpers[name]()
		return
	}
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "fwatchdog")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	os.Chmod(dir, 0o755)
	plainBinary = filepath.Join(dir, "fwatchdog")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", plainBinary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	testBinary = plainBinary
	builds := []*exec.Cmd{build}
	if raceDetector {
		testBinary = plainBinary + "-race"
		builds = append(builds, exec.Command("go", "build", "-race", "-o", testBinary, "."))
	}
	for _, b := range builds {
		if out, err := b.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%v: %v\n%s", b.Args, err, out)
			return 1
		}
	}
	return m.Run()
}

// dog is a running watchdog.
type dog struct {
	t      testing.TB
	cmd    *exec.Cmd
	socket string // "": it listens on addr
	addr   string
	log    *buffer
	client *http.Client
	exited chan struct{}
}

// buffer collects what the watchdog logs.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// command prepares a watchdog with exactly these variables besides PATH, HOME and TMPDIR.
func command(t testing.TB, binary string, env []string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=/", "TMPDIR=" + t.TempDir(), "GORACE=halt_on_error=1"}, env...)
	cmd.WaitDelay = 100 * time.Millisecond
	return cmd
}

// startDog starts a watchdog on a unix socket and waits until it accepts.
func startDog(t *testing.T, env ...string) *dog {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	return launchDog(t, command(t, testBinary, env, "-socket", socket), socket)
}

// startPort starts a watchdog on a port.
func startPort(t *testing.T, env ...string) *dog {
	t.Helper()
	return launchDog(t, command(t, testBinary, append([]string{"port=0"}, env...)), "")
}

var listening = regexp.MustCompile(`listening on (\S+)`)

func launchDog(t testing.TB, cmd *exec.Cmd, socket string) *dog {
	t.Helper()
	d := &dog{t: t, cmd: cmd, socket: socket, log: &buffer{}, exited: make(chan struct{})}
	cmd.Stderr = d.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { cmd.Wait(); close(d.exited) }()
	t.Cleanup(d.end)
	var address string
	d.eventually("listening", func() bool {
		m := listening.FindStringSubmatch(d.log.String())
		if m != nil {
			address = m[1]
		}
		return m != nil
	})
	if _, port, err := net.SplitHostPort(address); err == nil {
		d.addr = "127.0.0.1:" + port
	}
	d.client = &http.Client{Timeout: patience, Transport: &http.Transport{
		DialContext:         func(context.Context, string, string) (net.Conn, error) { return d.dial() },
		MaxIdleConnsPerHost: 64,
		DisableCompression:  true,
	}}
	return d
}

// end kills the watchdog and whatever it may have left, and shows the log of a failed test.
func (d *dog) end() {
	if d.client != nil {
		d.client.CloseIdleConnections()
	}
	d.cmd.Process.Signal(syscall.SIGTERM)
	d.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-d.exited:
	case <-time.After(5 * time.Second):
		d.cmd.Process.Kill()
		<-d.exited
	}
	if strings.Contains(d.log.String(), "DATA RACE") {
		d.t.Error("data race in the watchdog")
	}
	if d.t.Failed() {
		log := d.log.String()
		d.t.Logf("log of the watchdog:\n%s", log[max(0, len(log)-8000):])
	}
}

func (d *dog) dial() (net.Conn, error) {
	if d.addr != "" {
		return net.Dial("tcp", d.addr)
	}
	return net.Dial("unix", d.socket)
}

// refuses says whether the watchdog accepts no connections.
func (d *dog) refuses() bool {
	c, err := d.dial()
	if err == nil {
		c.Close()
	}
	return err != nil
}

func (d *dog) mustDial() net.Conn {
	d.t.Helper()
	c, err := d.dial()
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

func (d *dog) eventually(what string, is func() bool) {
	d.t.Helper()
	eventually(d.t, what, is)
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if is() {
			return
		}
	}
	t.Fatalf("never came true: %s", what)
}

// reply is a whole answer; err is set if it was broken off.
type reply struct {
	status int
	header http.Header
	length int64
	body   string
	closes bool // it announces the end of its connection
	err    error
}

func (d *dog) do(method, path string, body io.Reader, header ...string) reply {
	d.t.Helper()
	return d.request(context.Background(), method, path, body, header...)
}

func (d *dog) request(ctx context.Context, method, path string, body io.Reader, header ...string) reply {
	req, err := http.NewRequestWithContext(ctx, method, "http://function.test"+path, body)
	if err != nil {
		return reply{err: err}
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	res, err := d.client.Do(req)
	if err != nil {
		return reply{err: err}
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return reply{res.StatusCode, res.Header, res.ContentLength, string(text), res.Close, err}
}

func (d *dog) get(path string) reply {
	d.t.Helper()
	return d.do("GET", path, nil)
}

// want fails the test unless the answer has the status and contains the text.
func (r reply) want(t *testing.T, status int, text string) {
	t.Helper()
	if r.err != nil || r.status != status || !strings.Contains(r.body, text) {
		t.Fatalf("got status %d, error %v, body %.300q; want %d and %q", r.status, r.err, r.body, status, text)
	}
}

// awaitExit waits for the watchdog's end and returns its exit status, -1 for a signal.
func (d *dog) awaitExit() int {
	d.t.Helper()
	select {
	case <-d.exited:
	case <-time.After(patience):
		d.t.Fatal("the watchdog did not end")
	}
	return d.cmd.ProcessState.ExitCode()
}

// printed waits until the function has printed a number to stderr after the mark, and returns it.
func (d *dog) printed(mark string) int {
	d.t.Helper()
	number := regexp.MustCompile(mark + `(\d+)\n`)
	n := 0
	d.eventually("log line "+mark, func() bool {
		m := number.FindStringSubmatch(d.log.String())
		if m != nil {
			n, _ = strconv.Atoi(m[1])
		}
		return m != nil
	})
	return n
}

// groupGone waits until no process of the group lives.
func groupGone(t *testing.T, group int) {
	t.Helper()
	eventually(t, fmt.Sprintf("end of process group %d", group), func() bool {
		return syscall.Kill(-group, 0) == syscall.ESRCH || allZombies(group)
	})
}

// allZombies says whether those of the group that are left only wait for their parent, which is not the watchdog.
func allZombies(group int) bool {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		stat, _ := os.ReadFile(name)
		_, rest, _ := strings.Cut(string(stat), ") ")
		if f := strings.Fields(rest); len(f) > 2 && f[2] == strconv.Itoa(group) && f[0] != "Z" {
			return false
		}
	}
	return len(stats) > 0
}

// zeros is a body of n bytes of unknown length.
func zeros(n int64) io.Reader { return struct{ io.Reader }{io.LimitReader(zeroReader{}, n)} }

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// freePort is below those that the kernel gives to connections and to other tests' servers:
// one of these could have it before it is listened on.
func freePort(t *testing.T) string {
	t.Helper()
	for range 1000 {
		port := strconv.Itoa(10_000 + rand.IntN(20_000))
		if l, err := net.Listen("tcp", ":"+port); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return ""
}
