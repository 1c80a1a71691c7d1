package scale

import (
	"math"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// Rules say how a function is scaled and how many may wait for it.
type Rules struct {
	// Auto: raised and lowered by load. Without it a function at zero is still woken.
	Auto bool
	// Min and Max bound the number of replicas by load; Max is at least 1 and at least Min.
	Min, Max int
	// Type is what the load is measured by: [Capacity], [Rate] or [Backlog].
	Type string
	// Target is the load of a fully used replica, at least 1; Proportion, of (0, 1], the part of it that is aimed at.
	Target     int
	Proportion float64
	// Window is how long a load must have been gone before replicas follow it.
	Window time.Duration
	// Zero: down to no replica after ZeroAfter without use.
	Zero      bool
	ZeroAfter time.Duration
	// Concurrency is how many requests one replica is given at a time; 0: no limit.
	Concurrency int
	// Depth is how many requests may wait; QueueTimeout for how long, 0: as [Target.Invoke] says.
	Depth        int
	QueueTimeout time.Duration
	// Timeout bounds one execution; 0: not known here.
	Timeout time.Duration
	// Factor is by how much an alert raises, in percent of Max; Resolve says what the end of one does: [ResolveMin] or [ResolveStep].
	Factor  int
	Resolve string
	// Priority puts starts before those of functions with a lower one.
	Priority int
	// Protect: not lowered by load while the replicas that would go have requests.
	Protect bool
}

// What a replica's load is measured by: requests at once, requests a second, or requests that wait.
const (
	Capacity = "capacity"
	Rate     = "rps"
	Backlog  = "queue"
)

// What the end of an alert does: back to the least number, or down by as much as the alert went up.
const (
	ResolveMin  = "min"
	ResolveStep = "step"
)

// protectInFlight is the value of the label for Protect.
const protectInFlight = "in-flight"

// Defaults are the rules of functions that have no labels, and what holds for all functions together.
type Defaults struct {
	Rules
	// AlertFor is how long an alert holds for a function that is scaled by load.
	AlertFor time.Duration
	// QueueTotal is how many requests may wait, whatever for.
	QueueTotal int
	// Starting is how many replicas may be starting at once because of load; it
	// adapts, between 1 and four times as many, to how long starts take.
	Starting int
	// Writes is how many changes a second the engine is asked for because of load; 0: as many as it can do with.
	Writes int
	// PendingAfter is how long there must have been no room for a replica, or room again, until it is told; NodeIdle, how long a node must have had none.
	PendingAfter, NodeIdle time.Duration
}

// NewDefaults are the defaults where the configuration says nothing.
func NewDefaults() Defaults {
	return Defaults{
		Rules: Rules{
			Auto: true, Min: 1, Max: 20, Type: Capacity, Target: 50, Proportion: 0.7, Window: time.Minute,
			ZeroAfter: 5 * time.Minute, Depth: 1000, Factor: 10, Resolve: ResolveMin,
		},
		AlertFor: time.Minute, QueueTotal: 20_000, Starting: 8, PendingAfter: 10 * time.Second, NodeIdle: 10 * time.Minute,
	}
}

// For returns a function's rules: what its labels say, and else the defaults.
func (d *Defaults) For(fn *faas.Function) Rules {
	r := d.Rules
	r.Auto = fn.Is(faas.LabelAuto, r.Auto)
	r.Min = fn.Number(faas.LabelMin, r.Min)
	r.Max = max(1, r.Min, fn.Number(faas.LabelMax, r.Max))
	r.Type = oneOf(fn.Labels[faas.LabelType], r.Type, Capacity, Rate, Backlog)
	r.Proportion = fn.Part(faas.LabelProportion, r.Proportion)
	r.Window = min(fn.Duration(faas.LabelDownWindow, r.Window), faas.MaxDownWindow)
	r.Zero = fn.Is(faas.LabelZero, r.Zero)
	r.ZeroAfter = fn.Duration(faas.LabelZeroDuration, r.ZeroAfter)
	r.Concurrency = min(fn.Number(faas.LabelConcurrency, r.Concurrency), math.MaxInt32) // slots are multiplied
	if r.Concurrency > 0 && r.Type == Capacity {
		r.Target = r.Concurrency
	}
	r.Target = max(1, fn.Number(faas.LabelTarget, r.Target))
	if r.Concurrency > 0 && r.Type == Capacity { // more than it is given it can't have
		r.Target = min(r.Target, r.Concurrency)
	}
	r.Depth = fn.Number(faas.LabelQueueDepth, r.Depth)
	r.QueueTimeout = fn.Duration(faas.LabelQueueTimeout, r.QueueTimeout)
	r.Timeout = fn.Timeout()
	if n := fn.Number(faas.LabelFactor, r.Factor); n <= 100 {
		r.Factor = n
	}
	r.Resolve = oneOf(fn.Labels[faas.LabelResolve], r.Resolve, ResolveMin, ResolveStep)
	r.Priority = fn.Number(faas.LabelPriority, r.Priority)
	r.Protect = fn.Labels[faas.LabelProtect] == protectInFlight
	return r
}

// wake is how many replicas a function at zero is raised to.
func (r *Rules) wake() int { return max(1, r.Min) }

func oneOf(text, absent string, allowed ...string) string {
	for _, a := range allowed {
		if text == a {
			return a
		}
	}
	return absent
}
