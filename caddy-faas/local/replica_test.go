package local

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/internal/faastest"
)

func TestBackoff(t *testing.T) {
	for fails, want := range map[int]time.Duration{
		1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 5: 1600 * time.Millisecond, 9: 25600 * time.Millisecond, 10: 30 * time.Second, 1000: 30 * time.Second,
	} {
		if got := backoff(fails); got != want {
			t.Errorf("after %d failures: %s, want %s", fails, got, want)
		}
	}
}

// pid finds the watchdog of a replica by its TMPDIR.
func pid(t *testing.T, replica faas.Replica) int {
	t.Helper()
	for _, pid := range withCommand("-listen-fd") {
		env, err := os.ReadFile("/proc/" + pid + "/environ")
		if err == nil && strings.Contains(string(env), replica.ID) {
			n, err := strconv.Atoi(pid)
			must(t, err)
			return n
		}
	}
	t.Fatalf("no watchdog of %+v", replica)
	return 0
}

func TestRestart(t *testing.T) {
	need(t, runtime.GOOS == "linux", "/proc")
	r := begin(t)
	watch := faastest.Record(t, r, nil)
	f := fn("echo", "sh -c 'cat >> notes; cat notes'")
	must(t, r.Create(background, f))
	if got := ask(t, watch, f, "one "); got != "one " {
		t.Fatalf("answer is %q", got)
	}
	before := watch.UntilReady(t, f.ID, 1)[0]
	must(t, syscall.Kill(pid(t, before), syscall.SIGKILL))
	var after faas.Replica
	watch.Until(t, "another process is ready", func(now map[faas.ID]faas.Deployment) bool {
		for _, after = range now[f.ID].Replicas {
			return after.Ready && after.ID != before.ID
		}
		return false
	})
	if after.Slot != before.Slot || after.Addr == before.Addr {
		t.Errorf("before %+v, after %+v: want the same slot at another address", before, after)
	}
	if got := ask(t, watch, f, "two "); got != "one two " {
		t.Errorf("after a crash the working directory has %q", got)
	}
	r = r.again(t)
	watch = faastest.Record(t, r, nil)
	if got := ask(t, watch, f, "three "); got != "one two three " {
		t.Errorf("after a restart of the gateway the working directory has %q", got)
	}
	must(t, r.Update(background, f))
	watch.Until(t, "the new version", func(now map[faas.ID]faas.Deployment) bool {
		d := now[f.ID]
		return len(d.Replicas) == 1 && d.Replicas[0].Ready && r.find(f.ID).record().Version == 2 &&
			len(list(filepath.Join(r.dir, "work", f.ID.String(), "2"))) == 1 && d.Replicas[0].ID != after.ID
	})
	until(t, "the old version's working directories are gone", func() bool {
		return len(list(filepath.Join(r.dir, "work", f.ID.String()))) == 1
	})
	if got := ask(t, watch, f, "four "); got != "four " {
		t.Errorf("a new version's working directory has %q", got)
	}
	must(t, r.Remove(background, f.ID))
	until(t, "the working directories are gone", func() bool { return len(list(filepath.Join(r.dir, "work"))) == 0 })
}

func TestFailing(t *testing.T) {
	folder := dir(t)
	script(t, folder, "broken", "exit 3")
	must(t, os.WriteFile(filepath.Join(folder, "plain"), []byte("x"), 0o644))
	for name, test := range map[string]struct {
		f    faas.Function
		want string
	}{
		"no command":     {faas.Function{Process: "no-such-program x", Handler: folder}, fmt.Sprintf("command %q not found in %s or on PATH", "no-such-program", folder)},
		"no folder":      {faas.Function{Process: "cat", Handler: folder + "/none"}, folder + "/none"},
		"not executable": {faas.Function{Process: "plain", Handler: folder}, "not executable (chmod +x)"},
		"bad variable":   {faas.Function{Process: "cat", Env: map[string]string{"mode": "x"}}, "exit status 1: fwatchdog: mode="},
		"dying server":   {faas.Function{Process: "broken", Handler: folder, Env: map[string]string{"mode": "http"}}, "exit status 3"},
	} {
		t.Run(name, func(t *testing.T) {
			r := begin(t)
			watch := faastest.Record(t, r, nil)
			test.f.ID = fn("f", "").ID
			r.listed(t, test.f, fn("other", "cat"))
			watch.Until(t, "failing, and why", func(now map[faas.ID]faas.Deployment) bool {
				d := now[test.f.ID]
				return d.Failing && strings.Contains(d.Reason, test.want)
			})
			watch.UntilReady(t, fn("other", "").ID, 1)
			mended := fn("f", "cat")
			mended.Handler = folder
			must(t, r.Update(background, mended))
			if d := watch.Deployment(test.f.ID); d.Failing || d.Reason != "" {
				t.Errorf("as soon as it is replaced: failing %t, %s", d.Failing, d.Reason)
			}
		})
	}
}

func TestRecovers(t *testing.T) {
	folder := dir(t)
	r := begin(t)
	watch := faastest.Record(t, r, nil)
	f := fn("f", "late")
	f.Handler = folder
	if err := r.Create(background, f); !errors.Is(err, faas.ErrInvalid) || !strings.Contains(err.Error(), `"late" not found`) {
		t.Errorf("created through the API: %v", err)
	}
	r.listed(t, f)
	watch.Until(t, "failing", func(now map[faas.ID]faas.Deployment) bool { return now[f.ID].Failing })
	script(t, folder, "late", "cat")
	watch.UntilReady(t, f.ID, 1)
	if d := watch.Deployment(f.ID); d.Failing || d.Reason != "" {
		t.Errorf("once it runs: %+v", d)
	}
}

// TestRoll updates under load. As a gateway does, the client sends only to
// replicas that are ready by the sink, and Set waits for a request that is
// being sent: none may be lost.
func TestRoll(t *testing.T) {
	r := begin(t)
	f := fn("echo", "sh -c 'cat; echo -n v1'")
	var sending sync.RWMutex
	var ready []string
	watch := faastest.Record(t, r, func(d faas.Deployment) {
		sending.Lock()
		defer sending.Unlock()
		ready = nil
		for _, replica := range d.Replicas {
			if replica.Ready {
				ready = append(ready, replica.Addr)
			}
		}
	})
	must(t, r.Create(background, f))
	must(t, r.Scale(background, f.ID, 3))
	watch.UntilReady(t, f.ID, 3)
	var sent atomic.Int64
	once := func(n int) (string, error) {
		sending.RLock()
		if len(ready) == 0 {
			sending.RUnlock()
			return "", errors.New("no replica is ready")
		}
		receive, err := send(ready[n%len(ready)], "x")
		sending.RUnlock()
		if err != nil {
			return "", err
		}
		return receive()
	}
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for i := range 4 {
		clients.Go(func() {
			for n := i; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				answer, err := once(n)
				if sent.Add(1); err != nil || !strings.HasPrefix(answer, "xv") {
					t.Errorf("lost: %q, %v", answer, err)
					return
				}
			}
		})
	}
	for version := 2; version <= 4; version++ {
		f := f
		f.Process = fmt.Sprintf("sh -c 'cat; echo -n v%d'", version)
		must(t, r.Update(background, f))
		watch.Until(t, fmt.Sprintf("version %d only", version), func(now map[faas.ID]faas.Deployment) bool {
			if d := now[f.ID]; d.Process != f.Process || faastest.Ready(d) != 3 || len(d.Replicas) != 3 {
				return false
			}
			for _, replica := range r.find(f.ID).current() {
				if replica != version {
					return false
				}
			}
			return true
		})
		before := sent.Load()
		until(t, "more requests", func() bool { return sent.Load() > before+5 || t.Failed() })
	}
	close(stop)
	clients.Wait()
	t.Logf("%d requests", sent.Load())
}

// current are the versions of the replicas that stay.
func (f *function) current() (versions []int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.replicas {
		if !r.leaving {
			versions = append(versions, r.rec.Version)
		}
	}
	return versions
}

func TestBrokenUpdateKeepsTheOldVersion(t *testing.T) {
	r := begin(t)
	watch := faastest.Record(t, r, nil)
	f := fn("echo", "cat")
	r.listed(t, f)
	must(t, r.Scale(background, f.ID, 2))
	watch.UntilReady(t, f.ID, 2)
	broken := f
	broken.Process = "no-such-program"
	if err := r.Update(background, broken); !errors.Is(err, faas.ErrInvalid) {
		t.Errorf("updated through the API: %v", err)
	}
	r.listed(t, broken)
	watch.Until(t, "the old one serves, and why", func(now map[faas.ID]faas.Deployment) bool {
		d := now[f.ID]
		return d.Failing && faastest.Ready(d) == 2 && strings.Contains(d.Reason, "the earlier version serves on") &&
			strings.Contains(d.Reason, `command "no-such-program" not found`)
	})
	for _, replica := range watch.Deployment(f.ID).Replicas {
		if replica.Ready {
			if got, err := call(replica.Addr, "x"); got != "x" || err != nil {
				t.Errorf("the old version answers %q, %v", got, err)
			}
		}
	}
	again := broken
	again.Process = "no-such-program-either"
	r.listed(t, again)
	must(t, r.Update(background, f))
	watch.UntilReady(t, f.ID, 2)
	r.listed(t, broken)
	must(t, r.Scale(background, f.ID, 0))
	watch.UntilReady(t, f.ID, 0)
	must(t, r.Remove(background, f.ID))
}

// TestNothingIsSentToAStoppingReplica looks, within Set, whether a replica
// that has just left still serves.
func TestNothingIsSentToAStoppingReplica(t *testing.T) {
	r := begin(t)
	f := fn("echo", "cat")
	var mu sync.Mutex
	last := map[string]string{}
	checked := 0
	watch := faastest.Record(t, r, func(d faas.Deployment) {
		mu.Lock()
		defer mu.Unlock()
		now := map[string]string{}
		for _, replica := range d.Replicas {
			if replica.Ready {
				now[replica.ID] = replica.Addr
			}
		}
		for id, addr := range last {
			if _, ok := now[id]; !ok {
				checked++
				if got, err := call(addr, "x"); err != nil || got != "x" {
					t.Errorf("replica %s stopped before Set returned: %v", id, err)
				}
			}
		}
		last = now
	})
	must(t, r.Create(background, f))
	for _, n := range []int{3, 0, 2, 1} {
		must(t, r.Scale(background, f.ID, n))
		watch.UntilReady(t, f.ID, n)
	}
	must(t, r.Update(background, f))
	watch.Until(t, "the update", func(now map[faas.ID]faas.Deployment) bool {
		d := now[f.ID]
		return faastest.Ready(d) == 1 && len(d.Replicas) == 1 && d.Replicas[0].Ready && r.find(f.ID).current()[0] == 2
	})
	if checked < 5 {
		t.Errorf("only %d replicas left", checked)
	}
}

func TestLogs(t *testing.T) {
	r := begin(t)
	r.provider.LogLines = 20
	must(t, r.apply())
	watch := faastest.Record(t, r, nil)
	f := fn("chatty", "sh -c 'cat; for i in 1 2 3 4 5 6 7 8 9; do echo line $i >&2; done; head -c 100000 /dev/zero | tr \"\\000\" x >&2'")
	must(t, r.Create(background, f))
	for range 5 {
		ask(t, watch, f, "")
	}
	until(t, "the log is full of what it said", func() bool {
		lines := logged(t, r.Engine, f.ID, faas.LogQuery{Tail: -1})
		return len(lines) == 20 && r.log.FilterMessage("function log").FilterField(zapText("line 9")).Len() == 5
	})
	for _, line := range logged(t, r.Engine, f.ID, faas.LogQuery{Tail: -1}) {
		if len(line.Text) > maxLine || line.Replica == "" || line.Time.IsZero() {
			t.Errorf("line of %d bytes by %q at %s", len(line.Text), line.Replica, line.Time)
		}
	}
}

// logged is what a query without Follow answers.
func logged(t *testing.T, e *Engine, id faas.ID, q faas.LogQuery) (lines []faas.LogLine) {
	t.Helper()
	must(t, e.Logs(t.Context(), id, q, func(l faas.LogLine) error {
		lines = append(lines, l)
		return nil
	}))
	return lines
}

func TestLogsFollow(t *testing.T) {
	r := begin(t)
	must(t, r.apply())
	watch := faastest.Record(t, r, nil)
	f := fn("writer", "sh -c 'cat >&2'")
	must(t, r.Create(background, f))
	ask(t, watch, f, "before")
	until(t, "the line is kept", func() bool {
		return slices.ContainsFunc(logged(t, r.Engine, f.ID, faas.LogQuery{Tail: -1}), ends("before"))
	})
	since := time.Now()
	got, done := make(chan faas.LogLine), make(chan error, 1)
	go func() {
		done <- r.Logs(background, f.ID, faas.LogQuery{Tail: -1, Follow: true, Since: since}, func(l faas.LogLine) error {
			got <- l
			return nil
		})
	}()
	ask(t, watch, f, "after")
	for l := range got {
		if ends("before")(l) {
			t.Error("a line from before the beginning")
		}
		if ends("after")(l) {
			break
		}
	}
	must(t, r.Remove(background, f.ID))
	go func() {
		for range got { // what it says at its end
		}
	}()
	must(t, <-done)
	close(got)
	if err := r.Logs(background, f.ID, faas.LogQuery{}, nil); !errors.Is(err, faas.ErrNotFound) {
		t.Errorf("the log of a removed function: %v", err)
	}
}

func ends(text string) func(faas.LogLine) bool {
	return func(l faas.LogLine) bool { return strings.HasSuffix(l.Text, text) }
}

func TestRing(t *testing.T) {
	var r ring
	add := func(n int, texts ...string) {
		for _, text := range texts {
			r.add(n, faas.LogLine{Text: text})
		}
	}
	want := func(want string) {
		t.Helper()
		got := ""
		lines, _, _ := r.after(0)
		for _, line := range lines {
			got += line.Text
		}
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	add(3, "a", "b")
	want("ab")
	add(3, "c", "d")
	want("bcd")
	add(2, "e")
	want("de")
	add(4, "f", "g", "h")
	want("efgh")
	add(1, "i")
	want("i")
}

// TestLeaks scales up and down a hundred times.
func TestLeaks(t *testing.T) {
	r := begin(t)
	watch := faastest.Record(t, r, nil)
	f := fn("echo", "cat")
	must(t, r.Create(background, f))
	cycle := func() {
		must(t, r.Scale(background, f.ID, 1))
		watch.UntilReady(t, f.ID, 1)
		must(t, r.Scale(background, f.ID, 0))
		watch.UntilReady(t, f.ID, 0)
	}
	idle := func() bool { return len(list(r.run)) == 0 && len(r.find(f.ID).all()) == 0 }
	cycle()
	until(t, "idle", idle)
	goroutines, files := runtime.NumGoroutine(), len(list("/proc/self/fd"))
	for range 100 {
		cycle()
	}
	until(t, "idle", idle)
	until(t, "goroutines and files are as before", func() bool {
		return runtime.NumGoroutine() <= goroutines && len(list("/proc/self/fd")) <= files
	})
}

func (f *function) all() []*replica {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.replicas
}

// TestEndIsTold: the watchdog's word that its process has ended is a reason to ask at once.
func TestEndIsTold(t *testing.T) {
	r := begin(t)
	f := fn("f", "cat")
	must(t, r.Create(background, f))
	p := r.newRunning(r.find(f.ID))
	p.line("2006/01/02 15:04:05 stdout: fprocess has ended: no")
	select {
	case <-p.fell:
		t.Error("the function said so")
	default:
	}
	p.line("2006/01/02 15:04:05 fprocess has ended: exit status 1; starting it again in 100ms")
	select {
	case <-p.fell:
	default:
		t.Error("not told")
	}
}
