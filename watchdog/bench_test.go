package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-faas/faas/internal/bench"
)

func init() { helpers["plain"] = plain }

var kib = bytes.Repeat([]byte("function"), 128)

// plain is a function for mode http, and nothing but that: it reads the request and answers with a KiB.
func plain() {
	ln, err := net.Listen("unix", os.Getenv("SOCKET"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Fprintf(os.Stderr, "pid %d\n", os.Getpid())
	http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Write(kib)
	}))
}

func benchDog(b *testing.B, env ...string) *dog {
	b.Helper()
	if runtime.GOOS != "linux" {
		b.Skip("reads /proc")
	}
	socket := filepath.Join(b.TempDir(), "s")
	return launchDog(b, command(b, plainBinary, env, "-socket", socket), socket)
}

// scaled is n, or a tenth of it with -short.
func scaled(n int) int {
	if testing.Short() {
		return n / 10
	}
	return n
}

// spawn is what no watchdog can do without: a process with pipes for a request and its answer, blocking system calls and nothing else.
func spawn(b *testing.B, path string, input []byte) []byte {
	var in, out [2]int
	if err := pipeOnExec(&in); err != nil {
		b.Fatal(err)
	}
	if err := pipeOnExec(&out); err != nil {
		b.Fatal(err)
	}
	if len(input) > chunk {
		f := os.NewFile(uintptr(in[1]), "pipe")
		enlarge(f)
		defer f.Close()
		in[1] = int(f.Fd())
	}
	if n, err := syscall.Write(in[1], input); err != nil || n < len(input) {
		b.Fatalf("wrote %d bytes to a pipe: %v", n, err)
	}
	pid, err := syscall.ForkExec(path, []string{path}, &syscall.ProcAttr{Files: []uintptr{uintptr(in[0]), uintptr(out[1]), 2}})
	if err != nil {
		b.Fatal(err)
	}
	for _, fd := range []int{in[0], in[1], out[1]} {
		syscall.Close(fd)
	}
	answer := make([]byte, 0, len(kib)+512)
	for {
		n, err := syscall.Read(out[0], answer[len(answer):cap(answer)])
		if n > 0 {
			answer = answer[:len(answer)+n]
		} else if err != syscall.EINTR {
			break
		}
	}
	syscall.Close(out[0])
	wait(pid, nil, 0)
	return answer
}

// BenchmarkCompareFork compares a request in mode fork with a bare spawn of the same program, one after the other: p50 of each.
func BenchmarkCompareFork(b *testing.B) {
	for _, bc := range []struct {
		name, program string
		input         []byte
	}{
		{"cat_1KiB", "cat", kib},
		{"sha256sum_1MiB", "sha256sum", make([]byte, 1<<20)},
	} {
		b.Run(bc.name, func(b *testing.B) {
			path, err := exec.LookPath(bc.program)
			if err != nil {
				b.Fatal(err)
			}
			d := benchDog(b, "fprocess="+bc.program)
			conn := bench.Dial(b, "unix", d.socket)
			request := bench.Post("function.test", "/", bc.input)
			want := spawn(b, path, bc.input)
			var asked, spawned []time.Duration
			check := func(took *[]time.Duration, do func() ([]byte, error)) func() {
				return func() {
					for range 10 {
						begin := time.Now()
						answer, err := do()
						*took = append(*took, time.Since(begin))
						if err != nil || !bytes.Equal(answer, want) {
							b.Fatalf("%v, %.300q", err, answer)
						}
					}
				}
			}
			bench.Alternate(scaled(60),
				check(&asked, func() ([]byte, error) { return conn.Do(request) }),
				check(&spawned, func() ([]byte, error) { return spawn(b, path, bc.input), nil }))
			p50, least := bench.Median(asked), bench.Median(spawned)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(p50.Seconds()*1000, "faas-p50-ms")
			b.ReportMetric(least.Seconds()*1000, "spawn-p50-ms")
			b.ReportMetric(p50.Seconds()/least.Seconds(), "faas/spawn")
		})
	}
}

// large is the size of the body that is streamed.
const large = 100 << 20

// zeroSink takes zeros and counts them.
type zeroSink int

func (z *zeroSink) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), len(zeroBlock))
		if !bytes.Equal(rest[:n], zeroBlock[:n]) {
			return 0, fmt.Errorf("a wrong byte after %d", *z)
		}
		rest = rest[n:]
	}
	*z += zeroSink(len(p))
	return len(p), nil
}

var zeroBlock = make([]byte, chunk)

// BenchmarkCompareStream compares 100 MiB through a request to cat with the same through cat's pipes alone.
func BenchmarkCompareStream(b *testing.B) {
	d := benchDog(b, "fprocess=cat")
	var asked, piped []float64
	rate := func(to *[]float64, do func(sink io.Writer) error) func() {
		return func() {
			begin := time.Now()
			var sink zeroSink
			if err := do(&sink); err != nil || sink != large {
				b.Fatalf("%d bytes, %v", sink, err)
			}
			*to = append(*to, large/1e6/time.Since(begin).Seconds())
		}
	}
	bench.Alternate(scaled(10), rate(&asked, func(sink io.Writer) error {
		res, err := d.client.Post("http://function.test/", "application/octet-stream", zeros(large))
		if err != nil {
			return err
		}
		defer res.Body.Close()
		_, err = io.CopyBuffer(sink, res.Body, make([]byte, chunk))
		return err
	}), rate(&piped, func(sink io.Writer) error {
		c := exec.Command("cat")
		in, err := c.StdinPipe()
		if err != nil {
			return err
		}
		out, err := c.StdoutPipe()
		if err != nil {
			return err
		}
		enlarge(in.(*os.File))
		if err := c.Start(); err != nil {
			return err
		}
		go func() {
			for range large / chunk {
				in.Write(zeroBlock)
			}
			in.Close()
		}()
		if _, err := io.CopyBuffer(sink, struct{ io.Reader }{out}, make([]byte, chunk)); err != nil {
			return err
		}
		return c.Wait()
	}))
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(bench.Median(asked), "faas-MB/s")
	b.ReportMetric(bench.Median(piped), "pipes-MB/s")
	b.ReportMetric(bench.Ratio(asked, piped), "faas/pipes")
	b.ReportMetric(bench.Memory(b, d.cmd.Process.Pid, "VmHWM")/(1<<20), "faas-peak-MiB")
}

// BenchmarkCompareHTTP compares a function in mode http with the same process asked directly.
func BenchmarkCompareHTTP(b *testing.B) {
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	socket := filepath.Join(b.TempDir(), "f")
	d := benchDog(b, "mode=http", "fprocess="+self, "FWATCHDOG_HELPER=plain", "SOCKET="+socket, "upstream_url=unix:"+socket)
	d.eventually("ready", func() bool { return d.get("/_/ready").status == http.StatusOK })
	function := d.printed("pid ")
	for _, conns := range []int{1, 16, 128} {
		b.Run(fmt.Sprint("connections=", conns), func(b *testing.B) {
			request := bench.Post("function.test", "/", kib)
			var through, alone []float64
			var spent [2]time.Duration
			var requests [2]int
			measure := func(i int, load *bench.Load, pid int, rates *[]float64) func() {
				load.Run(b, 50*time.Millisecond)
				return func() {
					before := bench.CPU(b, pid)
					r := load.Run(b, time.Duration(scaled(500))*time.Millisecond)
					spent[i] += bench.CPU(b, pid) - before
					requests[i] += r.Requests
					*rates = append(*rates, r.PerSecond())
				}
			}
			bench.Alternate(8,
				measure(0, bench.NewLoad(b, "unix", d.socket, conns, kib, request), d.cmd.Process.Pid, &through),
				measure(1, bench.NewLoad(b, "unix", socket, conns, kib, request), function, &alone))
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(bench.Median(through), "faas-req/s")
			b.ReportMetric(bench.Median(alone), "alone-req/s")
			b.ReportMetric(bench.Ratio(through, alone), "faas/alone")
			b.ReportMetric(float64(spent[0].Microseconds())/float64(requests[0]), "faas-cpu-µs")
			b.ReportMetric(float64(spent[1].Microseconds())/float64(requests[1]), "alone-cpu-µs")
		})
	}
}
