package caddyfaas

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/scale"
)

func init() {
	caddy.RegisterModule(Handler{})
}

// defaultWait is how long a request waits for a replica.
const defaultWait = 30 * time.Second

// Handler finds out which function a request means, waits until a replica of
// it is ready, and passes the request on to the next handler: a reverse_proxy
// with `dynamic faas`.
//
// The request and the answer get X-Call-Id (the client's own, if it sent one)
// and X-Start-Time (Unix nanoseconds). The access log gets the fields
// function, call_id and, where the request met no ready replica, cold_start
// (seconds).
//
// Errors: 400 if the request names no function, 404 if there is none of that
// name, 413 for a body over the limit, 429 if too many wait, 502 if a replica
// can't be reached, 503 if none became ready in time; the last three with
// X-Faas-Reason and Retry-After.
type Handler struct {
	// Function names the function that every request goes to: NAME or
	// NAME.NAMESPACE; placeholders are replaced. Default: what the request says, as
	// /function/NAME, then the X-Function header, then its Alexa intent.
	Function string `json:"function,omitempty"`

	// Alexa, if set, sends an Alexa IntentRequest that names no function
	// otherwise to the function of its intent. Default: none.
	Alexa *Alexa `json:"alexa,omitempty"`

	// Wait bounds how long a request waits for a replica. Default: 30s.
	Wait caddy.Duration `json:"wait,omitempty"`

	engine *engine
}

// Alexa tells how Alexa requests find their function.
type Alexa struct {
	// Intents maps an intent to a function. An intent that isn't here goes to the
	// function of exactly its name, if that has the label faas.alexa: "true".
	Intents map[string]string `json:"intents,omitempty"`

	// InsecureSkipVerify accepts requests that Amazon did not sign: anybody who
	// reaches this route can call every such function. It must be true, since
	// signatures can't be verified yet.
	InsecureSkipVerify bool `json:"insecure_skip_verify,omitempty"`
}

// CaddyModule returns the module's ID and constructor.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.faas", New: func() caddy.Module { return new(Handler) }}
}

// Provision finds the app.
func (h *Handler) Provision(ctx caddy.Context) error {
	if h.Wait == 0 {
		h.Wait = caddy.Duration(defaultWait)
	}
	a, err := app(ctx)
	if err != nil {
		return err
	}
	h.engine = a.engine
	return nil
}

// Validate refuses what can't be meant.
func (h *Handler) Validate() error {
	if h.Wait < 0 {
		return fmt.Errorf("wait %s: want a positive duration", time.Duration(h.Wait))
	}
	if h.Alexa != nil && !h.Alexa.InsecureSkipVerify {
		return errors.New("alexa: the signature of Alexa requests can't be verified yet, so that anybody could call the functions; write insecure_skip_verify to allow that on a route that only trusted clients reach")
	}
	return nil
}

// invocation is what reverse_proxy's upstream source finds in the request's context.
type invocation struct {
	*scale.Invocation
	asked bool
}

type invocationKey struct{}

// ServeHTTP calls the function that the request means.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	begin := time.Now()
	t, u, err := h.resolve(r)
	if err != nil {
		return err
	}
	callID := identify(w, r, begin)
	status := 0
	var rec caddyhttp.ResponseRecorder
	// Deferred, because reverse_proxy panics when a stream breaks.
	defer func() {
		if status == 0 && rec != nil {
			status = rec.Status()
		}
		observe(t, cmp.Or(status, http.StatusOK), time.Since(begin))
	}()
	i, err := t.Invoke(r.Context(), time.Duration(h.Wait))
	defer i.End()
	annotate(r, t, callID, i)
	if err == nil {
		called := r.WithContext(httptrace.WithClientTrace(
			context.WithValue(r.Context(), invocationKey{}, &invocation{Invocation: i}), i.Trace()))
		called.URL = u
		body := takeBody(w, called)
		noReplay(called)
		rec = caddyhttp.NewResponseRecorder(w, nil, func(_ int, h http.Header) bool {
			body.header(h, r)
			return false
		})
		if body != nil {
			defer body.end(w)
		}
		if err = next.ServeHTTP(rec, called); err == nil {
			return nil
		}
		if err = cmp.Or(i.Err(), err); body != nil {
			body.header(w.Header(), r)
			err = blame(err, body.failed())
		}
	}
	e := failure(w, t.ID(), err)
	logCause(r, e, err)
	status = e.StatusCode
	return e
}

// resolve finds the function that the request means, and the URL that it is to see.
func (h *Handler) resolve(r *http.Request) (*scale.Target, *url.URL, error) {
	argument := h.Function
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok && argument != "" {
		argument = repl.ReplaceAll(argument, "")
	}
	id, u, ok := route(argument, r)
	mapped := true
	if !ok && h.Alexa != nil {
		var err error
		if id, mapped, err = h.Alexa.function(r); err != nil {
			return nil, nil, err
		}
		ok = id != faas.ID{}
	}
	if !ok {
		return nil, nil, unnamed(r)
	}
	t := h.engine.registry.Lookup(r.Context(), id, time.Duration(h.Wait))
	if t == nil || !mapped && !t.Deployment().Alexa() {
		return nil, nil, unknown(id, mapped)
	}
	return t, u, nil
}

// identify gives the request and the answer the headers that OpenFaaS's functions know calls by.
func identify(w http.ResponseWriter, r *http.Request, begin time.Time) (callID string) {
	callID = r.Header.Get("X-Call-Id")
	if callID == "" || len(callID) > 128 {
		callID = uuid.NewString()
	}
	start := strconv.FormatInt(begin.UnixNano(), 10)
	for _, h := range []http.Header{r.Header, w.Header()} {
		h.Set("X-Call-Id", callID)
		h.Set("X-Start-Time", start)
	}
	return callID
}

// annotate adds the call to the access log, and to the placeholders as {http.vars.faas.function}.
func annotate(r *http.Request, t *scale.Target, callID string, i *scale.Invocation) {
	name := t.ID().String()
	caddyhttp.SetVar(r.Context(), "faas.function", name)
	log, ok := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields)
	if !ok {
		return
	}
	log.Set(zap.String("function", name))
	log.Set(zap.String("call_id", callID))
	if cold := i.ColdStart(); cold > 0 {
		log.Set(zap.Duration("cold_start", cold))
	}
}

// logCause keeps in the access log what the answer must not tell.
func logCause(r *http.Request, e caddyhttp.HandlerError, cause error) {
	if log, ok := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok && e.Err != cause {
		log.Set(zap.NamedError("cause", cause))
	}
}

var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
