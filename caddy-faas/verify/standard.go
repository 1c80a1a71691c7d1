package verify

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"time"
)

// Standard verifies Standard Webhooks, under their own header names or
// Svix's: v1 by a secret (whsec_ and base64, or base64 alone), v1a by an Ed25519
// public key (whpk_ and base64). The event is the body's type, the delivery the webhook-id.
func Standard(secrets [][]byte, tolerance time.Duration) (Scheme, error) {
	s := standard{tolerance: tolerance}
	for i, text := range secrets {
		kind, encoded, ok := strings.Cut(string(text), "_")
		if !ok {
			kind, encoded = "whsec", string(text)
		}
		key, err := base64.StdEncoding.DecodeString(encoded)
		switch { // without err, which tells a part of it
		case kind != "whsec" && kind != "whpk" || err != nil || len(key) == 0:
			return nil, errors.New("a secret of Standard Webhooks is whsec_ and base64, a public key whpk_ and base64")
		case kind == "whpk" && len(key) != ed25519.PublicKeySize:
			return nil, errors.New("whpk_: an Ed25519 public key has 32 bytes")
		case kind == "whpk":
			s.public, s.publicAt = append(s.public, key), append(s.publicAt, i)
		default:
			s.secrets, s.secretAt = append(s.secrets, key), append(s.secretAt, i)
		}
	}
	return s, nil
}

type standard struct {
	tolerance          time.Duration
	secrets            [][]byte
	public             []ed25519.PublicKey
	secretAt, publicAt []int // their places among all that were given
}

func (s standard) Claim(h http.Header, now time.Time) (Claim, error) {
	prefix := "webhook-"
	if h.Get(prefix+"id") == "" {
		prefix = "svix-"
	}
	var v [3]string
	for i, name := range []string{"id", "timestamp", "signature"} {
		var err error
		if v[i], err = one(h, prefix+name); err != nil {
			return nil, err
		}
	}
	id, stamp := v[0], v[1]
	// A dot in it could move the border between id, time and body.
	if strings.Contains(id, ".") || word(id) == "" {
		return nil, &Refusal{Malformed, "the webhook-id has a dot, or is no word"}
	}
	t, err := unix(stamp, now, s.tolerance)
	if err != nil {
		return nil, err
	}
	c := &standardClaim{scheme: s}
	c.authenticated = authenticated{secrets: s.secrets, before: id + "." + stamp + ".", time: t, describe: func(body []byte) Event {
		e := jsonEvent(body)
		e.Delivery = id
		return e
	}}
	for n, part := range strings.Fields(v[2]) {
		version, encoded, _ := strings.Cut(part, ",")
		sig, err := base64.StdEncoding.DecodeString(encoded)
		switch {
		case err != nil || n >= maxSignatures:
		case version == "v1":
			c.macs = append(c.macs, sig)
		case version == "v1a":
			c.signatures = append(c.signatures, sig)
		}
	}
	if c.macs == nil && c.signatures == nil {
		return nil, &Refusal{Unsigned, "webhook-signature has neither v1, nor v1a,"}
	}
	return c, nil
}

type standardClaim struct {
	authenticated
	scheme     standard
	signatures [][]byte
}

func (c *standardClaim) Verify(ctx context.Context, body []byte) (Event, error) {
	if len(c.signatures) > 0 && len(c.scheme.public) > 0 {
		text := append([]byte(c.before), body...)
		for i, key := range c.scheme.public {
			for _, sig := range c.signatures {
				if ed25519.Verify(key, text, sig) {
					e := c.describe(body)
					e.Time, e.Secret = c.time, c.scheme.publicAt[i]
					return e, nil
				}
			}
		}
	}
	e, err := c.authenticated.Verify(ctx, body)
	if err == nil {
		e.Secret = c.scheme.secretAt[e.Secret]
	}
	return e, err
}
