package caddyfaas

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// Alexa tells how Alexa requests are answered. It answers them with status 200
// in any case, since Alexa has but one sentence for all others; X-Faas-Reason and the access log tell
// what went wrong.
type Alexa struct {
	// Intents maps an intent, or the type of a request that has none, to a function; a * at its end stands
	// for any characters. An intent that isn't here goes to the function of its name,
	// or of its name in lower case, if that has the label faas.alexa: "true".
	Intents map[string]string `json:"intents,omitempty"`

	// Launch is the function for a LaunchRequest, and for AMAZON.HelpIntent. Default: a sentence.
	Launch string `json:"launch,omitempty"`

	// SessionEnded is the function for SessionEndedRequest and AlexaSkillEvent. Default: none is called.
	SessionEnded string `json:"session_ended,omitempty"`

	// Fallback is the function for intents that have none. Default: a sentence.
	Fallback string `json:"fallback,omitempty"`

	// OnError is what Alexa says when a function fails, by language (de) or locale (de-AT), and for
	// all others under the empty name. Default: a sentence in English, German, French, Spanish,
	// Italian, Portuguese, Japanese, Hindi or Arabic.
	OnError map[string]string `json:"on_error,omitempty"`

	// WrapText makes speech of an answer that is no Alexa response. Default: that is an error.
	WrapText bool `json:"wrap_text,omitempty"`

	// Timeout bounds a request, the wait for a replica included. Default: 7s, as Alexa waits for 8.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// InsecureSkipVerify accepts requests that no faas_verify alexa has verified: anybody
	// who reaches this route can call every such function. Default: false.
	InsecureSkipVerify bool `json:"insecure_skip_verify,omitempty"`
}

// alexaTimeout leaves Alexa's own 8 s a second for the network.
const alexaTimeout = 7 * time.Second

func (a *Alexa) validate() error {
	if a.Timeout < 0 {
		return errors.New("alexa: timeout: want a positive duration")
	}
	for name := range a.Intents {
		if i := strings.IndexByte(name, '*'); i >= 0 && i < len(name)-1 {
			return fmt.Errorf("alexa: intent %s: want a * at its end only", name)
		}
	}
	return nil
}

// alexaMaxBody bounds the body that is looked into, in bytes. Amazon's requests have a few KiB.
const alexaMaxBody = 128 << 10

// alexaRequest is what routing needs of an Alexa request.
type alexaRequest struct {
	Version string       `json:"version"`
	Session alexaSession `json:"session"`
	Context struct {
		System alexaSession `json:"System"`
	} `json:"context"`
	Request struct {
		Type   string `json:"type"`
		ID     string `json:"requestId"`
		Locale string `json:"locale"`
		Intent struct {
			Name string `json:"name"`
		} `json:"intent"`
	} `json:"request"`
}

type alexaSession struct {
	Application struct {
		ApplicationID string `json:"applicationId"`
	} `json:"application"`
}

// mayBeAlexa tells by the request's head whether its body is worth a look.
func mayBeAlexa(r *http.Request) bool {
	if r.Method != http.MethodPost || r.ContentLength > alexaMaxBody || r.Body == nil {
		return false
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && media == "application/json"
}

// detectAlexa recognises an Alexa request by its body; nil means that it is something else.
func detectAlexa(body []byte) *alexaRequest {
	body = bytes.TrimSpace(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")))
	// Foreign JSON is common and may be large: look before decoding it.
	if !bytes.HasPrefix(body, []byte("{")) || !bytes.Contains(body, []byte(`"applicationId"`)) || !bytes.Contains(body, []byte(`"request"`)) {
		return nil
	}
	var a alexaRequest
	if json.Unmarshal(body, &a) != nil || a.Version == "" || a.Request.Type == "" {
		return nil
	}
	if a.Context.System.Application.ApplicationID == "" && a.Session.Application.ApplicationID == "" {
		return nil
	}
	return &a
}

// request recognises an Alexa request that names no function otherwise; nil
// means that it is something else. The body is read, bounded, and put back byte for byte.
func (a *Alexa) request(r *http.Request) (*alexaRequest, error) {
	if !mayBeAlexa(r) {
		return nil, nil
	}
	if _, _, named := route("", r); named {
		return nil, nil
	}
	body, err := peekBody(r, alexaMaxBody)
	if err != nil || body == nil {
		return nil, err
	}
	req := detectAlexa(body)
	if req != nil && !a.InsecureSkipVerify && verified(r) != alexaScheme {
		return nil, caddyhttp.Error(http.StatusBadRequest, errors.New("not verified as a request of alexa"))
	}
	return req, nil
}

// A choice is a function that an Alexa request may go to.
type choice struct {
	faas.ID
	mapped bool // by the configuration; otherwise it needs the label
}

// choices are the functions that may answer, the best one first.
func (a *Alexa) choices(req *alexaRequest) []choice {
	name := req.name()
	mapped := func(functions ...string) (all []choice) {
		for _, f := range functions {
			if f != "" {
				all = append(all, choice{faas.ParseID(f), true})
			}
		}
		return all
	}
	if f := a.mapped(name); f != "" {
		return mapped(f)
	}
	switch {
	case req.Request.Type == "LaunchRequest":
		return mapped(a.Launch)
	case req.ended():
		return mapped(a.SessionEnded)
	case !req.asks():
		return nil
	case name == "AMAZON.HelpIntent":
		return mapped(a.Launch, a.Fallback)
	case name == "AMAZON.FallbackIntent":
		return mapped(a.Fallback, a.Launch)
	case leaves[name]:
		return nil
	}
	var all []choice
	for _, n := range []string{name, strings.ToLower(name)} {
		if id := (faas.ID{Name: n, Namespace: faas.DefaultNamespace}); id.Validate() == nil {
			all = append(all, choice{ID: id})
		}
	}
	return append(all, mapped(a.Fallback)...)
}

// mapped is the function that the configuration gives to a name; of several patterns the longest counts.
func (a *Alexa) mapped(name string) (function string) {
	if f, ok := a.Intents[name]; ok {
		return f
	}
	longest := -1
	for pattern, f := range a.Intents {
		if start, ok := strings.CutSuffix(pattern, "*"); ok && len(start) > longest && strings.HasPrefix(name, start) {
			longest, function = len(start), f
		}
	}
	return function
}

// leaves are the intents by which a user ends a skill.
var leaves = map[string]bool{"AMAZON.StopIntent": true, "AMAZON.CancelIntent": true, "AMAZON.NavigateHomeIntent": true}

// name is the intent's, or else the request's type.
func (a *alexaRequest) name() string {
	if a.asks() {
		return a.Request.Intent.Name
	}
	return a.Request.Type
}

// asks tells whether it has an intent.
func (a *alexaRequest) asks() bool {
	return a.Request.Type == "IntentRequest" || a.canFulfill()
}

// canFulfill tells whether it only asks if an intent could be answered.
func (a *alexaRequest) canFulfill() bool { return a.Request.Type == "CanFulfillIntentRequest" }

// ended tells whether it only tells of something.
func (a *alexaRequest) ended() bool {
	return a.Request.Type == "SessionEndedRequest" || strings.HasPrefix(a.Request.Type, "AlexaSkillEvent.")
}

// mute tells whether the answer may not speak.
func (a *alexaRequest) mute() bool {
	return a.Request.Type != "IntentRequest" && a.Request.Type != "LaunchRequest"
}

// peekBody returns the whole body, or nil if it has more than limit bytes.
// Whoever reads it afterwards, retries included, gets the same bytes.
func peekBody(r *http.Request, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	var tooBig *http.MaxBytesError
	switch {
	case errors.As(err, &tooBig):
		return nil, caddyhttp.Error(http.StatusRequestEntityTooLarge, fmt.Errorf("the body has more than %d bytes", tooBig.Limit))
	case err != nil:
		return nil, caddyhttp.Error(http.StatusBadRequest, fmt.Errorf("reading the body: %w", err))
	case int64(len(b)) > limit:
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(b), r.Body), r.Body}
		return nil, nil
	}
	r.Body = io.NopCloser(bytes.NewReader(b))
	r.ContentLength = int64(len(b))
	return b, nil
}
