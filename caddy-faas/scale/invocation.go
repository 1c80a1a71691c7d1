package scale

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Reasons why a request was refused, as the X-Faas-Reason header gives them.
const (
	// QueueFull: as many requests as may wait for the function wait already.
	QueueFull = "queue-full"
	// ColdStartTimeout: no replica became ready in time.
	ColdStartTimeout = "cold-start-timeout"
	// Busy: every replica was ready but at its concurrency limit for as long as the request could wait.
	Busy = "limit"
	// StartFailed: the function's replicas fail to start.
	StartFailed = "start-failed"
	// NoCapacity: the engine has no room for a replica.
	NoCapacity = "no-capacity"
	// Unreachable: replicas that should be ready refuse connections.
	Unreachable = "unreachable"
)

// A Refusal is the error of a request that got no replica.
type Refusal struct {
	Reason     string        // one of the above
	RetryAfter time.Duration // when another try makes sense
	Detail     string        // for people
}

func (r *Refusal) Error() string { return r.Reason + ": " + r.Detail }

// An Invocation is one request to a function: it leases one replica after the
// other until one takes the request. It belongs to one goroutine; only Trace's
// hooks run elsewhere.
type Invocation struct {
	target   *Target
	begin    time.Time
	leased   time.Time
	wait     time.Duration // once it has waited
	bound    time.Duration
	header   http.Header
	replica  *replica
	cold     time.Duration
	stream   bool
	full     bool // the leased replica did not take it
	err      error
	undialed atomic.Pointer[string] // the address that refused a connection
	lost     atomic.Bool            // the replica has gone without a word
}

// Invoke counts an invocation and leases its first replica, waiting no longer
// than the function's queue timeout, bound (0: none) and the context. What it
// occupies while it waits is taken for the size of its header. The error is a *Refusal, [faas.ErrNotFound] or the context's. End must be called
// in either case.
func (t *Target) Invoke(ctx context.Context, bound time.Duration, header http.Header) (*Invocation, error) {
	t.started.Add(1)
	if !t.active.Load() && t.active.CompareAndSwap(false, true) {
		t.registry.scaler.poke(t)
	}
	i := &Invocation{target: t, bound: bound, header: header, begin: time.Now()}
	if len(t.now.Load().ready) > 0 {
		return i, i.lease(ctx)
	}
	t.coldStarts.Add(1)
	err := i.lease(ctx)
	if err == nil {
		i.cold = time.Since(i.begin)
	}
	return i, err
}

// Addr is where the leased replica is, as [faas.Replica] writes it.
func (i *Invocation) Addr() string { return i.replica.addr }

// ColdStart is how long the invocation waited for its replica because it met no ready one; 0 if it met one, or got none.
func (i *Invocation) ColdStart() time.Duration { return i.cold }

// Err is why Next gave up, or [ErrLost].
func (i *Invocation) Err() error {
	if i.lost.Load() {
		return ErrLost
	}
	return i.err
}

// Next gives the lease back and takes another one. A replica that refused the
// connection is passed over from now on. Once Next has failed it fails always.
func (i *Invocation) Next(ctx context.Context) error {
	if i.err != nil {
		return i.err
	}
	if addr := i.undialed.Swap(nil); addr != nil && i.replica != nil && strings.HasSuffix(i.replica.addr, *addr) {
		i.target.eject(i.replica, ejection)
		i.target.Doubt()
	}
	i.giveBack()
	i.full = false
	i.err = i.lease(ctx)
	return i.err
}

// Full passes over the leased replica from now on, for a moment: it has said that it takes no more
// requests. The error is a *Refusal once the invocation has waited for as long as it may.
func (i *Invocation) Full() error {
	i.full = true
	if r := i.replica; r.ejected.Load() <= i.target.registry.clock() { // else it has said so to another one just now
		d := min(max(fullness, 2*time.Duration(r.full.Load())), longFull)
		r.full.Store(int64(d))
		i.target.eject(r, d)
	}
	if i.patience() <= 0 {
		return i.target.late(i.wait)
	}
	return nil
}

// Stream tells that the answer has no end by nature: it holds its replica, but how long says nothing of other requests.
func (i *Invocation) Stream() {
	if !i.stream {
		i.stream = true
		i.target.streams.Add(1)
	}
}

// End gives the lease back, if there is one, and counts what the replica has done.
func (i *Invocation) End() {
	if i.stream {
		i.stream = false
		i.target.streams.Add(-1)
	} else if i.replica != nil && !i.full {
		i.target.busy.Add(int64(time.Since(i.leased)))
		i.target.completed.Add(1)
		if i.replica.full.Load() != 0 {
			i.replica.full.Store(0)
		}
	}
	i.giveBack()
}

func (i *Invocation) giveBack() {
	if i.replica != nil {
		i.replica.leave(i)
		i.target.release(i.replica)
		i.replica = nil
	}
}

// Trace tells the invocation which address refused a connection, and which
// connection has the request. The transport says nothing else of why a request has to be sent again, and may
// report a dial that it gave up long after.
func (i *Invocation) Trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		ConnectDone: func(_, addr string, err error) {
			if err != nil {
				i.undialed.Store(&addr)
			}
		},
		GotConn: func(c httptrace.GotConnInfo) { i.replica.enter(i, c.Conn) },
	}
}

// patience is how much longer the invocation may wait.
func (i *Invocation) patience() time.Duration {
	if i.wait == 0 {
		i.wait = i.target.patience(i.bound)
	}
	return i.wait - time.Since(i.begin)
}

func (i *Invocation) lease(ctx context.Context) error {
	ago := time.Duration(0)
	if i.leased.IsZero() {
		i.leased = i.begin
	} else {
		i.leased = time.Now()
		ago = max(1, i.leased.Sub(i.begin))
	}
	r, w, err := i.target.lease(i, ago)
	if w == nil {
		i.replica = r
		return err
	}
	timer := time.NewTimer(i.patience())
	defer timer.Stop()
	select {
	case g := <-w.grant:
		i.replica, i.leased = g.replica, time.Now()
		return g.err
	case <-ctx.Done():
		i.target.leave(w)
		return context.Cause(ctx)
	case <-timer.C:
		i.target.leave(w)
		return i.target.late(i.wait)
	}
}

// size of what is sent as header, in bytes; what holds it is not counted.
func (i *Invocation) size() (n int64) {
	for name, values := range i.header {
		for _, v := range values {
			n += int64(len(name) + len(v))
		}
	}
	return n
}

// late is the error for a request whose wait is over.
func (t *Target) late(wait time.Duration) error {
	s := t.now.Load()
	r := &Refusal{Reason: ColdStartTimeout, RetryAfter: scatter(t.starting()), Detail: fmt.Sprintf("no replica was ready within %s", wait)}
	switch {
	case len(s.ready) > 0 && s.limit > 0:
		r.Reason, r.RetryAfter = Busy, t.drained(s)
		r.Detail = fmt.Sprintf("no replica had one of its %d slots free within %s", s.limit, wait)
	case slices.ContainsFunc(s.ready, func(r *replica) bool { return r.full.Load() != 0 }):
		r.Reason, r.RetryAfter = Busy, t.drained(s)
		r.Detail = fmt.Sprintf("no replica took a further request within %s", wait)
	case len(s.ready) > 0:
		r.Reason, r.Detail = Unreachable, fmt.Sprintf("no replica accepted a connection within %s", wait)
	}
	if s.Reason != "" {
		r.Detail += ": " + s.Reason
	}
	return r
}
