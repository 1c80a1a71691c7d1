package swarm

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/docker/docker/api/types/swarm"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

const (
	// heartbeat is how often the engine is asked whether it still answers, when nothing else is.
	heartbeat = 5 * time.Second
	// minResync and maxResync bound how often everything is read; see resyncAfter.
	minResync, maxResync = 5 * time.Second, 5 * time.Minute
	// reconnect is the longest pause before the engine is tried again.
	reconnect = 2 * time.Second
	// someAtMost is how many services are read by name; for more, all are.
	someAtMost = 50
)

// resyncAfter is how long after a full read of n functions the next one comes:
// events and the services on their way are read between, so that this is for
// what nobody tells of, such as a crash on another node. Its cost grows with n.
func resyncAfter(n int) time.Duration {
	factor := math.Pow(max(float64(n)/100, 1), 1.5)
	return min(time.Duration(float64(minResync)*factor), maxResync)
}

// Watch feeds the sink until the context ends. While the engine is silent, the
// sink keeps what it was told.
func (e *Engine) Watch(ctx context.Context, sink faas.Sink) error {
	if !e.table.begin(sink) {
		return errors.New("swarm provider is being watched already")
	}
	defer e.table.end()
	lost := false
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, reconnect) {
		began := time.Now()
		err := e.follow(ctx, func() {
			if lost {
				e.log.Info("the Docker engine answers again")
			}
			lost = false
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !lost {
			e.log.Warn("the Docker engine does not tell what runs; going on with what is known", zap.String("network", e.network), zap.Error(err))
			lost = true
		}
		if time.Since(began) > reconnect {
			pause = 100 * time.Millisecond
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// follow reads everything, then what events name and what is on its way, until something fails.
func (e *Engine) follow(ctx context.Context, connected func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, ended := e.docker.events(ctx) // before the read: what happens during it is told
	if err := e.readAll(ctx); err != nil {
		return err
	}
	connected()
	resync, beat := time.NewTimer(resyncAfter(e.table.size())), time.NewTicker(heartbeat)
	defer resync.Stop()
	defer beat.Stop()
	for {
		due, wait := e.table.next()
		var took time.Duration
		if len(due) > 0 {
			began := time.Now()
			if err := e.readSome(ctx, due...); err != nil {
				return err
			}
			for _, id := range e.table.left() {
				err := e.complete(ctx, id)
				e.log.Warn("a gateway left a scaling halfway: completing it", zap.Stringer("function", id), zap.Error(err))
			}
			took = time.Since(began)
			_, wait = e.table.next()
		}
		// However many are on their way, reading them takes a tenth of the time at most.
		poll := time.NewTimer(max(wait, minPoll/2, 10*took))
		var err error
		select {
		case ev := <-events:
			err = e.react(ctx, collect(events, ev))
		case err = <-ended:
			err = fmt.Errorf("the stream of events ended: %w", err)
		case <-resync.C:
			err = e.readAll(ctx)
			resync.Reset(resyncAfter(e.table.size()))
		case <-beat.C:
			err = e.Ping(ctx)
		case <-e.table.spare:
			err = e.sweep(ctx)
		case <-poll.C:
		case <-e.table.changed:
		case <-ctx.Done():
			err = ctx.Err()
		}
		poll.Stop()
		if err != nil {
			return err
		}
	}
}

// collect takes the events that have come by now.
func collect(events <-chan event, first event) []event {
	all := []event{first}
	for len(all) < 1000 {
		select {
		case ev := <-events:
			all = append(all, ev)
		case <-time.After(time.Millisecond): // they come one by one through a goroutine
			return all
		}
	}
	return all
}

// react reads what events name.
func (e *Engine) react(ctx context.Context, events []event) error {
	var services []string
	for _, ev := range events {
		if ev.task != "" {
			e.table.started(ev)
		}
		switch {
		case ev.node != "":
			if err := e.readAll(ctx); err != nil {
				return err
			}
			e.table.touchNode(ev.node)
		case !slices.Contains(services, ev.service):
			services = append(services, ev.service)
		}
	}
	if len(services) == 0 {
		return nil
	}
	if err := e.readSome(ctx, services...); err != nil {
		return err
	}
	e.table.touch(services...)
	return nil
}

// readAll reads every service, and the tasks that should run.
func (e *Engine) readAll(ctx context.Context) error {
	r := &reading{ticket: e.table.ticket(), full: true}
	var err error
	if r.network, err = e.docker.networkID(ctx, e.network); errors.Is(err, faas.ErrNotFound) {
		return e.noNetwork()
	} else if err != nil {
		return err
	}
	if r.services, err = e.docker.services(ctx); err != nil {
		return err
	}
	tasks, err := e.docker.tasks(ctx)
	if err != nil {
		return err
	}
	r.tasks = byService(tasks)
	if r.nodes, err = e.docker.nodes(ctx); err != nil { // after the tasks: when one is doomed because its node is lost, that shows
		return err
	}
	r.services = slices.DeleteFunc(r.services, func(s swarm.Service) bool {
		_, is := identity(&s.Spec)
		return !is
	})
	if err := e.addHistory(ctx, r); err != nil {
		return err
	}
	e.answered()
	e.table.apply(r)
	return nil
}

// addHistory reads past tasks of services that are not as they should be, or were not lately: they say why.
func (e *Engine) addHistory(ctx context.Context, r *reading) error {
	var some []string
	unsettled := e.table.unsettled()
	for _, s := range r.services {
		if unsettled[s.ID] {
			some = append(some, s.ID)
		} else if st, ok := newState(s, r.tasks[s.ID]); ok && !st.settled(st.deployment(view{network: r.network, down: lost(r.nodes)})) {
			some = append(some, s.ID)
		}
	}
	for part := range slices.Chunk(some, someAtMost) {
		tasks, err := e.docker.tasks(ctx, part...)
		if err != nil {
			return err
		}
		found := byService(tasks)
		for _, id := range part {
			r.tasks[id] = found[id]
		}
	}
	return nil
}

// readSome reads some services and their tasks, past ones too.
func (e *Engine) readSome(ctx context.Context, ids ...string) error {
	if len(ids) > someAtMost {
		return e.readAll(ctx)
	}
	r := &reading{ticket: e.table.ticket(), asked: ids}
	var err error
	if r.services, err = e.docker.services(ctx, ids...); err != nil {
		return err
	}
	if len(r.services) > 0 {
		tasks, err := e.docker.tasks(ctx, ids...)
		if err != nil {
			return err
		}
		r.tasks = byService(tasks)
	}
	e.answered()
	e.table.apply(r)
	return nil
}

func byService(tasks []swarm.Task) map[string][]swarm.Task {
	all := map[string][]swarm.Task{}
	for _, t := range tasks {
		all[t.ServiceID] = append(all[t.ServiceID], t)
	}
	return all
}

// noNetwork is the error that says how to make the functions' network.
func (e *Engine) noNetwork() error {
	return fmt.Errorf("%w: the swarm has no network %q: docker network create --driver overlay --attachable --subnet 10.77.0.0/16 %s",
		faas.ErrUnavailable, e.network, e.network)
}
