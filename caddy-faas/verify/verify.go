// Package verify tells whether a webhook's request is from whom it says: by
// GitHub's, Slack's or another sender's signature. It reads no clock and knows
// no HTTP server: time, secrets and trusted roots are given to it.
//
// A [Scheme] judges in two steps, so that a request which can't be right costs
// no body: [Scheme.Claim] reads the header, [Claim.Verify] the body.
package verify

import (
	"context"
	"net/http"
	"time"
)

// A Scheme is how one kind of sender proves that a request is its own. It may
// be used by many goroutines at once.
type Scheme interface {
	// Claim reads what the header claims, at the time now. An error means that no
	// body can make it right; it is a *Refusal.
	Claim(h http.Header, now time.Time) (Claim, error)
}

// A Claim is what a request's header says of its origin, not believed yet.
type Claim interface {
	// Verify tells what the sender says, if body is what it signed. The error is a
	// *Refusal, or the context's.
	Verify(ctx context.Context, body []byte) (Event, error)
}

// An Event is what a verified request is about.
type Event struct {
	// Name is the kind of event in the sender's words, such as push; "" if it has
	// none. GitHub's and GitLab's come from a header that is not signed.
	Name string
	// Delivery is the same when the sender sends the same event again; "" if the scheme has none.
	Delivery string
	// Unsigned says that Delivery is from a header that is not signed. GitHub gives all
	// hooks that an event goes to the same one.
	Unsigned bool
	// Time is when the sender signed it; zero if that is not signed.
	Time time.Time
	// Secret says which of the secrets it was, from 0.
	Secret int
	// Token is the header that had the secret itself, for nobody else to see; "" if the request is signed.
	Token string
	// Reply is the answer to a request that only tries the connection; nil for a real event.
	Reply *Reply
}

// A Reply is an answer with status 200.
type Reply struct {
	ContentType string
	Body        string
}

// Reasons of a Refusal.
const (
	// Unsigned: the header with the signature is missing.
	Unsigned = "unsigned"
	// Malformed: the request is none of this scheme.
	Malformed = "malformed"
	// Mismatch: the signature is of another body, or by another secret.
	Mismatch = "mismatch"
	// Stale: it was signed too long ago, or in the future.
	Stale = "stale"
	// Untrusted: the certificate that signed it is not one to be trusted.
	Untrusted = "untrusted"
	// Stranger: it is signed, and meant for somebody else.
	Stranger = "stranger"
	// Unavailable: what it takes to judge could not be fetched.
	Unavailable = "unavailable"
)

// A Refusal says why a request is not verified.
type Refusal struct {
	Reason string // one of the above
	Detail string // for the operator; never for the caller
}

func (r *Refusal) Error() string { return r.Reason + ": " + r.Detail }
