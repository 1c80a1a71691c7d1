package caddyfaas

import (
	"context"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/scale"
)

const (
	// capacityEvery is how often it is looked whether there is something to tell of the engine's capacity.
	capacityEvery = time.Second
	// capacityEvents is what the names of those events begin with, in Caddy's app events.
	capacityEvents = "faas.capacity."
	// staleAfter is how long an engine may say nothing while its nodes are taken for what they were.
	staleAfter = 30 * time.Second
)

// tellCapacity tells Caddy's subscribers of events what is news of the engine's
// capacity, until the context ends. Of several gateways one does. What a
// subscriber does may take its time: requests and scaling don't wait for it.
func (e *engine) tellCapacity(ctx context.Context) {
	ticker := time.NewTicker(capacityEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			if a := e.obeyed(); a != nil && a.active() {
				e.tellNews(ctx, a, now)
			}
		}
	}
}

func (e *engine) tellNews(ctx context.Context, a *App, now time.Time) {
	d := a.Scale.defaults()
	due := e.capacity.Due(now, &d)
	if nodes, ok := e.nodes(ctx, a); ok {
		due = append(due, e.capacity.DueNodes(now, &d, nodes)...)
	}
	for _, n := range due {
		switch owns := e.registry.Owns(n.ID); {
		case !owns && n.Kind == scale.CapacityCleared:
			e.capacity.Told(n)
			continue
		case !owns: // its owner may have gone; then it is for this gateway
			continue
		}
		name, data := capacityEvents+n.Kind, capacityData(&n)
		e.log.Info("capacity of the engine", zap.String("event", name), zap.Any("data", data))
		a.events.Emit(a.ctx, name, data)
		e.capacity.Told(n)
	}
}

// nodes are the engine's, if that is known and somebody wants to hear of them.
func (e *engine) nodes(ctx context.Context, a *App) ([]faas.Node, bool) {
	p, ok := e.provider.(faas.NodeLister)
	if !ok || !a.events.ShouldEmit(capacityEvents+scale.CapacityIdle) {
		return nil, false
	}
	if aging, ok := e.provider.(faas.Aging); ok {
		if age, known := aging.Age(); !known || age > staleAfter {
			return nil, false
		}
	}
	all, err := p.Nodes(ctx)
	return all, err == nil
}

// capacityData is what placeholders {event.data.*} of a subscriber stand for.
func capacityData(n *scale.CapacityEvent) map[string]any {
	seconds := int(n.For.Seconds())
	if n.Kind == scale.CapacityIdle {
		return map[string]any{
			"node": n.Node.Name, "id": n.Node.ID, "role": n.Node.Role, "cpu": n.Node.CPU, "memory": n.Node.Memory, "seconds": seconds,
		}
	}
	f := &n.Function
	return map[string]any{
		"function": f.ID.String(), "replicas": f.Pending, "total": n.Total, "reason": f.Reason, "seconds": seconds,
		"cpu": f.Requests[faas.CPU], "memory": f.Requests[faas.Memory], "constraints": strings.Join(f.Constraints, ", "),
	}
}

// obeyed is the app of the configuration in force; nil: none is.
func (e *engine) obeyed() *App {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.running) == 0 {
		return nil
	}
	return e.running[len(e.running)-1]
}

// active tells whether all apps of the configuration have started: before, subscriptions are not complete.
func (a *App) active() bool {
	now, err := caddy.ActiveContext().AppIfConfigured("faas")
	return err == nil && now == any(a)
}
