package handover

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// serve starts a server on the address, as Caddy does for each configuration.
func serve(t *testing.T, addr string, h http.HandlerFunc, hooks ...func(net.Conn, http.ConnState)) *http.Server {
	t.Helper()
	var l net.Listener = again(addr)
	if strings.HasSuffix(addr, ":0") {
		l = shared(t, addr)
	}
	return serveOn(t, l, h, hooks...)
}

func serveOn(t *testing.T, l net.Listener, h http.HandlerFunc, hooks ...func(net.Conn, http.ConnState)) *http.Server {
	t.Helper()
	s := &http.Server{Handler: h, Addr: l.Addr().String(), ConnState: func(c net.Conn, state http.ConnState) {
		for _, hook := range append(hooks, ConnState) {
			hook(c, state)
		}
	}}
	w := Listen(l)
	done := make(chan struct{})
	go func() { s.Serve(w); close(done) }()
	t.Cleanup(func() { s.Close(); <-done })
	return s
}

// shared is a socket that others may share its address with, wrapped as by Caddy.
func shared(t *testing.T, addr string) net.Listener {
	t.Helper()
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		return errors.Join(c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }), err)
	}}
	l, err := config.Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return struct{ net.Listener }{l}
}

// again stands for the second socket on an address that Caddy opens at a
// reload, without the instant in which that one gets connections.
type again string

func (a again) Addr() net.Addr {
	addr, _ := net.ResolveTCPAddr("tcp", string(a))
	return addr
}
func (again) Accept() (net.Conn, error) { panic("the second socket is used") }
func (again) Close() error              { return nil }

func named(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		fmt.Fprintf(w, "%s %s", name, b)
	}
}

func shutdown(t *testing.T, s *http.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

func post(c *http.Client, addr, body string) (string, error) {
	resp, err := c.Post("http://"+addr, "text/plain", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// until waits for an answer to a request on one connection to come from the named server.
func until(t *testing.T, c net.Conn, r *bufio.Reader, name string) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; {
		fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi")
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("the connection broke: %v", err)
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 || resp.Close {
			t.Fatalf("answer %s %q, %v", resp.Status, b, err)
		}
		if string(b) == name+" hi" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still answered by %q", b)
		}
	}
}

func TestIdleConnectionGoesOver(t *testing.T) {
	one := serve(t, "127.0.0.1:0", named("one"))
	c, r := dial(t, one.Addr)
	until(t, c, r, "one")
	two := serve(t, one.Addr, named("two"))
	until(t, c, r, "two") // while both serve
	three := serve(t, one.Addr, named("three"))
	shutdown(t, one)
	shutdown(t, two)
	until(t, c, r, "three")
	shutdown(t, three)
	if b, err := r.ReadByte(); err != io.EOF {
		t.Errorf("after the last server: read %q, %v, want the end", b, err)
	}
	if c, err := net.Dial("tcp", one.Addr); err == nil {
		c.Close()
		t.Error("the socket is still open")
	}
}

func TestNewConnectionGoesOver(t *testing.T) {
	one := serve(t, "127.0.0.1:0", named("one"))
	c, r := dial(t, one.Addr)
	serve(t, one.Addr, named("two"))
	until(t, c, r, "two")
}

// What is in the queue of Caddy's second socket is not reset when that is closed.
func TestQueueOfTheSecondSocket(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("Linux only")
	}
	one := serve(t, "127.0.0.1:0", named("one"))
	second := shared(t, one.Addr)
	for range 50 { // the kernel gives them to either
		c, r := dial(t, one.Addr)
		defer until(t, c, r, "two")
	}
	serveOn(t, second, named("two"))
}

// A server that is given up again, as after a failed reload, gives its connections back.
func TestGivenUpServerGivesBack(t *testing.T) {
	one := serve(t, "127.0.0.1:0", named("one"))
	c, r := dial(t, one.Addr)
	two := serve(t, one.Addr, named("two"))
	until(t, c, r, "two")
	shutdown(t, two)
	until(t, c, r, "one")
}

func TestRequestUnderWayStays(t *testing.T) {
	begun, end := make(chan struct{}), make(chan struct{})
	one := serve(t, "127.0.0.1:0", func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		<-end
		named("one")(w, r)
	})
	answer := make(chan string)
	go func() {
		b, err := post(&http.Client{}, one.Addr, "x")
		answer <- fmt.Sprint(b, err)
	}()
	<-begun
	serve(t, one.Addr, named("two"))
	down := make(chan struct{})
	go func() { shutdown(t, one); close(down) }()
	close(end)
	if got := <-answer; got != "one x<nil>" {
		t.Errorf("got %s", got)
	}
	<-down
}

func TestHijackedStays(t *testing.T) {
	one := serve(t, "127.0.0.1:0", func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
		rw.Flush()
		io.Copy(c, rw)
	})
	c, err := net.Dial("tcp", one.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	r := bufio.NewReader(c)
	if _, err := http.ReadResponse(r, nil); err != nil {
		t.Fatal(err)
	}
	serve(t, one.Addr, named("two"))
	shutdown(t, one)
	fmt.Fprint(c, "ping\n")
	if line, err := r.ReadString('\n'); line != "ping\n" {
		t.Errorf("read %q, %v", line, err)
	}
}

// Under load, with kept and with new connections, no request is lost or done
// twice while servers replace each other.
func TestNothingIsLost(t *testing.T) {
	var done atomic.Int64
	handler := func(w http.ResponseWriter, r *http.Request) {
		named("x")(w, r)
		done.Add(1)
	}
	old := serve(t, "127.0.0.1:0", handler)
	addr := old.Addr
	stop := make(chan struct{})
	var load sync.WaitGroup
	var sent atomic.Int64
	for n := range 8 {
		load.Go(func() {
			c := &http.Client{Transport: &http.Transport{DisableKeepAlives: n%2 == 0}}
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				body := fmt.Sprint(n, " ", i)
				if got, err := post(c, addr, body); err != nil || got != "x "+body {
					t.Errorf("request %s: %q, %v", body, got, err)
					return
				}
				sent.Add(1)
			}
		})
	}
	for range 100 {
		before := sent.Load()
		fresh := serve(t, addr, handler)
		shutdown(t, old)
		old = fresh
		for sent.Load() == before && !t.Failed() { // the load goes on
			time.Sleep(time.Millisecond)
		}
	}
	close(stop)
	load.Wait()
	if sent.Load() != done.Load() {
		t.Errorf("%d requests were sent, %d done", sent.Load(), done.Load())
	}
}

// A request that is with neither a handler nor the kernel when a new server comes is done by the old one,
// and one that never becomes whole keeps no server from coming.
func TestRequestThatHasBegunToCome(t *testing.T) {
	whole, goOn := make(chan *conn, 1), make(chan struct{})
	one := serve(t, "127.0.0.1:0", named("one"), func(c net.Conn, state http.ConnState) {
		if state == http.StateActive {
			whole <- c.(*conn)
			<-goOn
		}
	})
	c, r := dial(t, one.Addr)
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi")
	server := (<-whole).listener
	replaced := make(chan *http.Server, 1)
	go func() { replaced <- serve(t, one.Addr, named("two")) }()
	select {
	case two := <-replaced:
		t.Error("the old server can be stopped before it is done")
		replaced <- two
	case <-time.After(4 * settling):
	}
	close(goOn)
	if got := answer(t, r); got != "one hi" {
		t.Errorf("answer %q", got)
	}
	<-replaced
	shutdown(t, one)
	if n := server.coming.Load(); n != 0 {
		t.Errorf("%d requests are coming afterwards", n)
	}

	half, _ := dial(t, one.Addr)
	io.WriteString(half, "POST / HT")
	for server = newest(one.Addr); server.coming.Load() == 0; {
		time.Sleep(time.Millisecond)
	}
	serve(t, one.Addr, named("three"))
	c, r = dial(t, one.Addr)
	until(t, c, r, "three")
}

// newest is the server that has an address.
func newest(addr string) *listener {
	mu.Lock()
	defer mu.Unlock()
	return stations["tcp "+addr].newest.Load()
}

// A client that has its whole answer sends the next request while the handler
// has not ended: net/http has a byte of it when the server shuts down.
func TestEarlyRequestGoesOver(t *testing.T) {
	flushed, end, first := make(chan struct{}), make(chan struct{}), make(chan *conn, 1)
	one := serve(t, "127.0.0.1:0", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Length", "3")
		fmt.Fprint(w, "one")
		http.NewResponseController(w).Flush()
		close(flushed)
		<-end
	}, func(c net.Conn, state http.ConnState) {
		if state == http.StateNew {
			first <- c.(*conn)
		}
	})
	c, r := dial(t, one.Addr)
	const request = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
	io.WriteString(c, request)
	<-flushed
	if got := answer(t, r); got != "one" {
		t.Fatalf("answer %q", got)
	}
	two := serve(t, one.Addr, named("two"))
	down := make(chan struct{})
	go func() { shutdown(t, one); close(down) }()
	io.WriteString(c, request)
	for server := <-first; ; { // until net/http has the byte
		server.mu.Lock()
		got := len(server.early) == 1
		server.mu.Unlock()
		if got {
			break
		}
		time.Sleep(time.Millisecond)
	}
	close(end)
	if got := answer(t, r); got != "two hi" {
		t.Errorf("second answer %q", got)
	}
	<-down
	serve(t, one.Addr, named("three")) // that byte begins HTTP/2's preface, too
	shutdown(t, two)
	until(t, c, r, "three")
}

// Pipelined requests are in net/http's buffer, where nobody can fetch them: such
// a connection stays, lest a part of a request or a body be taken for another.
func TestPipelinedRequestsAreNotMixedUp(t *testing.T) {
	second := "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, rest := range map[string][2]string{
		"whole": {"GET /second HTTP/1.1\r\nHost: x\r\n\r\n", ""},
		"part":  {fmt.Sprintf("POST /second HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", len(second)), second},
		"bytes": {"GE", "T /second HTTP/1.1\r\nHost: x\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			path := func(server string) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					io.Copy(io.Discard, r.Body)
					fmt.Fprint(w, server, r.URL.Path)
				}
			}
			one := serve(t, "127.0.0.1:0", path("one"))
			c, r := dial(t, one.Addr)
			io.WriteString(c, "GET /first HTTP/1.1\r\nHost: x\r\n\r\n"+rest[0])
			if got := answer(t, r); got != "one/first" {
				t.Fatalf("first answer %q", got)
			}
			serve(t, one.Addr, path("two"))
			io.WriteString(c, rest[1])
			if got := answer(t, r); got != "one/second" {
				t.Errorf("second answer %q", got)
			}
		})
	}
}

func dial(t *testing.T, addr string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, bufio.NewReader(c)
}

func answer(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
