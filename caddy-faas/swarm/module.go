package swarm

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

func init() { caddy.RegisterModule(Provider{}) }

// Provider runs functions as services of a Docker swarm. The gateway must be
// a container on the functions' network, with the API of a manager's engine.
// A change of its options holds for functions deployed or updated later.
type Provider struct {
	// Endpoint is the address of a manager's Docker engine, such as
	// unix:///var/run/docker.sock or tcp://host:2376. Default: what DOCKER_HOST
	// says, then that socket. DOCKER_CERT_PATH and DOCKER_TLS_VERIFY hold for either.
	Endpoint string `json:"endpoint,omitempty"`
	// Network is the overlay network that functions and gateway share: a service
	// that isn't on it is no function of this gateway. Default: functions.
	Network string `json:"network,omitempty"`
	// RegistryAuth is a Docker config.json with the credentials of private
	// registries, read at each deployment. Default: none.
	RegistryAuth string `json:"registry_auth,omitempty"`
	// RequireRegistry lists the beginnings of images that may be deployed, such
	// as registry.example.com/team/. Default: any.
	RequireRegistry []string `json:"require_registry,omitempty"`
	// RequireDigest allows images only that are named with their digest. Default: false.
	RequireDigest bool `json:"require_digest,omitempty"`
	// EndpointMode is dnsrr, by which a function's name means its replicas'
	// addresses, or vip. Default: dnsrr.
	EndpointMode string `json:"endpoint_mode,omitempty"`
	// LogDriver is the log driver of functions, and LogOptions are its options.
	// Reading logs here needs json-file, local or journald. Default: the engine's.
	LogDriver  string            `json:"log_driver,omitempty"`
	LogOptions map[string]string `json:"log_options,omitempty"`
	// User is who functions run as that don't say it themselves. Default: the image's.
	User string `json:"user,omitempty"`
	// CapDrop are capabilities that functions do without, unless they say otherwise. Default: none.
	CapDrop []string `json:"cap_drop,omitempty"`
	// RestartDelay is how long after its end a replica is started again. Default: 1s.
	RestartDelay *caddy.Duration `json:"restart_delay,omitempty"`

	docker cluster
}

// CaddyModule says what this module is.
func (Provider) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "faas.providers.swarm", New: func() caddy.Module { return new(Provider) }}
}

// UnmarshalCaddyfile reads
//
//	swarm {
//		endpoint <address>
//		network <name>
//		registry_auth <file>
//		require_registry <prefix...>
//		require_digest
//		endpoint_mode <dnsrr|vip>
//		log_driver <name> [<option>=<value>...]
//		user <user>
//		cap_drop <capability...>
//		restart_delay <duration>
//	}
func (p *Provider) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the provider's name
	if d.NextArg() {
		return d.ArgErr()
	}
	given := map[string]bool{}
	for d.NextBlock(0) {
		option, args := d.Val(), d.RemainingArgs()
		if given[option] {
			return d.Errf("%s is given twice", option)
		}
		given[option] = true
		if err := p.set(option, args); err != nil {
			return d.WrapErr(err)
		}
	}
	return nil
}

// set reads one option of a Caddyfile.
func (p *Provider) set(option string, args []string) (err error) {
	texts := map[string]*string{
		"endpoint": &p.Endpoint, "network": &p.Network, "registry_auth": &p.RegistryAuth, "endpoint_mode": &p.EndpointMode, "user": &p.User,
	}
	lists := map[string]*[]string{"require_registry": &p.RequireRegistry, "cap_drop": &p.CapDrop}
	text, list := texts[option], lists[option]
	switch {
	case text != nil && len(args) == 1 && args[0] != "":
		*text = args[0]
	case list != nil && len(args) > 0:
		*list = args
	case option == "require_digest" && len(args) == 0:
		p.RequireDigest = true
	case option == "log_driver" && len(args) > 0:
		p.LogDriver = args[0]
		p.LogOptions, err = pairs(args[1:])
	case option == "restart_delay" && len(args) == 1:
		delay, bad := caddy.ParseDuration(args[0])
		if bad != nil || delay < 0 {
			return fmt.Errorf("restart_delay %q: want a duration such as 1s", args[0])
		}
		p.RestartDelay = (*caddy.Duration)(&delay)
	case text != nil, list != nil, option == "require_digest", option == "log_driver", option == "restart_delay":
		return fmt.Errorf("%s: wrong number of values", option)
	default:
		return fmt.Errorf("unknown option %q of the swarm provider: want endpoint, network, registry_auth, require_registry, require_digest, "+
			"endpoint_mode, log_driver, user, cap_drop or restart_delay", option)
	}
	return err
}

// pairs reads NAME=VALUE.
func pairs(args []string) (map[string]string, error) {
	var all map[string]string
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("log_driver: option %q: want NAME=VALUE", arg)
		}
		if all == nil {
			all = map[string]string{}
		}
		all[name] = value
	}
	return all, nil
}

// Provision replaces placeholders such as {env.NAME}. It makes a client, and no connection.
func (p *Provider) Provision(caddy.Context) (err error) {
	repl := caddy.NewReplacer()
	for _, text := range []*string{&p.Endpoint, &p.Network, &p.RegistryAuth} {
		*text = repl.ReplaceAll(*text, "")
	}
	p.docker, err = newDocker(p.Endpoint)
	return err
}

// Validate refuses what means nothing.
func (p *Provider) Validate() error {
	if p.EndpointMode != "" && p.EndpointMode != modeDNS && p.EndpointMode != modeVIP {
		return fmt.Errorf("endpoint_mode %q: want %s or %s", p.EndpointMode, modeDNS, modeVIP)
	}
	if p.LogDriver == "" && len(p.LogOptions) > 0 {
		return fmt.Errorf("log_options without a log_driver")
	}
	return nil
}

// Identity names what must exist only once: what is known of one network of one engine.
func (p *Provider) Identity(faas.Settings) string {
	return "swarm:" + cmp.Or(p.Endpoint, os.Getenv("DOCKER_HOST"), defaultEndpoint) + " " + p.network()
}

func (p *Provider) network() string {
	if p.Network != "" {
		return p.Network
	}
	return "functions"
}

// Open returns the engine; it touches nothing outside.
func (p *Provider) Open(_ faas.Settings, log *zap.Logger) faas.Provider {
	return newEngine(p.docker, p.network(), log)
}

// Apply makes an engine of Open obey this module's options. It dials nothing:
// the engine may be away while the gateway starts.
func (p *Provider) Apply(_ context.Context, e faas.Provider, s faas.Settings) error {
	engine, ok := e.(*Engine)
	if !ok {
		return fmt.Errorf("swarm provider: engine is a %T", e)
	}
	next, err := p.options()
	if err != nil {
		return fmt.Errorf("swarm provider: %w", err)
	}
	engine.opt.Store(next)
	if _, err := os.Stat(s.Functions); err == nil { // the shipped Caddyfile names one, of which containers have none
		engine.log.Info("the stack file is not deployed to the swarm by the gateway: use faas-cli deploy or docker stack deploy", zap.String("file", s.Functions))
	}
	return nil
}

var (
	_ caddy.Provisioner     = (*Provider)(nil)
	_ caddy.Validator       = (*Provider)(nil)
	_ caddyfile.Unmarshaler = (*Provider)(nil)
)
