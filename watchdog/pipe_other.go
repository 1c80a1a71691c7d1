//go:build !linux

package main

import (
	"os"
	"syscall"
)

// maxPipe is how many bytes a pipe holds at most.
const maxPipe = 64 << 10

func pipeOnExec(fds *[2]int) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := syscall.Pipe(fds[:]); err != nil {
		return err
	}
	syscall.CloseOnExec(fds[0])
	syscall.CloseOnExec(fds[1])
	return nil
}

func enlarge(*os.File) {}

// hungUp is known on Linux only. Elsewhere a client that went away while its body was unread is noticed when the answer is written
// or at exec_timeout.
func hungUp(syscall.Conn) bool { return false }
