package swarm

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// However many functions use a secret, they can be changed for it, and others at the same time.
func TestSecretOfManyFunctions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, e, _ := onFake(t)
		ctx, cancel := context.WithTimeout(background, time.Hour)
		defer cancel()
		secrets := []faas.Secret{{Name: "a", Namespace: faas.DefaultNamespace}, {Name: "b", Namespace: faas.DefaultNamespace}}
		for _, s := range secrets {
			must(t, e.CreateSecret(ctx, s, []byte("1")))
		}
		for n := range 8 * len(e.locks) {
			must(t, e.Create(ctx, faas.Function{ID: faas.ParseID(fmt.Sprint("f", n)), Image: "img", Secrets: []string{"a", "b"}}))
		}
		var all sync.WaitGroup
		for _, s := range secrets {
			all.Go(func() {
				if err := e.UpdateSecret(ctx, s, []byte("2")); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	})
}
