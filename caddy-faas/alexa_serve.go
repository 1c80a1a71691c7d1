package caddyfaas

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-faas/faas/caddy-faas/scale"
)

// serveAlexa answers an Alexa request, whatever happens.
func (h *Handler) serveAlexa(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, req *alexaRequest) error {
	ctx, cancel := context.WithTimeout(r.Context(), cmp.Or(time.Duration(h.Alexa.Timeout), alexaTimeout))
	defer cancel()
	r = r.WithContext(ctx)
	req.tell(r)
	text, result, err := h.alexaAnswer(w, r, next, req)
	if err != nil {
		text = h.Alexa.failed(req)
		w.Header().Set("X-Faas-Reason", result)
	}
	metrics.alexa.WithLabelValues(req.kind(), result).Inc()
	if log, ok := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		log.Set(zap.String("alexa_type", req.Request.Type))
		log.Set(zap.String("alexa_intent", req.Request.Intent.Name))
		if err != nil {
			log.Set(zap.NamedError("cause", err))
		}
	}
	w.Header().Set("Content-Type", alexaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	_, err = io.WriteString(w, text)
	return err
}

// alexaAnswer is what a function, or this skill's configuration, answers. The result is the metric's.
func (h *Handler) alexaAnswer(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, req *alexaRequest) (text, result string, err error) {
	t := h.alexaTarget(r, req)
	if t == nil {
		if text = h.Alexa.canned(req); text == "" {
			return "", "unknown", fmt.Errorf("no function for the intent %s", req.name())
		}
		return text, "answered", nil
	}
	out := &captured{header: make(http.Header)}
	err = h.invokeCaptured(out, r, next, t)
	for _, name := range []string{"X-Call-Id", "X-Start-Time", "X-Faas-Cold-Start"} {
		if v := out.header[name]; v != nil {
			w.Header()[name] = v
		}
	}
	switch {
	case out.over:
		return "", "too-large", fmt.Errorf("the function's answer has more than %d bytes", alexaMaxAnswer)
	case err == nil && (out.status < 200 || out.status > 299):
		return "", "failed", fmt.Errorf("the function answered %d: %.200s", out.status, out.body.Bytes())
	case err == nil:
		if text, err = h.Alexa.answer(req, out.body.Bytes()); err != nil {
			return "", "no-answer", err
		}
		return text, "called", nil
	case errors.Is(r.Context().Err(), context.DeadlineExceeded):
		return "", "timeout", err
	}
	return "", cmp.Or(out.header.Get("X-Faas-Reason"), "failed"), err
}

// invokeCaptured makes an error of reverse_proxy's panic over an answer that broke off.
func (h *Handler) invokeCaptured(out *captured, r *http.Request, next caddyhttp.Handler, t *scale.Target) (err error) {
	defer func() {
		switch e := recover(); e {
		case nil:
		case http.ErrAbortHandler:
			out.header.Del("X-Faas-Reason") // is the function's
			err = fmt.Errorf("function %s: its answer broke off", t.ID())
		default:
			panic(e)
		}
	}()
	return h.call(out, r, next, called{t, r.URL})
}

// alexaTarget is the function that answers; nil if there is none that may.
func (h *Handler) alexaTarget(r *http.Request, req *alexaRequest) *scale.Target {
	for _, c := range h.Alexa.choices(req) {
		t := h.lookup(r, c.ID)
		switch {
		case t == nil || !c.mapped && !t.Deployment().Alexa():
		case req.canFulfill() && !t.Deployment().CanFulfill():
		default:
			return t
		}
	}
	return nil
}

// tell gives the function what is known of the request, in headers.
func (a *alexaRequest) tell(r *http.Request) {
	for name, value := range map[string]string{"X-Alexa-Request-Type": a.Request.Type, "X-Alexa-Intent": a.Request.Intent.Name,
		"X-Alexa-Locale": a.Request.Locale, "X-Call-Id": a.Request.ID} {
		delete(r.Header, name)
		if value != "" && len(value) <= 256 && !strings.ContainsFunc(value, func(c rune) bool { return c <= ' ' || c > '~' }) {
			r.Header.Set(name, value)
		}
	}
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Set("faas.alexa.type", a.Request.Type)
		repl.Set("faas.alexa.intent", a.Request.Intent.Name)
		repl.Set("faas.alexa.locale", a.Request.Locale)
	}
}

// alexaKinds are the types that the metric tells apart.
var alexaKinds = map[string]bool{"LaunchRequest": true, "IntentRequest": true, "CanFulfillIntentRequest": true, "SessionEndedRequest": true}

func (a *alexaRequest) kind() string {
	switch {
	case alexaKinds[a.Request.Type]:
		return a.Request.Type
	case a.ended():
		return "AlexaSkillEvent"
	}
	return "other"
}

// captured is an answer that is not sent: Alexa gets one that is made of it.
type captured struct {
	header http.Header
	status int
	body   bytes.Buffer
	over   bool
}

func (c *captured) Header() http.Header { return c.header }

func (c *captured) WriteHeader(status int) {
	if c.status == 0 && status >= 200 {
		c.status = status
	}
}

// Write ends a call whose answer is too large.
func (c *captured) Write(p []byte) (int, error) {
	c.WriteHeader(http.StatusOK)
	if c.over = c.over || c.body.Len()+len(p) > alexaMaxAnswer; c.over {
		return 0, errors.New("the answer is too large")
	}
	return c.body.Write(p)
}

// FlushError has nothing to do.
func (c *captured) FlushError() error { return nil }
