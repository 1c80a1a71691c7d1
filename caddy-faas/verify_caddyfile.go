package caddyfaas

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/dustin/go-humanize"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("faas_verify", parseVerify)
	httpcaddyfile.RegisterDirectiveOrder("faas_verify", httpcaddyfile.After, "forward_auth")
}

// parseVerify reads the directive faas_verify.
//
//	faas_verify [<matcher>] <scheme> {
//		secret <text>
//		secret_file <path>
//		max_body <size>
//		events <pattern...>
//		ping respond|forward
//		replay <duration>|off
//		<options of the scheme>
//	}
func parseVerify(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	v := new(Verify)
	return v, v.UnmarshalCaddyfile(h.Dispenser)
}

// UnmarshalCaddyfile reads the argument and the block of faas_verify.
func (v *Verify) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.NextArg() {
		return d.Err("want the scheme by which the sender signs, such as github")
	}
	scheme := d.Token()
	if d.NextArg() {
		return d.ArgErr()
	}
	read := v.options(d)
	given := make(map[string]bool)
	rest := []caddyfile.Token{scheme}
	for d.NextBlock(0) {
		option := d.Val()
		if read[option] == nil {
			rest = append(rest, d.NextSegment()...)
			continue
		}
		if given[option] && !strings.HasPrefix(option, "secret") {
			return d.Errf("%s is given twice", option)
		}
		given[option] = true
		if err := read[option](); err != nil {
			return err
		}
	}
	return v.unmarshalScheme(scheme.Text, rest)
}

// unmarshalScheme gives the scheme's module the options that are its own.
func (v *Verify) unmarshalScheme(name string, tokens []caddyfile.Token) error {
	if len(tokens) > 1 {
		open, end := tokens[0], tokens[len(tokens)-1]
		open.Text, end.Text = "{", "}"
		end.Line++
		tokens = append(slices.Insert(tokens, 1, open), end)
	}
	d := caddyfile.NewDispenser(tokens)
	d.Next()
	mod, err := caddyfile.UnmarshalModule(d, "faas.verifiers."+name)
	if err != nil {
		return err
	}
	v.SchemeRaw = caddyconfig.JSONModuleObject(mod, "scheme", name, nil)
	return nil
}

// options are those of every scheme.
func (v *Verify) options(d *caddyfile.Dispenser) map[string]func() error {
	return map[string]func() error{
		"secret":      readMore(d, &v.Secrets),
		"secret_file": readMore(d, &v.SecretFiles),
		"max_body": func() error {
			var arg string
			if !d.AllArgs(&arg) {
				return d.ArgErr()
			}
			n, err := humanize.ParseBytes(arg)
			if err != nil || n == 0 || n > 1<<40 {
				return d.Errf("max_body %s: want a size such as 1MiB", arg)
			}
			v.MaxBody = int64(n)
			return nil
		},
		"events": func() error {
			if v.Events = d.RemainingArgs(); len(v.Events) == 0 {
				return d.ArgErr()
			}
			return nil
		},
		"ping": func() error {
			var arg string
			if !d.AllArgs(&arg) || arg != "respond" && arg != "forward" {
				return d.Err("ping: want respond or forward")
			}
			v.ForwardPing = arg == "forward"
			return nil
		},
		"replay": func() error {
			if d.CountRemainingArgs() == 1 && d.NextArg() && d.Val() == "off" {
				v.Replay = -1
				return nil
			}
			t, err := caddy.ParseDuration(d.Val())
			if err != nil || t < time.Second || d.NextArg() {
				return d.Errf("replay: want a duration such as 24h, or off")
			}
			v.Replay = caddy.Duration(t)
			return nil
		},
	}
}

// options reads the options that are a scheme's own, each at most once.
func options(d *caddyfile.Dispenser, read map[string]func() error) error {
	d.Next()
	scheme := d.Val()
	given := make(map[string]bool)
	for d.NextBlock(0) {
		option := d.Val()
		if read[option] == nil {
			want := slices.AppendSeq(slices.Collect(maps.Keys(new(Verify).options(d))), maps.Keys(read))
			slices.Sort(want)
			return d.Errf("unknown option %q of faas_verify %s: want %s", option, scheme, strings.Join(want, ", "))
		}
		if given[option] {
			return d.Errf("%s is given twice", option)
		}
		given[option] = true
		if err := read[option](); err != nil {
			return err
		}
	}
	return nil
}

func readText(d *caddyfile.Dispenser, to *string) func() error {
	return func() error {
		option := d.Val()
		if !d.AllArgs(to) || *to == "" {
			return d.Errf("%s: want one value", option)
		}
		return nil
	}
}

func readMore(d *caddyfile.Dispenser, to *[]string) func() error {
	return func() error {
		var arg string
		if err := readText(d, &arg)(); err != nil {
			return err
		}
		*to = append(*to, arg)
		return nil
	}
}

func readDuration(d *caddyfile.Dispenser, to *caddy.Duration) func() error {
	return func() (err error) {
		*to, err = duration(d)
		return err
	}
}

var _ caddyfile.Unmarshaler = (*Verify)(nil)
