package caddyfaas

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// unmarshalCaddyfile reads the block of faas' option alexa.
//
//	alexa {
//		intent <name|prefix*> <function>
//		launch <function>
//		session_ended <function>
//		fallback <function>
//		on_error <sentence> {
//			<language> <sentence>
//		}
//		wrap_text
//		timeout <duration>
//		insecure_skip_verify
//	}
func (a *Alexa) unmarshalCaddyfile(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.ArgErr()
	}
	read := map[string]func() error{
		"launch": readText(d, &a.Launch), "session_ended": readText(d, &a.SessionEnded), "fallback": readText(d, &a.Fallback),
		"wrap_text": readFlag(d, &a.WrapText), "insecure_skip_verify": readFlag(d, &a.InsecureSkipVerify), "timeout": readDuration(d, &a.Timeout),
		"intent": func() error { return a.unmarshalIntent(d) }, "on_error": func() error { return a.unmarshalOnError(d) },
	}
	given := make(map[string]bool)
	for d.NextBlock(1) {
		option := d.Val()
		if read[option] == nil {
			return d.Errf("unknown option %q of alexa: want intent, launch, session_ended, fallback, on_error, wrap_text, timeout or insecure_skip_verify", option)
		}
		if given[option] && option != "intent" {
			return d.Errf("%s is given twice", option)
		}
		given[option] = true
		if err := read[option](); err != nil {
			return err
		}
	}
	return nil
}

func (a *Alexa) unmarshalIntent(d *caddyfile.Dispenser) error {
	var intent, function string
	if !d.AllArgs(&intent, &function) {
		return d.ArgErr()
	}
	if _, ok := a.Intents[intent]; ok {
		return d.Errf("intent %s is given twice", intent)
	}
	if a.Intents == nil {
		a.Intents = make(map[string]string)
	}
	a.Intents[intent] = function
	return nil
}

func (a *Alexa) unmarshalOnError(d *caddyfile.Dispenser) error {
	a.OnError = make(map[string]string)
	if d.NextArg() {
		a.OnError[""] = d.Val()
	}
	if d.NextArg() {
		return d.ArgErr()
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		language := d.Val()
		var sentence string
		if !d.AllArgs(&sentence) {
			return d.ArgErr()
		}
		if a.OnError[language] != "" {
			return d.Errf("on_error: %s is given twice", language)
		}
		a.OnError[language] = sentence
	}
	if len(a.OnError) == 0 {
		return d.Err("on_error: want a sentence")
	}
	return nil
}

func readFlag(d *caddyfile.Dispenser, to *bool) func() error {
	return func() error {
		if d.NextArg() {
			return d.ArgErr()
		}
		*to = true
		return nil
	}
}
