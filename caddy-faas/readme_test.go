package caddyfaas

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// example is a command of README.md and what it shows as its output, or a block to be pasted.
type example struct {
	command, output string
	block           bool
}

func examples(t *testing.T) []example {
	t.Helper()
	var all []example
	inside, block, section := false, false, ""
	for line := range strings.Lines(read(t, "../README.md")) {
		line = strings.TrimSuffix(line, "\n")
		command, ok := strings.CutPrefix(line, "$ ")
		switch {
		case strings.HasPrefix(line, "## "):
			section = line
		case line == "```sh" && section == "## Write your own function":
			block, all = true, append(all, example{block: true})
		case line == "```console":
			inside = true
		case line == "```":
			inside, block = false, false
		case block:
			all[len(all)-1].command += line + "\n"
		case inside && ok:
			all = append(all, example{command: command})
		case inside:
			all[len(all)-1].output += line + "\n"
		}
	}
	return all
}

// varies is what differs from run to run.
var varies = []struct {
	re *regexp.Regexp
	to string
}{
	{regexp.MustCompile(`\d{19}`), "NANOSECONDS"},
	{regexp.MustCompile(`hostname is [^"]+`), "hostname is HOST"},
	{regexp.MustCompile(`"rate":[0-9.e-]+`), `"rate":RATE`},
	{regexp.MustCompile(`"createdAt":"[^"]+"`), `"createdAt":TIME`},
	{regexp.MustCompile(`http://(localhost|127\.0\.0\.1):\d+`), "http://GATEWAY"},
	{regexp.MustCompile(`Created: .*`), "Created: TIME"},
	{regexp.MustCompile(`(CPU|Memory): .*\n`), ""}, // not known everywhere
	{regexp.MustCompile(`[ \t]+`), " "},
}

func normal(s string) string {
	for _, v := range varies {
		s = v.re.ReplaceAllString(s, v.to)
	}
	return strings.TrimSpace(s)
}

// What README.md shows is what its commands print, in their order; at last, for a change takes up to a second to be seen.
func TestReadme(t *testing.T) {
	t.Parallel()
	g := shippedGateway(t)
	n, blocks, skip := 0, 0, false
	for _, e := range examples(t) {
		if e.block {
			blocks++
			skip = lacks(t, e.command)
		}
		if skip && (e.block || strings.Contains(e.command, "/function/greet-")) {
			continue
		}
		if strings.Contains(e.command, "git clone") || strings.HasPrefix(e.command, "./xcaddy.sh") {
			continue // .ci/run does these
		}
		n++
		command := strings.NewReplacer("localhost:8080", strings.TrimPrefix(g.url, "http://"), ".faas/", g.data()+"/", "bin/caddy", filepath.Join(binDir, "caddy")).Replace(e.command)
		run := func() (string, error) {
			c := g.caddy()
			c.Path, c.Args, c.Err = "/bin/sh", []string{"sh", "-c", command}, nil
			c.Stderr = &g.log
			out, err := c.Output()
			return normal(string(out)), err
		}
		want := normal(e.output)
		got, err := run()
		for late := time.Now().Add(patience); (err != nil || got != want) && regexp.MustCompile(`curl |faas (invoke|describe|list)`).MatchString(e.command) && time.Now().Before(late); got, err = run() {
			<-time.After(50 * time.Millisecond)
		}
		if err != nil || got != want {
			t.Errorf("%s\nprints (%v):\n%s\nREADME.md shows:\n%s", e.command, err, got, want)
		}
	}
	if n < 10 || blocks != 5 {
		t.Errorf("found %d commands, %d blocks", n, blocks)
	}
	if python := "/functions/greet-py/handler.py"; !lacks(t, "python3") {
		if err := os.WriteFile(g.dir+python, []byte("print('changed')\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if a := g.call(t, "POST", "/function/greet-py", ""); a.body != "changed\n" {
			t.Errorf("a changed file: %s", a.body)
		}
	}
}

// lacks tells whether a block calls for an interpreter that this machine does not have.
func lacks(t *testing.T, block string) bool {
	t.Helper()
	for _, program := range []string{"python3", "node"} {
		if !strings.Contains(block, program+" ") && block != program {
			continue
		}
		if _, err := exec.LookPath(program); err != nil {
			if slices.Contains(strings.Split(os.Getenv("FAAS_TEST_REQUIRE"), ","), program) {
				t.Fatalf("needs %s", program)
			}
			t.Logf("without %s, what needs it in README.md is not tried", program)
			return true
		}
	}
	return false
}

// Caddyfiles that README.md shows in full are taken by Caddy.
func TestReadmeCaddyfiles(t *testing.T) {
	n := 0
	for _, part := range strings.Split(read(t, "../README.md"), "```caddyfile\n")[1:] {
		text, _, _ := strings.Cut(part, "```")
		if strings.Contains(text, "<") { // grammar
			continue
		}
		n++
		if _, err := adapt(t, text); err != nil {
			t.Errorf("%v:\n%s", err, text)
		}
	}
	if n < 3 {
		t.Errorf("found %d", n)
	}
}

// Browsers ask without credentials whether they may send some: that README.md's CORS lets pass, and the call not.
func TestReadmeCORS(t *testing.T) {
	_, text, _ := strings.Cut(read(t, "../README.md"), "```caddyfile\nfunctions.example.com\n")
	text, _, ok := strings.Cut(text, "```")
	sso := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/oauth2/auth" || r.Header.Get("Cookie") != "known" {
			w.WriteHeader(401)
		}
		w.Header().Set("X-Auth-Request-User", "ada")
	}))
	defer sso.Close()
	if !ok || !strings.Contains(text, "sso.example.com ") {
		t.Fatal("README.md has no such Caddyfile")
	}
	g := newGateway(t, map[string]string{"stack.yml": "functions:\n  env:\n    fprocess: env\n", "Caddyfile": "{\n\tadmin unix/DATA/admin.sock|0600\n\tfaas {\n\t\tdata DATA\n\t\tfunctions stack.yml\n\t}\n}\nSITE {\n" +
		strings.Replace(text, "sso.example.com ", strings.TrimPrefix(sso.URL, "http://")+" ", 1) + "}\n"})
	g.start(t)
	for _, tt := range []struct {
		method, cookie, want string
		status               int
	}{{"OPTIONS", "", "", 204}, {"GET", "", "", 401}, {"GET", "known", "Http_X_Auth_Request_User=ada\n", 200}} {
		a := g.call(t, tt.method, "/function/env", "", "Origin", "https://app.example.com", "Cookie", tt.cookie)
		if a.StatusCode != tt.status || !strings.Contains(a.body, tt.want) || a.Header.Get("Access-Control-Allow-Origin") != "https://app.example.com" {
			t.Errorf("%s, cookie %q: %d %s %v", tt.method, tt.cookie, a.StatusCode, a.body, a.Header)
		}
	}
}

// The tables of README.md name every label and metric that there is.
func TestReadmeIsComplete(t *testing.T) {
	readme := read(t, "../README.md")
	for file, re := range map[string]string{
		"faas/labels.go": `"((?:com\.openfaas|faas)\.[a-z._-]+)"`,
		"metrics.go":     `"((?:gateway|faas)_[a-z_]+)"`,
		"../Caddyfile":   `\{\$(FAAS_[A-Z]+)`,
	} {
		found := regexp.MustCompile(re).FindAllStringSubmatch(read(t, file), -1)
		if len(found) == 0 {
			t.Errorf("%s: nothing like %s", file, re)
		}
		for _, m := range found {
			if !strings.Contains(readme, "`"+m[1]) {
				t.Errorf("README.md does not have %s of %s", m[1], file)
			}
		}
	}
}
