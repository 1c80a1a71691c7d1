package deploy

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for a condition.
const patience = 2 * time.Minute

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
		<-time.After(100 * time.Millisecond)
	}
}

// An engine is a dockerd of the test's own, with a network of its own and all
// ports free. The machine's engine may be in a swarm that others use.
type engine struct {
	dir string
	env []string // for docker
	pid int
}

// start is what the engine's first process does: it gives it a /sys of its own
// network, with the machine's control groups, reaps what is orphaned, and ends the daemon in peace.
const start = `set -e
mkdir "$1/cg"; mount --rbind /sys/fs/cgroup "$1/cg"; mount -t sysfs sysfs /sys; mount --rbind "$1/cg" /sys/fs/cgroup; umount -l "$1/cg"
ip link set lo up
dockerd --config-file "$1/daemon.json" --data-root "$1/data" --exec-root "$1/exec" --pidfile "$1/pid" --host "unix://$1/docker.sock" \
	--cgroup-parent "/$2" --log-level warn &
trap 'kill "$!"; wait "$!"' TERM
wait "$!"
`

func startEngine(t *testing.T) *engine {
	t.Helper()
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		lacking(t, "docker", "an engine of one's own takes root on Linux")
	}
	for _, tool := range []string{"docker", "dockerd", "unshare", "nsenter", "ip", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			lacking(t, "docker", err)
		}
	}
	dir, err := os.MkdirTemp("", "fd") // short, for the socket's path
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/daemon.json", []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	group := "faas-test-" + filepath.Base(dir)
	log, err := os.Create(dir + "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c := exec.Command("unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc", "--propagation", "private",
		"sh", "-c", start, "engine", dir, group)
	c.Stdout, c.Stderr = log, log
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	runtime.LockOSThread() // the signal is sent at the end of the thread that starts it
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill() // with it the first process of its namespace, and all others
		c.Wait()
		runtime.UnlockOSThread()
		if t.Failed() {
			b, _ := os.ReadFile(dir + "/log")
			t.Logf("end of the engine's log:\n%s", b[max(0, len(b)-4000):])
		}
		removeGroups(group)
		eventually(t, "the engine's folder can be removed", func() bool { return os.RemoveAll(dir) == nil })
	})
	e := &engine{dir: dir, env: []string{"DOCKER_HOST=unix://" + dir + "/docker.sock"}, pid: c.Process.Pid}
	eventually(t, "the engine answers", func() bool {
		_, err := run(e.env, "docker", "version")
		return err == nil
	})
	return e
}

// removeGroups removes control groups, which the kernel leaves behind.
func removeGroups(name string) {
	for _, pattern := range []string{"/sys/fs/cgroup/" + name, "/sys/fs/cgroup/*/" + name} {
		roots, _ := filepath.Glob(pattern)
		for _, root := range roots {
			exec.Command("find", root, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+").Run()
		}
	}
}

func (e *engine) docker(t *testing.T, args ...string) string {
	t.Helper()
	return strings.TrimSpace(mustRun(t, e.env, "docker", args...))
}

// curl asks from the engine's own network.
func (e *engine) curl(args ...string) (string, error) {
	args = append([]string{"--net=/proc/" + fmt.Sprint(e.pid) + "/ns/net", "curl", "--silent", "--show-error", "--max-time", "20"}, args...)
	return run(nil, "nsenter", args...)
}

// listen takes a port of the engine's own network until it is given back.
func (e *engine) listen(t *testing.T, port string) (free func()) {
	t.Helper()
	c := exec.Command("nsenter", "--net=/proc/"+fmt.Sprint(e.pid)+"/ns/net", "busybox", "httpd", "-f", "-p", port)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	free = sync.OnceFunc(func() { c.Process.Kill(); c.Wait() })
	t.Cleanup(free)
	eventually(t, "the port is taken", func() bool { _, err := e.curl("http://127.0.0.1:" + port); return err == nil })
	return free
}

// busybox makes the image busybox:test, which takes Alpine's place.
func (e *engine) busybox(t *testing.T) {
	t.Helper()
	path, err := exec.LookPath("busybox")
	if err != nil {
		lacking(t, "docker", "BusyBox is missing: apt-get install busybox-static")
	}
	program, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err = w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "bin/", Mode: 0o755})
	err = errors.Join(err, w.WriteHeader(&tar.Header{Name: "bin/busybox", Mode: 0o755, Size: int64(len(program))}))
	_, short := w.Write(program)
	err = errors.Join(err, short)
	for applet := range strings.FieldsSeq(mustRun(t, nil, path, "--list")) {
		if applet != "busybox" {
			err = errors.Join(err, w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + applet, Linkname: "busybox"}))
		}
	}
	err = errors.Join(err, w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777}), w.Close())
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("docker", "import", "-", "busybox:test")
	c.Env, c.Stdin = append(os.Environ(), e.env...), &b
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
