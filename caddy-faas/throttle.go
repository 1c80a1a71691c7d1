package caddyfaas

import (
	"bytes"
	"errors"
	"math"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

func init() {
	caddy.RegisterModule(Throttle{})
	httpcaddyfile.RegisterHandlerDirective("faas_throttle", parseThrottle)
	httpcaddyfile.RegisterDirectiveOrder("faas_throttle", httpcaddyfile.Before, "basic_auth")
}

// What Throttle allows by default.
const (
	defaultFailures = 10
	defaultWindow   = time.Minute
)

// maxTries is how many passwords a client may try at once: none of them has failed yet.
const maxTries = 32

// failures outlive configurations, or a reload would be a new chance.
var failures = throttle{max: 10_000, clients: make(map[loginAt]*failed), trying: make(map[loginAt]int)}

// loginAt is who tries to log in where: to a function by its label, or anywhere
// behind faas_throttle, where it is the zero ID. One that is tried at a function is not kept from the rest.
type loginAt struct {
	client netip.Addr
	faas.ID
}

// Throttle answers a client whose logins have failed too often with 429,
// before the next handlers look at the password, which costs time by intent, and one that tries more
// than 32 at once. A failed login is an answer of 401. Clients are IP addresses (of IPv6 the first 64 bits) as trusted_proxies makes them known.
type Throttle struct {
	// Failures is how many there may be within Window. Default: 10.
	Failures int `json:"failures,omitempty"`

	// Window is in what time a failure is forgotten, one after the other. Default: 1m.
	Window caddy.Duration `json:"window,omitempty"`
}

// CaddyModule returns the module's ID and constructor.
func (Throttle) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.faas_throttle", New: func() caddy.Module { return new(Throttle) }}
}

// Provision sets the defaults.
func (t *Throttle) Provision(caddy.Context) error {
	if t.Failures == 0 {
		t.Failures = defaultFailures
	}
	if t.Window == 0 {
		t.Window = caddy.Duration(defaultWindow)
	}
	return nil
}

// Validate refuses what can't be meant.
func (t *Throttle) Validate() error {
	if t.Failures < 0 || t.Window < 0 {
		return errors.New("faas_throttle: want positive failures and window")
	}
	return nil
}

// ServeHTTP passes on the requests of clients that haven't failed too often.
func (t *Throttle) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	client := loginAt{client: clientOf(r)}
	if wait := failures.wait(client, t.Failures, time.Duration(t.Window), time.Now()); wait > 0 {
		return tooMany(w, wait)
	}
	if _, _, sent := r.BasicAuth(); !sent { // as a browser's first request
		return next.ServeHTTP(w, r)
	}
	if !failures.begin(client) {
		w.Header().Set("Retry-After", "1")
		return caddyhttp.Error(http.StatusTooManyRequests, errors.New("too many logins at once: try again later"))
	}
	end := sync.OnceFunc(func() { failures.end(client) })
	defer end()
	rec := caddyhttp.NewResponseRecorder(w, new(bytes.Buffer), func(int, http.Header) bool {
		end() // the password has been judged; the answer may take its time
		return false
	})
	err := next.ServeHTTP(rec, r)
	var he caddyhttp.HandlerError
	if rec.Status() == http.StatusUnauthorized || errors.As(err, &he) && he.StatusCode == http.StatusUnauthorized {
		failures.add(client, t.Failures, time.Duration(t.Window), time.Now())
	}
	return err
}

// tooMany is the error for a client that has to wait.
func tooMany(w http.ResponseWriter, wait time.Duration) error {
	w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
	return caddyhttp.Error(http.StatusTooManyRequests, errors.New("too many failed logins: try again later"))
}

// clientOf is the client's address; the zero one if it has none.
func clientOf(r *http.Request) netip.Addr {
	text, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	if text == "" {
		text, _, _ = net.SplitHostPort(r.RemoteAddr)
	}
	addr, _ := netip.ParseAddr(text)
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		p, _ := addr.Prefix(64)
		addr = p.Addr()
	}
	return addr
}

// throttle counts failures of a bounded number of clients.
type throttle struct {
	max int

	mu      sync.Mutex
	clients map[loginAt]*failed
	trying  map[loginAt]int // requests with a password that may yet be wrong
}

// failed is a count that sinks with time.
type failed struct {
	count float64
	at    time.Time
}

func (f *failed) sink(limit int, window time.Duration, now time.Time) {
	f.count, f.at = f.left(limit, window, now), now
}

func (f *failed) left(limit int, window time.Duration, now time.Time) float64 {
	return max(0, f.count-float64(limit)*now.Sub(f.at).Seconds()/window.Seconds())
}

// begin tells whether one more password may be tried; then end must be called.
func (t *throttle) begin(client loginAt) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.trying[client] >= maxTries {
		return false
	}
	t.trying[client]++
	return true
}

func (t *throttle) end(client loginAt) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.trying[client]--; t.trying[client] == 0 {
		delete(t.trying, client)
	}
}

// wait is how long until the client may try again.
func (t *throttle) wait(client loginAt, limit int, window time.Duration, now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.clients[client]
	if f == nil {
		return 0
	}
	f.sink(limit, window, now)
	if over := f.count - float64(limit-1); over > 0 {
		return time.Duration(over * float64(window) / float64(limit))
	}
	return 0
}

func (t *throttle) add(client loginAt, limit int, window time.Duration, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.clients[client]
	if f == nil {
		if len(t.clients) >= t.max {
			t.forget(limit, window, now)
		}
		f = &failed{at: now}
		t.clients[client] = f
	}
	f.sink(limit, window, now)
	f.count++
}

// forget makes room for one more. Of a few the one that has failed least goes, so that many
// clients that fail now and then don't bring back a chance to those that have none left.
func (t *throttle) forget(limit int, window time.Duration, now time.Time) {
	const few = 16
	var least loginAt
	fewest, seen := math.Inf(1), 0
	for client, f := range t.clients { // in an order that nobody can foresee
		if n := f.left(limit, window, now); n < fewest {
			fewest, least = n, client
		}
		if seen++; seen == few {
			break
		}
	}
	delete(t.clients, least)
}

// parseThrottle reads the directive faas_throttle.
//
//	faas_throttle [<matcher>] {
//		failures <n>
//		window <duration>
//	}
func parseThrottle(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	t := new(Throttle)
	return t, t.UnmarshalCaddyfile(h.Dispenser)
}

// UnmarshalCaddyfile reads the block of faas_throttle.
func (t *Throttle) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.ArgErr()
	}
	for d.NextBlock(0) {
		switch option := d.Val(); option {
		case "failures":
			var arg string
			n := 0
			if d.AllArgs(&arg) {
				n, _ = strconv.Atoi(arg)
			}
			if n < 1 {
				return d.Err("failures: want a positive number")
			}
			t.Failures = n
		case "window":
			if err := readDuration(d, &t.Window)(); err != nil {
				return err
			}
		default:
			return d.Errf("unknown option %q of faas_throttle: want failures or window", option)
		}
	}
	return nil
}

var (
	_ caddy.Provisioner           = (*Throttle)(nil)
	_ caddy.Validator             = (*Throttle)(nil)
	_ caddyhttp.MiddlewareHandler = (*Throttle)(nil)
	_ caddyfile.Unmarshaler       = (*Throttle)(nil)
)
