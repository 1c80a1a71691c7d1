package swarm

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"

	"github.com/docker/docker/api/types/swarm"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/internal/faastest"
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
		f.between = func() { // with the engine's own tools
			s, err := e.find(background, plain.ID)
			must(t, err)
			spec, c := s.Spec, *s.Spec.TaskTemplate.ContainerSpec
			c.Image = "four"
			spec.TaskTemplate.ContainerSpec = &c
			must(t, f.updateService(background, s, spec, ""))
		}
		must(t, e.Scale(background, plain.ID, 5))
		want("four", 5, "two", 5, 13)
	})
}

// A gateway that ends between the two writes of a scaling undoes no update: another one does the rest, or what is done next does.
func TestScalingLeftHalfway(t *testing.T) {
	next := plain
	next.Image = "two"
	third := plain
	third.Image = "three"
	for _, tt := range []struct {
		name string
		then func(f *fake, e *Engine) error // done by another gateway; nil: it watches
		want string
		n    uint64
	}{
		{"and nothing more", nil, "two", 3},
		{"and scaled again", func(_ *fake, e *Engine) error { return e.Scale(background, plain.ID, 4) }, "two", 4},
		{"and scaled to the same", func(_ *fake, e *Engine) error { return e.Scale(background, plain.ID, 3) }, "two", 3},
		{"and deployed", func(_ *fake, e *Engine) error { return e.Update(background, third) }, "three", 3},
		{"and rolled back by hand", func(f *fake, e *Engine) error {
			f.set("s1", func(s *swarm.Service, tasks []swarm.Task) []swarm.Task {
				s.UpdateStatus = &swarm.UpdateStatus{State: swarm.UpdateStateRollbackCompleted}
				return tasks
			})
			return e.Scale(background, plain.ID, 3)
		}, "img", 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, first, _ := onFake(t)
				must(t, first.Create(background, plain))
				must(t, first.Update(background, next))
				f.between = func() { f.fail(io.ErrUnexpectedEOF) }
				if err := first.Scale(background, plain.ID, 3); !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatalf("scaled without the second write: %v", err)
				}
				f.fail(nil)
				e := f.engine(t)
				if tt.then != nil {
					must(t, tt.then(f, e))
				} else {
					faastest.Record(t, e, nil).Until(t, "the rest is done", func(now map[faas.ID]faas.Deployment) bool {
						return now[plain.ID].Image == "two" && now[plain.ID].Desired == 3
					})
				}
				s, err := e.find(background, plain.ID)
				must(t, err)
				if image := s.Spec.TaskTemplate.ContainerSpec.Image; image != tt.want || *s.Spec.Mode.Replicated.Replicas != tt.n {
					t.Errorf("%d of image %s", *s.Spec.Mode.Replicated.Replicas, image)
				}
				if fn := functionOf(&s.Spec, plain.ID); fn.Labels[labelHalfway] != "" {
					t.Errorf("labels %v", fn.Labels)
				}
			})
		})
	}
}
