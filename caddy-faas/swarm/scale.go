package swarm

import (
	"context"
	"fmt"
	"reflect"

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
		var earlier, begun *swarm.ServiceSpec // of an update that is under way
		err := e.change(ctx, id, func(s swarm.Service) (spec swarm.ServiceSpec, auth string, err error) {
			earlier, begun = nil, nil
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
			mode := swarm.ServiceMode{Replicated: &swarm.ReplicatedService{Replicas: &n}}
			if now > 0 && updating(&s) {
				first, then := *s.PreviousSpec, spec
				first.Mode, then.Mode = mode, mode
				earlier, begun = &first, &then
				return first, authOfPrevious, nil
			}
			spec.Mode = mode
			return spec, "", nil
		})
		if err != nil || begun == nil {
			return err
		}
		return e.resume(context.WithoutCancel(ctx), id, earlier, begun) // or the update would be undone
	})
	return replicas, err
}

// updating tells whether Swarm may yet roll back what was last deployed. By a
// change of the number it would lose the version to go back to, which to it is
// but the spec before the present one: the broken version would stay, with the
// old number. So the earlier version is given the number first, and then the new version again.
func updating(s *swarm.Service) bool {
	u := s.UpdateStatus
	return (u == nil || u.State == swarm.UpdateStateUpdating) && s.PreviousSpec != nil && !reflect.DeepEqual(s.PreviousSpec.TaskTemplate, s.Spec.TaskTemplate)
}

// resume goes on with an update that gave way to the earlier version, unless somebody has deployed another one meanwhile.
func (e *Engine) resume(ctx context.Context, id faas.ID, earlier, begun *swarm.ServiceSpec) error {
	err := e.change(ctx, id, func(s swarm.Service) (swarm.ServiceSpec, string, error) {
		if !reflect.DeepEqual(s.Spec.TaskTemplate, earlier.TaskTemplate) {
			return s.Spec, "", errNothing
		}
		spec := *begun
		spec.Mode = s.Spec.Mode // which another gateway may have changed
		return spec, authOfPrevious, nil
	})
	if err != nil {
		return fmt.Errorf("it has the number, but is back at its earlier version; deploy it again: %w", err)
	}
	return nil
}
