package caddyfaas

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-faas/faas/caddy-faas/verify"
)

// maxSecretFile bounds a file with a secret, in bytes.
const maxSecretFile = 64 << 10

// keyring has the scheme for the present secrets.
type keyring struct {
	load   func() ([][]byte, error)
	make   func([][]byte) (verify.Scheme, error)
	log    *zap.Logger
	latest atomic.Pointer[keys]

	mu      sync.Mutex
	checked time.Time
	failed  string // of the last try
}

// keys are never changed once they are published. They must not be logged.
type keys struct {
	secrets [][]byte
	scheme  verify.Scheme
}

// secret is the one at a place; nil for a scheme without any.
func (k *keys) secret(i int) []byte {
	if i >= len(k.secrets) {
		return nil
	}
	return k.secrets[i]
}

// newKeyring makes the scheme for the secrets that load returns, of which none
// may be missing or empty. Errors don't tell any.
func newKeyring(load func() ([][]byte, error), scheme func([][]byte) (verify.Scheme, error), log *zap.Logger) (*keyring, error) {
	k := &keyring{load: load, make: scheme, log: log, checked: time.Now()}
	first, err := k.read()
	if err != nil {
		return nil, err
	}
	k.latest.Store(first)
	return k, nil
}

// read makes keys of the secrets as they are now.
func (k *keyring) read() (*keys, error) {
	all, err := k.load()
	if err != nil {
		return nil, err
	}
	scheme, err := k.make(all)
	if err != nil {
		return nil, err
	}
	return &keys{all, scheme}, nil
}

// loadSecrets returns what reads the secrets of a configuration. The texts are replaced once, the files read each time.
func loadSecrets(texts, files []string) (func() ([][]byte, error), error) {
	var fixed [][]byte
	var paths []string
	repl := caddy.NewReplacer()
	for i, text := range texts {
		s, err := repl.ReplaceOrErr(text, true, true)
		if err == nil && strings.TrimSpace(s) == "" {
			err = errors.New("it is empty")
		}
		if err != nil {
			return nil, fmt.Errorf("secret %d: %w", i+1, err)
		}
		fixed = append(fixed, []byte(s))
	}
	for _, file := range files {
		path, err := repl.ReplaceOrErr(file, true, true)
		if err != nil {
			return nil, fmt.Errorf("secret_file %s: %w", file, err)
		}
		paths = append(paths, path)
	}
	return func() ([][]byte, error) {
		all := slices.Clone(fixed)
		for _, path := range paths {
			b, err := readSecret(path)
			if err != nil {
				return nil, fmt.Errorf("secret_file: %w", err)
			}
			all = append(all, b)
		}
		return all, nil
	}, nil
}

// readSecret reads a file without the newline at its end.
func readSecret(file string) ([]byte, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return trimSecret(b, file)
}

// trimSecret cuts the newline off a value. The error names where it was.
func trimSecret(b []byte, name string) ([]byte, error) {
	b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
	switch {
	case len(bytes.TrimSpace(b)) == 0:
		return nil, fmt.Errorf("%s is empty", name)
	case len(b) > maxSecretFile:
		return nil, fmt.Errorf("%s has more than %d bytes", name, maxSecretFile)
	}
	return b, nil
}

// now returns the present keys. It reads the secrets at most once a second: a changed file's
// size and time may stay the same. While one can't be read, the earlier keys count.
func (k *keyring) now() *keys {
	if !k.mu.TryLock() {
		return k.latest.Load()
	}
	defer k.mu.Unlock()
	old := k.latest.Load()
	if time.Since(k.checked) < time.Second {
		return old
	}
	k.checked = time.Now()
	next, err := k.read()
	if err != nil {
		if k.failed != err.Error() {
			k.log.Error("reading secrets again failed; the earlier ones count", zap.Error(err))
		}
		k.failed = err.Error()
		return old
	}
	k.failed = ""
	if slices.EqualFunc(old.secrets, next.secrets, bytes.Equal) {
		return old
	}
	k.log.Info("secrets have changed")
	k.latest.Store(next)
	return next
}
