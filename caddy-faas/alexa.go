package caddyfaas

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

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

// function names the function that an Alexa request in r's body is for; it is
// the zero ID if the body is something else. The body is read, bounded, and put
// back byte for byte. mapped is true if the configuration names the function.
func (a *Alexa) function(r *http.Request) (id faas.ID, mapped bool, err error) {
	if !mayBeAlexa(r) {
		return id, false, nil
	}
	body, err := peekBody(r, alexaMaxBody)
	if err != nil || body == nil {
		return id, false, err
	}
	req := detectAlexa(body)
	if req == nil {
		return id, false, nil
	}
	if req.Request.Type != "IntentRequest" {
		return id, false, caddyhttp.Error(http.StatusNotFound, fmt.Errorf("an Alexa %s reaches no function: only an IntentRequest does", req.Request.Type))
	}
	if name, ok := a.Intents[req.Request.Intent.Name]; ok {
		return faas.ParseID(name), true, nil
	}
	id = faas.ID{Name: req.Request.Intent.Name, Namespace: faas.DefaultNamespace}
	if err := id.Validate(); err != nil {
		return faas.ID{}, false, caddyhttp.Error(http.StatusNotFound, fmt.Errorf("an Alexa intent is the name of its function: %w", err))
	}
	return id, false, nil
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
