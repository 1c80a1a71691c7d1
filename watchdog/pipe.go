package main

import (
	"fmt"
	"os"
	"syscall"
)

// pipe is a pipe between the watchdog and a process: both ends are closed on exec, the watchdog's is non-blocking.
type pipe struct {
	ours   *os.File
	theirs int // -1 once closed
}

// closeTheirs closes the process's end in the watchdog, as it must be once the process has been started.
func (p *pipe) closeTheirs() {
	if p.theirs >= 0 {
		syscall.Close(p.theirs)
		p.theirs = -1
	}
}

// close closes both ends. A pipe that was never made may be closed.
func (p *pipe) close() {
	if p.ours != nil {
		p.ours.Close()
		p.closeTheirs()
	}
}

// pipeFrom makes a pipe that the process writes into, pipeTo one that it reads from.
func pipeFrom() (pipe, error) { return makePipe(false) }
func pipeTo() (pipe, error)   { return makePipe(true) }

func makePipe(weWrite bool) (pipe, error) {
	var fds [2]int
	if err := pipeOnExec(&fds); err != nil {
		return pipe{}, fmt.Errorf("making a pipe: %w", err)
	}
	ours, theirs := fds[0], fds[1]
	if weWrite {
		ours, theirs = theirs, ours
	}
	// Only our end: blocking or not belongs to the end, and programs expect theirs to block.
	if err := syscall.SetNonblock(ours, true); err != nil {
		syscall.Close(ours)
		syscall.Close(theirs)
		return pipe{}, fmt.Errorf("making a pipe non-blocking: %w", err)
	}
	return pipe{ours: os.NewFile(uintptr(ours), "pipe"), theirs: theirs}, nil
}

// readNow reads what the pipe holds, without waiting and whatever deadline is set on it. It returns 0 when there is nothing, or
// nothing more.
func readNow(f *os.File, buf []byte) int { return atOnce(f, buf, syscall.Read) }

// writeNow writes as much as the pipe takes without waiting, and returns how much that was.
func writeNow(f *os.File, buf []byte) int { return atOnce(f, buf, syscall.Write) }

func atOnce(f *os.File, buf []byte, call func(int, []byte) (int, error)) int {
	conn, err := f.SyscallConn()
	if err != nil || len(buf) == 0 {
		return 0
	}
	n := 0
	conn.Control(func(fd uintptr) {
		for {
			if n, err = call(int(fd), buf); err != syscall.EINTR {
				return
			}
		}
	})
	return max(n, 0)
}
