package caddyfaas

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
)

// shippedGateway runs the repository's own Caddyfile, edited, with its own functions.
func shippedGateway(t *testing.T, edits ...string) *gateway {
	t.Helper()
	g := newGateway(t, nil)
	caddyfile := strings.NewReplacer(edits...).Replace(read(t, "../Caddyfile"))
	if err := os.WriteFile(g.dir+"/Caddyfile", []byte(caddyfile), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(g.dir+"/functions", os.DirFS("../functions")); err != nil {
		t.Fatal(err)
	}
	if out, err := g.caddy("faas", "init", "--site", g.url).CombinedOutput(); err != nil {
		t.Fatalf("caddy faas init: %v\n%s", err, out)
	}
	g.start(t)
	return g
}

// admin sends a request with the password that caddy faas init has made.
func (g *gateway) asAdmin(t *testing.T, method, path, body string) *answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, g.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("admin", strings.TrimSpace(read(t, g.data()+"/admin.password")))
	return g.do(t, r)
}

func TestAPI(t *testing.T) {
	g := shippedGateway(t)
	for _, path := range []string{"/system/functions", "/system/info", "/system/function/echo", "/system/"} {
		if a := g.call(t, "GET", path, ""); a.StatusCode != 401 {
			t.Errorf("%s without a password: %d", path, a.StatusCode)
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
	a := g.asAdmin(t, "GET", "/system/functions", "")
	if err := json.Unmarshal([]byte(a.body), &list); err != nil || len(list) != 6 {
		t.Fatalf("%s: %v", a.body, err)
	}
	if f := list[0]; f.Name != "HostnameIntent" || f.Namespace != "openfaas-fn" || f.Replicas != 1 || f.Labels["faas.alexa"] != "true" || f.Labels["faas_function"] != f.Name {
		t.Errorf("first function %+v", f)
	}
	if a := g.asAdmin(t, "GET", "/system/functions?namespace=other", ""); a.StatusCode != 200 || a.body != "[]\n" {
		t.Errorf("an empty namespace: %d %s", a.StatusCode, a.body)
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
	check(shippedGateway(t),
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
