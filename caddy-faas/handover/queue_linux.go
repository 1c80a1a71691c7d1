package handover

import (
	"net"
	"os"
	"reflect"
	"syscall"

	"golang.org/x/sys/unix"
)

// closeAfter closes a listener once all connections in its queue are taken.
// There is no better way: the kernel resets those that come meanwhile.
func closeAfter(l net.Listener, take func(net.Conn)) {
	defer l.Close()
	c, ok := socket(l)
	if !ok {
		return
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) {
		for {
			client, _, err := unix.Accept4(int(fd), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			if err != nil {
				return
			}
			f := os.NewFile(uintptr(client), "")
			if c, err := net.FileConn(f); err == nil {
				take(c)
			}
			f.Close()
		}
	})
}

// socket finds what Caddy has wrapped into a listener that has no method to get at it.
func socket(l net.Listener) (c syscall.Conn, ok bool) {
	for c, ok = l.(syscall.Conn); !ok; c, ok = l.(syscall.Conn) {
		v := reflect.Indirect(reflect.ValueOf(l))
		if v.Kind() != reflect.Struct {
			return nil, false
		}
		f := v.FieldByName("Listener")
		if !f.IsValid() || !f.CanInterface() {
			return nil, false
		}
		if l, ok = f.Interface().(net.Listener); !ok {
			return nil, false
		}
	}
	return c, ok
}
