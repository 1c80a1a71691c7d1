package cli

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// What a function has to do, and why it has as many replicas as it has, is described.
func TestDescribeTellsOfScaling(t *testing.T) {
	alone(t)
	for _, tt := range []struct{ scaling, want string }{
		{`,"scaling":{"rate":41.33,"inFlight":8,"queued":31,"reason":"2 -> 4: 41.3 requests/s","since":"2026-01-01T00:00:00Z","held":"an alert"}`,
			"Ready:        2/4\nLoad:         41.3 requests/s, 8 in flight, 31 waiting\nScaled:       2 -> 4: 41.3 requests/s, at 2026-01-01T00:00:00Z\nHeld:         an alert\nURL:"},
		{`,"scaling":{"rate":0.8}`, "Ready:        2/4\nURL:"},
		{``, "Ready:        2/4\nURL:"}, // OpenFaaS's gateway
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, `{"name":"f","namespace":"openfaas-fn","replicas":4,"availableReplicas":2`+tt.scaling+`}`)
		}))
		text, status := run(t, "", "describe", "f", "-g", s.URL)
		s.Close()
		if status != 0 || !strings.Contains(text, tt.want) {
			t.Errorf("%d:\n%s", status, text)
		}
	}
}
