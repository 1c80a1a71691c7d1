package caddyfaas

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/internal/faastest"
)

func init() { caddy.RegisterModule(scene{}) }

// scene is a provider with a job in each state, on five nodes of which one is down, one drained and one paused.
type scene struct{}

func (scene) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "faas.providers.scene", New: func() caddy.Module { return new(scene) }}
}

func (*scene) UnmarshalCaddyfile(*caddyfile.Dispenser) error { return nil }
func (*scene) Identity(faas.Settings) string                 { return "" }
func (*scene) Open(faas.Settings, *zap.Logger) faas.Provider {
	return &sceneEngine{new(faastest.Memory)}
}
func (*scene) Apply(context.Context, faas.Provider, faas.Settings) error { return nil }

type sceneEngine struct{ *faastest.Memory }

func (e *sceneEngine) Watch(ctx context.Context, sink faas.Sink) error {
	one := faas.Function{ID: faas.ParseID("checkout"), Image: "registry.example.com/shop/checkout:1.4.2"}
	if err := e.Create(ctx, one); err != nil {
		return err
	}
	now, ok, killed := time.Now(), 0, 137
	for name, j := range map[string]faas.Job{
		"done":    {Iteration: 12, Completions: 1, Done: 1, Began: now.Add(-3 * time.Hour), Ended: now.Add(-3*time.Hour + 142*time.Second), ExitCode: &ok},
		"failed":  {Iteration: 2, Completions: 3, Done: 1, Failed: 2, Began: now.Add(-2 * time.Hour), Ended: now.Add(-2*time.Hour + 12*time.Second), ExitCode: &killed, Failure: "task: non-zero exit (137)"},
		"running": {Iteration: 4, Completions: 5, Done: 2, Running: 2, Began: now.Add(-95 * time.Second), ExitCode: &ok},
		"waiting": {Iteration: 1, Completions: 1, Running: 1},
	} {
		task := faas.Function{ID: faas.ParseID(name), Image: "registry.example.com/shop/report:7", Process: "python3 report.py --since yesterday", Labels: map[string]string{faas.LabelJob: "true"}}
		if err := e.Create(ctx, task); err != nil {
			return err
		}
		e.Job(task.ID, j)
	}
	e.Fail(faas.ParseID("waiting"), false, "no suitable node (scheduling constraints not satisfied on 5 nodes)")
	return e.Memory.Watch(ctx, sink)
}

func (e *sceneEngine) Nodes(context.Context) ([]faas.Node, error) {
	var all []faas.Node
	for i, n := range []faas.Node{
		{Role: "leader", State: faas.NodeReady, Availability: faas.NodeActive, Replicas: 6, ReservedCPU: 1500, ReservedMemory: 768 << 20},
		{Role: "manager", State: faas.NodeReady, Availability: faas.NodeActive, Replicas: 4, ReservedCPU: 500},
		{Role: "manager", State: "down", Availability: faas.NodeActive},
		{Role: "worker", State: faas.NodeReady, Availability: "drain"},
		{Role: "worker", State: faas.NodeReady, Availability: "pause", Replicas: 3},
	} {
		n.ID = string(rune('1' + i))
		n.Name, n.CPU, n.Memory = "node-"+n.ID+".eu-west.example.internal", 4000, 8<<30
		all = append(all, n)
	}
	return all, nil
}

// Jobs, and the machines of a swarm, can be read at every width and in both schemes.
func TestBrowserSwarm(t *testing.T) {
	t.Parallel()
	site := strings.Replace(privateUISite, "functions stack.yml", "provider scene", 1)
	_, b := newPageOf(t, peered(t, site), "functions: {}\n")
	const run = `document.querySelector('.job .legend')?.innerText`
	b.looks([]look{
		{"jobs", "", "", `['Done', 'Failed', 'Running', 'Waiting', '4 jobs', '2 of 5 done'].every(s => document.body.innerText.includes(s))`},
		{"job-done", "f/done.openfaas-fn", "", run + ` === '1 done' && ['Run 12', 'Took', '2 min', 'Definition'].every(s => document.body.innerText.includes(s))`},
		{"job-failed", "f/failed.openfaas-fn", "", run + `.split('\n').join() === '1 done,2 failed' && document.querySelector('.job').innerText.includes('137')`},
		{"job-running", "f/running.openfaas-fn", "", run + `.split('\n').join() === '2 done,2 running,1 to do' && document.querySelector('.job button').disabled`},
		{"job-waiting", "f/waiting.openfaas-fn", "", `document.querySelector('.head .badge').innerText === 'Waiting' && document.body.innerText.includes('no suitable node') && ['1 waiting', 'not yet'].every(s => document.querySelector('.job').innerText.includes(s))`},
		{"job-edit", "f/done.openfaas-fn/edit", "", `document.querySelector('.pair') && !document.body.innerText.includes('Minimum replicas')`},
		{"swarm", "system", "", `['Leader', 'Down', 'Drained', 'Paused', '1.5 cores, 768 MiB', 'this one', 'Silent', 'Ended'].every(s => document.body.innerText.includes(s))`},
	})
	b.as(1280, "light")
	b.open("")
	b.until("the functions are there", `document.querySelectorAll('tbody tr').length === 5`)
	if calls := js[[]string](b, `[...document.querySelectorAll('tbody .c-act a')].filter(e => e.checkVisibility()).map(e => e.getAttribute('aria-label'))`); len(calls) != 1 || calls[0] != "Invoke checkout" {
		t.Errorf("the list offers %q", calls)
	}
	b.open("f/failed.openfaas-fn")
	b.press("Run again")
	b.until("it is run once more", `['Run 3', '1 done'].every(s => document.querySelector('.job').innerText.includes(s)) && document.querySelector('.head .badge').innerText === 'Done'`)
}
