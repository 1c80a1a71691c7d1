package caddyfaas

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-faas/faas/caddy-faas/verify"
)

func init() {
	caddy.RegisterModule(Verify{})
}

// defaultReplay is for how long a delivery that was taken is remembered.
const defaultReplay = 24 * time.Hour

// deliveries are shared by all routes, and outlive configurations.
var deliveries = verify.NewDeliveries(1 << 16)

// Verify lets a request pass if it is signed by whom the route is for, by a
// scheme such as GitHub's, and answers what the sender wants back at once: a
// ping, a challenge. The next handler gets the body as it was signed.
//
// Placeholders for what follows: {faas.verify.scheme}, {faas.verify.event}
// (with - for what can't be in a function's name, so that the event can choose
// the function), {faas.verify.delivery} and {faas.verify.timestamp} (Unix
// seconds, where it is signed). The function gets the headers X-Faas-Scheme,
// X-Faas-Event, X-Faas-Delivery. Those that the client sent are removed, as is
// every other header by which this program says what it knows.
//
// Answers: 204 for an event that is none of Events. 200 with the header
// X-Faas-Duplicate for a delivery that was answered with 2xx before. Errors: 401
// if the request is not signed, or not so, or at another time; 400 if it is none
// of the scheme (Alexa: always), 408 if the body comes too slowly, 413 if it is too
// large, 503 with Retry-After if too many bodies are held already, of all clients or of this one. Why, the access
// log says in the field refusal, and the metric faas_verify_total counts.
type Verify struct {
	// SchemeRaw is how the sender signs: a module of the namespace faas.verifiers.
	SchemeRaw json.RawMessage `json:"scheme,omitempty" caddy:"namespace=faas.verifiers inline_key=scheme"`

	// Secrets are those by any of which a request may be signed, such as
	// {env.GITHUB_SECRET}; placeholders are replaced when the configuration is loaded.
	Secrets []string `json:"secrets,omitempty"`

	// SecretFiles have such secrets, one each; a newline at the end is not part of
	// it. A file that changes is read again. Placeholders are replaced in the path.
	SecretFiles []string `json:"secret_files,omitempty"`

	// MaxBody bounds the body in bytes: less than 32 MiB. Default: as the scheme says.
	MaxBody int64 `json:"max_body,omitempty"`

	// Events pass, others are answered with 204; * stands for any characters. Default: all.
	Events []string `json:"events,omitempty"`

	// ForwardPing sends pings and challenges to the function, too. Default: they are answered here.
	ForwardPing bool `json:"forward_ping,omitempty"`

	// Replay is how long a delivery that was answered with 2xx is remembered, so
	// that it is not delivered again; negative: not at all. Default: 24h.
	Replay caddy.Duration `json:"replay,omitempty"`

	verifier Verifier
	scheme   string // its module's name
	function string // whose label asks for it; "" for a route's
	keys     *keyring
	log      *zap.Logger
}

// A Verifier is a module of the namespace faas.verifiers.
type Verifier interface {
	// Scheme is called with the secrets, and again when one of them has changed.
	Scheme(secrets [][]byte) (verify.Scheme, error)
	// MaxBody is the size in bytes of the largest body that the sender sends.
	MaxBody() int64
	// Status is the answer's for the reason of a [verify.Refusal]; 0 for the usual one.
	Status(reason string) int
}

// CaddyModule returns the module's ID and constructor.
func (Verify) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.faas_verify", New: func() caddy.Module { return new(Verify) }}
}

// Provision loads the scheme and reads the secrets.
func (v *Verify) Provision(ctx caddy.Context) error {
	v.log = ctx.Logger()
	if v.SchemeRaw == nil {
		return errors.New("want the scheme by which the sender signs, such as github")
	}
	mod, err := ctx.LoadModule(v, "SchemeRaw")
	if err != nil {
		return fmt.Errorf("loading the scheme: %w", err)
	}
	var ok bool
	if v.verifier, ok = mod.(Verifier); !ok {
		return fmt.Errorf("module %T is no scheme of signatures", mod)
	}
	v.scheme = mod.(caddy.Module).CaddyModule().ID.Name()
	if v.MaxBody == 0 {
		v.MaxBody = v.verifier.MaxBody()
	}
	if v.Replay == 0 {
		v.Replay = caddy.Duration(defaultReplay)
	}
	if err := registerMetrics(ctx.GetMetricsRegistry()); err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	load, err := loadSecrets(v.Secrets, v.SecretFiles)
	if err == nil {
		v.keys, err = newKeyring(load, v.verifier.Scheme, v.log)
	}
	if err != nil {
		return fmt.Errorf("faas_verify %s: %w", v.scheme, err)
	}
	return nil
}

// Validate refuses what can't be meant.
func (v *Verify) Validate() error {
	if v.MaxBody < 0 {
		return fmt.Errorf("max_body %d: want a positive number of bytes", v.MaxBody)
	}
	if v.MaxBody >= maxBody {
		return fmt.Errorf("max_body %d: want less than %d bytes, which is half of what all bodies that are held at once may have", v.MaxBody, maxBody)
	}
	return nil
}

// ServeHTTP passes on what is verified.
func (v *Verify) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	distrust(r.Header)
	body := buffered{limit: v.MaxBody, time: bodyTime}
	defer body.release()
	keys := v.keys.now()
	event, err := v.judge(w, r, keys, &body)
	if err != nil {
		return v.refuse(w, r, err)
	}
	r = asVerified(r, v.scheme)
	v.tell(r, event)
	switch {
	case event.Reply != nil && !v.ForwardPing:
		v.count("replied")
		w.Header().Set("Content-Type", event.Reply.ContentType)
		_, err := w.Write([]byte(event.Reply.Body))
		return err
	case len(v.Events) > 0 && !fits(v.Events, event.Name) && event.Reply == nil:
		v.count("ignored")
		w.WriteHeader(http.StatusNoContent)
		return nil
	case event.Delivery == "" || v.Replay < 0:
		v.count("verified")
		return next.ServeHTTP(w, r)
	}
	return v.once(w, r, next, verify.Key(v.scheme, keys.secret(event.Secret), v.receiver(r, event), event.Delivery))
}

// judge reads the body only of a request whose header may be right.
func (v *Verify) judge(w http.ResponseWriter, r *http.Request, keys *keys, body *buffered) (verify.Event, error) {
	claim, err := keys.scheme.Claim(r.Header, time.Now())
	if err == nil {
		err = body.read(w, r)
	}
	if err != nil {
		turnAway(w, r)
		return verify.Event{}, err
	}
	return claim.Verify(r.Context(), body.bytes)
}

// receiver tells receivers apart that may share a secret and still want the same delivery each.
func (v *Verify) receiver(r *http.Request, e verify.Event) string {
	if !e.Unsigned {
		return v.function
	}
	// Whoever could send it again to another address could as well change the delivery.
	uri := r.RequestURI
	if sent, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		uri = sent.RequestURI // before it was rewritten
	}
	return v.function + " " + r.Host + " " + uri
}

// once passes on a delivery that was not taken before.
func (v *Verify) once(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, key verify.DeliveryKey) error {
	end, err := deliveries.Begin(r.Context(), key, time.Now())
	if err != nil {
		return caddyhttp.Error(statusClientGone, errors.New("the client went away"))
	}
	if end == nil {
		v.count("duplicate")
		w.Header().Set("X-Faas-Duplicate", "true")
		w.WriteHeader(http.StatusOK)
		return nil
	}
	v.count("verified")
	rec := caddyhttp.NewResponseRecorder(w, nil, nil)
	taken := false
	// Deferred, because reverse_proxy panics when a stream breaks.
	defer func() { end(taken, time.Now().Add(time.Duration(v.Replay))) }()
	if err := next.ServeHTTP(rec, r); err != nil {
		return err
	}
	status := cmp.Or(rec.Status(), http.StatusOK)
	taken = status >= 200 && status < 300
	return nil
}

// tell makes what is known of a request known to what follows, and to the access log.
func (v *Verify) tell(r *http.Request, e verify.Event) {
	r.Header.Del(e.Token)
	for name, value := range map[string]string{"X-Faas-Scheme": v.scheme, "X-Faas-Event": e.Name, "X-Faas-Delivery": e.Delivery} {
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	var stamp any = ""
	if !e.Time.IsZero() {
		stamp = e.Time.Unix()
	}
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Set("faas.verify.scheme", v.scheme)
		repl.Set("faas.verify.event", nameOf(e.Name))
		repl.Set("faas.verify.delivery", e.Delivery)
		repl.Set("faas.verify.timestamp", stamp)
	}
	logField(r, zap.String("scheme", v.scheme))
	logField(r, zap.String("event", e.Name))
	logField(r, zap.String("delivery", e.Delivery))
}

// nameOf is an event's name as a part of a function's: a dot would choose the namespace.
func nameOf(event string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
			return r
		}
		return '-'
	}, event)
}

// statuses are those of refusals. Others are 400.
var statuses = map[string]int{
	verify.Unsigned: http.StatusUnauthorized, verify.Mismatch: http.StatusUnauthorized, verify.Stale: http.StatusUnauthorized,
	verify.Untrusted: http.StatusUnauthorized, verify.Stranger: http.StatusForbidden, verify.Unavailable: http.StatusServiceUnavailable,
}

// refuse answers a request that is not verified, without the reason: that is for the log.
func (v *Verify) refuse(w http.ResponseWriter, r *http.Request, err error) error {
	var (
		refusal *verify.Refusal
		answer  caddyhttp.HandlerError
	)
	switch {
	case errors.As(err, &refusal):
		v.count(refusal.Reason)
		status := cmp.Or(v.verifier.Status(refusal.Reason), statuses[refusal.Reason], http.StatusBadRequest)
		if status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "5")
		}
		answer = caddyhttp.Error(status, fmt.Errorf("not verified as a request of %s", v.scheme))
	case errors.As(err, &answer):
		v.count(bodyResults[answer.StatusCode])
	default:
		answer = caddyhttp.Error(statusClientGone, errors.New("the client went away"))
	}
	logField(r, zap.String("scheme", v.scheme))
	logRefusal(r, err)
	if c := v.log.Check(zap.DebugLevel, "request refused"); c != nil {
		c.Write(zap.Error(err), zap.String("remote", r.RemoteAddr))
	}
	return answer
}

func (v *Verify) count(result string) { metrics.verified.WithLabelValues(v.scheme, result).Inc() }

var (
	_ caddy.Provisioner           = (*Verify)(nil)
	_ caddy.Validator             = (*Verify)(nil)
	_ caddyhttp.MiddlewareHandler = (*Verify)(nil)
)
