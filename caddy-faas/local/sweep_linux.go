package local

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// sweep kills the processes that were started with a TMPDIR or HOME which is
// one of the marks or below it, and their process groups, and returns how
// many it found. What a watchdog starts inherits both, so this finds what
// left its group and session, too.
func sweep(marks ...string) (killed int) {
	return sweepBy(func(pid string) bool {
		env, err := os.ReadFile("/proc/" + pid + "/environ")
		return err == nil && marked(env, marks)
	})
}

// sweepUsers kills the processes of these users, and their process groups, and
// returns how many it found. It finds what cleared its environment, too.
func sweepUsers(uids map[int]bool) (killed int) {
	if len(uids) == 0 {
		return 0
	}
	return sweepBy(func(pid string) bool {
		status, _ := os.ReadFile("/proc/" + pid + "/status")
		_, rest, found := strings.Cut(string(status), "\nUid:")
		fields := strings.Fields(rest)
		if !found || len(fields) == 0 {
			return false
		}
		uid, err := strconv.Atoi(fields[0])
		return err == nil && uids[uid]
	})
}

func sweepBy(ours func(pid string) bool) (killed int) {
	for range 10 { // again, because one may be starting another
		found := 0
		dirs, _ := filepath.Glob("/proc/[0-9]*")
		for _, dir := range dirs {
			if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil && pid != os.Getpid() && killIf(pid, ours) {
				found++
			}
		}
		if killed += found; found == 0 {
			break
		}
	}
	return killed
}

// killIf kills one process if it is ours. The handle is taken before
// the look, so that it can't be another process that dies.
func killIf(pid int, ours func(pid string) bool) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	defer p.Release()
	if !ours(strconv.Itoa(pid)) {
		return false
	}
	group, err := syscall.Getpgid(pid)
	if p.Kill() != nil {
		return false
	}
	if err == nil && group > 1 && group != syscall.Getpgrp() {
		syscall.Kill(-group, syscall.SIGKILL)
	}
	return true
}

// marked reads an environment, whose entries end with NUL.
func marked(env []byte, marks []string) bool {
	for entry := range bytes.SplitSeq(env, []byte{0}) {
		name, value, _ := strings.Cut(string(entry), "=")
		if name != "TMPDIR" && name != "HOME" {
			continue
		}
		for _, mark := range marks {
			if value == mark || strings.HasPrefix(value, mark+"/") {
				return true
			}
		}
	}
	return false
}
