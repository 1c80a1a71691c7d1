//go:build linux

package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
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
)

// startPlain starts the watchdog as users build it: the race detector takes memory of its own.
func startPlain(t *testing.T, env ...string) *dog {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	return launchDog(t, command(t, plainBinary, env, "-socket", socket), socket)
}

// kilobytes reads a line of /proc/PID/status.
func (d *dog) kilobytes(name string) int {
	d.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		d.t.Fatal(err)
	}
	m := regexp.MustCompile(name + `:\s+(\d+) kB`).FindSubmatch(status)
	n, _ := strconv.Atoi(string(m[1]))
	return n
}

// 100 MiB pass through in bounded memory, and arrive as they were sent.
func TestStreamingMemory(t *testing.T) {
	const size = 100 << 20
	d := startPlain(t, "fprocess=cat")
	d.do("POST", "/", strings.NewReader("x")).want(t, 200, "x")
	t.Logf("memory after one request: %d KiB", d.kilobytes("VmRSS"))
	sent := sha256.New()
	res, err := d.client.Post("http://function.test/", "application/octet-stream", io.TeeReader(&counter{left: size}, sent))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got := sha256.New()
	n, err := io.Copy(got, res.Body)
	if err != nil || n != size || !bytes.Equal(got.Sum(nil), sent.Sum(nil)) {
		t.Fatalf("%d bytes came back, error %v, or they differ", n, err)
	}
	peak := d.kilobytes("VmHWM")
	t.Logf("peak: %d KiB", peak)
	if peak > 32<<10 {
		t.Errorf("peak memory %d KiB for a body of 100 MiB", peak)
	}
}

// counter delivers bytes that depend on their place.
type counter struct{ n, left int }

func (c *counter) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	p = p[:min(len(p), c.left)]
	for i := range p {
		c.n++
		p[i] = byte(c.n ^ c.n>>8 ^ c.n>>16)
	}
	c.left -= len(p)
	return len(p), nil
}

func (d *dog) descriptors() int {
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.cmd.Process.Pid))
	if err != nil {
		d.t.Fatal(err)
	}
	return len(list)
}

// offspring are the watchdog's children, zombies included.
func (d *dog) offspring() []string {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", d.cmd.Process.Pid))
	var pids []string
	for _, f := range files {
		list, _ := os.ReadFile(f)
		pids = append(pids, strings.Fields(string(list))...)
	}
	return pids
}

// After 1,000 calls of all kinds nothing is left: no descriptor, no process, no goroutine.
func TestNothingLeaks(t *testing.T) {
	t.Parallel()
	d := startDog(t, "exec_timeout=3s", `fprocess=sh -c 'eval "$Http_X_Do"'`)
	calls := func(n int) {
		var wg sync.WaitGroup
		for worker := range 4 {
			wg.Go(func() {
				for i := range n / 4 {
					switch (4*i + worker) % 250 {
					case 2:
						d.do("GET", "/", nil, "X-Do", "sleep 100000").want(t, 504, "")
					case 10, 71, 133, 198:
						d.do("POST", "/", zeros(2*maxPipe), "X-Do", "cat").want(t, 200, "")
					case 11, 72, 134, 199:
						d.do("POST", "/", zeros(2*maxPipe), "X-Do", "exit 0").want(t, 200, "")
					case 13, 74, 136, 201:
						d.do("GET", "/", nil, "X-Do", "sleep 100000 & exit 3").want(t, 500, "")
					case 14, 75, 137, 202:
						if c, err := d.dial(); err == nil {
							io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nbeginning")
							c.Close()
						}
					default:
						d.do("POST", "/", strings.NewReader("x"), "X-Do", "exec true").want(t, 200, "")
					}
				}
			})
		}
		wg.Wait()
		d.client.CloseIdleConnections()
	}
	calls(100)
	d.eventually("the first calls' end", func() bool { return len(d.offspring()) == 0 })
	idle := d.descriptors()
	calls(1000)
	d.eventually("end of all processes", func() bool { return len(d.offspring()) == 0 })
	d.eventually(fmt.Sprintf("at most %d descriptors", idle), func() bool { return d.descriptors() <= idle })
	d.cmd.Process.Signal(syscall.SIGQUIT)
	<-d.exited
	dump := d.log.String()
	if i := strings.LastIndex(dump, "SIGQUIT: quit"); i >= 0 {
		dump = dump[i:]
	}
	if n := strings.Count(dump, "\ngoroutine "); n > 20 || n == 0 || strings.Contains(dump, "(*call)") || strings.Contains(dump, "(*lines)") {
		t.Errorf("%d goroutines are left", n)
	}
}

// Without a PID namespace too, nothing outlives the watchdog: not what has left its group and session and cleared its environment.
func TestStraysEnd(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"mode=fork", "mode=http"} {
		d := startDog(t, mode, "healthcheck_interval=0", `fprocess=sh -c 'env -i setsid sh -c "echo stray \$\$ >&2; exec sleep 100000" & sleep 0.2; test $mode = fork || sleep 100000'`)
		d.get("/")
		stray := d.printed("stray ")
		t.Cleanup(func() { syscall.Kill(stray, syscall.SIGKILL) })
		d.cmd.Process.Signal(syscall.SIGTERM)
		d.awaitExit()
		groupGone(t, stray)
	}
}

// As PID 1 the watchdog reaps orphans that others left, and takes none of them for a process of its own.
func TestReapsOrphansAsPID1(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s")
	cmd := command(t, testBinary, []string{"fprocess=sh -c 'setsid sh -c \"exit 7\" >/dev/null 2>&1 & setsid sleep 0.01 >/dev/null 2>&1 & echo $Http_X_N'"}, "-socket", socket)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	if err := exec.Command("unshare", "--pid", "--fork", "true").Run(); err != nil {
		lacking(t, "no PID namespace: %v", err)
	}
	d := launchDog(t, cmd, socket)
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := range 50 {
				n := fmt.Sprintf("<%d>", worker*1000+i)
				if r := d.do("GET", "/", nil, "X-N", n); r.err != nil || r.status != http.StatusOK || r.body != n+"\n" {
					t.Errorf("status %d, %q, %v", r.status, r.body, r.err)
				}
			}
		})
	}
	wg.Wait()
	d.eventually("no child, dead or alive", func() bool { return len(d.offspring()) == 0 })
}
