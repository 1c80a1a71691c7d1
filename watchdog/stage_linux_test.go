package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestParseSteps(t *testing.T) {
	steps, err := parseSteps(`join /c bind-ro '/a b' /t proc user 7 4294967294`)
	want := []step{{"join", []string{"/c"}, nil}, {"bind-ro", []string{"/a b", "/t"}, nil}, {"proc", nil, nil}, {"user", nil, []int64{7, 1<<32 - 2}}}
	if err != nil || !reflect.DeepEqual(steps, want) {
		t.Errorf("%+v, %v", steps, err)
	}
	for _, bad := range []string{
		"'", "jump", "user 1", "user -1 1", "user 4294967296 1", "user 1 4294967295", "user x 1", "user 1 1 1", "chdir rel", "bind /a", "bind a /b", "bind /a ../b", "chdir ''",
	} {
		if steps, err := parseSteps(bad); err == nil {
			t.Errorf("%s was taken for %+v", bad, steps)
		}
	}
}

func TestWithoutStage(t *testing.T) {
	for _, args := range [][]string{
		{"fwatchdog", "-stage", "proc", "-socket", "/s", "-parent-fd", "3"},
		{"fwatchdog", "-socket", "/s", "--stage", "", "-parent-fd", "3"},
		{"fwatchdog", "-socket", "/s", "-parent-fd", "3", "-stage=proc"},
		{"fwatchdog", "--stage=chdir /a=b", "-socket", "/s", "-parent-fd", "3"},
	} {
		want := []string{"fwatchdog", "-socket", "/s", "-parent-fd", "3"}
		if got := withoutStage(args); !slices.Equal(got, want) {
			t.Errorf("withoutStage(%q) = %q", args, got)
		}
	}
}

// lacking skips a test on machines that can't run it, unless FAAS_TEST_REQUIRE says that this one must.
func lacking(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("FAAS_TEST_REQUIRE") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

func needNamespaces(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		lacking(t, "the stage needs root")
	}
	if err := exec.Command("unshare", "--pid", "--mount", "--fork", "true").Run(); err != nil {
		lacking(t, "no namespaces: %v", err)
	}
}

// staged prepares a watchdog that the steps are applied to, in namespaces of its own.
func staged(t *testing.T, steps string, env []string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := command(t, testBinary, env, append([]string{"-stage", steps}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
	return cmd
}

// The function runs as another user, in its own directory and /proc, with its mounts, in a tree that is closed to that user; and the
// watchdog still notices its parent's end, as which every process of the namespace dies.
func TestStage(t *testing.T) {
	needNamespaces(t)
	const uid = 1900000001
	private := t.TempDir() // 0700 below, and root's
	os.Chmod(private, 0o700)
	public, err := os.MkdirTemp("/tmp", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(public) })
	work, secrets, target := filepath.Join(private, "work"), filepath.Join(private, "secrets"), filepath.Join(public, "t")
	for _, dir := range []string{work, secrets, target} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{work, public} {
		os.Chown(dir, uid, uid)
	}
	os.WriteFile(filepath.Join(secrets, "key"), []byte("secret\n"), 0o444)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(public, "s")
	show := `id -u; id -g; id -G; pwd; cat T/key; echo x 2>/dev/null >T/new || echo read-only; echo $$; grep -E "NoNewPrivs|^CapEff" /proc/self/status;` +
		`cat /proc/1/cmdline | tr "\0" " "; echo; grep " T " /proc/self/mountinfo | cut -d" " -f6; ls ..; echo x >here && echo writable; sleep 100000 & setsid sleep 100000 & ` +
		`if test -n "$Http_X_Stay"; then wait; fi`
	show = strings.ReplaceAll(show, "T", target)
	cmd := staged(t, fmt.Sprintf("bind-ro %s %s proc chdir %s user %d %d", secrets, target, work, uid, uid),
		[]string{"fprocess=sh -c " + singleQuote(show), "exec_timeout=0", "combine_output=true", "TMPDIR=/tmp"}, "-socket", socket, "-parent-fd", "3")
	cmd.ExtraFiles = []*os.File{r}
	d := launchDog(t, cmd, socket)
	if got := read(t, fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid)); got != "fwatchdog\n" {
		t.Errorf("ps calls it %s", got)
	}
	r.Close()
	answer := d.get("/")
	answer.want(t, 200, fmt.Sprintf("%d\n%d\n%d\n%s\nsecret\nread-only\n", uid, uid, uid, work))
	answer.want(t, 200, "NoNewPrivs:\t1\n")
	answer.want(t, 200, "CapEff:\t0000000000000000\n")
	answer.want(t, 200, testBinary+" -socket ") // PID 1 is the watchdog, -stage is gone
	answer.want(t, 200, "ro,nosuid,nodev")
	answer.want(t, 200, "Permission denied") // the directory above
	answer.want(t, 200, "writable\n")
	if _, err := os.Stat(filepath.Join(target, "key")); err == nil {
		t.Error("the mount is seen outside")
	}
	go d.do("GET", "/", nil, "X-Stay", "1")
	var family []int
	d.eventually("processes in the namespace: the watchdog, a shell, two sleeping", func() bool {
		family = namespaceOf(d.cmd.Process.Pid)
		return len(family) >= 4
	})
	w.Close()
	if code := d.awaitExit(); code != 1 {
		t.Errorf("exit status %d", code)
	}
	d.eventually("end of the namespace", func() bool { return !slices.ContainsFunc(family, alive) })
}

// namespaceOf lists the processes in the PID namespace of the process.
func namespaceOf(pid int) []int {
	its, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	links, _ := filepath.Glob("/proc/[0-9]*/ns/pid")
	var pids []int
	for _, link := range links {
		if ns, err := os.Readlink(link); err == nil && ns == its {
			var n int
			fmt.Sscanf(link, "/proc/%d/", &n)
			pids = append(pids, n)
		}
	}
	return pids
}

// Secrets are in memory that the function reads and nobody writes, at two places; of a root filesystem that is read-only one mount can be written.
func TestStageMounts(t *testing.T) {
	needNamespaces(t)
	const uid = 1900000001
	public, err := os.MkdirTemp("/tmp", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(public) })
	os.Chmod(public, 0o755)
	path := func(name string) string { return filepath.Join(public, name) }
	for _, name := range []string{"secrets", "usual", "work"} {
		os.Mkdir(path(name), 0o755)
	}
	os.Chown(path("work"), uid, uid)
	os.WriteFile(path("value"), []byte("sesame\n"), 0o600)
	steps := fmt.Sprintf("bind P/work P/work tmpfs P/secrets 8192 %[1]d %[1]d secret P/value P/secrets/key %[1]d %[1]d seal P/secrets bind-ro P/secrets P/usual read-only writable P/work proc chdir P/work user %[1]d %[1]d", uid)
	show := `cat P/secrets/key P/usual/key; stat -c "%a %u" P/secrets P/secrets/key; for dir in P/secrets P/usual P/work /tmp; do chmod 700 $dir 2>/dev/null; touch $dir/new 2>/dev/null && echo yes || echo no; done; cat P/value 2>&1 || true`
	cmd := staged(t, strings.ReplaceAll(steps, "P/", public+"/"), []string{"fprocess=sh -c " + singleQuote(strings.ReplaceAll(show, "P/", public+"/"))}, "-socket", path("work/s"))
	d := launchDog(t, cmd, path("work/s"))
	d.get("/").want(t, 200, fmt.Sprintf("sesame\nsesame\n500 %[1]d\n400 %[1]d\nno\nno\nyes\nno\ncat: %[2]s/value: Permission denied\n", uid, public))
	for _, name := range []string{"secrets", "usual"} {
		if left, _ := os.ReadDir(path(name)); len(left) > 0 {
			t.Errorf("%s is seen outside: %v", name, left)
		}
	}
}

func TestStageFailures(t *testing.T) {
	needNamespaces(t)
	for _, tt := range []struct {
		steps, says string
	}{
		{"bind /no/such/source /tmp", "bind: mounting /no/such/source on /tmp"},
		{"chdir /no/such/directory", "chdir /no/such/directory"},
		{"join /no/such/group/cgroup.procs", "join: open /no/such/group/cgroup.procs"},
		{"secret /no/such/secret /tmp/x 1 1", "secret: open /no/such/secret"},
	} {
		cmd := staged(t, tt.steps, []string{"fprocess=cat"}, "-socket", "/no/such/s")
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 1 || strings.Count(string(out), "\n") != 1 || !strings.Contains(string(out), tt.says) {
			t.Errorf("%s: %v, %q; want status 1 and one line with %q", tt.steps, cmd.ProcessState, out, tt.says)
		}
	}
	// Without root's powers: the first step fails, and says so.
	cmd := command(t, plainBinary, []string{"fprocess=cat"}, "-stage", "proc")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1900000001, Gid: 1900000001}}
	if out, _ := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "making mounts private") {
		t.Errorf("%v, %q", cmd.ProcessState, out)
	}
}
