package caddyfaas

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// openUISite is a Caddyfile with the page and the API below a path, for everybody.
const openUISite = `{
	admin unix/DATA/admin.sock|0600
	faas {
		data DATA
		functions stack.yml
		namespace dev
		allow {
			command *
		}
	}
}
SITE {
	handle_path /tools/* {
		handle /function/* {
			faas
		}
		handle {
			faas_api
			faas_ui
		}
	}
}
`

func newUIGateway(t *testing.T, caddyfile, stack string) *gateway {
	t.Helper()
	g := newGateway(t, map[string]string{"Caddyfile": caddyfile, "stack.yml": stack})
	g.start(t)
	return g
}

const oneEcho = "functions:\n  echo:\n    image: functions/alpine:latest\n    fprocess: cat\n"

// get asks without the client's own unpacking.
func (g *gateway) get(t *testing.T, path string, header ...string) *answer {
	t.Helper()
	return g.call(t, "GET", path, "", append([]string{"Accept-Encoding", "identity"}, header...)...)
}

func TestUIFiles(t *testing.T) {
	t.Parallel()
	g := newUIGateway(t, openUISite, "functions: {}\n")
	page := g.get(t, "/tools/ui/")
	policy := page.Header.Get("Content-Security-Policy")
	if page.StatusCode != 200 || page.Header.Get("Content-Type") != "text/html; charset=utf-8" || page.Header.Get("Cache-Control") != "no-cache" {
		t.Fatalf("%d %v", page.StatusCode, page.Header)
	}
	if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") || regexp.MustCompile(`<script>|\son\w+=|\sstyle=|//`).MatchString(strings.ReplaceAll(page.body, "<!doctype html>", "")) {
		t.Errorf("policy %s for %s", policy, page.body)
	}
	if a := g.get(t, "/tools/ui/", "If-None-Match", page.Header.Get("ETag")); a.StatusCode != 304 || a.body != "" {
		t.Errorf("the same page again: %d %.50s", a.StatusCode, a.body)
	}
	total := len(page.body)
	files := regexp.MustCompile(`(?:src|href)="([^"#]+)"`).FindAllStringSubmatch(page.body, -1)
	if len(files) < 10 {
		t.Fatalf("the page names %d files", len(files))
	}
	seen := make(map[string]bool)
	for _, f := range files {
		if seen[f[1]] {
			continue
		}
		seen[f[1]] = true
		a := g.get(t, "/tools/ui/"+f[1])
		total += len(a.body)
		if a.StatusCode != 200 || !strings.Contains(a.Header.Get("Cache-Control"), "immutable") || a.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v", f[1], a.StatusCode, a.Header)
		}
		packed := g.call(t, "GET", "/tools/ui/"+f[1], "", "Accept-Encoding", "br, gzip")
		z, err := gzip.NewReader(strings.NewReader(packed.body))
		if err != nil || packed.Header.Get("Content-Encoding") != "gzip" || packed.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%s packed: %v %v", f[1], err, packed.Header)
			continue
		}
		if plain, err := io.ReadAll(z); err != nil || string(plain) != a.body {
			t.Errorf("%s unpacked is something else (%v)", f[1], err)
		}
		if strings.HasSuffix(f[1], ".js") {
			for _, m := range regexp.MustCompile(`from '\./(\w+\.js)'`).FindAllStringSubmatch(a.body, -1) {
				if !strings.Contains(page.body, "/"+m[1]+`"`) {
					t.Errorf("%s imports %s, which the page does not name: it would come a round trip later", f[1], m[1])
				}
			}
		}
	}
	if total > 200_000 {
		t.Errorf("the page and its files have %d bytes", total)
	}
	hash, _, _ := strings.Cut(files[0][1], "/")
	preview := g.get(t, "/tools/ui/"+hash+"/preview.html")
	if p := preview.Header.Get("Content-Security-Policy"); !strings.Contains(p, "sandbox allow-scripts;") && !strings.HasSuffix(p, "sandbox allow-scripts") || !strings.Contains(p, "script-src 'sha256-") {
		t.Errorf("the preview's policy: %s", p)
	}
	for path, status := range map[string]int{
		"/tools/ui/" + hash + "/other.js": 404, "/tools/ui/000000000000/app.js": 404, "/tools/ui/other": 404, "/tools/ui/index.html": 404,
		"/tools/ui/history?function=nobody": 404, "/tools/ui/state": 200, "/tools/ui/history?function=": 404,
	} {
		if a := g.get(t, path); a.StatusCode != status && (status != 404 || a.body != "") {
			t.Errorf("%s: %d, want %d", path, a.StatusCode, status)
		}
	}
	if a := g.call(t, "POST", "/tools/ui/state", "x"); a.StatusCode != 405 || a.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d %v", a.StatusCode, a.Header)
	}
	if a := g.call(t, "HEAD", "/tools/ui/", ""); a.StatusCode != 200 || a.body != "" {
		t.Errorf("HEAD: %d %.50s", a.StatusCode, a.body)
	}
}

// The shipped Caddyfile asks for the password, and shows browsers the way.
func TestUIShipped(t *testing.T) {
	t.Parallel()
	g := shippedGateway(t)
	for _, path := range []string{"/ui/", "/ui/state", "/ui/events", "/ui/history?function=echo"} {
		if a := g.call(t, "GET", path, ""); a.StatusCode != 401 || strings.Contains(a.body, "echo") {
			t.Errorf("%s without a password: %d %.100s", path, a.StatusCode, a.body)
		}
	}
	if a := g.asAdmin(t, "GET", "/ui/", ""); a.StatusCode != 200 {
		t.Errorf("with the password: %d", a.StatusCode)
	}
	if a := g.call(t, "GET", "/", "", "Accept", "text/html,*/*"); a.StatusCode != 307 || a.Header.Get("Location") != "ui/" {
		t.Errorf("/ in a browser: %d %v", a.StatusCode, a.Header)
	}
	if a := g.call(t, "GET", "/ui", ""); a.StatusCode != 308 || a.Header.Get("Location") != "ui/" {
		t.Errorf("/ui: %d %v", a.StatusCode, a.Header)
	}
	if a := g.call(t, "GET", "/", ""); a.StatusCode != 200 || !strings.Contains(a.body, "/function/NAME") {
		t.Errorf("/ by curl: %d %s", a.StatusCode, a.body)
	}
}

// shown is what a viewer learns.
type shown struct {
	Position  string
	System    *uiSystem
	Functions []uiRow
	Removed   []string
	Events    []struct{ Function, Kind, Text string }
}

func (c *shown) row(id string) *uiRow {
	for i := range c.Functions {
		if c.Functions[i].ID == id {
			return &c.Functions[i]
		}
	}
	return nil
}

// viewer reads the event stream.
type viewer struct {
	t     *testing.T
	body  io.ReadCloser
	lines *bufio.Scanner
	last  string // event ID
}

func (g *gateway) view(t *testing.T, lastID string) *viewer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", g.url+"/tools/ui/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	if lastID != "" {
		r.Header.Set("Last-Event-ID", lastID)
	}
	resp, err := g.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	t.Cleanup(func() { resp.Body.Close() })
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	return &viewer{t: t, body: resp.Body, lines: lines}
}

// next waits for the next message; nil at the end.
func (v *viewer) next() *shown {
	v.t.Helper()
	timer := time.AfterFunc(patience, func() { v.body.Close() })
	defer timer.Stop()
	for v.lines.Scan() {
		if id, ok := strings.CutPrefix(v.lines.Text(), "id: "); ok {
			v.last = id
		}
		if data, ok := strings.CutPrefix(v.lines.Text(), "data: "); ok {
			c := new(shown)
			if err := json.Unmarshal([]byte(data), c); err != nil {
				v.t.Fatal(err)
			}
			if c.Position != v.last {
				v.t.Errorf("position %s in the message of ID %s", c.Position, v.last)
			}
			return c
		}
	}
	return nil
}

// until waits for a message that is as wanted.
func (v *viewer) until(what string, ok func(*shown) bool) *shown {
	v.t.Helper()
	for c := v.next(); c != nil; c = v.next() {
		if ok(c) {
			return c
		}
	}
	v.t.Fatalf("the stream ended before %s", what)
	return nil
}

func TestUIEvents(t *testing.T) {
	t.Parallel()
	g := newUIGateway(t, openUISite, oneEcho)
	eventually(t, "echo is ready", func() bool { return g.call(t, "POST", "/tools/function/echo", "x").StatusCode == 200 })
	v := g.view(t, "")
	first := v.next()
	if first.System == nil || first.System.Provider != "local" || len(first.Functions) != 1 || first.row("echo.openfaas-fn").State != stateReady {
		t.Fatalf("the first message: %+v", first)
	}

	g.call(t, "POST", "/tools/function/echo", "x")
	c := v.until("the invocation is told", func(c *shown) bool {
		r := c.row("echo.openfaas-fn")
		return r != nil && r.Total > first.Functions[0].Total
	})
	if r := c.row("echo.openfaas-fn"); c.System != nil || r.Rate <= 0 || r.P50 <= 0 || r.P99 < r.P50 || r.Failures != 0 {
		t.Errorf("%+v", r)
	}

	g.want(t, 202, "POST", "/tools/system/functions", `{"service":"bad","namespace":"dev","image":"x","envProcess":"sh -c 'exit 3'"}`)
	v.until("bad is there", func(c *shown) bool { return c.row("bad.dev") != nil })
	g.call(t, "POST", "/tools/function/bad.dev", "")
	v.until("the failure is told", func(c *shown) bool {
		return len(c.Events) > 0 && c.Events[len(c.Events)-1].Kind == "failed" && strings.Contains(c.Events[len(c.Events)-1].Text, "500")
	})
	v.until("its rate of failures", func(c *shown) bool { r := c.row("bad.dev"); return r != nil && r.Failures > 0 })

	// Who comes back learns what changed meanwhile, and no more.
	v.body.Close()
	g.want(t, 202, "DELETE", "/tools/system/functions", `{"functionName":"bad","namespace":"dev"}`)
	g.want(t, 202, "POST", "/tools/system/scale-function/echo", `{"replicas":0}`)
	v = g.view(t, v.last)
	kinds, removed := "", ""
	c = v.until("echo is at zero", func(c *shown) bool {
		for _, e := range c.Events {
			kinds += e.Kind + " "
		}
		removed += strings.Join(c.Removed, " ")
		r := c.row("echo.openfaas-fn")
		return r != nil && r.Desired == 0
	})
	if c.System != nil || removed != "bad.dev" || kinds != "removed scaled " {
		t.Errorf("after a while away: removed %q, events %q, %+v", removed, kinds, c)
	}

	// A reload ends the stream; the next one goes on where it was.
	id := v.last
	g.reload(t)
	for v.next() != nil {
	}
	g.call(t, "POST", "/tools/function/echo", "x")
	v = g.view(t, id)
	v.until("the woken function is told", func(c *shown) bool {
		if c.System != nil {
			t.Errorf("after a reload everything is told anew: %+v", c)
		}
		r := c.row("echo.openfaas-fn")
		return r != nil && r.Ready == 1 && r.Total > first.Functions[0].Total+1
	})
	// After a restart everything is told anew.
	v.body.Close()
	g.stop(t, syscall.SIGTERM)
	g.start(t)
	eventually(t, "all is told", func() bool { c := g.view(t, id).next(); return c.System != nil && len(c.Functions) == 1 })
}

// The history counts what ended, in steps, and stays over a reload.
func TestUIHistory(t *testing.T) {
	t.Parallel()
	g := newUIGateway(t, openUISite, oneEcho)
	eventually(t, "echo is ready", func() bool { return g.call(t, "POST", "/tools/function/echo", "x").StatusCode == 200 })
	for range 4 {
		g.call(t, "POST", "/tools/function/echo", "x")
	}
	g.reload(t)
	eventually(t, "the step is over", func() bool {
		var h uiHistory
		if err := json.Unmarshal([]byte(g.get(t, "/tools/ui/history?function=echo").body), &h); err != nil {
			t.Fatal(err)
		}
		total := uint32(0)
		for _, n := range h.Ended {
			total += n
		}
		last := len(h.Ended) - 1
		return total >= 5 && h.Ready[last] == 1 && h.Desired[last] == 1 && len(h.P99) == last+1
	})
}

// Whatever a viewer claims to know, it is told everything or what it lacks.
func FuzzPosition(f *testing.F) {
	for _, s := range []string{"", "-", "18eb-1-2", "x-99999999999999999999-1", "a-1-", "--1--1", position{"b", 3, 4}.String()} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p := parsePosition(s)
		if again := parsePosition(p.String()); p.boot != "" && again != p {
			t.Errorf("%q: %+v, then %+v", s, p, again)
		}
	})
}

// A function that isn't OpenFaaS's text is text on the way, too.
func TestUIText(t *testing.T) {
	t.Parallel()
	g := newUIGateway(t, openUISite, "functions: {}\n")
	g.want(t, 202, "POST", "/tools/system/functions", `{"service":"odd","image":"<img src=x onerror=alert(1)>","envProcess":"cat","labels":{"com.openfaas.scale.min":"0"}}`)
	b := []byte(g.get(t, "/tools/ui/state").body)
	if bytes.Contains(b, []byte("<")) || !json.Valid(b) {
		t.Errorf("%s", b)
	}
}
