package caddyfaas

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/scale"
)

// functionStatus is OpenFaaS's FunctionStatus, a reason why replicas are missing, and one why there are so many.
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
	Limits                 faas.Resources    `json:"limits,omitempty"`
	Requests               faas.Resources    `json:"requests,omitempty"`
	ReadOnlyRootFilesystem bool              `json:"readOnlyRootFilesystem,omitempty"`
	InvocationCount        float64           `json:"invocationCount"`
	Replicas               int               `json:"replicas"`
	AvailableReplicas      int               `json:"availableReplicas"`
	CreatedAt              time.Time         `json:"createdAt"`
	Usage                  *usage            `json:"usage,omitempty"`
	Reason                 string            `json:"reason,omitempty"`
	Scaling                scale.Status      `json:"scaling"`
	Job                    *jobStatus        `json:"job,omitempty"`
}

type usage struct {
	CPU              float64 `json:"cpu"`
	TotalMemoryBytes float64 `json:"totalMemoryBytes"`
}

func (e *engine) status(t *scale.Target) functionStatus {
	d := t.Deployment()
	s := functionStatus{
		Name: d.Name, Namespace: d.Namespace, Image: d.Image, EnvProcess: d.Process, EnvVars: d.Env,
		Labels: map[string]string{"faas_function": d.Name}, Annotations: map[string]string{},
		Secrets: d.Secrets, Constraints: d.Constraints,
		Limits: d.Limits, Requests: d.Requests, ReadOnlyRootFilesystem: d.ReadOnlyRootFilesystem,
		InvocationCount: float64(t.Started()), Replicas: d.Desired, AvailableReplicas: t.Ready(),
		CreatedAt: d.Created, Reason: e.ails(t), Scaling: t.Status(), Job: newJobStatus(d.Job),
	}
	maps.Copy(s.Labels, d.Labels)
	maps.Copy(s.Annotations, d.Annotations)
	return s
}

func (a *API) list(w http.ResponseWriter, r *http.Request, _ string) error {
	namespace, err := a.named(r)
	if err != nil {
		return err
	}
	all := []functionStatus{}
	for t := range a.engine.registry.All() {
		if t.ID().Namespace == namespace {
			all = append(all, a.engine.status(t))
		}
	}
	slices.SortFunc(all, func(x, y functionStatus) int { return strings.Compare(x.Name, y.Name) })
	return answerJSON(w, all)
}

func (a *API) describe(w http.ResponseWriter, r *http.Request, name string) error {
	id := apiID(name, r.URL.Query().Get("namespace"))
	t := a.engine.registry.Lookup(r.Context(), id, defaultWait)
	if t == nil {
		return noFunction(id)
	}
	s := a.engine.status(t)
	if wanted, _ := strconv.ParseBool(r.URL.Query().Get("usage")); wanted {
		if m, ok := a.engine.provider.(faas.Meter); ok {
			// What is not known is left out.
			if u, err := m.Usage(r.Context(), id); err == nil {
				s.Usage = &usage{u.CPU, u.Memory}
			}
		}
	}
	return answerJSON(w, s)
}

func (a *API) remove(w http.ResponseWriter, r *http.Request, _ string) error {
	var body struct {
		FunctionName string `json:"functionName"`
		Namespace    string `json:"namespace"`
	}
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	if body.FunctionName == "" {
		return refuse(http.StatusBadRequest, "the body's field functionName: missing")
	}
	id := apiID(body.FunctionName, cmp.Or(body.Namespace, r.URL.Query().Get("namespace")))
	about(r, id)
	return a.accepted(w, id, a.engine.provider.Remove(r.Context(), id))
}

func (a *API) scale(w http.ResponseWriter, r *http.Request, name string) error {
	var body struct {
		Replicas  *int   `json:"replicas"`
		Namespace string `json:"namespace"`
	}
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	if body.Replicas == nil || *body.Replicas < 0 {
		return refuse(http.StatusBadRequest, "the body's field replicas: want a number from 0")
	}
	id := apiID(name, cmp.Or(body.Namespace, r.URL.Query().Get("namespace")))
	about(r, id)
	return a.accepted(w, id, a.engine.provider.Scale(r.Context(), id, *body.Replicas))
}

// accepted answers 202 unless there was an error.
func (a *API) accepted(w http.ResponseWriter, id faas.ID, err error) error {
	if errors.Is(err, faas.ErrNotFound) {
		return noFunction(id)
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func noFunction(id faas.ID) error {
	return refuse(http.StatusNotFound, "no such function: %s", strings.TrimSuffix(id.String(), "."+faas.DefaultNamespace))
}

// apiID is the function that a path or body names, in the namespace that is named beside it.
func apiID(name, namespace string) faas.ID {
	id := faas.ParseID(name)
	if namespace != "" {
		id.Namespace = namespace
	}
	return id
}

// named is the namespace that the query names, which must exist.
func (a *API) named(r *http.Request) (string, error) {
	namespace := cmp.Or(r.URL.Query().Get("namespace"), faas.DefaultNamespace)
	if !a.hasNamespace(namespace) {
		return "", refuse(http.StatusNotFound, "no such namespace: %q", namespace)
	}
	return namespace, nil
}

// hasNamespace tells whether the configuration names a namespace, or a function lives there by the engine's own account.
func (a *API) hasNamespace(name string) bool {
	if slices.Contains(a.app.namespaces(), name) {
		return true
	}
	for t := range a.engine.registry.All() {
		if t.ID().Namespace == name {
			return true
		}
	}
	return false
}

func (a *API) namespaces(w http.ResponseWriter, _ *http.Request, _ string) error {
	return answerJSON(w, a.app.namespaces())
}

func (a *API) namespace(w http.ResponseWriter, _ *http.Request, name string) error {
	if !slices.Contains(a.app.namespaces(), name) {
		return refuse(http.StatusNotFound, "no such namespace: %q", name)
	}
	return answerJSON(w, map[string]any{"name": name, "labels": map[string]string{}, "annotations": map[string]string{}})
}

func (a *API) noNamespaces(http.ResponseWriter, *http.Request, string) error {
	return refuse(http.StatusNotImplemented, "namespaces are made in the Caddyfile: write `namespace <name>` in the global option faas")
}

// ping asks the provider whether it can be reached.
func (e *engine) ping(ctx context.Context) error {
	if p, ok := e.provider.(faas.Pinger); ok {
		return p.Ping(ctx)
	}
	_, err := e.provider.List(ctx)
	return err
}
