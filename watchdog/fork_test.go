package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

func TestEcho(t *testing.T) {
	d := startDog(t, "fprocess=cat")
	for _, n := range []int{0, 1, 4096, chunk - 1, chunk, chunk + 1, maxPipe, 3*maxPipe + 7} {
		sent := bytes.Repeat([]byte("0123456789abcdef"), n/16+1)[:n]
		for name, body := range map[string]io.Reader{"known": bytes.NewReader(sent), "unknown": struct{ io.Reader }{bytes.NewReader(sent)}} {
			r := d.do("POST", "/", body)
			if r.err != nil || r.status != 200 || r.body != string(sent) {
				t.Errorf("%d bytes of %s length: status %d, error %v, %d bytes back", n, name, r.status, r.err, len(r.body))
			}
			if n < chunk && r.length != int64(n) {
				t.Errorf("%d bytes: Content-Length %d", n, r.length)
			}
			if r.err == nil && r.header.Get("X-Duration-Seconds") == "" {
				t.Errorf("no X-Duration-Seconds")
			}
		}
	}
}

func TestLog(t *testing.T) {
	d := startDog(t, "fprocess=sh -c 'echo one >&2; printf two >&2; cat'", "write_debug=true")
	d.do("POST", "/", strings.NewReader("hello")).want(t, 200, "hello")
	stamp := `\d{4}/\d\d/\d\d \d\d:\d\d:\d\d `
	for _, line := range []string{"Forking fprocess", "stderr: one", "stderr: two", `Output: "hello"`, `Wrote 5 Bytes - Duration: \d+\.\d{3}s`} {
		re := regexp.MustCompile("(?m)^" + stamp + line + "$")
		d.eventually("log line "+line, func() bool { return re.MatchString(d.log.String()) })
	}
}

// Lines of processes that run at the same time do not mix; a line too long for the log is cut.
func TestLogLinesWhole(t *testing.T) {
	d := startDog(t, "prefix_logs=false", `fprocess=sh -c 'a=$(printf %0200d 0 | tr 0 $Http_X_Letter); for i in 1 2 3 4 5 6 7 8 9 10; do echo $a >&2; done'`)
	done := make(chan reply)
	letters := "abcdefgh"
	for _, l := range letters {
		go func() { done <- d.do("GET", "/", nil, "X-Letter", string(l)) }()
	}
	for range letters {
		(<-done).want(t, 200, "")
	}
	for _, l := range letters {
		whole := regexp.MustCompile("(?m)^" + strings.Repeat(string(l), 200) + "$")
		d.eventually("ten whole lines of "+string(l), func() bool { return len(whole.FindAllString(d.log.String(), -1)) == 10 })
	}
	d = startDog(t, `fprocess=sh -c 'head -c 20000 /dev/zero | tr "\0" x >&2; echo >&2; echo end >&2'`)
	d.get("/").want(t, 200, "")
	d.eventually("the last line", func() bool { return strings.Contains(d.log.String(), "stderr: end\n") })
	longest, total := 0, 0
	for line := range strings.Lines(d.log.String()) {
		if _, x, ok := strings.Cut(line, "stderr: x"); ok {
			longest, total = max(longest, len(x)), total+strings.Count(line, "x")
		}
	}
	if longest > maxLine || total != 20000 {
		t.Errorf("a line of 20000 bytes became lines of up to %d with %d bytes in all", longest, total)
	}
}

func TestMethods(t *testing.T) {
	d := startDog(t, "fprocess=sh -c 'echo $Http_Method'")
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"} {
		d.do(method, "/", nil).want(t, 200, method)
	}
	r := d.do("HEAD", "/", nil)
	r.want(t, 200, "")
	if r.length != 5 || r.body != "" {
		t.Errorf("HEAD: Content-Length %d, body %q", r.length, r.body)
	}
}

func TestVariables(t *testing.T) {
	d := startDog(t, "fprocess=env", "OWN=1", "Http_Path=forged", "Http_Other=forged")
	r := d.do("POST", "/a%20b/c?x=1&y=%20", strings.NewReader("body"), "X-Call-Id", "7", "X-Two", "a", "X-Two", "b",
		"Proxy", "http://evil", "X_Call_Id", "forged", "Path", "forged", "Content-Type", "text/css", "Authorization", "Bearer ")
	r.want(t, 200, "")
	lines := strings.Split(r.body, "\n")
	for _, want := range []string{"OWN=1", "Http_Method=POST", "Http_Path=/a b/c", "Http_Query=x=1&y=%20", "Http_Host=function.test",
		"Http_Content_Length=4", "Http_ContentLength=4", "Http_X_Call_Id=7", "Http_X_Two=a,b", "Http_Content_Type=text/css", "Http_Authorization=Bearer"} {
		n := 0
		for _, l := range lines {
			if name, _, _ := strings.Cut(want, "="); strings.HasPrefix(l, name+"=") {
				n++
				if strings.TrimSpace(l) != want {
					t.Errorf("got %q, want %q", l, want)
				}
			}
		}
		if n != 1 {
			t.Errorf("%q is there %d times", want, n)
		}
	}
	if strings.Contains(r.body, "evil") || strings.Contains(r.body, "forged") {
		t.Errorf("forged variables: %s", r.body)
	}
	r = d.do("POST", "/", zeros(3))
	r.want(t, 200, "Http_Transfer_Encoding=chunked\n")
	r.want(t, 200, "Http_Content_Length=-1\n")
	d.get("/%00").want(t, 400, "NUL")
	d.do("GET", "/", nil, "X-Long", strings.Repeat("x", maxHeader-200)).want(t, 200, "Http_X_Long=xxx")
	d.do("GET", "/", nil, "X-Long", strings.Repeat("x", maxHeader+20000)).want(t, 431, "")

	d = startDog(t, "fprocess=env", "cgi_headers=false", "Http_Path=kept")
	r = d.get("/x")
	r.want(t, 200, "Http_Path=kept")
	if strings.Contains(r.body, "Http_Method") {
		t.Errorf("variables in spite of cgi_headers=false: %s", r.body)
	}
}

func TestContentType(t *testing.T) {
	plain := startDog(t, "fprocess=cat")
	fixed := startDog(t, "fprocess=cat", "content_type=text/csv")
	for _, tt := range []struct {
		d                *dog
		sent, body, want string
	}{
		{plain, "application/json", "{}", "application/json"},
		{plain, "image/png; x=1", "xx", "image/png; x=1"},
		{plain, "", "<html>", "text/html; charset=utf-8"},
		{plain, "application/x-www-form-urlencoded", "text", "text/plain; charset=utf-8"},
		{plain, "Application/X-WWW-Form-URLencoded; charset=utf-8", "%PDF-", "application/pdf"},
		{fixed, "application/json", "{}", "text/csv"},
		{fixed, "", "x", "text/csv"},
	} {
		r := tt.d.do("POST", "/", strings.NewReader(tt.body), "Content-Type", tt.sent)
		r.want(t, 200, tt.body)
		if got := r.header.Get("Content-Type"); got != tt.want {
			t.Errorf("sent %q, body %q: Content-Type %q, want %q", tt.sent, tt.body, got, tt.want)
		}
	}
}

func TestFailingFunction(t *testing.T) {
	d := startDog(t, `fprocess=sh -c 'echo output; echo reason >&2; eval "$Http_X_End"'`)
	r := d.do("GET", "/", nil, "X-End", "exit 3")
	r.want(t, 500, "exit status 3\nreason")
	if strings.Contains(r.body, "output") || !strings.HasPrefix(r.header.Get("Content-Type"), "text/plain") {
		t.Errorf("body %q, type %q", r.body, r.header.Get("Content-Type"))
	}
	d.do("GET", "/", nil, "X-End", "kill -KILL $$").want(t, 500, "killed by signal 9")
	r = d.do("GET", "/", nil, "X-End", "head -c 100000 /dev/zero >&2; echo >&2; echo last words >&2; exit 1")
	r.want(t, 500, "exit status 1\nlast words")
	if len(r.body) > maxTail+100 {
		t.Errorf("%d bytes of stderr in the answer", len(r.body))
	}
	// What has been sent cannot be taken back: the client must see that the answer is not whole.
	if r = d.do("GET", "/", nil, "X-End", "head -c 200000 /dev/zero; exit 1"); !errors.Is(r.err, io.ErrUnexpectedEOF) {
		t.Errorf("failed while streaming: status %d, %d bytes, error %v", r.status, len(r.body), r.err)
	}
	combined := startDog(t, "combine_output=true", `fprocess=sh -c 'echo out; echo err >&2; exit $Http_X_End'`)
	combined.do("GET", "/", nil, "X-End", "0").want(t, 200, "out\nerr\n")
	combined.do("GET", "/", nil, "X-End", "1").want(t, 500, "exit status 1\nout\nerr")
}

func TestUnstartableFunction(t *testing.T) {
	path := t.TempDir() + "/program"
	if err := os.WriteFile(path, []byte("\x00not a program"), 0o755); err != nil {
		t.Fatal(err)
	}
	startDog(t, "fprocess="+path).get("/").want(t, 500, "starting "+path)
}

// The answer ends with the process, whoever still holds its stdout.
func TestBackgroundChild(t *testing.T) {
	d := startDog(t, "fprocess=sh -c 'sleep 100000 & echo pid $! >&2; echo hi'")
	d.get("/").want(t, 200, "hi\n")
	pid := d.printed("pid ")
	eventually(t, "end of the child in the background", func() bool { return !alive(pid) })
	if _, err := os.Stat("/usr/bin/setsid"); err == nil {
		// This one has left the group, holds stdin, stdout and stderr, and is not ours to kill.
		d = startDog(t, "fprocess=sh -c 'setsid sh -c \"echo pid \\$\\$ >&2; exec sleep 100000\" & echo hi; until test -e $Http_X_File; do sleep 0.01; done'")
		done := make(chan reply)
		file := t.TempDir() + "/go"
		go func() { done <- d.do("POST", "/", zeros(3*maxPipe), "X-File", file) }()
		pid = d.printed("pid ")
		defer syscall.Kill(pid, syscall.SIGKILL)
		os.WriteFile(file, nil, 0o644)
		(<-done).want(t, 200, "hi\n")
	}
}

// alive says whether the process runs; a zombie whose parent does not care has ended too.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return syscall.Kill(pid, 0) == nil && !os.IsNotExist(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func TestExecTimeout(t *testing.T) {
	t.Parallel()
	d := startDog(t, "exec_timeout=1s", `fprocess=sh -c 'echo pid $$ >&2; sleep 100000 & eval "$Http_X_First"; wait'`)
	d.get("/").want(t, 504, "exec_timeout of 1s exceeded")
	groupGone(t, d.printed("pid "))
	if r := d.do("GET", "/", nil, "X-First", "head -c 100000 /dev/zero"); !errors.Is(r.err, io.ErrUnexpectedEOF) {
		t.Errorf("time limit while streaming: status %d, %d bytes, error %v", r.status, len(r.body), r.err)
	}
	// A process that has closed its stdout has still to end in time.
	d.do("GET", "/", nil, "X-First", "exec >&-").want(t, 504, "exec_timeout")
	// write_timeout is the default of exec_timeout.
	d = startDog(t, "write_timeout=200ms", "fprocess=sleep 100000")
	d.get("/").want(t, 504, "exec_timeout of 200ms exceeded")
}

// What the function says before it falls silent arrives while it still runs.
func TestSilentFunctionIsFlushed(t *testing.T) {
	d := startDog(t, "fprocess=sh -c 'echo first; cat; echo last'")
	body, end := io.Pipe()
	res, err := d.client.Post("http://function.test/", "text/plain", body)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got := make([]byte, 6)
	if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != "first\n" {
		t.Fatalf("%q, %v", got, err)
	}
	for _, word := range []string{"a\n", "b\n"} { // both ways at once
		io.WriteString(end, word)
		if _, err := io.ReadFull(res.Body, got[:2]); err != nil || string(got[:2]) != word {
			t.Fatalf("%q, %v", got[:2], err)
		}
	}
	end.Close()
	if rest, err := io.ReadAll(res.Body); err != nil || string(rest) != "last\n" {
		t.Errorf("%q, %v", rest, err)
	}
}

func TestClientGone(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T, ...string) *dog{"unix": startDog, "tcp": startPort} {
		for what, body := range map[string]int64{"no body": 0, "small body": 1000, "body unread": maxPipe + chunk} {
			t.Run(name+"/"+what, func(t *testing.T) {
				d := start(t, "fprocess=sh -c 'echo pid $$ >&2; sleep 100000'", "exec_timeout=0")
				if what == "body unread" {
					d.client.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) {
						c, err := d.dial()
						if tcp, ok := c.(*net.TCPConn); ok {
							tcp.SetLinger(0) // the usual end would come after the body, for which there may be no room
						}
						return c, err
					}
				}
				ctx, cancel := context.WithCancel(context.Background())
				done := make(chan reply)
				go func() { done <- d.request(ctx, "POST", "/", io.LimitReader(zeroReader{}, body)) }()
				group := d.printed("pid ")
				cancel()
				<-done
				groupGone(t, group)
				d.eventually("log of the end", func() bool { return strings.Contains(d.log.String(), "client went away") })
			})
		}
	}
	t.Run("in the middle of the body", func(t *testing.T) {
		d := startDog(t, "fprocess=sh -c 'echo pid $$ >&2; cat; sleep 100000'", "exec_timeout=0")
		c := d.mustDial()
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nbeginning")
		group := d.printed("pid ")
		c.Close()
		groupGone(t, group)
	})
}

// A function need not read its body, be it in the pipe, in flight or not even sent.
func TestUnreadBodyIsNoError(t *testing.T) {
	d := startDog(t, "fprocess=echo hi", "read_timeout=0")
	for _, n := range []int64{10, chunk, maxPipe, 20 * maxPipe} {
		for range 5 {
			d.do("POST", "/", bytes.NewReader(make([]byte, n))).want(t, 200, "hi\n")
		}
	}
	c := d.mustDial()
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nbeginning")
	answer, err := io.ReadAll(c)
	if err != nil || !strings.Contains(string(answer), "200 OK") || !strings.Contains(string(answer), "Connection: close") || !strings.HasSuffix(string(answer), "hi\n") {
		t.Errorf("%q, %v", answer, err)
	}
}

func TestBodyTooSlow(t *testing.T) {
	t.Parallel()
	d := startDog(t, "read_timeout=1s", "fprocess=sh -c 'echo pid $$ >&2; cat >/dev/null; sleep 100000'")
	for i, head := range []string{"Content-Length: 10\r\n\r\n123", "Content-Length: 100000\r\n\r\n123", "Transfer-Encoding: chunked\r\n\r\n3\r\n123\r\n"} {
		c := d.mustDial()
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\n"+head)
		answer, err := io.ReadAll(c)
		if i > 0 {
			groupGone(t, d.printed("pid "))
		}
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 408 ") || !strings.Contains(string(answer), "read_timeout") {
			t.Errorf("%q: %q, %v", head, answer, err)
		}
	}
	// A function that is slow to read is not the client's fault.
	d = startDog(t, "read_timeout=1s", "fprocess=sh -c 'sleep 3; wc -c'")
	d.do("POST", "/", zeros(6*maxPipe)).want(t, 200, fmt.Sprint(6*maxPipe))
	c := d.mustDial()
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n")
	if answer, _ := io.ReadAll(c); !strings.HasPrefix(string(answer), "HTTP/1.1 400 ") {
		t.Errorf("a malformed body: %q", answer)
	}
}

func TestHeadersTooSlow(t *testing.T) {
	t.Parallel()
	d := startDog(t, "read_timeout=300ms", "fprocess=cat")
	c := d.mustDial()
	io.WriteString(c, "POST / HTTP/1.1\r\nHost:")
	if answer, err := io.ReadAll(c); err != nil || len(answer) != 0 {
		t.Errorf("%q, %v", answer, err)
	}
}

// A client that does not read must not hold the process for ever.
func TestWriteTimeout(t *testing.T) {
	t.Parallel()
	d := startDog(t, "write_timeout=300ms", "exec_timeout=0", "fprocess=sh -c 'echo pid $$ >&2; cat /dev/zero'")
	io.WriteString(d.mustDial(), "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	groupGone(t, d.printed("pid "))
}

func TestHTTP10(t *testing.T) {
	d := startPort(t, "fprocess=sh -c 'head -c 200000 /dev/zero; exit 1'")
	c := d.mustDial()
	io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
	if answer, err := io.ReadAll(c); err == nil {
		t.Errorf("%d bytes of a broken answer look whole", len(answer))
	}
}

func TestMaxInflight(t *testing.T) {
	t.Parallel()
	d := startDog(t, "max_inflight=2", "fprocess=sh -c 'echo started >&2; cat'", "suppress_lock=true")
	var ends []*io.PipeWriter
	done := make(chan reply, 2)
	for range 2 {
		body, end := io.Pipe()
		ends = append(ends, end)
		go func() { done <- d.do("POST", "/", body) }()
	}
	d.eventually("two requests in flight", func() bool { return strings.Count(d.log.String(), "stderr: started") == 2 })
	r := d.do("POST", "/", strings.NewReader("x"))
	r.want(t, http.StatusTooManyRequests, "max_inflight of 2")
	if r.header.Get("X-Faas-Replica-Full") != "1" || r.header.Get("Retry-After") != "1" {
		t.Errorf("headers of a full replica: %v", r.header)
	}
	d.get("/_/ready").want(t, http.StatusTooManyRequests, "")
	d.get("/_/health").want(t, 200, "")
	for _, end := range ends {
		end.Close()
		(<-done).want(t, 200, "")
	}
	d.get("/_/ready").want(t, 200, "")
	d.get("/").want(t, 200, "")
}
