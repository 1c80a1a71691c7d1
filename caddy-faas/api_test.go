package caddyfaas

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-faas/faas/caddy-faas/stack"
)

// shippedGateway runs the repository's own Caddyfile, edited, with its own functions.
func shippedGateway(t *testing.T, edits ...string) *gateway {
	t.Helper()
	g := newShipped(t, edits...)
	g.start(t)
	return g
}

// newShipped is shippedGateway before it starts.
func newShipped(t *testing.T, edits ...string) *gateway {
	t.Helper()
	if err := buildSamples(); err != nil {
		t.Fatal(err)
	}
	g := newGateway(t, nil)
	caddyfile := strings.NewReplacer(edits...).Replace(read(t, "../Caddyfile"))
	if err := os.WriteFile(g.dir+"/Caddyfile", []byte(caddyfile), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(g.dir+"/functions", os.DirFS("../functions")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(g.dir+"/routes", os.DirFS("../routes")); err != nil {
		t.Fatal(err)
	}
	g.prepare(t)
	return g
}

// adminPassword is what adminHash is of, with the least cost: with the race detector the usual one takes seconds for each login.
const (
	adminPassword = "secret"
	adminHash     = "$2a$04$3wGnD1xGUZVrzKmidcW2.Oc0tSFU.3GHIW/o2PVoX3sDdGaeXNd4m"
)

// prepare makes the state directory, and the admin password in it.
func (g *gateway) prepare(t *testing.T) {
	t.Helper()
	err := os.MkdirAll(g.data(), 0o711)
	for name, text := range map[string]string{"admin.password": adminPassword, "admin.hash": adminHash} {
		if err == nil {
			err = os.WriteFile(filepath.Join(g.data(), name), []byte(text+"\n"), 0o600)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := g.caddy("faas", "init", "--site", g.url).CombinedOutput(); err != nil {
		t.Fatalf("caddy faas init: %v\n%s", err, out)
	}
}

// asAdmin sends a request with the admin password.
func (g *gateway) asAdmin(t *testing.T, method, path, body string) *answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, g.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("admin", adminPassword)
	a := g.do(t, r)
	isDescribed(t, method, path, a.StatusCode, a.Header, a.body)
	isTaken(t, method, path, body, a.StatusCode)
	return a
}

func TestAPI(t *testing.T) {
	t.Parallel()
	g := shippedGateway(t)
	for _, path := range []string{"/system/functions", "/system/info", "/system/function/echo", "/system/"} {
		a := g.call(t, "GET", path, "")
		if a.StatusCode != 401 || a.body != "invalid credentials" || a.Header.Get("WWW-Authenticate") != `Basic realm="Restricted"` {
			t.Errorf("%s without a password: %d %v %s", path, a.StatusCode, a.Header, a.body)
		}
	}
	if i, err := os.Stat(g.admin); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("admin socket: %v, %v", i.Mode(), err)
	}

	var list []struct {
		Name, Namespace string
		Replicas        int
		Labels          map[string]string
	}
	declared, _, err := stack.Read(g.dir + "/functions/stack.yml")
	if err != nil {
		t.Fatal(err)
	}
	a := g.asAdmin(t, "GET", "/system/functions", "")
	if err := json.Unmarshal([]byte(a.body), &list); err != nil || len(list) != len(declared) {
		t.Fatalf("%s: %v", a.body, err)
	}
	if f := list[0]; f.Name != "CaptainsIntent" || f.Namespace != "openfaas-fn" || f.Replicas != 1 || f.Labels["faas.alexa"] != "true" || f.Labels["faas_function"] != f.Name {
		t.Errorf("first function %+v", f)
	}
	if a := g.asAdmin(t, "GET", "/system/functions?namespace=other", ""); a.StatusCode != 404 || !strings.Contains(a.body, "other") {
		t.Errorf("an unknown namespace: %d %s", a.StatusCode, a.body)
	}

	status := func() (s struct {
		Replicas, AvailableReplicas int
		InvocationCount             float64
	}) {
		t.Helper()
		a := g.asAdmin(t, "GET", "/system/function/echo.openfaas-fn", "")
		if err := json.Unmarshal([]byte(a.body), &s); err != nil || a.StatusCode != 200 {
			t.Fatalf("%d %s: %v", a.StatusCode, a.body, err)
		}
		return s
	}
	for _, n := range []int{3, 0, 1} {
		if a := g.asAdmin(t, "POST", "/system/scale-function/echo", `{"serviceName":"echo","replicas":`+string(rune('0'+n))+`}`); a.StatusCode != 202 {
			t.Fatalf("scaling to %d: %d %s", n, a.StatusCode, a.body)
		}
		eventually(t, "it has the replicas", func() bool { s := status(); return s.Replicas == n && s.AvailableReplicas == n })
	}
	g.call(t, "POST", "/function/echo", "x")
	if s := status(); s.InvocationCount != 1 {
		t.Errorf("%g invocations of 1", s.InvocationCount)
	}

	errors := []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/system/function/nobody", "", 404, "nobody"},
		{"POST", "/system/scale-function/nobody", `{"replicas":1}`, 404, "nobody"},
		{"POST", "/system/scale-function/echo", `{"replicas":-1}`, 400, "replicas"},
		{"POST", "/system/scale-function/echo", `{}`, 400, "replicas"},
		{"POST", "/system/scale-function/echo", `{"replicas":"1"}`, 400, "replicas"},
		{"POST", "/system/scale-function/echo", `{`, 400, "body"},
		{"GET", "/system/scale-function/echo", "", 405, "want POST"},
		{"DELETE", "/system/info", "", 405, "want GET"},
		{"GET", "/system/nothing", "", 404, "/system/"},
	}
	for _, tt := range errors {
		if a := g.asAdmin(t, tt.method, tt.path, tt.body); a.StatusCode != tt.status || !strings.Contains(a.body, tt.want) {
			t.Errorf("%s %s %s: %d %s, want %d with %q", tt.method, tt.path, tt.body, a.StatusCode, a.body, tt.status, tt.want)
		}
	}
	if a := g.asAdmin(t, "GET", "/system/info", ""); !strings.Contains(a.body, `"orchestration":"local"`) {
		t.Errorf("info: %s", a.body)
	}
}

func TestShippedSite(t *testing.T) {
	t.Parallel()
	intent := read(t, "../functions/HostnameIntent/intent.json")
	type request struct {
		method, path, body string
		status             int
		want               string
	}
	check := func(g *gateway, requests ...request) {
		t.Helper()
		for _, r := range requests {
			a := g.call(t, r.method, r.path, r.body, "Content-Type", "application/json")
			if a.StatusCode != r.status || !strings.Contains(a.body, r.want) {
				t.Errorf("%s %s: %d %.200s, want %d with %q", r.method, r.path, a.StatusCode, a.body, r.status, r.want)
			}
		}
	}
	g := shippedGateway(t)
	for path, status := range map[string]int{"/": 400, "/metrics": 404} { // through a tunnel
		method := map[string]string{"/": "POST", "/metrics": "GET"}[path]
		if a := g.call(t, method, path, intent, "Content-Type", "application/json", "X-Forwarded-For", "192.0.2.1"); a.StatusCode != status {
			t.Errorf("%s for a stranger through a tunnel: %d %s", path, a.StatusCode, a.body)
		}
	}
	check(g,
		request{"GET", "/", "", 200, "/function/NAME"},
		request{"PUT", "/", "x", 400, "X-Function"},
		request{"POST", "/", "{}", 400, "X-Function"},
		request{"GET", "/nothing", "", 404, "/function/NAME"},
		request{"POST", "/", intent, 200, "Your hostname is"},
		request{"GET", "/metrics", "", 200, "gateway_service_count"},
		request{"POST", "/function/echo", strings.Repeat("x", 10_000_001), 413, "too large"},
	)
	// As it is for clients from elsewhere.
	check(shippedGateway(t, "remote_ip private_ranges", "remote_ip 192.0.2.1", "remote_ip 127.0.0.0/8 ::1", "remote_ip 192.0.2.1"),
		request{"POST", "/", intent, 400, "X-Function"},
		request{"GET", "/metrics", "", 404, "no such page"},
		request{"POST", "/function/echo", "x", 200, "x"},
	)
}

// An engine that can't be reached when the gateway starts: who manages functions is told why nothing is known of them, others aren't.
func TestUnreachableEngine(t *testing.T) {
	t.Parallel()
	g := newGateway(t, map[string]string{"Caddyfile": `{
	admin unix/DATA/admin.sock|0600
	faas {
		provider swarm {
			endpoint unix://DATA/none.sock
		}
		data DATA
	}
}
SITE {
	handle /system/* {
		faas_api
	}
	handle /healthz {
		faas_api
	}
	handle_errors {
		respond "{err.message}" {err.status_code}
	}
}
`})
	g.start(t)
	for path, told := range map[string]bool{"/system/functions": true, "/system/secrets": true, "/healthz": false} {
		a := g.call(t, "GET", path, "")
		if a.StatusCode != 503 || strings.Contains(a.body, "none.sock") != told {
			t.Errorf("%s: %d %s", path, a.StatusCode, a.body)
		}
	}
}
