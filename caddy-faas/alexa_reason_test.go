package caddyfaas

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// The reason of a failure is the gateway's word, also where a function that broke off had said one: it is a metric's label.
func TestAlexaReasonIsOurs(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Faas-Reason", "forged")
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "begun")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(s.Close)
	g := newGateway(t, map[string]string{"Caddyfile": `{
	admin unix/DATA/admin.sock|0600
	faas {
		provider fixed ` + strings.TrimPrefix(s.URL, "http://") + ` 1
		data DATA
	}
}
SITE {
	faas {
		alexa {
			intent Hello f0
			insecure_skip_verify
		}
	}
}
`})
	g.start(t)
	a := g.call(t, "POST", "/", alexaBody("IntentRequest", "Hello"), "Content-Type", "application/json")
	if a.StatusCode != 200 || a.Header.Get("X-Faas-Reason") != "failed" || !strings.Contains(a.body, sorry["de"]) {
		t.Errorf("%d %s, reason %q, want failed", a.StatusCode, a.body, a.Header.Get("X-Faas-Reason"))
	}
}
