package swarm

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

func parse(text string) (*Provider, error) {
	p := new(Provider)
	err := p.UnmarshalCaddyfile(caddyfile.NewTestDispenser("swarm {\n" + text + "\n}"))
	if err == nil {
		err = p.Validate()
	}
	return p, err
}

func TestCaddyfile(t *testing.T) {
	p, err := parse(`endpoint tcp://h:2376
		network n
		registry_auth config.json
		require_registry a/ b/
		require_digest
		endpoint_mode vip
		log_driver local max-size=1m max-file=2
		user 1:2
		cap_drop ALL NET_RAW
		restart_delay 2s`)
	must(t, err)
	got, err := json.Marshal(p)
	must(t, err)
	want := `{"endpoint":"tcp://h:2376","network":"n","registry_auth":"config.json","require_registry":["a/","b/"],"require_digest":true,"endpoint_mode":"vip",` +
		`"log_driver":"local","log_options":{"max-file":"2","max-size":"1m"},"user":"1:2","cap_drop":["ALL","NET_RAW"],"restart_delay":2000000000}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for bad, want := range map[string]string{
		"bogus x": "unknown option", "network": "number of values", "network a b": "number of values", "network a\nnetwork b": "twice", "require_digest yes": "number of values",
		"endpoint_mode x": "dnsrr or vip", "log_driver x y": "NAME=VALUE", "restart_delay x": "duration", "cap_drop": "number of values",
	} {
		if _, err := parse(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestIdentityOfEngine(t *testing.T) {
	t.Setenv("DOCKER_HOST", "")
	a, b, c := &Provider{}, &Provider{Network: "functions", Endpoint: "unix:///var/run/docker.sock", User: "1"}, &Provider{Network: "x"}
	if a.Identity(faas.Settings{}) != b.Identity(faas.Settings{}) || a.Identity(faas.Settings{}) == c.Identity(faas.Settings{}) {
		t.Errorf("%q, %q, %q", a.Identity(faas.Settings{}), b.Identity(faas.Settings{}), c.Identity(faas.Settings{}))
	}
	if o := optionsOf(t, *a); o.network != "functions" || o.endpointMode != "dnsrr" || o.restartDelay != time.Second {
		t.Errorf("%+v", o)
	}
}
