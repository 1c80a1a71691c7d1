package local

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/internal/faastest"
)

var (
	background = context.Background()
	watchdog   string // built once
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("FAAS_TEST_OWNER"); dir != "" {
		beGateway(dir)
		return
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "faas-local-")
		if err == nil {
			defer os.RemoveAll(dir)
			err = os.Chmod(dir, 0o755) // functions of other users start it
		}
		watchdog = filepath.Join(dir, "fwatchdog")
		if err == nil {
			build := exec.Command("go", "build", "-o", watchdog, "../../watchdog")
			build.Env = append(os.Environ(), "CGO_ENABLED=0")
			build.Stderr = os.Stderr
			err = build.Run()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "building the watchdog:", err)
			return 1
		}
		return m.Run()
	}())
}

// A rig is an engine under test.
type rig struct {
	*Engine
	provider *Provider
	settings faas.Settings
	log      *observer.ObservedLogs
}

// begin starts an engine on a directory of its own.
func begin(t *testing.T) *rig {
	t.Helper()
	r := open(t, dir(t))
	must(t, r.apply())
	return r
}

// open makes an engine that has not started.
func open(t testing.TB, data string) *rig {
	core, logs := observer.New(zapcore.DebugLevel)
	r := &rig{provider: new(Provider), settings: faas.Settings{Data: data, Watchdog: watchdog}, log: logs}
	r.Engine = r.provider.Open(r.settings, zap.New(core)).(*Engine)
	t.Cleanup(func() {
		r.Close()
		if !t.Failed() {
			return
		}
		for _, entry := range logs.All() {
			t.Log(entry.Level, entry.Message, entry.ContextMap())
		}
	})
	return r
}

func (r *rig) apply() error { return r.provider.Apply(background, r.Engine, r.settings) }

// listed applies a stack file with these entries, which is not checked as calls of the API are.
func (r *rig) listed(t *testing.T, entries ...faas.Function) {
	t.Helper()
	r.op.Acquire(context.Background(), 1)
	defer r.op.Release(1)
	must(t, r.merge(entries))
}

// again closes the engine and opens another one on the same directory.
func (r *rig) again(t *testing.T) *rig {
	t.Helper()
	must(t, r.Close())
	next := open(t, r.settings.Data)
	next.settings, next.provider = r.settings, r.provider
	must(t, next.apply())
	return next
}

// dir is a temporary folder that other users can enter.
func dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "faas-test-")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	must(t, os.Chmod(dir, 0o755))
	return dir
}

// fn is a function that drains at once.
func fn(name, command string) faas.Function {
	return faas.Function{
		ID: faas.ID{Name: name, Namespace: faas.DefaultNamespace}, Process: command,
		Env: map[string]string{"healthcheck_interval": "0"},
	}
}

func script(t testing.TB, dir, name, text string) {
	t.Helper()
	must(t, faastest.WriteProgram(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var until = faastest.Eventually

// call sends one request to a replica on a connection of its own.
func call(addr, body string) (string, error) {
	receive, err := send(addr, body)
	if err != nil {
		return "", err
	}
	return receive()
}

// send returns once a request is with a replica.
func send(addr, body string) (receive func() (string, error), err error) {
	conn, err := net.Dial("unix", strings.TrimPrefix(addr, "unix/"))
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(faastest.Patience))
	req, err := http.NewRequest("POST", "http://function/", strings.NewReader(body))
	if err == nil {
		err = req.Write(conn)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return func() (string, error) {
		defer conn.Close()
		resp, err := http.ReadResponse(bufio.NewReader(conn), req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("status %d: %s", resp.StatusCode, answer)
		}
		return string(answer), err
	}, nil
}

// ask calls the only replica of a function.
func ask(t testing.TB, watch *faastest.Recorder, f faas.Function, body string) string {
	t.Helper()
	answer, err := call(watch.UntilReady(t, f.ID, 1)[0].Addr, body)
	must(t, err)
	return answer
}

// need skips a test on machines that can't run it, unless FAAS_TEST_REQUIRE says that this one must.
func need(t testing.TB, ok bool, what string) {
	t.Helper()
	if !ok && os.Getenv("FAAS_TEST_REQUIRE") != "" {
		t.Fatalf("needs %s", what)
	}
	if !ok {
		t.Skipf("needs %s", what)
	}
}

// zapText is how the log carries a function's line.
func zapText(text string) zap.Field { return zap.String("text", text) }
