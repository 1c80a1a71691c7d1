package swarm

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Bursts, between which functions go to zero: no request is lost, and nothing is left behind.
func TestBurstsOnSwarm(t *testing.T) {
	length := 30 * time.Second
	if d, err := time.ParseDuration(os.Getenv("FAAS_TEST_BURSTS")); err == nil {
		length = d
	}
	g := beginGateway(t)
	names := map[string]string{run + "-fast": "cat", run + "-slow": "sh -c 'sleep 0.2; cat'"}
	for name, process := range names {
		d := deployment(name, process)
		labelled(d, "faas.scale.auto", "true", "com.openfaas.scale.min", "0", "com.openfaas.scale.max", "3", "faas.concurrency", "4",
			"com.openfaas.scale.zero", "true", "com.openfaas.scale.zero-duration", "1s", "com.openfaas.scale.down.window", "1s")
		g.call("POST", "/system/functions", d, 202)
	}
	var sent atomic.Int64
	burst := func(name string, n int) {
		var all sync.WaitGroup
		for range n {
			all.Go(func() {
				body := fmt.Sprint("request ", sent.Add(1))
				if status, answer, err := g.try("POST", "/function/"+name, body); err != nil || status != 200 || answer != body {
					t.Errorf("lost: %s: %d %q %v", body, status, answer, err)
				}
			})
		}
		all.Wait()
	}
	atZero := func() {
		t.Helper()
		httpClient.CloseIdleConnections()
		for name := range names {
			g.ready(name, 0)
			eventually(t, "the containers have ended", func() bool { return g.settled(name, 0) })
		}
	}
	// held is what the gateway's process has of a thing.
	held := func(series string) int {
		t.Helper()
		for line := range strings.Lines(g.call("GET", "/metrics", "", 200)) {
			if value, ok := strings.CutPrefix(line, series+" "); ok {
				n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
				must(t, err)
				return int(n)
			}
		}
		t.Fatalf("no %s", series)
		return 0
	}
	cold := func() (n int) {
		for name := range names {
			n += held(fmt.Sprintf(`gateway_function_cold_starts_total{function_name="%s.openfaas-fn"}`, name))
		}
		return n
	}
	for name := range names {
		burst(name, 10)
	}
	atZero()
	before := map[string]int{}
	for _, series := range []string{"go_goroutines", "process_open_fds", "go_memstats_heap_objects"} {
		before[series] = held(series)
	}
	woken := cold()
	var load sync.WaitGroup
	until := time.Now().Add(length)
	for i, name := range slices.Sorted(maps.Keys(names)) {
		load.Go(func() {
			for n := 0; time.Now().Before(until); n++ {
				burst(name, 1+(7*n+3*i)%20)
				<-time.After(time.Duration(n%4) * time.Second)
			}
		})
	}
	load.Wait()
	atZero()
	t.Logf("%d requests, %d met no replica", sent.Load(), cold()-woken)
	if cold() == woken {
		t.Error("no function went to zero")
	}
	after := map[string]int{}
	for series, most := range map[string]int{"go_goroutines": 4, "process_open_fds": 4, "go_memstats_heap_objects": 60000} {
		eventually(t, series+" is no more than before", func() bool {
			httpClient.CloseIdleConnections()
			after[series] = held(series)
			return after[series] <= before[series]+most
		})
	}
	t.Logf("before: %v, after: %v", before, after)
}
