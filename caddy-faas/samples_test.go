package caddyfaas

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// sample is a call of a function of functions/stack.yml and its answer.
type sample struct {
	path, body string
	status     int
	want       string // is in the answer
}

func (g *gateway) samples(t *testing.T, all ...sample) {
	t.Helper()
	for _, s := range all {
		a := g.call(t, "POST", "/function/"+s.path, s.body)
		if a.StatusCode != s.status || !strings.Contains(a.body, s.want) {
			t.Errorf("%s %.80q: %d %.500s\nwant %d with %q", s.path, s.body, a.StatusCode, a.body, s.status, s.want)
		}
	}
}

func TestSamples(t *testing.T) {
	t.Parallel()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v2/repositories/library/":
			fmt.Fprint(w, `{"count": 178, "results": []}`)
		case "/v2/repositories/odd/":
			fmt.Fprint(w, `{}`)
		case "/v2/repositories/broken/":
			fmt.Fprint(w, `<html>`)
		case "/captains":
			fmt.Fprint(w, `<a href="/captains/ada/">Ada</a> <a href="https://example.com/captains/alan"><img></a> <a href="/captains/alan">Alan</a>
				<a href="/captains/ada/">more</a> <a href="/captains/">all</a>`)
		default:
			http.NotFound(w, r)
		}
	}))
	defer web.Close()
	g := newShipped(t)
	g.env = []string{"HUB_URL=" + web.URL, "CAPTAINS_URL=" + web.URL + "/captains"}
	g.start(t)

	t.Run("commands", func(t *testing.T) {
		g.samples(t,
			sample{"echo", "hello", 200, "hello"},
			sample{"wordcount", "a b c", 200, "3"},
			sample{"sha256sum", "hello", 200, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"},
			sample{"env/x?y=z", "", 200, "Http_Query=y=z"},
			sample{"base64", "hello", 200, "aGVsbG8=\n"},
			sample{"base64-decode", "aGVsbG8=\n", 200, "hello"},
			sample{"base64-decode", "!", 500, "exit status 1"},
			sample{"webhookstash", "x", 200, "Stashing request"},
		)
	})
	t.Run("topwords", func(t *testing.T) {
		g.samples(t,
			sample{"topwords", "to be, or not to BE\nto", 200, "      3 to\n      2 be\n      1 not\n      1 or\n"},
			sample{"topwords?n=1", "b b a", 200, "      2 b\n"},
			sample{"topwords?n=x", "b", 500, "n must be a number"},
		)
	})
	t.Run("csv2json", func(t *testing.T) {
		needs(t, "python3")
		g.samples(t,
			sample{"csv2json", "name,city\nAda,\"London, \"\"UK\"\"\"\nZoë,Köln\n", 200, `[{"name": "Ada", "city": "London, \"UK\""}, {"name": "Zoë", "city": "Köln"}]`},
			sample{"csv2json", "a,b\n1\n", 500, "line 2 has not 2 columns"},
			sample{"csv2json", "a\n\"1", 500, "csv2json: unexpected end of data"},
			sample{"csv2json", "a\n\xff", 500, "can't decode"},
			sample{"csv2json", "", 500, "empty"},
		)
	})
	t.Run("urlparts", func(t *testing.T) {
		needs(t, "node")
		g.samples(t,
			sample{"urlparts", "https://example.com:8443/a/b?x=1&y=%20#top\n", 200,
				`{"scheme":"https","host":"example.com","port":"8443","path":"/a/b","query":{"x":"1","y":" "},"fragment":"top"}`},
			sample{"urlparts", "nonsense", 500, "urlparts: Invalid URL: nonsense"},
		)
	})
	t.Run("nodeinfo", func(t *testing.T) {
		host, err := os.Hostname()
		if err != nil {
			t.Fatal(err)
		}
		g.samples(t, sample{"nodeinfo", "", 200, "Hostname: " + host + "\n"}, sample{"nodeinfo", "verbose", 200, "\nInterface: lo"})
		if a := g.call(t, "POST", "/function/nodeinfo", ""); strings.Contains(a.body, "Interface") || !strings.Contains(a.body, "\nCPUs: ") {
			t.Errorf("not verbose: %s", a.body)
		}
	})
	t.Run("markdown", func(t *testing.T) { testMarkdown(t, g) })
	t.Run("hubstats", func(t *testing.T) {
		g.samples(t,
			sample{"hubstats", "library\nmore", 200, "library has 178 repositories on Docker Hub\n"},
			sample{"hubstats", "nobody", 500, `there is no "nobody" on Docker Hub`},
			sample{"hubstats", "odd", 500, "has no count"},
			sample{"hubstats", "broken", 500, "the answer of Docker Hub"},
			sample{"hubstats", "../users", 500, "is no name"},
			sample{"hubstats", "\n", 500, "send the name"},
			sample{"hubstats", "", 500, "send the name"},
		)
	})
	t.Run("skills", func(t *testing.T) {
		speaks(t, g, read(t, "../functions/CaptainsIntent/intent.json"), "There are 2 Docker Captains")
		host, err := os.Hostname()
		if err != nil {
			t.Fatal(err)
		}
		speaks(t, g, read(t, "../functions/HostnameIntent/intent.json"), "Your hostname is "+host)
	})
}

// What is in a folder of functions/ says what it is, and is in stack.yml.
func TestSamplesAreDocumented(t *testing.T) {
	list, names := read(t, "../functions/README.md"), read(t, "../functions/stack.yml")
	folders, err := os.ReadDir("../functions")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range folders {
		if !f.IsDir() || f.Name() == "internal" {
			continue
		}
		if text := read(t, filepath.Join("../functions", f.Name(), "README.md")); !strings.Contains(text, "curl ") {
			t.Errorf("%s/README.md shows no call", f.Name())
		}
		if !strings.Contains(names, "handler: ./"+f.Name()+"\n") {
			t.Errorf("%s is not in stack.yml", f.Name())
		}
		if !strings.Contains(list, "("+f.Name()+"/)") {
			t.Errorf("functions/README.md does not list %s", f.Name())
		}
	}
}

func testMarkdown(t *testing.T, g *gateway) {
	g.samples(t,
		sample{"markdown", "# Title\n\n| a | b |\n|---|:-:|\n| 1 | ~~2~~ |\n", 200, "<h1>Title</h1>"},
		sample{"markdown", "| a |\n|---|\n| ~~2~~ |\n", 200, "<td><del>2</del></td>"},
		sample{"markdown", "- [x] done", 200, `<input checked="" disabled="" type="checkbox"`},
		sample{"markdown", "[a](https://example.com)", 200, `<a href="https://example.com" rel="nofollow">a</a>`},
		sample{"markdown", "<b>bold</b>", 200, "<b>bold</b>"},
	)
	if a := g.call(t, "POST", "/function/markdown", "x"); a.Header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("Content-Type %q", a.Header.Get("Content-Type"))
	}
	for _, attack := range []string{
		"<script>alert(1)</script>",
		"<ScRiPt src=//x></sCrIpT>",
		"[x](javascript:alert(1))",
		"[x](JaVaScript&colon;alert(1))",
		"[x](data:text/html;base64,PHNjcmlwdD4=)",
		"![x](javascript:alert(1))",
		"<img src=x onerror=alert(1)>",
		"<a href='java\nscript:alert(1)'>x</a>",
		"<svg onload=alert(1)>",
		"<iframe src=//x></iframe>",
		"<input type=image src=x onerror=alert(1)>",
		"<form action=javascript:alert(1)><button>x</button></form>",
		"<style>*{background:url(//x)}</style>",
		"<p style='background:url(javascript:alert(1))'>x</p>",
	} {
		a := g.call(t, "POST", "/function/markdown", attack)
		lower := strings.ToLower(a.body)
		for _, bad := range []string{"<script", "javascript", "data:", "onerror", "onload", "<svg", "<iframe", "<form", "<style", "style=", "type=\"image\""} {
			if a.StatusCode != 200 || strings.Contains(lower, bad) {
				t.Errorf("%s: %d %s", attack, a.StatusCode, a.body)
			}
		}
	}
}

// speaks sends an Alexa request and checks the whole answer.
func speaks(t *testing.T, g *gateway, request, want string) {
	t.Helper()
	a := g.call(t, "POST", "/", request, "Content-Type", "application/json;charset=UTF-8")
	var got struct {
		Version  string
		Response struct {
			OutputSpeech     struct{ Type, Text string }
			Card             struct{ Type, Title, Content string }
			ShouldEndSession bool
		}
	}
	d := json.NewDecoder(strings.NewReader(a.body))
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil || d.More() {
		t.Fatalf("%d %s: %v", a.StatusCode, a.body, err)
	}
	r := got.Response
	if got.Version != "1.0" || r.OutputSpeech.Type != "PlainText" || r.OutputSpeech.Text != want || r.Card.Type != "Simple" ||
		r.Card.Title == "" || r.Card.Content != want || !r.ShouldEndSession || a.Header.Get("Content-Type") != "application/json;charset=UTF-8" {
		t.Errorf("%d %v %s\nwant %q", a.StatusCode, a.Header, a.body, want)
	}
}

func TestChangeColor(t *testing.T) {
	t.Parallel()
	broker, listen := needs(t, "mosquitto"), needs(t, "mosquitto_sub")
	port := freePort(t)
	g := newShipped(t)
	g.env = []string{"MQTT_URL=tcp://127.0.0.1:" + port}
	g.start(t)
	blue := read(t, "../functions/ChangeColorIntent/intent.json")
	a := g.call(t, "POST", "/function/ChangeColorIntent", blue)
	if a.StatusCode != 500 || !strings.Contains(a.body, "connecting to tcp://127.0.0.1:"+port) {
		t.Errorf("without a broker: %d %s", a.StatusCode, a.body)
	}

	g.write(t, "mosquitto.conf", "listener "+port+" 127.0.0.1\nallow_anonymous true\nlog_type all\n")
	log := g.background(t, broker, "-c", filepath.Join(g.dir, "mosquitto.conf"))
	eventually(t, "the broker runs", func() bool { return strings.Contains(log.String(), " running") })
	lamp := g.background(t, listen, "-q", "1", "-h", "127.0.0.1", "-p", port, "-t", "leds")
	eventually(t, "the lamp has subscribed", func() bool { return strings.Contains(log.String(), "Sending SUBACK") })
	say := func(intent, value string) string {
		return strings.NewReplacer(`"ChangeColorIntent"`, `"`+intent+`"`, `"blue"`, `"`+value+`"`).Replace(blue)
	}
	var messages string
	for _, s := range []struct{ intent, value, want, message string }{
		{"ChangeColorIntent", "blue", "The lamp is blue", `{"r":0,"g":0,"b":255}`},
		{"ChangeColorIntent", "Red", "The lamp is red", `{"r":255,"g":0,"b":0}`},
		{"ChangeColorIntent", "beige", "I heard beige, which is no colour that I know", ""},
		{"ChangeColorIntent", "", "I heard no colour", ""},
		{"TurnOffIntent", "", "The lamp is off", `{"r":0,"g":0,"b":0}`},
	} {
		speaks(t, g, say(s.intent, s.value), s.want)
		if s.message != "" {
			messages += s.message + "\n"
		}
		eventually(t, "the lamp got "+messages, func() bool { return lamp.String() == messages })
	}
	g.samples(t,
		sample{"ChangeColorIntent", "{}", 500, "no Alexa IntentRequest"},
		sample{"ChangeColorIntent", "hello", 500, "no Alexa request"},
		sample{"ChangeColorIntent", `"` + strings.Repeat("x", 128<<10) + `"`, 500, "more than 131072 bytes"},
	)
	t.Run("real bodies", func(t *testing.T) {
		body, err := os.ReadFile(payloads + "/alexa/IntentRequest.json")
		if err != nil {
			t.Skip("needs the collection of bodies")
		}
		g.samples(t, sample{"ChangeColorIntent", string(body), 200, "I heard no colour"})
	})
}

// What a machine lacks is said by the functions that need it, and only by them.
func TestMissingInterpreter(t *testing.T) {
	t.Parallel()
	g := newGateway(t, map[string]string{
		"Caddyfile": strings.Replace(site, "EXTRA", "", 1),
		"stack.yml": "functions:\n  python:\n    fprocess: python3 handler.py\n  node:\n    handler: .\n    fprocess: node handler.js\n  echo:\n    fprocess: cat\n",
	})
	cat := needs(t, "cat")
	if err := os.Mkdir(g.dir+"/bin", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(cat, g.dir+"/bin/cat"); err != nil {
		t.Fatal(err)
	}
	g.env = []string{"PATH=" + binDir + ":" + g.dir + "/bin"}
	g.start(t)
	g.samples(t,
		sample{"echo", "hello", 200, "hello"},
		sample{"python", "", 503, `command "python3" not found on PATH`},
		sample{"node", "", 503, `command "node" not found in ` + g.dir + ` or on PATH`},
	)
}

func TestLive(t *testing.T) {
	t.Parallel()
	g := shippedGateway(t)
	g.samples(t, sample{"live/events?every=1ms", "", 405, ""})
	for path, want := range map[string]string{"": "/events", "/events?every=1ns": "every: want"} {
		if a := g.call(t, "GET", "/function/live"+path, ""); !strings.Contains(a.body, want) {
			t.Errorf("%s: %d %s", path, a.StatusCode, a.body)
		}
	}

	// Each event arrives while the next one has not been sent: an hour lies between them.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	get := func(address string) *bufio.Reader {
		r, err := http.NewRequestWithContext(ctx, "GET", address, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := g.client.Do(r)
		if err != nil || resp.Header.Get("Content-Type") != "text/event-stream" {
			t.Fatalf("%s: %v, %+v", address, err, resp)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return bufio.NewReader(resp.Body)
	}
	event := func(r *bufio.Reader, prefix string) {
		t.Helper()
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatalf("waiting for %q: %v", prefix, err)
			}
			if strings.HasPrefix(line, prefix) {
				return
			}
		}
	}
	event(get(g.url+"/function/live/events?every=1h"), "data: 20")
	many := get(g.url + "/function/live/events?every=10ms")
	for range 3 {
		event(many, "data: 20")
	}
	ws := dialSocket(t, strings.TrimPrefix(g.url, "http://"), "/function/live/ws")
	for _, text := range []string{"hello", "again"} {
		ws.send(t, text)
		if kind, got := ws.receive(t); kind != 0x81 || got != text {
			t.Errorf("%q came back as %#x %q", text, kind, got)
		}
	}

	// On SIGTERM the server itself ends what is open as its protocol says.
	port := freePort(t)
	server := exec.CommandContext(ctx, g.dir+"/functions/live/handler")
	server.Env = []string{"PORT=" + port}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server accepts", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	stream := get("http://127.0.0.1:" + port + "/events?every=1h")
	event(stream, "data: 20")
	ws = dialSocket(t, "127.0.0.1:"+port, "/ws")
	server.Process.Signal(syscall.SIGTERM)
	event(stream, "event: end")
	if kind, got := ws.receive(t); kind != 0x88 || !strings.HasPrefix(got, "\x03\xe9") { // 1001, going away
		t.Errorf("the last frame is %#x %q", kind, got)
	}
	ws.Close()
	if err := server.Wait(); err != nil {
		t.Errorf("the server ends with %v", err)
	}
}

// socket is a WebSocket of short unfragmented messages.
type socket struct {
	net.Conn
	r *bufio.Reader
}

func dialSocket(t *testing.T, host, path string) *socket {
	t.Helper()
	c, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", path, host)
	s := &socket{c, bufio.NewReader(c)}
	resp, err := http.ReadResponse(s.r, nil)
	if err != nil || resp.StatusCode != 101 || resp.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("%s: %v, %+v", path, err, resp)
	}
	return s
}

// send sends a text, masked with zeros.
func (s *socket) send(t *testing.T, text string) {
	t.Helper()
	if _, err := s.Write(append([]byte{0x81, 0x80 | byte(len(text)), 0, 0, 0, 0}, text...)); err != nil {
		t.Fatal(err)
	}
}

// receive returns the first byte of the next frame, and its payload.
func (s *socket) receive(t *testing.T) (byte, string) {
	t.Helper()
	head := make([]byte, 2)
	if _, err := io.ReadFull(s.r, head); err != nil {
		t.Fatal(err)
	}
	payload := make([]byte, head[1])
	if _, err := io.ReadFull(s.r, payload); err != nil {
		t.Fatal(err)
	}
	return head[0], string(payload)
}

// background runs a program until the test ends, and returns what it prints.
func (g *gateway) background(t *testing.T, program string, args ...string) *logBuffer {
	t.Helper()
	var out logBuffer
	ctx, cancel := context.WithCancel(t.Context())
	c := exec.CommandContext(ctx, program, args...)
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		c.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", program, out.tail(20))
		}
	})
	return &out
}
