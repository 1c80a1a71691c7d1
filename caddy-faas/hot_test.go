package caddyfaas

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddy-faas/faas/caddy-faas/internal/faastest"
)

// replace writes a file of the gateway's folder under another name and renames it.
func (g *gateway) replace(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	path := filepath.Join(g.dir, name)
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = faastest.WriteProgram(path+"~", []byte(text), mode)
	}
	if err == nil {
		err = os.Rename(path+"~", path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Code and stack file change under load, without a reload: what is new answers, no request is lost, and a version that
// doesn't start does no harm. The server is a watchdog, whose answer is fixed when it starts.
func TestChangesUnderLoad(t *testing.T) {
	t.Parallel()
	stack := func(n int) string {
		return fmt.Sprintf(`functions:
  entry:
    fprocess: echo new %d
  fork:
    handler: ./fork
    fprocess: ./run
  server:
    handler: ./server
    fprocess: sh run
    environment: {mode: http}
`, n)
	}
	const serve = "port=$PORT mode=fork fprocess=\"echo new %d\" exec \"${0%%/*}/fwatchdog\"\n"
	g := newGateway(t, map[string]string{"Caddyfile": strings.NewReplacer("EXTRA", "", "\thandle /fixed/*", "\thandle /system/* {\n\t\tfaas_api\n\t}\n\thandle /fixed/*").Replace(site)})
	watchdog, err := os.ReadFile(filepath.Join(binDir, "fwatchdog"))
	if err != nil {
		t.Fatal(err)
	}
	g.replace(t, "server/fwatchdog", string(watchdog), 0o755)
	change := func(n int) {
		g.replace(t, "stack.yml", stack(n), 0o644)
		g.replace(t, "fork/run", fmt.Sprintf("#!/bin/sh\necho new %d\n", n), 0o755)
		g.replace(t, "server/run", fmt.Sprintf(serve, n), 0o644)
	}
	change(0)
	g.start(t)
	names := []string{"entry", "fork", "server"}
	stop := make(chan struct{})
	var load sync.WaitGroup
	sent := map[string]*atomic.Int64{}
	last := map[string]*atomic.Value{}
	for _, name := range names {
		sent[name], last[name] = new(atomic.Int64), new(atomic.Value)
		for range 2 {
			load.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					a, err := g.try(t.Context(), "POST", "/function/"+name, http.NoBody)
					if err != nil || a.StatusCode != 200 || !strings.HasPrefix(a.body, "new ") {
						t.Errorf("%s: %v, %+v", name, err, a)
						return
					}
					sent[name].Add(1)
					last[name].Store(a.body)
				}
			})
		}
	}
	answers := func(want string) {
		t.Helper()
		for _, name := range names {
			eventually(t, name+" answers "+want, func() bool { return last[name].Load() == want || t.Failed() })
		}
	}
	for n := 1; n <= 10 && !t.Failed(); n++ {
		change(n)
		answers(fmt.Sprintf("new %d\n", n))
	}

	g.replace(t, "server/run", "echo on strike >&2; exit 3\n", 0o644)
	eventually(t, "the status says why the new version doesn't start", func() bool {
		status := g.call(t, "GET", "/system/function/server", "").body
		return strings.Contains(status, "the earlier version serves on") && strings.Contains(status, "on strike")
	})
	before := sent["server"].Load()
	eventually(t, "the old version serves on", func() bool { return sent["server"].Load() > before+20 || t.Failed() })
	g.replace(t, "server/run", fmt.Sprintf(serve, 11), 0o644)
	eventually(t, "the mended version answers", func() bool { return last["server"].Load() == "new 11\n" || t.Failed() })
	close(stop)
	load.Wait()
	for _, name := range names {
		t.Logf("%s: %d requests", name, sent[name].Load())
	}
}
