package caddyfaas

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// body is the body of a request while a function has it. It knows whether the
// client has sent all of it, and whose fault it is if not.
type body struct {
	io.ReadCloser

	mu    sync.Mutex
	whole bool  // read to its end
	err   error // why it could not be read
	over  bool  // the call has ended
}

// Read reads for the transport, which may go on for a moment after the call has ended.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == io.EOF:
		b.whole = true
	case err != nil:
		b.err = err
	}
	return n, err
}

// unread tells that the client may still be sending. It does not wait for a Read.
func (b *body) unread() bool {
	if !b.mu.TryLock() {
		return true
	}
	defer b.mu.Unlock()
	return !b.whole
}

// failed is why the body could not be read, nil if it could.
func (b *body) failed() error {
	if !b.mu.TryLock() {
		return nil
	}
	defer b.mu.Unlock()
	return b.err
}

// linger is how long net/http may read what is left of a body when the call has
// ended: if the client is still sending when the connection is closed, it might
// not see the answer.
const linger = 500 * time.Millisecond

// end takes the body from the transport.
func (b *body) end(w http.ResponseWriter) {
	if !b.unread() {
		return
	}
	c := http.NewResponseController(w)
	c.SetReadDeadline(time.Now().Add(linger)) // ends a Read that waits for the client
	b.mu.Lock()
	b.over = true
	b.mu.Unlock()
	c.SetReadDeadline(time.Now().Add(linger)) // Caddy moves it with each Read
}

// takeBody lets a function answer while it reads: otherwise net/http throws
// away what is left of the body once the answer begins. In return it no longer
// makes sure that this rest is not taken for the next request, so the connection
// must end with an answer that begins before the body has: see header.
func takeBody(w http.ResponseWriter, r *http.Request) *body {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return nil
	}
	b := &body{ReadCloser: r.Body}
	r.Body = b
	if r.ProtoMajor == 1 {
		// Not supported by a ResponseWriter of somebody else's: then it is as it is.
		http.NewResponseController(w).EnableFullDuplex()
	}
	return b
}

// header is to be called before the header of an answer is written.
func (b *body) header(h http.Header, r *http.Request) {
	if b != nil && r.ProtoMajor == 1 && b.unread() {
		h.Set("Connection", "close")
	}
}

// noReplay keeps net/http's transport from sending a request a second time
// when a kept connection breaks before it is answered: it does so for these
// methods and headers if there is no body, and looks into one of unknown length whether
// there is any.
func noReplay(r *http.Request) {
	if r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0 {
		return
	}
	idempotent := r.Header["Idempotency-Key"] != nil || r.Header["X-Idempotency-Key"] != nil
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		idempotent = true
	}
	if idempotent {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader("")), -1
	}
}

// errBody is the client's fault: its body broke off, or is no HTTP.
var errBody = errors.New("the body could not be read")
