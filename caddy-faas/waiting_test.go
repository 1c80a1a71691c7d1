package caddyfaas

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// The body of a request that waits stays with its client until a replica takes it: no interim answer
// asks for it, and what is sent unasked fills the system's buffers and no more. One that is refused is answered without it.
func TestWaitingBodyIsNotRead(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	g := newGateway(t, map[string]string{"Caddyfile": strings.Replace(managed, "EXTRA", "", 1)})
	fifo := filepath.Join(g.dir, "go")
	if err := syscall.Mkfifo(fifo, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(fifo, 0o666); err != nil {
		t.Fatal(err)
	}
	g.write(t, "stack.yml", fmt.Sprintf(`functions:
  asleep:
    handler: %s
    fprocess: ./%s
    environment:
      mode: http
      %s: %s
    labels:
      com.openfaas.scale.min: "0"
      faas.queue.depth: "2"
      faas.queue.timeout: 5m
`, filepath.Dir(self), filepath.Base(self), asServer, fifo))
	g.start(t)
	release, err := os.OpenFile(fifo, os.O_RDWR, 0) // so that it has a reader and a writer all the time
	if err != nil {
		t.Fatal(err)
	}
	defer release.Close()
	host := strings.TrimPrefix(g.url, "http://")
	send := func(size int, header string) (net.Conn, chan *http.Response) {
		c, err := net.Dial("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		fmt.Fprintf(c, "POST /function/asleep/count HTTP/1.1\r\nHost: %s\r\n%sContent-Length: %d\r\n\r\n", host, header, size)
		answers := make(chan *http.Response, 2)
		go func() {
			defer close(answers)
			r := bufio.NewReader(c)
			for {
				a, err := http.ReadResponse(r, nil)
				if err != nil {
					return
				}
				b, _ := io.ReadAll(a.Body)
				a.Body = io.NopCloser(strings.NewReader(string(b)))
				answers <- a
			}
		}()
		return c, answers
	}
	final := func(answers chan *http.Response, status int, body string) {
		t.Helper()
		a := <-answers
		for a != nil && a.StatusCode == 100 { // the replica asks for the body, too
			a = <-answers
		}
		if a == nil {
			t.Fatalf("no answer, want %d %s", status, body)
		}
		if b, _ := io.ReadAll(a.Body); a.StatusCode != status || !strings.Contains(string(b), body) {
			t.Errorf("answer %s %q, want %d %q", a.Status, b, status, body)
		}
	}
	const small, large = 5, 64 << 20
	polite, politeAnswers := send(small, "Expect: 100-continue\r\n")
	blunt, bluntAnswers := send(large, "")
	var sent atomic.Int64
	go io.Copy(blunt, io.TeeReader(io.LimitReader(zeros{}, large), counter{&sent}))
	eventually(t, "both wait", func() bool { return g.status(t, "asleep").Scaling.Queued == 2 })
	_, refused := send(small, "Expect: 100-continue\r\n")
	if a := <-refused; a == nil || a.StatusCode != 429 || a.Header.Get("X-Faas-Reason") != "queue-full" {
		t.Fatalf("one too many got %+v before its body was sent", a)
	}
	before, still := int64(0), 0
	eventually(t, "no more is sent", func() bool {
		now := sent.Load()
		if still++; now != before {
			before, still = now, 0
		}
		return still >= 20
	})
	if before == 0 || before >= large {
		t.Errorf("%d of %d bytes were sent while the request waits", before, large)
	}
	select {
	case a := <-politeAnswers:
		t.Errorf("an answer while the request waits: %+v", a)
	case a := <-bluntAnswers:
		t.Errorf("an answer while the request waits: %+v", a)
	default:
	}
	if _, err := release.WriteString(strings.Repeat("\n", 100)); err != nil { // a line each time that it is started
		t.Fatal(err)
	}
	if a := <-politeAnswers; a == nil || a.StatusCode != 100 {
		t.Fatalf("a replica takes it, and the answer is %+v", a)
	}
	fmt.Fprint(polite, "12345")
	final(politeAnswers, 200, "5 bytes")
	final(bluntAnswers, 200, fmt.Sprint(large, " bytes"))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type counter struct{ n *atomic.Int64 }

func (c counter) Write(p []byte) (int, error) { c.n.Add(int64(len(p))); return len(p), nil }
