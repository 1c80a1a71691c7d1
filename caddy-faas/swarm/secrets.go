package swarm

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"github.com/docker/docker/api/types/swarm"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// A secret of Swarm can't be changed. So ours are kept as one object for each
// version, which labels tie together; functions use the latest one.
const (
	labelSecret  = "faas.secret"  // its name
	labelNetwork = "faas.network" // whose gateway it belongs to
	labelVersion = "faas.secret.version"
	// labelOwn is of the gateways' own secrets, which deploy/up.sh makes.
	labelOwn = "faas.stack"
)

var _ faas.SecretStore = (*Engine)(nil)

// A kept secret is the versions that there are of one, the latest first.
type keptSecret []swarm.Secret

// objectName is what a version is called in Swarm, which allows 64 characters;
// two gateways that make the same one at once can't both succeed.
func objectName(network string, s faas.Secret, version int) string {
	sum := sha256.Sum256([]byte(network + "\x00" + s.Namespace + "\x00" + s.Name))
	return fmt.Sprintf("%s-%s.%d", strings.TrimRight(s.Name[:min(len(s.Name), 36)], "-_."), hex.EncodeToString(sum[:8]), version)
}

func versionOf(s *swarm.Secret) int {
	n, _ := strconv.Atoi(s.Spec.Labels[labelVersion])
	return n
}

// keptSecrets reads all secrets of this network. others are those that people
// made with the engine's own tools, by name: functions of the default namespace may name them, but not what
// gateways have, such as the admin's password.
func (e *Engine) keptSecrets(ctx context.Context) (ours map[faas.Secret]keptSecret, others map[string]swarm.Secret, err error) {
	all, err := e.docker.secrets(ctx)
	if err != nil {
		return nil, nil, err
	}
	ours, others = map[faas.Secret]keptSecret{}, map[string]swarm.Secret{}
	for _, s := range all {
		l := s.Spec.Labels
		switch {
		case l[labelSecret] == "" && l[labelOwn] == "":
			others[s.Spec.Name] = s
		case l[labelNetwork] == e.network:
			name := faas.Secret{Name: l[labelSecret], Namespace: l[labelNamespace]}
			ours[name] = append(ours[name], s)
		}
	}
	for _, kept := range ours {
		slices.SortFunc(kept, func(a, b swarm.Secret) int { return versionOf(&b) - versionOf(&a) })
	}
	return ours, others, nil
}

// Secrets names all that were made through the API.
func (e *Engine) Secrets(ctx context.Context) ([]faas.Secret, error) {
	ours, _, err := e.keptSecrets(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing secrets: %w", err)
	}
	return slices.SortedFunc(maps.Keys(ours), func(a, b faas.Secret) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	}), nil
}

// CreateSecret keeps a new secret.
func (e *Engine) CreateSecret(ctx context.Context, s faas.Secret, value []byte) error {
	return e.secret(ctx, s, "creating", func(kept keptSecret) error {
		if err := s.Check(value); err != nil {
			return err
		}
		if len(kept) > 0 {
			return faas.ErrExists
		}
		return e.addVersion(ctx, s, 1, value)
	})
}

func (e *Engine) addVersion(ctx context.Context, s faas.Secret, version int, value []byte) error {
	_, err := e.docker.createSecret(ctx, swarm.SecretSpec{
		Annotations: swarm.Annotations{Name: objectName(e.network, s, version), Labels: map[string]string{
			labelSecret: s.Name, labelNamespace: s.Namespace, labelNetwork: e.network, labelVersion: strconv.Itoa(version),
		}},
		Data: value,
	})
	return err
}

// UpdateSecret keeps a new version, and rolls the functions that use the secret. If one can't be, the call can be repeated.
func (e *Engine) UpdateSecret(ctx context.Context, s faas.Secret, value []byte) error {
	return e.secret(ctx, s, "updating", func(kept keptSecret) error {
		if len(kept) == 0 {
			return faas.ErrNotFound
		}
		if err := s.Check(value); err != nil {
			return err
		}
		if err := e.addVersion(ctx, s, versionOf(&kept[0])+1, value); errors.Is(err, faas.ErrExists) {
			return errors.New("somebody else updates it at the same time")
		} else if err != nil {
			return err
		}
		all, _, err := e.functions(ctx)
		if err != nil {
			return err
		}
		for i := range all {
			id, _ := identity(&all[i].Spec)
			// An update would run a job: it gets the new version when it is run.
			if fn := functionOf(&all[i].Spec, id); fn.Uses(s) && all[i].Spec.Mode.ReplicatedJob == nil {
				err = errors.Join(err, e.repoint(ctx, fn))
			}
		}
		return errors.Join(err, e.sweep(ctx))
	})
}

// repoint rolls a function to the latest versions of its secrets.
func (e *Engine) repoint(ctx context.Context, fn faas.Function) error {
	return e.alone(ctx, fn.ID, "updating", func() error {
		err := e.change(ctx, fn.ID, func(s swarm.Service) (spec swarm.ServiceSpec, auth string, err error) {
			o, err := e.options()
			if err != nil {
				return spec, "", err
			}
			fn := functionOf(&s.Spec, fn.ID)
			refs, err := e.secretsOf(ctx, o, fn)
			if err != nil {
				return spec, "", err
			}
			spec = s.Spec
			c := *spec.TaskTemplate.ContainerSpec
			c.Secrets = replaced(c.Secrets, nil, refs, secretFile)
			spec.TaskTemplate.ContainerSpec = &c
			auth, err = o.authFor(fn.Image)
			return spec, auth, err
		})
		if errors.Is(err, faas.ErrNotFound) { // removed meanwhile
			return nil
		}
		return err
	})
}

// RemoveSecret deletes all versions of a secret that no function uses.
func (e *Engine) RemoveSecret(ctx context.Context, s faas.Secret) error {
	return e.secret(ctx, s, "removing", func(kept keptSecret) error {
		if len(kept) == 0 {
			return faas.ErrNotFound
		}
		all, _, err := e.functions(ctx)
		if err != nil {
			return err
		}
		var users []string
		for i := range all {
			id, _ := identity(&all[i].Spec)
			if fn := functionOf(&all[i].Spec, id); fn.Uses(s) {
				users = append(users, id.String())
			}
		}
		if len(users) > 0 {
			slices.Sort(users)
			return fmt.Errorf("%w by %s", faas.ErrInUse, strings.Join(users, ", "))
		}
		for _, version := range kept {
			err := e.docker.removeSecret(ctx, version.ID)
			if errors.Is(err, faas.ErrInvalid) { // as Swarm says it
				return fmt.Errorf("%w: %w", faas.ErrInUse, err)
			}
			if err != nil && !errors.Is(err, faas.ErrNotFound) {
				return err
			}
		}
		return nil
	})
}

// secret runs a change of one secret.
func (e *Engine) secret(ctx context.Context, s faas.Secret, doing string, do func(keptSecret) error) error {
	return locked(ctx, e.secrets, fmt.Sprintf("%s secret %s", doing, s), func() error {
		ours, _, err := e.keptSecrets(ctx)
		if err != nil {
			return err
		}
		return do(ours[s])
	})
}

// sweep removes versions that nothing uses any more. A service that may still
// be rolled back keeps the earlier ones that it would need; they go with the next sweep.
func (e *Engine) sweep(ctx context.Context) error {
	ours, _, err := e.keptSecrets(ctx)
	if err != nil {
		return err
	}
	services, err := e.docker.services(ctx)
	if err != nil {
		return err
	}
	used := map[string]bool{}
	for i := range services {
		use(used, &services[i].Spec)
		if u := services[i].UpdateStatus; u == nil || u.State != swarm.UpdateStateCompleted {
			use(used, services[i].PreviousSpec)
		}
	}
	for _, kept := range ours {
		for _, version := range kept[1:] {
			if used[version.ID] {
				continue
			}
			if err := e.docker.removeSecret(ctx, version.ID); err != nil && !errors.Is(err, faas.ErrNotFound) {
				e.log.Warn("removing an old version of a secret", zap.String("secret", version.Spec.Name), zap.Error(err))
			}
		}
	}
	return nil
}

func use(used map[string]bool, s *swarm.ServiceSpec) {
	if s == nil || s.TaskTemplate.ContainerSpec == nil {
		return
	}
	for _, ref := range s.TaskTemplate.ContainerSpec.Secrets {
		used[ref.SecretID] = true
	}
}

// secretsOf mounts the secrets that a definition names; ErrInvalid if one is missing.
func (e *Engine) secretsOf(ctx context.Context, o *options, fn faas.Function) ([]*swarm.SecretReference, error) {
	if len(fn.Secrets) == 0 {
		return nil, nil
	}
	ours, others, err := e.keptSecrets(ctx)
	if err != nil {
		return nil, err
	}
	refs := mounts(fn.Secrets)
	for i, name := range fn.Secrets {
		var found swarm.Secret
		if kept := ours[faas.Secret{Name: name, Namespace: fn.Namespace}]; len(kept) > 0 {
			found = kept[0]
		} else if fn.Namespace == faas.DefaultNamespace {
			found = others[name]
		}
		if found.ID == "" {
			return nil, fmt.Errorf("%w: there is no secret %q in namespace %s", faas.ErrInvalid, name, fn.Namespace)
		}
		refs[i].SecretID, refs[i].SecretName = found.ID, found.Spec.Name
		own(refs[i].File, o.user(fn))
	}
	return refs, nil
}

// mounts are references to secrets by where they are found in the container.
func mounts(names []string) (refs []*swarm.SecretReference) {
	for _, name := range names {
		file := &swarm.SecretReferenceFileTarget{Name: secretDir + name, UID: "0", GID: "0", Mode: 0o444}
		refs = append(refs, &swarm.SecretReference{File: file})
	}
	return refs
}

// own lets nobody but the function read a secret, where it is known who that is.
func own(file *swarm.SecretReferenceFileTarget, user string) {
	uid, gid, _ := strings.Cut(user, ":")
	if _, err := strconv.ParseUint(uid, 10, 32); err != nil {
		return
	}
	if _, err := strconv.ParseUint(gid, 10, 32); err != nil {
		gid = "0"
	}
	file.UID, file.GID, file.Mode = uid, gid, os.FileMode(0o400)
}
