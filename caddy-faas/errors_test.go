package caddyfaas

import (
	"net/http/httptest"
	"testing"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/scale"
)

// TestRefusalTellsNoAddress: callers learn why, and nothing of where.
func TestRefusalTellsNoAddress(t *testing.T) {
	for detail, want := range map[string]string{
		"does not accept yet: dial tcp 127.0.0.1:36063: connect: connection refused": "does not accept yet: dial tcp its address: connect: connection refused",
		"something else listens on http://127.0.0.1:36063; boom":                     "something else listens on its address; boom",
		"10.0.1.5:8080, [::1]:80 and localhost:9":                                    "its address, its address and its address",
		"1.2.3.4 of 12:30:05, exit status 3":                                         "1.2.3.4 of 12:30:05, exit status 3",
	} {
		refused := &scale.Refusal{Reason: scale.StartFailed, Detail: detail}
		e := failure(httptest.NewRecorder(), faas.ParseID("f"), refused)
		if got := e.Err.Error(); e.StatusCode != 503 || got != "function f.openfaas-fn: start-failed: "+want {
			t.Errorf("%d %s", e.StatusCode, got)
		}
		if refused.Detail != detail {
			t.Error("the refusal itself has changed")
		}
	}
}
