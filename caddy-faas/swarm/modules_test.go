package swarm_test

import (
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-faas/faas/caddy-faas"
)
