package caddyfaas

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddytls"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/scale"
)

func init() {
	caddy.RegisterModule(Permission{})
}

// domains knows which function claims a host name. It hears of functions before the registry does.
type domains struct {
	*scale.Registry

	mu     sync.RWMutex
	claims map[string][]claim // the one that counts first
	of     map[faas.ID][]string
}

type claim struct {
	faas.ID
	since time.Time
}

func newDomains(r *scale.Registry) *domains {
	return &domains{Registry: r, claims: make(map[string][]claim), of: make(map[faas.ID][]string)}
}

// Set tells a function's present state.
func (d *domains) Set(fn faas.Deployment) {
	d.claim(fn.ID, fn.Created, fn.Domains())
	d.Registry.Set(fn)
}

// Delete tells that a function is gone.
func (d *domains) Delete(id faas.ID) {
	d.claim(id, time.Time{}, nil)
	d.Registry.Delete(id)
}

// claim gives a function these names and no others. Of two that claim one, the older function has it.
func (d *domains) claim(id faas.ID, since time.Time, names []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if slices.Equal(d.of[id], names) {
		return
	}
	for _, name := range d.of[id] {
		d.claims[name] = slices.DeleteFunc(d.claims[name], func(c claim) bool { return c.ID == id })
		if len(d.claims[name]) == 0 {
			delete(d.claims, name)
		}
	}
	delete(d.of, id)
	for _, name := range names {
		d.claims[name] = append(d.claims[name], claim{id, since})
		slices.SortFunc(d.claims[name], func(a, b claim) int { return cmp.Or(a.since.Compare(b.since), cmp.Compare(a.String(), b.String())) })
		d.of[id] = names
	}
}

func (d *domains) get(host string) (faas.ID, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if c := d.claims[host]; len(c) > 0 {
		return c[0].ID, true
	}
	return faas.ID{}, false
}

// owner is the function that claims a host name. Until the provider has told of
// all functions it waits for that, no longer than wait and the context.
func (d *domains) owner(ctx context.Context, host string, wait time.Duration) (faas.ID, bool) {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if id, ok := d.get(host); ok {
		return id, true
	}
	d.Lookup(ctx, faas.ID{}, wait) // no function's: only for the wait
	return d.get(host)
}

// unclaimed is the error for a host that is no function's.
func unclaimed(r *http.Request) error {
	return caddyhttp.Error(http.StatusNotFound, fmt.Errorf("no function claims the host %s: its label %s would", r.Host, faas.LabelDomains))
}

// Permission lets Caddy get certificates on demand for the host names that
// functions claim by the label faas.domains, and for no others
// (on_demand_tls { permission faas }).
type Permission struct{ engine *engine }

// CaddyModule returns the module's ID and constructor.
func (Permission) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "tls.permission.faas", New: func() caddy.Module { return new(Permission) }}
}

// Provision finds the app.
func (p *Permission) Provision(ctx caddy.Context) error {
	a, err := app(ctx)
	if err != nil {
		return err
	}
	p.engine = a.engine
	return nil
}

// permissionWait bounds how long a handshake waits while the program starts.
const permissionWait = 5 * time.Second

// CertificateAllowed returns nil for a name that a function claims.
func (p *Permission) CertificateAllowed(ctx context.Context, name string) error {
	if _, ok := p.engine.domains.owner(ctx, name, permissionWait); !ok {
		return fmt.Errorf("%s: %w: no function claims it", name, caddytls.ErrPermissionDenied)
	}
	return nil
}

// UnmarshalCaddyfile reads `permission faas`, which has no options.
func (*Permission) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() || d.NextBlock(0) {
		return errors.New("permission faas has no options")
	}
	return nil
}

var (
	_ faas.Sink                   = (*domains)(nil)
	_ caddy.Provisioner           = (*Permission)(nil)
	_ caddytls.OnDemandPermission = (*Permission)(nil)
	_ caddyfile.Unmarshaler       = (*Permission)(nil)
)
