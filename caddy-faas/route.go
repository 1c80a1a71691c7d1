package caddyfaas

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// prefix is the path under which every function can be called.
const prefix = "/function/"

// route tells which function a request names, and the URL that the function
// is to see. In order: the directive's argument, /function/NAME[/path], the
// X-Function header. ok is false if none of them names anything, or if the
// path names another function to Caddy's path matchers, which see it decoded
// and cleaned, than it does as it was sent.
func route(argument string, r *http.Request) (id faas.ID, u *url.URL, ok bool) {
	if argument != "" {
		return faas.ParseID(argument), r.URL, true
	}
	seen, below := segment(caddyhttp.CleanPath(r.URL.Path, true))
	if sent, found := segment(r.URL.EscapedPath()); found || below {
		name, err := url.PathUnescape(sent)
		if err != nil || name == "" || name != seen {
			return id, r.URL, false
		}
		return faas.ParseID(name), withPath(r.URL, "/"+strings.TrimPrefix(r.URL.EscapedPath()[len(prefix)+len(sent):], "/")), true
	}
	if name := r.Header.Get("X-Function"); name != "" {
		return faas.ParseID(name), r.URL, true
	}
	return id, r.URL, false
}

// segment cuts NAME out of /function/NAME/path. found tells whether the path
// is below /function/ at all; to Caddy's matchers upper and lower case are equal there.
func segment(path string) (name string, found bool) {
	if len(path) < len(prefix) || !strings.EqualFold(path[:len(prefix)], prefix) {
		return "", false
	}
	name, _, _ = strings.Cut(path[len(prefix):], "/")
	return name, true
}

// withPath returns a copy of u with another path, which is escaped; the escapes stay as the client wrote them.
func withPath(u *url.URL, escaped string) *url.URL {
	c := *u
	path, err := url.PathUnescape(escaped)
	if err != nil {
		path = escaped
	}
	c.Path, c.RawPath = path, escaped
	return &c
}
