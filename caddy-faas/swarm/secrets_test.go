package swarm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// What people make with Docker's client can be given to functions; what gateways have can't.
func TestSecretOfOthers(t *testing.T) {
	f, e, _ := onFake(t)
	for name, labels := range map[string]map[string]string{"theirs": nil, "faas-admin-password-0123456789ab": {labelOwn: "faas"}} {
		_, err := f.createSecret(background, swarm.SecretSpec{Annotations: swarm.Annotations{Name: name, Labels: labels}, Data: []byte("x")})
		must(t, err)
		err = e.Create(background, faas.Function{ID: faas.ParseID("f-" + name), Image: "img", Secrets: []string{name}})
		if own := labels != nil; errors.Is(err, faas.ErrInvalid) != own || !own && err != nil {
			t.Errorf("a function with the secret %s: %v", name, err)
		}
	}
}

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
