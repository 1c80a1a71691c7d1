package verify

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	signer         = "echo-api.amazon.com" // in the certificate
	fetchTime      = 2 * time.Second
	fetchSize      = 64 << 10
	fetchesAtOnce  = 4
	keepKey        = 24 * time.Hour   // until it is fetched and judged again
	keepFailure    = 30 * time.Second // until it is tried again
	maxCertificate = 64               // of those that are good, and of those that are not
)

// Certificates fetch and keep the certificates by which Alexa's requests are
// signed. One URL is fetched once, however many requests wait for it. A good one is kept for
// a day at most, and a bad one for 30 s, so that nobody can make us fetch in a loop.
type Certificates struct {
	roots  *x509.CertPool
	client *http.Client

	mu      sync.Mutex
	good    map[string]*certificate
	bad     map[string]*certificate
	pending map[string]*certificate
}

// certificate is never changed once done is closed.
type certificate struct {
	done  chan struct{}
	key   *rsa.PublicKey
	err   error
	until time.Time // when to fetch it again
	end   time.Time // when the certificate itself ends
}

// NewCertificates trusts the roots; nil: the system's. It fetches by transport.
func NewCertificates(roots *x509.CertPool, transport http.RoundTripper) *Certificates {
	return &Certificates{
		roots: roots,
		client: &http.Client{
			Transport:     transport,
			Timeout:       fetchTime,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		good: make(map[string]*certificate), bad: make(map[string]*certificate), pending: make(map[string]*certificate),
	}
}

// key is that of the certificate at a URL, which is trusted at the time now.
func (c *Certificates) key(ctx context.Context, url string, now time.Time) (*rsa.PublicKey, error) {
	c.mu.Lock()
	for _, known := range []*certificate{c.good[url], c.bad[url]} {
		if known != nil && now.Before(known.until) {
			c.mu.Unlock()
			return known.key, known.err
		}
	}
	e := c.pending[url]
	if e == nil && len(c.pending) >= fetchesAtOnce {
		old := c.good[url]
		c.mu.Unlock()
		if old != nil && now.Before(old.end) {
			return old.key, nil // strangers can make all fetches wait, but not this one be forgotten
		}
		return nil, &Refusal{Unavailable, "too many certificates are being fetched"}
	}
	if e == nil {
		e = &certificate{done: make(chan struct{})}
		c.pending[url] = e
		go c.fetch(e, c.good[url], url, now) // its own time bounds it: others may wait for it, too
	}
	c.mu.Unlock()
	select {
	case <-e.done:
		return e.key, e.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// fetch finds out about e, of which old is what was known.
func (c *Certificates) fetch(e, old *certificate, url string, now time.Time) {
	e.key, e.end, e.err = c.load(url, now)
	keepFor := keepKey
	var r *Refusal
	if errors.As(e.err, &r) {
		keepFor = keepFailure
		if r.Reason == Unavailable && old != nil && now.Before(old.end) {
			e.key, e.end, e.err = old.key, old.end, nil // what was known still counts
		}
	}
	e.until = now.Add(keepFor)
	if e.err == nil && e.end.Before(e.until) {
		e.until = e.end
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(e.done)
	delete(c.pending, url)
	to, from := c.good, c.bad
	if e.err != nil {
		to, from = c.bad, c.good
	}
	delete(from, url)
	keep(to, url, e)
}

// keep stores e, in place of what ends first if there are too many.
func keep(all map[string]*certificate, url string, e *certificate) {
	all[url] = e
	if len(all) <= maxCertificate {
		return
	}
	first := url
	for u, other := range all {
		if other.until.Before(all[first].until) {
			first = u
		}
	}
	delete(all, first)
}

// load fetches a chain and judges it.
func (c *Certificates) load(url string, now time.Time) (*rsa.PublicKey, time.Time, error) {
	resp, err := c.client.Get(url)
	if err != nil {
		return nil, time.Time{}, &Refusal{Unavailable, "fetching the certificate: " + err.Error()}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, time.Time{}, &Refusal{Unavailable, "fetching the certificate: " + resp.Status}
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, fetchSize+1))
	switch {
	case err != nil:
		return nil, time.Time{}, &Refusal{Unavailable, "fetching the certificate: " + err.Error()}
	case len(text) > fetchSize:
		return nil, time.Time{}, &Refusal{Untrusted, fmt.Sprintf("the certificates have more than %d bytes", fetchSize)}
	}
	leaf, err := c.judge(text, now)
	if err != nil {
		return nil, time.Time{}, &Refusal{Untrusted, err.Error()}
	}
	key, ok := leaf.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, time.Time{}, &Refusal{Untrusted, "the certificate's key is no RSA key"}
	}
	return key, leaf.NotAfter, nil
}

// judge returns the first certificate, if it is Alexa's and the others lead to a trusted root.
func (c *Certificates) judge(text []byte, now time.Time) (*x509.Certificate, error) {
	var leaf *x509.Certificate
	others := x509.NewCertPool()
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("a %s among the certificates", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		if leaf == nil {
			leaf = cert
		} else {
			others.AddCert(cert)
		}
	}
	if leaf == nil {
		return nil, errors.New("there is no certificate")
	}
	// A wildcard would be a certificate of somebody else at Amazon.
	if !slices.Contains(leaf.DNSNames, signer) {
		return nil, errors.New("the certificate is not of " + signer)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: c.roots, Intermediates: others, CurrentTime: now})
	return leaf, err
}
