package local

import (
	"testing"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// A command that may be run is not made another one by its environment.
func TestSteeringVariables(t *testing.T) {
	e := new(Engine)
	named := faas.Function{Image: "tools", Env: map[string]string{"fprocess": "tar -c .", "LANG": "C"}}
	e.offers.Store(newCatalog(nil, []faas.Function{named}))
	for name, allowed := range map[string]bool{
		"GREETING": true, "verbose": true, "GITHUB_USER": true, "PHONE": true, "LD_PRELOAD": false, "TAR_OPTIONS": false, "MAKEFLAGS": false, "GIT_SSH_COMMAND": false,
		"LUA_INIT": false, "ERL_FLAGS": false, "PHPRC": false, "OPENSSL_CONF": false, "GCONV_PATH": false, "RSYNC_RSH": false, "PAGER": false,
	} {
		fn := faas.Function{Image: "tools", Env: map[string]string{"fprocess": "tar -c .", name: "x"}}
		if err := e.Allowed(fn, true, true); (err == nil) != allowed {
			t.Errorf("%s: %v, want it allowed: %t", name, err, allowed)
		}
	}
}
