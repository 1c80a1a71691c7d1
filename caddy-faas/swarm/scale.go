package swarm

import (
	"context"
	"fmt"
	"reflect"
	"strings"

	"github.com/docker/docker/api/types/swarm"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// maxReplicas bounds what one function may be scaled to, against a slip of the keyboard.
const maxReplicas = 10000

// Scale sets the number of replicas.
func (e *Engine) Scale(ctx context.Context, id faas.ID, replicas int) error {
	if replicas < 0 || replicas > maxReplicas {
		return fmt.Errorf("scaling %s to %d: %w: want 0 to %d replicas", id, replicas, faas.ErrInvalid, maxReplicas)
	}
	_, err := e.adjust(ctx, id, fmt.Sprintf("scaling to %d", replicas), func(int) int { return replicas })
	return err
}

// Adjust sets the number of replicas by what it is, as [faas.Adjuster] says.
func (e *Engine) Adjust(ctx context.Context, id faas.ID, next func(now int) int) (int, error) {
	return e.adjust(ctx, id, "scaling", next)
}

func (e *Engine) adjust(ctx context.Context, id faas.ID, doing string, next func(now int) int) (replicas int, err error) {
	err = e.alone(ctx, id, doing, func() error {
		halfway := false
		err := e.change(ctx, id, func(s swarm.Service) (spec swarm.ServiceSpec, auth string, err error) {
			halfway = false
			spec = s.Spec
			if spec.Mode.ReplicatedJob != nil {
				return spec, "", fmt.Errorf("%w: it is a job, which has no replicas: run it", faas.ErrInvalid)
			}
			if spec.Mode.Replicated == nil {
				return spec, "", fmt.Errorf("%w: service %s is of mode global: it has one replica on each node", faas.ErrInvalid, spec.Name)
			}
			now := uint64(1) // Swarm's own, where a spec says nothing
			if spec.Mode.Replicated.Replicas != nil {
				now = *spec.Mode.Replicated.Replicas
			}
			replicas = next(int(now))
			n := uint64(replicas)
			if spec.Mode.Replicated.Replicas != nil && now == n {
				return spec, "", errNothing
			}
			if u := s.UpdateStatus; u != nil && u.State == swarm.UpdateStatePaused {
				return spec, "", fmt.Errorf("%w: the update is on pause, and Swarm would go on with it: deploy the function again first", faas.ErrInvalid)
			}
			if halfway = now > 0 && updating(&s); halfway {
				spec = *s.PreviousSpec
				spec.Labels = overlay(spec.Labels, nil, map[string]string{labelHalfway: fmt.Sprint(s.Version.Index)})
				auth = authOfPrevious
			}
			spec.Mode = swarm.ServiceMode{Replicated: &swarm.ReplicatedService{Replicas: &n}}
			return spec, auth, nil
		})
		if err != nil || !halfway {
			return err
		}
		if err := e.complete(context.WithoutCancel(ctx), id); err != nil {
			return fmt.Errorf("it has the number, but is back at its earlier version for now: %w", err)
		}
		return nil
	})
	return replicas, err
}

// updating tells whether Swarm may yet roll back what was last deployed. By a
// change of the number it would lose the version to go back to, which to it is
// but the spec before the present one: the broken version would stay, with the
// old number. So the earlier version is given the number first, and then the new version again.
// The engine has no call that does both. Whoever finds a service halfway does the rest: see [rest].
func updating(s *swarm.Service) bool {
	u := s.UpdateStatus
	return (u == nil || u.State == swarm.UpdateStateUpdating) && s.PreviousSpec != nil && !reflect.DeepEqual(s.PreviousSpec.TaskTemplate, s.Spec.TaskTemplate)
}

// rest is the second half of a scaling, for a service that is halfway: its spec has a mark that the one before it,
// which gave way, has not. It is not so once anybody has deployed or scaled it since, or it was rolled back: then
// that counts, and the mark means nothing any more.
func rest(s *swarm.Service) (spec swarm.ServiceSpec, halfway bool) {
	mark, before := s.Spec.Labels[labelHalfway], s.PreviousSpec
	rolledBack := s.UpdateStatus != nil && strings.HasPrefix(string(s.UpdateStatus.State), "rollback")
	if mark == "" || before == nil || before.Labels[labelHalfway] == mark || rolledBack {
		return s.Spec, false
	}
	spec = unmarked(*before)
	spec.Mode = s.Spec.Mode
	return spec, true
}

func unmarked(spec swarm.ServiceSpec) swarm.ServiceSpec {
	spec.Labels = overlay(spec.Labels, map[string]string{labelHalfway: ""}, nil)
	return spec
}

// complete does the rest of a scaling that is halfway.
func (e *Engine) complete(ctx context.Context, id faas.ID) error {
	return e.change(ctx, id, func(s swarm.Service) (swarm.ServiceSpec, string, error) { return s.Spec, "", errNothing })
}
