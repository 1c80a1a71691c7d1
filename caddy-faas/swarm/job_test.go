package swarm

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/swarm"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/internal/faastest"
)

// A job that Docker's own client made is told of as one made here, fails and is run again.
func TestJobOfDocker(t *testing.T) {
	e := begin(t, &Provider{})
	watch := faastest.Record(t, e, nil)
	id := faas.ParseID(run + "-report")
	_, err := dockerCLI("service", "create", "--detach", "--name", id.Name, "--network", run, "--mode", "replicated-job", "--restart-condition", "none",
		"--label", labelFunction+"="+id.Name, image, "sh", "-c", "echo told; exit 3")
	must(t, err)
	for run := 1; run <= 2; run++ {
		watch.Until(t, fmt.Sprintf("run %d has failed", run), func(now map[faas.ID]faas.Deployment) bool {
			j := now[id].Job
			return j != nil && j.Iteration == run && !j.Ended.IsZero()
		})
		d := watch.Deployment(id)
		if j := d.Job; j.Done != 0 || j.Failed != 1 || j.ExitCode == nil || *j.ExitCode != 3 || !strings.Contains(d.Reason, "exit (3)") || d.Labels[faas.LabelJob] != "true" {
			t.Errorf("run %d: %+v of %+v", run, j, d)
		}
		if run == 1 {
			must(t, e.Run(background, id, 0))
		}
	}
	var told bytes.Buffer
	must(t, e.Logs(background, id, faas.LogQuery{Tail: -1}, func(l faas.LogLine) error {
		told.WriteString(l.Text)
		return nil
	}))
	if !strings.Contains(told.String(), "told") {
		t.Errorf("its logs: %q", told.String())
	}
}

// A job that runs is not run once more, and one that failed is tried as often as it says.
func TestJobRetries(t *testing.T) {
	e := begin(t, &Provider{})
	watch := faastest.Record(t, e, nil)
	fn := faas.Function{ID: faas.ParseID(run + "-retries"), Image: image, Process: "sh -c 'until test -e /tmp/end; do sleep 0.1; done; false'",
		Labels: map[string]string{faas.LabelJob: "true", faas.LabelRetries: "1"}}
	must(t, e.Create(background, fn))
	watch.Until(t, "it runs", func(now map[faas.ID]faas.Deployment) bool {
		j := now[fn.ID].Job
		return j != nil && j.Running == 1 && j.Ended.IsZero()
	})
	if err := e.Run(background, fn.ID, 0); !errors.Is(err, faas.ErrRunning) {
		t.Errorf("while it runs: %v", err)
	}
	eventually(t, "it has failed twice", func() bool {
		for container := range strings.FieldsSeq(cli(t, "ps", "--quiet", "--filter", "name="+fn.ID.Name)) {
			dockerCLI("exec", container, "touch", "/tmp/end") // it may just have ended
		}
		j := watch.Deployment(fn.ID).Job
		return j != nil && j.Failed == 2 && !j.Ended.IsZero()
	})
}

// A job that Docker's own client made is tried for ever, and says so; deployed or run again, it has a limit.
func TestEndlessJob(t *testing.T) {
	e := begin(t, &Provider{})
	watch := faastest.Record(t, e, nil)
	fn := e.fn("endless", "false")
	_, err := dockerCLI("service", "create", "--detach", "--name", fn.Name, "--network", run, "--mode", "replicated-job", "--restart-delay", "100ms",
		"--label", labelFunction+"="+fn.Name, image, "false")
	must(t, err)
	watch.Until(t, "it has failed and says that this has no end", func(now map[faas.ID]faas.Deployment) bool {
		d := now[fn.ID]
		return d.Job != nil && d.Job.Failed > 0 && strings.Contains(d.Reason, "until it succeeds") && strings.Contains(d.Reason, "exit (1)")
	})
	ended := func(iteration int) {
		t.Helper()
		watch.Until(t, fmt.Sprintf("run %d has ended", iteration), func(now map[faas.ID]faas.Deployment) bool {
			j := now[fn.ID].Job
			return j != nil && j.Iteration == iteration && j.Failed == 1 && !j.Ended.IsZero()
		})
	}
	fn.Labels = map[string]string{faas.LabelJob: "true"}
	must(t, e.Update(background, fn))
	ended(2)
	_, err = dockerCLI("service", "update", "--detach", "--restart-condition", "any", "--entrypoint", "true", fn.Name)
	must(t, err)
	watch.Until(t, "run 3 is done", func(now map[faas.ID]faas.Deployment) bool {
		j := now[fn.ID].Job
		return j != nil && j.Iteration == 3 && j.Done == 1
	})
	must(t, e.Run(background, fn.ID, 0))
	watch.Until(t, "run 4 is done", func(now map[faas.ID]faas.Deployment) bool {
		j := now[fn.ID].Job
		return j != nil && j.Iteration == 4 && j.Done == 1
	})
	if got := cli(t, "service", "inspect", fn.Name, "--format", "{{.Spec.TaskTemplate.RestartPolicy.Condition}}"); got != "none" {
		t.Errorf("run again, its restart policy is %q", got)
	}
}

func TestSpecOfJob(t *testing.T) {
	for what, row := range map[string]struct{ label, value, want string }{
		"completions": {faas.LabelCompletions, "0", faas.LabelCompletions}, "parallelism": {faas.LabelParallelism, "many", faas.LabelParallelism}, "retries": {faas.LabelRetries, "-1", faas.LabelRetries},
		"too many retries": {faas.LabelRetries, "101", "at most 100"},
	} {
		fn := plain
		fn.Labels = map[string]string{faas.LabelJob: "true", row.label: row.value}
		if _, err := new(options).spec(fn, nil); !errors.Is(err, faas.ErrInvalid) || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	fn := plain
	fn.Annotations = map[string]string{faas.LabelJob: "true"}
	if spec, err := new(options).spec(fn, nil); err != nil || spec.Mode.ReplicatedJob != nil {
		t.Errorf("an annotation makes no job, here or elsewhere: %+v, %v", spec.Mode, err)
	}
	four := uint64(4)
	s := &swarm.ServiceSpec{Mode: swarm.ServiceMode{ReplicatedJob: &swarm.ReplicatedJob{MaxConcurrent: &four}}}
	if got := jobLabels(map[string]string{"a": "b"}, s); fmt.Sprint(got) != "map[a:b faas.job:true faas.job.completions:4 faas.job.parallelism:4]" {
		t.Errorf("labels of a job of Docker's: %v", got)
	}
}
