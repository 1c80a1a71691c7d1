package caddyfaas

import (
	_ "github.com/caddy-faas/faas/caddy-faas/local" // provider local
)
