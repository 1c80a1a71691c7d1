package deploy

import (
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// The socket proxy passes on what the gateway reads, and nothing else.
func TestSocketProxy(t *testing.T) {
	caddy := gatewayProgram(t)
	dir, err := os.MkdirTemp("", "fp") // short, for the socket's path
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket, err := net.Listen("unix", dir+"/docker.sock")
	if err != nil {
		t.Fatal(err)
	}
	engine := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "engine") })}
	go engine.Serve(socket)
	defer engine.Close()
	address := "127.0.0.1:" + freePort(t)
	config := strings.NewReplacer("http://:2375", "http://"+address, "/var/run/docker.sock", dir+"/docker.sock").Replace(read(t, "Caddyfile.socket-proxy"))
	if err := os.WriteFile(dir+"/Caddyfile", []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(caddy, "run", "--config", dir+"/Caddyfile")
	c.Env = append(os.Environ(), "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { c.Process.Signal(syscall.SIGTERM); c.Wait() }()
	ask := func(method, path string) (int, string) {
		r, err := http.NewRequest(method, "http://"+address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	eventually(t, "the proxy serves", func() bool { status, _ := ask("GET", "/_ping"); return status == 200 })
	for _, path := range []string{
		"/v1.41/services?status=true", "/v1.41/services/abc", "/v1.41/services/abc/logs?follow=1", "/v1.41/tasks", "/v1.41/tasks/abc", "/v1.41/nodes",
		"/v1.41/networks/functions?scope=swarm", "/v1.41/secrets", "/v1.41/events", "/version", "/info", "/v1.41/containers/0123abcd/stats?stream=0&one-shot=1",
	} {
		if status, body := ask("GET", path); status != 200 || body != "engine" {
			t.Errorf("GET %s: %d %s", path, status, body)
		}
	}
	for _, call := range []string{
		"POST /v1.41/services/create", "POST /v1.41/services/abc/update?version=1", "DELETE /v1.41/services/abc", "POST /v1.41/secrets/create", "POST /v1.41/services",
		"GET /v1.41/containers/json", "GET /v1.41/containers/0123abcd/json", "GET /v1.41/containers/0123abcd/statsx", "GET /v1.41/containers/abc/archive?path=/", "GET /v1.41/services/abc%2Fupdate", "GET /v1.41/configs", "GET /v1.41/secrets/abc",
		"POST /v1.41/containers/create", "PUT /v1.41/services/abc", "GET /", "GET /v1.41/services/../containers/json", "POST /_ping",
	} {
		method, path, _ := strings.Cut(call, " ")
		if status, body := ask(method, path); status != 403 || !strings.Contains(body, "use docker service") {
			t.Errorf("%s: %d %s", call, status, body)
		}
	}
}

// freePort is below those that the kernel gives to connections and to other tests' servers:
// one of these could have it before it is listened on.
func freePort(t *testing.T) string {
	t.Helper()
	for range 1000 {
		port := strconv.Itoa(10_000 + rand.IntN(20_000))
		if l, err := net.Listen("tcp", ":"+port); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return ""
}
