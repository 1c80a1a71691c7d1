package faas

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// An Edge is what a function's labels ask of its callers. The zero value asks nothing.
type Edge struct {
	// Auth is "" for none, basic, or the scheme by which a request must be signed.
	Auth string
	// Secrets are the names of the secrets for Auth, any of which will do.
	Secrets []string
	// Methods are those that may be used; none: all.
	Methods []string
	// MaxBody bounds a request's body in bytes; 0: no bound.
	MaxBody int64
}

var (
	authForm   = regexp.MustCompile(`^[a-z][a-z0-9_-]*$`)
	methodForm = regexp.MustCompile(`^[A-Z]+$`)
	domainForm = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
)

// Edge reads the labels. Other labels that do not parse count as absent; if one
// of these doesn't, nobody may call the function: the error says why.
func (f *Function) Edge() (Edge, error) {
	e := Edge{Auth: f.Labels[LabelAuth], Secrets: list(f.Labels[LabelAuthSecret]), Methods: list(f.Labels[LabelMethods])}
	if e.Auth == "none" {
		e.Auth = ""
	}
	if e.Auth != "" && !authForm.MatchString(e.Auth) {
		return e, fmt.Errorf("label %s %q: want none, basic or a scheme such as github", LabelAuth, e.Auth)
	}
	if len(e.Secrets) > 0 && f.Labels[LabelAuth] == "" {
		return e, fmt.Errorf("label %s: want %s too, such as basic: how callers prove that they know the secret", LabelAuthSecret, LabelAuth)
	}
	for i, name := range e.Secrets {
		if err := (Secret{Name: name, Namespace: f.Namespace}).Validate(); err != nil {
			return e, fmt.Errorf("label %s: %w", LabelAuthSecret, err)
		}
		if slices.Contains(e.Secrets[:i], name) {
			return e, fmt.Errorf("label %s: %s is given twice", LabelAuthSecret, name)
		}
	}
	for _, m := range e.Methods {
		if !methodForm.MatchString(m) {
			return e, fmt.Errorf("label %s %q: want methods such as GET POST", LabelMethods, m)
		}
	}
	if text := f.Labels[LabelMaxBody]; text != "" {
		n, err := ParseQuantity(text, 1)
		if err != nil || n == 0 {
			return e, fmt.Errorf("label %s %q: want a quantity of bytes such as 1Mi", LabelMaxBody, text)
		}
		e.MaxBody = n
	}
	return e, nil
}

// Domains are the host names that the function claims, in lower case; others than public names are left out.
func (f *Function) Domains() (all []string) {
	for _, d := range list(strings.ToLower(f.Labels[LabelDomains])) {
		if _, err := netip.ParseAddr(d); err != nil && len(d) <= 253 && domainForm.MatchString(d) {
			all = append(all, d)
		}
	}
	return all
}

// list reads words between spaces or commas.
func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' })
}
