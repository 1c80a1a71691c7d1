package faas

import "strconv"

// Labels that change what this program does with a function. OpenFaaS's keep
// their names and meaning; a label that does not parse counts as absent.
const (
	// LabelMin is the least number of replicas, and the number at deployment. Default: 1.
	LabelMin = "com.openfaas.scale.min"
	// LabelAlexa ("true") lets an Alexa request reach the function. Default: false.
	LabelAlexa = "faas.alexa"
	// LabelConcurrency is how many requests one replica is given at a time. Default: 0, no limit.
	LabelConcurrency = "faas.concurrency"
	// LabelTimeout bounds one execution, as a Go duration or whole seconds. Default: the watchdog's exec_timeout.
	LabelTimeout = "faas.timeout"
)

// InitialReplicas is the number of replicas that a function is deployed with.
func (f *Function) InitialReplicas() int { return f.label(LabelMin, 1) }

// WakeReplicas is the number of replicas that a function at zero is raised to.
func (f *Function) WakeReplicas() int { return max(1, f.InitialReplicas()) }

// Concurrency is the number of requests that one replica is given at a time; 0 means no limit.
func (f *Function) Concurrency() int { return f.label(LabelConcurrency, 0) }

// Alexa tells whether an Alexa request may reach the function.
func (f *Function) Alexa() bool {
	on, err := strconv.ParseBool(f.Labels[LabelAlexa])
	return err == nil && on
}

// label reads a whole number that is not negative.
func (f *Function) label(name string, absent int) int {
	n, err := strconv.Atoi(f.Labels[name])
	if err != nil || n < 0 {
		return absent
	}
	return n
}
