package caddyfaas

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-faas/faas/caddy-faas/verify"
)

func init() {
	caddy.RegisterModule(AlexaVerifier{})
}

// alexaScheme is the name of AlexaVerifier.
const alexaScheme = "alexa"

// alexaCertificates outlive configurations.
var alexaCertificates = verify.NewCertificates(nil, &http.Transport{
	Proxy:               http.ProxyFromEnvironment,
	DialContext:         (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
	TLSHandshakeTimeout: 2 * time.Second,
	MaxIdleConns:        2,
	IdleConnTimeout:     time.Minute,
})

// AlexaVerifier verifies Alexa's requests (alexa): by Amazon's certificate, which it fetches from
// s3.amazonaws.com, by their time (150 s; 1 h for skill events) and by the skill's ID.
type AlexaVerifier struct {
	// SkillIDs are those of the skills that may call; placeholders are replaced.
	SkillIDs []string `json:"skill_ids"`
}

// CaddyModule returns the module's ID and constructor.
func (AlexaVerifier) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "faas.verifiers." + alexaScheme, New: func() caddy.Module { return new(AlexaVerifier) }}
}

// Scheme returns [verify.Alexa].
func (a *AlexaVerifier) Scheme(secrets [][]byte) (verify.Scheme, error) {
	if len(secrets) > 0 {
		return nil, errors.New("there is no secret: Amazon signs with a certificate")
	}
	if len(a.SkillIDs) == 0 {
		return nil, errors.New("want skill_id, the ID of your skill, or every skill of anybody could call")
	}
	var ids []string
	for _, text := range a.SkillIDs {
		id, err := caddy.NewReplacer().ReplaceOrErr(text, true, true)
		if err != nil {
			return nil, fmt.Errorf("skill_id: %w", err)
		}
		if !strings.HasPrefix(id, "amzn1.") {
			return nil, fmt.Errorf("skill_id %q: want an ID such as amzn1.ask.skill.1234, which the developer console shows", id)
		}
		ids = append(ids, id)
	}
	return verify.Alexa(ids, alexaCertificates), nil
}

// MaxBody is 128 KiB: requests have a few KiB.
func (AlexaVerifier) MaxBody() int64 { return alexaMaxBody }

// Status is 400, which Amazon's tests expect, unless the certificate could not be fetched.
func (AlexaVerifier) Status(reason string) int {
	if reason == verify.Unavailable {
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

// UnmarshalCaddyfile reads the block's options that are not every scheme's.
func (a *AlexaVerifier) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return options(d, map[string]func() error{"skill_id": func() error {
		if a.SkillIDs = d.RemainingArgs(); len(a.SkillIDs) == 0 {
			return d.ArgErr()
		}
		return nil
	}})
}

var (
	_ Verifier              = (*AlexaVerifier)(nil)
	_ caddyfile.Unmarshaler = (*AlexaVerifier)(nil)
)
