package swarm

import (
	"testing"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/internal/faastest"
)

func TestContract(t *testing.T) {
	faastest.Contract(t, func(t *testing.T) (faas.Provider, faas.Function) {
		r := begin(t, new(Provider))
		return r.Engine, r.fn("f", "cat")
	})
}
