package caddyfaas

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// bodyTime is what a sender has to send a body that is held. A slow one would keep others out.
const bodyTime = 30 * time.Second

// maxHeld bounds all bodies that are held at once, in bytes, and maxBody each of them.
const (
	maxHeld = 64 << 20
	maxBody = maxHeld / 2
)

// heldBytes is that budget, of all routes and configurations.
var heldBytes = newBudget(maxHeld)

// budget is a number of bytes that may be used. A client may have as many as
// are left for others then: one may have half, and the more there are the less
// each has, but there is always something left.
type budget struct {
	mu   sync.Mutex
	free int64
	had  map[netip.Addr]int64
}

func newBudget(bytes int64) *budget {
	return &budget{free: bytes, had: make(map[netip.Addr]int64)}
}

func (b *budget) take(client netip.Addr, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.had[client]+n > b.free-n {
		return false
	}
	b.free -= n
	b.had[client] += n
	return true
}

func (b *budget) give(client netip.Addr, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free += n
	if b.had[client] -= n; b.had[client] == 0 {
		delete(b.had, client)
	}
}

// bodyResults are what the metric calls a body that could not be read, by status.
var bodyResults = map[int]string{
	http.StatusRequestEntityTooLarge: "too-large", http.StatusServiceUnavailable: "busy",
	http.StatusRequestTimeout: "slow", http.StatusBadRequest: "broken",
}

// buffered is a body that is read before the request goes on.
type buffered struct {
	limit  int64
	time   time.Duration // for all of it
	bytes  []byte
	client netip.Addr
	taken  int64
}

// read reads the whole body, and puts it back: what follows finds the same
// bytes, of known length. It takes from the budget as the bytes come, since a client may
// announce many and send none. Errors: a HandlerError with 400, 408, 413 or 503.
func (b *buffered) read(w http.ResponseWriter, r *http.Request) error {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	if r.ContentLength > b.limit {
		return tooLarge(b.limit)
	}
	b.client = clientOf(r)
	c := http.NewResponseController(w)
	c.SetReadDeadline(time.Now().Add(b.time)) // not supported by a ResponseWriter of somebody else's
	defer c.SetReadDeadline(time.Time{})
	for {
		if len(b.bytes) == cap(b.bytes) {
			if err := b.grow(w); err != nil {
				return err
			}
		}
		n, err := r.Body.Read(b.bytes[len(b.bytes):cap(b.bytes)])
		b.bytes = b.bytes[:len(b.bytes)+n]
		switch {
		case int64(len(b.bytes)) > b.limit:
			return tooLarge(b.limit)
		case err == io.EOF:
			r.Body = io.NopCloser(bytes.NewReader(b.bytes))
			r.ContentLength, r.TransferEncoding = int64(len(b.bytes)), nil
			return nil
		case err != nil:
			return unreadable(err)
		}
	}
}

func (b *buffered) grow(w http.ResponseWriter) error {
	size := min(max(4<<10, 2*int64(cap(b.bytes))), b.limit+1)
	more := size - int64(cap(b.bytes))
	if !heldBytes.take(b.client, more) {
		w.Header().Set("Retry-After", "1")
		return caddyhttp.Error(http.StatusServiceUnavailable, errors.New("too many bodies at once: try again"))
	}
	b.taken += more
	grown := make([]byte, len(b.bytes), size)
	copy(grown, b.bytes)
	b.bytes = grown
	return nil
}

// release gives back what was taken.
func (b *buffered) release() {
	if b.taken > 0 {
		heldBytes.give(b.client, b.taken)
		b.taken = 0
	}
}

func tooLarge(limit int64) error {
	return caddyhttp.Error(http.StatusRequestEntityTooLarge, fmt.Errorf("the body has more than %d bytes", limit))
}

// unreadable is the error for a body that could not be read, through no fault of ours.
func unreadable(err error) error {
	var (
		tooBig *http.MaxBytesError
		answer caddyhttp.HandlerError
	)
	switch {
	case errors.As(err, &answer):
		return answer
	case errors.As(err, &tooBig):
		return tooLarge(tooBig.Limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return caddyhttp.Error(http.StatusRequestTimeout, errors.New("the body came too slowly"))
	}
	return caddyhttp.Error(http.StatusBadRequest, errBody)
}

// turnAway lets an answer go out while the body has not come, or not all of it:
// net/http would wait for it. Nothing of it is taken for another request, since
// the connection ends.
func turnAway(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 1 || r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return
	}
	c := http.NewResponseController(w)
	c.EnableFullDuplex()
	c.SetReadDeadline(time.Now().Add(linger))
	w.Header().Set("Connection", "close")
}
