package caddyfaas

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/internal/faastest"
)

func init() {
	caddy.RegisterModule(cramped{})
	caddy.RegisterModule(execHandler{})
}

// cramped is a provider that has no room for as many replicas as a function's label says, and two nodes, one of them without work.
type cramped struct{}

const labelPending = "test.pending"

func (cramped) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "faas.providers.cramped", New: func() caddy.Module { return new(cramped) }}
}

func (*cramped) UnmarshalCaddyfile(*caddyfile.Dispenser) error { return nil }
func (*cramped) Identity(faas.Settings) string                 { return "" }
func (*cramped) Open(faas.Settings, *zap.Logger) faas.Provider {
	return &crampedEngine{new(faastest.Memory)}
}
func (*cramped) Apply(context.Context, faas.Provider, faas.Settings) error { return nil }

type crampedEngine struct{ *faastest.Memory }

func (e *crampedEngine) Watch(ctx context.Context, sink faas.Sink) error {
	return e.Memory.Watch(ctx, crampedSink{sink})
}

func (e *crampedEngine) Nodes(context.Context) ([]faas.Node, error) {
	busy := faas.Node{ID: "id1", Name: "n1", Role: "leader", State: faas.NodeReady, Availability: faas.NodeActive, Replicas: 1}
	idle := busy
	idle.ID, idle.Name, idle.Role, idle.Replicas = "id2", "n2", "worker", 0
	return []faas.Node{busy, idle}, nil
}

type crampedSink struct{ faas.Sink }

func (s crampedSink) Set(d faas.Deployment) {
	d.Pending, _ = strconv.Atoi(d.Labels[labelPending])
	d.Reason = map[bool]string{true: `no suitable node "x"; $(y)`}[d.Pending > 0]
	s.Sink.Set(d)
}

// execHandler is as the plugin github.com/mholt/caddy-events-exec is, so that
// what README.md says of it can be tried: it runs a command with placeholders
// in its arguments, in the background, as long as the event's context lasts.
type execHandler struct {
	Command string   `json:"command,omitempty"`
	Args    []string `json:"args,omitempty"`
}

func (execHandler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.exec", New: func() caddy.Module { return new(execHandler) }}
}

func (h *execHandler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.Args(&h.Command) {
		return d.ArgErr()
	}
	h.Args = d.RemainingArgs()
	return nil
}

func (h *execHandler) Handle(ctx context.Context, _ caddy.Event) error {
	repl, ok := ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return errors.New("no replacer")
	}
	var args []string
	for _, arg := range h.Args {
		args = append(args, repl.ReplaceAll(arg, ""))
	}
	go exec.CommandContext(ctx, h.Command, args...).Run()
	return nil
}

// Subscribers of Caddy's events hear once that functions lack room, that they no longer do, and of nodes without work.
func TestCapacityEvents(t *testing.T) {
	g := newGateway(t, map[string]string{
		"Caddyfile": `{
	admin unix/DATA/admin.sock
	auto_https disable_redirects
	events {
		on faas.capacity.pending exec /bin/sh note pending {event.data.function} {event.data.replicas} {event.data.total} {event.data.memory} "{event.data.constraints}" "{event.data.reason}"
		on faas.capacity.cleared exec /bin/sh note cleared {event.data.function} {event.data.replicas} {event.data.total}
		on faas.capacity.idle exec /bin/sh note idle {event.data.role} {event.data.id} {event.data.node}
		on * exec /bin/sh note-module {event.name} {event.module}
	}
	faas {
		provider cramped
		data DATA
		scale {
			pending_after 100ms
			node_idle 100ms
		}
	}
}
SITE {
	faas_api
}
`,
		"note":        `IFS='|'; echo "$*" >> "$DIR/$1"`,
		"note-module": `case $1 in faas.*) echo "$2" >> "$DIR/modules" ;; esac`,
	})
	g.env = []string{"DIR=" + g.dir}
	g.start(t)
	told := func(kind, want string) {
		t.Helper()
		eventually(t, "it is told: "+want, func() bool { return strings.Contains(tryRead(g.dir+"/"+kind), want+"\n") })
	}
	deploy := func(method, name, pending string) {
		t.Helper()
		body := `{"service":"` + name + `","image":"i","envProcess":"cat","labels":{"` + labelPending + `":"` + pending + `"},"requests":{"memory":"64Mi"},"constraints":["a==b","c!=d"]}`
		if a := g.call(t, method, "/system/functions", body); a.StatusCode != 202 {
			t.Fatalf("%d %s", a.StatusCode, a.body)
		}
	}
	told("idle", "idle|worker|id2|n2")
	deploy("POST", "full", "3")
	told("pending", `pending|full.openfaas-fn|3|3|64Mi|a==b, c!=d|no suitable node "x"; $(y)`)
	if a := g.call(t, "GET", "/system/function/full", ""); !strings.Contains(a.body, `"pending":3`) {
		t.Errorf("the function's status does not say that replicas have no room: %s", a.body)
	}
	g.reload(t) // is no reason to tell it again
	deploy("POST", "other", "2")
	told("pending", `pending|other.openfaas-fn|2|5|64Mi|a==b, c!=d|no suitable node "x"; $(y)`)
	deploy("PUT", "full", "0")
	told("cleared", "cleared|full.openfaas-fn|0|2")
	for kind, n := range map[string]int{"idle": 1, "pending": 2, "cleared": 1} {
		if text := read(t, g.dir+"/"+kind); strings.Count(text, "\n") != n {
			t.Errorf("it is told more than once:\n%s", text)
		}
	}
	if text := read(t, g.dir+"/modules"); strings.ReplaceAll(text, "faas\n", "") != "" {
		t.Errorf("events come from\n%s, want the module faas", text)
	}
}

// tryRead is a file's text; "" if there is none.
func tryRead(file string) string {
	b, _ := os.ReadFile(file)
	return string(b)
}
