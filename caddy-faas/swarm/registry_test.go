package swarm

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-faas/faas/caddy-faas/internal/faastest"
)

// The registry's one account: htpasswd -nbB -C 4 somebody correct-horse.
const (
	registryUser, registryPassword = "somebody", "correct-horse"
	registryAccount                = registryUser + ":$2a$04$vaQIHfmc0cMjqscer5P09.0FExHNQhiUW4cGiufTzHl0ApZnbKuhi\n"
)

// startRegistry runs a private registry on this machine until the test ends, and returns its host and port.
func startRegistry(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		faastest.Lacking(t, "docker-registry", err)
	}
	dir := t.TempDir()
	file := func(name, text string) string {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
		return filepath.Join(dir, name)
	}
	config := fmt.Sprintf(`{"version": "0.1", "storage": {"filesystem": {"rootdirectory": %q}}, "http": {"addr": "127.0.0.1:0"},
		"auth": {"htpasswd": {"realm": "test", "path": %q}}}`, filepath.Join(dir, "data"), file("htpasswd", registryAccount))
	c := exec.Command(program, "serve", file("config.json", config))
	log, err := c.StderrPipe()
	must(t, err)
	must(t, c.Start())
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	listening := regexp.MustCompile(`listening on (127\.0\.0\.1:\d+)`)
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		if found := listening.FindStringSubmatch(lines.Text()); found != nil {
			go func() {
				for lines.Scan() { // it must not wait for a reader
				}
			}()
			return found[1]
		}
	}
	t.Fatal("the registry does not listen: ", lines.Err())
	return ""
}

// login is a Docker config.json.
func login(registry, password string) string {
	return fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, registry, base64.StdEncoding.EncodeToString([]byte(registryUser+":"+password)))
}

// An image of a private registry is pulled with the gateway's credentials, read at each deployment; nobody is told them.
func TestPrivateRegistry(t *testing.T) {
	g := beginGateway(t, "registry_auth /gateway/etc/config.json")
	registry := startRegistry(t)
	private := registry + "/team/cat:1"
	config := t.TempDir()
	must(t, os.WriteFile(filepath.Join(config, "config.json"), []byte(login(registry, registryPassword)), 0o600))
	cli(t, "tag", image, private)
	cli(t, "--config", config, "push", "--quiet", private)
	cli(t, "rmi", private)
	t.Cleanup(func() { removeUnused("image", private) })

	const wrong = "wrong-battery"
	var told []string
	deploy := func(method, name, auth string) {
		t.Helper()
		must(t, os.WriteFile(filepath.Join(g.dir, "config.json"), []byte(auth), 0o644))
		d := deployment(name, "cat")
		d["image"] = private
		d["registryAuth"] = base64.StdEncoding.EncodeToString([]byte(registryUser + ":" + wrong)) // older clients send it; it is ignored
		told = append(told, g.call(method, "/system/functions", d, 202))
	}
	name := run + "-private-wrong"
	for _, row := range []struct{ name, auth string }{{run + "-private-no", login("registry.example.com", registryPassword)}, {name, login(registry, wrong)}} {
		deploy("POST", row.name, row.auth)
		eventually(t, row.name+" tells the engine's words", func() bool {
			s := g.status(row.name)
			return s.AvailableReplicas == 0 && strings.Contains(s.Reason, "No such image: "+private)
		})
		status, answer, err := g.try("POST", "/function/"+row.name, "x")
		if err != nil || status != 503 || !strings.Contains(answer, "No such image") {
			t.Errorf("%s answers %d %q %v", row.name, status, answer, err)
		}
		told = append(told, answer, g.call("GET", "/system/function/"+row.name, "", 200), g.call("GET", "/system/functions", "", 200))
	}
	deploy("PUT", name, login(registry, registryPassword))
	g.ready(name, 1)
	if got := g.call("POST", "/function/"+name, "hello", 200); got != "hello" {
		t.Errorf("answer is %q", got)
	}
	// Scaling pulls with the credentials that the service was deployed with, whatever the file says now.
	must(t, os.WriteFile(filepath.Join(g.dir, "config.json"), []byte(login(registry, wrong)), 0o644))
	cli(t, "rmi", "--force", private)
	g.call("POST", "/system/scale-function/"+name, map[string]int{"replicas": 2}, 202)
	g.ready(name, 2)

	logs, err := dockerCLI("logs", g.container)
	must(t, err)
	told = append(told, logs, g.call("GET", "/system/function/"+name, "", 200), g.call("GET", "/metrics", "", 200), cli(t, "service", "inspect", name))
	for _, password := range []string{registryPassword, wrong} {
		for _, form := range []string{password, base64.StdEncoding.EncodeToString([]byte(registryUser + ":" + password))} {
			if strings.Contains(strings.Join(told, "\n"), form) {
				t.Errorf("%q is told", form)
			}
		}
	}
}
