package caddyfaas

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/history"
)

func init() {
	caddy.RegisterModule(API{})
}

// apiMaxBody bounds the bodies that the API reads, in bytes.
const apiMaxBody = 1 << 20

// API serves OpenFaaS's REST API, so that faas-cli and OpenFaaS's other clients
// manage the functions, to those whom Caddy lets pass:
//
//	GET    /system/info                   what answers here
//	GET    /system/functions              every function of a namespace
//	POST   /system/functions              deploy a new function
//	PUT    /system/functions              replace a function's definition
//	DELETE /system/functions              remove a function
//	GET    /system/function/NAME          one function; ?usage=1 with what it consumes
//	POST   /system/scale-function/NAME    set the number of replicas, 0 included
//	POST   /system/run-function/NAME      run a job again
//	GET    /system/logs                   what a function's replicas write, as lines of JSON
//	GET    /system/secrets                names of secrets; POST, PUT and DELETE change them
//	GET    /system/namespaces             all namespaces
//	GET    /system/namespace/NAME         one namespace
//	POST   /system/alert                  scale by Alertmanager's webhook
//	GET    /system/openapi.yaml           the whole of it, formally
//	GET    /healthz                       200 if the provider can be reached, 503 if not
//
// Functions are named NAME or NAME.NAMESPACE; ?namespace= says it too. An error
// is a line of text: 400 for what can't be meant, 403 for what the
// configuration doesn't allow and for calls from other sites' pages, 404, 405,
// 409 for a secret that exists already or is in use and for a job that runs, 413 for a body over 1 MiB,
// 501 for what the provider can't do, 503 while it has not told yet what there
// is. Every call that changes something is logged once. Other paths go to the
// next handler.
type API struct {
	app      *App
	engine   *engine
	log      *zap.Logger
	origins  *http.CrossOriginProtection
	stopping chan struct{} // closed when the server that this is in begins to shut down
}

// CaddyModule returns the module's ID and constructor.
func (API) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.faas_api", New: func() caddy.Module { return new(API) }}
}

// Provision finds the app.
func (a *API) Provision(ctx caddy.Context) error {
	app, err := app(ctx)
	if err != nil {
		return err
	}
	a.app, a.engine, a.log = app, app.engine, ctx.Logger()
	a.origins = http.NewCrossOriginProtection()
	a.stopping = make(chan struct{})
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok {
		server.RegisterOnShutdown(func() { close(a.stopping) })
	}
	return nil
}

// An endpoint answers one kind of call. name is the rest of the path.
type endpoint func(a *API, w http.ResponseWriter, r *http.Request, name string) error

// starting is how long a call waits, just after the start, for the provider to tell what there is.
const starting = 5 * time.Second

// started refuses a call that would take for gone what the provider has not told of yet, and says why it hasn't.
func started(do endpoint) endpoint {
	return func(a *API, w http.ResponseWriter, r *http.Request, name string) error {
		if !a.engine.registry.Wait(r.Context(), starting) {
			w.Header().Set("Retry-After", "1")
			_, err := a.engine.provider.List(r.Context())
			if err == nil {
				err = errors.New("it is starting")
			}
			return refuse(http.StatusServiceUnavailable, "the provider %s has not told yet which functions there are: %w", a.engine.orchestration, err)
		}
		return do(a, w, r, name)
	}
}

// endpoints are all calls, by the first part of the path below /system/ and by
// method. A name follows those that end in a slash.
var endpoints = map[string]map[string]endpoint{
	"info":         {http.MethodGet: (*API).info},
	"openapi.yaml": {http.MethodGet: (*API).description},
	"functions": {
		http.MethodGet: started((*API).list), http.MethodPost: started((*API).deploy),
		http.MethodPut: started((*API).deploy), http.MethodDelete: started((*API).remove),
	},
	"function/":       {http.MethodGet: (*API).describe},
	"scale-function/": {http.MethodPost: started((*API).scale)},
	"run-function/":   {http.MethodPost: started((*API).run)},
	"logs":            {http.MethodGet: (*API).logs},
	"secrets": {
		http.MethodGet: started((*API).secrets), http.MethodPost: started((*API).keepSecret),
		http.MethodPut: started((*API).keepSecret), http.MethodDelete: started((*API).removeSecret),
	},
	"namespaces": {http.MethodGet: (*API).namespaces},
	"namespace/": {
		http.MethodGet: (*API).namespace, http.MethodPost: (*API).noNamespaces,
		http.MethodPut: (*API).noNamespaces, http.MethodDelete: (*API).noNamespaces,
	},
	"alert": {http.MethodPost: started((*API).alert)},
}

// ServeHTTP answers what is under /system/, and /healthz.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	methods, name := find(r.URL.Path)
	if methods == nil {
		return next.ServeHTTP(w, r)
	}
	call, err := methods[r.Method], error(nil)
	changes := r.Method != http.MethodGet && r.Method != http.MethodHead
	switch {
	case len(methods) == 0:
		err = refuse(http.StatusNotFound, "the API has no %s", r.URL.Path)
	case call == nil:
		allowed := []string{}
		for m := range methods {
			allowed = append(allowed, m)
		}
		slices.Sort(allowed)
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		err = refuse(http.StatusMethodNotAllowed, "%s %s: want %s", r.Method, r.URL.Path, strings.Join(allowed, ", "))
		changes = false
	default:
		// Browsers send a password that they know along with what other sites' pages make them send.
		if err = a.origins.Check(r); err != nil {
			err = refuse(http.StatusForbidden, "%w", err)
		} else {
			err = call(a, w, r, name)
		}
	}
	if changes {
		a.audit(r, err)
	}
	return answerError(w, err)
}

// find returns the endpoint of a path: nil if it is none of the API's, empty if the API has none there.
func find(path string) (methods map[string]endpoint, name string) {
	if path == "/healthz" {
		return map[string]endpoint{http.MethodGet: (*API).health, http.MethodHead: (*API).health}, ""
	}
	rest, found := strings.CutPrefix(path, "/system/")
	if !found {
		return nil, ""
	}
	what, name, named := strings.Cut(rest, "/")
	if named {
		what += "/"
	}
	methods = endpoints[what]
	if methods == nil || strings.Contains(name, "/") || named && name == "" && what != "namespace/" {
		methods = map[string]endpoint{}
	}
	return methods, name
}

// refusal is an error with the status of its answer.
type refusal struct {
	status int
	error
}

func (r refusal) Unwrap() error { return r.error }

func refuse(status int, format string, args ...any) error {
	return refusal{status, fmt.Errorf(format, args...)}
}

// statusOf is the status that an error is answered with.
func statusOf(err error) int {
	var refused refusal
	switch {
	case err == nil:
		return http.StatusOK
	case errors.As(err, &refused):
		return refused.status
	case errors.Is(err, faas.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, faas.ErrInvalid):
		return http.StatusBadRequest
	case errors.Is(err, faas.ErrForbidden):
		return http.StatusForbidden
	case errors.Is(err, faas.ErrExists), errors.Is(err, faas.ErrInUse), errors.Is(err, faas.ErrRunning):
		return http.StatusConflict
	case errors.Is(err, context.Canceled):
		return statusClientGone
	case errors.Is(err, faas.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// answerError answers in plain text, whatever handle_errors there is: the clients show it to people.
func answerError(w http.ResponseWriter, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, errAnswered) {
		return err
	}
	http.Error(w, err.Error(), statusOf(err))
	return nil
}

// errAnswered is wrapped by an error that the client can't be told any more.
var errAnswered = errors.New("the answer has begun")

// audit logs who changed what, or tried to.
func (a *API) audit(r *http.Request, err error) {
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	user, _ := repl.GetString("http.auth.user.id")
	fields := []zap.Field{
		zap.String("user", user), zap.String("remote", r.RemoteAddr),
		zap.String("method", r.Method), zap.String("path", r.URL.Path),
	}
	target, _ := caddyhttp.GetVar(r.Context(), auditedVar).(string)
	if target != "" {
		fields = append(fields, zap.String("target", target))
	}
	if err != nil {
		status := statusOf(err)
		if status == http.StatusNotFound && r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/functions") {
			return // so OpenFaaS's clients begin with each new function
		}
		if status != statusClientGone {
			a.engine.past.Add(history.Event{Time: time.Now(), Function: target, Kind: history.Refused, Text: fmt.Sprintf("%s %s: %d %v", r.Method, r.URL.Path, status, err)})
		}
		a.log.Warn("management call refused", append(fields, zap.Int("status", status), zap.Error(err))...)
		return
	}
	a.log.Info("management call", fields...)
}

// auditedVar holds the function or secret that a call is about.
const auditedVar = "faas.api.target"

// about says what a call changes.
func about(r *http.Request, target fmt.Stringer) {
	caddyhttp.SetVar(r.Context(), auditedVar, target.String())
}

// readJSON reads a body that is one JSON object. What it doesn't know is ignored.
// Errors name the field and its kind, never its value, which may be a secret.
func readJSON(w http.ResponseWriter, r *http.Request, into any) error {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, apiMaxBody))
	var (
		tooBig *http.MaxBytesError
		kind   *json.UnmarshalTypeError
		syntax *json.SyntaxError
	)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	switch {
	case err == nil && string(bytes.TrimSpace(text)) == "null":
		return refuse(http.StatusBadRequest, "the body: want an object")
	case err == nil:
		return nil
	case errors.As(err, &tooBig):
		return refuse(http.StatusRequestEntityTooLarge, "the body has more than %d bytes", tooBig.Limit)
	case errors.As(err, &kind) && kind.Field != "":
		return refuse(http.StatusBadRequest, "the body's field %s: want %s", kind.Field, jsonKind(kind))
	case errors.As(err, &kind):
		return refuse(http.StatusBadRequest, "the body: want %s", jsonKind(kind))
	case errors.As(err, &syntax) && len(text) == 0:
		return refuse(http.StatusBadRequest, "the body is empty: want a JSON object")
	case errors.As(err, &syntax):
		return refuse(http.StatusBadRequest, "the body is not JSON: %w, after %d bytes", err, syntax.Offset)
	}
	return refuse(http.StatusBadRequest, "the body could not be read: %w", err)
}

// jsonKind is what Go wanted, in JSON's words.
func jsonKind(e *json.UnmarshalTypeError) string {
	switch name := e.Type.Kind().String(); name {
	case "struct", "map":
		return "an object"
	case "slice", "array":
		return "a list"
	case "string":
		return "a string"
	case "bool":
		return "true or false"
	default:
		return "a whole number"
	}
}

func answerJSON(w http.ResponseWriter, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // people read it
	if err := e.Encode(v); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Write(b.Bytes())
	return nil
}

func (a *API) info(w http.ResponseWriter, _ *http.Request, _ string) error {
	release, sha := version()
	v := map[string]string{"release": release, "sha": sha}
	return answerJSON(w, map[string]any{
		"provider": map[string]any{"provider": "caddy-faas", "orchestration": a.engine.orchestration, "version": v},
		"version":  v,
		"arch":     runtime.GOARCH,
	})
}

// release and commit are set by xcaddy.sh: xcaddy builds in a folder of its own, where Go finds no repository.
var release, commit string

// version is what xcaddy.sh or go build recorded of this program.
func version() (rel, sha string) {
	rel, sha = release, commit
	if b, ok := debug.ReadBuildInfo(); ok {
		for _, m := range append(b.Deps, &b.Main) {
			if m.Path == "github.com/caddy-faas/faas" && m.Replace == nil {
				rel = cmp.Or(rel, m.Version)
			}
		}
		for _, s := range b.Settings {
			if s.Key == "vcs.revision" {
				sha = cmp.Or(sha, s.Value)
			}
		}
	}
	return cmp.Or(rel, "devel"), cmp.Or(sha, "unknown")
}

// openAPI describes the API in OpenAPI 3.
//
//go:embed openapi.yaml
var openAPI []byte

func (a *API) description(w http.ResponseWriter, _ *http.Request, _ string) error {
	w.Header().Set("Content-Type", "application/yaml")
	w.Write(openAPI)
	return nil
}

// health tells whether the provider answers, within a second.
func (a *API) health(w http.ResponseWriter, r *http.Request, _ string) error {
	ctx, cancel := context.WithTimeout(r.Context(), time.Second)
	defer cancel()
	err := a.engine.ping(ctx)
	if err == nil && !a.engine.registry.Wait(ctx, time.Second) {
		err = errors.New("it has not told yet which functions there are")
	}
	if err != nil {
		// Anybody may ask: what is wrong is for the log.
		a.log.Warn("the provider does not answer", zap.Error(err))
		return refuse(http.StatusServiceUnavailable, "the provider %s does not answer", a.engine.orchestration)
	}
	io.WriteString(w, "OK\n")
	return nil
}

var (
	_ caddy.Provisioner           = (*API)(nil)
	_ caddyhttp.MiddlewareHandler = (*API)(nil)
)
