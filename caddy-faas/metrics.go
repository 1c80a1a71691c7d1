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
	total   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	live    liveMetrics
}{
	total: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gateway_function_invocation_total",
		Help: "Invocations that have ended, by HTTP status.",
	}, []string{"function_name", "code"}),
	seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "gateway_functions_seconds",
		Help: "Duration of invocations, waiting included, in seconds.",
	}, []string{"function_name", "code"}),
}

func registerMetrics(reg *prometheus.Registry) error {
	for _, c := range []prometheus.Collector{metrics.total, metrics.seconds, metrics.live} {
		if err := reg.Register(c); err != nil && !errors.As(err, &prometheus.AlreadyRegisteredError{}) {
			return err
		}
	}
	return nil
}

// observe counts an invocation that has ended. A function that went meanwhile gets no series any more.
func observe(t *scale.Target, status int, took time.Duration) {
	if t.Gone() {
		return
	}
	name, code := t.ID().String(), strconv.Itoa(status)
	metrics.total.WithLabelValues(name, code).Inc()
	metrics.seconds.WithLabelValues(name, code).Observe(took.Seconds())
	if t.Gone() { // since: then these may have come after it was forgotten
		forgetMetrics(t.ID())
	}
}

// forgetMetrics removes the series of a function that is gone.
func forgetMetrics(id faas.ID) {
	l := prometheus.Labels{"function_name": id.String()}
	metrics.total.DeletePartialMatch(l)
	metrics.seconds.DeletePartialMatch(l)
}

// liveMetrics are read off the registries when they are asked for, so they never lag or stay behind.
type liveMetrics struct{}

var liveDescriptions = []struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*scale.Target) float64
}{
	{live("gateway_function_invocation_started", "Invocations that have begun."), prometheus.CounterValue,
		func(t *scale.Target) float64 { return float64(t.Started()) }},
	{live("gateway_function_cold_starts_total", "Invocations that met no ready replica."), prometheus.CounterValue,
		func(t *scale.Target) float64 { return float64(t.ColdStarts()) }},
	{live("gateway_function_invocation_inflight", "Invocations now inside a replica."), prometheus.GaugeValue,
		func(t *scale.Target) float64 { return float64(t.InFlight()) }},
	{live("gateway_function_invocation_queued", "Invocations now waiting for a replica."), prometheus.GaugeValue,
		func(t *scale.Target) float64 { return float64(t.Queued()) }},
	{live("gateway_service_count", "Replicas that there should be."), prometheus.GaugeValue,
		func(t *scale.Target) float64 { return float64(t.Deployment().Desired) }},
	{live("gateway_service_ready", "Replicas that are ready."), prometheus.GaugeValue,
		func(t *scale.Target) float64 { return float64(t.Ready()) }},
}

func live(name, help string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, []string{"function_name"}, nil)
}

func (liveMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range liveDescriptions {
		ch <- d.desc
	}
}

// Collect sends the series of every function; of one that two engines have,
// while a configuration with another data directory takes over, those of either.
func (liveMetrics) Collect(ch chan<- prometheus.Metric) {
	sent := make(map[faas.ID]bool)
	for t := range everyTarget() {
		if sent[t.ID()] {
			continue
		}
		sent[t.ID()] = true
		for _, d := range liveDescriptions {
			ch <- prometheus.MustNewConstMetric(d.desc, d.kind, d.value(t), t.ID().String())
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
