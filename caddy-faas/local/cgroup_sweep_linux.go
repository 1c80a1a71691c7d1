package local

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	cgroupfs "github.com/containerd/cgroups/v3"
	"github.com/containerd/cgroups/v3/cgroup1"
	"github.com/containerd/cgroups/v3/cgroup2"
)

// procs are the processes of a group.
func procs(dir string) (pids []int) {
	data, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	for _, field := range strings.Fields(string(data)) {
		if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// places are where the engine's group may be: one for each hierarchy.
func (c *cgroups) places() (dirs []string) {
	if cgroupfs.Mode() == cgroupfs.Unified {
		own, err := cgroup2.NestedGroupPath("")
		if err != nil {
			return nil
		}
		return []string{filepath.Join(cgroupRoot, own, c.name), filepath.Join(cgroupRoot, filepath.Dir(own), c.name)}
	}
	all, _ := hierarchies()
	place := cgroup1.NestedPath(c.name)
	for _, s := range all {
		if path, err := place(s.Name()); err == nil {
			dirs = append(dirs, s.(cgroup1Path).Path(path))
		}
	}
	return dirs
}

// remembered are the places where this or an earlier gateway may have made the
// engine's group: that one may have been started from another group, as each
// login and each service has its own.
func (c *cgroups) remembered() (dirs []string) {
	data, _ := os.ReadFile(c.kept)
	for _, dir := range strings.Split(string(data), "\n") {
		if strings.HasPrefix(dir, cgroupRoot+"/") && filepath.Base(dir) == c.name {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// keep writes down the places, before there is anything. Without the file the
// next gateway looks in the same places as this one.
func (c *cgroups) keep() {
	dirs := c.remembered()
	for _, dir := range c.places() {
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	if len(dirs) == 0 {
		return
	}
	os.WriteFile(c.kept, []byte(strings.Join(dirs, "\n")), 0o600)
}

// sweep kills what an earlier gateway left in its groups, and removes them. The
// data directory's lock is held: nobody else is using them.
func (c *cgroups) sweep() (killed int) {
	for _, dir := range append(c.places(), c.remembered()...) {
		for range 50 {
			n, busy := clearGroup(dir)
			killed += n
			if !busy {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	c.forget()
	return killed
}

// clearGroup kills the processes of a group and of those below it, and removes
// the groups, unless a process is still about to end.
func clearGroup(dir string) (killed int, busy bool) {
	var groups []string
	filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			groups = append(groups, path)
		}
		return nil
	})
	for _, group := range slices.Backward(groups) { // those below come first
		err := os.Remove(group)
		if err == nil || !errors.Is(err, syscall.EBUSY) {
			continue
		}
		busy = true
		for _, pid := range procs(group) {
			if syscall.Kill(pid, syscall.SIGKILL) == nil {
				killed++
			}
		}
	}
	return killed, busy
}

// end removes the engine's group.
func (c *cgroups) end() {
	for _, dir := range c.places() {
		os.Remove(dir)
	}
	c.forget()
}

// forget removes the file of the places once none is left.
func (c *cgroups) forget() {
	if !slices.ContainsFunc(append(c.places(), c.remembered()...), func(dir string) bool { return list(dir) != nil }) {
		os.Remove(c.kept)
	}
}
