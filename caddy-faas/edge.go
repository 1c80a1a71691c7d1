package caddyfaas

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/scale"
	"github.com/caddy-faas/faas/caddy-faas/verify"
)

// edgeLabels are those that make an edge.
var edgeLabels = [...]string{faas.LabelAuth, faas.LabelAuthSecret, faas.LabelMethods, faas.LabelMaxBody}

// edge is what the labels of a function ask of its callers, ready for use. It is never changed.
type edge struct {
	labels [len(edgeLabels)]string
	faas.Edge
	verify *Verify  // for Auth by a signature
	basic  *keyring // for basic
	err    error    // then nobody may call it
	retry  time.Time
}

// basicAuth is the value of faas.auth for a user and a password.
const basicAuth = "basic"

// bySecret are the schemes that need nothing but a secret. By any other one, only a route with that faas_verify reaches the function.
var bySecret = map[string]func() Verifier{
	"github": func() Verifier { return new(GitHub) }, "gitlab": func() Verifier { return new(GitLab) }, "gitea": func() Verifier { return new(Gitea) },
	"slack":    func() Verifier { return &Slack{timed{Tolerance: caddy.Duration(verify.DefaultTolerance)}} },
	"stripe":   func() Verifier { return &Stripe{timed{Tolerance: caddy.Duration(verify.DefaultTolerance)}} },
	"standard": func() Verifier { return &Standard{timed{Tolerance: caddy.Duration(verify.DefaultTolerance)}} },
}

// edge returns the function's edge; nil if its labels ask nothing.
func (e *engine) edge(t *scale.Target) *edge {
	d := t.Deployment()
	var labels [len(edgeLabels)]string
	any := false
	for i, name := range edgeLabels {
		if v := d.Labels[name]; v != "" {
			labels[i], any = v, true
		}
	}
	if !any {
		return nil
	}
	v, _ := e.edges.Load(t.ID())
	known, _ := v.(*edge)
	if known != nil && known.labels == labels && (known.err == nil || time.Now().Before(known.retry)) {
		return known
	}
	made := e.makeEdge(&d.Function, labels)
	if made.err != nil && (known == nil || known.err == nil || known.err.Error() != made.err.Error()) {
		e.log.Error("nobody may call the function: its labels can't be obeyed", zap.Stringer("function", t.ID()), zap.Error(made.err))
	}
	e.edges.Store(t.ID(), made)
	return made
}

func (e *engine) makeEdge(fn *faas.Function, labels [len(edgeLabels)]string) *edge {
	g := &edge{labels: labels, retry: time.Now().Add(time.Second)}
	if g.Edge, g.err = fn.Edge(); g.err == nil && g.Auth != "" {
		g.err = e.makeAuth(g, fn)
	}
	return g
}

// ails says what is wrong with a function, its callers' labels and their secrets included; "" if nothing is.
func (e *engine) ails(t *scale.Target) string {
	d := t.Deployment()
	ails := d.Ails()
	if g := e.edge(t); g != nil && g.err != nil && !strings.Contains(ails, g.err.Error()) {
		ails = strings.TrimPrefix(fmt.Sprintf("%s; nobody may call it: %v", ails, g.err), "; ")
	}
	return ails
}

func (e *engine) makeAuth(g *edge, fn *faas.Function) (err error) {
	load := func() ([][]byte, error) { return e.readSecrets(fn.Namespace, g.Secrets) }
	if g.Auth == basicAuth {
		g.basic, err = newKeyring(load, func(secrets [][]byte) (verify.Scheme, error) {
			for _, s := range secrets {
				if user, password, ok := strings.Cut(string(s), ":"); !ok || user == "" || password == "" {
					return nil, errors.New("a secret for basic is USER:PASSWORD")
				} else if strings.ContainsFunc(user, unicode.IsControl) {
					return nil, errors.New("a secret for basic: the user has a control character")
				}
			}
			return need(secrets, nil)
		}, e.log)
	} else if scheme := bySecret[g.Auth]; scheme != nil {
		v := &Verify{verifier: scheme(), scheme: g.Auth, function: fn.ID.String(), log: e.log, Replay: caddy.Duration(defaultReplay)}
		if v.MaxBody = v.verifier.MaxBody(); g.MaxBody > 0 {
			v.MaxBody = min(v.MaxBody, g.MaxBody)
		}
		v.keys, err = newKeyring(load, v.verifier.Scheme, e.log)
		g.verify = v
	} else if _, err := caddy.GetModule("faas.verifiers." + g.Auth); err != nil { // whose requests could be verified by a route
		return fmt.Errorf("label %s: there is no scheme %q: want %s or one of faas_verify, such as github", faas.LabelAuth, g.Auth, basicAuth)
	}
	if errors.Is(err, errNoSecret) {
		return fmt.Errorf("label %s: %s needs a secret", faas.LabelAuthSecret, g.Auth)
	}
	return err
}

// secretsDir is where an engine puts the gateway's own secrets.
const secretsDir = "/run/secrets"

// readSecrets returns the values of secrets of a namespace; if the provider doesn't tell any, those that this program was given by the same names.
func (e *engine) readSecrets(namespace string, names []string) (all [][]byte, err error) {
	reader, ok := e.provider.(faas.SecretReader)
	for _, name := range names {
		var value []byte
		if ok {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			value, err = reader.ReadSecret(ctx, faas.Secret{Name: name, Namespace: namespace})
			cancel()
			if err == nil {
				value, err = trimSecret(value, "secret "+name)
			}
		} else {
			value, err = readSecret(filepath.Join(secretsDir, name))
		}
		if err != nil {
			return nil, err
		}
		all = append(all, value)
	}
	return all, nil
}

// call calls a function, if the request is one that its labels let pass: nobody else wakes it.
func (h *Handler) call(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, c called) error {
	g := h.engine.edge(c.Target)
	if g == nil {
		return h.invoke(w, r, next, c)
	}
	logField(r, zap.String("function", c.Name()))
	if err := g.judge(w, r, c.ID()); err != nil {
		turnAway(w, r)
		logRefusal(r, cmp.Or(g.err, err))
		return err
	}
	if g.MaxBody > 0 && r.Body != nil && r.Body != http.NoBody {
		r.Body = http.MaxBytesReader(w, r.Body, g.MaxBody)
	}
	if g.verify == nil || verified(r) == g.Auth {
		// A body of unknown length to a replica that is ready is a stream. Before
		// one is started, all of it must have come: it may be too large.
		if g.MaxBody > 0 && g.MaxBody < maxBody && r.ContentLength < 0 && c.Ready() == 0 {
			body := buffered{limit: g.MaxBody, time: bodyTime}
			defer body.release()
			if err := body.read(w, r); err != nil {
				turnAway(w, r)
				logRefusal(r, err)
				return err
			}
		}
		return h.invoke(w, r, next, c)
	}
	return g.verify.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		return h.invoke(w, r, next, c)
	}))
}

// judge refuses what can be refused before the body comes.
func (g *edge) judge(w http.ResponseWriter, r *http.Request, id faas.ID) error {
	switch {
	case g.err != nil:
		return caddyhttp.Error(http.StatusInternalServerError, fmt.Errorf("function %s can't be called: a label about callers, or its secret, is wrong; its reason says why", id))
	case len(g.Methods) > 0 && !slices.Contains(g.Methods, r.Method):
		w.Header().Set("Allow", strings.Join(g.Methods, ", "))
		return caddyhttp.Error(http.StatusMethodNotAllowed, fmt.Errorf("function %s takes %s only", id, strings.Join(g.Methods, ", ")))
	case g.MaxBody > 0 && r.ContentLength > g.MaxBody:
		return tooLarge(g.MaxBody)
	case g.basic != nil:
		return g.login(w, r, id)
	case g.Auth != "" && g.verify == nil && verified(r) != g.Auth:
		return caddyhttp.Error(http.StatusUnauthorized, fmt.Errorf("function %s is called by verified requests of %s only", id, g.Auth))
	}
	return nil
}

// login asks for one of the users. The function gets the name, and not the password, which is none of its business.
func (g *edge) login(w http.ResponseWriter, r *http.Request, id faas.ID) error {
	at := loginAt{clientOf(r), id}
	if wait := failures.wait(at, defaultFailures, defaultWindow, time.Now()); wait > 0 {
		return tooMany(w, wait)
	}
	user, password, sent := r.BasicAuth()
	given := sha256.Sum256([]byte(user + ":" + password))
	allowed := 0
	for _, s := range g.basic.now().secrets {
		want := sha256.Sum256(s)
		allowed |= subtle.ConstantTimeCompare(given[:], want[:])
	}
	if allowed == 1 {
		r.Header.Del("Authorization")
		r.Header.Set("X-Faas-User", user)
		if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
			repl.Set("http.auth.user.id", user) // is user_id in the access log
		}
		return nil
	}
	if sent {
		failures.add(at, defaultFailures, defaultWindow, time.Now())
	}
	w.Header().Set("WWW-Authenticate", fmt.Sprintf("Basic realm=%q", id))
	return caddyhttp.Error(http.StatusUnauthorized, fmt.Errorf("function %s wants a user and a password", id))
}

// logRefusal keeps in the access log why a request did not reach a function.
func logRefusal(r *http.Request, err error) {
	var answer caddyhttp.HandlerError
	if errors.As(err, &answer) {
		err = answer.Err // alone: the other text is where in the program that was
	}
	logField(r, zap.NamedError("refusal", err))
}

func logField(r *http.Request, f zap.Field) {
	if log, ok := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		log.Set(f)
	}
}
