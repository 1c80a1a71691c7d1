package deploy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// labScript makes a swarm of several nodes on this machine.
const labScript = "../../shared/swarm-lab/lab.sh"

// labNet is what the nodes' addresses begin with; their numbers follow.
const labNet = "198.18.82."

// A lab is a swarm of three managers, n1 to n3.
type lab struct {
	*testing.T
	dir      string
	password string
}

func beginLab(t *testing.T) *lab {
	t.Helper()
	if os.Getenv("FAAS_TEST_LAB") == "" {
		t.Skip("takes two minutes: set FAAS_TEST_LAB=1")
	}
	if _, err := os.Stat(labScript); err != nil || os.Geteuid() != 0 {
		t.Skipf("needs root and %s", labScript)
	}
	dir, err := os.MkdirTemp("", "fg") // short: sockets are in it
	if err != nil {
		t.Fatal(err)
	}
	// A dockerd without this machine's configuration.
	script := fmt.Sprintf("#!/bin/sh\nexec %s --config-file %s/bin/daemon.json \"$@\"\n", needs(t, "dockerd"), dir)
	err = errors.Join(os.Mkdir(dir+"/bin", 0o755), os.WriteFile(dir+"/bin/daemon.json", []byte("{}"), 0o644), os.WriteFile(dir+"/bin/dockerd", []byte(script), 0o755))
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{T: t, dir: dir}
	t.Cleanup(func() { l.do("down"); os.RemoveAll(dir) })
	l.do("up", "3", "3")
	return l
}

// do runs one of the lab's commands.
func (l *lab) do(args ...string) string {
	l.Helper()
	env := []string{"PATH=" + l.dir + "/bin:" + os.Getenv("PATH"), "SWARM_LAB_DIR=" + l.dir, "SWARM_LAB_TAG=fg", "SWARM_LAB_NET=" + strings.TrimSuffix(labNet, ".")}
	return strings.TrimSpace(mustRun(l.T, env, labScript, args...))
}

// engine is the one of a node.
func (l *lab) engine(node string) *engine {
	return &engine{env: []string{"DOCKER_HOST=unix://" + l.dir + "/" + node + "/docker.sock"}}
}

// ask sends a request to a node's gateway.
func (l *lab) ask(node, path, body string) (int, string) {
	r, err := http.NewRequest("POST", "http://"+labNet+strings.TrimPrefix(node, "n")+path, strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	if body == "" {
		r.Method = "GET"
	}
	r.SetBasicAuth("admin", l.password)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// replicas of a function, as a node's gateway knows them.
func (l *lab) replicas(node, name string) int {
	l.Helper()
	status, text := l.ask(node, "/system/function/"+name, "")
	var fn struct{ Replicas int }
	if err := json.Unmarshal([]byte(text), &fn); err != nil {
		l.Fatalf("%s: %d %s", node, status, text)
	}
	return fn.Replicas
}

// underLoad calls a function by one node's gateway alone until a condition holds.
func (l *lab) underLoad(node, name, what string, ok func() bool) {
	l.Helper()
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if status, text := l.ask(node, "/function/"+name, "x"); status != 200 {
					l.Errorf("under load: %d %s", status, text)
					return
				}
			}
		})
	}
	defer clients.Wait()
	defer close(stop)
	eventually(l.T, what, ok)
}

// up.sh on three managers: their gateways know each other by nothing but the stack, and scale as one.
func TestLabGateways(t *testing.T) {
	l := beginLab(t)
	first := l.engine("n1")
	first.busybox(t)
	data := t.TempDir()
	env := append(first.env, "FAAS_DATA="+data, "FAAS_ALPINE_IMAGE=busybox:test", "FAAS_PYTHON_IMAGE=none:test", "FAAS_NODE_IMAGE=none:test")
	c := exec.Command("./build-images.sh")
	c.Env = append(os.Environ(), env...)
	images, err := c.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, images)
	}
	first.docker(t, append([]string{"save", "--output", l.dir + "/images.tar"}, strings.Fields(string(images))...)...)
	l.do("load-image", l.dir+"/images.tar", "n2", "n3")
	if out, err := run(env, "./up.sh", "--no-build"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	l.password = strings.TrimSpace(read(t, data+"/admin.password"))
	for _, node := range []string{"n1", "n2", "n3"} {
		if status, text := l.ask(node, "/function/echo", "hello"); status != 200 || text != "hello" {
			t.Errorf("%s: %d %s", node, status, text)
		}
	}

	// Not on the node that will be killed, whose replicas would take their requests with them.
	first.docker(t, "service", "update", "--detach", "--env-add", "fprocess=sleep 1", "--constraint-add", "node.hostname!=n3",
		"--label-add", "com.openfaas.scale.target=1", "--label-add", "com.openfaas.scale.down.window=2s", "faas_wordcount")
	l.underLoad("n1", "wordcount", "there is a replica for each request", func() bool { return l.replicas("n2", "wordcount") >= 4 })
	eventually(t, "there is one again", func() bool { return l.replicas("n2", "wordcount") == 1 })
	owners := map[string]bool{}
	for line := range strings.Lines(first.docker(t, "service", "logs", "faas_gateway")) {
		if strings.Contains(line, "less load for") {
			gateway, _, _ := strings.Cut(line, " ")
			owners[gateway] = true
		}
	}
	if len(owners) != 1 {
		t.Errorf("the function was lowered by %v, want its owner alone", owners)
	}
	l.do("kill", "n3")
	l.underLoad("n2", "wordcount", "those that are left raise it", func() bool { return l.replicas("n1", "wordcount") >= 4 })
	eventually(t, "those that are left lower it", func() bool { return l.replicas("n1", "wordcount") == 1 })
}
