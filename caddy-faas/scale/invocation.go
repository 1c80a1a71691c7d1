package scale

import (
	"context"
	"fmt"
	"net/http/httptrace"
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
	deadline time.Time
	wait     time.Duration
	replica  *replica
	cold     time.Duration
	err      error
	undialed atomic.Pointer[string] // the address that refused a connection
}

// Invoke counts an invocation and leases its first replica, waiting for at
// most wait and the context. The error is a *Refusal, [faas.ErrNotFound] or
// the context's. End must be called in either case.
func (t *Target) Invoke(ctx context.Context, wait time.Duration) (*Invocation, error) {
	t.started.Add(1)
	i := &Invocation{target: t, wait: wait, deadline: time.Now().Add(wait)}
	if t.Ready() > 0 {
		return i, i.lease(ctx)
	}
	t.coldStarts.Add(1)
	begin := time.Now()
	err := i.lease(ctx)
	i.cold = time.Since(begin)
	return i, err
}

// Addr is where the leased replica is, as [faas.Replica] writes it.
func (i *Invocation) Addr() string { return i.replica.addr }

// ColdStart is how long the invocation waited because it met no ready replica; 0 if it met one.
func (i *Invocation) ColdStart() time.Duration { return i.cold }

// Err is why Next gave up.
func (i *Invocation) Err() error { return i.err }

// Next gives the lease back and takes another one. A replica that refused the
// connection is passed over from now on. Once Next has failed it fails always.
func (i *Invocation) Next(ctx context.Context) error {
	if i.err != nil {
		return i.err
	}
	if addr := i.undialed.Swap(nil); addr != nil && i.replica != nil && strings.HasSuffix(i.replica.addr, *addr) {
		i.target.eject(i.replica)
	}
	i.End()
	i.err = i.lease(ctx)
	return i.err
}

// End gives the lease back, if there is one.
func (i *Invocation) End() {
	if i.replica != nil {
		i.target.release(i.replica)
		i.replica = nil
	}
}

// Trace tells the invocation which address refused a connection. The
// transport says nothing else of why a request has to be sent again, and may
// report a dial that it gave up long after.
func (i *Invocation) Trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		ConnectDone: func(_, addr string, err error) {
			if err != nil {
				i.undialed.Store(&addr)
			}
		},
	}
}

func (i *Invocation) lease(ctx context.Context) error {
	r, w, err := i.target.lease()
	if w == nil {
		i.replica = r
		return err
	}
	timer := time.NewTimer(time.Until(i.deadline))
	defer timer.Stop()
	select {
	case g := <-w.grant:
		i.replica = g.replica
		return g.err
	case <-ctx.Done():
		i.target.leave(w)
		return context.Cause(ctx)
	case <-timer.C:
		i.target.leave(w)
		return i.target.late(i.wait)
	}
}

// late is the error for a request whose wait is over.
func (t *Target) late(wait time.Duration) error {
	s := t.now.Load()
	r := &Refusal{Reason: ColdStartTimeout, RetryAfter: time.Second, Detail: fmt.Sprintf("no replica was ready within %s", wait)}
	switch {
	case len(s.ready) > 0 && s.concurrency > 0:
		r.Reason, r.Detail = Busy, fmt.Sprintf("no replica had one of its %d slots free within %s", s.concurrency, wait)
	case len(s.ready) > 0:
		r.Reason, r.Detail = Unreachable, fmt.Sprintf("no replica accepted a connection within %s", wait)
	}
	if s.Reason != "" {
		r.Detail += ": " + s.Reason
	}
	return r
}
