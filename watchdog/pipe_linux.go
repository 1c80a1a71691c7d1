package main

import (
	"os"
	"syscall"
	"unsafe"
)

// maxPipe is how many bytes a pipe holds at most: the default of fs.pipe-max-size.
const maxPipe = 1 << 20

func pipeOnExec(fds *[2]int) error { return syscall.Pipe2(fds[:], syscall.O_CLOEXEC) }

// enlarge lets the pipe hold maxPipe bytes. It may be refused (the user's share of pipe memory is used up): then the pipe keeps its
// size and only costs more switches.
func enlarge(f *os.File) {
	const setPipeSize = 1031 // F_SETPIPE_SZ
	conn, err := f.SyscallConn()
	if err != nil {
		return
	}
	conn.Control(func(fd uintptr) { syscall.Syscall(syscall.SYS_FCNTL, fd, setPipeSize, maxPipe) })
}

// hungUp says whether the peer of the socket has closed its side, even if bytes it sent before are still unread: something that
// reading cannot tell.
func hungUp(c syscall.Conn) bool {
	const pollRDHUP, pollErr, pollHUP = 0x2000, 0x8, 0x10
	type pollFd struct {
		fd              int32
		events, revents int16
	}
	conn, err := c.SyscallConn()
	if err != nil {
		return false
	}
	gone := false
	conn.Control(func(fd uintptr) {
		p := pollFd{fd: int32(fd), events: pollRDHUP}
		var now syscall.Timespec
		n, _, _ := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
		gone = n == 1 && p.revents&(pollRDHUP|pollErr|pollHUP) != 0
	})
	return gone
}
