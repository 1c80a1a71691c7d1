package caddyfaas

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// prefix is the path under which every function can be called.
const prefix = "/function/"

// route tells which function a request names, and the URL that the function
// is to see. In order: the directive's argument, /function/NAME[/path], the
// X-Function header. ok is false if none of them names anything.
func route(argument string, r *http.Request) (id faas.ID, u *url.URL, ok bool) {
	if argument != "" {
		return faas.ParseID(argument), r.URL, true
	}
	if rest, found := strings.CutPrefix(r.URL.EscapedPath(), prefix); found {
		name, path, _ := strings.Cut(rest, "/")
		name, err := url.PathUnescape(name)
		if err != nil || name == "" {
			return id, r.URL, false
		}
		return faas.ParseID(name), withPath(r.URL, "/"+path), true
	}
	if name := r.Header.Get("X-Function"); name != "" {
		return faas.ParseID(name), r.URL, true
	}
	return id, r.URL, false
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
