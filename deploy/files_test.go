// Package deploy tests what is in this folder with the programs that it is for.
package deploy

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/caddy-faas/faas/caddy-faas/stack"
)

// needs returns a program's path. A machine that lacks it skips the test, unless FAAS_TEST_REQUIRE names it.
func needs(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		lacking(t, program, err)
	}
	return path
}

// lacking skips a test for what the machine lacks, or fails it if FAAS_TEST_REQUIRE names that.
func lacking(t *testing.T, what string, why any) {
	t.Helper()
	if slices.Contains(strings.Split(os.Getenv("FAAS_TEST_REQUIRE"), ","), what) {
		t.Fatalf("needs %s: %v", what, why)
	}
	t.Skipf("needs %s: %v", what, why)
}

// run runs a program in this folder and returns all that it prints. env are NAME=VALUE.
func run(env []string, program string, args ...string) (string, error) {
	c := exec.Command(program, args...)
	c.Env = append(os.Environ(), env...)
	out, err := c.CombinedOutput()
	return string(out), err
}

func mustRun(t *testing.T, env []string, program string, args ...string) string {
	t.Helper()
	out, err := run(env, program, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return out
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A service is what is looked at of a stack file's.
type service struct {
	Image       string
	Environment map[string]string
	User        string
	ReadOnly    bool     `yaml:"read_only"`
	CapDrop     []string `yaml:"cap_drop"`
	Networks    map[string]any
	Ports       []struct {
		Target, Published int
		Mode, Protocol    string
	}
	Volumes     []struct{ Type, Source, Target string }
	Secrets     []struct{ Source, Target string }
	Configs     []struct{ Source, Target string }
	Healthcheck struct{ Test []string }
	Deploy      struct {
		Labels       map[string]string
		Mode         string
		EndpointMode string `yaml:"endpoint_mode"`
		Placement    struct{ Constraints []string }
		UpdateConfig struct{ Order string } `yaml:"update_config"`
	}
}

// rendered are the services of a stack file as Docker reads it.
func rendered(t *testing.T, files ...string) map[string]service {
	t.Helper()
	needs(t, "docker")
	if out, _ := run(nil, "docker", "stack", "config", "--help"); !strings.Contains(out, "docker stack config") {
		lacking(t, "docker", "this one has no stack config")
	}
	args := []string{"stack", "config"}
	for _, f := range files {
		args = append(args, "-c", f)
	}
	out := mustRun(t, []string{"FAAS_DOCKER_GID=1234"}, "docker", args...)
	var file struct{ Services map[string]service }
	if err := yaml.Unmarshal([]byte(out), &file); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return file.Services
}

func TestGatewayService(t *testing.T) {
	g := rendered(t, "stack.yml")["gateway"]
	var ports []string
	for _, p := range g.Ports {
		ports = append(ports, fmt.Sprintf("%d %d %s %s", p.Published, p.Target, p.Mode, cmp.Or(p.Protocol, "tcp")))
	}
	for what, ok := range map[string]bool{
		"ports": slices.Equal(ports, []string{"80 80 host tcp", "443 443 host tcp", "443 443 host udp"}),
		"user":  g.User == "65532:1234" && g.ReadOnly && slices.Equal(g.CapDrop, []string{"ALL"}),
		"secrets": len(g.Secrets) == 2 && g.Secrets[0].Target == g.Environment["FAAS_DATA"]+"/admin.hash" &&
			strings.HasSuffix(g.Environment["FAAS_SCALE"], "\npeer_secret_file "+g.Secrets[1].Target),
		"peers":     strings.HasPrefix(g.Environment["FAAS_SCALE"], "peers tasks.gateways:8081\n") && strings.HasPrefix(g.Environment["FAAS_SITES"], "http://:8081 {\n"),
		"config":    len(g.Configs) == 1 && g.Configs[0].Target == "/etc/caddy/Caddyfile",
		"health":    len(g.Healthcheck.Test) > 1 && g.Healthcheck.Test[0] == "CMD", // the image has no shell
		"placement": slices.Equal(g.Deploy.Placement.Constraints, []string{"node.role == manager"}) && g.Deploy.UpdateConfig.Order == "stop-first",
		"networks":  len(g.Networks) == 2,
	} {
		if !ok {
			t.Errorf("%s: %+v", what, g)
		}
	}
	if out, err := run(nil, "docker", "stack", "config", "-c", "stack.yml"); err == nil || !strings.Contains(out, "FAAS_DOCKER_GID") {
		t.Errorf("without the socket's group: %v\n%s", err, out)
	}
}

// With the proxy it has the socket, and the gateway does not.
func TestSocketProxyServices(t *testing.T) {
	services := rendered(t, "stack.yml", "socket-proxy.yml")
	for name, want := range map[string]string{"gateway": "", "docker-proxy": "/var/run/docker.sock"} {
		socket, user := "", services[name].User
		for _, v := range services[name].Volumes {
			if v.Target == "/var/run/docker.sock" {
				socket = v.Source
			}
		}
		if socket != want || (user == "65532:1234") != (want != "") {
			t.Errorf("%s has the socket %q as %s", name, socket, user)
		}
	}
	if _, ok := services["docker-proxy"].Networks["engine"]; !ok || len(services["docker-proxy"].Networks) != 1 {
		t.Errorf("the proxy is on %v", services["docker-proxy"].Networks)
	}
}

// The functions of stack.yml are those of functions/stack.yml, which the local provider and faas-cli read.
func TestFunctionsAreTheSame(t *testing.T) {
	services := rendered(t, "stack.yml")
	declared, _, err := stack.Read("../functions/stack.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, fn := range declared {
		s, ok := services[fn.Name]
		delete(services, fn.Name)
		if !ok {
			t.Errorf("%s is not in stack.yml", fn.Name)
			continue
		}
		labels := map[string]string{"com.openfaas.function": fn.Name}
		maps.Copy(labels, fn.Labels)
		// The image has the command, unless several functions share it.
		process := s.Environment["fprocess"]
		if process == "" {
			if file, err := os.ReadFile(filepath.Join(fn.Handler, "Dockerfile")); err == nil {
				_, rest, _ := strings.Cut(string(file), "ENV fprocess=")
				process, _, _ = strings.Cut(rest, "\n")
				process = strings.Trim(process, `"`)
			} else {
				process = "./handler"
			}
		}
		delete(s.Environment, "fprocess")
		if len(s.Environment) == 0 && len(fn.Env) == 0 {
			s.Environment, fn.Env = nil, nil
		}
		if s.Image != fn.Image || process != fn.Process || !maps.Equal(s.Environment, fn.Env) || !maps.Equal(s.Deploy.Labels, labels) {
			t.Errorf("%s differs:\n%+v %s\n%+v", fn.Name, s, process, fn)
		}
		if s.Deploy.EndpointMode != "dnsrr" || s.Deploy.UpdateConfig.Order != "start-first" || len(s.Networks) != 1 {
			t.Errorf("%s: %+v", fn.Name, s)
		}
	}
	delete(services, "gateway")
	if len(services) > 0 {
		t.Errorf("only in stack.yml: %v", slices.Collect(maps.Keys(services)))
	}
}

// Functions can't reach what watches them.
func TestMonitoringServices(t *testing.T) {
	services := rendered(t, "monitoring.yml")
	if len(services) != 3 {
		t.Errorf("%d services", len(services))
	}
	for name, s := range services {
		if _, ok := s.Networks["control"]; !ok || len(s.Networks) != 1 {
			t.Errorf("%s is on %v", name, s.Networks)
		}
		if (len(s.Ports) > 0) != (name == "grafana") {
			t.Errorf("%s has the ports %v", name, s.Ports)
		}
	}
	both := rendered(t, "stack.yml", "monitoring.yml")
	if _, ok := both["gateway"].Networks["control"]; !ok {
		t.Error("the gateway is not where Prometheus is")
	}
}

func TestMonitoringFiles(t *testing.T) {
	needs(t, "promtool")
	needs(t, "amtool")
	mustRun(t, nil, "promtool", "check", "config", "monitoring/prometheus.yml")
	mustRun(t, nil, "promtool", "check", "rules", "monitoring/alert.rules.yml")
	mustRun(t, nil, "promtool", "test", "rules", "monitoring/alert.rules.test.yml")
	mustRun(t, nil, "amtool", "check-config", "monitoring/alertmanager.yml")
	var rules struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert  string
				Labels map[string]string
			}
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, "monitoring/alert.rules.yml")), &rules); err != nil {
		t.Fatal(err)
	}
	for _, group := range rules.Groups {
		want := map[string]string{"scaling": "scale-up", "health": "people"}[group.Name]
		for _, rule := range group.Rules {
			args := []string{"config", "routes", "test", "--config.file=monitoring/alertmanager.yml", "function_name=echo.openfaas-fn", "alertname=" + rule.Alert}
			for name, value := range rule.Labels {
				args = append(args, name+"="+value)
			}
			if got := mustRun(t, nil, "amtool", args...); !strings.Contains(got, want) {
				t.Errorf("%s goes to %s, not to %s", rule.Alert, got, want)
			}
		}
	}
}

// What goes wrong says what to do about it.
func TestScriptsSayWhatToDo(t *testing.T) {
	nowhere := "DOCKER_HOST=unix://" + filepath.Join(t.TempDir(), "docker.sock")
	empty := t.TempDir()
	for _, tool := range []string{"dirname", "sh"} {
		if err := os.Symlink(needs(t, tool), filepath.Join(empty, tool)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		env    string
		script string
		args   []string
		want   string
	}{
		{"PATH=" + empty, "./up.sh", nil, "up.sh: docker is missing: install it"},
		{"PATH=" + empty, "./build-images.sh", nil, "build-images.sh: docker is missing: install it"},
		{nowhere, "./up.sh", []string{"--wrong"}, "up.sh: unknown option --wrong; see --help"},
		{nowhere, "./down.sh", []string{"--wrong"}, "down.sh: unknown option --wrong; see --help"},
		{nowhere, "./build-images.sh", []string{"echo"}, "build-images.sh: unknown argument echo"},
		{nowhere, "./up.sh", nil, "the Docker engine does not answer: start it, or run this as a user who may use it"},
		{nowhere, "./down.sh", nil, "the Docker engine does not answer: start it, or run this as a user who may use it"},
		{nowhere, "./build-images.sh", nil, "the Docker engine does not answer: start it, or run this as a user who may use it"},
	} {
		if strings.Contains(c.want, "does not answer") {
			needs(t, "docker")
		}
		out, err := run([]string{c.env}, c.script, c.args...)
		if err == nil || !strings.Contains(out, c.want) {
			t.Errorf("%s %s %s: %v\n%s\nwant %q", c.env, c.script, c.args, err, out, c.want)
		}
	}
	for _, script := range []string{"./up.sh", "./down.sh", "./build-images.sh"} {
		out := mustRun(t, nil, script, "--help")
		if !strings.Contains(out, "deploy/"+filepath.Base(script)) || strings.Contains(out, "set -eu") {
			t.Errorf("%s --help:\n%s", script, out)
		}
	}
}

// Copies of secrets that Caddy looks at are gone however that ends: the engine makes no container, or takes no files, or somebody loses patience.
func TestCheckedSecretsAreRemoved(t *testing.T) {
	for name, docker := range map[string]string{
		"no container": `[ "$1" = secret ]`,
		"no files":     `case $1 in create) echo c1 ;; cp) exit 1 ;; rm) echo removed >>"$REMOVED" ;; esac`,
		"interrupted":  `case $1 in create) touch "$STARTED"; exec sleep 60 ;; esac`,
	} {
		t.Run(name, func(t *testing.T) {
			bin, data, tmp := t.TempDir(), t.TempDir(), t.TempDir()
			for file, text := range map[string]string{bin + "/docker": "#!/bin/sh\n" + docker, data + "/github.secret": "s3cret"} {
				if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			check := exec.Command("sh", "-euc", ". ./lib.sh; . ./gateway.sh; image_of() { echo image; }; check_config; echo checked")
			check.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "TMPDIR="+tmp, "data="+data, "FAAS_CADDYFILE=../Caddyfile",
				"STARTED="+data+"/started", "REMOVED="+data+"/removed")
			check.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			var out strings.Builder
			check.Stdout, check.Stderr = &out, &out
			if err := check.Start(); err != nil {
				t.Fatal(err)
			}
			if name == "interrupted" {
				eventually(t, "the engine is asked", func() bool { _, err := os.Stat(data + "/started"); return err == nil })
				if err := syscall.Kill(-check.Process.Pid, syscall.SIGINT); err != nil {
					t.Error(err)
				}
			}
			if err := check.Wait(); err == nil || strings.Contains(out.String(), "checked") {
				t.Errorf("it ends with %v: %s", err, &out)
			}
			if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
				t.Errorf("%v %v is left", err, left)
			}
			if _, err := os.Stat(data + "/removed"); name == "no files" && err != nil {
				t.Error("the container is left")
			}
		})
	}
}
