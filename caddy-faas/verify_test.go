package caddyfaas

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-faas/faas/caddy-faas/verify"
)

const hooks = `{
	admin unix/DATA/admin.sock|0600
	faas {
		data DATA
		functions stack.yml
	}
}
SITE {
	log
	handle /metrics {
		metrics {
			disable_openmetrics
		}
	}
	handle /function/* {
		faas
	}
	handle /github {
		faas_verify github {
			secret_file secret
			secret old
			events push pull_request star
			max_body 100KB
		}
		faas github-{faas.verify.event} {
			fallback other
		}
	}
	handle /slack {
		faas_verify slack {
			secret s
		}
		faas echo
	}
	handle /pay {
		faas_verify hmac {
			secret s
			header X-Sig
			delivery_header X-Id
			event_header X-Event
		}
		faas pay-{faas.verify.event} {
			fallback other
		}
	}
	handle_errors {
		respond "{err.message}" {err.status_code}
	}
}
`

// github-star fails as long as there is no file "mend" in its gateway's folder.
const hookFunctions = `functions:
  echo:
    fprocess: cat
  other:
    fprocess: sh -c 'cat >/dev/null; echo other; env'
  github-push:
    fprocess: cat
  github-pull_request:
    fprocess: sh -c 'cat >/dev/null; env'
  github-star:
    fprocess: sh -c 'cat >/dev/null; echo run >> DIR/runs; cat DIR/mend'
`

func newHooks(t *testing.T) *gateway {
	g := newGateway(t, map[string]string{"Caddyfile": hooks, "secret": "new\n"})
	if err := os.Chmod(g.dir, 0o777); err != nil { // functions run as others
		t.Fatal(err)
	}
	g.write(t, "stack.yml", strings.ReplaceAll(hookFunctions, "DIR", g.dir))
	g.start(t)
	return g
}

func mac(secret, text string) string {
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte(text))
	return hex.EncodeToString(m.Sum(nil))
}

// github sends an event as GitHub does.
func (g *gateway) github(t *testing.T, secret, event, delivery, body string) *answer {
	t.Helper()
	return g.call(t, "POST", "/github", body, "X-Hub-Signature-256", "sha256="+mac(secret, body), "X-GitHub-Event", event, "X-GitHub-Delivery", delivery)
}

// hookBody is a real body, or one like it.
func hookBody(t *testing.T, name string) string {
	b, err := os.ReadFile(filepath.Join(payloads, name))
	if err != nil {
		t.Logf("no folder of real request bodies beside the repository: %v", err)
		return `{"ref":"refs/heads/main"}`
	}
	return string(b)
}

func TestVerifiedHooks(t *testing.T) {
	t.Parallel()
	g := newHooks(t)
	push := hookBody(t, "github/push.json")
	stamp := fmt.Sprint(time.Now().Unix())
	slack := func(body string) []string {
		return []string{"X-Slack-Request-Timestamp", stamp, "X-Slack-Signature", "v0=" + mac("s", "v0:"+stamp+":"+body)}
	}
	challenge := `{"type":"url_verification","challenge":"3eZbrw1a"}`
	form := "command=%2Fdeploy&text=a+b&trigger_id=1.2"
	tests := []struct {
		name, path, body string
		header           []string
		status           int
		want             string // the answer's body, or a part of it
	}{
		{"an event's function", "/github", push, []string{"X-Hub-Signature-256", "sha256=" + mac("new", push), "X-GitHub-Event", "push"}, 200, push},
		{"the older secret", "/github", push, []string{"X-Hub-Signature-256", "sha256=" + mac("old", push), "X-GitHub-Event", "push"}, 200, push},
		{"another event's", "/github", push, []string{"X-Hub-Signature-256", "sha256=" + mac("new", push), "X-GitHub-Event", "pull_request", "X-GitHub-Delivery", "d-1"}, 200, "Http_X_Faas_Delivery=d-1\n"},
		{"an event that isn't wanted", "/github", push, []string{"X-Hub-Signature-256", "sha256=" + mac("new", push), "X-GitHub-Event", "fork"}, 204, ""},
		{"ping", "/github", push, []string{"X-Hub-Signature-256", "sha256=" + mac("new", push), "X-GitHub-Event", "ping"}, 200, "pong"},
		{"no signature", "/github", push, []string{"X-GitHub-Event", "push"}, 401, "not verified as a request of github"},
		{"another body's", "/github", push, []string{"X-Hub-Signature-256", "sha256=" + mac("new", "x"), "X-GitHub-Event", "push"}, 401, "not verified as a request of github"},
		{"another secret's", "/github", push, []string{"X-Hub-Signature-256", "sha256=" + mac("none", push), "X-GitHub-Event", "push"}, 401, "not verified as a request of github"},
		{"no hex", "/github", push, []string{"X-Hub-Signature-256", "sha256=x"}, 400, "not verified as a request of github"},
		{"too large", "/github", strings.Repeat("x", 100_001), []string{"X-Hub-Signature-256", "sha256=" + mac("new", strings.Repeat("x", 100_001))}, 413, "more than 100000 bytes"},
		{"as large as may be", "/github", strings.Repeat("x", 100_000), []string{"X-Hub-Signature-256", "sha256=" + mac("new", strings.Repeat("x", 100_000)), "X-GitHub-Event", "push"}, 200, strings.Repeat("x", 100_000)},
		{"empty", "/github", "", []string{"X-Hub-Signature-256", "sha256=" + mac("new", ""), "X-GitHub-Event", "push"}, 200, ""},
		{"Slack's form", "/slack", form, slack(form), 200, form},
		{"Slack's challenge", "/slack", challenge, slack(challenge), 200, "3eZbrw1a"},
		{"a challenge that isn't Slack's", "/slack", challenge, slack("x"), 401, "not verified"},
		{"an event that no function has", "/pay", "x", []string{"X-Sig", mac("s", "x"), "X-Event", "none"}, 200, "other\n"},
		{"no event", "/pay", "x", []string{"X-Sig", mac("s", "x")}, 200, "other\n"},
		{"an event that would be a namespace", "/pay", "x", []string{"X-Sig", mac("s", "x"), "X-Event", "x.kube-system"}, 200, "Http_X_Faas_Event=x.kube-system\n"},
		{"an event that would be a path", "/pay", "x", []string{"X-Sig", mac("s", "x"), "X-Event", "../../system"}, 200, "other\n"},
	}
	for _, tt := range tests {
		for _, chunked := range []bool{false, true} {
			var body io.Reader = strings.NewReader(tt.body)
			if chunked {
				body = io.MultiReader(body)
			}
			a, err := g.try(t.Context(), "POST", tt.path, body, append(tt.header, "X-Faas-Scheme", "forged", "X-Faas-Other", "forged", "X-Alexa-Intent", "forged", "X-Function", "echo")...)
			if err != nil || a.StatusCode != tt.status || !strings.Contains(a.body, tt.want) {
				t.Errorf("%s, chunked %t: %v, got %d %.300q, want %d with %.100q", tt.name, chunked, err, a.StatusCode, a.body, tt.status, tt.want)
			}
			if strings.Contains(a.body, "forged") {
				t.Errorf("%s: the client's header reached the function: %s", tt.name, a.body)
			}
			if strings.Contains(strings.Join(tt.header, " "), "d-1") || strings.Contains(tt.body, "trigger_id") {
				break // the second one would be a duplicate
			}
		}
	}
	if a := g.call(t, "POST", "/function/other", "", "X-Faas-Scheme", "github", "X-Faas-Event", "push", "X-Alexa-Intent", "x"); strings.Contains(a.body, "Http_X_Faas") || strings.Contains(a.body, "Http_X_Alexa") {
		t.Errorf("a function was told that a request is verified which is not:\n%s", a.body)
	}
	for result, n := range map[string]float64{"unsigned": 2, "mismatch": 4, "malformed": 2, "too-large": 2, "replied": 2, "ignored": 2} {
		g.counts(t, fmt.Sprintf(`faas_verify_total{result=%q,scheme="github"}`, result), n)
	}
	eventually(t, "the access log has the reason", func() bool {
		return strings.Contains(g.log.String(), `"refusal":"mismatch: the signature is of another body, or by another secret"`)
	})
}

// A delivery counts as such once it was answered with 2xx, and across reloads.
func TestDeliveryIsTakenOnce(t *testing.T) {
	t.Parallel()
	g := newHooks(t)
	runs := func() int {
		b, _ := os.ReadFile(filepath.Join(g.dir, "runs"))
		return strings.Count(string(b), "run")
	}
	if a := g.github(t, "new", "star", "d1", "{}"); a.StatusCode != 500 {
		t.Fatalf("the function did not fail: %d %s", a.StatusCode, a.body)
	}
	g.write(t, "mend", "mended")
	for i, want := range []struct {
		id, duplicate string
		runs          int
	}{{"d1", "", 2}, {"d1", "true", 2}, {"d1", "true", 2}, {"d2", "", 3}, {"", "", 4}, {"", "", 5}} {
		if i == 2 {
			g.reload(t)
			g.client.CloseIdleConnections() // the earlier configuration may close them while one is used
		}
		a := g.github(t, "new", "star", want.id, "{}")
		if a.StatusCode != 200 || a.Header.Get("X-Faas-Duplicate") != want.duplicate || runs() != want.runs {
			t.Errorf("delivery %d: %d %s, duplicate %q, %d runs; want %+v", i, a.StatusCode, a.body, a.Header.Get("X-Faas-Duplicate"), runs(), want)
		}
	}
	// GitHub gives all hooks that want an event the same delivery.
	for _, duplicate := range []string{"", "true"} {
		a := g.call(t, "POST", "/github?hook=2", "{}", "X-Hub-Signature-256", "sha256="+mac("new", "{}"), "X-GitHub-Event", "push", "X-GitHub-Delivery", "d2")
		if a.StatusCode != 200 || a.Header.Get("X-Faas-Duplicate") != duplicate {
			t.Errorf("by another hook: %d %s, duplicate %q", a.StatusCode, a.body, a.Header.Get("X-Faas-Duplicate"))
		}
	}
	// Somebody who can't sign can't keep a delivery from being taken.
	g.github(t, "wrong", "star", "d3", "{}")
	if a := g.github(t, "new", "star", "d3", "{}"); a.Header.Get("X-Faas-Duplicate") != "" || runs() != 6 {
		t.Errorf("after a forged one: %+v, %d runs", a.Header, runs())
	}
}

func TestSecretFileChanges(t *testing.T) {
	t.Parallel()
	g := newHooks(t)
	g.write(t, "secret", "newer")
	eventually(t, "the new secret counts", func() bool { return g.github(t, "newer", "push", "", "{}").StatusCode == 200 })
	if a := g.github(t, "new", "push", "", "{}"); a.StatusCode != 401 {
		t.Errorf("the replaced secret: %d", a.StatusCode)
	}
	g.write(t, "secret", "\n")
	eventually(t, "the log tells of the empty file", func() bool {
		g.github(t, "newer", "push", "", "{}")
		return strings.Contains(g.log.String(), "reading secrets again failed")
	})
	for secret, status := range map[string]int{"": 401, "newer": 200, "old": 200} {
		if a := g.github(t, secret, "push", "", "{}"); a.StatusCode != status {
			t.Errorf("after the file became empty, secret %q: %d, want %d", secret, a.StatusCode, status)
		}
	}
	if strings.Contains(g.log.String(), "newer") {
		t.Error("a secret is in the log")
	}
}

// A request that can't be right is refused before its body comes, which is never taken for another request.
func TestUnsignedBodyIsNotAwaited(t *testing.T) {
	t.Parallel()
	g := newHooks(t)
	host := strings.TrimPrefix(g.url, "http://")
	smuggled := "GET /function/echo?smuggled HTTP/1.1\r\nHost: " + host + "\r\n\r\n"
	for _, tt := range []struct {
		header string
		length int
		status int
	}{{"", 90_000, 401}, {"", 10, 401}, {"X-Hub-Signature-256: sha256=" + mac("x", "x") + "\r\n", 100_001, 413}} {
		c, err := net.Dial("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "POST /github HTTP/1.1\r\nHost: %s\r\n%sContent-Length: %d\r\n\r\n", host, tt.header, tt.length)
		r := bufio.NewReader(c)
		resp, err := http.ReadResponse(r, nil)
		if err != nil || resp.StatusCode != tt.status || !resp.Close {
			t.Fatalf("%d bytes: %v, %+v", tt.length, err, resp)
		}
		io.Copy(io.Discard, resp.Body)
		io.WriteString(c, strings.Repeat(smuggled, 3))
		if resp, err := http.ReadResponse(r, nil); err == nil {
			t.Errorf("%d bytes: a second answer %s", tt.length, resp.Status)
		}
	}
	if strings.Contains(g.log.String(), "smuggled") {
		t.Error("a body was taken for a request")
	}
}

func TestVerifyRefusesToLoad(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, []byte("\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("FAAS_TEST_EMPTY", " ")
	for _, tt := range []struct{ name, config, want string }{
		{"no secret", "github", "want a secret or a secret_file"},
		{"unset variable", "github {\n\tsecret {env.FAAS_TEST_NONE}\n}", "FAAS_TEST_NONE"},
		{"blank variable", "github {\n\tsecret {env.FAAS_TEST_EMPTY}\n}", "empty"},
		{"unknown placeholder", "github {\n\tsecret {vault.x}\n}", "vault.x"},
		{"no file", "github {\n\tsecret_file " + dir + "/none\n}", dir + "/none"},
		{"empty file", "github {\n\tsecret_file " + empty + "\n}", "empty is empty"},
		{"an empty one of two", "github {\n\tsecret x\n\tsecret_file " + empty + "\n}", "empty is empty"},
		{"no key", "standard {\n\tsecret hunter2!\n}", "whsec_"},
		{"hmac without header", "hmac {\n\tsecret x\n}", "want header"},
		{"no skill", "alexa", "want skill_id"},
		{"no skill's ID", "alexa {\n\tskill_id hello\n}", "amzn1.ask.skill"},
		{"skill of an unset variable", "alexa {\n\tskill_id {env.FAAS_TEST_NONE}\n}", "FAAS_TEST_NONE"},
		{"Alexa with a secret", "alexa {\n\tskill_id amzn1.ask.skill.x\n\tsecret x\n}", "there is no secret"},
		{"a body that can't be held", "github {\n\tsecret x\n\tmax_body 32MiB\n}", "want less than 33554432 bytes"},
		{"unsigned time", "hmac {\n\tsecret x\n\theader X\n\ttimestamp_header T\n}", "a time that isn't signed"},
	} {
		b, err := adapt(t, ":80\nfaas_verify "+tt.config)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		err = caddy.Validate(config(t, b))
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v, want an error with %q", tt.name, err, tt.want)
		}
	}
}

func config(t *testing.T, b []byte) *caddy.Config {
	t.Helper()
	var c caddy.Config
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	return &c
}

func TestBodiesAreBounded(t *testing.T) {
	all := heldBytes
	defer func() { heldBytes = all }()
	heldBytes = newBudget(16_000)
	read := func(b *buffered, from string, size int) (*httptest.ResponseRecorder, error) {
		w, r := httptest.NewRecorder(), httptest.NewRequest("POST", "/", io.MultiReader(bytes.NewReader(make([]byte, size))))
		r.RemoteAddr = from
		err := b.read(w, r)
		if err == nil {
			if got, err := io.ReadAll(r.Body); len(got) != size || r.ContentLength != int64(size) {
				t.Errorf("%d bytes: afterwards %d can be read, length %d: %v", size, len(got), r.ContentLength, err)
			}
		}
		return w, err
	}
	// As many as are left: of 16,000 one client may have 8,000, a second one 4,000 then, and the first one no more.
	bodies := make([]buffered, 4)
	for i, tt := range []struct {
		from         string
		limit        int64
		size, status int
	}{{"192.0.2.1:1", 7_999, 7_999, 0}, {"192.0.2.1:2", 7_999, 1, 503}, {"192.0.2.2:1", 7_999, 4_500, 503}, {"192.0.2.3:1", 3_999, 3_999, 0}} {
		b := &bodies[i]
		b.limit, b.time = tt.limit, patience
		w, err := read(b, tt.from, tt.size)
		if he, _ := err.(caddyhttp.HandlerError); he.StatusCode != tt.status || tt.status == 503 && w.Header().Get("Retry-After") == "" {
			t.Errorf("%d bytes of %s: %v, %v", tt.size, tt.from, err, w.Header())
		}
		if err != nil {
			b.release()
		}
	}
	for i := range bodies {
		bodies[i].release()
	}
	if heldBytes.free != 16_000 || len(heldBytes.had) != 0 {
		t.Errorf("%d bytes are free afterwards, %v", heldBytes.free, heldBytes.had)
	}
	for size, status := range map[int]int{99: 0, 100: 0, 101: 413, 5000: 413} {
		b := buffered{limit: 100, time: patience}
		_, err := read(&b, "192.0.2.1:1", size)
		if he, _ := err.(caddyhttp.HandlerError); he.StatusCode != status {
			t.Errorf("%d bytes: %v", size, err)
		}
		if b.taken > 101 {
			t.Errorf("%d bytes: took %d of the budget", size, b.taken)
		}
		b.release()
	}
}

// A sender that is too slow is told so, and does not keep what it has taken of the budget.
func TestSlowBody(t *testing.T) {
	status := make(chan int, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b := buffered{limit: 100, time: time.Millisecond}
		err := b.read(w, r)
		b.release()
		he, _ := err.(caddyhttp.HandlerError)
		status <- he.StatusCode
	}))
	defer s.Close()
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345")
	if got := <-status; got != 408 || len(heldBytes.had) != 0 {
		t.Errorf("status %d, held: %v", got, heldBytes.had)
	}
}

// An answer that doesn't say that a delivery was taken leaves it for the next try.
func TestOnlyTakenDeliveriesCount(t *testing.T) {
	v := &Verify{scheme: "test", Replay: caddy.Duration(time.Hour)}
	for i, next := range []caddyhttp.HandlerFunc{
		func(w http.ResponseWriter, _ *http.Request) error { w.WriteHeader(500); return nil },
		func(w http.ResponseWriter, _ *http.Request) error { w.WriteHeader(302); return nil },
		func(http.ResponseWriter, *http.Request) error { return caddyhttp.Error(502, io.EOF) },
		func(http.ResponseWriter, *http.Request) error { panic(http.ErrAbortHandler) },
		func(w http.ResponseWriter, _ *http.Request) error { w.WriteHeader(204); return nil },
		func(http.ResponseWriter, *http.Request) error { t.Error("delivered again"); return nil },
	} {
		func() {
			defer func() { recover() }()
			w := httptest.NewRecorder()
			err := v.once(w, httptest.NewRequest("POST", "/", nil), next, verify.Key("test", nil, "", t.Name()))
			if duplicate := w.Header().Get("X-Faas-Duplicate") != ""; duplicate != (i == 5) {
				t.Errorf("%d: duplicate %t, %v", i, duplicate, err)
			}
		}()
	}
}

func TestReceiver(t *testing.T) {
	r := caddyhttp.PrepareRequest(httptest.NewRequest("POST", "/hook?a", nil), caddy.NewReplacer(), nil, nil)
	r.URL.Path, r.RequestURI = "/rewritten", "/rewritten"
	for _, tt := range []struct {
		function string
		unsigned bool
		want     string
	}{{"", false, ""}, {"f.ns", false, "f.ns"}, {"", true, " example.com /hook?a"}, {"f.ns", true, "f.ns example.com /hook?a"}} {
		v := &Verify{function: tt.function}
		if got := v.receiver(r, verify.Event{Unsigned: tt.unsigned}); got != tt.want {
			t.Errorf("function %q, unsigned %t: %q, want %q", tt.function, tt.unsigned, got, tt.want)
		}
	}
}

func TestEventAsName(t *testing.T) {
	for event, want := range map[string]string{"push": "push", "charge.succeeded": "charge-succeeded", "a/../b:c d": "a----b-c-d", "é": "-", "Merge_Request-1": "Merge_Request-1"} {
		if got := nameOf(event); got != want {
			t.Errorf("%q is %q, want %q", event, got, want)
		}
	}
}
