package faastest

import (
	"errors"
	"fmt"
	"maps"
	"testing"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// job: a provider either runs jobs or says that it doesn't.
func job(t *testing.T, p faas.Provider, fn faas.Function) {
	task := fn
	task.Name += "-job"
	task.Labels = map[string]string{faas.LabelJob: "true", faas.LabelCompletions: "2", faas.LabelMin: "3"}
	runner, ok := p.(faas.Runner)
	if !ok {
		if err := p.Create(background, task); !errors.Is(err, faas.ErrInvalid) {
			t.Errorf("a job: %v", err)
		}
		return
	}
	r := Record(t, p, func(d faas.Deployment) {
		if (d.Job != nil) != d.IsJob() || d.Job != nil && (d.Desired != 0 || len(d.Replicas) > 0) {
			t.Errorf("set: %+v", d)
		}
	})
	done := func(iteration, completions int) {
		t.Helper()
		r.Until(t, fmt.Sprintf("run %d with %d completions", iteration, completions), func(now map[faas.ID]faas.Deployment) bool {
			j := now[task.ID].Job
			return j != nil && j.Iteration == iteration && j.Completions == completions && j.Done == completions && !j.Ended.IsZero()
		})
		d := get(t, p, task.ID)
		if j := d.Job; j == nil || j.Done != completions || j.Failed+j.Running != 0 || j.ExitCode == nil || *j.ExitCode != 0 || j.Ended.Before(j.Began) || d.Reason != "" {
			t.Errorf("listed: %+v of %+v", j, d)
		}
	}
	must(t, p.Create(background, task))
	done(1, 2)
	must(t, runner.Run(background, task.ID, 0))
	done(2, 2)
	must(t, runner.Run(background, task.ID, 3))
	done(3, 3)
	must(t, runner.Run(background, task.ID, 0))
	done(4, 2)
	task.Env = maps.Clone(task.Env)
	task.Env["version"] = "2"
	must(t, p.Update(background, task))
	done(5, 2)
	if d := get(t, p, task.ID); d.Env["version"] != "2" {
		t.Errorf("updated: %+v", d)
	}
	must(t, p.Create(background, fn))
	called := task
	called.Labels = nil
	other := fn
	other.Labels = map[string]string{faas.LabelJob: "true"}
	missing := faas.ID{Name: "missing", Namespace: fn.Namespace}
	for what, row := range map[string]struct{ err, want error }{
		"scaling a job": {p.Scale(background, task.ID, 1), faas.ErrInvalid}, "running none": {runner.Run(background, fn.ID, 0), faas.ErrInvalid},
		"running nothing": {runner.Run(background, missing, 0), faas.ErrNotFound}, "running less": {runner.Run(background, task.ID, -1), faas.ErrInvalid},
		"making it no job": {p.Update(background, called), faas.ErrInvalid}, "making one": {p.Update(background, other), faas.ErrInvalid},
	} {
		if !errors.Is(row.err, row.want) {
			t.Errorf("%s: %v, want %v", what, row.err, row.want)
		}
	}
	must(t, p.Remove(background, task.ID))
	r.Until(t, "removed", func(now map[faas.ID]faas.Deployment) bool { _, there := now[task.ID]; return !there })
}
