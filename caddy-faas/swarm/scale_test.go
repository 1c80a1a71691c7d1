package swarm

import (
	"testing"
	"testing/synctest"

	"github.com/docker/docker/api/types/swarm"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// The version that an update would be rolled back to has the number that was set meanwhile.
func TestScaleOfAnUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, e, _ := onFake(t)
		must(t, e.Create(background, plain))
		next := func(image string) faas.Function {
			fn := plain
			fn.Image = image
			return fn
		}
		// want checks the images and numbers of the spec and the one before it.
		want := func(image string, n uint64, before string, m uint64, calls int) {
			t.Helper()
			s, err := e.find(background, plain.ID)
			must(t, err)
			p := s.PreviousSpec
			if s.Spec.TaskTemplate.ContainerSpec.Image != image || p.TaskTemplate.ContainerSpec.Image != before || *s.Spec.Mode.Replicated.Replicas != n || *p.Mode.Replicated.Replicas != m {
				t.Errorf("%+v after %+v", s.Spec, p)
			}
			if got := f.count()["update"]; got != calls {
				t.Errorf("%d updates, want %d", got, calls)
			}
		}
		must(t, e.Update(background, next("two")))
		want("two", 1, "img", 1, 1)
		must(t, e.Scale(background, plain.ID, 3))
		want("two", 3, "img", 3, 3)
		f.conflicts = 2
		must(t, e.Scale(background, plain.ID, 2))
		want("two", 2, "img", 2, 7)
		must(t, e.Scale(background, plain.ID, 0))
		want("two", 0, "img", 0, 9)
		must(t, e.Scale(background, plain.ID, 1)) // there is no replica to roll back
		want("two", 1, "two", 0, 10)

		must(t, e.Update(background, next("three")))
		f.between = func() {
			must(t, e.change(background, plain.ID, func(s swarm.Service) (swarm.ServiceSpec, string, error) {
				c := *s.Spec.TaskTemplate.ContainerSpec
				c.Image = "four"
				s.Spec.TaskTemplate.ContainerSpec = &c
				return s.Spec, "", nil
			}))
		}
		must(t, e.Scale(background, plain.ID, 5))
		want("four", 5, "two", 5, 13)
	})
}
