package swarm

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/docker/docker/api/types/swarm"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

var _ faas.Runner = (*Engine)(nil)

// maxRetries bounds how often what fails is run again in one run of a job.
const maxRetries = 100

// asJob makes the service of a function that of a job: its command takes the place of the watchdog, which would serve for ever.
func (o *options) asJob(s *swarm.ServiceSpec, fn faas.Function) (err error) {
	if command := fn.Command(); command != "" {
		if s.TaskTemplate.ContainerSpec.Command, err = faas.Words(command); err != nil {
			return fmt.Errorf("fprocess: %w", err)
		}
	}
	completions, err := label(fn, faas.LabelCompletions, positive, 1)
	if err != nil {
		return err
	}
	parallel, err := label(fn, faas.LabelParallelism, positive, 1)
	if err != nil {
		return err
	}
	if s.TaskTemplate.RestartPolicy, err = o.retries(fn); err != nil {
		return err
	}
	s.Mode = swarm.ServiceMode{ReplicatedJob: &swarm.ReplicatedJob{MaxConcurrent: &parallel, TotalCompletions: &completions}}
	s.UpdateConfig, s.RollbackConfig = nil, nil // no job may have one
	return nil
}

// retries is what becomes of a job's process that fails.
func (o *options) retries(fn faas.Function) (*swarm.RestartPolicy, error) {
	n, err := label(fn, faas.LabelRetries, number, 0)
	switch {
	case err != nil:
		return nil, err
	case n > maxRetries:
		return nil, fmt.Errorf("label %s: %d: want at most %d", faas.LabelRetries, n, maxRetries)
	case n == 0: // to Swarm 0 attempts are any number
		return &swarm.RestartPolicy{Condition: swarm.RestartPolicyConditionNone, Delay: &o.restartDelay}, nil
	}
	return &swarm.RestartPolicy{Condition: swarm.RestartPolicyConditionOnFailure, Delay: &o.restartDelay, MaxAttempts: &n}, nil
}

// endless tells of jobs that Swarm tries again until they succeed, as it does by default.
func endless(s *swarm.ServiceSpec) bool {
	p := s.TaskTemplate.RestartPolicy
	return p == nil || p.Condition != swarm.RestartPolicyConditionNone && (p.MaxAttempts == nil || *p.MaxAttempts == 0)
}

func positive(text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q: want a number from 1", text)
	}
	return n, nil
}

// jobLabels are a function's labels with what the service of a job says by itself, however it was made.
func jobLabels(labels map[string]string, s *swarm.ServiceSpec) map[string]string {
	if s.Mode.ReplicatedJob == nil || labels[faas.LabelJob] != "" {
		return labels
	}
	all := map[string]string{}
	maps.Copy(all, labels)
	all[faas.LabelJob] = "true"
	if n := completions(s); n > 1 {
		all[faas.LabelCompletions] = fmt.Sprint(n)
	}
	if n := s.Mode.ReplicatedJob.MaxConcurrent; n != nil && *n > 1 {
		all[faas.LabelParallelism] = fmt.Sprint(*n)
	}
	return all
}

// completions is how many processes of a job must end well.
func completions(s *swarm.ServiceSpec) uint64 {
	j := s.Mode.ReplicatedJob
	switch {
	case j.TotalCompletions != nil:
		return *j.TotalCompletions
	case j.MaxConcurrent != nil: // Swarm's own rule
		return *j.MaxConcurrent
	}
	return 1
}

// Run runs a job again, with the latest versions of its secrets.
func (e *Engine) Run(ctx context.Context, id faas.ID, completions int) error {
	if completions < 0 || completions > maxReplicas {
		return fmt.Errorf("running %s: %w: want 1 to %d completions", id, faas.ErrInvalid, maxReplicas)
	}
	return e.alone(ctx, id, "running", func() error {
		err := e.change(ctx, id, func(s swarm.Service) (swarm.ServiceSpec, string, error) { return e.again(ctx, s, id, completions) })
		if err == nil {
			e.log.Info("job runs", zap.Stringer("function", id))
		}
		return err
	})
}

// again is a job's service for its next run, once the last one has ended. Two
// calls at once can't both succeed: the engine takes a spec by the version that it is made of.
func (e *Engine) again(ctx context.Context, s swarm.Service, id faas.ID, wanted int) (spec swarm.ServiceSpec, auth string, err error) {
	spec = s.Spec
	if spec.Mode.ReplicatedJob == nil {
		return spec, "", fmt.Errorf("%w: it is no job: it runs when it is called", faas.ErrInvalid)
	}
	tasks, err := e.docker.tasks(ctx, s.ID)
	if err != nil {
		return spec, "", err
	}
	st, ok := newState(s, tasks)
	if !ok {
		return spec, "", faas.ErrNotFound
	}
	if j := st.job(); j.Ended.IsZero() {
		return spec, "", fmt.Errorf("%w: its last run has not ended: %d of %d are done", faas.ErrRunning, j.Done, j.Completions)
	}
	o, err := e.options()
	if err != nil {
		return spec, "", err
	}
	refs, err := e.secretsOf(ctx, o, st.fn)
	if err != nil {
		return spec, "", err
	}
	if endless(&spec) {
		if spec.TaskTemplate.RestartPolicy, err = o.retries(st.fn); err != nil {
			return spec, "", fmt.Errorf("%w: %w", faas.ErrInvalid, err)
		}
	}
	c, mode := *spec.TaskTemplate.ContainerSpec, *spec.Mode.ReplicatedJob
	c.Secrets = replaced(c.Secrets, nil, refs, secretFile)
	n := uint64(wanted)
	if n == 0 {
		if n, err = label(st.fn, faas.LabelCompletions, positive, 1); err != nil {
			return spec, "", fmt.Errorf("%w: %w", faas.ErrInvalid, err)
		}
	}
	mode.TotalCompletions = &n
	spec.Mode.ReplicatedJob = &mode
	spec.TaskTemplate.ContainerSpec = &c
	spec.TaskTemplate.ForceUpdate++
	auth, err = o.authFor(c.Image)
	return spec, auth, err
}

// jobDeployment is how a job looks: nobody can call it.
func (s *state) jobDeployment(v view) faas.Deployment {
	d := faas.Deployment{Function: s.fn, Created: s.service.CreatedAt, Job: s.job()}
	switch j := d.Job; {
	case !j.Ended.IsZero() && j.Done < j.Completions:
		d.Reason = j.Failure
	case j.Failed > 0 && j.Ended.IsZero() && endless(&s.service.Spec):
		d.Reason = "it is tried until it succeeds, since its service's restart policy has no limit (deployed again, it has one): " + j.Failure
	}
	for i := range s.tasks {
		if t := &s.tasks[i]; v.old && d.Reason == "" && s.ofRun(t) && !over(t) && t.Status.Err != "" {
			d.Reason = sentence(t) // such as that no node is fit
		}
	}
	return d
}

// job is how the last run stands.
func (s *state) job() *faas.Job {
	j := &faas.Job{Completions: int(completions(&s.service.Spec)), Iteration: 1, Began: s.service.CreatedAt}
	if status := s.service.JobStatus; status != nil {
		j.Iteration, j.Began = int(status.JobIteration.Index)+1, status.LastExecution
	}
	var last, failed *swarm.Task
	failures := map[int]uint64{} // by slot
	for i := range s.tasks {
		t := &s.tasks[i]
		switch {
		case !s.ofRun(t):
			continue
		case !over(t):
			j.Running++
			continue
		case t.Status.State == swarm.TaskStateComplete:
			j.Done++
		default:
			j.Failed++
			failures[t.Slot]++
			if failed == nil || t.Status.Timestamp.After(failed.Status.Timestamp) {
				failed = t
			}
		}
		if last == nil || t.Status.Timestamp.After(last.Status.Timestamp) {
			last = t
		}
	}
	if failed != nil {
		j.Failure = cmp.Or(failed.Status.Err, failed.Status.Message)
	}
	if last == nil {
		return j
	}
	if c := last.Status.ContainerStatus; c != nil && c.ContainerID != "" {
		code := c.ExitCode
		j.ExitCode = &code
	}
	if j.Running == 0 && (j.Done >= j.Completions || failed != nil && s.givenUp(failures, failed)) {
		j.Ended = last.Status.Timestamp
	}
	return j
}

// ofRun tells whether a task is of the last run.
func (s *state) ofRun(t *swarm.Task) bool {
	now := uint64(0)
	if s.service.JobStatus != nil {
		now = s.service.JobStatus.JobIteration.Index
	}
	return t.JobIteration != nil && t.JobIteration.Index == now
}

// over tells of tasks of a job that have ended, or that Swarm has lost.
func over(t *swarm.Task) bool {
	switch t.Status.State {
	case swarm.TaskStateComplete, swarm.TaskStateShutdown, swarm.TaskStateFailed, swarm.TaskStateRejected, swarm.TaskStateRemove, swarm.TaskStateOrphaned:
		return true
	}
	return false
}

// gap is how long after a failure nothing may have been started in its place, though Swarm will.
const gap = 10 * time.Second

// givenUp tells that Swarm starts nothing in the place of what has failed. Of many failures of one slot it keeps the last few only.
func (s *state) givenUp(failures map[int]uint64, last *swarm.Task) bool {
	if endless(&s.service.Spec) {
		return false
	}
	p := s.service.Spec.TaskTemplate.RestartPolicy
	if p.Condition == swarm.RestartPolicyConditionNone {
		return true
	}
	for _, n := range failures {
		if n > *p.MaxAttempts {
			return true
		}
	}
	delay := time.Duration(0)
	if p.Delay != nil {
		delay = *p.Delay
	}
	return time.Since(last.Status.Timestamp) > delay+gap
}
