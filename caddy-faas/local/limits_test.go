package local

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/internal/faastest"
)

func TestLimitsOf(t *testing.T) {
	byDefault, err := Limits{Memory: "64Mi", Processes: 100, Response: "1M"}.parse()
	must(t, err)
	l, err := limitsOf(faas.Function{
		Limits:      faas.Resources{"cpu": "250m", "nvidia.com/gpu": "1"},
		Labels:      map[string]string{faas.LabelProcesses: "20", faas.LabelRequest: "nonsense", faas.LabelOpenFiles: ""},
		Annotations: map[string]string{faas.LabelProcesses: "30", faas.LabelOpenFiles: "50", faas.LabelRequest: "1Ki"},
	}, byDefault)
	must(t, err)
	if l.memory != 64<<20 || l.memoryText != "64Mi" || l.cpu != 250 || l.processes != 20 || l.files != 50 || l.request != 1024 || l.response != 1e6 {
		t.Errorf("%+v", l)
	}
	if l, err = limitsOf(faas.Function{}, byDefault); err != nil || l.processes != 100 || l.files != defaultFiles || l.apart || len(byDefault.named) != 3 {
		t.Errorf("%+v, %v", l, err)
	}
	if l, err = limitsOf(faas.Function{Limits: faas.Resources{"memory": "0"}}, byDefault); err != nil || l.memory != 0 || l.grouped() || l.named["memory"] != "" {
		t.Errorf("%+v, %v", l, err)
	}
	if l, err = limitsOf(faas.Function{Labels: map[string]string{faas.LabelProcesses: "0"}}, limits{processes: 9}); err != nil || l.processes != 0 || l.grouped() {
		t.Errorf("%+v, %v", l, err)
	}
	for _, bad := range []faas.Resources{{"memory": "lots"}, {"memory": "40m"}, {"memory": "-1"}, {"cpu": "half"}} {
		f := fn("f", "cat")
		f.Limits = bad
		err := check(f)
		for _, value := range bad {
			if !errors.Is(err, faas.ErrInvalid) || !strings.Contains(err.Error(), strconv.Quote(value)) || !strings.Contains(err.Error(), "want") {
				t.Errorf("%v: %v", bad, err)
			}
		}
	}
}

func TestLimitsCaddyfile(t *testing.T) {
	parse := func(text string) (p Provider, err error) {
		err = p.UnmarshalCaddyfile(caddyfile.NewTestDispenser("local {\n" + text + "\n}"))
		return p, err
	}
	p, err := parse("limits {\nmemory 64Mi\ncpu 0.5\nopen_files 9\nprocesses 8\nrequest 1Mi\nresponse 2Mi\n}\nlog_lines 7")
	if want := (Limits{"64Mi", "0.5", 9, 8, "1Mi", "2Mi"}); err != nil || p.Limits != want || p.LogLines != 7 {
		t.Errorf("%+v, %v", p, err)
	}
	for _, bad := range []string{"limits", "limits 5", "limits {\nmemory\n}", "limits {\nmemory 1Mi 2Mi\n}", "limits {\nmemory x\n}", "limits {\ndisk 5\n}", "limits {\nprocesses 0\n}"} {
		if p, err := parse(bad); err == nil && (bad != "limits" || p.Limits != Limits{}) {
			t.Errorf("%q is taken for %+v", bad, p.Limits)
		}
	}
	for _, bad := range []Limits{{Memory: "x"}, {CPU: "-1"}, {OpenFiles: -1}} {
		if (&Provider{Limits: bad}).Validate() == nil {
			t.Errorf("%+v is valid", bad)
		}
	}
}

// limited starts an engine whose machine can limit this.
func limited(t *testing.T, what ...string) *rig {
	t.Helper()
	r := begin(t)
	for _, name := range what {
		need(t, r.groups.lacks(name) == "", name+" limits: "+r.groups.lacks(name))
	}
	return r
}

const hog = `sh -c 'read n; test "$n" = small && exec echo ok; echo begun >&2; x=0123456789abcdef; while :; do x=$x$x; done'`

// Over the limit only the function's process ends, and its request's answer says why.
func TestMemoryLimit(t *testing.T) {
	r := limited(t, faas.Memory)
	watch := faastest.Record(t, r, nil)
	f := fn("f", hog)
	f.Limits = faas.Resources{"memory": "64Mi"}
	must(t, r.Create(background, f))
	before := watch.UntilReady(t, f.ID, 1)[0]
	for range 3 {
		_, err := call(before.Addr, "large\n")
		if err == nil || !strings.HasPrefix(err.Error(), "status 500: the function's memory limit of 64Mi was exceeded\nfprocess failed: killed by signal 9 (killed)") {
			t.Fatalf("%v", err)
		}
		if got, err := call(before.Addr, "small\n"); got != "ok\n" {
			t.Errorf("afterwards: %q, %v", got, err)
		}
	}
	if after := watch.Deployment(f.ID); after.Replicas[0] != before || after.Reason != "" {
		t.Errorf("it was %+v and is %+v", before, after)
	}
	if r.log.FilterField(zapText("the function's memory limit of 64Mi was exceeded")).Len() == 0 {
		t.Error("the log doesn't say so")
	}
	// The children of a function's process, too.
	f.Process = `sh -c 'read n; sh -c "x=0123456789abcdef; while :; do x=\$x\$x; done"; exit $?'`
	must(t, r.Update(background, f))
	watch.Until(t, "the new version", func(now map[faas.ID]faas.Deployment) bool {
		return faastest.Ready(now[f.ID]) == 1 && now[f.ID].Replicas[0].ID != before.ID && len(now[f.ID].Replicas) == 1
	})
	if _, err := call(watch.UntilReady(t, f.ID, 1)[0].Addr, "large\n"); err == nil || !strings.Contains(err.Error(), "memory limit of 64Mi was exceeded\nfprocess failed: exit status 137") {
		t.Errorf("%v", err)
	}
}

const memoryServer = `
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        if self.rfile.read(int(self.headers["Content-Length"])) == b"large":
            all = [b"x" * (1 << 20) for _ in range(1000)]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()`

// In mode http the process that was killed is started again.
func TestMemoryLimitHTTP(t *testing.T) {
	r := limited(t, faas.Memory)
	watch := faastest.Record(t, r, nil)
	const python = "/usr/bin/python3" // one of a user would be out of reach for the function
	_, err := os.Stat(python)
	need(t, err == nil, "python3")
	f := fn("f", python+" server.py")
	f.Handler = dir(t)
	script(t, f.Handler, "server.py", memoryServer)
	f.Env["mode"] = "http"
	f.Limits = faas.Resources{"memory": "96Mi"}
	must(t, r.Create(background, f))
	addr := watch.UntilReady(t, f.ID, 1)[0].Addr
	if _, err := call(addr, "large"); err == nil || !strings.HasPrefix(err.Error(), "status 502: the function's memory limit of 96Mi was exceeded\n") {
		t.Fatalf("%v", err)
	}
	until(t, "an answer of the next process", func() bool {
		got, err := call(addr, "small")
		return err == nil && got == "ok"
	})
	until(t, "the log", func() bool {
		found := false
		must(t, r.Engine.Logs(background, f.ID, faas.LogQuery{Tail: -1}, func(line faas.LogLine) error {
			found = found || strings.Contains(line.Text, "because the memory limit of 96Mi was exceeded")
			return nil
		}))
		return found
	})
}

// A replica that is killed whole says why, as long as it fails.
func TestMemoryLimitOfReplica(t *testing.T) {
	r := limited(t, faas.Memory)
	watch := faastest.Record(t, r, nil)
	f := fn("f", "cat")
	f.Limits = faas.Resources{"memory": "64Mi"}
	must(t, r.Create(background, f))
	watch.UntilReady(t, f.ID, 1)
	p := r.find(f.ID).processes()[0]
	p.mu.Lock() // its end is noticed later than the kill
	events := filepath.Join(t.TempDir(), "events")
	must(t, os.WriteFile(events, []byte("oom_kill_disable 0\noom_kill 1\n"), 0o600))
	file, err := os.Open(events)
	must(t, err)
	p.group.oom.Close()
	p.group.oom = file
	p.mu.Unlock()
	must(t, p.cmd.Process.Kill())
	watch.Until(t, "the reason", func(now map[faas.ID]faas.Deployment) bool {
		return strings.Contains(now[f.ID].Reason, "signal: killed") && strings.Contains(now[f.ID].Reason, "memory limit of 64Mi was exceeded")
	})
}

// A function can't start more processes than it may, by whatever means they are counted.
func TestProcessLimit(t *testing.T) {
	need(t, runtime.GOOS == "linux", "Linux")
	const bomb = `sh -c 'i=0; while test $i -lt 300; do sleep 100000 </dev/null >/dev/null 2>&1 & i=$((i+1)); done; echo all'`
	for _, tt := range []struct {
		level   string
		memory  string
		setting string // "": of the function
	}{{"best", "1Gi", ""}, {"best", "", ""}, {"best", "", "60"}, {"no namespaces", "", ""}} {
		t.Run(fmt.Sprintf("%+v", tt), func(t *testing.T) {
			provider := new(Provider)
			f := fn("f", bomb)
			if tt.setting != "" {
				provider.Limits.Processes = 60
			} else {
				f.Labels = map[string]string{faas.LabelProcesses: "60"}
			}
			if tt.memory != "" {
				f.Limits = faas.Resources{"memory": tt.memory}
			}
			r := atLevel(t, tt.level, provider)
			need(t, r.counts(), "users of their own")
			if tt.memory != "" {
				need(t, r.groups.lacks(faas.Memory) == "" && r.groups.lacks(limitProcesses) == "", "control groups")
			}
			watch := faastest.Record(t, r, nil)
			must(t, r.Create(background, f))
			watch.UntilReady(t, f.ID, 1)
			if (r.find(f.ID).processes()[0].group != nil) != (tt.memory != "" || tt.setting == "" && r.groups.lacks(limitProcesses) == "") {
				t.Error("not the control group that was expected")
			}
			for range 2 { // it recovers, even if the bomb left the watchdog no thread
				if got, err := call(watch.UntilReady(t, f.ID, 1)[0].Addr, ""); err == nil {
					t.Errorf("it started all: %q", got)
				}
			}
		})
	}
}

func TestOpenFiles(t *testing.T) {
	need(t, runtime.GOOS == "linux", "Linux")
	r := begin(t)
	watch := faastest.Record(t, r, nil)
	for want, label := range map[string]string{"4096": "", "50": "50"} {
		f := fn("f"+want, fmt.Sprintf("sh -c 'while test $(ulimit -Hn) != %s; do :; done; ulimit -n'", want))
		f.Labels = map[string]string{faas.LabelOpenFiles: label}
		must(t, r.Create(background, f))
		if got := ask(t, watch, f, ""); got != want+"\n" {
			t.Errorf("%s: %q", want, got)
		}
	}
}

func TestBodyLimits(t *testing.T) {
	r := begin(t)
	watch := faastest.Record(t, r, nil)
	f := fn("f", "sh -c 'cat; cat >/dev/null; echo more'")
	f.Labels = map[string]string{faas.LabelRequest: "1Ki", faas.LabelResponse: "1Ki"}
	must(t, r.Create(background, f))
	watch.UntilReady(t, f.ID, 1)
	addr := watch.Deployment(f.ID).Replicas[0].Addr
	for n, want := range map[int]string{1: "", 1024: "status 502: max_response of 1024 bytes exceeded", 1025: "status 413: max_request of 1024 bytes exceeded"} {
		_, err := call(addr, strings.Repeat("x", n))
		if want == "" && err != nil || want != "" && (err == nil || strings.TrimSpace(err.Error()) != want) {
			t.Errorf("%d bytes: %v, want %q", n, err, want)
		}
	}
}

// What can't be enforced is said, and the function runs.
func TestUnmetLimits(t *testing.T) {
	r := atLevel(t, "process groups", &Provider{})
	watch := faastest.Record(t, r, nil)
	f := fn("f", "cat")
	f.Limits = faas.Resources{"memory": "64Mi", "cpu": "0.5", "nvidia.com/gpu": "1"}
	must(t, r.Create(background, f))
	if got := ask(t, watch, f, "hello"); got != "hello" {
		t.Errorf("answer is %q", got)
	}
	d := watch.Deployment(f.ID)
	wanted := []string{"the limit of 1 nvidia.com/gpu is not enforced: this machine doesn't know that resource"}
	if r.groups.lacks(faas.Memory) != "" { // cgroup v1 needs a mount namespace, v2 does not
		wanted = append(wanted, "the limit of 64Mi memory is not enforced: ", "the limit of 0.5 cpu is not enforced: ")
	}
	for _, want := range wanted {
		if !strings.Contains(d.Ails(), want) || d.Reason != "" || d.Limits["memory"] != "64Mi" {
			t.Errorf("%+v doesn't say %q", d, want)
		}
	}
}

// A function without limits has no control group, and its usage is known all the same.
func TestUsage(t *testing.T) {
	need(t, runtime.GOOS == "linux", "/proc")
	r := begin(t)
	watch := faastest.Record(t, r, nil)
	f := fn("f", `sh -c 'x=0123456789abcdef; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do x=$x$x; done; echo $$; sleep 100000'`)
	f.Env["exec_timeout"] = "0"
	must(t, r.Create(background, f))
	addr := watch.UntilReady(t, f.ID, 1)[0].Addr
	receive, err := send(addr, "")
	must(t, err)
	go receive()
	until(t, "16 MiB and some of the CPU", func() bool {
		usage, err := r.Usage(background, f.ID)
		must(t, err)
		return usage.Memory > 16<<20 && usage.Memory < 1<<30
	})
	if r.find(f.ID).processes()[0].group != nil {
		t.Error("it has a control group")
	}
	must(t, r.Scale(background, f.ID, 0))
	r.find(f.ID).processes()[0].kill() // rather than wait for the request
	watch.UntilReady(t, f.ID, 0)
	until(t, "nothing", func() bool {
		usage, err := r.Usage(background, f.ID)
		must(t, err)
		return usage == faas.Usage{}
	})
	if _, err := r.Usage(background, faas.ID{Name: "none", Namespace: "n"}); !errors.Is(err, faas.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

// Nothing of the gateway's environment reaches a function.
func TestEnvironmentIsClean(t *testing.T) {
	t.Setenv("FAAS_TOKEN", "leak-of-a-token")
	t.Setenv("AWS_SECRET", "leak-of-a-token")
	for _, level := range slices.Sorted(maps.Keys(levels)) {
		t.Run(level, func(t *testing.T) {
			r := atLevel(t, level, new(Provider))
			watch := faastest.Record(t, r, nil)
			f := fn("f", "sh -c 'env; cat /proc/1/environ 2>/dev/null | tr \"\\0\" \"\\n\"'")
			f.Env = map[string]string{"mine": "1"}
			must(t, r.Create(background, f))
			got := ask(t, watch, f, "")
			allowed := []string{"PATH", "HOME", "TMPDIR", "PWD", "OLDPWD", "SHLVL", "_", "fprocess", "healthcheck_interval", "secret_mount_path", "mine"}
			for line := range strings.Lines(got) {
				name, _, _ := strings.Cut(line, "=")
				if !slices.Contains(allowed, name) && !strings.HasPrefix(name, "Http_") {
					t.Errorf("it sees %s", line)
				}
			}
			if !strings.Contains(got, "mine=1\n") || strings.Contains(got, "leak-of-a-token") {
				t.Errorf("it sees %s", got)
			}
		})
	}
}
