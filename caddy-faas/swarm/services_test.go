package swarm

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Services that were not made through the API are functions, too, and what their makers set stays.
func TestServicesOfOthers(t *testing.T) {
	g := beginGateway(t)
	mine, stack := run+"-mine", run+"-st"
	cli(t, "service", "create", "--detach", "--no-resolve-image", "--name", run+"-by-hand", "--network", run, "--endpoint-mode", "dnsrr", "--label", "com.openfaas.function="+mine,
		"--label", "owner=me", "--env", "fprocess=sh -c 'printf $who; cat'", "--env", "who=hand:", "--hostname", "theirs", "--stop-grace-period", "5s", image)
	file := filepath.Join(t.TempDir(), "stack.yml")
	must(t, os.WriteFile(file, []byte(fmt.Sprintf(`version: "3.8"
services:
  echoit:
    image: %[1]s
    networks: [functions]
    labels:
      function: "true"
    environment:
      fprocess: "sh -c 'printf seed:; cat'"
    deploy:
      endpoint_mode: dnsrr
networks:
  functions:
    external: true
    name: %[2]s
`, image, run)), 0o644))
	cli(t, "stack", "deploy", "--detach=true", "--resolve-image", "never", "--compose-file", file, stack)
	t.Cleanup(func() { dockerCLI("stack", "rm", stack) })
	for name, want := range map[string]string{mine: "hand:x", stack + "_echoit": "seed:x"} {
		eventually(t, name+" is known", func() bool {
			status, _, err := g.try("GET", "/system/function/"+name, "")
			return err == nil && status == 200
		})
		if got := g.call("POST", "/function/"+name, "x", 200); got != want {
			t.Errorf("%s answers %q", name, got)
		}
	}
	g.call("PUT", "/system/functions", deployment(mine, "sh -c 'printf api:$who; hostname; cat'"), 202)
	eventually(t, "the definition is replaced", func() bool {
		return strings.HasPrefix(g.call("POST", "/function/"+mine, "x", 200), "api:") && g.settled(run+"-by-hand", 1)
	})
	// who was read off the service, so it was part of the old definition.
	if got := strings.TrimSpace(cli(t, "service", "inspect", run+"-by-hand", "--format", "{{.Spec.TaskTemplate.ContainerSpec.Hostname}} {{index .Spec.Labels \"owner\"}}")); !strings.HasPrefix(got, "theirs") {
		t.Errorf("hostname and label are %q", got)
	}
	g.call("POST", "/system/scale-function/"+mine, map[string]int{"replicas": 2}, 202)
	g.ready(mine, 2)
	// What people change with Docker's client shows.
	cli(t, "service", "update", "--detach", "--label-add", "com.openfaas.scale.max=7", "--replicas", "1", run+"-by-hand")
	eventually(t, "the label is seen", func() bool {
		return strings.Contains(g.call("GET", "/system/function/"+mine, "", 200), `"com.openfaas.scale.max":"7"`)
	})
	g.ready(mine, 1)
	g.call("DELETE", "/system/functions", map[string]string{"functionName": mine}, 202)
}

// A function is shut in as it was asked for, and finds its secrets.
func TestIsolationAndSecrets(t *testing.T) {
	g := beginGateway(t)
	name := run + "-shut"
	secret := func(method, value string, status int) {
		t.Helper()
		g.call(method, "/system/secrets", map[string]any{"name": "key", "rawValue": base64.StdEncoding.EncodeToString([]byte(value))}, status)
	}
	secret("POST", "one\x00\n", 201)
	secret("POST", "one", 409)
	shut := deployment(name, `sh -c 'id -u; touch /x 2>&1 | grep -o Read-only; touch /tmp/y && echo writable; ls -l /var/openfaas/secrets | grep -o "^-r-------- .* 65534"; cat /var/openfaas/secrets/key; grep CapEff /proc/self/status'`)
	shut["secrets"], shut["readOnlyRootFilesystem"] = []string{"key"}, true
	labelled(shut, "faas.user", "65534", "faas.cap_drop", "ALL", "faas.init", "true", "faas.limits.processes", "100")
	shut["limits"] = map[string]string{"memory": "1Mi", "cpu": "0.5"}
	g.call("POST", "/system/functions", shut, 202)
	got := g.call("POST", "/function/"+name, "", 200)
	for _, want := range []string{"65534\nRead-only\nwritable\n", "one\x00\n", "CapEff:\t0000000000000000"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
	if !strings.Contains(got, "-r--------") {
		t.Errorf("others may read the secret: %q", got)
	}
	if answer := g.call("GET", "/system/function/"+name, "", 200); !strings.Contains(answer, `"memory":"1Mi"`) || strings.Contains(answer, "one") {
		t.Errorf("described as %s", answer)
	}
	if _, answer, _ := g.try("DELETE", "/system/secrets", `{"name":"key"}`); !strings.Contains(answer, name) {
		t.Errorf("a secret in use: %s", answer)
	}
	secret("PUT", "two", 202)
	eventually(t, "the function reads the new value", func() bool { return strings.Contains(g.call("POST", "/function/"+name, "", 200), "two") })
	eventually(t, "the old version is gone", func() bool {
		return len(strings.Fields(cli(t, "secret", "ls", "--quiet", "--filter", "label="+labelNetwork+"="+run))) == 1
	})
	g.call("DELETE", "/system/functions", map[string]string{"functionName": name}, 202)
	g.call("DELETE", "/system/secrets", map[string]string{"name": "key"}, 202)
}

func TestLogs(t *testing.T) {
	g := beginGateway(t)
	name := run + "-talk"
	talk := deployment(name, `sh -c 'read -r line; echo "heard $line" >&2; hostname'`)
	labelled(talk, "com.openfaas.scale.min", "2")
	g.call("POST", "/system/functions", talk, 202)
	g.ready(name, 2)
	for n := range 10 {
		g.call("POST", "/function/"+name, fmt.Sprintf("call %d\n", n), 200)
	}
	type line struct {
		Name, Instance, Text string
		Timestamp            time.Time
	}
	read := func(query string) (lines []line) {
		for text := range strings.Lines(g.call("GET", "/system/logs?name="+name+query, "", 200)) {
			var l line
			must(t, json.Unmarshal([]byte(text), &l))
			lines = append(lines, l)
		}
		return lines
	}
	with := func(text string, lines []line) (n int) {
		for _, l := range lines {
			if strings.Contains(l.Text, text) {
				n++
			}
		}
		return n
	}
	var all []line
	// The watchdog's own last line of a call comes after its answer.
	eventually(t, "the log has every line", func() bool { all = read(""); return with("heard call", all) == 10 && with("Duration: ", all) == 10 })
	if !slices.IsSortedFunc(all, func(a, b line) int { return a.Timestamp.Compare(b.Timestamp) }) {
		t.Error("lines are not in order")
	}
	instances := map[string]bool{}
	for _, l := range all {
		instances[l.Instance] = true
	}
	if len(instances) != 2 {
		t.Errorf("instances are %v", instances)
	}
	if last := read("&tail=3"); len(last) != 3 || last[2] != all[len(all)-1] {
		t.Errorf("tail is %+v", last)
	}
	if one := read("&instance=" + all[0].Instance); len(one) == 0 || len(one) == len(all) || one[0].Instance != all[0].Instance {
		t.Errorf("%d lines of one of two instances, of %d", len(one), len(all))
	}
	if since := read("&since=" + all[len(all)-1].Timestamp.Add(time.Second).Format(time.RFC3339)); len(since) != 0 {
		t.Errorf("since: %+v", since)
	}

	resp, err := http.Get(g.url + "/system/logs?follow=true&tail=1&name=" + name)
	must(t, err)
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	if !lines.Scan() {
		t.Fatal("no first line")
	}
	g.call("POST", "/function/"+name, "call again\n", 200)
	for lines.Scan() && !strings.Contains(lines.Text(), "heard call again") {
	}
	if !strings.Contains(lines.Text(), "heard call again") {
		t.Errorf("followed to %q, %v", lines.Text(), lines.Err())
	}
	g.call("DELETE", "/system/functions", map[string]string{"functionName": name}, 202)
	for lines.Scan() { // until the end
	}
	if lines.Err() != nil {
		t.Error(lines.Err())
	}
}
