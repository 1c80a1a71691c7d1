package caddyfaas

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

func TestJobs(t *testing.T) {
	a := newMemoryAPI(t)
	for i, row := range []contractRow{
		{"POST", "/system/functions", `{"service":"full","image":"i"}`, 202, "^$"},
		{"POST", "/system/run-function/full", "", 400, "no job"},
		{"POST", "/system/run-function/nobody", "", 404, "nobody"},
		{"PUT", "/system/functions", `{"service":"full","image":"i","labels":{"faas.job":"true"}}`, 400, "job"},
		{"POST", "/system/functions", `{"service":"report","image":"i","envProcess":"cat","labels":{"faas.job":"true","faas.job.completions":"2","com.openfaas.scale.min":"1"}}`, 202, "^$"},
		{"GET", "/system/function/report", "", 200, `"replicas":0,"availableReplicas":0`},
		{"GET", "/system/function/report", "", 200, `"job":{"iteration":1,"completions":2,"done":2,"failed":0,"running":0,"began":"`},
		{"POST", "/system/run-function/report", "", 202, "^$"},
		{"POST", "/system/run-function/report", `{"completions":5}`, 202, "^$"},
		{"GET", "/system/functions", "", 200, `"job":{"iteration":3,"completions":5,"done":5,`},
		{"POST", "/system/run-function/report", `{"completions":0}`, 400, "completions: want a number from 1"},
		{"POST", "/system/run-function/report", `{"completions":"1"}`, 400, "completions: want a whole number"},
		{"POST", "/system/run-function/report", `{`, 400, "JSON"},
		{"POST", "/system/run-function/report", `"` + strings.Repeat("x", 1<<20) + `"`, 413, "1048576"},
		{"POST", "/system/run-function/report?namespace=dev", `{}`, 404, "report.dev"},
		{"GET", "/system/run-function/report", "", 405, "POST"},
		{"POST", "/system/scale-function/report", `{"replicas":1}`, 400, "it is a job"},
		{"POST", "/system/alert", `{"status":"firing","alerts":[{"labels":{"function_name":"report"}}]}`, 200, "^$"},
		{"GET", "/system/function/report", "", 200, `"replicas":0,`},
		{"DELETE", "/system/functions", `{"functionName":"report"}`, 202, "^$"},
	} {
		w := a.call(row.method, row.target, row.body)
		isTaken(t, row.method, row.target, row.body, w.Code)
		if !row.fits(w.Code, w.Body.String()) {
			t.Errorf("row %d: %s %s %.300s: %d %.300s, want %d with %q", i, row.method, row.target, row.body, w.Code, w.Body, row.status, row.want)
		}
	}
	if n := a.log.FilterMessage("management call").FilterField(zap.String("path", "/system/run-function/report")).FilterField(zap.String("target", "report.openfaas-fn")).Len(); n != 2 {
		t.Errorf("%d runs are logged, want 2", n)
	}
}

// A job that runs is told of as such, and not run once more; one that failed says why.
func TestJobRuns(t *testing.T) {
	a := newMemoryAPI(t)
	id := faas.ParseID("report")
	if w := a.call("POST", "/system/functions", `{"service":"report","image":"i","labels":{"faas.job":"true"}}`); w.Code != 202 {
		t.Fatal(w.Code, w.Body)
	}
	began := time.Now()
	a.provider.Job(id, faas.Job{Iteration: 7, Completions: 3, Done: 1, Running: 2, Began: began})
	if w := a.call("POST", "/system/run-function/report", ""); w.Code != 409 || !strings.Contains(w.Body.String(), "running") {
		t.Errorf("while it runs: %d %s", w.Code, w.Body)
	}
	if w := a.call("GET", "/system/function/report", ""); !strings.Contains(w.Body.String(), `"done":1,"failed":0,"running":2,`) || strings.Contains(w.Body.String(), "ended") {
		t.Errorf("while it runs: %s", w.Body)
	}
	code := 3
	a.provider.Job(id, faas.Job{Iteration: 7, Completions: 3, Done: 1, Failed: 1, Began: began, Ended: time.Now(), ExitCode: &code, Failure: "non-zero exit (3)"})
	if w := a.call("GET", "/system/function/report", ""); !strings.Contains(w.Body.String(), `"exitCode":3,"failure":"non-zero exit (3)"`) || !strings.Contains(w.Body.String(), `"ended":"`) {
		t.Errorf("after it failed: %s", w.Body)
	}
	if w := a.call("POST", "/system/run-function/report", "", "Sec-Fetch-Site", "cross-site"); w.Code != 403 {
		t.Errorf("from another site: %d", w.Code)
	}
	if w := a.call("POST", "/system/run-function/report", ""); w.Code != 202 {
		t.Errorf("after it failed: %d %s", w.Code, w.Body)
	}
}

// Nothing is sent to a job, and no call makes it run or counts.
func TestJobIsNotCalled(t *testing.T) {
	a := newMemoryAPI(t)
	a.call("POST", "/system/functions", `{"service":"report","image":"i","namespace":"dev","labels":{"faas.job":"true"}}`)
	h := &Handler{engine: a.engine}
	w := httptest.NewRecorder()
	r := caddyhttp.PrepareRequest(httptest.NewRequest("POST", "/function/report.dev", nil), caddy.NewReplacer(), w, nil)
	err := h.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error {
		t.Error("a job was called")
		return nil
	}))
	e, ok := err.(caddyhttp.HandlerError)
	if !ok || e.StatusCode != 409 || !strings.Contains(e.Error(), "caddy faas run report.dev") || w.Header().Get("X-Faas-Reason") != "job" {
		t.Errorf("%v, %v", err, w.Header())
	}
	target := a.engine.registry.Lookup(t.Context(), faas.ParseID("report.dev"), 0)
	if d := target.Deployment(); d.Job.Iteration != 1 || target.Started() != 0 || target.Queued() != 0 {
		t.Errorf("it was called %d times, and is %+v", target.Started(), d.Job)
	}
}
