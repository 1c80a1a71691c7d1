package main

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
)

// process is a started process and the process group that it leads.
type process struct {
	pid    int
	exited chan struct{}      // closed when the process has ended
	status syscall.WaitStatus // valid once exited is closed
	onExit func()

	mu     sync.Mutex
	reaped bool // from then on the pid may be somebody else's
}

// kill sends the signal to every process of the group, unless the leader has ended: then whatever was left has been killed.
func (p *process) kill(signal syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		syscall.Kill(-p.pid, signal)
	}
}

// failure says how the process ended, or nil if that was with exit status 0.
func (p *process) failure() error {
	switch s := p.status; {
	case s.Signaled():
		return fmt.Errorf("killed by signal %d (%s)", s.Signal(), s.Signal())
	case s.ExitStatus() != 0:
		return fmt.Errorf("exit status %d", s.ExitStatus())
	}
	return nil
}

func wait(pid int, status *syscall.WaitStatus, options int) (int, error) {
	for {
		got, err := syscall.Wait4(pid, status, options, nil)
		if err != syscall.EINTR {
			return got, err
		}
	}
}

var errStopped = errors.New("the watchdog is ending")

// children are the processes that the watchdog started and has not reaped.
type children struct {
	// forking is held from before a fork until the process is in running, so that whoever holds it knows that a child that is not in
	// running was not started by the watchdog.
	forking sync.Mutex
	ended   bool // guarded by forking; killAll was called

	files     uint64   // that a process may open; 0: as many as the watchdog was started with
	oomAdjust *os.File // nil: all processes are equal to the kernel
	oomOwn    []byte   // what it says of the watchdog

	mu      sync.Mutex
	running map[int]*process
}

// start starts the program at path in a process group of its own, with exactly these three standard files, arguments and environment.
// When it has ended and its group has been killed onExit is called, which must not block and may be called before start returns.
func (c *children) start(path string, argv, env []string, files [3]int, onExit func()) (*process, error) {
	c.forking.Lock()
	defer c.forking.Unlock()
	if c.ended {
		return nil, errStopped
	}
	c.prefer(true)
	pid, err := syscall.ForkExec(path, argv, &syscall.ProcAttr{
		Env:   env,
		Files: []uintptr{uintptr(files[0]), uintptr(files[1]), uintptr(files[2])},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
	c.prefer(false)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", path, err)
	}
	if c.files > 0 {
		limitFiles(pid, c.files)
	}
	p := &process{pid: pid, exited: make(chan struct{}), onExit: onExit}
	c.mu.Lock()
	c.running[pid] = p
	c.mu.Unlock()
	c.await(p)
	return p, nil
}

func (c *children) find(pid int) *process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.running[pid]
}

// finish tells whoever waits for a reaped process.
func (c *children) finish(p *process) {
	c.mu.Lock()
	delete(c.running, p.pid)
	c.mu.Unlock()
	close(p.exited)
	p.onExit()
}

// killAll kills every process group, and on Linux every other descendant; no process can be started afterwards.
func (c *children) killAll() {
	c.forking.Lock()
	c.ended = true
	c.forking.Unlock()
	c.mu.Lock()
	for _, p := range c.running {
		p.kill(syscall.SIGKILL)
	}
	c.mu.Unlock()
	killDescendants()
}
