package caddyfaas

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/internal/faastest"
)

// openAPISite is a Caddyfile whose API asks for no password and deploys any command.
const openAPISite = `{
	admin unix/DATA/admin.sock|0600
	faas {
		data DATA
		functions stack.yml
		namespace dev
		PROVIDER
	}
}
SITE {
	handle /function/* {
		faas
	}
	handle {
		faas_api
	}
	handle_errors {
		respond "{err.message}" {err.status_code}
	}
}
`

func newOpenGateway(t *testing.T, options, stack string) *gateway {
	t.Helper()
	g := newGateway(t, map[string]string{"Caddyfile": strings.Replace(openAPISite, "PROVIDER", options, 1), "stack.yml": stack})
	g.start(t)
	return g
}

// newClosedGateway is the same with Caddy's basic_auth before the API.
func newClosedGateway(t *testing.T, options string) *gateway {
	t.Helper()
	const closed = "handle /system/* {\n\t\tbasic_auth {\n\t\t\tadmin {file.DATA/admin.hash}\n\t\t}\n\t\tfaas_api\n\t}\n\thandle {\n\t\tfaas_api"
	site := strings.NewReplacer("PROVIDER", options, "handle {\n\t\tfaas_api", closed).Replace(openAPISite)
	g := newGateway(t, map[string]string{"Caddyfile": site, "stack.yml": "functions: {}\n"})
	g.prepare(t)
	g.password = adminPassword
	g.start(t)
	return g
}

// eachGateway runs a test with a gateway whose API asks for no password and with one that asks for one.
func eachGateway(t *testing.T, test func(t *testing.T, g *gateway)) {
	t.Run("open", func(t *testing.T) {
		t.Parallel()
		test(t, newOpenGateway(t, anyCommand, "functions: {}\n"))
	})
	t.Run("closed", func(t *testing.T) {
		t.Parallel()
		test(t, newClosedGateway(t, anyCommand))
	})
}

const anyCommand = "allow {\n\t\t\tcommand *\n\t\t}"

// status describes a function, or is nil.
func (g *gateway) status(t *testing.T, name string) *functionStatus {
	t.Helper()
	a := g.call(t, "GET", "/system/function/"+name, "")
	if a.StatusCode == 404 {
		return nil
	}
	s := new(functionStatus)
	if err := json.Unmarshal([]byte(a.body), s); err != nil || a.StatusCode != 200 {
		t.Fatalf("%d %s: %v", a.StatusCode, a.body, err)
	}
	return s
}

// want sends a call and compares its status; it returns the answer's text.
func (g *gateway) want(t *testing.T, status int, method, path, body string) string {
	t.Helper()
	a := g.call(t, method, path, body)
	if a.StatusCode != status {
		t.Fatalf("%s %s %s: %d %s, want %d", method, path, body, a.StatusCode, a.body, status)
	}
	return a.body
}

// answers waits until a function answers as wanted.
func (g *gateway) answers(t *testing.T, name, body, want string) {
	t.Helper()
	got := ""
	eventually(t, fmt.Sprintf("%s answers %q (last: %s)", name, want, got), func() bool {
		got = g.call(t, "POST", "/function/"+name, body).body
		return got == want
	})
}

func TestManage(t *testing.T) {
	t.Parallel()
	g := newOpenGateway(t, anyCommand, "functions: {}\n")
	g.want(t, 404, "PUT", "/system/functions", `{"service":"upper","image":"functions/alpine:latest","envProcess":"tr a-z A-Z"}`)
	g.want(t, 202, "POST", "/system/functions", `{"service":"upper","image":"functions/alpine:latest","envProcess":"tr a-z A-Z"}`)
	g.answers(t, "upper.openfaas-fn", "hello", "HELLO")
	g.want(t, 202, "PUT", "/system/functions", `{"service":"upper","image":"functions/alpine:latest","envProcess":"tr A-Z a-z","labels":{"x":"y"}}`)
	g.answers(t, "upper", "HeLLo", "hello")
	g.want(t, 202, "POST", "/system/functions", `{"service":"upper","namespace":"dev","image":"functions/alpine:latest","envProcess":"rev"}`)
	g.answers(t, "upper.dev", "abc", "cba")
	g.answers(t, "upper", "ABC", "abc")

	g.want(t, 202, "POST", "/system/scale-function/upper", `{"serviceName":"upper","replicas":0}`)
	if s := g.status(t, "upper"); s.Replicas != 0 || s.EnvProcess != "tr A-Z a-z" || s.Image != "functions/alpine:latest" || s.Labels["x"] != "y" {
		t.Errorf("right after it was scaled to 0: %+v", s)
	}
	g.answers(t, "upper", "AWAKE", "awake")
	if s := g.status(t, "upper"); s.Replicas != 1 || s.InvocationCount < 3 {
		t.Errorf("awake: %+v", s)
	}

	// What can't run is refused at once; what fails when it starts says so in the answer, and where it is asked for.
	if text := g.want(t, 400, "POST", "/system/functions", `{"service":"broken","image":"i","envProcess":"no-such-program"}`); !strings.Contains(text, `"no-such-program" not found`) {
		t.Errorf("no such program: %s", text)
	}
	server := `{"service":"broken","image":"i","envProcess":"sh -c 'echo port taken >&2; exit 3'","envVars":{"mode":"http"}}`
	g.want(t, 202, "POST", "/system/functions", server)
	eventually(t, "its status says why", func() bool {
		s := g.status(t, "broken")
		return strings.Contains(s.Reason, "exit status 3") && strings.Contains(s.Reason, "port taken") && s.AvailableReplicas == 0
	})
	eventually(t, "so does the answer to a call", func() bool {
		a := g.call(t, "GET", "/function/broken", "")
		return a.StatusCode == 503 && a.Header.Get("X-Faas-Reason") == "start-failed" &&
			strings.Contains(a.body, "exit status 3") && strings.Contains(a.body, "port taken")
	})
	// What ails the earlier version is not told of the one that mends it.
	mended := `{"service":"broken","image":"i","envProcess":"cat"}`
	if text := g.want(t, 202, "PUT", "/system/functions", mended); text != "" {
		t.Errorf("mended: %s", text)
	}
	if a := g.call(t, "POST", "/function/broken", "x"); a.StatusCode != 200 || a.body != "x" {
		t.Errorf("mended: %d %s", a.StatusCode, a.body)
	}
	// An update that never becomes ready leaves the old version serving.
	update := strings.NewReplacer("broken", "upper", `"image"`, `"labels":{"v":"3"},"image"`).Replace(server)
	g.want(t, 202, "PUT", "/system/functions", update)
	eventually(t, "the status says why the earlier version serves on", func() bool {
		s := g.status(t, "upper")
		return strings.Contains(s.Reason, "the earlier version serves on") && s.Labels["v"] == "3" && s.AvailableReplicas == 1
	})
	g.answers(t, "upper", "STILL", "still")

	g.want(t, 202, "DELETE", "/system/functions", `{"functionName":"upper"}`)
	g.want(t, 404, "POST", "/function/upper", "x")
	g.want(t, 404, "GET", "/system/function/upper", "")
	g.answers(t, "upper.dev", "abc", "cba")
}

// TestLocalGuard: without rules only what the stack file and the provider's images name can be deployed.
func TestLocalGuard(t *testing.T) {
	t.Parallel()
	g := newOpenGateway(t, "provider local {\n\t\t\timage us/tool tool\n\t\t\timage us/plain:1 tool\n\t\t}", `functions:
  lister:
    image: functions/alpine:latest
    fprocess: wc -c
    environment: {PATH: /bin:/usr/bin}
`)
	if err := os.Mkdir(filepath.Join(g.dir, "tool"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"handler": "echo tool", "other": "echo other $1"} {
		if err := faastest.WriteProgram(filepath.Join(g.dir, "tool", name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for i, row := range []struct {
		image, command, env string
		status              int
		want                string
	}{
		{"functions/alpine:latest", "wc -c", "", 202, "1\n"},
		{"functions/alpine", "wc -c", "", 202, "1\n"},
		{"us/tool:latest", "", "", 202, "tool\n"},
		{"us/tool", "./other x", "", 202, "other x\n"},
		{"docker.io/us/tool", "", "", 202, "tool\n"},
		{"functions/alpine", "wc -c", `"PATH":"/bin:/usr/bin"`, 202, "1\n"},
		{"functions/alpine", "wc -c", `"LD_PRELOAD":"/tmp/x.so"`, 403, `environment variable "LD_PRELOAD" is not allowed`},
		{"functions/alpine", "wc -c", `"PATH":"/tmp"`, 403, "PATH"},
		{"us/plain", "", "", 403, `image "us/plain" is not allowed`},
		{"functions/alpine", "wc -l", "", 403, `command "wc -l" is not allowed`},
		{"us/tool", "wc -l", "", 403, "command"},
		{"us/tool", "./../tool/../../../bin/sh", "", 403, "command"},
		{"functions/alpine", "", "", 403, `image "functions/alpine" without a command`},
	} {
		body := fmt.Sprintf(`{"service":"g%d","image":%q,"envProcess":%q,"envVars":{%s}}`, i, row.image, row.command, row.env)
		a := g.call(t, "POST", "/system/functions", body)
		if a.StatusCode != row.status || row.status != 202 && !strings.Contains(a.body, row.want) {
			t.Errorf("%s: %d %s, want %d with %q", body, a.StatusCode, a.body, row.status, row.want)
		} else if row.status == 202 {
			g.answers(t, fmt.Sprintf("g%d", i), "x", row.want)
		}
	}
}

// follow opens a log and returns its lines as they come; the channel is closed at the log's end.
func (g *gateway) follow(t *testing.T, query string) <-chan logLine {
	t.Helper()
	r, err := http.NewRequest("GET", g.url+"/system/logs?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	if g.password != "" {
		r.SetBasicAuth("admin", g.password)
	}
	resp, err := g.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Fatalf("%s: %d %s", query, resp.StatusCode, resp.Header)
	}
	lines := make(chan logLine)
	go func() {
		defer close(lines)
		defer resp.Body.Close()
		for in := bufio.NewScanner(resp.Body); in.Scan(); {
			var l logLine
			if err := json.Unmarshal(in.Bytes(), &l); err != nil {
				t.Errorf("%s: %v", in.Text(), err)
			}
			select {
			case lines <- l:
			case <-t.Context().Done():
				return
			}
		}
	}()
	return lines
}

func TestLogs(t *testing.T) {
	t.Parallel()
	g := newOpenGateway(t, anyCommand, "functions: {}\n")
	g.want(t, 202, "POST", "/system/functions", `{"service":"talker","image":"i","envProcess":"sh -c 'cat >&2'"}`)
	said := func(lines <-chan logLine, want string) (found bool, l logLine) {
		for l = range lines {
			if l.Name != "talker" || l.Namespace != "openfaas-fn" || l.Instance == "" || l.Timestamp.IsZero() {
				t.Errorf("line %+v", l)
			}
			if strings.Contains(l.Text, want) {
				return true, l
			}
		}
		return false, l
	}
	live := g.follow(t, "name=talker&follow=true&tail=-1")
	g.want(t, 200, "POST", "/function/talker", "first words")
	found, l := said(live, "first words")
	if !found {
		t.Fatal("the log ended")
	}
	// While the stream is open its lines are there for others, too.
	for query, want := range map[string]bool{
		"": true, "&instance=" + l.Instance: true, "&instance=other": false,
		"&since=" + url.QueryEscape(l.Timestamp.Add(time.Hour).Format(time.RFC3339)):  false,
		"&since=" + url.QueryEscape(l.Timestamp.Add(-time.Hour).Format(time.RFC3339)): true,
	} {
		if found, _ := said(g.follow(t, "name=talker.openfaas-fn"+query), "first words"); found != want {
			t.Errorf("%s: found: %t, want %t", query, found, want)
		}
	}
	if text := g.want(t, 200, "GET", "/system/logs?name=talker", ""); !strings.Contains(text, "first words") {
		t.Errorf("all lines: %s", text)
	}
	n := 0
	for range g.follow(t, "name=talker&tail=1") {
		n++
	}
	if n != 1 {
		t.Errorf("tail=1: %d lines", n)
	}
	for query, status := range map[string]int{"": 422, "name=nobody": 404, "name=talker&tail=x": 422, "name=talker&since=yesterday": 422, "name=talker&follow=maybe": 422} {
		g.want(t, status, "GET", "/system/logs?"+query, "")
	}
	g.want(t, 202, "POST", "/system/functions", `{"service":"other","image":"i","envProcess":"cat"}`)
	ended := g.follow(t, "name=other&follow=true")
	kept := g.follow(t, "name=talker&follow=true")
	g.want(t, 202, "DELETE", "/system/functions", `{"functionName":"other"}`)
	for range ended { // until the end that the removal makes
	}
	g.want(t, 200, "POST", "/function/talker", "last words")
	if found, _ := said(kept, "last words"); !found {
		t.Error("the log of another function ended, too")
	}
	// A reload does not wait for those who read.
	g.reload(t)
	if found, _ := said(kept, "never said"); found {
		t.Error("impossible")
	}
}

// TestManageAtOnce is TestAtOnce with real processes.
func TestManageAtOnce(t *testing.T) {
	t.Parallel()
	g := newOpenGateway(t, anyCommand, "functions: {}\n")
	atOnce(t, func(method, path, body string) (int, string) {
		a, err := g.try(t.Context(), method, path, strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		return a.StatusCode, a.body
	}, `"image":"i","envProcess":"cat"`)
	var list []functionStatus
	if err := json.Unmarshal([]byte(g.want(t, 200, "GET", "/system/functions", "")), &list); err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		g.answers(t, f.Name, "x", "x")
	}
}

// TestAcknowledgedIsKept kills the gateway after each call that it answered.
func TestAcknowledgedIsKept(t *testing.T) {
	t.Parallel()
	g := newOpenGateway(t, anyCommand, "functions: {}\n")
	var want *functionStatus
	for i, step := range []struct {
		method, path, body string
		change             func()
	}{
		{"POST", "/system/functions", `{"service":"f","image":"a","envProcess":"cat"}`, func() {
			want = &functionStatus{Image: "a", Replicas: 1}
		}},
		{"PUT", "/system/functions", `{"service":"f","image":"b","envProcess":"cat"}`, func() { want.Image = "b" }},
		{"POST", "/system/scale-function/f", `{"replicas":3}`, func() { want.Replicas = 3 }},
		{"POST", "/system/scale-function/f", `{"replicas":0}`, func() { want.Replicas = 0 }},
		{"DELETE", "/system/functions", `{"functionName":"f"}`, func() { want = nil }},
		{"POST", "/system/functions", `{"service":"f","image":"c","envProcess":"cat"}`, func() { want = &functionStatus{Image: "c", Replicas: 1} }},
	} {
		g.want(t, http.StatusAccepted, step.method, step.path, step.body)
		g.stop(t, syscall.SIGKILL)
		step.change()
		g.start(t)
		got := g.status(t, "f")
		switch {
		case (got == nil) != (want == nil):
			t.Errorf("after call %d: %+v, want %+v", i, got, want)
		case got != nil && (got.Image != want.Image || got.Replicas != want.Replicas):
			t.Errorf("after call %d: image %s, %d replicas, want %s and %d", i, got.Image, got.Replicas, want.Image, want.Replicas)
		}
	}
	g.answers(t, "f", "x", "x")
}
