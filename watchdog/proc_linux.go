package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// kin is what /proc/PID/stat says of a process.
type kin struct {
	parent, group int
	dead          bool // it only waits to be reaped
}

// processes are all that can be seen.
func processes() map[int]kin {
	all := map[int]kin{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		stat, _ := os.ReadFile(name)
		// The name, in parentheses, may contain anything. After it: state, parent, group.
		f := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil || len(f) < 3 {
			continue
		}
		its := kin{dead: f[0][0] == 'Z' || f[0][0] == 'X'}
		its.parent, _ = strconv.Atoi(string(f[1]))
		its.group, _ = strconv.Atoi(string(f[2]))
		all[pid] = its
	}
	return all
}

// descend adds the descendants of a family to it.
func descend(family map[int]bool, all map[int]kin) {
	for grown := true; grown; {
		grown = false
		for pid, its := range all {
			if family[its.parent] && !family[pid] {
				family[pid], grown = true, true
			}
		}
	}
}

// adopt makes the watchdog the parent of orphans among its descendants, so that killDescendants finds them.
func adopt() error {
	const setChildSubreaper = 36 // PR_SET_CHILD_SUBREAPER
	return prctl(setChildSubreaper, 1)
}

// killDescendants kills whatever descends from the watchdog, in whichever group or session it is.
func killDescendants() {
	for range 10 { // again, because one may be starting another
		self := os.Getpid()
		family, all := map[int]bool{self: true}, processes()
		descend(family, all)
		found := false
		for pid := range family {
			if pid != self && !all[pid].dead {
				syscall.Kill(pid, syscall.SIGKILL)
				found = true
			}
		}
		if !found {
			return
		}
	}
}
