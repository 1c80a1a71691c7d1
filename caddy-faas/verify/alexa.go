package verify

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Tolerances that Amazon asks for. Skill events, such as that a skill was
// enabled, are sent again for an hour.
const (
	alexaTolerance      = 150 * time.Second
	alexaEventTolerance = time.Hour
)

// Alexa verifies what Amazon demands of a skill's endpoint: Signature-256 over
// the body by a certificate of echo-api.amazon.com, the request's time, and that it is
// for one of the skills. The event is the intent's name or else the request's type, the
// delivery its requestId. A certificate is fetched only for a request whose other parts are right.
func Alexa(skills []string, certificates *Certificates) Scheme { return alexa{skills, certificates} }

type alexa struct {
	skills       []string
	certificates *Certificates
}

func (s alexa) Claim(h http.Header, now time.Time) (Claim, error) {
	text, err := one(h, "Signature-256")
	if err != nil {
		return nil, err
	}
	signature, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(signature) == 0 {
		return nil, &Refusal{Malformed, "Signature-256 is no base64"}
	}
	chain, err := one(h, "SignatureCertChainUrl")
	if err != nil {
		return nil, err
	}
	if chain, err = chainURL(chain); err != nil {
		return nil, err
	}
	return &alexaClaim{s, signature, chain, now}, nil
}

// chainPath is what the certificates' paths look like once they are cleaned.
var chainPath = regexp.MustCompile(`^/echo\.api/[a-zA-Z0-9._/-]+$`)

// chainURL returns the URL to fetch, made anew from its parts, or refuses it.
func chainURL(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil {
		return "", &Refusal{Malformed, "SignatureCertChainUrl is no URL"}
	}
	p := path.Clean(u.Path)
	if !strings.EqualFold(u.Scheme, "https") || u.Opaque != "" || u.User != nil || !strings.EqualFold(u.Hostname(), "s3.amazonaws.com") ||
		u.Port() != "" && u.Port() != "443" || strings.HasSuffix(u.Host, ":") || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || !chainPath.MatchString(p) {
		return "", &Refusal{Malformed, "SignatureCertChainUrl is not one of Amazon's: want https://s3.amazonaws.com/echo.api/..."}
	}
	return "https://s3.amazonaws.com" + p, nil
}

type alexaClaim struct {
	alexa
	signature []byte
	chain     string
	now       time.Time
}

func (c *alexaClaim) Verify(ctx context.Context, body []byte) (Event, error) {
	e, skill, err := alexaEvent(body, c.now)
	if err != nil {
		return e, err
	}
	if !slices.Contains(c.skills, skill) {
		return e, &Refusal{Stranger, fmt.Sprintf("it is for the skill %.200q", skill)}
	}
	key, err := c.certificates.key(ctx, c.chain, c.now)
	if err != nil {
		return e, err
	}
	sum := sha256.Sum256(body)
	if rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], c.signature) != nil {
		return e, &Refusal{Mismatch, "the signature is of another body"}
	}
	return e, nil
}

// alexaEvent reads what a request says of itself, and refuses one of another time.
func alexaEvent(body []byte, now time.Time) (e Event, skill string, err error) {
	type session struct {
		Application struct {
			ID string `json:"applicationId"`
		} `json:"application"`
	}
	var m struct {
		Session session `json:"session"`
		Context struct {
			System session `json:"System"`
		} `json:"context"`
		Request struct {
			Type      string          `json:"type"`
			ID        string          `json:"requestId"`
			Timestamp json.RawMessage `json:"timestamp"`
			Intent    struct {
				Name string `json:"name"`
			} `json:"intent"`
		} `json:"request"`
	}
	if json.Unmarshal(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")), &m) != nil {
		return e, "", &Refusal{Malformed, "the body is no Alexa request"}
	}
	e = Event{Name: word(m.Request.Type), Delivery: word(m.Request.ID)}
	if m.Request.Type == "IntentRequest" {
		e.Name = word(m.Request.Intent.Name)
	}
	if e.Time, err = alexaTime(m.Request.Timestamp); err != nil {
		return e, "", err
	}
	tolerance := alexaTolerance
	if strings.HasPrefix(m.Request.Type, "AlexaSkillEvent.") {
		tolerance = alexaEventTolerance
	}
	if skill = m.Context.System.Application.ID; skill == "" {
		skill = m.Session.Application.ID
	}
	return e, skill, fresh(e.Time, now, tolerance)
}

// alexaTime reads RFC 3339, or milliseconds as early skills got them.
func alexaTime(text json.RawMessage) (time.Time, error) {
	var t time.Time
	var milli int64
	switch {
	case bytes.HasPrefix(text, []byte(`"`)) && json.Unmarshal(text, &t) == nil:
		return t, nil
	case len(text) > 0 && json.Unmarshal(text, &milli) == nil && milli > 0 && milli < 1<<47:
		return time.UnixMilli(milli), nil
	}
	return t, &Refusal{Malformed, "request.timestamp is no time"}
}
