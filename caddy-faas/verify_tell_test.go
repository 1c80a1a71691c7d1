package caddyfaas

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

// What follows knows the request by placeholders, gets pings that are forwarded, and repeats if there is no memory of deliveries.
func TestVerifyTells(t *testing.T) {
	load := func() ([][]byte, error) { return [][]byte{[]byte("s")}, nil }
	for _, tt := range []struct {
		name    string
		verify  *Verify
		body    string
		forward bool
		want    string // placeholders
	}{
		{"an event", &Verify{verifier: new(GitHub), scheme: "github", Replay: -1}, "{}", false, "github|merge-group|d1|"},
		{"a ping", &Verify{verifier: new(GitHub), scheme: "github", Replay: -1}, "{}", true, "github|ping|d1|"},
		{"a signed time", &Verify{verifier: bySecret["slack"](), scheme: "slack", Replay: -1}, `{"type":"event_callback","event_id":"E1","event":{"type":"app_mention"}}`, false, "slack|app_mention|E1|TIME"},
	} {
		v := tt.verify
		v.MaxBody, v.ForwardPing, v.log = 1000, tt.forward, zap.NewNop()
		var err error
		if v.keys, err = newKeyring(load, v.verifier.Scheme, v.log); err != nil {
			t.Fatal(err)
		}
		stamp := fmt.Sprint(time.Now().Unix())
		event := "merge.group"
		if tt.forward {
			event = "ping"
		}
		for i := range 2 { // the second one is a repeat
			r := httptest.NewRequest("POST", "/", strings.NewReader(tt.body))
			for name, value := range map[string]string{
				"X-Hub-Signature-256": "sha256=" + mac("s", tt.body), "X-GitHub-Event": event, "X-GitHub-Delivery": "d1",
				"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": "v0=" + mac("s", "v0:"+stamp+":"+tt.body),
			} {
				r.Header.Set(name, value)
			}
			w := httptest.NewRecorder()
			repl := caddy.NewReplacer()
			r = caddyhttp.PrepareRequest(r, repl, w, nil)
			got := ""
			err := v.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error {
				got = repl.ReplaceAll("{faas.verify.scheme}|{faas.verify.event}|{faas.verify.delivery}|{faas.verify.timestamp}", "none")
				return nil
			}))
			if want := strings.Replace(tt.want, "TIME", stamp, 1); err != nil || strings.TrimSuffix(got, "none") != want {
				t.Errorf("%s, %d: %v, %q, want %q", tt.name, i, err, got, want)
			}
		}
	}
}
