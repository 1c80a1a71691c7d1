package verify

import (
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// Stripe verifies Stripe-Signature, of which only v1 counts. Event and
// delivery are the body's type and id.
func Stripe(secrets [][]byte, tolerance time.Duration) Scheme { return stripe{secrets, tolerance} }

type stripe struct {
	secrets   [][]byte
	tolerance time.Duration
}

func (s stripe) Claim(h http.Header, now time.Time) (Claim, error) {
	text, err := one(h, "Stripe-Signature")
	if err != nil {
		return nil, err
	}
	stamp, macs, err := stripeParts(text)
	if err != nil {
		return nil, err
	}
	t, err := unix(stamp, now, s.tolerance)
	if err != nil {
		return nil, err
	}
	return &authenticated{secrets: s.secrets, macs: macs, before: stamp + ".", time: t, describe: jsonEvent}, nil
}

// stripeParts reads t=SECONDS,v1=HEX,v1=HEX,...
func stripeParts(text string) (stamp string, macs [][]byte, err error) {
	for part := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		switch {
		case !ok || key == "t" && (stamp != "" || value == ""):
			return "", nil, &Refusal{Malformed, "Stripe-Signature is not one t=SECONDS and v1=HEX, with commas between them"}
		case key == "t":
			stamp = value
		case key == "v1" && len(macs) < maxSignatures:
			if mac, err := hexMAC(value, "", sha256.Size); err == nil {
				macs = append(macs, mac)
			}
		}
	}
	switch {
	case stamp == "":
		return "", nil, &Refusal{Malformed, "Stripe-Signature has no t="}
	case macs == nil:
		return "", nil, &Refusal{Unsigned, "Stripe-Signature has no v1="}
	}
	return stamp, macs, nil
}

// jsonEvent is that of a body which names it by type and id.
func jsonEvent(body []byte) Event {
	var m struct {
		ID   string `json:"id"`
		Type string `json:"type"`
	}
	if json.Unmarshal(body, &m) != nil {
		return Event{}
	}
	return Event{Name: word(m.Type), Delivery: word(m.ID)}
}
