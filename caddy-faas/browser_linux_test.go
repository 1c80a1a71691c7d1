package caddyfaas

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"
	"unsafe"
)

// ownNetwork makes a network namespace that has nothing but the gateway of a
// page, at its usual address, and returns its path; "" where that isn't allowed.
func ownNetwork(t *testing.T, page string) (path string) {
	host := hostOf(t, page)
	_, port, err := net.SplitHostPort(host)
	if err != nil {
		t.Fatal(err)
	}
	listeners, done := make(chan net.Listener), make(chan struct{})
	go func() {
		defer close(listeners)
		runtime.LockOSThread() // and never let go: the thread ends with this goroutine
		if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
			return
		}
		if err := loopbackUp(); err != nil {
			return
		}
		l, err := net.Listen("tcp4", "127.0.0.1:"+port)
		if err != nil {
			return
		}
		path = fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), syscall.Gettid())
		listeners <- l
		<-done
	}()
	l, ok := <-listeners
	if !ok {
		t.Log("without a network of its own Chromium may lose connections when addresses come and go on this machine")
		return ""
	}
	go tunnel(l, host)
	t.Cleanup(func() { l.Close(); close(done) })
	return path
}

// loopbackUp switches the thread's loopback interface on.
func loopbackUp() error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	var request struct {
		name  [16]byte
		flags uint16
		_     [22]byte
	}
	copy(request.name[:], "lo")
	request.flags = syscall.IFF_UP | syscall.IFF_RUNNING
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return errno
	}
	return nil
}
