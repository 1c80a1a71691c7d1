package local

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/cgroups/v3/cgroup1"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/internal/faastest"
)

// A replica's processes are in its group from their beginning, and the group goes with them.
func TestGroup(t *testing.T) {
	r := limited(t, faas.Memory, faas.CPU, limitProcesses)
	watch := faastest.Record(t, r, nil)
	f := fn("f", "sh -c 'sleep 100000; echo'")
	f.Limits = faas.Resources{"memory": "128Mi", "cpu": "0.25"}
	f.Labels = map[string]string{faas.LabelProcesses: "77"}
	must(t, r.Create(background, f))
	id := watch.UntilReady(t, f.ID, 1)[0].ID
	receive, err := send(watch.UntilReady(t, f.ID, 1)[0].Addr, "")
	must(t, err)
	go receive()
	until(t, "the watchdog, a shell and what it started are in the group", func() bool {
		return !slices.ContainsFunc(r.groups.places(), func(dir string) bool {
			if _, err := os.Stat(dir); err != nil {
				return false // v2 has two places, of which one is there
			}
			pids := procs(filepath.Join(dir, id))
			return len(pids) < 3 || !slices.Contains(pids, r.find(f.ID).processes()[0].cmd.Process.Pid)
		})
	})
	values := map[string]string{"pids.max": "77"}
	if r.groups.unified {
		maps.Copy(values, map[string]string{"memory.max": "134217728", "memory.swap.max": "0", "cpu.max": "25000 100000"})
	} else {
		maps.Copy(values, map[string]string{"memory.limit_in_bytes": "134217728", "cpu.cfs_quota_us": "25000", "cpu.cfs_period_us": "100000"})
	}
	for _, dir := range r.groups.places() {
		for name, value := range values {
			got, err := os.ReadFile(filepath.Join(dir, id, name))
			if err == nil && strings.TrimSpace(string(got)) != value {
				t.Errorf("%s is %s, want %s", name, got, value)
			}
			if err == nil {
				delete(values, name)
			}
		}
	}
	delete(values, "memory.swap.max") // a kernel may have none
	if len(values) > 0 {
		t.Errorf("there is no %v", values)
	}
	usage, err := r.Usage(background, f.ID)
	if err != nil || usage.Memory < 1<<20 || usage.Memory > 128<<20 || usage.CPU <= 0 {
		t.Errorf("usage is %+v, %v", usage, err)
	}
	must(t, r.Scale(background, f.ID, 0))
	r.find(f.ID).processes()[0].kill() // rather than wait for the request
	watch.UntilReady(t, f.ID, 0)
	until(t, "the group's end", func() bool {
		return !slices.ContainsFunc(r.groups.places(), func(dir string) bool { return len(dirs(dir)) > 0 })
	})
	must(t, r.Close())
	for _, dir := range r.groups.places() {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s is left", dir)
		}
	}
}

// What a killed gateway left in its groups ends at the next start, whatever it is.
func TestGroupSweep(t *testing.T) {
	r := limited(t, faas.Memory)
	must(t, r.Close())
	g, err := r.groups.create("stray", limits{memory: 1 << 30, named: map[string]string{faas.Memory: "1Gi"}})
	must(t, err)
	stray := exec.Command("sleep", "100000")
	stray.SysProcAttr = new(syscall.SysProcAttr)
	g.enter(stray.SysProcAttr)
	must(t, stray.Start())
	for _, file := range g.join {
		must(t, os.WriteFile(file, []byte(strconv.Itoa(stray.Process.Pid)), 0))
	}
	ended := make(chan error, 1)
	go func() { ended <- stray.Wait() }()
	t.Cleanup(func() { stray.Process.Kill() })
	r = r.again(t)
	until(t, "the stray's end", func() bool {
		select {
		case err := <-ended:
			return err != nil && err.Error() == "signal: killed"
		default:
			return false
		}
	})
	for _, dir := range r.groups.places() {
		if len(dirs(dir)) > 0 {
			t.Errorf("%s has %v", dir, dirs(dir))
		}
	}
}

// So does what one left that was started in another group than this gateway, and which groups are below it.
func TestGroupSweepElsewhere(t *testing.T) {
	r := limited(t, faas.Memory)
	if got := r.groups.remembered(); len(got) == 0 || !slices.Equal(got, r.groups.places()) {
		t.Errorf("it keeps %v, want %v", got, r.groups.places())
	}
	must(t, r.Close())
	if _, err := os.Stat(r.groups.kept); err == nil {
		t.Error("the file of the places is left")
	}
	i := slices.IndexFunc(r.groups.places(), func(dir string) bool { return list(filepath.Dir(dir)) != nil })
	above := filepath.Join(filepath.Dir(r.groups.places()[i]), "elsewhere-"+r.groups.name)
	inner := filepath.Join(above, r.groups.name, "replica", "of-its-own")
	must(t, os.MkdirAll(inner, 0o755))
	t.Cleanup(func() {
		clearGroup(above)
		os.Remove(above)
	})
	must(t, os.WriteFile(r.groups.kept, []byte(filepath.Dir(filepath.Dir(inner))+"\n/tmp"), 0o600))
	stray := exec.Command("sleep", "100000")
	must(t, stray.Start())
	t.Cleanup(func() { stray.Process.Kill() })
	must(t, os.WriteFile(filepath.Join(inner, "cgroup.procs"), []byte(strconv.Itoa(stray.Process.Pid)), 0))
	ended := make(chan error, 1)
	go func() { ended <- stray.Wait() }()
	r = r.again(t)
	if left := dirs(above); len(left) > 0 {
		t.Errorf("%s has %v", above, left)
	}
	until(t, "the stray's end", func() bool {
		select {
		case err := <-ended:
			return err != nil && err.Error() == "signal: killed"
		default:
			return false
		}
	})
	if _, err := os.Stat(r.groups.kept); err == nil {
		t.Error("the file of the places is left")
	}
}

// A limit beyond what the kernel takes, or the watchdog can live with, is none to fail for.
func TestGroupExtremes(t *testing.T) {
	r := limited(t, faas.CPU, limitProcesses)
	watch := faastest.Record(t, r, nil)
	for processes, want := range map[string]string{"5": "32", "5000000": "4194304"} {
		f := fn("f"+processes, "cat")
		f.Limits = faas.Resources{"cpu": "9000000000000000"}
		f.Labels = map[string]string{faas.LabelProcesses: processes}
		must(t, r.Create(background, f))
		if got := ask(t, watch, f, "hello"); got != "hello" {
			t.Errorf("answer is %q", got)
		}
		id, got := watch.Deployment(f.ID).Replicas[0].ID, map[string]bool{}
		for _, dir := range r.groups.places() {
			for _, name := range []string{"pids.max", "cpu.max", "cpu.cfs_quota_us"} {
				if data, err := os.ReadFile(filepath.Join(dir, id, name)); err == nil {
					first, _, _ := strings.Cut(strings.TrimSpace(string(data)), " ")
					got[first] = true
				}
			}
		}
		if !got[want] || !got["100000000000"] {
			t.Errorf("%s processes: the group's limits are %v, want %s and 100000000000", processes, got, want)
		}
	}
}

// A gateway that has less itself, by cgroup v1, can't give more; and what could not be made leaves nothing.
func TestGroupBelowLess(t *testing.T) {
	r := limited(t, faas.CPU, limitProcesses)
	need(t, !r.groups.unified, "cgroup v1")
	own, err := cgroup1.NestedPath(fmt.Sprint("faas-test-less-", os.Getpid()))(cgroup1.Cpu)
	must(t, err)
	own = cgroup1.NewCpu(cgroupRoot).Path(own)
	must(t, os.Mkdir(own, 0o755))
	must(t, os.WriteFile(filepath.Join(own, "cpu.cfs_quota_us"), []byte("50000"), 0))
	pid := []byte(strconv.Itoa(os.Getpid()))
	must(t, os.WriteFile(filepath.Join(own, "cgroup.procs"), pid, 0))
	t.Cleanup(func() {
		r.Close()
		must(t, os.WriteFile(filepath.Join(filepath.Dir(own), "cgroup.procs"), pid, 0))
		clearGroup(own)
	})
	g, err := r.groups.create("more", limits{cpu: 700, processes: 99})
	must(t, err)
	for _, dir := range r.groups.places() {
		if len(dirs(dir)) != 1 {
			t.Errorf("%s has %v", dir, dirs(dir))
		}
	}
	must(t, g.remove())
	period, quota := uint64(cpuPeriod), int64(70_000)
	if _, err = r.groups.createLegacy("more", &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: &quota, Period: &period}}); err == nil {
		t.Error("more than its parent's is accepted")
	}
	for _, dir := range r.groups.places() {
		if len(dirs(dir)) > 0 {
			t.Errorf("%s has %v", dir, dirs(dir))
		}
	}
}

// Kernels without accounting of swap have no file for its limit.
func TestNoSwap(t *testing.T) {
	dir := t.TempDir()
	must(t, noSwap(dir))
	if names := list(dir); names != nil {
		t.Errorf("it made %v", names)
	}
	file := filepath.Join(dir, "memory.swap.max")
	must(t, os.WriteFile(file, []byte("m"), 0o600))
	must(t, noSwap(dir))
	if got, err := os.ReadFile(file); string(got) != "0" {
		t.Errorf("%q, %v", got, err)
	}
}

func dirs(dir string) (names []string) {
	for _, name := range list(dir) {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && info.IsDir() {
			names = append(names, name)
		}
	}
	return names
}
