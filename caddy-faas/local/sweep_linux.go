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
	for range 10 { // again, because one may be starting another
		found := 0
		dirs, _ := filepath.Glob("/proc/[0-9]*")
		for _, dir := range dirs {
			if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil && pid != os.Getpid() && killMarked(pid, marks) {
				found++
			}
		}
		if killed += found; found == 0 {
			break
		}
	}
	return killed
}

// killMarked kills one process if it bears a mark. The handle is taken before
// the look, so that it can't be another process that dies.
func killMarked(pid int, marks []string) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	defer p.Release()
	env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil || !marked(env, marks) {
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
