package caddyfaas

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// WSGI, CGI and others take _ for -, so that both spellings are one header to a function.
func TestForgedHeadersAreRemoved(t *testing.T) {
	sent := func() *http.Request {
		r := httptest.NewRequest("POST", "/", nil)
		for _, name := range []string{"X-Faas-Scheme", "X_Faas_Event", "x-faas_delivery", "X-Faas-User", "X_ALEXA-INTENT", "x_alexa_locale", "X-Call_Id", "X_Function", "X_Kept", "X-Faasted", "Xfaas_Event"} {
			r.Header.Set(name, "forged")
		}
		return r
	}
	for name, tt := range map[string]struct {
		strip func(*http.Request)
		want  []string
	}{
		"a call":    {untell, []string{"X-Call_id", "X-Faasted", "X_function", "X_kept", "Xfaas_event"}},
		"a webhook": {func(r *http.Request) { distrust(r.Header) }, []string{"X-Faasted", "X_kept", "Xfaas_event"}},
	} {
		r := sent()
		tt.strip(r)
		if got := slices.Sorted(maps.Keys(r.Header)); !slices.Equal(got, tt.want) {
			t.Errorf("%s keeps %q, want %q", name, got, tt.want)
		}
	}
	r := asVerified(sent(), "github")
	r.Header["Connection"] = []string{"keep-alive, X-Faas-Event,Upgrade", " x-call-id"}
	r.Header.Set("X-Faas-Event", "push")
	if untell(r); r.Header.Get("X-Faas-Event") != "push" {
		t.Error("what faas_verify tells is removed")
	}
	if got := strings.Join(r.Header["Connection"], ";"); got != "keep-alive,Upgrade;" {
		t.Errorf("Connection: %q, by which a proxy removes what is told", got)
	}
}

// An upgrade of the connection to HTTP/2 would carry requests past the gateway.
func TestNoTunnelForRequests(t *testing.T) {
	t.Parallel()
	g := behind(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "upgrade %q, settings %q, call %t", r.Header.Get("Upgrade"), r.Header.Get("HTTP2-Settings"), r.Header.Get("X-Call-Id") != "")
	})
	for sent, want := range map[string]string{"h2c": "", "websocket, H2C": "", "websocket": "websocket"} {
		a := g.call(t, "GET", "/function/f1", "", "Connection", "Upgrade, HTTP2-Settings, x-call-id", "Upgrade", sent, "HTTP2-Settings", "AAMAAABkAAQAAP__")
		if want := fmt.Sprintf(`upgrade %q, settings "", call true`, want); a.body != want {
			t.Errorf("%s: the function sees %s, want %s", sent, a.body, want)
		}
	}
}

// GitLab sends the secret itself. It is for faas_verify alone: neither the access log nor a function gets it.
func TestTokenIsKept(t *testing.T) {
	t.Parallel()
	const secret = "glpat-sesame"
	g := newShipped(t)
	g.write(t, "routes/gitlab.caddyfile", "handle /hooks/gitlab {\n\tfaas_verify gitlab {\n\t\tsecret "+secret+"\n\t}\n\tfaas env\n}\n"+
		"handle /hooks/both {\n\tfaas_verify gitlab {\n\t\tsecret "+secret+"\n\t}\n\tfaas labelled\n}\n"+
		"handle /hooks/other {\n\tfaas_verify hmac {\n\t\tsecret s\n\t\theader X-Sig\n\t}\n\tfaas labelled\n}\n")
	g.write(t, "functions/stack.yml", "functions:\n  env:\n    fprocess: env\n  labelled:\n    fprocess: env\n    labels:\n      faas.auth: gitlab\n      faas.auth.secret: hook\n")
	g.start(t)
	g.password = adminPassword
	g.secret(t, "POST", "hook", secret)
	body := hookBody(t, "gitlab/push-event.json")
	for _, path := range []string{"/hooks/gitlab", "/hooks/both", "/hooks/other", "/function/labelled"} {
		a := g.call(t, "POST", path, body, "X-Gitlab-Token", secret, "X-Gitlab-Event", "Push Hook", "X-Sig", mac("s", body))
		if a.StatusCode != 200 || !strings.Contains(a.body, "Http_X_Faas_Event=push\n") || strings.Contains(a.body, secret) {
			t.Errorf("%s: %d, the function sees\n%s", path, a.StatusCode, a.body)
		}
	}
	for path, status := range map[string]int{"/hooks/gitlab": 401, "/function/labelled": 401, "/hooks/mistyped": 404} {
		if a := g.call(t, "POST", path, body, "X-Gitlab-Token", secret+"s"); a.StatusCode != status {
			t.Errorf("%s: %d %s, want %d", path, a.StatusCode, a.body, status)
		}
	}
	eventually(t, "the access log has all requests", func() bool { return strings.Count(g.log.String(), "handled request") >= 8 })
	if i := strings.Index(g.log.String(), secret); i >= 0 {
		t.Errorf("the log has the secret: %.300s", g.log.String()[max(0, i-200):])
	}
}
