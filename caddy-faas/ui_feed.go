package caddyfaas

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/history"
	"github.com/caddy-faas/faas/caddy-faas/scale"
)

// feed tells viewers of the page what has changed since they last heard of it.
// It looks at the functions when a viewer asks, and costs nothing without one.
type feed struct {
	engine *engine
	boot   string // tells this program's numbers from an earlier one's
	began  time.Time

	mu      sync.Mutex
	looked  time.Time
	seq     uint64
	floor   uint64 // viewers that know less than this must be told everything
	rows    map[faas.ID]*feedRow
	removed []goneRow
}

type feedRow struct {
	text json.RawMessage
	seq  uint64 // when it last changed
}

type goneRow struct {
	name string
	seq  uint64
}

// lookEvery is how often the functions are looked at, however many view them.
const lookEvery = 900 * time.Millisecond

// maxRemoved is how many removed functions are remembered for those who don't know yet.
const maxRemoved = 1000

func newFeed(e *engine) *feed {
	now := time.Now()
	return &feed{engine: e, began: now, boot: fmt.Sprintf("%x", now.UnixNano()), rows: make(map[faas.ID]*feedRow)}
}

// A uiRow is a function in the page's list.
type uiRow struct {
	ID         string     `json:"id"` // NAME.NAMESPACE
	Name       string     `json:"name"`
	Namespace  string     `json:"namespace"`
	Image      string     `json:"image"`
	Command    string     `json:"command,omitempty"`
	Secrets    []string   `json:"secrets,omitempty"`
	Extension  string     `json:"extension,omitempty"` // of files that answers are kept in
	Created    time.Time  `json:"created"`
	State      string     `json:"state"`
	Job        *jobStatus `json:"job,omitempty"`
	Reason     string     `json:"reason,omitempty"`
	Desired    int        `json:"desired"`
	Ready      int        `json:"ready"`
	Min        int        `json:"min"`
	Max        int        `json:"max"`
	Auto       bool       `json:"auto"` // whether load decides, between Min and Max
	Why        string     `json:"why,omitempty"`
	Held       string     `json:"held,omitempty"`
	Since      time.Time  `json:"since,omitzero"` // when Why came to be
	Total      uint64     `json:"total"`
	ColdStarts uint64     `json:"coldStarts"`
	InFlight   int64      `json:"inFlight"`
	Queued     int64      `json:"queued"`
	Rate       float64    `json:"rate"`     // invocations a second
	Failures   float64    `json:"failures"` // of them, by status
	P50        float64    `json:"p50"`      // seconds
	P99        float64    `json:"p99"`
	Ended      []uint32   `json:"ended,omitempty"` // in each step of the last five minutes, the newest last
	Failed     []uint32   `json:"failed,omitempty"`
}

// States of a function on the page.
const (
	stateReady    = "ready"
	stateScaling  = "scaling" // some replicas are ready
	stateStarting = "starting"
	stateZero     = "zero"
	stateFailing  = "failing"
	stateRunning  = "running" // and the next: of jobs
	stateWaiting  = "waiting" // the engine says why it does not run
	stateDone     = "done"
)

func stateOf(t *scale.Target) string {
	d, ready := t.Deployment(), t.Ready()
	switch j := d.Job; {
	case j != nil && !j.Ended.IsZero() && j.Done < j.Completions:
		return stateFailing
	case j != nil && j.Ended.IsZero() && d.Reason != "":
		return stateWaiting
	case j != nil && j.Ended.IsZero():
		return stateRunning
	case j != nil:
		return stateDone
	case d.Failing:
		return stateFailing
	case d.Desired == 0:
		return stateZero
	case ready == 0 && d.Reason != "":
		return stateFailing
	case ready == 0:
		return stateStarting
	case ready < d.Desired || d.Rolling:
		return stateScaling
	}
	return stateReady
}

func (e *engine) newUIRow(t *scale.Target, sum history.Summary) uiRow {
	d, rules, status := t.Deployment(), t.Rules(), t.Status()
	r := uiRow{
		ID: t.Name(), Name: d.Name, Namespace: d.Namespace, Image: d.Image, Command: d.Command(), Secrets: d.Secrets,
		Extension: d.Labels[faas.LabelExtension], Created: d.Created, State: stateOf(t), Job: newJobStatus(d.Job), Reason: e.ails(t),
		Desired: d.Desired, Ready: t.Ready(), Min: rules.Min, Max: rules.Max, Auto: rules.Auto, Why: status.Reason, Since: status.Since, Held: status.Held,
		Total: t.Started(), ColdStarts: t.ColdStarts(), InFlight: t.InFlight(), Queued: t.Queued(),
		Rate: rounded(sum.Rate, 2), Failures: rounded(sum.Failures, 2), P50: rounded(sum.P50, 4), P99: rounded(sum.P99, 4),
	}
	if slices.ContainsFunc(sum.Recent, func(p history.Point) bool { return p.Ended > 0 }) {
		for _, p := range sum.Recent {
			r.Ended, r.Failed = append(r.Ended, p.Ended), append(r.Failed, p.Failed)
		}
	}
	return r
}

func rounded(f float64, digits int) float64 {
	shift := math.Pow10(digits)
	return math.Round(f*shift) / shift
}

// look compares the functions with what was told of them, if that was not done just now.
func (f *feed) look(now time.Time) {
	if now.Sub(f.looked) < lookEvery {
		return
	}
	f.looked = now
	next, changed := f.seq+1, false
	seen := make(map[faas.ID]bool, len(f.rows))
	for t := range f.engine.registry.All() {
		id := t.ID()
		seen[id] = true
		text, err := json.Marshal(f.engine.newUIRow(t, f.engine.past.Summary(id, now)))
		if err != nil {
			continue // it has nothing that can't be written
		}
		if row := f.rows[id]; row == nil || !bytes.Equal(row.text, text) {
			f.rows[id], changed = &feedRow{text, next}, true
		}
	}
	for id := range f.rows {
		if !seen[id] {
			delete(f.rows, id)
			f.removed, changed = append(f.removed, goneRow{id.String(), next}), true
		}
	}
	if n := len(f.removed) - maxRemoved; n > 0 {
		f.floor = f.removed[n-1].seq
		f.removed = slices.Delete(f.removed, 0, n)
	}
	if changed {
		f.seq = next
	}
}

// A position is what a viewer has been told.
type position struct {
	boot         string
	rows, events uint64
}

func (p position) String() string { return fmt.Sprintf("%s-%d-%d", p.boot, p.rows, p.events) }

// parsePosition reads a position, or returns that of a viewer who knows nothing.
func parsePosition(s string) (p position) {
	boot, rest, _ := strings.Cut(s, "-")
	if n, err := fmt.Sscanf(rest, "%d-%d", &p.rows, &p.events); n != 2 || err != nil {
		return position{}
	}
	p.boot = boot
	return p
}

// uiChanges is what the page learns at once.
type uiChanges struct {
	Position  string            `json:"position"`
	System    *uiSystem         `json:"system,omitempty"` // only if this is everything, not changes
	Functions []json.RawMessage `json:"functions"`        // the new or changed ones
	Removed   []string          `json:"removed,omitempty"`
	Events    []history.Event   `json:"events"`
}

// uiSystem is what doesn't change while the program runs.
type uiSystem struct {
	Provider   string    `json:"provider"`
	Release    string    `json:"release"`
	Revision   string    `json:"revision"`
	Caddy      string    `json:"caddy"`
	Go         string    `json:"go"`
	Arch       string    `json:"arch"`
	Began      time.Time `json:"began"`
	Namespaces []string  `json:"namespaces"`
	Secrets    bool      `json:"secrets"` // whether the provider keeps any
	Logs       bool      `json:"logs"`
	Step       float64   `json:"step"` // of the history, in seconds
	Points     int       `json:"points"`
	Scaling    uiScaling `json:"scaling"`
}

// uiScaling is how functions are scaled whose labels say nothing.
type uiScaling struct {
	Min         int    `json:"min"`
	Max         int    `json:"max"`
	Concurrency int    `json:"concurrency"`
	Zero        bool   `json:"zero"`
	ZeroAfter   string `json:"zeroAfter"`
}

func newUIScaling(r scale.Rules) uiScaling {
	after := r.ZeroAfter.String()
	for _, zero := range []string{"m0s", "h0m"} { // 5m rather than 5m0s
		if strings.HasSuffix(after, zero) {
			after = after[:len(after)-2]
		}
	}
	return uiScaling{r.Min, r.Max, r.Concurrency, r.Zero, after}
}

// since returns what a viewer doesn't know yet, or nil; and the viewer's new position.
func (f *feed) since(p position, now time.Time, system func() *uiSystem) (*uiChanges, position) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.look(now)
	all := p.boot != f.boot || p.rows < f.floor || p.rows > f.seq
	if all {
		p = position{boot: f.boot}
	}
	c := &uiChanges{Functions: []json.RawMessage{}}
	for _, row := range f.rows {
		if all || row.seq > p.rows {
			c.Functions = append(c.Functions, row.text)
		}
	}
	for _, g := range f.removed {
		if !all && g.seq > p.rows {
			c.Removed = append(c.Removed, g.name)
		}
	}
	c.Events, p.events = f.engine.past.Since(p.events)
	p.rows = f.seq
	if all {
		c.System = system()
	} else if len(c.Functions)+len(c.Removed)+len(c.Events) == 0 {
		return nil, p
	}
	c.Position = p.String()
	return c, p
}
