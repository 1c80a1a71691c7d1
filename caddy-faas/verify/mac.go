package verify

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"hash"
	"time"
)

// authenticated is the claim of every scheme that signs with an HMAC: it holds
// if one of the MACs is that of before, body and after, by one of the secrets.
type authenticated struct {
	secrets       [][]byte
	hash          func() hash.Hash // nil: SHA-256
	macs          [][]byte
	before, after string
	time          time.Time
	describe      func(body []byte) Event // of a body that is believed
}

func (a *authenticated) Verify(_ context.Context, body []byte) (Event, error) {
	if a.hash == nil {
		a.hash = sha256.New
	}
	for i, secret := range a.secrets {
		m := hmac.New(a.hash, secret)
		m.Write([]byte(a.before))
		m.Write(body)
		m.Write([]byte(a.after))
		sum := m.Sum(nil)
		for _, mac := range a.macs {
			if hmac.Equal(mac, sum) {
				e := a.describe(body)
				e.Time, e.Secret = a.time, i
				return e, nil
			}
		}
	}
	return Event{}, &Refusal{Mismatch, "the signature is of another body, or by another secret"}
}
