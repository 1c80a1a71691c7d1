//go:build !linux

package main

import "syscall"

func newChildren() *children { return &children{running: make(map[int]*process)} }

// killDescendants: what has left its process group is not found here.
func killDescendants() {}

// await waits for the process in a goroutine of its own. Here nothing shows a death without reaping, so what is left of the group
// is killed just after.
func (c *children) await(p *process) {
	go func() {
		var status syscall.WaitStatus
		wait(p.pid, &status, 0)
		p.mu.Lock()
		p.status, p.reaped = status, true
		syscall.Kill(-p.pid, syscall.SIGKILL)
		p.mu.Unlock()
		c.finish(p)
	}()
}
