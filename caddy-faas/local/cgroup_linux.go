package local

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	cgroupfs "github.com/containerd/cgroups/v3"
	"github.com/containerd/cgroups/v3/cgroup1"
	"github.com/containerd/cgroups/v3/cgroup2"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

const (
	cgroupRoot = "/sys/fs/cgroup"
	// gatewayGroup is where the gateway moves itself on cgroup v2, which allows
	// limits only to groups whose parent has no process of its own.
	gatewayGroup = "faas-gateway"
	// cpuPeriod is the scheduler's, in microseconds.
	cpuPeriod = 100_000
	// mostCPU is more thousandths of a core than any machine has, and no more than the kernel takes.
	mostCPU = 1_000_000_000
)

// controllers are the kernel's names of what enforces a limit.
var controllers = map[string]string{faas.Memory: "memory", faas.CPU: "cpu", limitProcesses: "pids"}

// cgroups is the engine's own control group, below the one that the gateway is
// in. It is made when the first limit asks for it.
type cgroups struct {
	name  string // its name, of the data directory
	kept  string // the file that keeps where it was made
	stage bool   // processes can join it by themselves: for cgroup v1

	once    sync.Once
	unified bool
	group   string   // v2: its path below cgroupRoot
	have    []string // controllers that work
	why     error    // why the others, or none, do
}

// A cgroup is that of one replica.
type cgroup struct {
	join []string // v1: the files in which the process enters itself
	dir  *os.File // v2: the process is started in it
	oom  *os.File // nil without a memory limit
	v1   cgroup1.Cgroup
	v2   *cgroup2.Manager
}

func newCgroups(dir string, stage bool) *cgroups {
	return &cgroups{name: fmt.Sprintf("faas-%08x", hash(dir)), kept: filepath.Join(dir, "cgroups"), stage: stage}
}

// lacks says why a limit can't be set, "" if it can.
func (c *cgroups) lacks(limit string) string {
	c.once.Do(c.open)
	if slices.Contains(c.have, controllers[limit]) {
		return ""
	}
	if c.why != nil {
		return c.why.Error()
	}
	return fmt.Sprintf("the controller %q is not available to the gateway's control group", controllers[limit])
}

func (c *cgroups) open() {
	c.keep()
	switch mode := cgroupfs.Mode(); {
	case mode == cgroupfs.Unified:
		c.unified, c.why = true, c.openUnified()
	case mode == cgroupfs.Unavailable:
		c.why = errors.New("this machine has no control groups at " + cgroupRoot)
	case !c.stage:
		c.why = errors.New("control groups of version 1 need root and namespaces")
	default:
		c.why = c.openLegacy()
	}
}

// hierarchies are the mounts of cgroup v1 that limits need, and cpuacct for usage.
func hierarchies() (all []cgroup1.Subsystem, err error) {
	for _, s := range []cgroup1.Subsystem{
		cgroup1.NewMemory(cgroupRoot, cgroup1.OptionalSwap()), cgroup1.NewCpu(cgroupRoot), cgroup1.NewCpuacct(cgroupRoot), cgroup1.NewPids(cgroupRoot),
	} {
		if _, err := os.Stat(s.(cgroup1Path).Path("/")); err == nil {
			all = append(all, s)
		}
	}
	return all, nil
}

type cgroup1Path interface{ Path(string) string }

func (c *cgroups) openLegacy() error {
	group, err := cgroup1.New(cgroup1.NestedPath(c.name), &specs.LinuxResources{}, cgroup1.WithHierarchy(hierarchies))
	if err != nil {
		return fmt.Errorf("making a control group: %w", err)
	}
	for _, s := range group.Subsystems() {
		c.have = append(c.have, string(s.Name()))
	}
	return nil
}

func (c *cgroups) openUnified() error {
	own, err := cgroup2.NestedGroupPath("")
	if err != nil {
		return err
	}
	base := own
	if filepath.Base(own) == gatewayGroup {
		base = filepath.Dir(own)
	}
	// The root is the only group that may have both processes and limited children, and has no type. Another one that had
	// processes when it gets controllers might take them, and make its children useless (cgroup-v2: threaded domains).
	if _, e := os.Stat(filepath.Join(cgroupRoot, base, "cgroup.type")); e == nil {
		err = stepAside(filepath.Join(cgroupRoot, base))
	}
	if err == nil {
		err = passOn(filepath.Join(cgroupRoot, base))
	}
	c.group = filepath.Join(base, c.name)
	dir := filepath.Join(cgroupRoot, c.group)
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err == nil {
		err = passOn(dir)
	}
	if err != nil {
		return fmt.Errorf("the gateway's control group %s can't be divided (%w): start the gateway in one of its own that is delegated to it, as with systemd's Delegate=yes", base, err)
	}
	have, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	c.have = strings.Fields(string(have))
	return err
}

// passOn makes the controllers that a group has available to those below.
func passOn(dir string) error {
	have, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	var wanted []string
	for _, controller := range controllers {
		if slices.Contains(strings.Fields(string(have)), controller) {
			wanted = append(wanted, "+"+controller)
		}
	}
	return os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte(strings.Join(wanted, " ")), 0)
}

// stepAside moves the gateway and what it started into a group below its own.
// In the company of others it does nothing: they are not ours to move.
func stepAside(dir string) error {
	leaf := filepath.Join(dir, gatewayGroup)
	for range 10 { // again, because one may be starting another
		pids, table := procs(dir), readProcesses()
		for _, pid := range pids {
			if _, alive := table[pid]; alive && !table.descends(pid, os.Getpid()) {
				return fmt.Errorf("%w: process %d is in it, too", syscall.EBUSY, pid)
			}
		}
		if len(pids) == 0 {
			return nil
		}
		if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		for _, pid := range pids {
			err := os.WriteFile(filepath.Join(leaf, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
			if err != nil && !errors.Is(err, syscall.ESRCH) {
				return err
			}
		}
	}
	return nil
}

// create makes the group of a replica, with the limits that can be set.
func (c *cgroups) create(id string, l limits) (*cgroup, error) {
	memory, cpu, pids := max(l.memory, minMemory), min(max(l.cpu, minCPU), mostCPU)*cpuPeriod/1000, min(max(l.processes, minProcesses), mostProcesses)
	limited := func(name string, n int64) bool { return n > 0 && c.lacks(name) == "" }
	setMemory, setCPU, setPids := limited(faas.Memory, l.memory), limited(faas.CPU, l.cpu), limited(limitProcesses, l.processes)
	switch {
	case len(c.have) == 0:
		return nil, nil
	case c.unified:
		res := &cgroup2.Resources{}
		if setMemory {
			res.Memory = &cgroup2.Memory{Max: &memory}
		}
		if setCPU {
			period := uint64(cpuPeriod)
			res.CPU = &cgroup2.CPU{Max: cgroup2.NewCPUMax(&cpu, &period)}
		}
		if setPids {
			res.Pids = &cgroup2.Pids{Max: pids}
		}
		return c.createUnified(id, res)
	}
	res := &specs.LinuxResources{}
	if setMemory {
		res.Memory = &specs.LinuxMemory{Limit: &memory, Swap: &memory}
	}
	if setCPU {
		period := uint64(cpuPeriod)
		res.CPU = &specs.LinuxCPU{Quota: &cpu, Period: &period}
	}
	if setPids {
		res.Pids = &specs.LinuxPids{Limit: pids}
	}
	g, err := c.createLegacy(id, res)
	if errors.Is(err, syscall.EINVAL) && setCPU {
		res.CPU = nil // a group above has less than that, which bounds this one too
		g, err = c.createLegacy(id, res)
	}
	return g, err
}

func (c *cgroups) createUnified(id string, res *cgroup2.Resources) (*cgroup, error) {
	parent, err := cgroup2.Load(c.group)
	if err != nil {
		return nil, err
	}
	g := new(cgroup)
	if g.v2, err = parent.NewChild(id, res); err != nil {
		return nil, err
	}
	dir := filepath.Join(cgroupRoot, c.group, id)
	g.dir, err = os.Open(dir)
	if err == nil && res.Memory != nil {
		g.oom, err = os.Open(filepath.Join(dir, "memory.events"))
		err = errors.Join(err, noSwap(dir))
	}
	if err != nil {
		return nil, errors.Join(err, g.remove())
	}
	return g, nil
}

// noSwap keeps a group out of swap, which would make a memory limit mean little. A kernel that doesn't count swap has no file for it.
func noSwap(group string) error {
	f, err := os.OpenFile(filepath.Join(group, "memory.swap.max"), os.O_WRONLY, 0) // O_CREATE would fail with EACCES
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		_, err = f.WriteString("0")
		err = errors.Join(err, f.Close())
	}
	return err
}

func (c *cgroups) createLegacy(id string, res *specs.LinuxResources) (*cgroup, error) {
	place := cgroup1.NestedPath(filepath.Join(c.name, id))
	g := new(cgroup)
	var err error
	if g.v1, err = cgroup1.New(place, res, cgroup1.WithHierarchy(hierarchies)); err != nil {
		for _, dir := range c.places() {
			os.Remove(filepath.Join(dir, id)) // those that were made before it failed
		}
		return nil, err
	}
	for _, s := range g.v1.Subsystems() {
		path, e := place(s.Name())
		dir := s.(cgroup1Path).Path(path)
		if err = errors.Join(err, e); s.Name() == cgroup1.Memory && res.Memory != nil && err == nil {
			g.oom, err = os.Open(filepath.Join(dir, "memory.oom_control"))
		}
		g.join = append(g.join, filepath.Join(dir, "cgroup.procs"))
	}
	if err != nil {
		return nil, errors.Join(err, g.remove())
	}
	return g, nil
}

// enter makes a process begin in the group, unless it joins by itself.
func (g *cgroup) enter(attr *syscall.SysProcAttr) {
	if g != nil && g.dir != nil {
		attr.UseCgroupFD, attr.CgroupFD = true, int(g.dir.Fd())
	}
}

// kills is how many processes the kernel has killed for the memory limit.
func (g *cgroup) kills() (n int) {
	if g == nil || g.oom == nil {
		return 0
	}
	lines := bufio.NewScanner(io.NewSectionReader(g.oom, 0, 4096))
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), "oom_kill "); ok {
			n, _ = strconv.Atoi(text)
		}
	}
	return n
}

// usage is what the group has used of the CPU, and uses of memory without the cache of files that nobody needs now.
func (g *cgroup) usage() (cpu time.Duration, memory uint64, err error) {
	if g.v2 != nil {
		stat, err := g.v2.Stat()
		if err != nil {
			return 0, 0, err
		}
		return time.Duration(stat.CPU.UsageUsec) * time.Microsecond, less(stat.Memory.Usage, stat.Memory.InactiveFile), nil
	}
	stat, err := g.v1.Stat(cgroup1.IgnoreNotExist)
	if err != nil || stat.Memory == nil {
		return 0, 0, errors.Join(err, errors.ErrUnsupported)
	}
	return time.Duration(stat.CPU.Usage.Total), less(stat.Memory.Usage.Usage, stat.Memory.TotalInactiveFile), nil
}

func less(a, b uint64) uint64 { return a - min(a, b) }

// remove ends what is left in the group, and the group.
func (g *cgroup) remove() (err error) {
	if g == nil {
		return nil
	}
	for _, f := range []*os.File{g.dir, g.oom} {
		if f != nil {
			f.Close()
		}
	}
	if g.v1 != nil {
		return g.v1.Delete()
	}
	for range 50 {
		if err = g.v2.Delete(); err == nil {
			break
		}
		err = errors.Join(err, g.v2.Kill())
		time.Sleep(10 * time.Millisecond)
	}
	return err
}
