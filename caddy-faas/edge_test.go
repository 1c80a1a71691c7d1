package caddyfaas

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/scale"
)

const edgeSite = `{
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
	handle /system/* {
		faas_api
	}
	handle /verified {
		faas_verify github {
			secret route
		}
		faas hook
	}
	handle_errors {
		respond "{err.message}" {err.status_code}
	}
}
`

// Each sleeps until a request that its labels let pass.
func edgeFunctions() string {
	var all strings.Builder
	all.WriteString("functions:\n")
	for name, labels := range map[string][]string{
		"users":   {"faas.auth: basic", "faas.auth.secret: ada,bob"},
		"hook":    {"faas.auth: github", "faas.auth.secret: gh"},
		"posts":   {"faas.methods: POST PUT"},
		"small":   {"faas.max_body: '10'"},
		"skill":   {"faas.auth: alexa", "faas.alexa: 'true'"},
		"wrong":   {"faas.auth: 'no one'"},
		"typo":    {"faas.auth: githbu"},
		"missing": {"faas.auth: basic", "faas.auth.secret: absent"},
		"bare":    {"faas.auth: github"},
		"half":    {"faas.auth.secret: gh"},
		"open":    {"faas.auth: none"},
	} {
		program := "cat"
		if name == "users" {
			program = `sh -c 'echo "$Http_X_Faas_User ($Http_Authorization) $(cat)"'`
		}
		fmt.Fprintf(&all, "  %s:\n    fprocess: %s\n    labels:\n      com.openfaas.scale.min: '0'\n      %s\n", name, program, strings.Join(labels, "\n      "))
	}
	return all.String()
}

func (g *gateway) secret(t *testing.T, method, name, value string) {
	t.Helper()
	if a := g.call(t, method, "/system/secrets", fmt.Sprintf(`{"name":%q,"value":%q}`, name, value)); a.StatusCode > 299 {
		t.Fatalf("%s of secret %s: %d %s", method, name, a.StatusCode, a.body)
	}
}

func login(user, password string) []string {
	r := &http.Request{Header: make(http.Header)}
	r.SetBasicAuth(user, password)
	return []string{"Authorization", r.Header.Get("Authorization")}
}

func TestEdgeByLabels(t *testing.T) {
	t.Parallel()
	g := newGateway(t, map[string]string{"Caddyfile": edgeSite, "stack.yml": edgeFunctions()})
	g.start(t)
	g.secret(t, "POST", "ada", "ada:love:lace\n")
	g.secret(t, "POST", "bob", "bob:x")
	g.secret(t, "POST", "gh", "s")
	signed := func(secret, body string) []string {
		return []string{"X-Hub-Signature-256", "sha256=" + mac(secret, body), "X-GitHub-Event", "push", "X-GitHub-Delivery", "e-" + secret}
	}
	type call struct {
		name, method, path, body string
		header                   []string
		status                   int
		want                     string
	}
	check := func(calls []call) {
		t.Helper()
		for _, tt := range calls {
			for _, chunked := range []bool{false, true} {
				var body io.Reader = strings.NewReader(tt.body)
				if chunked {
					body = io.MultiReader(body)
				}
				a, err := g.try(t.Context(), tt.method, tt.path, body, tt.header...)
				if err != nil || a.StatusCode != tt.status || !strings.Contains(a.body, tt.want) {
					t.Errorf("%s, chunked %t: %v, %d %s; want %d with %s", tt.name, chunked, err, a.StatusCode, a.body, tt.status, tt.want)
				}
			}
		}
	}
	check([]call{
		{"nobody", "POST", "/function/users", "x", nil, 401, "wants a user"},
		{"a wrong password", "POST", "/function/users", "x", login("ada", "lace"), 401, "wants a user"},
		{"another's password", "POST", "/function/users", "x", login("bob", "love:lace"), 401, "wants a user"},
		{"an empty password", "POST", "/function/users", "x", login("ada", ""), 401, "wants a user"},
		{"unsigned", "POST", "/function/hook", "x", nil, 401, "not verified"},
		{"wrongly signed", "POST", "/function/hook", "x", signed("other", "x"), 401, "not verified"},
		{"another method", "GET", "/function/posts", "", nil, 405, "takes POST, PUT only"},
		{"outside Alexa", "POST", "/function/skill", "{}", nil, 401, "verified requests of alexa only"},
		{"labels that are wrong", "POST", "/function/wrong", "x", nil, 500, "its reason says why"},
		{"labels that are wrong", "POST", "/function/typo", "x", nil, 500, "its reason says why"},
		{"a secret that is missing", "POST", "/function/missing", "x", login("", ""), 500, "its reason says why"},
		{"no secret named", "POST", "/function/bare", "x", signed("", "x"), 500, "its reason says why"},
		{"a secret for nothing", "POST", "/function/half", "x", nil, 500, "its reason says why"},
	})
	for name, want := range map[string]string{"wrong": "faas.auth", "typo": `no scheme \"githbu\"`, "missing": "secret absent", "bare": "needs a secret", "half": "want faas.auth too", "open": ""} {
		a := g.call(t, "GET", "/system/function/"+name, "")
		if wrong := strings.Count(a.body, "nobody may call it"); !strings.Contains(a.body, want) || wrong > 1 || (wrong == 1) != (want != "") {
			t.Errorf("%s: its reason is not once that of its label, %q: %s", name, want, a.body)
		}
	}
	eventually(t, "the access log says why", func() bool {
		return strings.Contains(g.log.String(), `"function":"posts.openfaas-fn","refusal":"function posts.openfaas-fn takes POST, PUT only"`)
	})
	tooLarge := func(name string) {
		t.Helper()
		for _, body := range []io.Reader{strings.NewReader("0123456789x"), io.MultiReader(strings.NewReader("01234"), strings.NewReader("56789x"))} {
			if a, err := g.try(t.Context(), "POST", "/function/small", body); err != nil || a.StatusCode != 413 {
				t.Errorf("too large %s: %v, %+v", name, err, a)
			}
		}
	}
	tooLarge("to be worth a start")
	for _, name := range []string{"users", "hook", "posts", "small", "skill", "wrong", "typo", "missing", "bare", "half"} {
		g.counts(t, fmt.Sprintf(`gateway_function_cold_starts_total{function_name="%s.openfaas-fn"}`, name), 0)
		g.counts(t, fmt.Sprintf(`gateway_service_count{function_name="%s.openfaas-fn"}`, name), 0)
	}
	check([]call{
		{"a user", "POST", "/function/users", "in", append(login("ada", "love:lace"), "X-Faas-User", "eve", "X_Faas_User", "eve", "Connection", "x-faas-user"), 200, "ada () in\n"},
		{"another user", "POST", "/function/users", "in", login("bob", "x"), 200, "bob () in\n"},
		{"a method", "PUT", "/function/posts", "in", nil, 200, "in"},
		{"small enough", "POST", "/function/small", "0123456789", nil, 200, "0123456789"},
		{"anybody", "POST", "/function/open", "in", nil, 200, "in"},
	})
	for _, duplicate := range []string{"", "true"} {
		if a := g.call(t, "POST", "/function/hook", "in", signed("s", "in")...); a.StatusCode != 200 || a.Header.Get("X-Faas-Duplicate") != duplicate {
			t.Errorf("signed: %d %s %v", a.StatusCode, a.body, a.Header)
		}
	}
	if a := g.call(t, "POST", "/verified", "in", signed("route", "in")...); a.StatusCode != 200 || a.body != "in" {
		t.Errorf("verified by the route: %d %s", a.StatusCode, a.body)
	}
	tooLarge("for what runs")
	g.secret(t, "PUT", "bob", "bob:y")
	eventually(t, "the replaced password does not count", func() bool {
		return g.call(t, "POST", "/function/users", "", login("bob", "x")...).StatusCode == 401
	})
	if a := g.call(t, "POST", "/function/users", "", login("bob", "y")...); a.StatusCode != 200 {
		t.Errorf("the new password: %d", a.StatusCode)
	}
	eventually(t, "a client that fails too often is throttled", func() bool {
		a := g.call(t, "POST", "/function/users", "", login("ada", "x")...)
		return a.StatusCode == 429 && a.Header.Get("Retry-After") != ""
	})
	g.secret(t, "POST", "absent", "eve:z")
	eventually(t, "the secret that was missing is found", func() bool {
		return g.call(t, "POST", "/function/missing", "", login("eve", "z")...).StatusCode == 200
	})
	g.write(t, "stack.yml", strings.ReplaceAll(edgeFunctions(), "POST PUT", "GET"))
	eventually(t, "a changed label counts", func() bool { return g.call(t, "POST", "/function/posts", "").StatusCode == 405 })
	a := g.call(t, "PUT", "/system/functions", `{"service":"open","image":"x","envProcess":"cat","labels":{"faas.auth":"No"}}`)
	if a.StatusCode != 400 || !strings.Contains(a.body, "faas.auth") {
		t.Errorf("deploying a wrong label: %d %s", a.StatusCode, a.body)
	}
}

func TestDomainIsAFunction(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	g := newGateway(t, map[string]string{
		"Caddyfile": strings.ReplaceAll(`{
	admin unix/DATA/admin.sock|0600
	auto_https disable_redirects
	skip_install_trust
	on_demand_tls {
		permission faas
	}
	faas {
		data DATA
		functions stack.yml
	}
}
https://:PORT {
	tls internal {
		on_demand
	}
	faas {
		domains
	}
	handle_errors {
		respond "{err.message}" {err.status_code}
	}
}
`, "PORT", port),
		"stack.yml": "functions:\n  hello:\n    fprocess: env\n    labels:\n      faas.domains: hello.example.com, Www.Hello.Example.Com\n  secret:\n    fprocess: echo secret\n",
	})
	g.start(t)
	get := func(name, host, path string) (*answer, error) {
		c := &http.Client{Transport: &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: name}, // the certificate is looked at below
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:"+port)
			},
			DisableKeepAlives: true,
		}}
		r, err := http.NewRequest("GET", "https://"+host+":"+port+path, nil)
		if err != nil {
			return nil, err
		}
		return whole(c.Do(r))
	}
	for _, name := range []string{"hello.example.com", "www.hello.example.com"} {
		a, err := get(name, name, "/function/secret?q")
		if err != nil || a.StatusCode != 200 || !strings.Contains(a.body, "Http_Path=/function/secret\n") || a.TLS.PeerCertificates[0].VerifyHostname(name) != nil {
			t.Errorf("%s: %v, %+v", name, err, a)
		}
	}
	for _, name := range []string{"other.example.com", "example.com", "evil.hello.example.com", "hello.example.com:1", "hello.example.com:x"} {
		if a, err := get(name, "hello.example.com", "/"); err == nil {
			t.Errorf("%s has a certificate, and answers %d", name, a.StatusCode)
		}
	}
	if a, err := get("hello.example.com", "other.example.com", "/"); err != nil || a.StatusCode < 400 || strings.Contains(a.body, "Http_") {
		t.Errorf("another host by a claimed name: %v, %+v", err, a)
	}
	g.write(t, "stack.yml", "functions:\n  hello:\n    fprocess: env\n    labels:\n      faas.domains: moved.example.com\n")
	eventually(t, "the new name answers", func() bool {
		a, err := get("moved.example.com", "moved.example.com", "/")
		return err == nil && a.StatusCode == 200
	})
	if a, err := get("hello.example.com", "hello.example.com", "/"); err == nil && a.StatusCode != 404 {
		t.Errorf("the old name: %d %s", a.StatusCode, a.body)
	}
}

func TestDomainClaims(t *testing.T) {
	d := newDomains(scale.NewRegistry(nil, nil, func(faas.ID) {}))
	d.Synced()
	begin := time.Unix(1, 0)
	set := func(name string, since int, domains string) {
		d.Set(faas.Deployment{Created: begin.Add(time.Duration(since)), Function: faas.Function{ID: faas.ID{Name: name, Namespace: "x"}, Labels: map[string]string{faas.LabelDomains: domains}}})
	}
	owns := func(step, host, want string) {
		t.Helper()
		if id, ok := d.owner(t.Context(), host, time.Minute); id.Name != want || ok != (want != "") {
			t.Errorf("%s: %s is %s's, want %q's", step, host, id.Name, want)
		}
	}
	set("young", 2, "a.example.com b.example.com")
	owns("one", "A.example.com.:443", "young")
	set("old", 1, "a.example.com")
	owns("the older one", "a.example.com", "old")
	owns("the other name", "b.example.com", "young")
	set("old", 1, "c.example.com")
	owns("given up", "a.example.com", "young")
	d.Delete(faas.ID{Name: "young", Namespace: "x"})
	owns("deleted", "a.example.com", "")
	owns("nobody's", "d.example.com", "")
	d.Delete(faas.ID{Name: "old", Namespace: "x"})
	if len(d.claims)+len(d.of) != 0 {
		t.Errorf("remembers %v, %v", d.claims, d.of)
	}
}
