package deploy

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// versions are the services' versions in the swarm, which change with whatever is written.
func (e *engine) versions(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	ids := strings.Fields(e.docker(t, "service", "ls", "--quiet"))
	for line := range strings.Lines(e.docker(t, append([]string{"service", "inspect", "--format", "{{.Spec.Name}} {{.Version.Index}}"}, ids...)...)) {
		name, version, _ := strings.Cut(strings.TrimSpace(line), " ")
		all[name] = version
	}
	return all
}

// From a fresh engine to sample functions that answer, by the scripts alone, and back.
func TestUp(t *testing.T) {
	if testing.Short() {
		t.Skip("takes minutes")
	}
	e := startEngine(t)
	e.busybox(t)
	data := t.TempDir()
	route := data + "/github.caddyfile"
	write(t, data+"/github.secret", webhookSecret+"\n")
	write(t, route, read(t, "../routes/github.example"))
	env := append(e.env, "FAAS_DATA="+data, "FAAS_ROUTES="+data+"/*.caddyfile",
		"FAAS_ALPINE_IMAGE=busybox:test", "FAAS_PYTHON_IMAGE=none:test", "FAAS_NODE_IMAGE=none:test")
	up := func(more ...string) (string, error) { return run(append(env, more...), "./up.sh") }
	again := func(more ...string) (string, error) { return run(append(env, more...), "./up.sh", "--no-build") }
	if out, err := up(); err == nil || !strings.Contains(out, "this machine is in no swarm yet: run docker swarm init") {
		t.Errorf("without a swarm: %v\n%s", err, out)
	}
	e.docker(t, "swarm", "init", "--advertise-addr", "127.0.0.1")
	e.docker(t, "network", "create", "functions")
	if out, err := up(); err == nil || !strings.Contains(out, "the network functions is no overlay") {
		t.Errorf("with a network that is no overlay: %v\n%s", err, out)
	}
	e.docker(t, "network", "rm", "functions")
	free := e.listen(t, "80")
	if out, err := again(); err == nil || !strings.Contains(out, "port 80 or 443 is taken: stop what listens there, or take others") {
		t.Errorf("with a port that is taken: %v\n%s", err, out)
	}
	free()
	for setting, want := range map[string]string{
		"FAAS_HTTP_PORT=http":       "FAAS_HTTP_PORT: http: want a port",
		"FAAS_REGISTRY=127.0.0.1:1": "the gateway's image 127.0.0.1:1/caddy-faas/gateway:latest can't be run: ",
	} {
		if out, err := again(setting); err == nil || !strings.Contains(out, want) {
			t.Errorf("with %s: %v\n%s", setting, err, out)
		}
	}

	out, err := up()
	if err != nil {
		t.Fatalf("up.sh: %v\n%s", err, out)
	}
	for _, want := range []string{
		"LEFT OUT: csv2json: the base image none:test can't be pulled; name another one in FAAS_PYTHON_IMAGE", "LEFT OUT: urlparts: ",
		"curl -d hello http://127.0.0.1/function/echo\n", "password: cat " + data + "/admin.password\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("up.sh does not say %q:\n%s", want, out)
		}
	}
	e.functionsAnswer(t)

	if answer := e.webhook(t, "push", webhookSecret); answer != "Stashing request" {
		t.Errorf("a webhook of GitHub is answered %q", answer)
	}
	if answer := e.webhook(t, "push", "another"); answer != "not verified as a request of github" {
		t.Errorf("a forged webhook is answered %q", answer)
	}
	e.gatewaysMeet(t)

	// Again: nothing is written, and what is scaled stays so; not by a change of others either.
	e.docker(t, "service", "scale", "faas_echo=2")
	before := e.versions(t)
	if out, err := up(); err != nil || !maps.Equal(e.versions(t), before) {
		t.Errorf("up.sh again: %v\n%s\n%v\n%v", err, out, before, e.versions(t))
	}
	tasks := e.docker(t, "service", "ps", "--quiet", "faas_echo")
	write(t, data+"/callers", "ada:lovelace")
	write(t, data+"/admin.password", "changed\n")
	write(t, route, strings.ReplaceAll(read(t, route), "fallback webhookstash", "fallback wordcount"))
	e.docker(t, "secret", "create", "--label", "faas.gateway=true", "callers", data+"/callers")
	if out, err := again("HUB_URL=http://localhost:1"); err != nil || e.docker(t, "service", "ps", "--quiet", "faas_echo") != tasks {
		t.Errorf("up.sh with changes: %v\n%s", err, out)
	}
	if got, err := e.curl("--data", "library", "http://127.0.0.1/function/hubstats"); err != nil || !strings.Contains(got, "localhost:1") {
		t.Errorf("after a change: %v %s", err, got)
	}
	if answer := e.webhook(t, "push", webhookSecret); strings.Contains(answer, "Stashing") || len(strings.Fields(answer)) != 3 {
		t.Errorf("with the changed route a webhook is answered %q", answer)
	}
	e.docker(t, "service", "update", "--detach", "--label-add", "faas.auth=basic", "--label-add", "faas.auth.secret=callers", "faas_base64")
	eventually(t, "a function wants a password", func() bool {
		got, err := e.curl("--data", "hello", "http://127.0.0.1/function/base64")
		return err == nil && strings.Contains(got, "wants a user and a password")
	})
	if got, err := e.curl("--user", "ada:lovelace", "--data", "hello", "http://127.0.0.1/function/base64"); err != nil || got != "aGVsbG8=\n" {
		t.Errorf("with the password: %v %q", err, got)
	}

	// What Caddy refuses is not deployed. A gateway that doesn't start leaves the one before.
	broken := data + "/Caddyfile"
	before = e.versions(t)
	write(t, broken, "nonsense {\n")
	if out, err := again("FAAS_CADDYFILE=" + broken); err == nil || !maps.Equal(e.versions(t), before) ||
		!strings.Contains(out, "nothing is deployed, since Caddy refuses the configuration: adapting config using caddyfile: ") {
		t.Errorf("up.sh with a broken Caddyfile: %v\n%s", err, out)
	}
	write(t, broken, strings.Replace(read(t, "../Caddyfile"), "admin unix/", "admin 192.0.2.1:1 #", 1))
	if out, err := again("FAAS_CADDYFILE=" + broken); err == nil || !strings.Contains(out, "cannot assign requested address") ||
		!strings.Contains(out, "the new version of faas_gateway does not run, and the one before goes on: \"task: non-zero exit (1)\"") {
		t.Errorf("up.sh with a Caddyfile that can't be run: %v\n%s", err, out)
	}
	if out, err := again("HUB_URL=http://localhost:1"); err != nil {
		t.Errorf("up.sh after it: %v\n%s", err, out)
	}
	e.downLeavesNothing(t, data)
}

const webhookSecret = "only GitHub knows"

// webhook sends what GitHub sends, as GitHub does, and returns the answer. The
// body is a real one if these are beside the repository.
func (e *engine) webhook(t *testing.T, event, secret string) string {
	t.Helper()
	file := "../../shared/payloads/github/" + event + ".json"
	if _, err := os.Stat(file); err != nil {
		file = filepath.Join(t.TempDir(), "body")
		write(t, file, `{"ref":"refs/heads/main"}`)
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(read(t, file)))
	answer, err := e.curl("--data-binary", "@"+file, "--header", "X-GitHub-Event: "+event,
		"--header", "X-Hub-Signature-256: sha256="+hex.EncodeToString(mac.Sum(nil)), "http://127.0.0.1/hooks/github")
	if err != nil {
		t.Fatalf("%v %s", err, answer)
	}
	return strings.TrimSpace(answer)
}

// gatewaysMeet tells whether a gateway could hear another one, and nobody else.
func (e *engine) gatewaysMeet(t *testing.T) {
	t.Helper()
	if strings.Contains(e.docker(t, "service", "logs", "--raw", "faas_gateway"), "finding gateways failed") {
		t.Error("a gateway did not find others")
	}
	// From the functions' network, where it has no name of its own.
	if got, err := run(e.env, "docker", "run", "--rm", "--network", "functions", "busybox:test", "wget", "-O-", "http://gateway:8081/"); err == nil || !strings.Contains(got, "401 Unauthorized") {
		t.Errorf("a function that asks for the load is answered: %v %s", err, got)
	}
	if got, err := e.curl("http://127.0.0.1:8081/"); err == nil {
		t.Errorf("what gateways tell each other is published: %s", got)
	}
}

func (e *engine) functionsAnswer(t *testing.T) {
	t.Helper()
	for _, c := range []struct{ path, body, want string }{
		{"echo", "hello", "hello"},
		{"wordcount", "a b c", "3"},
		{"sha256sum", "hello", "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"},
		{"env/x?y=z", "x", "Http_Query=y=z"},
		{"base64", "hello", "aGVsbG8="},
		{"base64-decode", "aGVsbG8=", "hello"},
		{"topwords?n=1", "b b a", "2 b"},
		{"nodeinfo", "x", "Hostname: "},
		{"markdown", "**bold**", "<strong>bold</strong>"},
		{"hubstats", "?", "is no name on Docker Hub"},
		{"webhookstash", "x", "Stashing request"},
		{"HostnameIntent", read(t, "../functions/HostnameIntent/intent.json"), "Your hostname is "},
		{"CaptainsIntent", "x", "Docker Captains: "}, // the page is out of reach
		{"ChangeColorIntent", "{}", "no Alexa IntentRequest"},
		{"TurnOffIntent", "{}", "no Alexa IntentRequest"},
	} {
		got, err := e.curl("--data-binary", c.body, "http://127.0.0.1/function/"+c.path)
		if err != nil || !strings.Contains(got, c.want) {
			t.Errorf("%s: %v\n%s\nwant %q", c.path, err, got, c.want)
		}
	}
	if got, err := e.curl("http://127.0.0.1/function/live"); err != nil || !strings.Contains(got, "/events") {
		t.Errorf("live: %v %s", err, got)
	}
}

func (e *engine) downLeavesNothing(t *testing.T, data string) {
	t.Helper()
	password := strings.TrimSpace(read(t, data+"/admin.password"))
	admin := func(args ...string) string {
		out, err := e.curl(append([]string{"--user", "admin:" + password}, args...)...)
		if err != nil {
			t.Fatalf("%s: %v\n%s", args, err, out)
		}
		return out
	}
	var list []struct{ Name string }
	if text := admin("http://127.0.0.1/system/functions"); json.Unmarshal([]byte(text), &list) != nil || len(list) != 16 {
		t.Errorf("the gateway lists %d functions: %s", len(list), text)
	}
	image := strings.Fields(e.docker(t, "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "functions/alpine"))[0]
	admin("--data", `{"service":"mine","image":"`+image+`"}`, "http://127.0.0.1/system/functions")

	// The engine keeps the container of a job that is removed.
	e.docker(t, "service", "create", "--quiet", "--no-resolve-image", "--name", "job", "--mode", "replicated-job", "--restart-condition", "none", "--network", "functions", image, "true")
	e.docker(t, "service", "rm", "job")

	kinds := func() (left []string) {
		for _, kind := range []string{"service", "secret", "config"} {
			left = append(left, strings.Fields(e.docker(t, kind, "ls", "--format", kind+":{{.Name}}"))...)
		}
		for _, kind := range []string{"network", "volume"} {
			for name := range strings.FieldsSeq(e.docker(t, kind, "ls", "--format", kind+":{{.Name}}")) {
				if !slices.Contains([]string{"network:bridge", "network:docker_gwbridge", "network:host", "network:ingress", "network:none"}, name) {
					left = append(left, name)
				}
			}
		}
		return left
	}
	for _, c := range []struct {
		args []string
		left string
	}{
		{nil, "service:mine secret:callers network:functions volume:faas_certificates"},
		{nil, "service:mine secret:callers network:functions volume:faas_certificates"},
		{[]string{"--all"}, "secret:callers"},
		{[]string{"--all"}, "secret:callers"},
	} {
		out := mustRun(t, e.env, "./down.sh", c.args...)
		if got := strings.Join(kinds(), " "); got != c.left {
			t.Errorf("after down.sh %s there is %q, not %q:\n%s", c.args, got, c.left, out)
		}
	}
}
