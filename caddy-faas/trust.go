package caddyfaas

import (
	"context"
	"net/http"
	"slices"
	"strings"
)

// told are the headers by which a function learns who called it. What a client sends under these names it does not see.
var told = [...]string{"X-Faas-Scheme", "X-Faas-Event", "X-Faas-Delivery", "X-Faas-User", "X-Alexa-Request-Type", "X-Alexa-Intent", "X-Alexa-Locale"}

// ours are others that mean something to this program.
var ours = [...]string{"X-Function", "X-Call-Id", "X-Start-Time", "X-Callback-Url"}

type verifiedKey struct{}

// verified is the scheme by which faas_verify has verified the request; "" if none has.
func verified(r *http.Request) string {
	scheme, _ := r.Context().Value(verifiedKey{}).(string)
	return scheme
}

// asVerified is the request with that mark.
func asVerified(r *http.Request, scheme string) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), verifiedKey{}, scheme))
}

// untell removes what only this program can tell from a request of which it has
// verified nothing, and what would have a proxy remove it, or never see it.
func untell(r *http.Request) {
	unname(r.Header)
	// A function that obeyed would get more requests on the connection, of which nobody here reads a header.
	if slices.ContainsFunc(r.Header["Upgrade"], func(to string) bool { return strings.Contains(strings.ToLower(to), "h2c") }) {
		delete(r.Header, "Upgrade")
	}
	for _, name := range told {
		if _, ok := r.Header[name]; ok && verified(r) == "" {
			delete(r.Header, name)
		}
	}
	for name := range r.Header {
		if strings.IndexByte(name, '_') >= 0 && slices.Contains(told[:], dashed(name)) {
			delete(r.Header, name)
		}
	}
}

// unname takes headers by which this program tells something out of Connection:
// a proxy does not pass on those that are named there, and anybody can name them.
func unname(h http.Header) {
	told := func(name string) bool {
		name = strings.TrimSpace(name)
		is := func(other string) bool { return strings.EqualFold(name, other) }
		return slices.ContainsFunc(told[:], is) || slices.ContainsFunc(ours[:], is)
	}
	for i, names := range h["Connection"] {
		all := strings.Split(names, ",")
		if kept := slices.DeleteFunc(all, told); len(kept) < len(all) {
			h["Connection"][i] = strings.Join(kept, ",")
		}
	}
}

// dashed is the header that a name with underscores passes for: many servers hand their programs both as one variable.
func dashed(name string) string {
	return http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
}

// distrust removes the headers of a webhook's request that mean something to this
// program or to a function: its sender has no business there, and they are not signed.
func distrust(h http.Header) {
	for sent := range h {
		name := dashed(sent)
		if strings.HasPrefix(name, "X-Faas-") || strings.HasPrefix(name, "X-Alexa-") || slices.Contains(ours[:], name) {
			delete(h, sent)
		}
	}
}
