package caddyfaas

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("faas", parseApp)
	httpcaddyfile.RegisterDirective("faas", parseFaas)
	httpcaddyfile.RegisterHandlerDirective("faas_invoke", parseInvoke)
	httpcaddyfile.RegisterHandlerDirective("faas_api", parseAPI)
	httpcaddyfile.RegisterHandlerDirective("faas_ui", parseUI)
	httpcaddyfile.RegisterHandlerDirective("faas_peer", parsePeer)
	httpcaddyfile.RegisterDirectiveOrder("faas", httpcaddyfile.Before, "reverse_proxy")
	httpcaddyfile.RegisterDirectiveOrder("faas_invoke", httpcaddyfile.Before, "reverse_proxy")
	httpcaddyfile.RegisterDirectiveOrder("faas_api", httpcaddyfile.Before, "reverse_proxy")
	httpcaddyfile.RegisterDirectiveOrder("faas_ui", httpcaddyfile.Before, "reverse_proxy")
	httpcaddyfile.RegisterDirectiveOrder("faas_peer", httpcaddyfile.Before, "reverse_proxy")
}

// proxy is what faas expands to after its own handler. Only failed dials are
// tried again, for every method: the matcher of an impossible method keeps
// reverse_proxy from executing a GET twice. Its default of 32 idle connections
// a host halves the throughput at 1,000. It flushes what has no declared length,
// and event streams, at once by itself; flush_interval -1 would do so with every
// answer, which is then written by two goroutines in two parts: an eighth more
// CPU time for each request.
const proxy = `reverse_proxy {
	dynamic faas
	lb_retries 2
	lb_retry_match {
		method FAAS-NONE
	}
	flush_interval 10ms
	transport http {
		dial_timeout 1s
		keepalive 30s
		keepalive_idle_conns_per_host 1024
	}
}`

// parseFaas reads the directive faas: faas_invoke with the reverse_proxy that it needs.
//
//	faas [<matcher>] [<function>] {
//		alexa {
//			<see Alexa.unmarshalCaddyfile>
//		}
//		domains
//		fallback <function>
//		wait <duration>
//	}
func parseFaas(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next()
	matcher, err := h.ExtractMatcherSet()
	if err != nil {
		return nil, err
	}
	ours, err := parseInvoke(h)
	if err != nil {
		return nil, err
	}
	tokens, err := caddyfile.Tokenize([]byte(proxy), "faas")
	if err != nil {
		return nil, err
	}
	rp := new(reverseproxy.Handler)
	if err := rp.UnmarshalCaddyfile(caddyfile.NewDispenser(tokens)); err != nil {
		return nil, err
	}
	if err := rp.FinalizeUnmarshalCaddyfile(h); err != nil {
		return nil, err
	}
	route := caddyhttp.Route{HandlersRaw: []json.RawMessage{
		caddyconfig.JSONModuleObject(ours, "handler", "faas", nil),
		caddyconfig.JSONModuleObject(rp, "handler", "reverse_proxy", nil),
	}}
	if matcher != nil {
		route.MatcherSetsRaw = []caddy.ModuleMap{matcher}
	}
	return []httpcaddyfile.ConfigValue{{Class: "route", Value: route}}, nil
}

// parseInvoke reads the directive faas_invoke: faas without its reverse_proxy.
func parseInvoke(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	var f Handler
	return &f, f.UnmarshalCaddyfile(h.Dispenser)
}

// parseAPI reads the directive faas_api, which has no options.
func parseAPI(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	return new(API), noOptions(h)
}

// parseUI reads the directive faas_ui, which has no options.
func parseUI(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	return new(UI), noOptions(h)
}

// parsePeer reads the directive faas_peer, which has no options.
func parsePeer(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	return new(Peer), noOptions(h)
}

func noOptions(h httpcaddyfile.Helper) error {
	h.Next()
	name := h.Val()
	if h.NextArg() {
		return h.ArgErr()
	}
	if h.NextBlock(0) {
		return h.Errf("unknown option %q: %s has none", h.Val(), name)
	}
	return nil
}

// UnmarshalCaddyfile reads the arguments and the block of faas and faas_invoke.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		h.Function = d.Val()
	}
	if d.NextArg() {
		return d.ArgErr()
	}
	for d.NextBlock(0) {
		switch d.Val() {
		case "alexa":
			if h.Alexa != nil {
				return d.Err("alexa is given twice")
			}
			h.Alexa = new(Alexa)
			if err := h.Alexa.unmarshalCaddyfile(d); err != nil {
				return err
			}
		case "domains":
			if err := readFlag(d, &h.Domains)(); err != nil {
				return err
			}
		case "fallback":
			if h.Fallback != "" {
				return d.Err("fallback is given twice")
			}
			if !d.AllArgs(&h.Fallback) {
				return d.ArgErr()
			}
		case "wait":
			if h.Wait != 0 {
				return d.Err("wait is given twice")
			}
			wait, err := duration(d)
			if err != nil {
				return err
			}
			h.Wait = wait
		default:
			return d.Errf("unknown option %q of faas: want alexa, domains, fallback or wait", d.Val())
		}
	}
	if h.Function != "" && h.Alexa != nil {
		return d.Errf("alexa has no use where every request goes to %s", h.Function)
	}
	return h.Validate()
}

// parseApp reads the global option faas.
//
//	faas {
//		provider <name> {
//			<options of the provider>
//		}
//		data <dir>
//		functions <file>
//		watchdog <path>
//		admin_hash <file>
//		namespace <name...>
//		scale {
//			<option of Scaling> <value>
//		}
//		allow {
//			image <pattern...>
//			name <pattern...>
//			command <pattern...>
//		}
//	}
func parseApp(d *caddyfile.Dispenser, earlier any) (any, error) {
	if earlier != nil {
		return nil, d.Err("the global option faas is given twice")
	}
	d.Next()
	if d.NextArg() {
		return nil, d.ArgErr()
	}
	var a App
	given := make(map[string]bool)
	for d.NextBlock(0) {
		option := d.Val()
		if given[option] {
			return nil, d.Errf("%s is given twice", option)
		}
		given[option] = true
		block := map[string]func(*caddyfile.Dispenser) error{
			"provider": a.unmarshalProvider, "namespace": a.unmarshalNamespaces, "allow": a.unmarshalAllow, "scale": a.unmarshalScale,
		}[option]
		if block != nil {
			if err := block(d); err != nil {
				return nil, err
			}
			continue
		}
		var value string
		if !d.AllArgs(&value) || value == "" {
			return nil, d.Errf("%s: want one value", option)
		}
		switch option {
		case "data":
			a.Data = value
		case "functions":
			a.Functions = value
		case "watchdog":
			a.Watchdog = value
		case "admin_hash":
			if err := requireHash(value); err != nil {
				return nil, d.WrapErr(err)
			}
		default:
			return nil, d.Errf("unknown option %q of faas: want provider, data, functions, watchdog, admin_hash, namespace, scale or allow", option)
		}
	}
	return httpcaddyfile.App{Name: "faas", Value: caddyconfig.JSON(&a, nil)}, nil
}

func (a *App) unmarshalProvider(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.ArgErr()
	}
	name := d.Val()
	mod, err := caddyfile.UnmarshalModule(d, "faas.providers."+name)
	if err != nil {
		return err
	}
	a.ProviderRaw = caddyconfig.JSONModuleObject(mod, "provider", name, nil)
	return nil
}

func (a *App) unmarshalNamespaces(d *caddyfile.Dispenser) error {
	if a.Namespaces = d.RemainingArgs(); len(a.Namespaces) == 0 {
		return d.ArgErr()
	}
	if d.NextBlock(1) {
		return d.Errf("namespace has no block")
	}
	return a.Validate()
}

func (a *App) unmarshalScale(d *caddyfile.Dispenser) error {
	a.Scale = new(Scaling)
	return a.Scale.unmarshalCaddyfile(d)
}

func (a *App) unmarshalAllow(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.ArgErr()
	}
	a.Allow = new(Allow)
	rules := a.Allow.rules()
	for d.NextBlock(1) {
		rule := rules[d.Val()]
		if rule == nil {
			return d.Errf("unknown rule %q of allow: want image, name or command", d.Val())
		}
		patterns := d.RemainingArgs()
		if len(patterns) == 0 {
			return d.ArgErr()
		}
		*rule = append(*rule, patterns...)
	}
	return nil
}

// requireHash makes a missing admin password an error that says what to do:
// Caddy replaces {file.…} of a missing file by nothing, and basic_auth then
// says only that a password is required.
func requireHash(file string) error {
	b, err := os.ReadFile(file)
	if err == nil && len(bytes.TrimSpace(b)) == 0 {
		err = fmt.Errorf("%s is empty", file)
	}
	if err != nil {
		return fmt.Errorf("there is no admin password yet; make one with: caddy faas init (%w)", err)
	}
	return nil
}

func duration(d *caddyfile.Dispenser) (caddy.Duration, error) {
	var arg string
	option := d.Val()
	if !d.AllArgs(&arg) {
		return 0, d.ArgErr()
	}
	t, err := caddy.ParseDuration(arg)
	if err != nil || t <= 0 {
		return 0, d.Errf("%s %s: want a positive duration such as 30s", option, arg)
	}
	return caddy.Duration(t), nil
}

var _ caddyfile.Unmarshaler = (*Handler)(nil)
