package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// limitedDog starts a watchdog with flags for the limits; events is its file of kills.
func limitedDog(t *testing.T, events string, env []string, flags ...string) *dog {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(events, []byte("oom 0\noom_kill 0\noom_group_kill 9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(events)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := command(t, testBinary, env, append([]string{"-socket", socket, "-oom-fd", "3", "-memory-limit", "64Mi"}, flags...)...)
	cmd.ExtraFiles = []*os.File{file}
	return launchDog(t, cmd, socket)
}

func TestMemoryLimit(t *testing.T) {
	events := filepath.Join(t.TempDir(), "events")
	d := limitedDog(t, events, []string{"fprocess=sh -c 'test $Http_Method = GET || echo oom_kill 1 >" + events + "; echo why >&2; test $Http_X_Die != yes || kill -9 $$'"})
	d.do("GET", "/", nil, "X-Die", "yes").want(t, 500, "fprocess failed: killed by signal 9 (killed)\nwhy")
	d.do("POST", "/", nil, "X-Die", "no").want(t, 200, "") // the function has dealt with it
	os.WriteFile(events, []byte("oom_kill 0\n"), 0o600)
	r := d.do("POST", "/", nil, "X-Die", "yes")
	r.want(t, 500, "the function's memory limit of 64Mi was exceeded\nfprocess failed: killed by signal 9 (killed)\nwhy")
	if r.header.Get("X-Faas-Reason") != "memory-limit" {
		t.Errorf("%v", r.header)
	}
	r = d.do("POST", "/", nil, "X-Die", "yes") // nothing new
	if r.want(t, 500, "fprocess failed"); strings.Contains(r.body, "memory") || r.header.Get("X-Faas-Reason") != "" {
		t.Errorf("a failure for another reason: %s", r.body)
	}
	d.eventually("the log", func() bool {
		return strings.Contains(d.log.String(), "the function's memory limit of 64Mi was exceeded\n")
	})
}

func TestMemoryLimitProxy(t *testing.T) {
	events := filepath.Join(t.TempDir(), "events")
	d := limitedDog(t, events, []string{"mode=http", "fprocess=" + os.Args[0], "FWATCHDOG_HELPER=web", "OOM=" + events}).awaitReady()
	r := d.get("/oom")
	r.want(t, 502, "the function's memory limit of 64Mi was exceeded\nthe function did not answer")
	if r.header.Get("X-Faas-Reason") != "memory-limit" {
		t.Errorf("%v", r.header)
	}
	d.eventually("the log", func() bool {
		return strings.Contains(d.log.String(), "exit status 4, because the memory limit of 64Mi was exceeded; starting it again")
	})
	d.awaitReady().get("/exit").want(t, 502, "the function did not answer")
}

// When memory runs out the kernel takes the function, and its children, before the watchdog.
func TestOOMPreference(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("Linux only")
	}
	const fprocess = "fprocess=sh -c 'sh -c \"cat /proc/self/oom_score_adj\"; cat /proc/self/oom_score_adj'"
	own := read(t, "/proc/self/oom_score_adj")
	for _, d := range []*dog{limitedDog(t, filepath.Join(t.TempDir(), "events"), []string{fprocess}), startDog(t, fprocess)} {
		for range 2 {
			d.get("/").want(t, 200, "1000\n1000\n")
			if got := read(t, fmt.Sprintf("/proc/%d/oom_score_adj", d.cmd.Process.Pid)); got != own {
				t.Errorf("the watchdog's is %s, not %s", got, own)
			}
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestOpenFiles(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("Linux only")
	}
	d := limitedDog(t, filepath.Join(t.TempDir(), "events"), []string{"fprocess=sh -c 'while test $(ulimit -Hn) != 77; do :; done; ulimit -n'"}, "-open-files", "77")
	d.get("/").want(t, 200, "77\n")
}

func TestStageOfLimits(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("Linux only")
	}
	d := limitedDog(t, filepath.Join(t.TempDir(), "events"), []string{"fprocess=cat /proc/self/limits"}, "-stage", "processes 4321")
	if r := d.get("/"); !strings.Contains(strings.Join(strings.Fields(r.body), " "), "Max processes 4321 4321 processes") {
		t.Errorf("%d %s", r.status, r.body)
	}
}

func TestBodyLimits(t *testing.T) {
	for mode, d := range map[string]*dog{
		"fork": startDog(t, "fprocess=cat", "max_request=100000", "max_response=70000"),
		"http": startWeb(t, "max_request=100000", "max_response=70000").awaitReady(),
	} {
		for _, n := range []int{0, 10, 70000, 70001, 100000, 100001, 1000000} {
			for length, body := range map[string]io.Reader{"known": bytes.NewReader(make([]byte, n)), "unknown": struct{ io.Reader }{bytes.NewReader(make([]byte, n))}} {
				r := d.do("POST", "/echo", body)
				switch {
				case n <= 70000:
					if r.err != nil || r.status/100 != 2 || len(r.body) != n {
						t.Errorf("%s, %d bytes of %s length: %d, %v, %d bytes back", mode, n, length, r.status, r.err, len(r.body))
					}
				case n > 100000 && length == "known":
					r.want(t, 413, "max_request of 100000 bytes exceeded")
				case r.err == nil && r.status != 413 && (r.status != 502 || r.header.Get("X-Faas-Reason") != "response-limit"):
					t.Errorf("%s, %d bytes of %s length: %d, %v, %d bytes back", mode, n, length, r.status, r.header, len(r.body))
				case len(r.body) > 70000:
					t.Errorf("%s: %d bytes of the answer arrived", mode, len(r.body))
				}
			}
		}
		d.eventually("the log", func() bool { return strings.Contains(d.log.String(), "max_response of 70000 bytes exceeded") })
		if r := d.do("POST", "/echo", strings.NewReader("on")); r.body != "on" {
			t.Errorf("%s, afterwards: %d %s", mode, r.status, r.body)
		}
	}
}
