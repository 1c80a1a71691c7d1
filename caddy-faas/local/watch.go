package local

import (
	"context"
	"errors"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// Watch feeds the sink until the context ends or the engine is closed; after
// that it makes no call any more. It begins after the first Apply.
func (e *Engine) Watch(ctx context.Context, sink faas.Sink) error {
	select {
	case <-e.loaded:
	case <-e.closed:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	e.sinkMu.Lock()
	taken := e.sink != nil
	if !taken {
		e.sink = sink
	}
	e.sinkMu.Unlock()
	if taken {
		return errors.New("local provider is being watched already")
	}
	for _, f := range e.all() {
		f.publish()
	}
	sink.Synced()
	var err error
	select {
	case <-ctx.Done():
		err = ctx.Err()
	case <-e.closed:
		e.wg.Wait() // the end of each function is told, too
		err = errClosed
	}
	e.sinkMu.Lock()
	e.sink = nil
	e.sinkMu.Unlock()
	return err
}

// publish tells the sink the function's present state, or once that it is gone.
func (f *function) publish() {
	f.tell.Lock()
	defer f.tell.Unlock()
	f.e.sinkMu.RLock()
	defer f.e.sinkMu.RUnlock()
	if f.gone {
		return
	}
	f.mu.Lock()
	f.gone = f.removed
	f.mu.Unlock()
	switch sink := f.e.sink; {
	case sink == nil:
	case f.gone:
		sink.Delete(f.id)
	default:
		sink.Set(f.deployment())
	}
}
