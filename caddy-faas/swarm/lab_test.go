package swarm

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/internal/faastest"
)

// labScript makes a swarm of several nodes on this machine.
const labScript = "../../../shared/swarm-lab/lab.sh"

// A lab is a swarm of three nodes, n1 to n3.
type lab struct {
	t   *testing.T
	dir string
}

func beginLab(t *testing.T, managers string) *lab {
	t.Helper()
	needDocker(t)
	if testing.Short() {
		t.Skip("a swarm of three nodes takes a minute")
	}
	if _, err := os.Stat(labScript); err != nil || os.Geteuid() != 0 {
		t.Skipf("needs root and %s", labScript)
	}
	dir, err := os.MkdirTemp("", "fl") // short: sockets are in it
	must(t, err)
	must(t, ownDaemon(dir))
	l := &lab{t, dir}
	t.Cleanup(func() { l.down(); os.RemoveAll(dir) })
	for try := 1; ; try++ { // on a busy machine the script may overlook a node that is slow to begin, and fails without a word
		out, err := l.run("up", "3", managers)
		if err == nil {
			break
		}
		if l.down(); try == 3 {
			t.Fatalf("lab up: %v: %s", err, out)
		}
	}
	for _, node := range []string{"n1", "n2", "n3"} { // the script doesn't tell when an engine that is still busy takes none
		eventually(t, "the image is on "+node, func() bool {
			l.do("load-image", image, node)
			_, err := dockerCLI("--host", "unix://"+l.socket(node), "image", "inspect", image)
			return err == nil
		})
	}
	return l
}

// ownDaemon puts a dockerd first on the lab's path that does without this machine's configuration, but uses its storage driver.
func ownDaemon(dir string) error {
	driver, err := dockerCLI("info", "--format", "{{.Driver}}")
	if err != nil {
		return err
	}
	dockerd, err := exec.LookPath("dockerd")
	if err != nil {
		return err
	}
	script := fmt.Sprintf("#!/bin/sh\nexec %s --config-file %s/bin/daemon.json $(printf '%%s ' \"$@\" | sed 's/overlay2/%s/')\n", dockerd, dir, driver)
	return errors.Join(os.Mkdir(filepath.Join(dir, "bin"), 0o755),
		os.WriteFile(filepath.Join(dir, "bin", "daemon.json"), []byte("{}"), 0o644),
		os.WriteFile(filepath.Join(dir, "bin", "dockerd"), []byte(script), 0o755))
}

// do runs one of the lab's commands.
func (l *lab) do(args ...string) string {
	l.t.Helper()
	out, err := l.run(args...)
	if err != nil {
		l.t.Errorf("lab %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return out
}

func (l *lab) run(args ...string) (string, error) {
	c := exec.Command(labScript, args...)
	c.Env = append(os.Environ(), "PATH="+l.dir+"/bin:"+os.Getenv("PATH"), "SWARM_LAB_DIR="+l.dir, "SWARM_LAB_TAG=fl", "SWARM_LAB_NET=198.18.81")
	out, err := c.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// down ends the lab, and nodes that its script has overlooked: their processes name their folders.
func (l *lab) down() {
	exec.Command("pkill", "-KILL", "-f", l.dir+"/n").Run()
	l.do("down")
}

func (l *lab) socket(node string) string { return filepath.Join(l.dir, node, "docker.sock") }

// gateway runs a gateway on a node.
func (l *lab) gateway(node string) *gateway {
	l.t.Helper()
	g := newGateway(l.t, l.socket(node), "functions")
	_, port, err := net.SplitHostPort(strings.Fields(g.docker("port", g.container, "8080/tcp"))[0])
	must(l.t, err)
	g.url = "http://" + net.JoinHostPort(l.do("addr", node), port)
	g.serves()
	return g
}

// A node that dies, is cut off, comes back or is drained costs no request that could have been sent elsewhere.
func TestLabNodes(t *testing.T) {
	l := beginLab(t, "1")
	on := []string{"--host", "unix://" + l.socket("n1")}
	cli(t, append(on, "network", "create", "--driver", "overlay", "--attachable", "--subnet", "10.77.0.0/16", "functions")...)
	g := l.gateway("n1")
	name := "echo"
	spread := deployment(name, "cat")
	labelled(spread, "com.openfaas.scale.min", "3", "faas.max_per_node", "2")
	g.call("POST", "/system/functions", spread, 202)
	g.ready(name, 3)
	state := func(node string) string {
		return g.docker("node", "inspect", node, "--format", "{{.Status.State}}")
	}
	// left tells whether three replicas run, none of them on a node.
	left := func(node string) bool {
		nodes := strings.Fields(g.docker("service", "ps", name, "--format", "{{.Node}}/{{index (split .CurrentState \" \") 0}}", "--filter", "desired-state=running"))
		slices.Sort(nodes)
		return len(nodes) == 3 && !strings.Contains(strings.Join(nodes, " "), node) && strings.Count(strings.Join(nodes, " "), "/Running") == 3 &&
			g.status(name).AvailableReplicas == 3
	}
	const workers = 6
	// What was on its way to a node when it went can't be sent again. But it ends, with an answer.
	var broken atomic.Int64
	step := func(what string, most int64, do func()) {
		t.Helper()
		broken.Store(0)
		stop := g.loadBut("/function/"+name, workers, func(status int, answer string, err error) bool {
			if status == 502 && strings.Contains(answer, "before it answered") {
				broken.Add(1)
				return true
			}
			return false
		})
		began := time.Now()
		do()
		sent := stop()
		t.Logf("%s: %d requests in %s, %d broken off", what, sent, time.Since(began).Round(time.Second), broken.Load())
		if broken.Load() > most || sent == 0 {
			t.Errorf("%s: %d of %d requests were broken off, more than %d", what, broken.Load(), sent, most)
		}
	}
	// What was written on a node that is gone can't be read; what was written on others can.
	logs := func() {
		t.Helper()
		text := ""
		eventually(t, "the log tells of requests", func() bool {
			text = strings.TrimSpace(g.call("GET", "/system/logs?tail=20&name="+name, "", 200))
			return strings.Contains(text, "Duration: ")
		})
		t.Logf("the log ends with %s", text[strings.LastIndexByte(text, '\n')+1:])
	}
	step("kill", 2*workers, func() {
		logs()
		l.do("kill", "n3")
		logs()
		eventually(t, "the replica has moved", func() bool { return left("n3") })
		logs()
	})
	l.do("start", "n3")
	l.do("wait-ready", "60")
	// Nobody closes the connections of what is cut off.
	sleepy := deployment("sleepy", "sleep 3600")
	sleepy["constraints"] = []string{"node.hostname == n2"}
	g.call("POST", "/system/functions", sleepy, 202)
	g.ready("sleepy", 1)
	ended := make(chan string)
	go func() {
		status, answer, err := g.try("POST", "/function/sleepy", "")
		ended <- fmt.Sprint(status, answer, err)
	}()
	inFlight := `gateway_function_invocation_inflight{function_name="sleepy.openfaas-fn"} 1`
	eventually(t, "the long request is in flight", func() bool { return strings.Contains(g.call("GET", "/metrics", "", 200), inFlight) })
	step("partition and heal", 2*workers, func() {
		l.do("partition", "n2")
		cut := time.Now()
		select {
		case how := <-ended:
			t.Logf("%s after the cut the long request ends with %s", time.Since(cut).Round(time.Second), how)
			if !strings.Contains(how, "replica was lost") {
				t.Error("it should be told that its replica was lost")
			}
		case <-time.After(2 * faastest.Patience):
			t.Error("a request in a replica that is cut off does not end")
		}
		g.call("DELETE", "/system/functions", map[string]string{"functionName": "sleepy"}, 202)
		eventually(t, "the node is down", func() bool { return state("n2") == "down" })
		eventually(t, "the replicas have moved", func() bool { return left("n2") })
		l.do("heal", "n2")
		eventually(t, "the node is back", func() bool { return state("n2") == "ready" })
	})
	step("drain", 0, func() {
		node := "n3"
		if left(node) {
			node = "n2"
		}
		g.docker("node", "update", "--availability", "drain", node)
		eventually(t, "the node is empty", func() bool { return left(node) })
		eventually(t, "those that were there have ended", func() bool {
			containers, err := dockerCLI("--host", "unix://"+l.socket(node), "ps", "--quiet")
			return err == nil && containers == ""
		})
	})
}

// With one of three managers gone, whichever leads, functions go on and can be changed again.
func TestLabManagers(t *testing.T) {
	if os.Getenv("FAAS_TEST_LAB") == "" {
		t.Skip("takes half a minute more: set FAAS_TEST_LAB=1")
	}
	l := beginLab(t, "3")
	on := []string{"--host", "unix://" + l.socket("n1")}
	cli(t, append(on, "network", "create", "--driver", "overlay", "--attachable", "--subnet", "10.77.0.0/16", "functions")...)
	leader := l.do("leader")
	node := "n2"
	if leader == "n2" {
		node = "n3"
	}
	g := l.gateway(node)
	spread := deployment("echo", "cat")
	// On the gateway's node, so that only the control plane is lost.
	labelled(spread, "com.openfaas.scale.min", "2")
	spread["constraints"] = []string{"node.hostname == " + node}
	g.call("POST", "/system/functions", spread, 202)
	g.ready("echo", 2)
	stop := g.load("/function/echo", 4)
	l.do("kill", leader)
	eventually(t, "the function can be scaled again", func() bool {
		status, answer, err := g.try("POST", "/system/scale-function/echo", `{"replicas":3}`)
		if status != 202 && status != 503 {
			t.Errorf("scaling: %d %s %v", status, answer, err)
		}
		return status == 202
	})
	g.ready("echo", 3)
	if stop() == 0 {
		t.Error("no request was sent")
	}
}
