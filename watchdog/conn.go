package main

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// lingering bounds how long a connection that is closed before the client has sent its whole body is read on. Closing at once would
// reset it, and the client could lose the answer.
const lingering = 500 * time.Millisecond

// conn is a client's connection. It adds to net.Conn what net/http's server has no setting for:
// the time limit for headers does not run before the first byte (a client's pool holds connections that it has never used);
// each write has its own time limit (a client may read slowly, but it must read);
// and closing lingers when part of a body is unread.
type conn struct {
	net.Conn
	readTimeout, writeTimeout time.Duration
	fresh                     bool      // nothing has been read yet
	limit                     time.Time // when the request now read must have arrived; zero: never
	linger                    atomic.Bool
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	// Only the first read of a connection sees fresh, and nothing else runs on the connection then.
	if c.fresh && n > 0 {
		c.fresh = false
		if c.readTimeout > 0 {
			c.SetReadDeadline(time.Now().Add(c.readTimeout))
		}
	}
	return n, err
}

// SetReadDeadline is called by net/http: with read_timeout from now when a request begins, with zero when its headers are there, and
// with a time in the past to interrupt a read.
func (c *conn) SetReadDeadline(t time.Time) error {
	if t.After(time.Now()) {
		if c.fresh {
			return nil
		}
		c.limit = t
	}
	return c.Conn.SetReadDeadline(t)
}

func (c *conn) Write(p []byte) (int, error) {
	if c.writeTimeout > 0 {
		c.Conn.SetWriteDeadline(time.Now().Add(c.writeTimeout))
	}
	return c.Conn.Write(p)
}

// CloseWrite lets net/http end its side before it closes a connection.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

func (c *conn) Close() error {
	if c.linger.Swap(false) {
		c.CloseWrite()
		c.Conn.SetReadDeadline(time.Now().Add(lingering))
		io.Copy(io.Discard, c.Conn)
	}
	return c.Conn.Close()
}

// abort makes the coming Close show even a client that takes the end of the connection for the end of the answer (HTTP/1.0) that it
// is incomplete.
func (c *conn) abort() {
	c.linger.Store(false)
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
}

// hungUp says whether the client has closed its side of the connection.
func (c *conn) hungUp() bool {
	raw, ok := c.Conn.(syscall.Conn)
	return ok && hungUp(raw)
}

type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

func connOf(ctx context.Context) *conn {
	c, _ := ctx.Value(connKey{}).(*conn)
	return c
}
