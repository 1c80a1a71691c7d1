package caddyfaas

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/internal/faastest"
	"github.com/caddy-faas/faas/internal/bench"
)

func init() { caddy.RegisterModule(fixed{}) }

// fixed is a provider of functions f0, f1 ..., which all have one replica at
// the same address, so that the gateway alone is measured.
type fixed struct {
	Addr      string `json:"addr,omitempty"`
	Functions int    `json:"functions,omitempty"`
}

func (fixed) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "faas.providers.fixed", New: func() caddy.Module { return new(fixed) }}
}

func (f *fixed) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	var n string
	if !d.AllArgs(&f.Addr, &n) {
		return d.ArgErr()
	}
	_, err := fmt.Sscan(n, &f.Functions)
	return err
}

func (f *fixed) Identity(faas.Settings) string { return f.Addr }

func (f *fixed) Open(faas.Settings, *zap.Logger) faas.Provider {
	return &faastest.Memory{Addr: func(faas.ID, int) string { return f.Addr }}
}

func (f *fixed) Apply(ctx context.Context, p faas.Provider, _ faas.Settings) error {
	for i := range f.Functions {
		fn := faas.Function{ID: faas.ID{Name: fmt.Sprint("f", i), Namespace: faas.DefaultNamespace}, Labels: map[string]string{"n": fmt.Sprint(i)}}
		if err := p.Create(ctx, fn); err != nil && !errors.Is(err, faas.ErrExists) {
			return err
		}
	}
	return nil
}

// round is how long one thing is measured until it is another's turn.
func round() time.Duration {
	if testing.Short() {
		return 100 * time.Millisecond
	}
	return 500 * time.Millisecond
}

const rounds = 10

// kib is the body of requests and answers.
var kib = bytes.Repeat([]byte("function"), 128)

// compare keeps what the rounds of one of the things showed.
type compare struct {
	name     string
	load     *bench.Load
	pid      int
	rate     []float64 // requests/s
	cpu      time.Duration
	requests int
}

func (c *compare) round(b *testing.B) {
	before := bench.CPU(b, c.pid)
	r := c.load.Run(b, round())
	c.cpu += bench.CPU(b, c.pid) - before
	c.rate = append(c.rate, r.PerSecond())
	c.requests += r.Requests
}

// cost is the CPU time of one request in microseconds.
func (c *compare) cost() float64 { return float64(c.cpu.Microseconds()) / float64(c.requests) }

// report gives the figures of each, in requests/s and microseconds of CPU.
func report(b *testing.B, of ...*compare) {
	b.ReportMetric(0, "ns/op")
	for _, c := range of {
		b.ReportMetric(bench.Median(c.rate), c.name+"-req/s")
		b.ReportMetric(c.cost(), c.name+"-cpu-µs")
	}
}

// ratio is how many requests one thing answers for each that the other does.
func ratio(b *testing.B, one, other *compare) {
	b.ReportMetric(bench.Ratio(one.rate, other.rate), one.name+"/"+other.name)
}

func onLinux(b *testing.B) {
	if runtime.GOOS != "linux" {
		b.Skip("reads /proc")
	}
}

// four is a program with four sites before the same upstream: faas, the same
// with what the shipped Caddyfile has around it, reverse_proxy with the transport
// that faas gives it, and reverse_proxy as it is by default.
const four = `{
	admin unix/DATA/admin.sock|0600
	servers :PORT1 {
		listener_wrappers {
			faas_handover
			tls
		}
	}
	servers :PORT2 {
		listener_wrappers {
			faas_handover
			tls
		}
	}
	faas {
		provider fixed UPSTREAM 10
		data DATA
	}
}
http://localhost:PORT1 {
	faas
}
http://localhost:PORT2 {
	log {
		output file DATA/access.log
		format filter {
			request>headers>X-Gitlab-Token delete
		}
	}
	handle /function/* {
		request_body {
			max_size 10MB
		}
		faas
	}
}
http://localhost:PORT3 {
	reverse_proxy UPSTREAM {
		transport http {
			dial_timeout 1s
			keepalive 30s
			keepalive_idle_conns_per_host 1024
		}
	}
}
http://localhost:PORT4 {
	reverse_proxy UPSTREAM
}
`

// BenchmarkCompareRoute compares a function's route with reverse_proxy before the same upstream.
func BenchmarkCompareRoute(b *testing.B) {
	onLinux(b)
	upstream := bench.Serve(b, kib)
	pairs := []string{"UPSTREAM", upstream}
	var ports []string
	for i := range 4 {
		ports = append(ports, freePort(b))
		pairs = append(pairs, fmt.Sprint("PORT", i+1), ports[i])
	}
	g := newGateway(b, map[string]string{"Caddyfile": strings.NewReplacer(pairs...).Replace(four)})
	g.start(b)
	for _, conns := range []int{1, 16, 128, 1000} {
		b.Run(fmt.Sprint("connections=", conns), func(b *testing.B) {
			var all []*compare
			var turns []func()
			for i, name := range []string{"faas", "shipped", "bare", "default"} {
				host := "localhost:" + ports[i]
				c := &compare{name: name, pid: g.cmd.Process.Pid, load: bench.NewLoad(b, "tcp", host, conns, kib, bench.Post(host, "/function/f1", kib))}
				c.load.Run(b, round())
				all, turns = append(all, c), append(turns, func() { c.round(b) })
			}
			bench.Alternate(rounds, turns...)
			report(b, all...)
			faas, shipped, bare, byDefault := all[0], all[1], all[2], all[3]
			ratio(b, faas, bare)
			ratio(b, faas, byDefault)
			ratio(b, shipped, bare)
		})
	}
}

// BenchmarkCompareRegistered compares a gateway that has many functions with one that has few; the same ten are called.
func BenchmarkCompareRegistered(b *testing.B) {
	onLinux(b)
	upstream := bench.Serve(b, kib)
	start := func(functions int) (*compare, float64) {
		g := newGateway(b, map[string]string{"Caddyfile": fmt.Sprintf("{\n\tadmin unix/DATA/admin.sock|0600\n\tfaas {\n\t\tprovider fixed %s %d\n\t\tdata DATA\n\t}\n}\nSITE {\n\tfaas\n}\n", upstream, functions)})
		g.start(b)
		host := strings.TrimPrefix(g.url, "http://")
		var requests [][]byte
		for i := range 10 {
			requests = append(requests, bench.Post(host, fmt.Sprint("/function/f", i), kib))
		}
		// All are registered when the last one answers.
		c := bench.Dial(b, "tcp", host)
		if _, err := c.Do(bench.Post(host, fmt.Sprint("/function/f", functions-1), kib)); err != nil {
			b.Fatal(err)
		}
		load := bench.NewLoad(b, "tcp", host, 16, kib, requests...)
		memory := g.heap(b)
		load.Run(b, round())
		return &compare{name: fmt.Sprint(functions), pid: g.cmd.Process.Pid, load: load}, memory
	}
	few, little := start(10)
	many, more := start(10_000)
	bench.Alternate(2*rounds, func() { few.round(b) }, func() { many.round(b) })
	report(b, many, few)
	ratio(b, many, few)
	b.ReportMetric((more-little)/(10_000-10)/1024, "KiB/function")
}

// heap is what the gateway's live objects take, in bytes, after a collection.
func (g *gateway) heap(b testing.TB) float64 {
	b.Helper()
	text, err := g.ask("GET", "/debug/pprof/heap?gc=1&debug=1", "")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(text) {
		var n float64
		if _, err := fmt.Sscanf(line, "# HeapAlloc = %f", &n); err == nil {
			return n
		}
	}
	b.Fatalf("no HeapAlloc in %.300s", text)
	return 0
}

// ask calls the admin endpoint.
func (g *gateway) ask(method, path, body string, header ...string) (string, error) {
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", g.admin)
	}}}
	r, err := http.NewRequest(method, "http://admin"+path, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	a, err := whole(c.Do(r))
	if err == nil && a.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %d %s", method, path, a.StatusCode, a.body)
	}
	if err != nil {
		return "", err
	}
	return a.body, nil
}

// BenchmarkCompareReload compares load during ten reloads with load during none. Every request must be answered.
func BenchmarkCompareReload(b *testing.B) {
	onLinux(b)
	upstream := bench.Serve(b, kib)
	g := newGateway(b, map[string]string{"Caddyfile": fmt.Sprintf("{\n\tadmin unix/DATA/admin.sock|0600\n\tservers {\n\t\tlistener_wrappers {\n\t\t\tfaas_handover\n\t\t\ttls\n\t\t}\n\t}\n\tfaas {\n\t\tprovider fixed %s 10\n\t\tdata DATA\n\t}\n}\nSITE {\n\tfaas\n}\n", upstream)})
	g.start(b)
	host := strings.TrimPrefix(g.url, "http://")
	text, err := os.ReadFile(filepath.Join(g.dir, "Caddyfile"))
	if err != nil {
		b.Fatal(err)
	}
	load := bench.NewLoad(b, "tcp", host, 16, kib, bench.Post(host, "/function/f1", kib))
	const length = 2 * time.Second // a reload takes longer than 50 ms
	var calm, reloading []float64
	bench.Alternate(4, func() {
		calm = append(calm, load.Run(b, length).PerSecond())
	}, func() {
		done := make(chan error, 1)
		go func() {
			tick := time.NewTicker(length / 11)
			defer tick.Stop()
			var err error
			for i := 0; i < 10 && err == nil; i++ {
				<-tick.C
				_, err = g.ask("POST", "/load", string(text), "Content-Type", "text/caddyfile", "Cache-Control", "must-revalidate")
			}
			done <- err
		}()
		reloading = append(reloading, load.Run(b, length).PerSecond())
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	})
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(bench.Median(calm), "calm-req/s")
	b.ReportMetric(bench.Median(reloading), "reloading-req/s")
	b.ReportMetric(bench.Ratio(reloading, calm), "reloading/calm")
	b.ReportMetric(float64(load.Redials()), "redials")
}

// BenchmarkCompareColdStart compares the first request to a function without a
// replica with starting the same watchdog and program by hand and asking that.
func BenchmarkCompareColdStart(b *testing.B) {
	onLinux(b)
	g := newGateway(b, map[string]string{
		"Caddyfile": "{\n\tadmin unix/DATA/admin.sock|0600\n\tfaas {\n\t\tdata DATA\n\t\tfunctions stack.yml\n\t}\n}\nSITE {\n\thandle /system/* {\n\t\tfaas_api\n\t}\n\thandle {\n\t\tfaas\n\t}\n}\n",
		"stack.yml": "functions:\n  echo:\n    fprocess: cat\n    environment:\n      healthcheck_interval: 0s\n    labels:\n      com.openfaas.scale.min: \"0\"\n",
	})
	g.start(b)
	host := strings.TrimPrefix(g.url, "http://")
	conn := bench.Dial(b, "tcp", host)
	call := func(c *bench.Conn, path string) time.Duration {
		begin := time.Now()
		if body, err := c.Do(bench.Post(host, path, kib)); err != nil || !bytes.Equal(body, kib) {
			b.Fatalf("%v, %.300q", err, body)
		}
		return time.Since(begin)
	}
	var gateway, hand, warm []float64
	ms := func(d time.Duration) float64 { return d.Seconds() * 1000 }
	bench.Alternate(30, func() {
		gateway = append(gateway, ms(call(conn, "/function/echo")))
		warm = append(warm, ms(call(conn, "/function/echo")))
		if a := g.call(b, "POST", "/system/scale-function/echo", `{"replicas":0}`); a.StatusCode != http.StatusAccepted && a.StatusCode != http.StatusOK {
			b.Fatalf("scaling to 0: %d %s", a.StatusCode, a.body)
		}
		eventually(b, "no replica runs", func() bool {
			left, _ := filepath.Glob(filepath.Join(g.data(), "local", "tmp", "*"))
			return len(left) == 0
		})
	}, func() {
		socket := filepath.Join(b.TempDir(), "s")
		c := exec.Command(filepath.Join(binDir, "fwatchdog"), "-socket", socket)
		c.Env = []string{"PATH=" + os.Getenv("PATH"), "fprocess=cat", "healthcheck_interval=0"}
		begin := time.Now()
		if err := c.Start(); err != nil {
			b.Fatal(err)
		}
		for {
			if probe, err := net.Dial("unix", socket); err == nil {
				probe.Close()
				break
			}
			if time.Since(begin) > patience {
				b.Fatal("the watchdog does not listen")
			}
			time.Sleep(200 * time.Microsecond)
		}
		call(bench.Dial(b, "unix", socket), "/")
		hand = append(hand, ms(time.Since(begin)))
		c.Process.Kill()
		c.Wait()
	})
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(bench.Median(gateway), "faas-p50-ms")
	b.ReportMetric(bench.Median(hand), "hand-p50-ms")
	b.ReportMetric(bench.Median(warm), "warm-p50-ms")
	b.ReportMetric(bench.Ratio(gateway, hand), "faas/hand")
	more := bench.Median(gateway) - bench.Median(hand)
	if b.ReportMetric(more, "more-ms"); more > 50 {
		b.Errorf("a cold start takes %.1f ms more than the program's own start, want 50 at most", more)
	}
}

// BenchmarkCompareVerified compares verified requests with the same ones on a route that takes any.
func BenchmarkCompareVerified(b *testing.B) {
	onLinux(b)
	answer := []byte(`{"version":"1.0","response":{}}`)
	pairs, ports := []string{"UPSTREAM", bench.Serve(b, answer), "SKILL", testSkill}, []string(nil)
	for i := range 4 {
		ports = append(ports, freePort(b))
		pairs = append(pairs, fmt.Sprint("PORT", i+1), ports[i])
	}
	g, a := newGateway(b, map[string]string{"Caddyfile": strings.NewReplacer(pairs...).Replace(`{
	admin unix/DATA/admin.sock|0600
	faas {
		provider fixed UPSTREAM 1
		data DATA
	}
}
http://localhost:PORT1 {
	faas_verify github {
		secret s
		replay off
	}
	faas f0
}
http://localhost:PORT2 {
	faas f0
}
http://localhost:PORT3 {
	faas_verify alexa {
		skill_id SKILL
		replay off
	}
	faas {
		alexa {
			intent * f0
		}
	}
}
http://localhost:PORT4 {
	faas {
		alexa {
			intent * f0
			insecure_skip_verify
		}
	}
}
`)}), newAmazon(b)
	a.trust(b, g)
	g.start(b)
	request := func(host, body string, header []string) []byte {
		head := fmt.Sprintf("POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", host, len(body))
		for i := 0; i < len(header); i += 2 {
			head += header[i] + ": " + header[i+1] + "\r\n"
		}
		return []byte(head + "\r\n" + body)
	}
	hook, intent := strings.Repeat("function", 1000), alexaBody("IntentRequest", "Hello")
	github, alexa := []string{"X-Hub-Signature-256", "sha256=" + mac("s", hook), "X-GitHub-Event", "push"}, a.sign(b, intent)
	for _, conns := range []int{1, 16} {
		for scheme, of := range map[string]struct {
			first  int
			body   string
			header []string
		}{"github": {0, hook, github}, "alexa": {2, intent, alexa}} {
			b.Run(fmt.Sprintf("%s/connections=%d", scheme, conns), func(b *testing.B) {
				var all []*compare
				var turns []func()
				for i, name := range []string{"verified", "any"} {
					host := "localhost:" + ports[of.first+i]
					c := &compare{name: name, pid: g.cmd.Process.Pid, load: bench.NewLoad(b, "tcp", host, conns, answer, request(host, of.body, of.header))}
					c.load.Run(b, round())
					all, turns = append(all, c), append(turns, func() { c.round(b) })
				}
				bench.Alternate(rounds, turns...)
				report(b, all...)
				ratio(b, all[0], all[1])
			})
		}
	}
}
