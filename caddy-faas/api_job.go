package caddyfaas

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// jobStatus is how the last run of a job stands.
type jobStatus struct {
	Iteration   int       `json:"iteration"`
	Completions int       `json:"completions"`
	Done        int       `json:"done"`
	Failed      int       `json:"failed"`
	Running     int       `json:"running"`
	Began       time.Time `json:"began"`
	Ended       time.Time `json:"ended,omitzero"`
	ExitCode    *int      `json:"exitCode,omitempty"`
	Failure     string    `json:"failure,omitempty"`
}

func newJobStatus(j *faas.Job) *jobStatus {
	if j == nil {
		return nil
	}
	s := jobStatus(*j)
	return &s
}

// run runs a job again. Without a body, or completions in it, as many of its processes must end well as its definition says.
func (a *API) run(w http.ResponseWriter, r *http.Request, name string) error {
	var body struct {
		Completions *int   `json:"completions"`
		Namespace   string `json:"namespace"`
	}
	if r.ContentLength != 0 {
		if err := readJSON(w, r, &body); err != nil {
			return err
		}
	}
	n := 0
	if body.Completions != nil {
		if n = *body.Completions; n < 1 {
			return refuse(http.StatusBadRequest, "the body's field completions: want a number from 1")
		}
	}
	id := apiID(name, cmp.Or(body.Namespace, r.URL.Query().Get("namespace")))
	about(r, id)
	runner, ok := a.engine.provider.(faas.Runner)
	if !ok {
		return refuse(http.StatusNotImplemented, "the provider %s runs no jobs", a.engine.orchestration)
	}
	return a.accepted(w, id, runner.Run(r.Context(), id, n))
}

// isJob is the X-Faas-Reason of a call of a job.
const isJob = "job"

// uncallable is the error for a call of a job.
func uncallable(w http.ResponseWriter, id faas.ID) caddyhttp.HandlerError {
	w.Header().Set("X-Faas-Reason", isJob)
	name := strings.TrimSuffix(id.String(), "."+faas.DefaultNamespace)
	return caddyhttp.Error(http.StatusConflict, fmt.Errorf("function %s is a job, which is not called: run it by POST /system/run-function/%s or `caddy faas run %s`", name, name, name))
}
