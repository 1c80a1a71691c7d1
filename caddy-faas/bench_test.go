package caddyfaas

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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

// fixed is a provider of functions f0, f1 ..., whose replicas are at given addresses, in
// turns, parted by commas: at one and the same, the gateway alone is measured.
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
	addrs := strings.Split(f.Addr, ",")
	return &faastest.Memory{Addr: func(_ faas.ID, slot int) string { return addrs[(slot-1)%len(addrs)] }}
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
			var all []*bench.Side
			var turns []func()
			for i, name := range []string{"faas", "shipped", "bare", "default"} {
				host := "localhost:" + ports[i]
				c := &bench.Side{Name: name, PID: g.cmd.Process.Pid, Load: bench.NewLoad(b, "tcp", host, conns, kib, bench.Post(host, "/function/f1", kib))}
				c.Load.Run(b, round())
				all, turns = append(all, c), append(turns, func() { c.Round(b, round()) })
			}
			bench.Alternate(rounds, turns...)
			bench.Report(b, all...)
			faas, shipped, bare, byDefault := all[0], all[1], all[2], all[3]
			bench.ReportRatio(b, faas, bare)
			bench.ReportRatio(b, faas, byDefault)
			bench.ReportRatio(b, shipped, bare)
		})
	}
}

// BenchmarkCompareRegistered compares a gateway that has many functions with one that has few; the same ten are called.
func BenchmarkCompareRegistered(b *testing.B) {
	onLinux(b)
	upstream := bench.Serve(b, kib)
	start := func(functions int) (*bench.Side, float64) {
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
		return &bench.Side{Name: fmt.Sprint(functions), PID: g.cmd.Process.Pid, Load: load}, memory
	}
	few, little := start(10)
	many, more := start(10_000)
	bench.Alternate(2*rounds, func() { few.Round(b, round()) }, func() { many.Round(b, round()) })
	bench.Report(b, many, few)
	bench.ReportRatio(b, many, few)
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
