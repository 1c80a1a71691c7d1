package faastest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// Secret is the value of a secret; nil when there is none.
func (m *Memory) Secret(s faas.Secret) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.secrets[s]
}

// Secrets names all.
func (m *Memory) Secrets(ctx context.Context) ([]faas.Secret, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.SortedFunc(maps.Keys(m.secrets), func(a, b faas.Secret) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	}), ctx.Err()
}

// CreateSecret keeps a new secret.
func (m *Memory) CreateSecret(ctx context.Context, s faas.Secret, value []byte) error {
	return m.putSecret(ctx, s, value, false)
}

// UpdateSecret replaces a value, and the replicas of the functions that use it.
func (m *Memory) UpdateSecret(ctx context.Context, s faas.Secret, value []byte) error {
	return m.putSecret(ctx, s, value, true)
}

func (m *Memory) putSecret(ctx context.Context, s faas.Secret, value []byte, update bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := cmp.Or(ctx.Err(), s.Check(value)); err != nil {
		return err
	}
	switch _, there := m.secrets[s]; {
	case there && !update:
		return faas.ErrExists
	case !there && update:
		return faas.ErrNotFound
	}
	if m.secrets == nil {
		m.secrets = map[faas.Secret][]byte{}
	}
	m.secrets[s] = bytes.Clone(value)
	for _, d := range m.functions {
		if d.Uses(s) {
			d.Replicas = nil
			m.set(m.settle(d))
		}
	}
	return nil
}

// RemoveSecret deletes a secret that no function uses.
func (m *Memory) RemoveSecret(ctx context.Context, s faas.Secret) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if _, there := m.secrets[s]; !there {
		return faas.ErrNotFound
	}
	var users []string
	for id, d := range m.functions {
		if d.Uses(s) {
			users = append(users, id.String())
		}
	}
	if len(users) > 0 {
		slices.Sort(users)
		return fmt.Errorf("%w by %s", faas.ErrInUse, strings.Join(users, ", "))
	}
	delete(m.secrets, s)
	return nil
}

// secrets tests what a SecretStore owes its callers beside the files themselves.
func secrets(t *testing.T, p faas.Provider, fn faas.Function) {
	store, ok := p.(faas.SecretStore)
	if !ok {
		t.Skipf("%T keeps no secrets", p)
	}
	want := func(err, target error) {
		t.Helper()
		if !errors.Is(err, target) || err != nil && strings.Contains(err.Error(), "value-of") {
			t.Errorf("got %v, want %v", err, target)
		}
	}
	listed := func(all ...faas.Secret) {
		t.Helper()
		got, err := store.Secrets(background)
		must(t, err)
		if !slices.Equal(got, all) {
			t.Errorf("secrets are %v, want %v", got, all)
		}
	}
	value := []byte("value-of\x00\xff\n")
	a, b, other := faas.Secret{Name: "api.key", Namespace: fn.Namespace}, faas.Secret{Name: "b", Namespace: fn.Namespace}, faas.Secret{Name: "api.key", Namespace: "other"}

	listed()
	want(store.UpdateSecret(background, a, value), faas.ErrNotFound)
	want(store.RemoveSecret(background, a), faas.ErrNotFound)
	for _, bad := range []faas.Secret{{Name: "..", Namespace: "ns"}, {Name: "a/b", Namespace: "ns"}, {Namespace: "ns"}, {Name: "a", Namespace: ".."}, {Name: "a"}} {
		want(store.CreateSecret(background, bad, value), faas.ErrInvalid)
		if store.UpdateSecret(background, bad, value) == nil || store.RemoveSecret(background, bad) == nil {
			t.Errorf("secret %q was there", bad)
		}
	}
	want(store.CreateSecret(background, a, nil), faas.ErrInvalid)
	want(store.CreateSecret(background, a, make([]byte, faas.MaxSecret+1)), faas.ErrInvalid)
	for _, s := range []faas.Secret{b, other, a} {
		must(t, store.CreateSecret(background, s, value))
	}
	if reader, ok := p.(faas.SecretReader); ok {
		got, err := reader.ReadSecret(background, a)
		if must(t, err); !bytes.Equal(got, value) {
			t.Errorf("read %q, want %q", got, value)
		}
		_, err = reader.ReadSecret(background, faas.Secret{Name: "absent", Namespace: fn.Namespace})
		want(err, faas.ErrNotFound)
		_, err = reader.ReadSecret(background, faas.Secret{Name: "..", Namespace: "x"})
		want(err, faas.ErrInvalid)
	}
	want(store.CreateSecret(background, a, value), faas.ErrExists)
	want(store.UpdateSecret(background, a, nil), faas.ErrInvalid)
	must(t, store.UpdateSecret(background, b, make([]byte, faas.MaxSecret)))
	listed(a, b, other)

	fn.Secrets = []string{"absent"}
	err := p.Create(background, fn)
	want(err, faas.ErrInvalid)
	if err == nil || !strings.Contains(err.Error(), "absent") {
		t.Errorf("the missing secret is not named: %v", err)
	}
	fn.Secrets = []string{a.Name}
	r := Record(t, p, nil)
	must(t, p.Create(background, fn))
	first := r.UntilReady(t, fn.ID, 1)[0]
	wrong := fn
	wrong.Secrets = []string{a.Name, "absent"}
	want(p.Update(background, wrong), faas.ErrInvalid)
	if d := get(t, p, fn.ID); !slices.Equal(d.Secrets, fn.Secrets) {
		t.Errorf("secrets after a refused update: %q", d.Secrets)
	}

	must(t, store.UpdateSecret(background, a, []byte("value-of new")))
	r.Until(t, "a new replica", func(now map[faas.ID]faas.Deployment) bool {
		d := now[fn.ID]
		return Ready(d) == 1 && len(d.Replicas) == 1 && d.Replicas[0].ID != first.ID
	})
	must(t, store.RemoveSecret(background, b))
	must(t, store.RemoveSecret(background, other))
	err = store.RemoveSecret(background, a)
	want(err, faas.ErrInUse)
	if err == nil || !strings.Contains(err.Error(), fn.ID.String()) {
		t.Errorf("the user of the secret is not named: %v", err)
	}
	listed(a)

	ctx, cancel := context.WithCancel(background)
	cancel()
	for call, err := range map[string]error{
		"CreateSecret": store.CreateSecret(ctx, b, value), "UpdateSecret": store.UpdateSecret(ctx, a, value), "RemoveSecret": store.RemoveSecret(ctx, a),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s with an ended context: %v", call, err)
		}
	}
	must(t, p.Remove(background, fn.ID))
	must(t, store.RemoveSecret(background, a))
	listed()
}
