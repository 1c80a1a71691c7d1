package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// secrets is the folder of the values: a file NAME.NS each.
type secrets string

func (s secrets) path(secret faas.Secret) string { return filepath.Join(string(s), secret.String()) }

func (s secrets) has(secret faas.Secret) bool {
	_, err := os.Lstat(s.path(secret))
	return err == nil
}

// parseSecret reads a file's name. A namespace has no dot.
func parseSecret(file string) (faas.Secret, bool) {
	i := max(strings.LastIndexByte(file, '.'), 0)
	s := faas.Secret{Name: file[:i], Namespace: strings.TrimPrefix(file[i:], ".")}
	return s, s.Validate() == nil
}

// Secrets names all; none before the first Apply.
func (e *Engine) Secrets(ctx context.Context) (all []faas.Secret, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(string(e.secrets))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading secrets: %w", err)
	}
	for _, entry := range entries {
		if s, ok := parseSecret(entry.Name()); ok {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b faas.Secret) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return all, nil
}

// ReadSecret returns a value.
func (e *Engine) ReadSecret(ctx context.Context, s faas.Secret) ([]byte, error) {
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", faas.ErrInvalid, err)
	}
	value, err := os.ReadFile(e.secrets.path(s))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("secret %s: %w", s, faas.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("reading secret %s: %w", s, err)
	}
	return value, ctx.Err()
}

// CreateSecret keeps a new secret. Functions of the stack file that wait for it start.
func (e *Engine) CreateSecret(ctx context.Context, s faas.Secret, value []byte) error {
	return e.keepSecret(ctx, s, value, "creating", func(there bool) error {
		if there {
			return faas.ErrExists
		}
		return nil
	})
}

// UpdateSecret replaces a value and rolls the functions that use it.
func (e *Engine) UpdateSecret(ctx context.Context, s faas.Secret, value []byte) error {
	return e.keepSecret(ctx, s, value, "updating", func(there bool) error {
		if !there {
			return faas.ErrNotFound
		}
		return nil
	})
}

func (e *Engine) keepSecret(ctx context.Context, s faas.Secret, value []byte, doing string, allowed func(there bool) error) error {
	doing += " secret"
	if err := s.Check(value); err != nil {
		return fmt.Errorf("%s %s: %w", doing, s, err)
	}
	return e.change(ctx, s, doing, func() error {
		if err := allowed(e.secrets.has(s)); err != nil {
			return err
		}
		if err := keepFile(string(e.secrets), s.String(), value); err != nil {
			return err
		}
		e.log.Info("secret kept", zap.Stringer("secret", s))
		return e.rollUsers(s)
	})
}

// rollUsers gives the functions that name a secret its present value. It is
// called with e.op held. A crash before it makes no difference: at the next start
// every process gets the present value.
func (e *Engine) rollUsers(s faas.Secret) error {
	var errs []error
	for _, f := range e.all() {
		f.op.Acquire(context.Background(), 1)
		if rec := f.record(); rec.Function.Uses(s) {
			errs = append(errs, f.replace(rec, rec.Function))
		}
		f.op.Release(1)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("the value is kept, but not every function has it yet: %w", err)
	}
	return nil
}

// RemoveSecret deletes a secret. One that an earlier version of a function still
// serves with is in use, too: it could not be started again.
func (e *Engine) RemoveSecret(ctx context.Context, s faas.Secret) error {
	if err := s.Validate(); err != nil {
		return fmt.Errorf("removing secret %s: %w: %w", s, faas.ErrInvalid, err)
	}
	return e.change(ctx, s, "removing secret", func() error {
		if !e.secrets.has(s) {
			return faas.ErrNotFound
		}
		var users []string
		for _, f := range e.all() {
			if now, before := f.uses(s); now {
				users = append(users, f.id.String())
			} else if before {
				users = append(users, f.id.String()+" (its earlier version, which serves until the new one does)")
			}
		}
		if len(users) > 0 {
			slices.Sort(users)
			return fmt.Errorf("%w by %s", faas.ErrInUse, strings.Join(users, ", "))
		}
		if err := dropFile(string(e.secrets), s.String()); err != nil {
			return err
		}
		e.log.Info("secret removed", zap.Stringer("secret", s))
		return nil
	})
}

// uses tells whether the function's present version and one that still runs name a secret.
func (f *function) uses(s faas.Secret) (now, before bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rec.Function.Uses(s), slices.ContainsFunc(f.replicas, func(r *replica) bool {
		return !r.leaving && !r.ended && r.rec.Function.Uses(s)
	})
}

// secretsOf are those that a function names, each once.
func secretsOf(fn faas.Function) (all []faas.Secret) {
	for _, name := range fn.Secrets {
		if s := (faas.Secret{Name: name, Namespace: fn.Namespace}); !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

// absent reports secrets that a function names and that don't exist.
func (e *Engine) absent(fn faas.Function) error {
	var names []string
	for _, s := range secretsOf(fn) {
		if !e.secrets.has(s) {
			names = append(names, s.Name)
		}
	}
	if len(names) > 0 {
		return fmt.Errorf("no such secret in namespace %s: %s: create it with POST /system/secrets or faas-cli secret create", fn.Namespace, strings.Join(names, ", "))
	}
	return nil
}

// possible reports what a function needs and this machine doesn't have at present.
func (e *Engine) possible(fn faas.Function) error {
	_, err := resolve(fn)
	if err == nil {
		err = e.absent(fn)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", faas.ErrInvalid, err)
	}
	return nil
}

// copySecrets makes a folder with a function's secrets that its user alone can read: for processes without mounts of their own.
func (e *Engine) copySecrets(fn faas.Function, dir string, who *owner) error {
	give := func(path string) error {
		if who == nil {
			return nil
		}
		return os.Chown(path, who.uid, who.gid)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for _, s := range secretsOf(fn) {
		path := filepath.Join(dir, s.Name)
		value, err := os.ReadFile(e.secrets.path(s))
		if err == nil {
			err = os.WriteFile(path, value, 0o400)
		}
		if err == nil {
			err = give(path)
		}
		if err != nil {
			return err
		}
	}
	return errors.Join(os.Chmod(dir, 0o500), give(dir))
}
