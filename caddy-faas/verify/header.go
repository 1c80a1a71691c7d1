package verify

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// DefaultTolerance is how far a signed time may be from now. It is what
// Slack, Stripe and Standard Webhooks ask for.
const DefaultTolerance = 5 * time.Minute

// maxSignatures is how many signatures of one header are looked at.
const maxSignatures = 16

// one is the header's only value: two of them could mean one thing here and another one behind.
func one(h http.Header, name string) (string, error) {
	switch v := h.Values(name); {
	case len(v) == 0 || len(v) == 1 && v[0] == "":
		return "", &Refusal{Unsigned, "no header " + name}
	case len(v) > 1:
		return "", &Refusal{Malformed, "more than one header " + name}
	default:
		return v[0], nil
	}
}

// hexMAC reads a MAC of size bytes in hexadecimal, after a prefix.
func hexMAC(text, prefix string, size int) ([]byte, error) {
	digits, ok := strings.CutPrefix(text, prefix)
	mac, err := hex.DecodeString(digits)
	if !ok || err != nil || len(mac) != size {
		return nil, &Refusal{Malformed, fmt.Sprintf("the signature is not %s and %d hexadecimal digits", prefix, 2*size)}
	}
	return mac, nil
}

// unix reads a time in seconds, and refuses one that is further from now than tolerance.
func unix(text string, now time.Time, tolerance time.Duration) (time.Time, error) {
	seconds, err := strconv.ParseUint(text, 10, 40)
	if err != nil {
		return time.Time{}, &Refusal{Malformed, "the time is no number of seconds"}
	}
	t := time.Unix(int64(seconds), 0)
	return t, fresh(t, now, tolerance)
}

func fresh(t, now time.Time, tolerance time.Duration) error {
	if away := now.Sub(t); away > tolerance || away < -tolerance {
		return &Refusal{Stale, fmt.Sprintf("signed %s, and not within %s", when(away), tolerance)}
	}
	return nil
}

// when is how long ago a time is, or in how long.
func when(ago time.Duration) string {
	if ago = ago.Round(time.Second); ago < 0 {
		return fmt.Sprintf("%s in the future", -ago)
	}
	return fmt.Sprintf("%s ago", ago)
}

// word is s if it can stand in a header and a log line, else "". Senders' names and ids are such.
func word(s string) string {
	if len(s) > 200 {
		return ""
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return ""
		}
	}
	return s
}

// first is the word in the first of the headers that has one.
func first(h http.Header, names ...string) string {
	for _, name := range names {
		if w := word(h.Get(name)); w != "" {
			return w
		}
	}
	return ""
}

// equal compares in a time that depends on neither.
func equal(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
