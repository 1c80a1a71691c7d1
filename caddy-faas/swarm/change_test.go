package swarm

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// A function's whole life through the gateway, most of it under load: no request is lost.
func TestLosslessChange(t *testing.T) {
	g := beginGateway(t)
	name := run + "-echo"
	path := "/function/" + name
	g.call("POST", "/system/functions", deployment(name, "cat"), 202)
	if got := g.call("POST", path, "first", 200); got != "first" {
		t.Errorf("answer is %q", got)
	}
	plain := cli(t, "run", "--rm", "--network", run, image, "wget", "-q", "-O", "-", "--post-data", "plain", "http://"+name+":8080/")
	if plain != "plain" {
		t.Errorf("a plain container was answered %q", plain)
	}

	stop := g.load(path, 4)
	defer stop()
	next := deployment(name, "sh -c 'printf v2:; cat'")
	g.call("PUT", "/system/functions", next, 202)
	eventually(t, "the new version serves alone", func() bool {
		return strings.HasPrefix(g.call("POST", path, "x", 200), "v2:") && g.status(name).Reason == "" && g.settled(name, 1)
	})
	g.call("POST", "/system/scale-function/"+name, map[string]int{"replicas": 3}, 202)
	g.ready(name, 3)
	g.call("POST", "/system/scale-function/"+name, map[string]int{"replicas": 1}, 202)
	g.ready(name, 1)
	g.reload()
	eventually(t, "the others have ended", func() bool { return g.settled(name, 1) })
	if stop() == 0 {
		t.Error("no request was sent")
	}

	g.call("POST", "/system/scale-function/"+name, map[string]int{"replicas": 0}, 202)
	g.ready(name, 0)
	if got := g.call("POST", path, "awake", 200); got != "v2:awake" {
		t.Errorf("from zero: %q", got)
	}
	g.call("DELETE", "/system/functions", map[string]string{"functionName": name}, 202)
	g.call("POST", path, "", 404)
}

// settled tells whether so many containers of a function run.
func (g *gateway) settled(name string, n int) bool {
	out := cli(g.t, "ps", "--quiet", "--filter", "label=com.docker.swarm.service.name="+name)
	return len(strings.Fields(out)) == n
}

// Requests of six seconds are under way in six replicas when three of them must go.
func TestLongRequestsSurviveScaleDown(t *testing.T) {
	g := beginGateway(t)
	name := run + "-long"
	long := deployment(name, "sh -c 'sleep 6; cat'")
	labelled(long, faas.LabelMin, "6")
	g.call("POST", "/system/functions", long, 202)
	g.ready(name, 6)
	var all sync.WaitGroup
	for n := range 24 {
		all.Go(func() {
			body := fmt.Sprint("request ", n)
			if status, answer, err := g.try("POST", "/function/"+name, body); err != nil || status != 200 || answer != body {
				t.Errorf("%s: %d %q %v", body, status, answer, err)
			}
		})
	}
	begun := fmt.Sprintf(`gateway_function_invocation_started{function_name="%s.openfaas-fn"} 24`, name)
	eventually(t, "all have begun", func() bool { return strings.Contains(g.call("GET", "/metrics", "", 200), begun) })
	g.call("POST", "/system/scale-function/"+name, map[string]int{"replicas": 3}, 202)
	all.Wait()
	g.ready(name, 3)
}

// Two gateways have the same functions, whoever changes them; nothing is lost with one of them.
func TestTwoGateways(t *testing.T) {
	a := beginGateway(t)
	b := beginGateway(t)
	name := run + "-two"
	a.call("POST", "/system/functions", deployment(name, "cat"), 202)
	b.ready(name, 1)
	var all sync.WaitGroup
	for n := range 20 {
		for _, g := range []*gateway{a, b} {
			all.Go(func() {
				if status, answer, err := g.try("POST", "/system/scale-function/"+name, fmt.Sprintf(`{"replicas":%d}`, 1+n%2)); err != nil || status != 202 {
					t.Errorf("scaling at the same time: %d %s %v", status, answer, err)
				}
			})
		}
	}
	all.Wait()
	a.call("POST", "/system/scale-function/"+name, map[string]int{"replicas": 2}, 202)
	b.ready(name, 2)
	stop := b.load("/function/"+name, 4)
	a.docker("kill", a.container)
	b.call("POST", "/system/scale-function/"+name, map[string]int{"replicas": 1}, 202)
	b.ready(name, 1)
	a.docker("start", a.container)
	a.url = "http://" + strings.Fields(a.docker("port", a.container, "8080/tcp"))[0]
	a.serves()
	a.ready(name, 1)
	if got := a.call("POST", "/function/"+name, "again", 200); got != "again" || stop() == 0 {
		t.Errorf("after its death the gateway answers %q", got)
	}
}

// Two gateways are reloaded and restarted, one after the other. A client that
// goes to the other one where nobody listens, as any load balancer does, loses nothing.
func TestLosslessRestart(t *testing.T) {
	gateways := []*gateway{beginGateway(t), beginGateway(t)}
	var addrs [2]atomic.Value
	place := func(i int) {
		t.Helper()
		// Its own address: Docker's proxy at the published one would accept in its stead.
		var on map[string]struct{ IPv4Address netip.Prefix }
		must(t, json.Unmarshal([]byte(cli(t, "network", "inspect", "docker_gwbridge", "--format", "{{json .Containers}}")), &on))
		g := gateways[i]
		addr := netip.AddrPortFrom(on[g.container].IPv4Address.Addr(), 8080).String()
		g.url = "http://" + addr
		g.serves()
		addrs[i].Store(addr)
	}
	place(0)
	place(1)
	var turn atomic.Int64
	both := &gateway{t: t, url: "http://gateways", client: &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, // a connection that is closed while it is idle may take a POST with it
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			n := int(turn.Add(1))
			conn, err := new(net.Dialer).DialContext(ctx, network, addrs[n%2].Load().(string))
			if err != nil {
				conn, err = new(net.Dialer).DialContext(ctx, network, addrs[(n+1)%2].Load().(string))
			}
			return conn, err
		},
	}}}
	name := run + "-restart"
	slow := deployment(name, "sh -c 'sleep 0.1; cat'")
	labelled(slow, faas.LabelMin, "2")
	gateways[0].call("POST", "/system/functions", slow, 202)
	for i, g := range gateways {
		g.ready(name, 2)
		t.Log("gateway", i, g.url)
	}
	stop := both.load("/function/"+name, 6)
	defer stop()
	for i, g := range gateways {
		g.reload()
		g.docker("restart", "--time", "40", g.container)
		place(i)
		g.ready(name, 2)
	}
	if stop() == 0 {
		t.Error("no request was sent")
	}
}
