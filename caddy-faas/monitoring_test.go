package caddyfaas

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// openfaasRules are those that OpenFaaS's Prometheus has.
const openfaasRules = `groups:
- name: prometheus/alert.rules
  rules:
  - alert: service_down
    expr: up == 0
  - alert: APIHighInvocationRate
    expr: sum(rate(gateway_function_invocation_total{code="200"}[10s])) BY (function_name) > 5
    for: 5s
    labels:
      service: gateway
      severity: major
    annotations:
      description: High invocation total on {{ $labels.function_name }}
      summary: High invocation total on {{ $labels.function_name }}
`

// edited is a file of deploy/monitoring in which texts, each of which must be there, are replaced.
func edited(t *testing.T, name string, pairs ...string) string {
	t.Helper()
	text := read(t, "../deploy/monitoring/"+name)
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("%s has no %q", name, pairs[i])
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

// monitor runs Prometheus and Alertmanager as deploy/monitoring has them, but
// faster and on this machine, beside a gateway. It returns Prometheus's address.
func (g *gateway) monitor(t *testing.T, rules string) string {
	t.Helper()
	prometheus, alertmanager := needs(t, "prometheus"), needs(t, "prometheus-alertmanager")
	at, to := "127.0.0.1:"+freePort(t), "127.0.0.1:"+freePort(t)
	for name, text := range map[string]string{
		"alert.rules.yml": rules,
		"prometheus.yml": edited(t, "prometheus.yml",
			"scrape_interval: 5s", "scrape_interval: 1s", "evaluation_interval: 5s", "evaluation_interval: 1s",
			"alertmanager:9093", to,
			"dns_sd_configs:\n      - names: [tasks.gateway]\n        type: A\n        port: 8080\n        refresh_interval: 5s",
			"static_configs: [{targets: ['"+strings.TrimPrefix(g.url, "http://")+"']}]"),
		"alertmanager.yml": edited(t, "alertmanager.yml",
			"group_wait: 5s", "group_wait: 1s", "group_interval: 10s", "group_interval: 1s", "repeat_interval: 30s", "repeat_interval: 26s",
			"http://gateway:8080", g.url, "/run/secrets/admin-password", g.data()+"/admin.password"),
	} {
		if err := os.WriteFile(g.dir+"/"+name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	g.background(t, alertmanager, "--config.file", g.dir+"/alertmanager.yml", "--storage.path", g.dir+"/alerts",
		"--web.listen-address", to, "--cluster.listen-address=")
	g.background(t, prometheus, "--config.file", g.dir+"/prometheus.yml", "--storage.tsdb.path", g.dir+"/series",
		"--web.listen-address", at)
	return "http://" + at
}

// query asks Prometheus, and returns how many series answer.
func query(t *testing.T, prometheus, expr string) int {
	t.Helper()
	var a struct {
		Status, Error string
		Data          struct{ Result []json.RawMessage }
	}
	resp, err := http.Get(prometheus + "/api/v1/query?query=" + url.QueryEscape(expr))
	if err != nil {
		return 0 // it still starts
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusServiceUnavailable {
		return 0
	}
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil || a.Status != "success" {
		t.Fatalf("%s: %s %s %v", expr, a.Status, a.Error, err)
	}
	return len(a.Data.Result)
}

// keepBusy calls a function from so many clients at once, 20 times a second at
// most each, until the returned function is called, or the test ends.
func (g *gateway) keepBusy(t *testing.T, name string, clients int) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	for range clients {
		done.Go(func() {
			for ctx.Err() == nil {
				if a, err := g.try(ctx, "POST", "/function/"+name, strings.NewReader("x")); err == nil && a.StatusCode != 200 {
					t.Errorf("under load: %d %s", a.StatusCode, a.body)
					return
				}
				select {
				case <-ctx.Done():
				case <-time.After(50 * time.Millisecond):
				}
			}
		})
	}
	stop = func() { cancel(); done.Wait() }
	t.Cleanup(stop)
	return stop
}

func (g *gateway) replicas(t *testing.T, name string) int {
	t.Helper()
	var f struct{ Replicas int }
	a := g.asAdmin(t, "GET", "/system/function/"+name, "")
	if err := json.Unmarshal([]byte(a.body), &f); err != nil {
		t.Fatalf("%d %s: %v", a.StatusCode, a.body, err)
	}
	return f.Replicas
}

// watched is a gateway with one function, busy, that alerts raise by a quarter
// of ten replicas, and the address of its Prometheus.
func watched(t *testing.T, rules, busy string) (g *gateway, prometheus string) {
	t.Helper()
	t.Parallel()
	g = shippedGateway(t)
	functions := "functions:\n  busy:\n    labels:\n      com.openfaas.scale.max: \"10\"\n      com.openfaas.scale.factor: \"25\"\n" + busy
	if err := os.WriteFile(g.dir+"/functions/stack.yml", []byte(functions), 0o644); err != nil {
		t.Fatal(err)
	}
	g.reload(t)
	prometheus = g.monitor(t, rules)
	eventually(t, "Prometheus has seen the function", func() bool { return query(t, prometheus, "gateway_service_count") == 1 })
	return g, prometheus
}

// With the rules that are shipped, the real Prometheus and Alertmanager raise a
// function that its own load does not, keep it there while it is used, and no longer.
func TestMonitoring(t *testing.T) {
	rules := edited(t, "alert.rules.yml", "for: 5s", "for: 1s", "[15s]", "[3s]", "> 40", "> 3", "> 20", "> 1")
	g, prometheus := watched(t, rules, "      com.openfaas.scale.down.window: 5s\n    fprocess: sh -c 'sleep 0.4; cat'\n")
	stop := g.keepBusy(t, "busy", 8)
	eventually(t, "the function has 1+3 replicas", func() bool { return g.replicas(t, "busy") == 4 })
	eventually(t, "it has been used for longer than its window since it was last too busy", func() bool {
		return query(t, prometheus, `count_over_time(ALERTS{alertname="FunctionUsed",alertstate="firing"}[12s]) > 10
			unless on (function_name) count_over_time(ALERTS{alertname="FunctionBusy",alertstate="firing"}[12s])`) == 1
	})
	if n := g.replicas(t, "busy"); n != 4 {
		t.Errorf("while it is used the function has %d replicas", n)
	}
	testDashboards(t, prometheus)
	stop()
	eventually(t, "the function is back at its minimum", func() bool { return g.replicas(t, "busy") == 1 })
}

// With OpenFaaS's rules they scale as they do there: a step more each time that
// the alert is sent, and back to the minimum.
func TestMonitoringOfOpenFaaS(t *testing.T) {
	g, prometheus := watched(t, openfaasRules, "      faas.scale.auto: \"false\"\n    fprocess: cat\n")
	stop := g.keepBusy(t, "busy", 3) // five calls a second, on a busy machine too
	eventually(t, "the function has 1+3 replicas", func() bool { return g.replicas(t, "busy") == 4 })
	eventually(t, "the alert, sent again, has brought 3 more", func() bool { return g.replicas(t, "busy") == 7 })
	testDashboards(t, prometheus)
	stop()
	eventually(t, "the function is back at its minimum", func() bool { return g.replicas(t, "busy") == 1 })
}

// Each panel of the shipped dashboard shows something, and so do OpenFaaS's.
func testDashboards(t *testing.T, prometheus string) {
	t.Helper()
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, "../deploy/monitoring/functions.json")), &board); err != nil || len(board.Panels) == 0 {
		t.Fatalf("%d panels: %v", len(board.Panels), err)
	}
	queries := map[string]string{
		"OpenFaaS's rate":     `rate(gateway_function_invocation_total[20s])`,
		"OpenFaaS's duration": `(rate(gateway_functions_seconds_sum[20s]) / rate(gateway_functions_seconds_count[20s]))`,
		"OpenFaaS's scaling":  `gateway_service_count`,
		"OpenFaaS's codes":    `sum(gateway_function_invocation_total) by (code)`,
	}
	for _, p := range board.Panels {
		for i, target := range p.Targets {
			queries[fmt.Sprintf("%s %d", p.Title, i)] = strings.NewReplacer("$__rate_interval", "20s", "$function", ".+").Replace(target.Expr)
		}
	}
	for name, expr := range queries {
		if query(t, prometheus, expr) == 0 {
			t.Errorf("%s: no series for %s", name, expr)
		}
	}
}
