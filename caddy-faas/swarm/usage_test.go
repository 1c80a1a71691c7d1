package swarm

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/internal/faastest"
)

// What replicas use is the engine's answer, both of a busy function and of an idle one.
func TestUsage(t *testing.T) {
	r := begin(t, new(Provider))
	watch := faastest.Record(t, r, nil)
	idle := r.fn("idle", "cat")
	busy := r.fn("busy", "sh -c 'while :; do :; done'")
	busy.Env["mode"] = "http" // its process runs without being called
	busy.Limits = faas.Resources{faas.CPU: "200m"}
	for _, fn := range []faas.Function{idle, busy} {
		must(t, r.Create(background, fn))
		watch.UntilReady(t, fn.ID, 1)
	}
	usage := func(fn faas.Function) faas.Usage {
		t.Helper()
		u, err := r.Usage(background, fn.ID)
		must(t, err)
		return u
	}
	eventually(t, "its limit is in use, and not more", func() bool {
		u := usage(busy)
		return u.CPU > 100 && u.CPU < 300
	})
	eventually(t, "the idle one's usage is known", func() bool {
		u := usage(idle)
		return u.CPU < 100 && u.Memory > 100<<10 && u.Memory < 100<<20
	})
	if _, err := r.Usage(background, faas.ParseID("none")); !errors.Is(err, faas.ErrNotFound) {
		t.Errorf("of no function: %v", err)
	}
}

// Whoever asks soon after somebody else costs the engine nothing, and a part is not told for the whole.
func TestUsageIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, e, _ := onFake(t)
		watch := faastest.Record(t, e, nil)
		must(t, e.Create(background, plain))
		must(t, e.Scale(background, plain.ID, 2))
		watch.UntilReady(t, plain.ID, 2)
		for _, want := range []int{2, 2, 4} {
			if u, err := e.Usage(background, plain.ID); err != nil || u.Memory != 2<<20 {
				t.Errorf("%+v, %v", u, err)
			}
			if got := f.count()["consumed"]; got != want {
				t.Errorf("%d containers were asked for, want %d", got, want)
			}
			time.Sleep(usageFresh * 2 / 3)
		}
		service, _ := e.table.find(plain.ID)
		f.set(service, func(s *swarm.Service, tasks []swarm.Task) []swarm.Task {
			tasks[1].NodeID = "n2"
			return tasks
		})
		must(t, e.readSome(background, service))
		time.Sleep(usageFresh)
		if u, err := e.Usage(background, plain.ID); !errors.Is(err, errElsewhere) {
			t.Errorf("%+v, %v", u, err)
		}
	})
}
