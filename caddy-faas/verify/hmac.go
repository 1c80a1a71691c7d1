package verify

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// HMACOptions say how a sender without a scheme of its own signs.
type HMACOptions struct {
	// Header has the signature, after Prefix.
	Header, Prefix string
	// Hash is sha256, sha384, sha512 or sha1. Default: sha256.
	Hash string
	// Encoding is hex, base64 or base64url. Default: hex.
	Encoding string
	// Signed is the text that is signed: {body} once, {ts} and {id} for the values of
	// TimestampHeader and DeliveryHeader. Default: {body}.
	Signed string
	// TimestampHeader has the time in Unix seconds, or in milliseconds if there are
	// 13 digits or more. Default: none.
	TimestampHeader string
	// DeliveryHeader and EventHeader have the delivery's id and the event's name. Default: none.
	DeliveryHeader, EventHeader string
	// Tolerance is how far the time may be from now. Default: [DefaultTolerance].
	Tolerance time.Duration
}

// HMAC verifies what the options say.
func HMAC(secrets [][]byte, o HMACOptions) (Scheme, error) {
	s := &hmacScheme{HMACOptions: o, secrets: secrets}
	if o.Header == "" {
		return nil, errors.New("hmac: want header, the name of the header with the signature")
	}
	switch o.Hash {
	case "", "sha256":
		s.hash = sha256.New
	case "sha384":
		s.hash = sha512.New384
	case "sha512":
		s.hash = sha512.New
	case "sha1":
		s.hash = sha1.New
	default:
		return nil, fmt.Errorf("hmac: hash %q: want sha256, sha384, sha512 or sha1", o.Hash)
	}
	switch o.Encoding {
	case "", "hex":
		s.decode = hex.DecodeString
	case "base64":
		s.decode = base64.StdEncoding.DecodeString
	case "base64url":
		s.decode = func(t string) ([]byte, error) { return base64.RawURLEncoding.DecodeString(strings.TrimRight(t, "=")) }
	default:
		return nil, fmt.Errorf("hmac: encoding %q: want hex, base64 or base64url", o.Encoding)
	}
	if s.Signed == "" {
		s.Signed = "{body}"
	}
	if s.Tolerance == 0 {
		s.Tolerance = DefaultTolerance
	}
	return s, s.judge()
}

type hmacScheme struct {
	HMACOptions
	secrets [][]byte
	hash    func() hash.Hash
	decode  func(string) ([]byte, error)
}

// judge refuses a template that doesn't fit the headers: what isn't signed proves nothing.
func (s *hmacScheme) judge() error {
	if strings.Count(s.Signed, "{body}") != 1 {
		return fmt.Errorf("hmac: signed %q: want {body} in it, once", s.Signed)
	}
	for _, v := range []struct{ option, header, placeholder string }{
		{"timestamp_header", s.TimestampHeader, "{ts}"}, {"delivery_header", s.DeliveryHeader, "{id}"},
	} {
		in := strings.Contains(s.Signed, v.placeholder)
		switch {
		case in && v.header == "":
			return fmt.Errorf("hmac: signed has %s: want %s, the header that it is in", v.placeholder, v.option)
		case !in && v.header != "" && v.placeholder == "{ts}":
			return fmt.Errorf("hmac: signed %q has no {ts}: a time that isn't signed proves nothing", s.Signed)
		}
	}
	return nil
}

func (s *hmacScheme) Claim(h http.Header, now time.Time) (Claim, error) {
	text, err := one(h, s.Header)
	if err != nil {
		return nil, err
	}
	encoded, ok := strings.CutPrefix(text, s.Prefix)
	mac, err := s.decode(encoded)
	if !ok || err != nil || len(mac) != s.hash().Size() {
		return nil, &Refusal{Malformed, fmt.Sprintf("%s is not %s and an encoded MAC of %d bytes", s.Header, s.Prefix, s.hash().Size())}
	}
	e := Event{Name: first(h, s.EventHeader), Delivery: first(h, s.DeliveryHeader), Unsigned: !strings.Contains(s.Signed, "{id}")}
	var stamp string
	if s.TimestampHeader != "" {
		if stamp, err = one(h, s.TimestampHeader); err != nil {
			return nil, err
		}
		if e.Time, err = unixOrMilli(stamp, now, s.Tolerance); err != nil {
			return nil, err
		}
	}
	if !e.Unsigned {
		if e.Delivery, err = one(h, s.DeliveryHeader); err != nil {
			return nil, err
		}
		if word(e.Delivery) == "" {
			return nil, &Refusal{Malformed, s.DeliveryHeader + " is no word"}
		}
	}
	before, after, _ := strings.Cut(s.Signed, "{body}")
	fill := strings.NewReplacer("{ts}", stamp, "{id}", e.Delivery)
	return &authenticated{secrets: s.secrets, hash: s.hash, macs: [][]byte{mac}, before: fill.Replace(before), after: fill.Replace(after),
		time: e.Time, describe: func([]byte) Event { return e }}, nil
}

// unixOrMilli reads seconds, or milliseconds as no time in seconds has 13 digits.
func unixOrMilli(text string, now time.Time, tolerance time.Duration) (time.Time, error) {
	if len(text) < 13 {
		return unix(text, now, tolerance)
	}
	milli, err := strconv.ParseUint(text, 10, 50)
	if err != nil {
		return time.Time{}, &Refusal{Malformed, "the time is no number"}
	}
	t := time.UnixMilli(int64(milli))
	return t, fresh(t, now, tolerance)
}
