package main

import (
	"bytes"
	"fmt"
	"strconv"
	"syscall"
)

// memory is the function's memory limit. A nil one is never exceeded.
type memory struct {
	limit string // as its author wrote it
	fd    int    // memory.events (cgroup v2) or memory.oom_control (v1): both have a line oom_kill N
}

func newMemory(fd int, limit string) *memory {
	if fd < 0 {
		return nil
	}
	return &memory{limit, fd}
}

// kills is how often the kernel has killed a process for the limit.
func (m *memory) kills() int {
	if m == nil {
		return 0
	}
	var buf [512]byte
	n, _ := syscall.Pread(m.fd, buf[:], 0)
	_, rest, _ := bytes.Cut(buf[:max(n, 0)], []byte("oom_kill "))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	count, _ := strconv.Atoi(string(line))
	return count
}

// exceeded makes more of an error that came after so many kills: if there have been others since, it was the limit.
func (m *memory) exceeded(before, status int, err error) error {
	if err == nil || m.kills() <= before {
		return err
	}
	return &failure{status, fmt.Sprintf("the function's memory limit of %s was exceeded\n%v", m.limit, err), "memory-limit"}
}

// prefer makes what is started from now on the kernel's first choice when memory runs out, or no longer. It is to be called with
// forking held. A process inherits it, so the function's have it from their beginning, and the watchdog lives on to tell.
func (c *children) prefer(on bool) {
	if c.oomAdjust == nil {
		return
	}
	if !on {
		c.oomAdjust.WriteAt(c.oomOwn, 0)
		return
	}
	if c.oomOwn == nil {
		own := make([]byte, 8)
		n, _ := c.oomAdjust.ReadAt(own, 0)
		c.oomOwn = own[:n]
	}
	c.oomAdjust.WriteAt([]byte("1000"), 0)
}

// bound limits the open files of the processes; 0 leaves them as they are.
func (c *children) bound(files uint64) {
	var own syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &own) == nil { // it can't be raised
		c.files = min(files, uint64(own.Max))
	}
}
