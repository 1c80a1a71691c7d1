package faas

import (
	"math"
	"strconv"
	"time"
)

// Labels that change what this program does with a function. OpenFaaS's keep
// their names and meaning; a label that does not parse counts as absent, and
// [Function.Misread] tells of it. Where
// the default is "the configuration's" it is in the Caddyfile's scale block.
const (
	// LabelMin is the least number of replicas, and the number at deployment. Default: 1.
	LabelMin = "com.openfaas.scale.min"
	// LabelMax is the most replicas that scaling by load goes to. Default: the configuration's (20), or the least number if that is more.
	LabelMax = "com.openfaas.scale.max"
	// LabelFactor is by how much an alert raises the number of replicas, in percent of the most, from 0
	// (alerts change nothing) to 100. Default: 10.
	LabelFactor = "com.openfaas.scale.factor"
	// LabelType is what a replica's load is measured by: capacity (requests at once), rps (requests a
	// second) or queue (requests that wait). Default: capacity.
	LabelType = "com.openfaas.scale.type"
	// LabelTarget is the load of a replica that is fully used, in the unit of LabelType.
	// Default: LabelConcurrency for capacity, where that is set; else the configuration's (50).
	LabelTarget = "com.openfaas.scale.target"
	// LabelProportion is which part of the target is aimed at, above 0 and at most 1. Default: the configuration's (0.7).
	LabelProportion = "com.openfaas.scale.target-proportion"
	// LabelZero ("true") lets a function that is not used go down to no replica. Default: the configuration's (false).
	LabelZero = "com.openfaas.scale.zero"
	// LabelZeroDuration is for how long a function must not have been used for that. Default: the configuration's (5m).
	LabelZeroDuration = "com.openfaas.scale.zero-duration"
	// LabelDownWindow is how long a load must have been gone before replicas follow it; more than [MaxDownWindow] is as much as that. Default: the configuration's (60s).
	LabelDownWindow = "com.openfaas.scale.down.window"
	// LabelAuto ("false") keeps a function from being raised and lowered by its load. Default: the configuration's (true).
	LabelAuto = "faas.scale.auto"
	// LabelResolve is what a resolved alert does: min (down to the least number) or step (down by as much as it went up). Default: min.
	LabelResolve = "faas.scale.alert.resolve"
	// LabelProtect ("in-flight") keeps a function from being lowered by load while the replicas that would go have
	// requests, however long these take. Default: they have 30s, or LabelTimeout if that is shorter.
	LabelProtect = "faas.scale.protect"
	// LabelPriority puts a function's starts before those of functions with a lower number. Default: 0.
	LabelPriority = "faas.start.priority"
	// LabelAlexa ("true") lets an Alexa request reach the function. Default: false.
	LabelAlexa = "faas.alexa"
	// LabelCanFulfill ("true") also sends it the questions whether it could answer an intent, which must have no effect. Default: false.
	LabelCanFulfill = "faas.alexa.can_fulfill"
	// LabelAuth says who may call the function: none, basic, or a scheme of signatures such as github. Default: none.
	LabelAuth = "faas.auth"
	// LabelAuthSecret names the secrets for that, of the function's namespace: for basic USER:PASSWORD. Without LabelAuth nobody may call the function.
	LabelAuthSecret = "faas.auth.secret"
	// LabelMethods are the methods that may be used, such as "GET POST". Default: all.
	LabelMethods = "faas.methods"
	// LabelMaxBody bounds a request's body at the gateway, as a quantity of bytes such as 1Mi. Default: the route's bound.
	LabelMaxBody = "faas.max_body"
	// LabelDomains are host names that are the function's own, on a site with `domains`. Default: none.
	LabelDomains = "faas.domains"
	// LabelConcurrency is how many requests one replica is given at a time. Default: the configuration's (0, no limit).
	LabelConcurrency = "faas.concurrency"
	// LabelQueueDepth is how many requests may wait for the function. Default: the configuration's (1000).
	LabelQueueDepth = "faas.queue.depth"
	// LabelQueueTimeout bounds that wait, as a Go duration or whole seconds. Default: the configuration's, or
	// the longest of 10s, 3.5 times what a start takes, and LabelTimeout; 30s as long as it is not known what a start takes.
	LabelQueueTimeout = "faas.queue.timeout"
	// LabelTimeout bounds one execution, as a Go duration or whole seconds; it may be an annotation. Default: the watchdog's exec_timeout.
	LabelTimeout = "faas.timeout"
	// LabelOpenFiles is how many files each process of the function may have open. Default: the provider's.
	LabelOpenFiles = "faas.limits.open_files"
	// LabelProcesses is how many processes and threads a replica may have. Default: the provider's.
	LabelProcesses = "faas.limits.processes"
	// LabelRequest bounds a request's body, as a quantity of bytes such as 1Mi. Default: the watchdog's max_request.
	LabelRequest = "faas.limits.request"
	// LabelResponse bounds an answer's body, likewise. Default: the watchdog's max_response.
	LabelResponse = "faas.limits.response"
	// LabelExtension is the file name extension that the page keeps an answer with. Default: by its Content-Type.
	LabelExtension = "com.openfaas.ui.ext"
)

// MaxDownWindow bounds LabelDownWindow.
const MaxDownWindow = 5 * time.Minute

// Labels that only the swarm provider knows. One that does not parse is refused at deployment.
const (
	// LabelUser is who the function runs as: UID or UID:GID, or names that the image knows. Default: the provider's, then the image's.
	LabelUser = "faas.user"
	// LabelCapDrop names capabilities that the function does without, parted by commas, or ALL. Default: the provider's.
	LabelCapDrop = "faas.cap_drop"
	// LabelInit ("true") puts the engine's init before the function. Default: the engine's.
	LabelInit = "faas.init"
	// LabelTmpfs is a list of PATH or PATH=SIZE, parted by commas: writable places in memory. Default: /tmp, if the root is read-only.
	LabelTmpfs = "faas.tmpfs"
	// LabelHealthcheck is a command, run without a shell, that ends with status 0 while a replica is healthy; a list in JSON, or words;
	// or none. Default: the image's.
	LabelHealthcheck = "faas.healthcheck"
	// LabelMaxPerNode is the most replicas on one node. Default: 0, no limit.
	LabelMaxPerNode = "faas.max_per_node"
	// LabelUpdateOrder is start-first or stop-first. Default: start-first.
	LabelUpdateOrder = "faas.update.order"
	// LabelUpdateParallelism is how many replicas are replaced at a time; 0: all. Default: 1.
	LabelUpdateParallelism = "faas.update.parallelism"
	// LabelUpdateDelay is how long to wait between them, as a duration. Default: 0.
	LabelUpdateDelay = "faas.update.delay"
	// LabelUpdateFailure is what to do when replicas of the new version fail: rollback, pause or continue. Default: rollback.
	LabelUpdateFailure = "faas.update.failure"
	// LabelJob ("true") makes the function a job: its command is run to its end, at deployment and by [Runner], and no request reaches it. Default: false.
	LabelJob = "faas.job"
	// LabelCompletions is how many processes of a job must end with status 0. Default: 1.
	LabelCompletions = "faas.job.completions"
	// LabelParallelism is how many of them run at a time. Default: 1.
	LabelParallelism = "faas.job.parallelism"
	// LabelRetries is how many times a process of a job that has failed is run again, at most 100. Default: 0.
	LabelRetries = "faas.job.retries"
)

// InitialReplicas is the number of replicas that a function is deployed with.
func (f *Function) InitialReplicas() int { return f.Number(LabelMin, 1) }

// Concurrency is the number of requests that one replica is given at a time; 0 means no limit.
func (f *Function) Concurrency() int { return f.Number(LabelConcurrency, 0) }

// Alexa tells whether an Alexa request may reach the function.
func (f *Function) Alexa() bool { return f.Is(LabelAlexa, false) }

// CanFulfill tells whether it may be asked if it could answer an intent.
func (f *Function) CanFulfill() bool { return f.Is(LabelCanFulfill, false) }

// Timeout bounds one execution; 0 if the function doesn't say.
func (f *Function) Timeout() time.Duration {
	for _, text := range []string{f.Labels[LabelTimeout], f.Annotations[LabelTimeout]} {
		if d, ok := ParseDuration(text); ok {
			return d
		}
	}
	return 0
}

// Number reads a label that is a whole number, not negative.
func (f *Function) Number(label string, absent int) int {
	n, err := strconv.Atoi(f.Labels[label])
	if err != nil || n < 0 {
		return absent
	}
	return n
}

// Part reads a label that is above 0 and at most 1.
func (f *Function) Part(label string, absent float64) float64 {
	n, err := strconv.ParseFloat(f.Labels[label], 64)
	if err != nil || !(n > 0 && n <= 1) {
		return absent
	}
	return n
}

// Is reads a label that is true or false.
func (f *Function) Is(label string, absent bool) bool {
	is, err := strconv.ParseBool(f.Labels[label])
	if err != nil {
		return absent
	}
	return is
}

// Duration reads a label that is a duration, not negative.
func (f *Function) Duration(label string, absent time.Duration) time.Duration {
	if d, ok := ParseDuration(f.Labels[label]); ok {
		return d
	}
	return absent
}

// ParseDuration reads a Go duration or whole seconds, not negative, as the watchdog does.
func ParseDuration(text string) (time.Duration, bool) {
	if d, err := time.ParseDuration(text); err == nil {
		return d, d >= 0
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/int64(time.Second) {
		return 0, false
	}
	return time.Duration(n) * time.Second, true
}
