package faas

import (
	"context"
	"errors"
)

// The errors that a Provider's callers tell apart, with [errors.Is].
var (
	// ErrNotFound: there is no such function.
	ErrNotFound = errors.New("no such function")
	// ErrExists: there is one already.
	ErrExists = errors.New("function exists already")
	// ErrInvalid: the engine can't run what was asked for, now or ever; the message says why.
	ErrInvalid = errors.New("invalid function")
)

// A Provider runs functions on an engine, which keeps what was asked for: a
// gateway may be killed after any call returned and nothing is lost. All
// methods may be called at once from many goroutines, and give up when their
// context ends.
type Provider interface {
	// List returns every function, in no order.
	List(context.Context) ([]Deployment, error)
	// Create deploys a function, at InitialReplicas; ErrExists if there is one of this ID, ErrInvalid if it can't be.
	Create(context.Context, Function) error
	// Update replaces a function's definition, keeps its replica count, and rolls without a gap; ErrNotFound, ErrInvalid.
	Update(context.Context, Function) error
	// Remove drains and deletes a function; ErrNotFound.
	Remove(context.Context, ID) error
	// Scale sets the number of replicas, 0 included; ErrNotFound. It returns once the number is kept, not once it is reached.
	Scale(ctx context.Context, id ID, replicas int) error
}

// A Sink learns what runs. Its methods return at once. Calls for one function
// are never made at the same time, and each one replaces what was known.
type Sink interface {
	// Set tells a function's present state.
	Set(Deployment)
	// Delete tells that a function is gone.
	Delete(ID)
	// Synced tells that everything which existed when the watch began has been Set.
	Synced()
}

// A Watcher is a Provider that pushes changes. Once Set has returned for a
// deployment without a replica, nothing is sent to that replica any more; a
// provider that calls it before it stops the replica loses no request.
type Watcher interface {
	// Watch feeds the sink until the context ends, reconnecting inside; one watch at a time.
	Watch(context.Context, Sink) error
}

// Settings are what the app gives to every provider, whatever its engine.
type Settings struct {
	// Data is the state directory, absolute.
	Data string
	// Functions is the stack file that names the functions to run; "" for none.
	Functions string
	// Watchdog is the path of the fwatchdog binary; "" for the one beside this program, then the one on PATH.
	Watchdog string
}
