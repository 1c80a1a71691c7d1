package caddyfaas

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"runtime"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/history"
)

func init() {
	caddy.RegisterModule(UI{})
}

// UI serves a page on which people see, call and manage the functions, to
// those whom Caddy lets pass. It must be at a path that ends in a slash, such as
// /ui/, with the API and the functions beside it, at ../system/ and
// ../function/: so it works below any path.
//
// It answers GET and HEAD by what comes after the last slash of the path:
//
//	(nothing)   the page
//	state       everything that it shows at first, as JSON
//	events      what changes, as server-sent events; ?after= or Last-Event-ID with a position that was told earlier
//	history     a function's last hour; ?function=NAME.NAMESPACE
//	cluster     the gateways that scale the functions and the machines that run them, as JSON
//
// and HASH/FILE with the files that the page needs, which may be cached for
// ever. Other paths go to the next handler.
type UI struct {
	app      *App
	engine   *engine
	stopping chan struct{} // closed when the server that this is in begins to shut down
}

// CaddyModule returns the module's ID and constructor.
func (UI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.faas_ui", New: func() caddy.Module { return new(UI) }}
}

// Provision finds the app.
func (u *UI) Provision(ctx caddy.Context) error {
	app, err := app(ctx)
	if err != nil {
		return err
	}
	u.app, u.engine, u.stopping = app, app.engine, make(chan struct{})
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok {
		server.RegisterOnShutdown(func() { close(u.stopping) })
	}
	return nil
}

// ServeHTTP answers what belongs to the page.
func (u *UI) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	dir, file := path.Split(r.URL.Path)
	var serve func(http.ResponseWriter, *http.Request) error
	switch file {
	case "":
		serve = func(w http.ResponseWriter, r *http.Request) error { return uiFiles().page.serve(w, r, askFirst) }
	case "state":
		serve = u.state
	case "events":
		serve = u.events
	case "history":
		serve = u.history
	case "cluster":
		serve = u.cluster
	default:
		if a := uiFiles().assets[path.Base(dir)+"/"+file]; a != nil {
			serve = func(w http.ResponseWriter, r *http.Request) error { return a.serve(w, r, forEver) }
		} else {
			return next.ServeHTTP(w, r)
		}
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		return caddyhttp.Error(http.StatusMethodNotAllowed, fmt.Errorf("%s %s: want GET or HEAD", r.Method, r.URL.Path))
	}
	return serve(w, r)
}

// system describes the program to the page.
func (u *UI) system() *uiSystem {
	e := u.engine
	release, sha := version()
	_, full := caddy.Version()
	_, secrets := e.provider.(faas.SecretStore)
	_, logs := e.provider.(faas.Logger)
	return &uiSystem{
		Provider: e.orchestration, Release: release, Revision: sha, Caddy: strings.Fields(full + " ")[0], Go: runtime.Version(),
		Arch: runtime.GOOS + "/" + runtime.GOARCH, Began: e.feed.began, Namespaces: u.app.namespaces(), Secrets: secrets, Logs: logs,
		Step: history.Step.Seconds(), Points: history.Points, Scaling: newUIScaling(u.app.Scale.defaults().Rules),
	}
}

func (u *UI) state(w http.ResponseWriter, r *http.Request) error {
	// Right after the start the provider may not have told of the functions yet.
	u.engine.registry.Lookup(r.Context(), faas.ID{}, time.Second)
	changes, _ := u.engine.feed.since(position{}, time.Now(), u.system)
	text, err := json.Marshal(changes)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Vary", "Accept-Encoding")
	if !acceptsGzip(r) {
		w.Write(text)
		return nil
	}
	w.Header().Set("Content-Encoding", "gzip")
	z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed) // a level that exists
	z.Write(text)                                  // an error means that the client is gone
	return z.Close()
}

// heartbeat is how often something is sent at least, so that dead connections are noticed on either end.
const heartbeat = 15 * time.Second

// events sends changes as they are seen, until the client goes or the server
// shuts down, as it does when Caddy's configuration is replaced. Browsers come back by themselves.
func (u *UI) events(w http.ResponseWriter, r *http.Request) error {
	after := r.Header.Get("Last-Event-ID")
	if after == "" {
		after = r.URL.Query().Get("after")
	}
	p := parsePosition(after)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no")
	if r.Method == http.MethodHead {
		return nil
	}
	answer := http.NewResponseController(w)
	fmt.Fprint(w, "retry: 1000\n\n")
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	sent := time.Now()
	for {
		var c *uiChanges
		now := time.Now()
		if c, p = u.engine.feed.since(p, now, u.system); c != nil {
			text, err := json.Marshal(c)
			if err != nil {
				return fmt.Errorf("%w: %w", errAnswered, err)
			}
			fmt.Fprintf(w, "id: %s\ndata: %s\n\n", p, text)
			sent = now
		} else if now.Sub(sent) >= heartbeat {
			fmt.Fprint(w, ":\n\n")
			sent = now
		}
		if err := answer.Flush(); err != nil {
			return nil // the client is gone
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return nil
		case <-u.stopping:
			return nil
		}
	}
}

// uiHistory is a function's last hour: a value for each step, the newest last.
type uiHistory struct {
	End      int64     `json:"end"` // of the newest step, as Unix seconds
	Ended    []uint32  `json:"ended"`
	Failed   []uint32  `json:"failed"`
	P50      []float64 `json:"p50"` // seconds
	P99      []float64 `json:"p99"`
	Desired  []uint32  `json:"desired"`
	Ready    []uint32  `json:"ready"`
	InFlight []uint32  `json:"inFlight"`
	Queued   []uint32  `json:"queued"`
}

func (u *UI) history(w http.ResponseWriter, r *http.Request) error {
	id := faas.ParseID(r.URL.Query().Get("function"))
	if u.engine.registry.Lookup(r.Context(), id, defaultWait) == nil {
		return answerError(w, noFunction(id))
	}
	points, last := u.engine.past.Points(id)
	if points == nil {
		last = history.StepOf(time.Now()) - 1
	}
	h := uiHistory{End: (last + 1) * int64(history.Step/time.Second)}
	for _, p := range points {
		h.Ended, h.Failed = append(h.Ended, p.Ended), append(h.Failed, p.Failed)
		h.P50, h.P99 = append(h.P50, rounded(float64(p.P50), 4)), append(h.P99, rounded(float64(p.P99), 4))
		h.Desired, h.Ready = append(h.Desired, p.Desired), append(h.Ready, p.Ready)
		h.InFlight, h.Queued = append(h.InFlight, p.InFlight), append(h.Queued, p.Queued)
	}
	return answerJSON(w, h)
}

var (
	_ caddy.Provisioner           = (*UI)(nil)
	_ caddyhttp.MiddlewareHandler = (*UI)(nil)
)
