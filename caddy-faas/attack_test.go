package caddyfaas

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
)

// raw sends bytes and returns all answers. If the connection is kept after
// one, another request ends it, whose answer is left out.
func (g *gateway) raw(t *testing.T, text string) (answers []*answer) {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(patience))
	io.WriteString(c, text)
	last := false
	for r := bufio.NewReader(c); ; {
		a, err := whole(http.ReadResponse(r, nil))
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("no end of the answers to %.200q", text)
			}
			break
		}
		answers = append(answers, a)
		if !a.Close && !last {
			last = true
			fmt.Fprint(c, "GET /function/last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		}
	}
	if last && len(answers) > 0 {
		if a := answers[len(answers)-1]; !strings.Contains(a.body, "no function named last") {
			t.Errorf("after %.200q: %d %s", text, a.StatusCode, a.body)
		}
		answers = answers[:len(answers)-1]
	}
	return answers
}

// What two servers could read in two ways is refused, or means one request to both.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	g := newSite(t, functions)
	const smuggled = "GET /function/env?smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
	head := "POST /function/env HTTP/1.1\r\nHost: localhost\r\n"
	reads := strings.Replace(head, "env", "echo", 1)                                                    // answers only what it has read to the end
	one := map[string]bool{"all as a body": true, "length and encoding": true, "a folded header": true} // requests to both
	length := fmt.Sprintf("Content-Length: %d\r\n", len(smuggled))
	for name, text := range map[string]string{
		"two lengths":             head + "Content-Length: 0\r\n" + length + "\r\n" + smuggled,
		"two lengths in one":      head + fmt.Sprintf("Content-Length: 0, %d\r\n\r\n", len(smuggled)) + smuggled,
		"a length with a sign":    head + fmt.Sprintf("Content-Length: +%d\r\n\r\n", len(smuggled)) + smuggled,
		"a length in hexadecimal": head + "Content-Length: 0x0\r\n\r\n" + smuggled,
		"a space before a colon":  head + "Content-Length : 0\r\n" + length + "\r\n" + smuggled,
		"a folded header":         head + "X-A: b\r\n Content-Length: 0\r\n" + length + "\r\n" + smuggled,
		"another encoding":        head + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + smuggled,
		"two encodings":           head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + smuggled,
		"a list of encodings":     head + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + smuggled,
		"an encoding with a tab":  head + "Transfer-Encoding:\tchunked\x0b\r\n\r\n0\r\n\r\n" + smuggled,
		"a chunk of no number":    reads + "Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n" + smuggled,
		"a chunk without end":     reads + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n" + smuggled,
		"a NUL in a header":       head + "X-A: b\x00c\r\n" + length + "\r\n" + smuggled,
		"a return in a header":    head + "X-A: b\rX-B: c\r\n" + length + "\r\n" + smuggled,
		"no host":                 "POST /function/env HTTP/1.1\r\n" + length + "\r\n" + smuggled,
		"two hosts":               head + "Host: other\r\n" + length + "\r\n" + smuggled,
		"length and encoding":     head + length + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"all as a body":           head + length + "\r\n" + smuggled,
	} {
		answers := g.raw(t, text)
		if len(answers) != 1 {
			t.Errorf("%s: %d answers", name, len(answers))
		}
		for _, a := range answers {
			if strings.Contains(a.body, "Http_Query=smuggled") || a.StatusCode == 200 && !one[name] {
				t.Errorf("%s: %d %s", name, a.StatusCode, a.body)
			}
		}
	}
	if strings.Contains(g.log.String(), "?smuggled") {
		t.Error("a body was taken for a request")
	}
}

// Nothing that a caller sends is taken for an address to connect to, or for a file.
func TestNothingSentIsAnAddress(t *testing.T) {
	t.Parallel()
	canary, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer canary.Close()
	g, a := newSkill(t)
	site := newSite(t, functions)
	api := newGateway(t, map[string]string{"Caddyfile": strings.Replace(edgeSite, "functions stack.yml", "allow {\n\t\t\timage *\n\t\t\tcommand *\n\t\t}", 1)})
	api.start(t)
	addr := canary.Addr().String()
	host, port, _ := net.SplitHostPort(addr)
	for _, name := range []string{addr, host + "%3A" + port, "localhost%3A" + port, "http%3A%2F%2F" + addr, "unix%2F%2F%2Ftmp%2Fx", "..%2F..%2Fsystem%2Ffunctions", "..", ".", "%2e%2e", "echo%00", "echo%0d%0aX-A%3A%20b",
		"@" + addr, "echo.openfaas-fn.x", "-x", "{env.PATH}", "*", strings.Repeat("a", 300)} {
		for _, r := range []*answer{site.call(t, "POST", "/function/"+name, "x"), site.call(t, "POST", "/function/"+name+"/echo", "x")} {
			if r.StatusCode != 404 && r.StatusCode != 400 {
				t.Errorf("/function/%s: %d %s", name, r.StatusCode, r.body)
			}
		}
		if r := site.call(t, "POST", "/", "x", "X-Function", name); r.StatusCode != 404 && r.StatusCode != 400 {
			t.Errorf("X-Function: %s: %d %s", name, r.StatusCode, r.body)
		}
		intent := alexaBody("IntentRequest", strings.ReplaceAll(name, "%3A", ":"))
		if r := g.call(t, "POST", "/alexa", intent, a.sign(t, intent)...); r.StatusCode != 200 || !strings.Contains(r.body, "Nein.") {
			t.Errorf("intent %s: %d %s", name, r.StatusCode, r.body)
		}
	}
	site.call(t, "POST", "/function/echo", "x", "X-Forwarded-Host", addr, "X-Callback-Url", "http://"+addr, "Forwarded", "host="+addr, "X-Original-Url", "http://"+addr, "Proxy", "http://"+addr)
	site.raw(t, "GET http://"+addr+"/function/echo HTTP/1.1\r\nHost: "+addr+"\r\n\r\n")
	site.raw(t, "CONNECT "+addr+" HTTP/1.1\r\nHost: "+addr+"\r\n\r\n")
	for _, u := range []string{"https://" + addr + "/echo.api/x.pem", "https://s3.amazonaws.com@" + addr + "/echo.api/x.pem", "http://" + addr + "/echo.api/x.pem"} {
		body := alexaBody("IntentRequest", "hello")
		if r := g.call(t, "POST", "/alexa", body, append(a.sign(t, body), "SignatureCertChainUrl", u)...); r.StatusCode != 400 {
			t.Errorf("certificate at %s: %d", u, r.StatusCode)
		}
	}
	for i, image := range []string{addr + "/functions/alpine:latest", "http://" + addr + "/x", addr, "../../etc", "unix:///tmp/x"} {
		name := fmt.Sprint("of-image-", i)
		if r := api.call(t, "POST", "/system/functions", fmt.Sprintf(`{"service":%q,"image":%q,"envProcess":"cat"}`, name, image)); r.StatusCode > 299 {
			t.Errorf("image %s: %d %s", image, r.StatusCode, r.body)
		} else if r := api.call(t, "POST", "/function/"+name, "x"); r.StatusCode != 200 || r.body != "x" {
			t.Errorf("function of image %s: %d %s", image, r.StatusCode, r.body)
		}
	}
	// What has ended connects to nothing any more, and connections are accepted in their order.
	for _, g := range []*gateway{g, site, api} {
		g.stop(t, syscall.SIGTERM)
	}
	own, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	first, err := canary.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if first.RemoteAddr().String() != own.LocalAddr().String() {
		t.Errorf("%s was connected to, by %s", addr, first.RemoteAddr())
	}
}

// A caller's header is one variable, and none that means something else.
func TestHeadersAsVariables(t *testing.T) {
	t.Parallel()
	g := newSite(t, functions)
	a := g.raw(t, "GET /function/env HTTP/1.1\r\nHost: localhost\r\nProxy: http://evil\r\nPath: /evil\r\nX_Faas_Scheme: evil\r\nX-Faas_Scheme: evil\r\n"+
		"X-Faas-Scheme: evil\r\nX-Alexa-Intent: evil\r\nX-Start-Time: evil\r\nhttp_proxy: evil\r\nLD_PRELOAD: evil\r\nX-Kept: good=1; evil2\r\n\r\n")
	if len(a) != 1 || a[0].StatusCode != 200 || !strings.Contains(a[0].body, "Http_X_Kept=good=1; evil2\n") {
		t.Fatalf("%d answers, %+v", len(a), a[0])
	}
	if rest := strings.ReplaceAll(a[0].body, "good=1; evil2", ""); strings.Contains(rest, "evil") {
		t.Errorf("the function sees\n%s", rest)
	}
}

func TestOversizedHeaders(t *testing.T) {
	t.Parallel()
	g := newSite(t, functions)
	for _, header := range []string{"X-A: " + strings.Repeat("x", 64<<10), strings.Repeat("X-A: x\r\n", 8<<10) + "X-B: x"} {
		if a := g.raw(t, "GET /function/env HTTP/1.1\r\nHost: localhost\r\n"+header+"\r\n\r\n"); len(a) > 1 || len(a) == 1 && a[0].StatusCode != 431 {
			t.Errorf("%.10s...: %+v", header, a)
		}
	}
}

// A header that never ends is not waited for.
func TestSlowloris(t *testing.T) {
	t.Parallel()
	g := shippedGateway(t)
	c, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET /function/echo HTTP/1.1\r\nHost: localhost\r\nX-A: ")
	c.SetReadDeadline(time.Now().Add(patience))
	if b, err := io.ReadAll(c); err != nil || strings.Contains(string(b), " 200 ") {
		t.Errorf("%q, %v; want the end of the connection", b, err)
	}
}

// HTTP/1.1, 2 and 3 carry verified requests, and end those that aren't.
func TestVerifiedByEveryProtocol(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	g := newGateway(t, map[string]string{"secret": "s", "stack.yml": "functions:\n  echo:\n    fprocess: cat\n", "Caddyfile": strings.ReplaceAll(`{
	admin unix/DATA/admin.sock|0600
	auto_https disable_redirects
	skip_install_trust
	faas {
		data DATA
		functions stack.yml
	}
}
https://localhost:PORT {
	tls internal
	faas_verify github {
		secret s
	}
	faas echo
	handle_errors {
		respond "{err.message}" {err.status_code}
	}
}
`, "PORT", port)})
	g.start(t)
	insecure := &tls.Config{InsecureSkipVerify: true} // of this test's own certificate
	h1 := &http.Transport{TLSClientConfig: insecure, TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}
	h2 := &http.Transport{TLSClientConfig: insecure.Clone(), ForceAttemptHTTP2: true}
	h3 := &http3.Transport{TLSClientConfig: insecure.Clone()}
	defer h3.Close()
	eventually(t, "there is a certificate", func() bool {
		c, err := tls.Dial("tcp", "localhost:"+port, insecure)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	body := strings.Repeat("event ", 50_000)
	for major, transport := range map[int]http.RoundTripper{1: h1, 2: h2, 3: h3} {
		c := &http.Client{Transport: transport, Timeout: patience}
		for secret, status := range map[string]int{"s": 200, "x": 401} {
			r, err := http.NewRequest("POST", "https://localhost:"+port+"/", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("X-Hub-Signature-256", "sha256="+mac(secret, body))
			a, err := whole(c.Do(r))
			if err != nil || a.ProtoMajor != major || a.StatusCode != status || status == 200 && a.body != body {
				t.Errorf("HTTP/%d, secret %s: %v, %+v", major, secret, err, a)
			}
		}
		r, err := http.NewRequest("POST", "https://localhost:"+port+"/", io.MultiReader(strings.NewReader(body)))
		if err != nil {
			t.Fatal(err)
		}
		// While the body is sent the answer comes; a client may see either first.
		if a, err := whole(c.Do(r)); err == nil && a.StatusCode != 401 {
			t.Errorf("HTTP/%d, unsigned: %d %s", major, a.StatusCode, a.body)
		}
	}
}
