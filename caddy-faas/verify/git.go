package verify

import (
	"context"
	"crypto/sha256"
	"net/http"
	"strings"
	"time"
)

// GitHub verifies X-Hub-Signature-256. Its SHA-1 signature is not looked at.
// Event and delivery are X-GitHub-Event and X-GitHub-Delivery, which are not
// signed. A ping is replied to.
func GitHub(secrets [][]byte) Scheme {
	return hub{secrets: secrets, signature: []string{"X-Hub-Signature-256"}, prefix: "sha256=",
		event: []string{"X-GitHub-Event"}, delivery: []string{"X-GitHub-Delivery"}}
}

// Gitea verifies X-Gitea-Signature, or Forgejo's and Gogs' own. Event and
// delivery are headers that are not signed.
func Gitea(secrets [][]byte) Scheme {
	return hub{secrets: secrets, signature: []string{"X-Gitea-Signature", "X-Forgejo-Signature", "X-Gogs-Signature"},
		event: []string{"X-Gitea-Event", "X-Forgejo-Event", "X-Gogs-Event"}, delivery: []string{"X-Gitea-Delivery", "X-Forgejo-Delivery", "X-Gogs-Delivery"}}
}

// hub signs the body alone, with HMAC-SHA256 in hexadecimal. Of several names the first that the request has counts.
type hub struct {
	secrets                    [][]byte
	signature, event, delivery []string
	prefix                     string
}

func (s hub) Claim(h http.Header, _ time.Time) (Claim, error) {
	name := s.signature[0]
	for _, n := range s.signature {
		if h.Get(n) != "" {
			name = n
			break
		}
	}
	text, err := one(h, name)
	if err != nil {
		return nil, err
	}
	mac, err := hexMAC(text, s.prefix, sha256.Size)
	if err != nil {
		return nil, err
	}
	e := Event{Name: first(h, s.event...), Delivery: first(h, s.delivery...), Unsigned: true}
	if e.Name == "ping" {
		e.Reply = &Reply{"text/plain; charset=utf-8", "pong\n"}
	}
	return &authenticated{secrets: s.secrets, macs: [][]byte{mac}, describe: func([]byte) Event { return e }}, nil
}

// GitLab compares X-Gitlab-Token with the secrets: nothing is signed. The
// event is that of X-Gitlab-Event, as in merge_request for "Merge Request
// Hook"; the delivery is Idempotency-Key.
func GitLab(secrets [][]byte) Scheme { return gitLab(secrets) }

type gitLab [][]byte

func (s gitLab) Claim(h http.Header, _ time.Time) (Claim, error) {
	const header = "X-Gitlab-Token"
	token, err := one(h, header)
	if err != nil {
		return nil, err
	}
	name := strings.TrimSuffix(strings.TrimSuffix(h.Get("X-Gitlab-Event"), "Hook"), " ")
	e := Event{Name: word(strings.ToLower(strings.ReplaceAll(name, " ", "_"))), Delivery: first(h, "Idempotency-Key"), Unsigned: true, Token: header}
	for i, secret := range s {
		if equal(token, string(secret)) {
			e.Secret = i
			return believed(e), nil
		}
	}
	return nil, &Refusal{Mismatch, "the token is none of the secrets"}
}

// believed is a claim that the header alone has proved.
type believed Event

func (b believed) Verify(context.Context, []byte) (Event, error) { return Event(b), nil }
