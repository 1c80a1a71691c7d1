package faas

import (
	"context"
	"time"
)

// A Job is how the last run of a function stands that is run to its end
// instead of being called: it has the label [LabelJob].
type Job struct {
	// Iteration numbers the runs, from 1.
	Iteration int
	// Completions is how many of its processes must end with status 0.
	Completions int
	// Done have ended so, Failed otherwise, and Running have not ended.
	Done, Failed, Running int
	// Began is when the run did; Ended when it did, done or failed, zero until then.
	Began, Ended time.Time
	// ExitCode is the exit status of the process that ended last; nil if none has, or it could not be started.
	ExitCode *int
	// Failure says what became of the last process that failed, in the engine's words.
	Failure string
}

// A Runner is a Provider that runs jobs. Creating or updating one runs it, too.
type Runner interface {
	// Run runs a job again until completions of its processes have ended with status 0; 0: as many as
	// its definition says. ErrNotFound, ErrInvalid if it is no job, ErrRunning until its last run has ended.
	Run(ctx context.Context, id ID, completions int) error
}

// IsJob tells whether the function is to be run to its end instead of being called.
func (f *Function) IsJob() bool { return f.Is(LabelJob, false) }
