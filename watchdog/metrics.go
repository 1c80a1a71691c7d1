package main

import (
	"bytes"
	"fmt"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

// seconds are the upper bounds of the histogram's buckets: Prometheus' defaults.
var seconds = [...]float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// metrics counts the function's requests, under the names that the classic watchdog uses:
//
//	http_requests_total{code,method}             counter
//	http_request_duration_seconds{code,method}   histogram
//	http_requests_in_flight                      gauge
type metrics struct {
	mu       sync.Mutex
	inflight int
	series   map[labels]*series
}

type labels struct {
	code   int
	method string
}

type series struct {
	buckets [len(seconds)]uint64 // each without the ones before it
	count   uint64
	sum     float64
}

func newMetrics() *metrics { return &metrics{series: make(map[labels]*series)} }

// record is a ResponseWriter that remembers the status.
type record struct {
	http.ResponseWriter
	metrics *metrics
	method  string
	code    int
	start   time.Time
}

func (m *metrics) begin(w http.ResponseWriter, r *http.Request) *record {
	m.mu.Lock()
	m.inflight++
	m.mu.Unlock()
	return &record{ResponseWriter: w, metrics: m, method: methodLabel(r.Method), start: time.Now()}
}

// methodLabel is the method in lower case; callers could make series without end if others than HTTP's were let through.
func methodLabel(method string) string {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE":
		return strings.ToLower(method)
	}
	return "unknown"
}

// Unwrap lets http.ResponseController through.
func (r *record) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *record) WriteHeader(code int) {
	if r.code < http.StatusOK && r.code != http.StatusSwitchingProtocols {
		r.code = code
	}
	r.ResponseWriter.WriteHeader(code)
}

// end counts the request. One that was broken off before its status counts as 499, the client's end of the connection.
func (r *record) end() {
	code := r.code
	aborted := recover()
	switch {
	case code == 0 && aborted != nil:
		code = 499
	case code == 0:
		code = http.StatusOK
	}
	r.metrics.count(labels{code, r.method}, time.Since(r.start).Seconds())
	if aborted != nil {
		panic(aborted)
	}
}

func (m *metrics) count(l labels, took float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.inflight--
	s := m.series[l]
	if s == nil {
		s = &series{}
		m.series[l] = s
	}
	s.count++
	s.sum += took
	for i, most := range seconds {
		if took <= most {
			s.buckets[i]++
			break
		}
	}
}

// ServeHTTP writes everything in Prometheus' text format.
func (m *metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/metrics" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Write(m.text())
}

func (m *metrics) text() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	keys := make([]labels, 0, len(m.series))
	for l := range m.series {
		keys = append(keys, l)
	}
	sort.Slice(keys, func(i, j int) bool {
		a, b := keys[i], keys[j]
		return a.code < b.code || a.code == b.code && a.method < b.method
	})
	var b bytes.Buffer
	b.WriteString("# HELP http_requests_total Requests to the function.\n# TYPE http_requests_total counter\n")
	for _, l := range keys {
		fmt.Fprintf(&b, "http_requests_total{%s} %d\n", l, m.series[l].count)
	}
	b.WriteString("# HELP http_request_duration_seconds Duration of requests to the function.\n# TYPE http_request_duration_seconds histogram\n")
	for _, l := range keys {
		m.series[l].write(&b, l)
	}
	b.WriteString("# HELP http_requests_in_flight Requests now in the function.\n# TYPE http_requests_in_flight gauge\n")
	fmt.Fprintf(&b, "http_requests_in_flight %d\n", m.inflight)
	return b.Bytes()
}

func (l labels) String() string { return fmt.Sprintf(`code="%d",method="%s"`, l.code, l.method) }

func (s *series) write(b *bytes.Buffer, l labels) {
	var below uint64
	for i, most := range seconds {
		below += s.buckets[i]
		fmt.Fprintf(b, "http_request_duration_seconds_bucket{%s,le=\"%s\"} %d\n", l, strconv.FormatFloat(most, 'g', -1, 64), below)
	}
	fmt.Fprintf(b, "http_request_duration_seconds_bucket{%s,le=\"+Inf\"} %d\n", l, s.count)
	fmt.Fprintf(b, "http_request_duration_seconds_sum{%s} %s\n", l, strconv.FormatFloat(s.sum, 'g', -1, 64))
	fmt.Fprintf(b, "http_request_duration_seconds_count{%s} %d\n", l, s.count)
}
