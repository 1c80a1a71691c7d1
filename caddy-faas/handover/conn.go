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
	between bool   // no request is under way, and all that the server has read of the next one is in early
	early   []byte // at most one byte
	rest    string // of the preface, if all that was read of the request is its beginning
	pinned  bool   // HTTP/2, or hijacked: never goes over
	handed  bool   // it came from another server
	told    bool   // the server tells what becomes of it
	coming  bool   // a request has begun to come, of which no handler knows yet
	reading bool
	closed  bool
	// deadlines counts how often the server has set a read deadline since it was idle.
	deadlines int
}

// net/http reads through buffers of this size, in bytes. A first read after an
// answer that asks for less means that the buffer holds a part of the next
// request already.
const serverBuffer = 4 << 10

// kept is how long a connection that came from another server may be idle: to
// net/http it is new, and it would close it sooner than its client expects.
const kept = 5 * time.Minute

// Read reads for the server, unless it is the beginning of a request that a
// newer server shall have: then it tells the server that the client is gone.
func (c *conn) Read(p []byte) (int, error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return 0, io.EOF
	}
	if len(c.stash) > 0 {
		if c.between && !c.begins() {
			defer c.mu.Unlock()
			c.closed = true
			c.depart(c.stash, nil)
			return 0, io.EOF
		}
		n := copy(p, c.stash)
		c.stash = c.stash[n:]
		c.read(p[:n], len(p))
		c.mu.Unlock()
		return n, nil
	}
	if len(p) < serverBuffer-len(c.early) && len(p) > 1 {
		c.between = false
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
	case n > 0 && c.between && !c.begins():
		c.closed = true
		c.depart(p[:n], err)
		return 0, io.EOF
	}
	c.read(p[:n], len(p))
	return n, err
}

// begins tells whether the server shall have the request that has begun to come, rather than a newer server.
func (c *conn) begins() bool {
	c.comes(true) // before the look: the newer server enters before it looks for this
	if c.listener.replaced() {
		c.comes(false)
		return false
	}
	return true
}

// comes notes that a request has begun to come, or that a handler has it, or that none will.
func (c *conn) comes(is bool) {
	if c.coming == is || !c.told {
		return
	}
	c.coming = is
	if is {
		c.listener.coming.Add(1)
	} else {
		c.listener.coming.Add(-1)
	}
}

// read notes what the server has got, having asked for so many bytes.
func (c *conn) read(b []byte, asked int) {
	switch {
	case len(b) == 0:
	case c.between:
		c.between, c.handed, c.early = false, false, nil
		c.rest = preface
		c.compare(b)
	case len(c.rest) > 0:
		c.compare(b)
	case asked == 1:
		// net/http reads a single byte in the background while a handler runs, to
		// notice a client that goes away. A client that has the whole answer may
		// send its next request before the handler has ended.
		c.early = bytes.Clone(b)
	}
}

// preface is how an HTTP/2 connection begins.
const preface = "PRI"

// compare pins an HTTP/2 connection; b is what was read of its beginning next.
func (c *conn) compare(b []byte) {
	n := min(len(b), len(c.rest))
	if string(b[:n]) != c.rest[:n] {
		c.rest = ""
	} else if c.rest = c.rest[n:]; c.rest == "" {
		c.pinned = true
		c.comes(false) // net/http tells of no HTTP/2 request
	}
}

// idle tells that an answer is complete.
func (c *conn) idle() {
	c.between, c.deadlines = !c.pinned, 0
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
	c.comes(false)
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
	go c.listener.station.deliver(accepted{conn: c.Conn}, append(c.early, rest...), true)
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
	if c.over() {
		return net.ErrClosed
	}
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
func (c *conn) SetWriteDeadline(t time.Time) error { return c.deadline(c.Conn.SetWriteDeadline, t) }

// SetReadDeadline sets a deadline, but not for the idle time of a connection
// that came from another server.
func (c *conn) SetReadDeadline(t time.Time) error {
	return c.deadline(func(t time.Time) error {
		if c.between && !c.reading {
			c.deadlines++
			if c.deadlines > 1 && !c.handed {
				// net/http sets one before it waits for the next request, and another
				// when that is there: it was in the buffer.
				c.between = false
			}
		}
		if c.between && c.handed {
			t = time.Now().Add(kept)
		}
		return c.Conn.SetReadDeadline(t)
	}, t)
}

// deadline sets one under the lock: afterwards the socket may be another server's.
func (c *conn) deadline(set func(time.Time) error, t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	return set(t)
}
