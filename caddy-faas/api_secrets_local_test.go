package caddyfaas

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// TestSecrets gives real functions a secret, and another value of it under load; no request is lost.
func TestSecrets(t *testing.T) {
	t.Parallel()
	g := newOpenGateway(t, anyCommand, `functions:
  waiting: {fprocess: 'sh -c "cat $secret_mount_path/*"', secrets: [later]}
  steady: {fprocess: cat}
`)
	watchdog, err := os.ReadFile(filepath.Join(binDir, "fwatchdog"))
	if err != nil {
		t.Fatal(err)
	}
	g.replace(t, "server/fwatchdog", string(watchdog), 0o755)
	deploy := func(status int, name, script, more string) string {
		t.Helper()
		return g.want(t, status, "POST", "/system/functions", fmt.Sprintf(`{"service":%q,"image":"i","envProcess":%q,%s}`, name, "sh -c '"+script+"'", more))
	}
	// What one process has read at its start, and what each request reads.
	server := `cp -f $secret_mount_path/key $HOME/at-start; port=$PORT mode=fork fprocess="cat $HOME/at-start" exec ` + g.dir + `/server/fwatchdog`
	if text := deploy(400, "server", server, `"secrets":["key"]`); !strings.Contains(text, "no such secret in namespace openfaas-fn: key:") {
		t.Errorf("deployed without its secret: %s", text)
	}
	values := []string{rand.Text()}
	g.want(t, 201, "POST", "/system/secrets", `{"name":"key","value":"`+values[0]+`"}`)
	g.want(t, 201, "POST", "/system/secrets", `{"name":"key","namespace":"dev","value":"of dev"}`)
	deploy(202, "server", server, `"secrets":["key"],"envVars":{"mode":"http"}`)
	deploy(202, "reader", "cat $secret_mount_path/key", `"secrets":["key"]`)
	for _, name := range []string{"server", "reader"} {
		g.answers(t, name, "", values[0])
	}
	const usual = "cat /var/openfaas/secrets/key"
	deploy(202, "usual", usual, `"secrets":["key"]`)
	if reason := g.status(t, "usual").Reason; reason == "" {
		g.answers(t, "usual", "", values[0])
	} else if !strings.Contains(reason, "secret_mount_path") {
		t.Error(reason)
	}
	deploy(202, "usual", usual, `"secrets":["key"],"namespace":"dev"`)
	if g.status(t, "usual").Reason == "" {
		g.answers(t, "usual.dev", "", "of dev")
	}

	// Bytes that are no text.
	binary := make([]byte, 10_000)
	rand.Read(binary)
	g.want(t, 201, "POST", "/system/secrets", `{"name":"binary","rawValue":"`+base64.StdEncoding.EncodeToString(binary)+`"}`)
	deploy(202, "binary", "cat $secret_mount_path/binary", `"secrets":["binary"]`)
	g.answers(t, "binary", "", string(binary))

	// What the stack file names before it exists.
	if reason := g.status(t, "waiting").Reason; !strings.Contains(reason, "no such secret in namespace openfaas-fn: later:") {
		t.Errorf("the status of who waits: %s", reason)
	}
	g.answers(t, "steady", "x", "x")
	g.want(t, 201, "POST", "/system/secrets", `{"name":"later","value":"come"}`)
	g.answers(t, "waiting", "", "come")

	last, stop := g.load(t, len(values[0]), "server", "reader")
	for range 5 {
		value := rand.Text()
		values = append(values, value)
		g.want(t, 202, "PUT", "/system/secrets", `{"name":"key","value":"`+value+`"}`)
		for name, got := range last {
			eventually(t, name+" has the new value", func() bool { return got.Load() == value || t.Failed() })
		}
	}
	stop()

	if text := g.want(t, 409, "DELETE", "/system/secrets", `{"name":"key"}`); !strings.Contains(text, "in use by reader.openfaas-fn, server.openfaas-fn, usual.openfaas-fn\n") {
		t.Errorf("removed while in use: %s", text)
	}
	g.tellsNone(t, append(values, base64.StdEncoding.EncodeToString(binary))...)

	// Killed, the gateway still has what it acknowledged.
	g.stop(t, syscall.SIGKILL)
	g.start(t)
	g.answers(t, "reader", "", values[5])
	g.answers(t, "binary", "", string(binary))
	for _, name := range []string{"reader", "server", "usual"} {
		g.want(t, 202, "DELETE", "/system/functions", `{"functionName":"`+name+`"}`)
	}
	g.want(t, 202, "DELETE", "/system/secrets", `{"name":"key"}`)
	g.want(t, 409, "DELETE", "/system/secrets", `{"name":"key","namespace":"dev"}`)
	g.want(t, 404, "PUT", "/system/secrets", `{"name":"key","value":"x"}`)
}

// load calls functions again and again; every answer must have this size. It returns the last answer of each, and what ends it.
func (g *gateway) load(t *testing.T, size int, names ...string) (last map[string]*atomic.Value, stop func()) {
	end, sent := make(chan struct{}), new(atomic.Int64)
	var callers sync.WaitGroup
	last = map[string]*atomic.Value{}
	for _, name := range names {
		last[name] = new(atomic.Value)
		for range 2 {
			callers.Go(func() {
				for {
					select {
					case <-end:
						return
					default:
					}
					a, err := g.try(t.Context(), "POST", "/function/"+name, http.NoBody)
					if err != nil || a.StatusCode != 200 || len(a.body) != size {
						t.Errorf("%s: %v, %+v", name, err, a)
						return
					}
					sent.Add(1)
					last[name].Store(a.body)
				}
			})
		}
	}
	return last, func() {
		close(end)
		callers.Wait()
		t.Logf("%d requests", sent.Load())
	}
}

// tellsNone looks for secrets wherever the gateway says something of what it knows.
func (g *gateway) tellsNone(t *testing.T, values ...string) {
	t.Helper()
	told := map[string]string{"the log": g.log.String()}
	for _, path := range []string{"/system/secrets", "/system/functions", "/system/function/reader", "/system/logs?name=reader", "/metrics"} {
		told[path] = g.call(t, "GET", path, "").body
	}
	for what, command := range map[string][]string{
		"the configuration": {"curl", "-sSf", "--unix-socket", g.admin, "http://admin/config/"},
		"the process list":  {"sh", "-c", "ps -Aww -o args; cat /proc/[0-9]*/environ 2>/dev/null; true"},
	} {
		out, err := exec.Command(command[0], command[1:]...).Output()
		if err != nil || len(out) == 0 {
			t.Errorf("%s: %v", what, err)
		}
		told[what] = string(out)
	}
	for what, text := range told {
		for _, value := range values {
			if strings.Contains(text, value) {
				t.Errorf("%s tells a secret", what)
			}
		}
	}
	if names := told["/system/secrets"]; !strings.Contains(names, `{"name":"key","namespace":"openfaas-fn"}`) || strings.Contains(names, "dev") {
		t.Errorf("secrets are %s", names)
	}
}
