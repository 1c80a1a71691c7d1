package main

import (
	"math"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func lookupIn(env map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := env[name]; return v, ok }
}

func TestConfigDefaults(t *testing.T) {
	c, err := readConfig(lookupIn(map[string]string{"fprocess": "cat -u", "Mode": "nonsense", "EXEC_TIMEOUT": "x"}))
	if err != nil {
		t.Fatal(err)
	}
	if c.mode != modeFork || len(c.command) != 2 || c.readTimeout != 30*time.Second || c.writeTimeout != 30*time.Second ||
		c.execTimeout != 30*time.Second || c.lameDuck != 3*time.Second || c.maxInflight != 0 || c.contentType != "" || c.combineOutput ||
		!c.prefixLogs || c.writeDebug || !c.cgiHeaders || c.suppressLock || c.port != 8080 || c.metricsPort != 0 || c.upstream != nil {
		t.Errorf("defaults: %+v", c)
	}
}

func TestConfigValues(t *testing.T) {
	c, err := readConfig(lookupIn(map[string]string{
		"function_process": "node index.js", "mode": "http", "http_upstream_url": "http://127.0.0.1:5000", "write_timeout": "90",
		"read_timeout": "0", "max_inflight": "7", "prefix_logs": "0", "cgi_headers": "",
	}))
	if err != nil {
		t.Fatal(err)
	}
	if c.mode != modeHTTP || c.upstream.Host != "127.0.0.1:5000" || c.execTimeout != 90*time.Second || c.readTimeout != 0 ||
		c.maxInflight != 7 || c.prefixLogs || !c.cgiHeaders {
		t.Errorf("values: %+v", c)
	}
}

// A bad value ends the watchdog itself with status 1 and one line that names variable, value and what is allowed.
func TestBadConfig(t *testing.T) {
	for _, tt := range []struct{ name, value, allowed string }{
		{"fprocess", "", "command line"},
		{"fprocess", "sh -c 'x", "single quote"},
		{"fprocess", "''", "command line"},
		{"mode", "static", "fork, streaming or serializing"},
		{"mode", "inproc", "http"},
		{"mode", "Fork", "fork"},
		{"upstream_url", "127.0.0.1:5000", "http://HOST:PORT"},
		{"upstream_url", "https://127.0.0.1:5000", "http://HOST:PORT"},
		{"http_upstream_url", "unix:relative", "unix:/PATH"},
		{"read_timeout", "-1", "not negative"},
		{"write_timeout", "soon", "duration"},
		{"exec_timeout", "-1s", "not negative"},
		{"exec_timeout", "9223372036854775807", "duration"},
		{"healthcheck_interval", "1.5", "duration"},
		{"max_inflight", "-1", "number"},
		{"max_inflight", "many", "number"},
		{"content_type", "a\nb", "media type"},
		{"combine_output", "yes", "true, false, 1 or 0"},
		{"prefix_logs", "TRUE", "true, false, 1 or 0"},
		{"write_debug", "2", "true, false, 1 or 0"},
		{"cgi_headers", "on", "true, false, 1 or 0"},
		{"suppress_lock", "no", "true, false, 1 or 0"},
		{"port", "65536", "number"},
		{"metrics_port", "x", "number"},
	} {
		cmd := command(t, plainBinary, []string{"fprocess=cat", tt.name + "=" + tt.value})
		out, err := cmd.CombinedOutput()
		exit, ok := err.(*exec.ExitError)
		line := string(out)
		if !ok || exit.ExitCode() != 1 || strings.Count(line, "\n") != 1 || !strings.Contains(line, tt.name+"=") || !strings.Contains(line, tt.allowed) {
			t.Errorf("%s=%q: %v, %q; want status 1 and one line with %q", tt.name, tt.value, err, line, tt.allowed)
		}
	}
}

func TestBadStart(t *testing.T) {
	for _, tt := range []struct {
		args []string
		env  string
		code int
		text string
	}{
		{nil, "fprocess=no-such-program-here", 1, "no-such-program-here"},
		{[]string{"-nonsense"}, "fprocess=cat", 2, "nonsense"},
		{[]string{"cat"}, "fprocess=cat", 2, `"cat"`},
		{[]string{"-parent-fd", "77"}, "fprocess=cat", 1, "-parent-fd 77"},
		{[]string{"-socket", "/dev/null"}, "fprocess=cat", 1, "not a socket"},
		{[]string{"-socket", "/tmp/" + strings.Repeat("x", 200)}, "fprocess=cat", 1, "205 bytes"},
		{[]string{"-stage", "{"}, "fprocess=cat", 1, "-stage"},
		{[]string{"-version"}, "", 0, "fwatchdog "},
		{[]string{"--version"}, "", 0, "fwatchdog "},
	} {
		cmd := command(t, plainBinary, []string{tt.env}, tt.args...)
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != tt.code || !strings.Contains(string(out), tt.text) {
			t.Errorf("%q with %s: status %d, %q; want %d and %q", tt.args, tt.env, cmd.ProcessState.ExitCode(), out, tt.code, tt.text)
		}
	}
}

func FuzzParseDuration(f *testing.F) {
	for _, s := range []string{"0", "30", "1m30s", "-5", "9223372037", "1.5h", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, ok := parseDuration(s)
		if ok && d < 0 {
			t.Fatalf("parseDuration(%q) = %v", s, d)
		}
		if ok && d%time.Second == 0 && d < math.MaxInt64/2 {
			if again, ok := parseDuration(d.String()); !ok || again != d {
				t.Fatalf("%q is %v, which is read as %v", s, d, again)
			}
		}
	})
}

// The watchdog is built from the standard library alone.
func TestStandardLibraryOnly(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	if deps := strings.Fields(string(out)); len(deps) != 1 || !strings.HasSuffix(deps[0], "/watchdog") {
		t.Errorf("depends on %q; want nothing but itself outside of the standard library", deps)
	}
}
