package caddyfaas

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Half a minute of bursts, between which functions go to zero: no request is
// lost, and nothing is left behind.
func TestBurstsWithScaleToZero(t *testing.T) {
	t.Parallel()
	length := 30 * time.Second
	if testing.Short() {
		length = 8 * time.Second
	}
	if d, err := time.ParseDuration(os.Getenv("FAAS_TEST_BURSTS")); err == nil {
		length = d
	}
	var stack strings.Builder
	stack.WriteString("functions:\n")
	mark := fmt.Sprintf("sleep 0.05%d", os.Getpid()) // unlike any other
	for i, command := range []string{"cat", "cat", "sh -c '" + mark + "; cat'", "sh -c 'sleep 0.1; cat'"} {
		fmt.Fprintf(&stack, "  f%d:\n    fprocess: %s\n    labels:\n      faas.concurrency: \"%d\"\n      com.openfaas.scale.max: \"4\"\n", i, command, []int{0, 2, 1, 4}[i])
	}
	g := newGateway(t, map[string]string{
		"Caddyfile": strings.Replace(managed, "EXTRA", "scale {\n\t\t\tdown_window 1s\n\t\t\tzero on\n\t\t\tzero_duration 200ms\n\t\t}", 1),
		"stack.yml": stack.String(),
	})
	g.start(t)
	var sent, woken atomic.Int64
	burst := func(name string, n int) {
		var all sync.WaitGroup
		for range n {
			all.Go(func() {
				body := fmt.Sprint("request ", sent.Add(1))
				a, err := g.try(t.Context(), "POST", "/function/"+name, strings.NewReader(body))
				switch {
				case err != nil || a.StatusCode != 200 || a.body != body:
					t.Errorf("lost: %s: %v %+v", body, err, a)
				case a.Header.Get("X-Faas-Cold-Start") != "":
					woken.Add(1)
				}
			})
		}
		all.Wait()
	}
	atZero := func() {
		g.client.CloseIdleConnections()
		eventually(t, "all functions are at zero", func() bool { return len(g.watchdogs(t)) == 0 })
	}
	files := func() int {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", g.cmd.Process.Pid))
		if err != nil {
			return 0 // not on this system
		}
		return len(entries)
	}
	for i := range 4 {
		burst(fmt.Sprint("f", i), 10)
	}
	atZero()
	goroutines, open, memory := g.goroutines(t), files(), g.heap(t)
	var load sync.WaitGroup
	until := time.Now().Add(length)
	for i := range 4 {
		load.Go(func() {
			for n := 0; time.Now().Before(until); n++ {
				burst(fmt.Sprint("f", i), 1+(7*n+3*i)%20)
				<-time.After(time.Duration((n%7)*500) * time.Millisecond)
			}
		})
	}
	load.Wait()
	atZero()
	t.Logf("%d requests, %d met no replica", sent.Load(), woken.Load())
	if woken.Load() < 8 {
		t.Error("hardly a function went to zero")
	}
	eventually(t, "goroutines and files are no more than before", func() bool {
		g.client.CloseIdleConnections()
		return g.goroutines(t) <= goroutines+2 && files() <= open+2
	})
	after := g.heap(t)
	if after > memory+4<<20 {
		t.Errorf("%.1f MiB are in use, %.1f were before", after/(1<<20), memory/(1<<20))
	}
	t.Logf("goroutines %d, then %d; files %d, then %d; %.1f MiB, then %.1f", goroutines, g.goroutines(t), open, files(), memory/(1<<20), after/(1<<20))
	if rest := processes(t, mark); len(rest) > 0 {
		t.Errorf("processes %v are left", rest)
	}
}

// The simulation's traces, shorter, with real processes: every request is
// answered, replicas come with the load, and go when it has gone.
func TestTracesWithProcesses(t *testing.T) {
	t.Parallel()
	g := newGateway(t, map[string]string{
		"Caddyfile": strings.Replace(managed, "EXTRA", "scale {\n\t\t\tdown_window 1s\n\t\t\tconcurrency 2\n\t\t\tmax 10\n\t\t}", 1),
		"stack.yml": "functions:\n  step:\n    fprocess: sh -c 'sleep 0.1; cat'\n  onoff:\n    fprocess: sh -c 'sleep 0.1; cat'\n  spike:\n    fprocess: sh -c 'sleep 0.1; cat'\n",
	})
	g.start(t)
	const length = 9 // s
	var all sync.WaitGroup
	for name, rate := range map[string]func(s float64) float64{
		"step": func(s float64) float64 { return 40 },
		"onoff": func(s float64) float64 {
			if int(s)%3 == 0 {
				return 40
			}
			return 0.01
		},
		"spike": func(s float64) float64 {
			if int(s) == 4 {
				return 60
			}
			return 2
		},
	} {
		all.Go(func() {
			begin := time.Now()
			room := make(chan struct{}, 60) // on a slower machine requests come as fast as it answers, not so many that they are refused
			for s := 0.0; s < length; s += 1 / max(2, rate(s)) {
				<-time.After(time.Until(begin.Add(time.Duration(s * float64(time.Second)))))
				if rate(s) < 1 {
					continue
				}
				room <- struct{}{}
				all.Go(func() {
					defer func() { <-room }()
					body := fmt.Sprint(name, s)
					if a, err := g.try(t.Context(), "POST", "/function/"+name, strings.NewReader(body)); err != nil || a.StatusCode != 200 || a.body != body {
						t.Errorf("lost: %v %+v", err, a)
					}
				})
			}
		})
	}
	eventually(t, "each has more than one replica", func() bool {
		return g.status(t, "step").Scaling.Ready > 1 && strings.Contains(g.log.String(), `"function":"onoff.openfaas-fn","from":1,`)
	})
	all.Wait()
	for _, name := range []string{"step", "onoff", "spike"} {
		if !strings.Contains(g.log.String(), `"function":"`+name+`.openfaas-fn","from":1,`) {
			t.Errorf("%s was not raised", name)
		}
	}
	eventually(t, "each has one again", func() bool { return len(g.watchdogs(t)) == 3 })
}

// No request that is in flight is lost when its replica is one too many.
func TestScalingDownLosesNothing(t *testing.T) {
	t.Parallel()
	g := newGateway(t, map[string]string{"Caddyfile": strings.Replace(managed, "EXTRA", "scale {\n\t\t\tauto off\n\t\t}", 1)})
	fifo := filepath.Join(g.dir, "go")
	err := syscall.Mkfifo(fifo, 0o666)
	if err == nil {
		err = os.Chmod(fifo, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	g.write(t, "stack.yml", "functions:\n  held:\n    fprocess: sh -c 'read go <"+fifo+"; cat'\n    labels:\n      faas.concurrency: \"4\"\n")
	g.start(t)
	release, err := os.OpenFile(fifo, os.O_RDWR, 0) // so that it has a reader and a writer all the time
	if err != nil {
		t.Fatal(err)
	}
	defer release.Close()
	scale := func(n int) {
		t.Helper()
		if a := g.call(t, "POST", "/system/scale-function/held", fmt.Sprintf(`{"replicas":%d}`, n)); a.StatusCode != 202 {
			t.Fatalf("%d %s", a.StatusCode, a.body)
		}
	}
	for range 20 {
		scale(6)
		eventually(t, "six are ready", func() bool { return g.status(t, "held").AvailableReplicas == 6 })
		var all sync.WaitGroup
		for n := range 24 {
			all.Go(func() {
				body := fmt.Sprint(n)
				if a, err := g.try(t.Context(), "POST", "/function/held", strings.NewReader(body)); err != nil || a.StatusCode != 200 || a.body != body {
					t.Errorf("lost: %v %+v", err, a)
				}
			})
		}
		eventually(t, "all are in flight", func() bool { s := g.status(t, "held").Scaling; return s.InFlight == 24 })
		scale(3)
		if _, err := release.WriteString(strings.Repeat("\n", 24)); err != nil { // a line for each
			t.Fatal(err)
		}
		all.Wait()
	}
}
