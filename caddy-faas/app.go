package caddyfaas

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"go.uber.org/zap"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

func init() {
	caddy.RegisterModule(App{})
}

// App runs functions for the handlers of this configuration. What it runs
// stays when the configuration is reloaded, as long as the provider and the
// data directory are the same.
type App struct {
	// ProviderRaw is what runs the functions: local, swarm, or a module of
	// the namespace faas.providers by someone else. Default: local.
	ProviderRaw json.RawMessage `json:"provider,omitempty" caddy:"namespace=faas.providers inline_key=provider"`

	// Data is the directory of the state that must not be lost. Default: the
	// folder faas in Caddy's data directory.
	Data string `json:"data,omitempty"`

	// Functions is the stack file, in faas-cli's format, that names the
	// functions to run. Default: none.
	Functions string `json:"functions,omitempty"`

	// Watchdog is the path of the fwatchdog binary. Default: the one beside
	// this program, then the one on PATH.
	Watchdog string `json:"watchdog,omitempty"`

	// Namespaces are those of functions besides openfaas-fn. Default: none.
	Namespaces []string `json:"namespaces,omitempty"`

	// Scale says how functions are scaled whose labels don't say otherwise. Default: by load, from 1 to 20 replicas.
	Scale *Scaling `json:"scale,omitempty"`

	// Allow says which functions may be deployed through the API. Default: as the provider says.
	Allow *Allow `json:"allow,omitempty"`

	provider Provider
	settings faas.Settings
	key      string
	engine   *engine
	group    *group       // of gateways; nil if there is one
	judge    func() error // of the whole configuration
	ctx      caddy.Context
	events   *caddyevents.App
}

// Provider is a module of the namespace faas.providers. Its options live in
// the module; the provider that it opens outlives the configuration.
type Provider interface {
	// Identity names what must exist only once, such as a data directory or an engine's address.
	Identity(faas.Settings) string
	// Open returns the provider. It touches nothing outside the program.
	Open(faas.Settings, *zap.Logger) faas.Provider
	// Apply makes the provider obey this module's options and the settings, and
	// starts it the first time. After an error it still obeys the earlier ones.
	Apply(context.Context, faas.Provider, faas.Settings) error
}

// engines are shared by all configurations that are alive, by provider and identity.
var engines = caddy.NewUsagePool()

// CaddyModule returns the module's ID and constructor.
func (App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "faas", New: func() caddy.Module { return new(App) }}
}

// Provision loads the provider's module. It does no I/O.
func (a *App) Provision(ctx caddy.Context) error {
	if a.ProviderRaw == nil {
		a.ProviderRaw = json.RawMessage(`{"provider":"local"}`)
	}
	mod, err := ctx.LoadModule(a, "ProviderRaw")
	if err != nil {
		return fmt.Errorf("loading the provider: %w", err)
	}
	p, ok := mod.(Provider)
	if !ok {
		return fmt.Errorf("module %T is no provider of functions", mod)
	}
	a.provider = p
	if a.settings, err = a.resolve(); err != nil {
		return err
	}
	if a.group, err = a.Scale.group(); err != nil {
		return err
	}
	if err := registerMetrics(ctx.GetMetricsRegistry()); err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	name := mod.(caddy.Module).CaddyModule().ID.Name()
	key := name + " " + p.Identity(a.settings)
	v, _, err := engines.LoadOrNew(key, func() (caddy.Destructor, error) {
		log := zap.New(liveCore{}).Named("faas")
		return newEngine(p.Open(a.settings, log), name, log)
	})
	if err != nil {
		return err
	}
	a.key, a.engine = key, v.(*engine)
	a.ctx = ctx
	events, err := ctx.App("events")
	if err != nil {
		return err
	}
	a.events = events.(*caddyevents.App)
	a.judge = func() error { return requireVerified(ctx) } // the app http has yet to be made
	return nil
}

// resolve gives the settings their defaults and makes paths absolute: they must mean the same after a reload.
func (a *App) resolve() (faas.Settings, error) {
	s := faas.Settings{Data: a.Data, Functions: a.Functions, Watchdog: a.Watchdog}
	if s.Data == "" {
		s.Data = filepath.Join(caddy.AppDataDir(), "faas")
	}
	for _, p := range []*string{&s.Data, &s.Functions, &s.Watchdog} {
		if *p == "" {
			continue
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return s, fmt.Errorf("resolving %q: %w", *p, err)
		}
		*p = abs
	}
	return s, nil
}

// Validate refuses namespaces that no function can have, and numbers that mean nothing.
func (a *App) Validate() error {
	for _, name := range a.Namespaces {
		if err := (faas.ID{Name: "x", Namespace: name}).Validate(); err != nil {
			return err
		}
	}
	return a.Scale.validate()
}

// namespaces are all that functions can be deployed to.
func (a *App) namespaces() []string {
	all := append([]string{faas.DefaultNamespace}, a.Namespaces...)
	slices.Sort(all[1:])
	return slices.Compact(all)
}

// Start applies this configuration's options to the provider, unless the
// configuration lets anybody call functions as Alexa.
func (a *App) Start() error {
	if err := a.judge(); err != nil {
		return err
	}
	return a.engine.start(a)
}

// Stop hands the provider to the configuration that replaces this one, or back
// to the earlier one if this one is given up. Functions go on: requests may
// still be under way, and Cleanup comes later.
func (a *App) Stop() error { return a.engine.stop(a) }

// Cleanup ends the functions when no other configuration uses them.
func (a *App) Cleanup() error {
	if a.engine == nil {
		return nil
	}
	_, err := engines.Delete(a.key)
	return err
}

// app returns the app of a configuration, with defaults if the configuration doesn't name it.
func app(ctx caddy.Context) (*App, error) {
	v, err := ctx.App("faas")
	if err != nil {
		return nil, err
	}
	a, ok := v.(*App)
	if !ok {
		return nil, errors.New("app faas is of another module")
	}
	return a, nil
}

var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.Validator    = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
