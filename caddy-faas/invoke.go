package caddyfaas

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
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

// defaultWait is how long a request waits, just after the start, for the provider to tell what there is.
const defaultWait = 30 * time.Second

// Handler finds out which function a request means, waits until a replica of
// it is ready, and passes the request on to the next handler: a reverse_proxy
// with `dynamic faas`.
//
// The request and the answer get X-Call-Id (the client's own, if it sent one)
// and X-Start-Time (Unix nanoseconds). The access log gets the fields
// function, call_id and, where the request met no ready replica, cold_start
// (seconds); the answer then has X-Faas-Cold-Start (milliseconds).
//
// Errors: 400 if the request names no function, 404 if there is none of that
// name, 409 if it is a job, 413 for a body over the limit, 429 if too many wait, 502 if a replica
// can't be reached, 503 if none became ready in time, 504 if the function's
// faas.timeout has passed; 429, 502 and 503 with X-Faas-Reason and Retry-After.
type Handler struct {
	// Function names the function that every request goes to: NAME or
	// NAME.NAMESPACE; placeholders are replaced. Default: what the request says, as
	// /function/NAME, then the X-Function header, then its Alexa intent.
	Function string `json:"function,omitempty"`

	// Fallback is the function for requests that Function gives to one which does
	// not exist, as Function github-{faas.verify.event} may. Default: none, 404.
	Fallback string `json:"fallback,omitempty"`

	// Domains sends each request to the function that claims its host name by the
	// label faas.domains, whatever its path; 404 if none does. Default: false.
	Domains bool `json:"domains,omitempty"`

	// Alexa, if set, answers Alexa requests that name no function otherwise, by
	// the function of their intent. Default: none.
	Alexa *Alexa `json:"alexa,omitempty"`

	// Wait bounds how long a request waits for a replica. Default: the function's queue timeout alone does.
	Wait caddy.Duration `json:"wait,omitempty"`

	engine *engine
}

// CaddyModule returns the module's ID and constructor.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.faas", New: func() caddy.Module { return new(Handler) }}
}

// Provision finds the app.
func (h *Handler) Provision(ctx caddy.Context) error {
	a, err := app(ctx)
	if err != nil {
		return err
	}
	h.engine = a.engine
	return nil
}

// Validate refuses what can't be meant.
func (h *Handler) Validate() error {
	if h.Domains && (h.Function != "" || h.Alexa != nil) {
		return errors.New("domains: the host names the function, so that no other option can")
	}
	if h.Fallback != "" && h.Function == "" {
		return fmt.Errorf("fallback %s has no use where the request names the function", h.Fallback)
	}
	if h.Wait < 0 {
		return fmt.Errorf("wait %s: want a positive duration", time.Duration(h.Wait))
	}
	if h.Alexa != nil {
		return h.Alexa.validate()
	}
	return nil
}

// invocation is what reverse_proxy's upstream source finds in the request's context.
type invocation struct {
	*scale.Invocation
	limit *timeLimit
	asked bool
}

type invocationKey struct{}

// ServeHTTP calls the function that the request means.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	err := h.serve(w, r, next)
	if err != nil && strings.EqualFold(r.Header.Get("Expect"), "100-continue") {
		// Caddy wraps the body, by which net/http no longer knows that it was not asked for, and waits for it a minute before it answers.
		turnAway(w, r)
	}
	return err
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if err := method(w, r); err != nil {
		return err
	}
	untell(r)
	if h.Alexa != nil {
		req, err := h.Alexa.request(r)
		if err != nil {
			return err
		}
		if req != nil {
			return h.serveAlexa(w, r, next, req)
		}
	}
	c, err := h.resolve(r)
	if err != nil {
		return err
	}
	return h.call(w, r, next, c)
}

// called is a function, and the URL that it is to see.
type called struct {
	*scale.Target
	url *url.URL
}

// invoke sends a request to a replica of a function.
func (h *Handler) invoke(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, c called) error {
	begin, t := time.Now(), c.Target
	if t.Deployment().Job != nil {
		return uncallable(w, t.ID())
	}
	callID := identify(w, r, begin)
	status := 0
	var (
		rec caddyhttp.ResponseRecorder
		err error
	)
	// Deferred, because reverse_proxy panics when a stream breaks.
	defer func() {
		if status == 0 && rec != nil {
			status = rec.Status()
		}
		h.engine.observe(t, cmp.Or(status, http.StatusOK), time.Since(begin), err)
	}()
	i, err := t.Invoke(r.Context(), time.Duration(h.Wait), r.Header)
	defer i.End()
	annotate(w, r, t, callID, i)
	if err == nil {
		limit := newTimeLimit(t.Rules().Timeout)
		called := r.WithContext(httptrace.WithClientTrace(
			context.WithValue(limit.context(r.Context()), invocationKey{}, &invocation{Invocation: i, limit: limit}), i.Trace()))
		defer limit.end()
		called.URL = c.url
		body := takeBody(w, called)
		noReplay(called)
		var full error
		answer := func(status int, h http.Header) (keep bool) {
			if replicaFull(r, status, h) {
				if full = i.Full(); body == nil { // it waits for a free place, as if it had not been sent
					return true
				}
			}
			if endless(status, h) {
				limit.lift()
				i.Stream()
			}
			body.header(h, r)
			return false
		}
		if body != nil {
			defer body.end(w)
		}
		for {
			rec = caddyhttp.NewResponseRecorder(w, new(bytes.Buffer), answer)
			if err = next.ServeHTTP(rec, called); err != nil {
				break
			}
			if !rec.Buffered() {
				return nil
			}
			forgetAnswer(w.Header())
			if err = full; err != nil {
				break
			}
		}
		if err = cmp.Or(i.Err(), err); body != nil {
			body.header(w.Header(), r)
			err = blame(err, body.failed())
		}
	}
	e := failure(w, t.ID(), err)
	logCause(r, e, err)
	if e.StatusCode == http.StatusBadGateway {
		t.Doubt()
	}
	status = e.StatusCode
	return e
}

// resolve finds the function that the request means.
func (h *Handler) resolve(r *http.Request) (called, error) {
	argument := h.Function
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok && argument != "" {
		argument = repl.ReplaceAll(argument, "")
	}
	id, u, ok := route(argument, r)
	switch {
	case h.Domains:
		if id, ok = h.engine.domains.owner(r.Context(), r.Host, h.lookupWait()); !ok {
			return called{}, unclaimed(r)
		}
		u = r.URL
	case !ok:
		return called{}, unnamed(r)
	}
	t := h.lookup(r, id)
	if t == nil && h.Fallback != "" {
		t = h.lookup(r, faas.ParseID(h.Fallback))
	}
	if t == nil {
		return called{}, unknown(id)
	}
	return called{t, u}, nil
}

// lookup finds a function, nil if there is none of the name.
func (h *Handler) lookup(r *http.Request, id faas.ID) *scale.Target {
	return h.engine.registry.Lookup(r.Context(), id, h.lookupWait())
}

// lookupWait is how long a request waits, while the program starts, to hear which functions there are.
func (h *Handler) lookupWait() time.Duration { return cmp.Or(time.Duration(h.Wait), defaultWait) }

// identify gives the request and the answer the headers that OpenFaaS's functions know calls by.
func identify(w http.ResponseWriter, r *http.Request, begin time.Time) (callID string) {
	callID = r.Header.Get("X-Call-Id")
	if callID == "" || len(callID) > 128 {
		callID = uuid.NewString()
	}
	start := strconv.FormatInt(begin.UnixNano(), 10)
	values := &[4]string{callID, start, callID, start} // one allocation instead of four
	for i, h := range []http.Header{r.Header, w.Header()} {
		h["X-Call-Id"], h["X-Start-Time"] = values[2*i:2*i+1:2*i+1], values[2*i+1:2*i+2:2*i+2]
	}
	return callID
}

// annotate adds the call to the access log, to the placeholders as
// {http.vars.faas.function}, and what it waited for a first replica to the answer.
func annotate(w http.ResponseWriter, r *http.Request, t *scale.Target, callID string, i *scale.Invocation) {
	name := t.Name()
	caddyhttp.SetVar(r.Context(), "faas.function", name)
	cold := i.ColdStart()
	if cold > 0 {
		observeColdStart(t, cold)
		w.Header().Set("X-Faas-Cold-Start", strconv.FormatInt(cold.Milliseconds(), 10))
	}
	log, ok := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields)
	if !ok {
		return
	}
	log.Set(zap.String("function", name))
	log.Set(zap.String("call_id", callID))
	if cold > 0 {
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
