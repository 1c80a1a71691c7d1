package caddyfaas

import (
	"errors"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/caddy-faas/faas/caddy-faas/verify"
)

func init() {
	caddy.RegisterModule(GitHub{})
	caddy.RegisterModule(GitLab{})
	caddy.RegisterModule(Gitea{})
	caddy.RegisterModule(Slack{})
	caddy.RegisterModule(Stripe{})
	caddy.RegisterModule(Standard{})
	caddy.RegisterModule(HMAC{})
}

// errNoSecret is that of a scheme that any request would satisfy.
var errNoSecret = errors.New("want a secret or a secret_file, or anybody could sign")

// keyed are schemes that need a secret, and have no statuses of their own.
type keyed struct{}

// Status leaves the usual one.
func (keyed) Status(string) int { return 0 }

// plain are those without options.
type plain struct{ keyed }

// MaxBody is 25 MiB, GitHub's limit.
func (plain) MaxBody() int64 { return 25 << 20 }

// UnmarshalCaddyfile refuses options that are not every scheme's.
func (plain) UnmarshalCaddyfile(d *caddyfile.Dispenser) error { return options(d, nil) }

func need(secrets [][]byte, s verify.Scheme) (verify.Scheme, error) {
	if len(secrets) == 0 {
		return nil, errNoSecret
	}
	return s, nil
}

// GitHub verifies X-Hub-Signature-256 (github).
type GitHub struct{ plain }

// CaddyModule returns the module's ID and constructor.
func (GitHub) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "faas.verifiers.github", New: func() caddy.Module { return new(GitHub) }}
}

// Scheme returns [verify.GitHub].
func (GitHub) Scheme(secrets [][]byte) (verify.Scheme, error) {
	return need(secrets, verify.GitHub(secrets))
}

// GitLab compares X-Gitlab-Token (gitlab).
type GitLab struct{ plain }

// CaddyModule returns the module's ID and constructor.
func (GitLab) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "faas.verifiers.gitlab", New: func() caddy.Module { return new(GitLab) }}
}

// Scheme returns [verify.GitLab].
func (GitLab) Scheme(secrets [][]byte) (verify.Scheme, error) {
	return need(secrets, verify.GitLab(secrets))
}

// Gitea verifies X-Gitea-Signature, or Forgejo's or Gogs' (gitea).
type Gitea struct{ plain }

// CaddyModule returns the module's ID and constructor.
func (Gitea) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "faas.verifiers.gitea", New: func() caddy.Module { return new(Gitea) }}
}

// Scheme returns [verify.Gitea].
func (Gitea) Scheme(secrets [][]byte) (verify.Scheme, error) {
	return need(secrets, verify.Gitea(secrets))
}

// timed are schemes that sign the time.
type timed struct {
	keyed
	// Tolerance is how far that may be from now, before or after. Default: 5m.
	Tolerance caddy.Duration `json:"tolerance,omitempty"`
}

// MaxBody is 1 MiB.
func (timed) MaxBody() int64 { return 1 << 20 }

// Provision sets the default.
func (t *timed) Provision(caddy.Context) error {
	if t.Tolerance == 0 {
		t.Tolerance = caddy.Duration(verify.DefaultTolerance)
	}
	return nil
}

// Validate refuses a tolerance that nothing satisfies.
func (t *timed) Validate() error {
	if t.Tolerance < 0 {
		return errors.New("tolerance: want a positive duration")
	}
	return nil
}

// UnmarshalCaddyfile reads the block's options that are not every scheme's.
func (t *timed) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return options(d, map[string]func() error{"tolerance": readDuration(d, &t.Tolerance)})
}

// Slack verifies X-Slack-Signature (slack).
type Slack struct{ timed }

// CaddyModule returns the module's ID and constructor.
func (Slack) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "faas.verifiers.slack", New: func() caddy.Module { return new(Slack) }}
}

// Scheme returns [verify.Slack].
func (s *Slack) Scheme(secrets [][]byte) (verify.Scheme, error) {
	return need(secrets, verify.Slack(secrets, time.Duration(s.Tolerance)))
}

// Stripe verifies Stripe-Signature (stripe).
type Stripe struct{ timed }

// CaddyModule returns the module's ID and constructor.
func (Stripe) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "faas.verifiers.stripe", New: func() caddy.Module { return new(Stripe) }}
}

// Scheme returns [verify.Stripe].
func (s *Stripe) Scheme(secrets [][]byte) (verify.Scheme, error) {
	return need(secrets, verify.Stripe(secrets, time.Duration(s.Tolerance)))
}

// Standard verifies Standard Webhooks, and Svix's (standard). A secret is
// whsec_ and base64, or an Ed25519 public key: whpk_ and base64.
type Standard struct{ timed }

// CaddyModule returns the module's ID and constructor.
func (Standard) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "faas.verifiers.standard", New: func() caddy.Module { return new(Standard) }}
}

// Scheme returns [verify.Standard].
func (s *Standard) Scheme(secrets [][]byte) (verify.Scheme, error) {
	if len(secrets) == 0 {
		return nil, errNoSecret
	}
	return verify.Standard(secrets, time.Duration(s.Tolerance))
}

// HMAC verifies the signature of any other sender that signs with an HMAC (hmac).
type HMAC struct {
	keyed

	// Header has the signature.
	Header string `json:"header"`

	// Prefix is what stands before the signature. Default: nothing.
	Prefix string `json:"prefix,omitempty"`

	// Hash is sha256, sha384, sha512 or sha1. Default: sha256.
	Hash string `json:"hash,omitempty"`

	// Encoding is hex, base64 or base64url. Default: hex.
	Encoding string `json:"encoding,omitempty"`

	// Signed is the text that is signed, with {body}, {ts} and {id} in it, and what the sender has between them. Default: {body}.
	Signed string `json:"signed,omitempty"`

	// TimestampHeader has {ts}, in Unix seconds or milliseconds. Default: none.
	TimestampHeader string `json:"timestamp_header,omitempty"`

	// DeliveryHeader has {id}, the same when an event is sent again. Default: none.
	DeliveryHeader string `json:"delivery_header,omitempty"`

	// EventHeader has the event's name. Default: none.
	EventHeader string `json:"event_header,omitempty"`

	// Tolerance is how far the time may be from now, before or after. Default: 5m.
	Tolerance caddy.Duration `json:"tolerance,omitempty"`
}

// CaddyModule returns the module's ID and constructor.
func (HMAC) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "faas.verifiers.hmac", New: func() caddy.Module { return new(HMAC) }}
}

// Provision warns of a text whose parts can't be told apart. There are senders who sign such.
func (h *HMAC) Provision(ctx caddy.Context) error {
	if strings.Contains(h.Signed, "}{") {
		ctx.Logger().Warn("nothing is between two parts of the signed text: whoever gets hold of a signed request can send it again with the bytes between them moved from one to the other; if the sender's text has a separator, put it into signed",
			zap.String("signed", h.Signed))
	}
	return nil
}

// MaxBody is 1 MiB.
func (HMAC) MaxBody() int64 { return 1 << 20 }

// Scheme returns [verify.HMAC].
func (h *HMAC) Scheme(secrets [][]byte) (verify.Scheme, error) {
	if len(secrets) == 0 {
		return nil, errNoSecret
	}
	return verify.HMAC(secrets, verify.HMACOptions{
		Header: h.Header, Prefix: h.Prefix, Hash: h.Hash, Encoding: h.Encoding, Signed: h.Signed, TimestampHeader: h.TimestampHeader,
		DeliveryHeader: h.DeliveryHeader, EventHeader: h.EventHeader, Tolerance: time.Duration(h.Tolerance),
	})
}

// UnmarshalCaddyfile reads the block's options that are not every scheme's.
func (h *HMAC) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return options(d, map[string]func() error{
		"header": readText(d, &h.Header), "prefix": readText(d, &h.Prefix), "hash": readText(d, &h.Hash), "encoding": readText(d, &h.Encoding),
		"signed": readText(d, &h.Signed), "timestamp_header": readText(d, &h.TimestampHeader), "delivery_header": readText(d, &h.DeliveryHeader),
		"event_header": readText(d, &h.EventHeader), "tolerance": readDuration(d, &h.Tolerance),
	})
}

var (
	_ Verifier              = (*GitHub)(nil)
	_ Verifier              = (*GitLab)(nil)
	_ Verifier              = (*Gitea)(nil)
	_ Verifier              = (*Slack)(nil)
	_ Verifier              = (*Stripe)(nil)
	_ Verifier              = (*Standard)(nil)
	_ Verifier              = (*HMAC)(nil)
	_ caddy.Provisioner     = (*timed)(nil)
	_ caddy.Provisioner     = (*HMAC)(nil)
	_ caddy.Validator       = (*timed)(nil)
	_ caddyfile.Unmarshaler = plain{}
	_ caddyfile.Unmarshaler = (*timed)(nil)
	_ caddyfile.Unmarshaler = (*HMAC)(nil)
)
