package faastest

import (
	"testing"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

func TestMemory(t *testing.T) {
	Contract(t, func(*testing.T) (faas.Provider, faas.Function) {
		return new(Memory), faas.Function{
			ID:      faas.ID{Name: "f", Namespace: faas.DefaultNamespace},
			Process: "cat", Env: map[string]string{"a": "b"},
		}
	})
}
