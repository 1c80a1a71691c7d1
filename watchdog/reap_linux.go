package main

import (
	"os"
	"os/signal"
	"syscall"
	"unsafe"
)

// newChildren starts the one goroutine that waits for processes: for those the watchdog started and for
// the orphans that the kernel hands to it.
func newChildren() *children {
	adopt() // a kernel that refuses leaves only what was in no process group of the watchdog's
	c := &children{running: make(map[int]*process)}
	go func() {
		died := make(chan os.Signal, 1)
		signal.Notify(died, syscall.SIGCHLD)
		for ; ; <-died { // the first time for those that ended before Notify
			for pid := deadChild(); pid != 0; pid = deadChild() {
				c.collect(pid)
			}
		}
	}()
	return c
}

// await has nothing to do: SIGCHLD tells.
func (c *children) await(*process) {}

// collect reaps a dead child. One that is not known may be about to become so: its fork is still under way.
func (c *children) collect(pid int) {
	p := c.find(pid)
	if p == nil {
		c.forking.Lock()
		p = c.find(pid)
		c.forking.Unlock()
	}
	if p == nil {
		wait(pid, nil, syscall.WNOHANG)
		return
	}
	p.reap()
	c.finish(p)
}

// reap takes the exit status of the process, which must have ended, and kills what is left of its group. Until the status is taken
// the pid, and so the number of the group, stays reserved: the kill cannot hit anybody else.
func (p *process) reap() {
	p.mu.Lock()
	syscall.Kill(-p.pid, syscall.SIGKILL)
	wait(p.pid, &p.status, 0)
	p.reaped = true
	p.mu.Unlock()
}

// deadChild returns the pid of a child that has ended, and leaves it to be reaped; 0 if there is none.
func deadChild() int {
	const all, exited, noWait = 0, 4, 0x01000000 // P_ALL, WEXITED, WNOWAIT
	var info struct {
		signo, errno, code int32
		_                  [0]uintptr // the kernel aligns what follows like a pointer
		pid                int32
		_                  [128]byte
	}
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, all, 0, uintptr(unsafe.Pointer(&info)), exited|noWait|syscall.WNOHANG, 0, 0)
		if errno == 0 {
			return int(info.pid)
		}
		if errno != syscall.EINTR {
			return 0
		}
	}
}
