package local

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

func init() { caddy.RegisterModule(Provider{}) }

// Provider runs functions as processes of this machine, each behind a
// watchdog of its own.
type Provider struct {
	// User is who functions run as: a name, a number, or root. A change holds
	// for processes started later. Default: when the gateway is root, a user of
	// its own for each function; otherwise the gateway's, and nothing else is
	// possible.
	User string `json:"user,omitempty"`
	// LogLines is how many lines of its log are kept for each function. Default: 1000.
	LogLines int `json:"log_lines,omitempty"`
	// Images maps names of images to folders: a function that is deployed with
	// such an image runs in that folder, and without a command its ./handler.
	Images map[string]string `json:"images,omitempty"`
	// Watch says whether changes of the stack file and of functions' folders
	// are applied within a second or so of being made, without a reload.
	// Default: true.
	Watch *bool `json:"watch,omitempty"`
	// Limits are those of functions that name none themselves.
	Limits Limits `json:"limits,omitzero"`
}

// CaddyModule says what this module is.
func (Provider) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "faas.providers.local", New: func() caddy.Module { return new(Provider) }}
}

// UnmarshalCaddyfile reads
//
//	local {
//		user <name|uid|root>
//		log_lines <n>
//		image <name> <folder>
//		watch <on|off>
//		limits {
//			memory <quantity>
//			cpu <quantity>
//			open_files <n>
//			processes <n>
//			request <quantity>
//			response <quantity>
//		}
//	}
func (p *Provider) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the provider's name
	if d.NextArg() {
		return d.ArgErr()
	}
	for d.NextBlock(0) {
		option := d.Val()
		if option == "image" {
			if err := p.unmarshalImage(d); err != nil {
				return err
			}
			continue
		}
		if option == "limits" {
			if err := p.Limits.unmarshal(d); err != nil {
				return err
			}
			continue
		}
		var value string
		if !d.AllArgs(&value) {
			return d.ArgErr()
		}
		switch option {
		case "user":
			p.User = value
		case "log_lines":
			n, err := strconv.Atoi(value)
			if err != nil || n < 1 {
				return d.Errf("log_lines %q: want a number from 1", value)
			}
			p.LogLines = n
		case "watch":
			on := value == "on"
			if !on && value != "off" {
				return d.Errf("watch %q: want on or off", value)
			}
			p.Watch = &on
		default:
			return d.Errf("unknown option %q of the local provider: want user, log_lines, image, watch or limits", option)
		}
	}
	return nil
}

func (p *Provider) unmarshalImage(d *caddyfile.Dispenser) error {
	var name, folder string
	if !d.AllArgs(&name, &folder) {
		return d.ArgErr()
	}
	if _, twice := p.Images[name]; twice {
		return d.Errf("image %s is given twice", name)
	}
	if p.Images == nil {
		p.Images = map[string]string{}
	}
	p.Images[name] = folder
	return nil
}

// Validate refuses numbers that mean nothing.
func (p *Provider) Validate() error {
	if p.LogLines < 0 {
		return fmt.Errorf("log_lines %d: want a number from 1", p.LogLines)
	}
	_, err := p.Limits.parse()
	return err
}

// Identity names what must exist only once: the data directory.
func (p *Provider) Identity(s faas.Settings) string { return "local:" + filepath.Clean(s.Data) }

// Open returns the engine; it touches nothing outside.
func (p *Provider) Open(s faas.Settings, log *zap.Logger) faas.Provider {
	return newEngine(filepath.Clean(s.Data), log)
}

// Apply makes an engine of Open obey this module's options and the settings;
// the first call starts it. On error the earlier options stay in force.
func (p *Provider) Apply(ctx context.Context, e faas.Provider, s faas.Settings) error {
	engine, ok := e.(*Engine)
	if !ok {
		return fmt.Errorf("local provider: engine is a %T", e)
	}
	user, err := lookUp(p.User)
	if err != nil {
		return fmt.Errorf("local provider: %w", err)
	}
	bounds, err := p.Limits.parse()
	if err != nil {
		return fmt.Errorf("local provider: %w", err)
	}
	next := options{user: user, logLines: p.LogLines, images: map[string]string{}, watch: p.Watch == nil || *p.Watch, limits: bounds}
	for name, folder := range p.Images {
		if next.images[name], err = filepath.Abs(folder); err != nil {
			return fmt.Errorf("local provider: image %s: %w", name, err)
		}
	}
	if next.logLines == 0 {
		next.logLines = 1000
	}
	if err := engine.apply(ctx, next, s); err != nil {
		return fmt.Errorf("local provider: %w", err)
	}
	return nil
}

var (
	_ caddy.Validator       = (*Provider)(nil)
	_ caddyfile.Unmarshaler = (*Provider)(nil)
)
