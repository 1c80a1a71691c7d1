package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestParsePlan(t *testing.T) {
	p, err := parsePlan(`{"mounts":[{"source":"/a","target":"/b","read_only":true}],"proc":true,"dir":"/d","uid":7,"gid":8}`)
	if err != nil || len(p.Mounts) != 1 || p.Mounts[0] != (bind{"/a", "/b", true}) || !p.Proc || p.Dir != "/d" || p.UID != 7 || p.GID != 8 {
		t.Errorf("%+v, %v", p, err)
	}
	for _, bad := range []string{
		"", "[]", "{} {}", `{"uid":-1}`, `{"uid":4294967296}`, `{"gid":4294967295}`, `{"uid":"x"}`, `{"user":1}`, `{"dir":"rel"}`,
		`{"mounts":[{"source":"rel","target":"/b"}]}`, `{"mounts":[{"source":"/a","target":"../b"}]}`, `{"mounts":[{"source":"/a"}]}`,
	} {
		if p, err := parsePlan(bad); err == nil {
			t.Errorf("%s was taken for %+v", bad, p)
		}
	}
}

func TestWithoutStage(t *testing.T) {
	for _, args := range [][]string{
		{"fwatchdog", "-stage", "{}", "-socket", "/s", "-parent-fd", "3"},
		{"fwatchdog", "-socket", "/s", "--stage", "{}", "-parent-fd", "3"},
		{"fwatchdog", "-socket", "/s", "-parent-fd", "3", "-stage={}"},
		{"fwatchdog", "--stage={\"a\":\"=\"}", "-socket", "/s", "-parent-fd", "3"},
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

// staged prepares a watchdog that the plan is applied to, in namespaces of its own.
func staged(t *testing.T, p plan, env []string, args ...string) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	cmd := command(t, testBinary, env, append([]string{"-stage", string(text)}, args...)...)
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
	cmd := staged(t, plan{Mounts: []bind{{secrets, target, true}}, Proc: true, Dir: work, UID: uid, GID: uid},
		[]string{"fprocess=sh -c " + singleQuote(show), "exec_timeout=0", "combine_output=true", "TMPDIR=/tmp"}, "-socket", socket, "-parent-fd", "3")
	cmd.ExtraFiles = []*os.File{r}
	d := launchDog(t, cmd, socket)
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

func TestStageFailures(t *testing.T) {
	needNamespaces(t)
	for _, tt := range []struct {
		p    plan
		step string
	}{
		{plan{Mounts: []bind{{"/no/such/source", "/tmp", false}}}, "mounting /no/such/source on /tmp"},
		{plan{Dir: "/no/such/directory"}, "chdir /no/such/directory"},
	} {
		cmd := staged(t, tt.p, []string{"fprocess=cat"}, "-socket", "/no/such/s")
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 1 || strings.Count(string(out), "\n") != 1 || !strings.Contains(string(out), tt.step) {
			t.Errorf("%+v: %v, %q; want status 1 and one line with %q", tt.p, cmd.ProcessState, out, tt.step)
		}
	}
	// Without root's powers: the first step fails, and says so.
	cmd := command(t, plainBinary, []string{"fprocess=cat"}, "-stage", `{"proc":true}`)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1900000001, Gid: 1900000001}}
	if out, _ := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "making mounts private") {
		t.Errorf("%v, %q", cmd.ProcessState, out)
	}
}
