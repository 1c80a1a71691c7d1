package caddyfaas

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// functionDeployment is OpenFaaS's FunctionDeployment. Older clients send more, which is ignored.
type functionDeployment struct {
	Service                string            `json:"service"`
	Image                  string            `json:"image"`
	Namespace              string            `json:"namespace"`
	EnvProcess             string            `json:"envProcess"`
	EnvVars                map[string]string `json:"envVars"`
	Constraints            []string          `json:"constraints"`
	Secrets                []string          `json:"secrets"`
	Labels                 map[string]string `json:"labels"`
	Annotations            map[string]string `json:"annotations"`
	Limits                 faas.Resources    `json:"limits"`
	Requests               faas.Resources    `json:"requests"`
	ReadOnlyRootFilesystem bool              `json:"readOnlyRootFilesystem"`
}

// What a deployment may hold, so that one call can't fill the engine's store.
const (
	maxEntries = 256      // in each map and list
	maxName    = 256      // bytes of a label's, annotation's or variable's name, of an image and of a constraint
	maxValue   = 64 << 10 // bytes of a value, and of the command
	maxTotal   = 256 << 10
)

// function is what the deployment asks for, if it can be meant at all.
func (d *functionDeployment) function(namespace string) (faas.Function, error) {
	fn := faas.Function{
		ID:    faas.ID{Name: d.Service, Namespace: cmp.Or(d.Namespace, namespace, faas.DefaultNamespace)},
		Image: d.Image, Process: d.EnvProcess, Env: d.EnvVars, Labels: d.Labels, Annotations: d.Annotations,
		Secrets: d.Secrets, Constraints: d.Constraints, Limits: d.Limits, Requests: d.Requests,
		ReadOnlyRootFilesystem: d.ReadOnlyRootFilesystem,
	}
	switch {
	case d.Service == "":
		return fn, errors.New("the body's field service: missing: it is the function's name")
	case d.Image == "":
		return fn, errors.New("the body's field image: missing")
	}
	if err := fn.Validate(); err != nil {
		return fn, err
	}
	if _, err := fn.Edge(); err != nil {
		return fn, err
	}
	return fn, d.bounded()
}

// bounded reports what is too large.
func (d *functionDeployment) bounded() error {
	total := 0
	size := func(field, text string, most int) error {
		total += len(text)
		if len(text) > most {
			return fmt.Errorf("the body's field %s: %d bytes, more than %d", field, len(text), most)
		}
		return nil
	}
	err := errors.Join(size("image", d.Image, maxName), size("envProcess", d.EnvProcess, maxValue))
	for field, m := range map[string]map[string]string{
		"envVars": d.EnvVars, "labels": d.Labels, "annotations": d.Annotations, "limits": d.Limits, "requests": d.Requests,
	} {
		if len(m) > maxEntries {
			return fmt.Errorf("the body's field %s: %d entries, more than %d", field, len(m), maxEntries)
		}
		for name, value := range m {
			if name == "" {
				return fmt.Errorf("the body's field %s: an entry without a name", field)
			}
			err = errors.Join(err, size(field, name, maxName), size(field+"."+name[:min(len(name), maxName)], value, maxValue))
		}
	}
	for field, list := range map[string][]string{"secrets": d.Secrets, "constraints": d.Constraints} {
		if len(list) > maxEntries {
			return fmt.Errorf("the body's field %s: %d entries, more than %d", field, len(list), maxEntries)
		}
		for _, value := range list {
			err = errors.Join(err, size(field, value, maxName))
		}
	}
	if err == nil && total > maxTotal {
		err = fmt.Errorf("the deployment has %d bytes of names and values, more than %d", total, maxTotal)
	}
	return err
}

// deploy creates a function (POST) or replaces its definition (PUT).
func (a *API) deploy(w http.ResponseWriter, r *http.Request, _ string) error {
	var body functionDeployment
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	fn, err := body.function(r.URL.Query().Get("namespace"))
	about(r, fn.ID)
	switch {
	case err != nil:
		return refuse(http.StatusBadRequest, "%w", err)
	case !slices.Contains(a.app.namespaces(), fn.Namespace):
		return refuse(http.StatusBadRequest, "no such namespace: %q: write `namespace %s` in the Caddyfile's global option faas", fn.Namespace, fn.Namespace)
	}
	if err := a.app.allowed(a.engine.provider, fn); err != nil {
		return err
	}
	do := a.engine.provider.Update
	if r.Method == http.MethodPost {
		do = a.engine.provider.Create
	}
	switch err := do(r.Context(), fn); {
	case errors.Is(err, faas.ErrNotFound):
		return noFunction(fn.ID)
	case errors.Is(err, faas.ErrExists): // the status that faas-cli's users know
		return refuse(http.StatusBadRequest, "function %s exists already: update it with PUT", fn.ID)
	case err != nil:
		return err
	}
	reason, note := a.settle(r.Context(), fn.ID)
	if reason != "" {
		w.Header().Set("X-Faas-Reason", oneLine(reason))
		note = "deployed, but: " + reason
	}
	if note != "" {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	}
	w.WriteHeader(http.StatusAccepted)
	if note != "" {
		fmt.Fprintln(w, note)
	}
	return nil
}

// oneLine makes a header's value of what may be a program's own words: clients
// take an answer for broken if it has control characters in its header.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
}

// settling is how long the answer to a deployment is held back for news of its start.
var settling = time.Second

// settle waits until the function's present definition serves or fails. reason
// is what keeps it from serving; note is what else whoever deployed it should
// know. Without news in time that is where later ones are found.
func (a *API) settle(ctx context.Context, id faas.ID) (reason, note string) {
	ctx, cancel := context.WithTimeout(ctx, settling)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if t := a.engine.registry.Lookup(ctx, id, 0); t != nil {
			d := t.Deployment()
			if d.Reason != "" || d.Desired == 0 || !d.Rolling && t.Ready() > 0 {
				return d.Reason, strings.Join(d.Remarks, "; ")
			}
		}
		select {
		case <-ctx.Done():
			return "", fmt.Sprintf("starting: not ready after %s; GET /system/function/%s tells what becomes of it", settling, id)
		case <-tick.C:
		}
	}
}
