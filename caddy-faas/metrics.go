package caddyfaas

import (
	"errors"
	"iter"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/scale"
)

// Metrics are made once and registered at each load of a configuration, as
// Caddy's registry is new each time. Names and labels are OpenFaaS's where it
// has them, so that its dashboards and alert rules work; function_name is
// always NAME.NAMESPACE of a function that exists.
var metrics = struct {
	total    *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	cold     *prometheus.HistogramVec
	alerts   *prometheus.CounterVec
	verified *prometheus.CounterVec
	alexa    *prometheus.CounterVec
	live     liveMetrics
}{
	total: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gateway_function_invocation_total",
		Help: "Invocations that have ended, by HTTP status.",
	}, []string{"function_name", "code"}),
	seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "gateway_functions_seconds",
		Help: "Duration of invocations, waiting included, in seconds.",
	}, []string{"function_name", "code"}),
	cold: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "gateway_function_cold_start_seconds",
		Help:    "How long invocations that met no ready replica waited for one, in seconds.",
		Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
	}, []string{"function_name"}),
	alerts: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gateway_alerts_total",
		Help: "Alerts on the load of functions, by what became of them: obeyed, repeated, unknown (function) or failed.",
	}, []string{"outcome"}),
	verified: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "faas_verify_total",
		Help: "Requests of routes with faas_verify, by scheme and by what became of them.",
	}, []string{"scheme", "result"}),
	alexa: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "faas_alexa_requests_total",
		Help: "Alexa requests, by type and by what became of them.",
	}, []string{"type", "result"}),
}

func registerMetrics(reg *prometheus.Registry) error {
	for _, c := range []prometheus.Collector{metrics.total, metrics.seconds, metrics.cold, metrics.alerts, metrics.verified, metrics.alexa, metrics.live} {
		if err := reg.Register(c); err != nil && !errors.As(err, &prometheus.AlreadyRegisteredError{}) {
			return err
		}
	}
	return nil
}

// observe counts an invocation that has ended. A function that went meanwhile gets no series any more.
func (e *engine) observe(t *scale.Target, status int, took time.Duration, cause error) {
	if t.Gone() {
		return
	}
	e.ended(t, status, took, cause)
	name, code := t.Name(), strconv.Itoa(status)
	metrics.total.WithLabelValues(name, code).Inc()
	metrics.seconds.WithLabelValues(name, code).Observe(took.Seconds())
	if t.Gone() { // since: then these may have come after it was forgotten
		e.forget(t.ID())
	}
}

// observeColdStart counts a wait for a first replica.
func observeColdStart(t *scale.Target, waited time.Duration) {
	metrics.cold.WithLabelValues(t.Name()).Observe(waited.Seconds())
	if t.Gone() {
		forgetMetrics(t.ID())
	}
}

// forgetMetrics removes the series of a function that is gone.
func forgetMetrics(id faas.ID) {
	l := prometheus.Labels{"function_name": id.String()}
	metrics.total.DeletePartialMatch(l)
	metrics.seconds.DeletePartialMatch(l)
	metrics.cold.DeletePartialMatch(l)
}

// liveMetrics are read off the registries when they are asked for, so they never lag or stay behind.
type liveMetrics struct{}

var liveDescriptions = []struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*scale.Target, scale.Status) float64
}{
	{live("gateway_function_invocation_started", "Invocations that have begun."), prometheus.CounterValue,
		func(t *scale.Target, _ scale.Status) float64 { return float64(t.Started()) }},
	{live("gateway_function_cold_starts_total", "Invocations that met no ready replica."), prometheus.CounterValue,
		func(t *scale.Target, _ scale.Status) float64 { return float64(t.ColdStarts()) }},
	{live("gateway_function_invocation_inflight", "Invocations now inside a replica."), prometheus.GaugeValue,
		func(_ *scale.Target, s scale.Status) float64 { return float64(s.InFlight) }},
	{live("gateway_function_invocation_queued", "Invocations now waiting for a replica."), prometheus.GaugeValue,
		func(_ *scale.Target, s scale.Status) float64 { return float64(s.Queued) }},
	{live("gateway_function_invocation_rate", "Invocations a second, as scaling sees them."), prometheus.GaugeValue,
		func(_ *scale.Target, s scale.Status) float64 { return s.Rate }},
	{live("gateway_service_count", "Replicas that there should be."), prometheus.GaugeValue,
		func(_ *scale.Target, s scale.Status) float64 { return float64(s.Desired) }},
	{live("gateway_service_ready", "Replicas that are ready."), prometheus.GaugeValue,
		func(_ *scale.Target, s scale.Status) float64 { return float64(s.Ready) }},
	{live("gateway_service_starting", "Replicas that are not ready yet."), prometheus.GaugeValue,
		func(_ *scale.Target, s scale.Status) float64 { return float64(s.Starting) }},
	{live("gateway_service_pending", "Replicas that the engine has no room for."), prometheus.GaugeValue,
		func(_ *scale.Target, s scale.Status) float64 { return float64(s.Pending) }},
}

var ageDescription = prometheus.NewDesc("gateway_provider_age_seconds",
	"How long ago the provider's engine last answered; what requests meet is at most this old.", []string{"provider"}, nil)

// collectAge sends how old that is which each engine told; of two of one name, the older.
func collectAge(ch chan<- prometheus.Metric) {
	ages := make(map[string]time.Duration)
	engines.Range(func(_, v any) bool {
		if e, ok := v.(*engine); ok {
			if p, ok := e.provider.(faas.Aging); ok {
				if age, known := p.Age(); known {
					ages[e.orchestration] = max(ages[e.orchestration], age)
				}
			}
		}
		return true
	})
	for name, age := range ages {
		ch <- prometheus.MustNewConstMetric(ageDescription, prometheus.GaugeValue, age.Seconds(), name)
	}
}

func live(name, help string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, []string{"function_name"}, nil)
}

func (liveMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range liveDescriptions {
		ch <- d.desc
	}
	ch <- ageDescription
}

// Collect sends the series of every function; of one that two engines have,
// while a configuration with another data directory takes over, those of either.
func (liveMetrics) Collect(ch chan<- prometheus.Metric) {
	collectAge(ch)
	sent := make(map[faas.ID]bool)
	for t := range everyTarget() {
		if sent[t.ID()] {
			continue
		}
		sent[t.ID()] = true
		status := t.Status()
		for _, d := range liveDescriptions {
			ch <- prometheus.MustNewConstMetric(d.desc, d.kind, d.value(t, status), t.ID().String())
		}
	}
}

// everyTarget yields the functions of all engines.
func everyTarget() iter.Seq[*scale.Target] {
	return func(yield func(*scale.Target) bool) {
		engines.Range(func(_, v any) bool {
			if e, ok := v.(*engine); ok {
				for t := range e.registry.All() {
					if !yield(t) {
						return false
					}
				}
			}
			return true
		})
	}
}
