package caddyfaas

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
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
	r.Header.Set("X-Faas-Event", "push")
	if untell(r); r.Header.Get("X-Faas-Event") != "push" {
		t.Error("what faas_verify tells is removed")
	}
}
