package caddyfaas

import (
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

func init() {
	caddy.RegisterModule(Upstreams{})
}

// Upstreams tells reverse_proxy where the replica is that the faas handler
// before it has leased (dynamic faas). Called again for the same request, it
// gives that lease back and takes another, which may wait.
type Upstreams struct{}

// CaddyModule returns the module's ID and constructor.
func (Upstreams) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.reverse_proxy.upstreams.faas", New: func() caddy.Module { return new(Upstreams) }}
}

// GetUpstreams returns the leased replica, or nothing if there is none any
// more: reverse_proxy swallows errors of this method, so the handler asks the
// invocation for the reason afterwards.
func (Upstreams) GetUpstreams(r *http.Request) ([]*reverseproxy.Upstream, error) {
	i, ok := r.Context().Value(invocationKey{}).(*invocation)
	if !ok {
		return nil, errors.New("dynamic faas: no faas_invoke came before this reverse_proxy")
	}
	if i.asked {
		i.limit.lift() // nothing was executed
		if i.Next(r.Context()) != nil {
			return nil, nil
		}
		i.limit.again()
	}
	i.asked = true
	return []*reverseproxy.Upstream{{Dial: i.Addr()}}, nil
}

// UnmarshalCaddyfile reads `dynamic faas`, which has no options.
func (Upstreams) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.ArgErr()
	}
	if d.NextBlock(0) {
		return d.Errf("unknown option %q: dynamic faas has none", d.Val())
	}
	return nil
}

var (
	_ reverseproxy.UpstreamSource = Upstreams{}
	_ caddyfile.Unmarshaler       = Upstreams{}
)
