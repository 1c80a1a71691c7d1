package swarm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/swarm"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/internal/faastest"
)

// What keeps a function from running is told in the engine's words.
func TestReasons(t *testing.T) {
	r := begin(t, new(Provider))
	watch := faastest.Record(t, r, nil)
	for _, tt := range []struct {
		name   string
		change func(*faas.Function)
		reason string
		full   bool // no capacity, else failing
	}{
		{"pull", func(f *faas.Function) { f.Image = "registry.invalid/no/such:1" }, "No such image: registry.invalid/no/such:1", false},
		{"node", func(f *faas.Function) { f.Constraints = []string{"node.labels.nowhere == true"} }, "no suitable node", true},
		{"gpu", func(f *faas.Function) { f.Requests = faas.Resources{"nvidia.com/gpu": "1"} }, "no suitable node (insufficient resources", true},
		{"crash", func(f *faas.Function) { f.Process = "no-such-program" }, "non-zero exit (1)", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fn := r.fn(tt.name, "cat")
			tt.change(&fn)
			must(t, r.Create(background, fn))
			watch.Until(t, tt.reason, func(now map[faas.ID]faas.Deployment) bool {
				d := now[fn.ID]
				return strings.Contains(d.Reason, tt.reason) && d.Failing == !tt.full && (d.Pending > 0) == tt.full
			})
			// Mended, it runs, and nothing is said of what was.
			must(t, r.Update(background, r.fn(tt.name, "cat")))
			watch.Until(t, "the mended version serves", func(now map[faas.ID]faas.Deployment) bool {
				d := now[fn.ID]
				return faastest.Ready(d) == 1 && !d.Failing && d.Pending == 0 && !d.Rolling && d.Reason == ""
			})
		})
	}
}

// That replicas end again and again is told while the next one serves.
func TestEndsAgainAndAgain(t *testing.T) {
	r := begin(t, new(Provider))
	watch := faastest.Record(t, r, nil)
	fn := r.fn("mayfly", "cat")
	cli(t, "service", "create", "--detach", "--name", fn.Name, "--network", run, "--no-resolve-image", "--restart-delay", "1s",
		"--label", labelFunction+"="+fn.Name, image, "sh", "-c", "sleep 4; exit 3")
	const reason = "replica 1: task: non-zero exit (3), again and again"
	watch.Until(t, reason, func(now map[faas.ID]faas.Deployment) bool {
		return faastest.Ready(now[fn.ID]) == 1 && now[fn.ID].Reason == reason
	})
	cli(t, "service", "update", "--detach", "--no-resolve-image", "--args", "/fwatchdog", fn.Name)
	watch.Until(t, "the mended version serves", func(now map[faas.ID]faas.Deployment) bool {
		d := now[fn.ID]
		return faastest.Ready(d) == 1 && !d.Rolling && d.Reason == ""
	})
}

// A new version that doesn't start leaves the earlier one serving, without a gap if Swarm can tell by a health check.
func TestBadUpdate(t *testing.T) {
	r := begin(t, new(Provider))
	watch := faastest.Record(t, r, func(d faas.Deployment) {
		if d.Process != "cat" && faastest.Ready(d) == 0 {
			t.Errorf("no replica served: %s", d.Reason)
		}
	})
	for _, action := range []string{"rollback", "pause"} {
		t.Run(action, func(t *testing.T) {
			fn := r.fn(action, "cat")
			fn.Labels = map[string]string{faas.LabelUpdateFailure: action, faas.LabelHealthcheck: "/fwatchdog -run-healthcheck"}
			must(t, r.Create(background, fn))
			first := watch.UntilReady(t, fn.ID, 1)[0]
			bad := fn
			bad.Process = "no-such-program"
			must(t, r.Update(background, bad))
			watch.Until(t, "the reason", func(now map[faas.ID]faas.Deployment) bool {
				d := now[fn.ID]
				kept := map[string]string{"rollback": "cat", "pause": "no-such-program"}[action]
				served := faastest.Ready(d) == 1 && d.Replicas[0].ID == first.ID
				return served && !d.Failing && d.Process == kept && strings.Contains(d.Reason, action) && strings.Contains(d.Reason, "non-zero exit (1)")
			})
			must(t, r.readAll(background)) // past tasks are not among what this reads
			if d := watch.Deployment(fn.ID); !strings.Contains(d.Reason, "non-zero exit (1)") {
				t.Errorf("the reason has become %q", d.Reason)
			}
			t.Log(watch.Deployment(fn.ID).Reason)
			if action == "pause" {
				if err := r.Scale(background, fn.ID, 2); !errors.Is(err, faas.ErrInvalid) {
					t.Errorf("scaled, Swarm would go on with the update: %v", err)
				}
			}
			must(t, r.Update(background, fn))
			watch.Until(t, "the mended version serves", func(now map[faas.ID]faas.Deployment) bool {
				d := now[fn.ID]
				return faastest.Ready(d) == 1 && !d.Rolling && d.Reason == "" && d.Replicas[0].ID != first.ID
			})
		})
	}
}

// The number of replicas that is set while an update fails outlasts it, and so does the earlier version.
func TestScaleDuringBadUpdate(t *testing.T) {
	for _, row := range []struct {
		name   string
		before int
		set    []int
		order  string
		begun  bool // Swarm has begun with the update
	}{
		{"raise", 1, []int{3}, "start-first", true},
		{"at once", 1, []int{3}, "start-first", false},
		{"lower", 3, []int{2}, "start-first", true},
		{"steps", 2, []int{3, 5, 4}, "stop-first", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := begin(t, new(Provider))
			watch := faastest.Record(t, r, nil)
			fn := r.fn(strings.ReplaceAll(row.name, " ", ""), "cat")
			fn.Labels = map[string]string{faas.LabelHealthcheck: "/fwatchdog -run-healthcheck", faas.LabelMin: fmt.Sprint(row.before), faas.LabelUpdateOrder: row.order}
			must(t, r.Create(background, fn))
			watch.UntilReady(t, fn.ID, row.before)
			bad := fn
			bad.Process = "no-such-program"
			must(t, r.Update(background, bad))
			eventually(t, "the update has begun", func() bool {
				s, err := r.find(background, fn.ID)
				must(t, err)
				return !row.begun || s.UpdateStatus != nil && s.UpdateStatus.State == swarm.UpdateStateUpdating
			})
			for _, n := range row.set {
				must(t, r.Scale(background, fn.ID, n))
			}
			n := row.set[len(row.set)-1]
			watch.Until(t, "the earlier version serves", func(now map[faas.ID]faas.Deployment) bool {
				d := now[fn.ID]
				return d.Desired == n && faastest.Ready(d) == n && !d.Rolling && d.Process == "cat" && strings.Contains(d.Reason, "rollback")
			})
		})
	}
}

// dying is a cluster for a gateway that is killed after so many updates that Swarm has taken.
type dying struct {
	cluster
	updates int
}

func (d *dying) updateService(ctx context.Context, s swarm.Service, spec swarm.ServiceSpec, auth string) error {
	if d.updates == 0 {
		return errors.New("killed")
	}
	err := d.cluster.updateService(ctx, s, spec, auth)
	if err == nil {
		d.updates--
	}
	return err
}

// If a gateway is killed while it scales what is being updated, another one sees to it that neither the update nor the number is lost.
func TestKilledWhileScaling(t *testing.T) {
	for _, process := range []string{"wc -c", "no-such-program"} {
		t.Run(process, func(t *testing.T) {
			killed, other := begin(t, new(Provider)), begin(t, new(Provider))
			watch := faastest.Record(t, other, nil)
			fn := killed.fn("halfway", "cat")
			fn.Labels = map[string]string{faas.LabelHealthcheck: "/fwatchdog -run-healthcheck"}
			must(t, killed.Create(background, fn))
			t.Cleanup(func() { must(t, other.Remove(background, fn.ID)) })
			watch.UntilReady(t, fn.ID, 1)
			next := fn
			next.Process = process
			must(t, killed.Update(background, next))
			killed.docker = &dying{killed.docker, 1}
			if err := killed.Scale(background, fn.ID, 3); err == nil {
				t.Fatal("scaled without the second write")
			}
			watch.Until(t, "the update and the number", func(now map[faas.ID]faas.Deployment) bool {
				d := now[fn.ID]
				done := d.Process == process && d.Reason == ""
				if process == "no-such-program" {
					done = d.Process == "cat" && strings.Contains(d.Reason, "rollback")
				}
				return done && d.Desired == 3 && faastest.Ready(d) == 3 && !d.Rolling
			})
			if other.log.FilterMessageSnippet("halfway").Len() == 0 {
				t.Error("nobody says so")
			}
		})
	}
}
