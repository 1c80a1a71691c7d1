package caddyfaas

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

func TestRoute(t *testing.T) {
	tests := []struct {
		argument, target, header string
		id                       faas.ID // zero: names nothing
		uri                      string  // what the function sees
	}{
		{"", "/function/echo", "", faas.ID{Name: "echo", Namespace: "openfaas-fn"}, "/"},
		{"", "/function/echo/", "", faas.ID{Name: "echo", Namespace: "openfaas-fn"}, "/"},
		{"", "/function/echo?q=1&r", "", faas.ID{Name: "echo", Namespace: "openfaas-fn"}, "/?q=1&r"},
		{"", "/function/echo/a/b?q=1", "", faas.ID{Name: "echo", Namespace: "openfaas-fn"}, "/a/b?q=1"},
		{"", "/function/echo.openfaas-fn/a", "", faas.ID{Name: "echo", Namespace: "openfaas-fn"}, "/a"},
		{"", "/function/echo.staging", "", faas.ID{Name: "echo", Namespace: "staging"}, "/"},
		{"", "/function/HostnameIntent", "", faas.ID{Name: "HostnameIntent", Namespace: "openfaas-fn"}, "/"},
		{"", "/function/echo/a%2Fb%20c//d/", "", faas.ID{Name: "echo", Namespace: "openfaas-fn"}, "/a%2Fb%20c//d/"},
		{"", "/function/ec%68o/x", "", faas.ID{Name: "echo", Namespace: "openfaas-fn"}, "/x"},
		{"", "/FUNCTION/echo/x", "", faas.ID{Name: "echo", Namespace: "openfaas-fn"}, "/x"},
		{"", "/function/echo/http://host/../x", "", faas.ID{Name: "echo", Namespace: "openfaas-fn"}, "/http://host/../x"},
		{"", "/function/secret/../echo", "", faas.ID{}, ""}, // to a matcher: echo
		{"", "/function/echo/../../x", "other", faas.ID{}, ""},
		{"", "/x/../function/echo", "other", faas.ID{}, ""},
		{"", "/function/../x", "other", faas.ID{}, ""},
		{"", "/function/a%2Fb", "", faas.ID{}, ""},
		{"", "/function%2Fecho", "other", faas.ID{}, ""},
		{"", "//function/echo", "other", faas.ID{}, ""},
		{"", "/function/echo", "other", faas.ID{Name: "echo", Namespace: "openfaas-fn"}, "/"},
		{"", "/", "wordcount", faas.ID{Name: "wordcount", Namespace: "openfaas-fn"}, "/"},
		{"", "/a/b?c", "wordcount.openfaas-fn", faas.ID{Name: "wordcount", Namespace: "openfaas-fn"}, "/a/b?c"},
		{"hook", "/github?x", "other", faas.ID{Name: "hook", Namespace: "openfaas-fn"}, "/github?x"},
		{"hook.ci", "/function/echo", "", faas.ID{Name: "hook", Namespace: "ci"}, "/function/echo"},
		{"", "/function/", "", faas.ID{}, ""},
		{"", "/function//echo", "", faas.ID{}, ""},
		{"", "/function", "", faas.ID{}, ""},
		{"", "/", "", faas.ID{}, ""},
	}
	for _, tt := range tests {
		r := httptest.NewRequest("POST", tt.target, nil)
		if tt.header != "" {
			r.Header.Set("X-Function", tt.header)
		}
		before := r.URL.String()
		id, u, ok := route(tt.argument, r)
		if want := tt.id != (faas.ID{}); ok != want || ok && id != tt.id {
			t.Errorf("%s %q: got %v, %t, want %v", tt.target, tt.header, id, ok, tt.id)
			continue
		}
		if ok && u.RequestURI() != tt.uri {
			t.Errorf("%s %q: the function sees %s, want %s", tt.target, tt.header, u.RequestURI(), tt.uri)
		}
		if r.URL.String() != before {
			t.Errorf("%s: the request's own URL became %s", tt.target, r.URL)
		}
	}
}

// A function gets an absolute path and the query as it came; a path that names
// it is one that Caddy's matchers, too, see below its name.
func FuzzRoute(f *testing.F) {
	for _, s := range []string{"/function/echo/a%2Fb?c=%20", "/function/%zz", "/function//", "/function/a.b.c/../..", "*", "/function/é/ü"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		r := httptest.NewRequest("POST", "/", nil)
		r.Header.Set("X-Function", "other")
		r.URL.Path, r.URL.RawPath, r.URL.RawQuery = "/function/echo/"+path, "", "q=%20"
		id, u, ok := route("", r)
		clean := caddyhttp.CleanPath(r.URL.Path, true)
		if below := clean == "/function/echo" || strings.HasPrefix(clean, "/function/echo/"); ok != below || ok && id.Name != "echo" {
			t.Fatalf("%q: named %v, %t", r.URL.Path, id, ok)
		}
		if !ok {
			return
		}
		if u.Path != "/"+path || u.RawQuery != "q=%20" {
			t.Fatalf("%q: the function sees %q?%q", r.URL.Path, u.Path, u.RawQuery)
		}
	})
}
