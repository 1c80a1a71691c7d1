// Package bench holds what the benchmarks share: a load generator and an
// upstream that cost little themselves, rounds in alternation, and what a
// process has used. Standard library only; Linux only where it reads /proc.
package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A Conn is a client's connection that is kept open. It knows as much HTTP/1.1
// as the answers need that are compared here: each has a Content-Length.
// One that the server ends, by Connection: close, is dialled again.
type Conn struct {
	net.Conn
	Redials       int
	network, addr string
	r             *bufio.Reader
	body          []byte
	over          bool // the last answer said so
}

// Dial opens a connection, which ends with the benchmark.
func Dial(b testing.TB, network, addr string) *Conn {
	b.Helper()
	c := &Conn{network: network, addr: addr}
	if err := c.dial(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return c
}

// Dialer opens connections; a benchmark may be elsewhere than what it asks.
var Dialer = net.Dial

func (c *Conn) dial() (err error) {
	if c.Conn, err = Dialer(c.network, c.addr); err == nil {
		c.r, c.over = bufio.NewReader(c.Conn), false
	}
	return err
}

// Do sends a request and reads its answer, which must be of status 200.
func (c *Conn) Do(request []byte) (body []byte, err error) {
	if c.over {
		c.Close()
		c.Redials++
		if err := c.dial(); err != nil {
			return nil, err
		}
	}
	if _, err := c.Write(request); err != nil {
		return nil, err
	}
	line, length, over, err := head(c.r)
	if err != nil {
		return nil, err
	}
	c.over = over
	c.body = slices.Grow(c.body[:0], length)[:length]
	if _, err := io.ReadFull(c.r, c.body); err != nil {
		return nil, err
	}
	if !strings.HasPrefix(line, "HTTP/1.1 200 ") {
		return nil, fmt.Errorf("%s: %.300s", line, c.body)
	}
	return c.body, nil
}

// head reads the first line and the headers of a message.
func head(r *bufio.Reader) (first string, length int, over bool, err error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return "", 0, false, err
	}
	first, length = string(bytes.TrimSpace(line)), -1
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return "", 0, false, err
		}
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch value = bytes.TrimSpace(value); {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return "", 0, false, err
			}
		case bytes.EqualFold(name, []byte("Connection")):
			over = bytes.EqualFold(value, []byte("close"))
		}
	}
	if length < 0 {
		return "", 0, false, fmt.Errorf("%s: without a Content-Length", first)
	}
	return first, length, over, nil
}

// Post is a request with a body.
func Post(host, path string, body []byte) []byte {
	return append(fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", path, host, len(body)), body...)
}

// Serve is an upstream that answers as Answer does, until the benchmark ends. It returns its address.
func Serve(b testing.TB, body []byte) string {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ln.Close() })
	go Answer(ln, body)
	return ln.Addr().String()
}

// Answer reads each request to its end and answers with body, until it can't accept connections.
func Answer(ln net.Listener, body []byte) error {
	answer := append(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", len(body)), body...)
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			for r := bufio.NewReader(c); ; {
				_, length, _, err := head(r)
				if err == nil {
					_, err = r.Discard(length)
				}
				if err == nil {
					_, err = c.Write(answer)
				}
				if err != nil {
					return
				}
			}
		}()
	}
}

// A Load is a number of connections, each of which sends a request as soon as it has the answer to the one before.
type Load struct {
	conns    []*Conn
	requests [][]byte
	want     []byte
	sent     int
}

// NewLoad opens the connections. Requests are sent in turn; each must be answered with want.
func NewLoad(b testing.TB, network, addr string, conns int, want []byte, requests ...[]byte) *Load {
	b.Helper()
	l := &Load{requests: requests, want: want}
	for range conns {
		l.conns = append(l.conns, Dial(b, network, addr))
	}
	return l
}

// Redials is how often connections had to be dialled again.
func (l *Load) Redials() int {
	n := 0
	for _, c := range l.conns {
		n += c.Redials
	}
	return n
}

// A Round is what happened under load.
type Round struct {
	Requests int
	Took     time.Duration
	P50      time.Duration // of one request
}

// PerSecond is the number of requests in a second.
func (r Round) PerSecond() float64 { return float64(r.Requests) / r.Took.Seconds() }

// Run sends requests for a while. A failed or wrong answer ends the benchmark.
func (l *Load) Run(b testing.TB, d time.Duration) Round {
	b.Helper()
	begin := time.Now()
	took := make([][]time.Duration, len(l.conns))
	errs := make([]error, len(l.conns))
	var all sync.WaitGroup
	for i, c := range l.conns {
		all.Go(func() {
			for n, now := i+l.sent, time.Now(); now.Sub(begin) < d; n++ {
				body, err := c.Do(l.requests[n%len(l.requests)])
				if err == nil && !bytes.Equal(body, l.want) {
					err = fmt.Errorf("wrong answer: %.300q", body)
				}
				if err != nil {
					errs[i] = err
					return
				}
				end := time.Now()
				took[i] = append(took[i], end.Sub(now))
				now = end
			}
		})
	}
	all.Wait()
	r := Round{Took: time.Since(begin)}
	for _, err := range errs {
		if err != nil {
			b.Fatal(err)
		}
	}
	every := slices.Concat(took...)
	r.Requests = len(every)
	l.sent += r.Requests
	r.P50 = Median(every)
	return r
}

// Alternate does the things in turn, each of them rounds times. Who is first changes.
func Alternate(rounds int, things ...func()) {
	for r := range rounds {
		for i := range things {
			things[(r+i)%len(things)]()
		}
	}
}

// Median is the middle of what was measured; of an even number, the upper one.
func Median[T time.Duration | float64](v []T) T { return Quantile(v, 0.5) }

// Quantile is what a part of what was measured is below.
func Quantile[T time.Duration | float64](v []T, part float64) T {
	v = slices.Sorted(slices.Values(v))
	if len(v) == 0 {
		return 0
	}
	return v[int(float64(len(v))*part)]
}

// Ratio is the median of the quotients, round by round.
func Ratio(a, b []float64) float64 {
	var q []float64
	for i := range a {
		q = append(q, a[i]/b[i])
	}
	return Median(q)
}

// A Side is one of the things that are compared under load.
type Side struct {
	Name     string
	PID      int // of the process whose CPU time counts
	Load     *Load
	rates    []float64       // requests/s
	waits    []time.Duration // p50 of each round
	cpu      time.Duration
	requests int
}

// Round measures it for a while.
func (s *Side) Round(b testing.TB, d time.Duration) {
	b.Helper()
	before := CPU(b, s.PID)
	r := s.Load.Run(b, d)
	s.cpu += CPU(b, s.PID) - before
	s.rates, s.waits = append(s.rates, r.PerSecond()), append(s.waits, r.P50)
	s.requests += r.Requests
}

// P50 is how long a request took, by the median of the rounds.
func (s *Side) P50() time.Duration { return Median(s.waits) }

// Report gives the figures of each, in requests/s and microseconds of CPU for one.
func Report(b *testing.B, sides ...*Side) {
	b.ReportMetric(0, "ns/op")
	for _, s := range sides {
		b.ReportMetric(Median(s.rates), s.Name+"-req/s")
		b.ReportMetric(float64(s.cpu.Microseconds())/float64(s.requests), s.Name+"-cpu-µs")
	}
}

// ReportRatio tells how many requests one thing answers for each that the other does.
func ReportRatio(b *testing.B, one, other *Side) {
	b.ReportMetric(Ratio(one.rates, other.rates), one.Name+"/"+other.Name)
}

// CPU is what a process has used so far, its threads included, to 10 ms.
func CPU(b testing.TB, pid int) time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	user, err := strconv.Atoi(f[11])
	system, err2 := strconv.Atoi(f[12])
	if err != nil || err2 != nil {
		b.Fatalf("/proc/%d/stat: %s", pid, stat)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

// Memory reads a line of /proc/PID/status, such as VmRSS or VmHWM, in bytes.
func Memory(b testing.TB, pid int, name string) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				b.Fatal(err)
			}
			return float64(kib) * 1024
		}
	}
	b.Fatalf("no %s of process %d", name, pid)
	return 0
}
