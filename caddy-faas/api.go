package caddyfaas

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/scale"
)

func init() {
	caddy.RegisterModule(API{})
}

// apiMaxBody bounds the bodies that the API reads, in bytes.
const apiMaxBody = 1 << 20

// API serves a part of OpenFaaS's REST API, for those whom Caddy lets pass:
//
//	GET  /system/info                   what answers here
//	GET  /system/functions              every function of a namespace (?namespace=)
//	GET  /system/function/NAME          one function
//	POST /system/scale-function/NAME    {"replicas": N}, 0 included
//
// Errors: 400 for a body that can't be read, 404 for an unknown function or
// anything else under /system/, 405 for another method. Other paths go to the
// next handler.
type API struct {
	engine *engine
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
	a.engine = app.engine
	return nil
}

// ServeHTTP answers what is under /system/.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	rest, found := strings.CutPrefix(r.URL.Path, "/system/")
	if !found {
		return next.ServeHTTP(w, r)
	}
	what, name, named := strings.Cut(rest, "/")
	switch {
	case what == "info" && !named:
		return only(http.MethodGet, w, r, a.info)
	case what == "functions" && !named:
		return only(http.MethodGet, w, r, a.list)
	case what == "function" && name != "":
		return only(http.MethodGet, w, r, a.describe(name))
	case what == "scale-function" && name != "":
		return only(http.MethodPost, w, r, a.scale(name))
	}
	return caddyhttp.Error(http.StatusNotFound, fmt.Errorf("the API has no %s", r.URL.Path))
}

type endpoint func(http.ResponseWriter, *http.Request) error

func only(method string, w http.ResponseWriter, r *http.Request, e endpoint) error {
	if r.Method != method {
		w.Header().Set("Allow", method)
		return caddyhttp.Error(http.StatusMethodNotAllowed, fmt.Errorf("%s %s: want %s", r.Method, r.URL.Path, method))
	}
	return e(w, r)
}

func (a *API) info(w http.ResponseWriter, _ *http.Request) error {
	release, sha := version()
	v := map[string]string{"release": release, "sha": sha}
	return answerJSON(w, http.StatusOK, map[string]any{
		"provider": map[string]any{"provider": "caddy-faas", "orchestration": a.engine.orchestration, "version": v},
		"version":  v,
		"arch":     runtime.GOARCH,
	})
}

// version is what go build recorded of this program.
func version() (release, sha string) {
	release, sha = "devel", "unknown"
	if b, ok := debug.ReadBuildInfo(); ok {
		for _, m := range append(b.Deps, &b.Main) {
			if m.Path == "github.com/caddy-faas/faas" && m.Version != "" {
				release = m.Version
			}
		}
		for _, s := range b.Settings {
			if s.Key == "vcs.revision" {
				sha = s.Value
			}
		}
	}
	return release, sha
}

func (a *API) list(w http.ResponseWriter, r *http.Request) error {
	namespace := cmp.Or(r.FormValue("namespace"), faas.DefaultNamespace)
	all := []functionStatus{}
	for t := range a.engine.registry.All() {
		if t.ID().Namespace == namespace {
			all = append(all, newFunctionStatus(t))
		}
	}
	slices.SortFunc(all, func(x, y functionStatus) int { return strings.Compare(x.Name, y.Name) })
	return answerJSON(w, http.StatusOK, all)
}

func (a *API) describe(name string) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		id := apiID(name, r.FormValue("namespace"))
		t := a.engine.registry.Lookup(r.Context(), id, defaultWait)
		if t == nil {
			return unknown(id, true)
		}
		return answerJSON(w, http.StatusOK, newFunctionStatus(t))
	}
}

func (a *API) scale(name string) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		var body struct {
			Replicas  *int   `json:"replicas"`
			Namespace string `json:"namespace"`
		}
		err := json.NewDecoder(http.MaxBytesReader(w, r.Body, apiMaxBody)).Decode(&body)
		if err == nil && (body.Replicas == nil || *body.Replicas < 0) {
			err = errors.New("replicas: want a number from 0")
		}
		if err != nil {
			return caddyhttp.Error(http.StatusBadRequest, fmt.Errorf("reading the body: %w", err))
		}
		id := apiID(name, cmp.Or(body.Namespace, r.URL.Query().Get("namespace")))
		err = a.engine.provider.Scale(r.Context(), id, *body.Replicas)
		switch {
		case errors.Is(err, faas.ErrNotFound):
			return unknown(id, true)
		case errors.Is(err, faas.ErrInvalid):
			return caddyhttp.Error(http.StatusBadRequest, err)
		case err != nil:
			return caddyhttp.Error(http.StatusInternalServerError, fmt.Errorf("scaling %s to %d: %w", id, *body.Replicas, err))
		}
		w.WriteHeader(http.StatusAccepted)
		return nil
	}
}

// apiID is the function that a path names, in the namespace that the request names beside it.
func apiID(name, namespace string) faas.ID {
	id := faas.ParseID(name)
	if namespace != "" {
		id.Namespace = namespace
	}
	return id
}

func answerJSON(w http.ResponseWriter, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, err = w.Write(append(b, '\n'))
	return err
}

// functionStatus is OpenFaaS's FunctionStatus, and a reason why replicas are missing.
type functionStatus struct {
	Name                   string            `json:"name"`
	Namespace              string            `json:"namespace"`
	Image                  string            `json:"image"`
	EnvProcess             string            `json:"envProcess,omitempty"`
	EnvVars                map[string]string `json:"envVars,omitempty"`
	Labels                 map[string]string `json:"labels"`
	Annotations            map[string]string `json:"annotations"`
	Secrets                []string          `json:"secrets,omitempty"`
	Constraints            []string          `json:"constraints,omitempty"`
	Limits                 *resources        `json:"limits,omitempty"`
	Requests               *resources        `json:"requests,omitempty"`
	ReadOnlyRootFilesystem bool              `json:"readOnlyRootFilesystem,omitempty"`
	InvocationCount        float64           `json:"invocationCount"`
	Replicas               int               `json:"replicas"`
	AvailableReplicas      int               `json:"availableReplicas"`
	CreatedAt              time.Time         `json:"createdAt"`
	Reason                 string            `json:"reason,omitempty"`
}

type resources struct {
	Memory string `json:"memory,omitempty"`
	CPU    string `json:"cpu,omitempty"`
}

func newFunctionStatus(t *scale.Target) functionStatus {
	d := t.Deployment()
	s := functionStatus{
		Name: d.Name, Namespace: d.Namespace, Image: d.Image, EnvProcess: d.Process, EnvVars: d.Env,
		Labels: map[string]string{"faas_function": d.Name}, Annotations: map[string]string{},
		Secrets: d.Secrets, Constraints: d.Constraints,
		Limits: (*resources)(d.Limits), Requests: (*resources)(d.Requests), ReadOnlyRootFilesystem: d.ReadOnlyRootFilesystem,
		InvocationCount: float64(t.Started()), Replicas: d.Desired, AvailableReplicas: t.Ready(),
		CreatedAt: d.Created, Reason: d.Reason,
	}
	maps.Copy(s.Labels, d.Labels)
	maps.Copy(s.Annotations, d.Annotations)
	return s
}

var (
	_ caddy.Provisioner           = (*API)(nil)
	_ caddyhttp.MiddlewareHandler = (*API)(nil)
)
