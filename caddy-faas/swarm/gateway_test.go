package swarm

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// gatewayFile is a gateway's Caddyfile.
const gatewayFile = `{
	admin unix//tmp/admin.sock
	grace_period 30s
	servers {
		listener_wrappers {
			faas_handover
			tls
		}
	}
	faas {
		provider swarm {
			network NETWORK
			OPTIONS
		}
		data /tmp/faas
		scale {
			pending_after 1s
		}
	}
}
:8080 {
	handle /system/* {
		faas_api
	}
	handle /healthz {
		faas_api
	}
	handle /metrics {
		metrics {
			disable_openmetrics
		}
	}
	handle {
		faas
	}
	handle_errors {
		respond "{err.message}" {err.status_code}
	}
}
`

// A gateway is Caddy in a container on the functions' network: replicas can't be reached from elsewhere.
type gateway struct {
	t         *testing.T
	dir       string   // in the container it is /gateway/etc
	on        []string // how Docker's client finds the engine
	container string
	url       string
	client    *http.Client
}

// beginGateway runs a gateway until the test ends, with these options of the provider.
func beginGateway(t *testing.T, options ...string) *gateway {
	t.Helper()
	needDocker(t)
	t.Cleanup(tidy)
	g := newGateway(t, "/var/run/docker.sock", run, options...)
	g.url = "http://" + strings.Fields(cli(t, "port", g.container, "8080/tcp"))[0]
	g.serves()
	return g
}

// newGateway starts a gateway by the engine at a socket. It is the test binary, with the host's libraries: the race detector needs them.
func newGateway(t *testing.T, socket, network string, options ...string) *gateway {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	dir := t.TempDir()
	file := strings.NewReplacer("NETWORK", network, "OPTIONS", strings.Join(options, "\n")).Replace(gatewayFile)
	must(t, os.WriteFile(filepath.Join(dir, "Caddyfile"), []byte(file), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "config.json"), []byte(login("registry.example.com", "none")), 0o644))
	args := []string{"create", "--network", network, "--publish", "8080", "--env", asCaddy + "=1",
		"--env", "XDG_CONFIG_HOME=/tmp", "--env", "XDG_DATA_HOME=/tmp", "--env", "HOME=/tmp",
		"--volume", self + ":/gateway/caddy:ro", "--volume", dir + ":/gateway/etc:ro", "--volume", socket + ":/var/run/docker.sock"}
	for _, lib := range []string{"/lib", "/lib64", "/usr/lib"} {
		if _, err := os.Stat(lib); err == nil {
			args = append(args, "--volume", lib+":"+lib+":ro")
		}
	}
	g := &gateway{t: t, dir: dir, on: []string{"--host", "unix://" + socket}, client: httpClient}
	g.container = g.docker(append(args, image, "/gateway/caddy", "run", "--config", "/gateway/etc/Caddyfile")...)
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := dockerCLI(append(g.on, "logs", "--tail", "60", g.container)...)
			t.Logf("the gateway's log:\n%s", log)
		}
		dockerCLI(append(g.on, "rm", "--force", g.container)...)
	})
	eventually(t, "the gateway has its network", func() bool { // the engine may still be taking down what an earlier container used
		_, err := dockerCLI(append(slices.Clone(g.on), "start", g.container)...)
		if err != nil && !(strings.Contains(err.Error(), "network") && strings.Contains(err.Error(), "not found")) {
			t.Fatal(err)
		}
		return err == nil
	})
	return g
}

// docker runs Docker's client for the gateway's engine.
func (g *gateway) docker(args ...string) string {
	g.t.Helper()
	return cli(g.t, append(slices.Clone(g.on), args...)...)
}

// serves waits until the gateway does.
func (g *gateway) serves() {
	g.t.Helper()
	eventually(g.t, "the gateway serves", func() bool {
		resp, err := http.Get(g.url + "/healthz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == 200
	})
}

// reload loads the gateway's configuration anew.
func (g *gateway) reload() {
	g.t.Helper()
	g.docker("exec", g.container, "/gateway/caddy", "reload", "--force", "--config", "/gateway/etc/Caddyfile")
}

// call sends one request; it fails the test unless the answer has the status.
func (g *gateway) call(method, path string, body any, status int) string {
	g.t.Helper()
	text, ok := body.(string)
	if !ok {
		b, err := json.Marshal(body)
		must(g.t, err)
		text = string(b)
	}
	got, answer, err := g.try(method, path, text)
	if err != nil || got != status {
		g.t.Fatalf("%s %s: %d %s %v, want %d", method, path, got, answer, err, status)
	}
	return answer
}

func (g *gateway) try(method, path, body string) (status int, answer string, err error) {
	req, err := http.NewRequestWithContext(g.t.Context(), method, g.url+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	resp, err := g.client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

var httpClient = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}

// status is what the API says of a function.
type status struct {
	Replicas, AvailableReplicas int
	Image, EnvProcess, Reason   string
}

func (g *gateway) status(name string) (s status) {
	g.t.Helper()
	must(g.t, json.Unmarshal([]byte(g.call("GET", "/system/function/"+name, "", 200)), &s))
	return s
}

// ready waits until a function has so many replicas, all ready.
func (g *gateway) ready(name string, n int) {
	g.t.Helper()
	eventually(g.t, fmt.Sprintf("%s has %d ready replicas", name, n), func() bool {
		s := g.status(name)
		return s.Replicas == n && s.AvailableReplicas == n
	})
}

// load calls a function without a pause until stop is called, which fails the
// test if one answer was not as it should be.
func (g *gateway) load(path string, workers int) (stop func() int64) {
	return g.loadBut(path, workers, func(int, string, error) bool { return false })
}

// loadBut is load with answers that don't count as lost.
func (g *gateway) loadBut(path string, workers int, excused func(status int, answer string, err error) bool) (stop func() int64) {
	end := make(chan struct{})
	var sent, lost atomic.Int64
	var all sync.WaitGroup
	for n := range workers {
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-end:
					return
				default:
				}
				body := fmt.Sprintf("request %d of %d", i, n)
				status, answer, err := g.try("POST", path, body)
				if (err != nil || status != 200 || !strings.HasSuffix(answer, body)) && !excused(status, answer, err) {
					if lost.Add(1) < 10 {
						g.t.Errorf("%s: %d %q %v", body, status, answer, err)
					}
				}
				sent.Add(1)
			}
		})
	}
	var once sync.Once
	return func() int64 {
		once.Do(func() {
			close(end)
			all.Wait()
			g.t.Logf("%d requests, %d lost", sent.Load(), lost.Load())
		})
		return sent.Load()
	}
}

// deployment is what the API takes. The load of the tests changes nothing by itself.
func deployment(name, process string) map[string]any {
	return map[string]any{"service": name, "image": image, "envProcess": process, "envVars": map[string]string{"healthcheck_interval": "3s"}, "labels": map[string]string{"faas.scale.auto": "false"}}
}

// labelled adds labels, as pairs of name and value.
func labelled(d map[string]any, pairs ...string) {
	for i := 0; i < len(pairs); i += 2 {
		d["labels"].(map[string]string)[pairs[i]] = pairs[i+1]
	}
}
