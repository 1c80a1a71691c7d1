package caddyfaas

import (
	_ "github.com/caddy-faas/faas/caddy-faas/handover" // listener wrapper faas_handover
	_ "github.com/caddy-faas/faas/caddy-faas/local"    // provider local
	_ "github.com/caddy-faas/faas/caddy-faas/swarm"    // provider swarm
)
