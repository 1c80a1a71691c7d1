package caddyfaas

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/history"
	"github.com/caddy-faas/faas/caddy-faas/scale"
)

// past is what an engine remembers for the page: its functions' last hour, and what happened lately.
type past struct {
	history.Store
	history.Journal
}

// remember closes each step of the history until the context ends.
func (e *engine) remember(ctx context.Context) {
	for {
		timer := time.NewTimer(time.Until(time.Now().Truncate(history.Step).Add(history.Step)))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case now := <-timer.C:
			e.past.Advance(now, func(id faas.ID) (g history.Gauges, ok bool) {
				t := e.registry.Lookup(ctx, id, 0)
				if t == nil {
					return g, false
				}
				return gauges(t), true
			})
		}
	}
}

func gauges(t *scale.Target) history.Gauges {
	return history.Gauges{
		Desired: uint32(t.Deployment().Desired), Ready: uint32(t.Ready()),
		InFlight: uint32(max(0, t.InFlight())), Queued: uint32(max(0, t.Queued())),
	}
}

// ended remembers an invocation. Its status alone tells whether it failed: what
// a function answers below 500 is its caller's affair, but for 429, which is ours or its own "no".
func (e *engine) ended(t *scale.Target, status int, took time.Duration, cause error) {
	failed := status >= http.StatusInternalServerError || status == http.StatusTooManyRequests
	now := time.Now()
	e.past.Observe(t.ID(), now, took, failed)
	if !failed {
		return
	}
	text := fmt.Sprintf("%d %s", status, http.StatusText(status))
	var refused *scale.Refusal
	if answer := (caddyhttp.HandlerError{}); errors.As(cause, &refused) {
		text += ": " + refused.Reason // the rest is in an event of its own
	} else if errors.As(cause, &answer) && answer.Err != nil {
		text += ": " + answer.Err.Error()
	}
	e.past.Add(history.Event{Time: now, Function: t.Name(), Kind: history.Failed, Text: text})
}

// chronicle passes on what the provider tells, and notes what has changed.
type chronicle struct {
	engine  *engine
	synced  atomic.Bool
	awaited sync.Map // faas.ID: its first ready replica is news
}

// Set implements faas.Sink.
func (c *chronicle) Set(d faas.Deployment) {
	e := c.engine
	d.Remarks = slices.Concat(d.Remarks, d.Misread())
	var before faas.Deployment
	t := e.registry.Lookup(context.Background(), d.ID, 0)
	known := t != nil
	if known {
		before = *t.Deployment()
		if was := gauges(t); c.synced.Load() && (was.Desired != uint32(d.Desired) || was.Ready != uint32(ready(d))) {
			e.past.Changed(d.ID, time.Now(), was)
		}
	}
	e.domains.Set(d)
	if len(d.Remarks) > 0 && !slices.Equal(before.Remarks, d.Remarks) {
		e.log.Warn("not all of a function's definition is obeyed", zap.Stringer("function", d.ID), zap.Strings("remarks", d.Remarks))
	}
	e.capacity.Set(d, time.Now())
	for _, n := range news(before, d, known) {
		if !c.isNews(d.ID, n.Kind) {
			continue
		}
		if n.Kind == history.Scaled && known {
			n.Text = reasoned(n.Text, t.Status().Reason)
		}
		n.Time, n.Function = time.Now(), d.ID.String()
		e.past.Add(n)
	}
}

// reasoned is the scaler's explanation of a change, if its last one is of that.
func reasoned(change, why string) string {
	if strings.HasPrefix(why, change+":") {
		return why
	}
	return change
}

// isNews leaves out what happens to every function when the gateway starts.
func (c *chronicle) isNews(id faas.ID, kind string) bool {
	switch kind {
	case history.Ready:
		_, awaited := c.awaited.LoadAndDelete(id)
		return awaited
	case history.Deployed, history.Updated, history.Scaled:
		if !c.synced.Load() {
			return false
		}
	}
	c.awaited.Store(id, true)
	return true
}

// Delete implements faas.Sink.
func (c *chronicle) Delete(id faas.ID) {
	c.awaited.Delete(id)
	c.engine.domains.Delete(id)
	c.engine.capacity.Delete(id, time.Now())
	c.engine.past.Add(history.Event{Time: time.Now(), Function: id.String(), Kind: history.Removed})
}

// Synced implements faas.Sink.
func (c *chronicle) Synced() {
	c.synced.Store(true)
	c.engine.domains.Synced()
}

// news are the events between two states of a function, of which the first may be none.
func news(old, d faas.Deployment, known bool) (all []history.Event) {
	switch {
	case !known:
		all = append(all, history.Event{Kind: history.Deployed, Text: d.Image})
	case !reflect.DeepEqual(old.Function, d.Function):
		all = append(all, history.Event{Kind: history.Updated, Text: d.Image})
	}
	if known && old.Desired != d.Desired {
		all = append(all, history.Event{Kind: history.Scaled, Text: fmt.Sprintf("%d -> %d", old.Desired, d.Desired)})
	}
	if d.Reason != "" && d.Reason != old.Reason {
		all = append(all, history.Event{Kind: history.Failing, Text: d.Reason})
	}
	if ready(d) > 0 && ready(old) == 0 {
		all = append(all, history.Event{Kind: history.Ready, Text: fmt.Sprintf("%d of %d", ready(d), d.Desired)})
	}
	return all
}

// ready counts the ready replicas.
func ready(d faas.Deployment) (n int) {
	for _, r := range d.Replicas {
		if r.Ready {
			n++
		}
	}
	return n
}

var _ faas.Sink = (*chronicle)(nil)
