package cli

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A gateway with a job whose next run ends so.
func withJob(t *testing.T, end string) (base string, ran *string) {
	ran = new(string)
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost || r.Method == http.MethodPut {
			body, _ := io.ReadAll(r.Body)
			*ran = r.URL.Path + " " + string(body)
			w.WriteHeader(http.StatusAccepted)
			return
		}
		run, how := 1, `"done":1,"ended":"2026-01-01T00:00:00Z"`
		if *ran != "" {
			run = 2
			if asked++; asked > 1 {
				how = end
			} else {
				how = `"running":1`
			}
		}
		fmt.Fprintf(w, `{"name":"report","namespace":"openfaas-fn","image":"i","job":{"iteration":%d,"completions":1,"began":"2026-01-01T00:00:00Z",%s}}`, run, how)
	}))
	t.Cleanup(s.Close)
	return s.URL, ran
}

func TestRun(t *testing.T) {
	alone(t)
	for _, tt := range []struct {
		end, text string
		status    int
	}{
		{`"done":1,"ended":"2026-01-01T00:00:00Z","exitCode":0`, "runs report\ndone 1/1\n", 0},
		{`"failed":1,"ended":"2026-01-01T00:00:00Z","exitCode":3,"failure":"exit (3)"`, "runs report\njob report: failed 0/1: exit (3)", Failed},
	} {
		base, ran := withJob(t, tt.end)
		if text, status := run(t, "", "run", "report", "--wait", "--completions", "2", "-g", base); status != tt.status || text != tt.text {
			t.Errorf("status %d: %s", status, text)
		}
		if *ran != `/system/run-function/report {"completions":2,"namespace":"openfaas-fn"}` {
			t.Errorf("asked %s", *ran)
		}
		if text, _ := run(t, "", "describe", "report", "-g", base); strings.Contains(text, "done 1/1") != (tt.status == 0) || strings.Contains(text, "URL") {
			t.Errorf("described: %s", text)
		}
	}
	base, _ := withJob(t, "")
	if text, status := run(t, "", "deploy", "report", "--image", "i", "--label", "faas.job=true", "-g", base); status != 0 || text != "updated report: the job runs; caddy faas describe report tells how\n" {
		t.Errorf("%d %s", status, text)
	}
	base, _ = withJob(t, "")
	if text, status := run(t, "", "run", "report", "--completions", "0", "-g", base); status != Misused || !strings.Contains(text, "want a number from 1") {
		t.Errorf("%d %s", status, text)
	}
}
