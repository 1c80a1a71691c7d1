// Command caddy is Caddy with its standard modules and this project's: what
// xcaddy.sh builds with xcaddy, for plain `go build`, tests and debuggers.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-faas/faas/caddy-faas"
)

func main() { caddycmd.Main() }
