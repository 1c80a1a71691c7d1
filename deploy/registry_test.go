package deploy

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// Images of two kinds of machine are one in a registry, from which a swarm runs them.
func TestRegistry(t *testing.T) {
	if os.Getenv("FAAS_TEST_LAB") == "" {
		t.Skip("compiles Caddy for another processor: set FAAS_TEST_LAB=1")
	}
	program := needs(t, "docker-registry")
	e := startEngine(t)
	dir, inside := t.TempDir(), []string{"--net=/proc/" + fmt.Sprint(e.pid) + "/ns/net"}
	write(t, dir+"/config.json", fmt.Sprintf(`{"version": "0.1", "storage": {"filesystem": {"rootdirectory": %q}}, "http": {"addr": "127.0.0.1:5000"}}`, dir+"/data"))
	registry := exec.Command("nsenter", append(inside, program, "serve", dir+"/config.json")...)
	if err := registry.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { registry.Process.Kill(); registry.Wait() })
	eventually(t, "the registry answers", func() bool { _, err := e.curl("http://127.0.0.1:5000/v2/"); return err == nil })

	env := append(e.env, "FAAS_REGISTRY=127.0.0.1:5000/team", "FAAS_PLATFORMS=linux/amd64,linux/arm64", "FAAS_DATA="+dir,
		"FAAS_ALPINE_IMAGE=none:test", "FAAS_PYTHON_IMAGE=none:test", "FAAS_NODE_IMAGE=none:test")
	e.docker(t, "swarm", "init", "--advertise-addr", "127.0.0.1")
	if out, err := run(env, "nsenter", append(inside, "./up.sh")...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got, err := e.curl("http://127.0.0.1/function/nodeinfo"); err != nil || !strings.Contains(got, "Architecture: "+runtime.GOARCH) {
		t.Errorf("nodeinfo: %v %s", err, got)
	}
	for _, name := range []string{"caddy-faas/gateway", "caddy-faas/watchdog", "functions/nodeinfo"} {
		var list struct {
			Manifests []struct {
				Platform struct{ Architecture string }
			}
		}
		text := mustRun(t, e.env, "nsenter", append(inside, "docker", "manifest", "inspect", "--insecure", "127.0.0.1:5000/team/"+name+":latest")...)
		if err := json.Unmarshal([]byte(text), &list); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		of := map[string]bool{}
		for _, m := range list.Manifests {
			of[m.Platform.Architecture] = true
		}
		if got := slices.Sorted(maps.Keys(of)); !slices.Equal(got, []string{"amd64", "arm64"}) {
			t.Errorf("%s is for %v", name, got)
		}
	}
	if image := e.docker(t, "service", "inspect", "--format", "{{.Spec.TaskTemplate.ContainerSpec.Image}}", "faas_gateway"); !strings.HasPrefix(image, "127.0.0.1:5000/team/caddy-faas/gateway:") {
		t.Errorf("the gateway runs %s", image)
	}
}
