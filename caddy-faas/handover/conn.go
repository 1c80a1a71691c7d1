package handover

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// conn is a client's connection as one server has it. When it goes over, the
// server sees it closed, and another conn with the same socket begins.
type conn struct {
	net.Conn
	listener *listener

	mu      sync.Mutex
	stash   []byte // to be read before what comes from the socket
	between bool   // no request is under way, and the server has read nothing of the next one
	early   bool   // the server has read a byte of the next request while one is under way
	pinned  bool   // HTTP/2, or hijacked: never goes over
	reading bool
	closed  bool
}

// Read reads for the server, unless it is the beginning of a request that a
// newer server shall have: then it tells the server that the client is gone.
func (c *conn) Read(p []byte) (int, error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return 0, io.EOF
	}
	if len(c.stash) > 0 {
		n := copy(p, c.stash)
		c.stash = c.stash[n:]
		c.read(p[:n])
		c.mu.Unlock()
		return n, nil
	}
	c.reading = true
	c.mu.Unlock()

	n, err := c.Conn.Read(p)

	c.mu.Lock()
	defer c.mu.Unlock()
	c.reading = false
	switch {
	case c.closed: // meanwhile, and left to us
		c.depart(p[:n], err)
		return 0, io.EOF
	case n > 0 && c.between && c.listener.replaced():
		c.closed = true
		c.depart(p[:n], err)
		return 0, io.EOF
	}
	c.read(p[:n])
	return n, err
}

// read notes what the server has got.
func (c *conn) read(b []byte) {
	switch {
	case len(b) == 0:
	case c.between:
		c.between = false
		c.pinned = bytes.HasPrefix(b, []byte("PRI"))
	case len(b) == 1 && cap(b) == 1:
		// net/http reads a single byte in the background while a handler runs, to
		// notice a client that goes away.
		c.early = true
	}
}

// Close closes the connection for the server. The socket is closed too, or goes
// over to the newer server if it is between two requests.
func (c *conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.closed = true
	if c.reading && c.between && c.listener.replaced() {
		// It was the shutdown, not the reader. Whoever reads ends now, or with the client's next bytes.
		return c.Conn.SetReadDeadline(time.Unix(1, 0))
	}
	return c.depart(nil, nil)
}

// depart lets go of the socket, with what was read for nobody.
func (c *conn) depart(rest []byte, err error) error {
	alive := err == nil || errors.Is(err, os.ErrDeadlineExceeded)
	if !alive || !c.between || !c.listener.replaced() {
		return c.Conn.Close()
	}
	if err := c.Conn.SetDeadline(time.Time{}); err != nil {
		return c.Conn.Close()
	}
	go c.listener.station.deliver(accepted{conn: c.Conn}, bytes.Clone(rest))
	return nil
}

// Write writes for the server as long as the socket is the server's.
func (c *conn) Write(p []byte) (int, error) {
	if c.over() {
		return 0, net.ErrClosed
	}
	return c.Conn.Write(p)
}

// ReadFrom lets the socket copy from a file by itself.
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	if c.over() {
		return 0, net.ErrClosed
	}
	return io.Copy(c.Conn, r)
}

// CloseWrite ends the answer for a client that is still sending.
func (c *conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}

// over tells that the socket is no longer the server's.
func (c *conn) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

func (c *conn) SetDeadline(t time.Time) error      { return c.deadline(c.Conn.SetDeadline, t) }
func (c *conn) SetReadDeadline(t time.Time) error  { return c.deadline(c.Conn.SetReadDeadline, t) }
func (c *conn) SetWriteDeadline(t time.Time) error { return c.deadline(c.Conn.SetWriteDeadline, t) }

// deadline sets one under the lock: afterwards the socket may be another server's.
func (c *conn) deadline(set func(time.Time) error, t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	return set(t)
}
