package caddyfaas

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-faas/faas/internal/bench"
)

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
