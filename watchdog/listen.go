package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// listener accepts clients on a port or a unix socket.
type listener struct {
	net.Listener
	socket                    string // made by listen; "": there is none
	made                      os.FileInfo
	unlinked                  sync.Once
	readTimeout, writeTimeout time.Duration
	finishing                 atomic.Bool
	until                     time.Time     // Accept's own: when it ends, once finishing
	ended                     chan struct{} // closed when nothing more will be accepted
}

// listen takes the inherited socket if there is one (fd is not -1), or makes the one that is named, or else opens the port on all
// addresses.
func listen(cfg *config, socket string, fd int) (*listener, error) {
	var ln net.Listener
	var err error
	switch {
	case fd >= 0:
		ln, err = listenInherited(fd)
	case socket != "":
		ln, err = listenUnix(socket)
	default:
		ln, err = net.Listen("tcp", ":"+strconv.Itoa(cfg.port))
	}
	if err != nil {
		return nil, err
	}
	l := &listener{Listener: ln, socket: socket, readTimeout: cfg.readTimeout, writeTimeout: cfg.writeTimeout, ended: make(chan struct{})}
	if socket != "" {
		if l.made, err = os.Lstat(socket); err != nil {
			ln.Close()
			return nil, fmt.Errorf("listening on %s: %w", socket, err)
		}
	}
	return l, nil
}

// listenUnix makes the socket, readable and writable for its owner only. A socket that nobody listens on any more is replaced;
// anything else at that path is an error.
func listenUnix(path string) (net.Listener, error) {
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("listening on %s: there is a file that is not a socket", path)
	default:
		if c, err := net.Dial("unix", path); err == nil {
			c.Close()
			return nil, fmt.Errorf("listening on %s: another process listens there", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("listening on %s: removing the old socket: %w", path, err)
		}
	}
	before := syscall.Umask(0o177)
	ln, err := net.Listen("unix", path)
	syscall.Umask(before)
	if err != nil {
		if len(path) > 103 {
			err = fmt.Errorf("%w (the path has %d bytes, of which systems take 103)", err, len(path))
		}
		return nil, err
	}
	// finish removes it. Closing must not: the next watchdog may have put its own socket there by then.
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	return ln, nil
}

// listenInherited takes a listening socket from the parent.
func listenInherited(fd int) (net.Listener, error) {
	f := os.NewFile(uintptr(fd), "listener")
	if f == nil {
		return nil, fmt.Errorf("-listen-fd %d: no descriptor", fd)
	}
	defer f.Close()
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("-listen-fd %d: %w", fd, err)
	}
	return ln, nil
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		if l.finishing.Load() && l.until.IsZero() {
			l.until = time.Now().Add(lastCall)
			l.setDeadline(l.until)
		}
		c, err := l.Listener.Accept()
		over := errors.Is(err, os.ErrDeadlineExceeded) && !l.until.IsZero() && !time.Now().Before(l.until)
		if over {
			c, err = l.queued()
		}
		switch {
		case err == nil:
			return &conn{Conn: c, readTimeout: l.readTimeout, writeTimeout: l.writeTimeout, fresh: true}, nil
		case over:
			close(l.ended)
			return nil, net.ErrClosed
		case errors.Is(err, os.ErrDeadlineExceeded):
			l.setDeadline(l.until)
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
			time.Sleep(10 * time.Millisecond) // net/http would wait for up to a second
		default:
			return nil, err
		}
	}
}

// lastCall is how long the listener goes on accepting those who connected before the end.
const lastCall = 20 * time.Millisecond

// finish ends the listening. Clients that have connected by now are in the kernel's queue and would lose their request if the socket
// were simply closed: so the socket's name goes first, unless it is the parent's, then clients are refused, then Accept empties the queue.
func (l *listener) finish() {
	l.unlink()
	l.refuse()
	l.finishing.Store(true)
	l.setDeadline(time.Unix(1, 0)) // wakes Accept
	<-l.ended
}

// queued accepts who is in a unix socket's queue when lastCall is over: on a loaded machine all of that may pass before Accept, which
// with its deadline behind it does not even look.
func (l *listener) queued() (c net.Conn, err error) {
	ln, ok := l.Listener.(*net.UnixListener)
	if !ok {
		return nil, net.ErrClosed // on a port others might come without end
	}
	raw, err := ln.SyscallConn()
	if err != nil {
		return nil, err
	}
	closed := raw.Control(func(fd uintptr) {
		syscall.ForkLock.RLock()
		n, _, failed := syscall.Accept(int(fd))
		if err = failed; err == nil {
			syscall.CloseOnExec(n)
		}
		syscall.ForkLock.RUnlock()
		if err == nil {
			f := os.NewFile(uintptr(n), "client")
			c, err = net.FileConn(f)
			f.Close()
		}
	})
	return c, errors.Join(closed, err)
}

// refuse lets nobody connect to a unix socket any more. On Linux those that have are still accepted; elsewhere it may do nothing.
func (l *listener) refuse() {
	ln, ok := l.Listener.(*net.UnixListener)
	if !ok {
		return // a port that is shut so loses its queue
	}
	if raw, err := ln.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { syscall.Shutdown(int(fd), syscall.SHUT_RD) })
	}
}

func (l *listener) setDeadline(t time.Time) {
	l.Listener.(interface{ SetDeadline(time.Time) error }).SetDeadline(t)
}

// unlink removes the socket that listen made, the first time that it is called. Whatever is at its path afterwards is somebody else's:
// the next watchdog's, for example.
func (l *listener) unlink() {
	l.unlinked.Do(func() {
		if l.socket == "" {
			return
		}
		if now, err := os.Lstat(l.socket); err == nil && os.SameFile(now, l.made) {
			os.Remove(l.socket)
		}
	})
}
