package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

var (
	errBodySlow   = errors.New("the request body did not arrive within read_timeout")
	errBodyBad    = errors.New("reading the request body")
	errClientGone = errors.New("the client went away")
)

// presence is how often a client whose body is left unread is checked for having gone away.
const presence = 250 * time.Millisecond

// body is a request's body, read under read_timeout. The time that the function takes between reads is not counted: only the
// client's delay is.
type body struct {
	io.ReadCloser
	conn *conn

	eof, ended atomic.Bool

	reading sync.Mutex // held during a Read
	limit   time.Time  // zero: none
	since   time.Time  // end of the last Read
	err     error      // the last Read's, io.EOF excepted

	mu    sync.Mutex
	timer *time.Timer // nil: not watched
}

// takeBody replaces the body of the request by one under read_timeout and of at most so many bytes, if that is not 0; nil if the request has none. While it is read the answer may
// be written.
func takeBody(w http.ResponseWriter, r *http.Request, most int64) *body {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	// Without it net/http would read the body to its end, or for 256 KiB, before it writes the first byte of the answer.
	http.NewResponseController(w).EnableFullDuplex()
	if most > 0 {
		r.Body = &bounded{r.Body, most, requestLimit(most)}
	}
	b := &body{ReadCloser: r.Body, conn: connOf(r.Context()), since: time.Now()}
	b.limit = b.conn.limit
	r.Body = b
	return b
}

// Read returns errBodySlow when the client was too slow and errClientGone when it closed the connection.
func (b *body) Read(p []byte) (int, error) {
	b.reading.Lock()
	defer b.reading.Unlock()
	if b.ended.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	if !b.limit.IsZero() {
		b.limit = b.limit.Add(time.Since(b.since))
		b.conn.Conn.SetReadDeadline(b.limit)
		if b.ended.Load() { // and end's deadline may be overwritten
			b.conn.Conn.SetReadDeadline(time.Unix(1, 0))
		}
	}
	n, err := b.ReadCloser.Read(p)
	b.since = time.Now()
	switch {
	case err == nil:
	case err == io.EOF:
		// net/http watches the connection from here on, and a passed deadline would look to it like a client that went away.
		b.conn.Conn.SetReadDeadline(time.Time{})
		b.eof.Store(true)
		return n, err
	case errors.As(err, new(*failure)):
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = errBodySlow
	case errors.Is(err, io.ErrUnexpectedEOF), isNetError(err):
		err = errClientGone
	default:
		err = fmt.Errorf("%w: %v", errBodyBad, err)
	}
	b.err = err
	return n, err
}

// whyGone is to be called when net/http has ended the request's context. It does so for any error in reading from the client, so the
// client may have been slow rather than have gone away. A Read under way is about to return for the same reason.
func (b *body) whyGone() error {
	if b != nil {
		b.reading.Lock()
		defer b.reading.Unlock()
		if b.err != nil {
			return b.err
		}
	}
	return errClientGone
}

// unread says whether some of the body has not been read. Then the answer must say Connection: close, because the rest of the body
// is in the way of the next request.
func (b *body) unread() bool { return b != nil && !b.eof.Load() }

// watch calls gone, once, if the client closes the connection while its body lies unread. net/http notices that only when the body
// has been read. By TCP the end comes after what the client has sent, so it is noticed only if there is room for that.
func (b *body) watch(gone func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.timer = time.AfterFunc(presence, func() {
		if b.eof.Load() {
			return
		}
		if b.reading.TryLock() { // a Read under way would notice by itself
			hungUp := b.conn.hungUp()
			b.reading.Unlock()
			if hungUp {
				gone()
				return
			}
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.timer != nil {
			b.timer.Reset(presence)
		}
	})
}

// end interrupts a Read that waits and leaves the rest of the body to the closing of the connection. The request is over.
func (b *body) end() {
	b.mu.Lock()
	if b.timer != nil {
		b.timer.Stop()
		b.timer = nil
	}
	b.mu.Unlock()
	b.ended.Store(true)
	if b.unread() {
		b.conn.linger.Store(true)
		b.conn.Conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// Close is end: httputil.ReverseProxy and http.Transport call it while another goroutine may be reading.
func (b *body) Close() error {
	b.end()
	return nil
}

func isNetError(err error) bool {
	var failed *net.OpError
	return errors.As(err, &failed)
}
