package swarm

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"
	"golang.org/x/sys/unix"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/internal/faastest"
	"github.com/caddy-faas/faas/internal/bench"
)

var kib = bytes.Repeat([]byte("function"), 128)

// A site is containers as the stack runs them, on the functions' network, from where the benchmark asks them.
type site struct {
	b       *testing.B
	docker  *docker
	gateway endpoint
	client  *http.Client
}

type endpoint struct {
	pid  int
	addr string // on the functions' network
}

func beginSite(b *testing.B) *site {
	needDocker(b)
	if os.Geteuid() != 0 {
		b.Skip("needs root to ask from the functions' network")
	}
	b.Cleanup(tidy)
	client, err := newDocker("")
	must(b, err)
	b.Cleanup(func() { client.Close() })
	s := &site{b: b, docker: client}
	socket, err := os.Stat("/var/run/docker.sock")
	must(b, err)
	s.gateway = s.caddy(s.image("gateway", "../cmd/caddy"), strings.NewReplacer("NETWORK", run, "OPTIONS", "").Replace(gatewayFile),
		"--group-add", fmt.Sprint(socket.Sys().(*syscall.Stat_t).Gid), "--volume", "/var/run/docker.sock:/var/run/docker.sock")
	s.client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(_ context.Context, network, addr string) (net.Conn, error) {
		return s.gateway.dial(network, addr)
	}}}
	bench.Dialer = s.gateway.dial // from the functions' network
	b.Cleanup(func() { bench.Dialer = net.Dial })
	return s
}

// image builds what is a gateway's image in the stack, of some program in Caddy's place.
func (s *site) image(name, program string) string {
	s.b.Helper()
	dir := s.b.TempDir()
	must(s.b, os.MkdirAll(filepath.Join(dir, "empty"), 0o755))
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, runtime.GOARCH, "caddy"), program)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		s.b.Fatalf("building %s: %v: %s", program, err, out)
	}
	tag := run + "-" + name
	docker := exec.Command("docker", "build", "--quiet", "--build-arg", "TARGETARCH="+runtime.GOARCH, "--tag", tag, "--file", "../../deploy/images/gateway.Dockerfile", dir)
	docker.Env = append(os.Environ(), "DOCKER_BUILDKIT=0")
	if out, err := docker.CombinedOutput(); err != nil {
		s.b.Fatalf("building an image: %v: %s", err, out)
	}
	s.b.Cleanup(func() { removeUnused("image", tag) })
	return tag
}

// caddy runs a Caddy in a container, with a Caddyfile of its own.
func (s *site) caddy(image, caddyfile string, args ...string) (c endpoint) {
	s.b.Helper()
	file := filepath.Join(s.b.TempDir(), "Caddyfile")
	must(s.b, os.WriteFile(file, []byte(caddyfile), 0o644))
	id := cli(s.b, append(append([]string{"run", "--detach", "--network", run, "--read-only", "--cap-drop", "ALL", "--tmpfs", "/tmp",
		"--volume", file + ":/etc/caddy/Caddyfile:ro"}, args...), image)...)
	s.b.Cleanup(func() {
		if s.b.Failed() {
			log, _ := dockerCLI("logs", "--tail", "30", id)
			s.b.Log(log)
		}
		dockerCLI("rm", "--force", "--volumes", id)
	})
	pid, addr, _ := strings.Cut(cli(s.b, "inspect", "--format", "{{.State.Pid}} {{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", id), " ")
	var err error
	c.pid, err = strconv.Atoi(pid)
	must(s.b, err)
	c.addr = net.JoinHostPort(addr, "8080")
	eventually(s.b, image+" listens", func() bool {
		conn, err := c.dial("tcp", c.addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return c
}

// dial opens a connection from a container's network namespace.
func (c endpoint) dial(network, addr string) (conn net.Conn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		var ns *os.File
		if ns, err = os.Open(fmt.Sprintf("/proc/%d/ns/net", c.pid)); err != nil {
			return
		}
		defer ns.Close()
		if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err == nil {
			conn, err = net.DialTimeout(network, addr, time.Second)
		}
	}()
	<-done
	return conn, err
}

// serve makes a service that is a function of the gateway, with no replica.
func (s *site) serve(name, image string, args ...string) {
	s.b.Helper()
	cli(s.b, append(append([]string{"service", "create", "--detach", "--name", name, "--network", run, "--endpoint-mode", "dnsrr", "--no-resolve-image",
		"--replicas", "0", "--label", labelFunction + "=" + name, "--label", "faas.scale.auto=false"}, args...), image)...)
	s.b.Cleanup(func() { dockerCLI("service", "rm", name) }) // before its image
}

// find is the service of a name.
func (s *site) find(name string) swarm.Service {
	s.b.Helper()
	all, err := s.docker.services(background)
	must(s.b, err)
	for _, service := range all {
		if service.Spec.Name == name {
			return service
		}
	}
	s.b.Fatalf("no service %s", name)
	panic("unreachable")
}

// scale sets a service's replicas by the engine's API.
func (s *site) scale(service swarm.Service, n uint64) {
	s.b.Helper()
	service.Spec.Mode.Replicated = &swarm.ReplicatedService{Replicas: &n}
	must(s.b, s.docker.updateService(background, service, service.Spec, ""))
}

// addr is where a service's replica listens, by the engine's API.
func (s *site) addr(service swarm.Service) string {
	s.b.Helper()
	tasks, err := s.docker.tasks(background, service.ID)
	must(s.b, err)
	for _, t := range tasks {
		if t.DesiredState == swarm.TaskStateRunning {
			for _, a := range t.NetworksAttachments {
				if a.Network.Spec.Name == run && len(a.Addresses) > 0 {
					ip, _, _ := strings.Cut(a.Addresses[0], "/")
					return ip + ":8080"
				}
			}
		}
	}
	s.b.Fatalf("%s has no replica", service.Spec.Name)
	panic("unreachable")
}

// status is what the gateway says of a function.
func (s *site) status(name string) (st status) {
	s.b.Helper()
	resp, err := s.client.Get("http://" + s.gateway.addr + "/system/function/" + name)
	must(s.b, err)
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		must(s.b, json.NewDecoder(resp.Body).Decode(&st))
	}
	return st
}

// BenchmarkCompareColdStart compares the first request to a function without a
// replica, through the gateway, with scaling the same service by the engine's
// API and asking its replica as soon as the engine tells that its container has
// started and the replica accepts a connection.
func BenchmarkCompareColdStart(b *testing.B) {
	s := beginSite(b)
	name := run + "-cold"
	s.serve(name, image, "--env", "healthcheck_interval=0s")
	eventually(b, "the gateway knows the function", func() bool { return s.status(name).Image != "" })
	service := s.find(name)
	through, straight := bench.Post("function.test", "/function/"+name, kib), bench.Post("function.test", "/", kib)
	answered := func(c *bench.Conn, request []byte) {
		if body, err := c.Do(request); err != nil || !bytes.Equal(body, kib) {
			b.Fatalf("%v, %.300q", err, body)
		}
	}
	var gateway, hand []time.Duration
	backToZero := func(took *[]time.Duration, begin time.Time) {
		*took = append(*took, time.Since(begin))
		s.scale(s.find(name), 0)
		eventually(b, "no replica is left", func() bool {
			st := s.status(name)
			return st.Replicas == 0 && st.AvailableReplicas == 0 && cli(b, "ps", "--all", "--quiet", "--filter", "label=com.docker.swarm.service.name="+name) == ""
		})
		service = s.find(name)
	}
	rounds := 11
	if testing.Short() {
		rounds = 2
	}
	bench.Alternate(rounds, func() {
		conn := bench.Dial(b, "tcp", s.gateway.addr)
		begin := time.Now()
		answered(conn, through)
		backToZero(&gateway, begin)
	}, func() {
		ctx, cancel := context.WithCancel(background)
		defer cancel()
		started, _ := s.docker.client.Events(ctx, events.ListOptions{Filters: filters.NewArgs(
			filters.Arg("type", "container"), filters.Arg("event", "start"), filters.Arg("label", "com.docker.swarm.service.name="+name))})
		begin := time.Now()
		s.scale(service, 1)
		<-started
		addr := s.addr(service)
		for {
			probe, err := s.gateway.dial("tcp", addr)
			if err == nil {
				probe.Close()
				break
			}
			if time.Since(begin) > faastest.Patience {
				b.Fatal(err)
			}
		}
		answered(bench.Dial(b, "tcp", addr), straight)
		backToZero(&hand, begin)
	})
	b.ReportMetric(0, "ns/op")
	ms := func(v []time.Duration, part float64) float64 { return bench.Quantile(v, part).Seconds() * 1000 }
	for side, took := range map[string][]time.Duration{"faas": gateway, "hand": hand} {
		b.ReportMetric(ms(took, 0.5), side+"-p50-ms")
		b.ReportMetric(ms(took, 0.9), side+"-p90-ms")
	}
	more := ms(gateway, 0.5) - ms(hand, 0.5)
	if b.ReportMetric(more, "more-ms"); more > 100 && !testing.Short() {
		b.Errorf("a cold start takes %.0f ms more than the engine's, want 100 at most", more)
	}
}

// BenchmarkCompareRoute compares a request to a function through the gateway's
// container with one through a container of Caddy without this project's
// modules, to the same replica and with the same transport.
func BenchmarkCompareRoute(b *testing.B) {
	s := beginSite(b)
	name := run + "-route"
	s.serve(name, s.image("answer", "./testdata/answer"))
	s.scale(s.find(name), 1)
	eventually(b, "the function has a replica", func() bool { return s.status(name).AvailableReplicas == 1 })
	plain := s.caddy(s.image("plain", "github.com/caddyserver/caddy/v2/cmd/caddy"), fmt.Sprintf(`{
	admin off
}
:8080 {
	reverse_proxy %s {
		flush_interval -1
		transport http {
			dial_timeout 1s
			keepalive 30s
			keepalive_idle_conns_per_host 1024
		}
	}
}
`, s.addr(s.find(name))))
	length := 500 * time.Millisecond
	if testing.Short() {
		length /= 10
	}
	for _, conns := range []int{1, 16} {
		b.Run(fmt.Sprint("connections=", conns), func(b *testing.B) {
			side := func(name string, e endpoint, path string) *bench.Side {
				side := &bench.Side{Name: name, PID: e.pid, Load: bench.NewLoad(b, "tcp", e.addr, conns, kib, bench.Post("function.test", path, kib))}
				side.Load.Run(b, length)
				return side
			}
			gateway, bare := side("faas", s.gateway, "/function/"+name), side("bare", plain, "/")
			bench.Alternate(20, func() { gateway.Round(b, length) }, func() { bare.Round(b, length) })
			bench.Report(b, gateway, bare)
			bench.ReportRatio(b, gateway, bare)
			for _, side := range []*bench.Side{gateway, bare} {
				b.ReportMetric(float64(side.P50().Microseconds()), side.Name+"-p50-µs")
			}
		})
	}
}

// BenchmarkRest is what the gateway's container uses of the CPU while a thousand
// functions are at rest, over three full reads and what comes between them.
func BenchmarkRest(b *testing.B) {
	needDocker(b)
	b.Cleanup(tidy)
	client, err := newDocker("")
	must(b, err)
	b.Cleanup(func() { client.Close() })
	const functions = 1000
	o, err := (&Provider{Network: run}).options()
	must(b, err)
	for i := range functions {
		fn := faas.Function{ID: faas.ID{Name: fmt.Sprintf("%s-%d", run, i), Namespace: faas.DefaultNamespace}, Image: image, Process: "cat"}
		spec, err := o.spec(fn, nil)
		must(b, err)
		none := uint64(0)
		spec.Mode.Replicated.Replicas = &none
		_, err = client.createService(background, spec, "")
		must(b, err)
	}
	s := beginSite(b)
	eventually(b, "the gateway knows all functions", func() bool {
		resp, err := s.client.Get("http://" + s.gateway.addr + "/system/functions")
		must(b, err)
		defer resp.Body.Close()
		var all []status
		must(b, json.NewDecoder(resp.Body).Decode(&all))
		return len(all) == functions
	})
	text, err := os.ReadFile("/var/run/docker.pid")
	must(b, err)
	engine, err := strconv.Atoi(strings.TrimSpace(string(text)))
	must(b, err)
	length := 3 * resyncAfter(functions)
	before, engineBefore := bench.CPU(b, s.gateway.pid), bench.CPU(b, engine)
	<-time.After(length)
	perMinute := func(now, before time.Duration) float64 { return (now - before).Seconds() * 1000 / length.Minutes() }
	used := perMinute(bench.CPU(b, s.gateway.pid), before)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(perMinute(bench.CPU(b, engine), engineBefore), "engine-ms/min")
	b.ReportMetric(bench.Memory(b, s.gateway.pid, "VmRSS")/(1<<20), "faas-MiB")
	if b.ReportMetric(used, "faas-ms/min"); used > 100 {
		b.Errorf("at rest the gateway uses %.0f ms of the CPU in a minute, want 100 at most", used)
	}
}
