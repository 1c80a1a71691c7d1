package faas

import (
	"context"
	"errors"
	"time"
)

// The errors that a Provider's callers tell apart, with [errors.Is].
var (
	// ErrNotFound: there is no such function or secret.
	ErrNotFound = errors.New("not found")
	// ErrExists: there is one already.
	ErrExists = errors.New("exists already")
	// ErrInvalid: the engine can't do what was asked for, now or ever; the message says why.
	ErrInvalid = errors.New("invalid")
	// ErrInUse: functions use it; the message names them.
	ErrInUse = errors.New("in use")
	// ErrRunning: a job's last run has not ended.
	ErrRunning = errors.New("running")
	// ErrForbidden: the engine could, but its options don't allow it; the message names the rule.
	ErrForbidden = errors.New("not allowed")
	// ErrUnavailable: the engine can't be reached, or doesn't answer in time; what was asked for may or may not have been done.
	ErrUnavailable = errors.New("the engine is unavailable")
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

// A Watcher is a Provider that pushes changes; what a call has done has been
// told when it returns. Once Set has returned for a
// deployment without a replica, nothing is sent to that replica any more; a
// provider that calls it before it stops the replica loses no request.
type Watcher interface {
	// Watch feeds the sink until the context ends, reconnecting inside; one watch at a time.
	Watch(context.Context, Sink) error
}

// A Logger is a Provider that keeps what its functions write.
type Logger interface {
	// Logs calls line for each line of a function's replicas, past ones
	// included, oldest first. With Follow it goes on with new ones until the context ends
	// or the function is removed (nil). ErrNotFound comes before the first line; an error of line ends it.
	Logs(ctx context.Context, id ID, q LogQuery, line func(LogLine) error) error
}

// LogQuery says which lines are wanted.
type LogQuery struct {
	// Replica is the ID of the only replica whose lines are wanted; "" for all.
	Replica string
	// Tail is how many of the lines there are now, the last ones; negative for all.
	Tail int
	// Since leaves earlier lines out; zero for none.
	Since time.Time
	// Follow waits for further lines.
	Follow bool
}

// A LogLine is one line that a replica wrote.
type LogLine struct {
	Time time.Time
	// Replica is the ID of the replica; "" if the engine itself says something.
	Replica string
	// Text is the line without its end.
	Text string
}

// A SecretStore is a Provider that keeps secrets, and gives each function the
// ones that it names as files.
type SecretStore interface {
	// Secrets names all of every namespace, sorted.
	Secrets(context.Context) ([]Secret, error)
	// CreateSecret keeps a new secret; ErrExists, ErrInvalid.
	CreateSecret(ctx context.Context, s Secret, value []byte) error
	// UpdateSecret replaces a value and rolls the functions that use it; ErrNotFound, ErrInvalid.
	UpdateSecret(ctx context.Context, s Secret, value []byte) error
	// RemoveSecret deletes a secret; ErrNotFound, ErrInUse.
	RemoveSecret(context.Context, Secret) error
}

// A SecretReader is a SecretStore that also tells a secret's value. Not every
// engine does.
type SecretReader interface {
	// ReadSecret returns the value; ErrNotFound.
	ReadSecret(context.Context, Secret) ([]byte, error)
}

// A Meter is a Provider that knows what its functions consume.
type Meter interface {
	// Usage is that of all replicas of a function together; ErrNotFound.
	Usage(context.Context, ID) (Usage, error)
}

// A Pinger is a Provider that can tell whether its engine answers more cheaply than by List.
type Pinger interface {
	// Ping returns an error if the engine can't be reached.
	Ping(context.Context) error
}

// An Adjuster is a Provider whose functions several gateways may scale at the same time.
type Adjuster interface {
	// Adjust sets a function's number of replicas to what next makes of the present one, and returns
	// how many there should be then. If somebody else changes it meanwhile, next is called again.
	Adjust(ctx context.Context, id ID, next func(now int) int) (int, error)
}

// A Paced is a Provider that can do with more changes a second, or fewer, than [DefaultPace].
type Paced interface {
	// Pace is how many changes a second it is asked for at most because of load, if the configuration says nothing.
	Pace() int
}

// DefaultPace is for engines whose managers agree on each change.
const DefaultPace = 20

// An Aging is a Provider that goes on with what its engine told it last, while the engine is silent.
type Aging interface {
	// Age is how long ago the engine last answered; false if it never has.
	Age() (time.Duration, bool)
}

// A Refresher is a Provider whose engine doesn't tell it of everything at once.
type Refresher interface {
	// Refresh makes what is known of a function be read again: a request met what can't be, if that is right. It returns
	// at once; called often, it does so about once a second.
	Refresh(ID)
}

// Usage is what a function consumes at present.
type Usage struct {
	// CPU is in thousandths of a core.
	CPU float64
	// Memory is in bytes.
	Memory float64
}

// A Guard is a Provider that runs only some functions of those who may ask for
// any, as long as the configuration doesn't say otherwise.
type Guard interface {
	// Allowed reports why a function may not be deployed through the API: ErrForbidden or nil. It judges
	// the image, the command, or both: whatever the configuration has no rule for.
	Allowed(fn Function, image, command bool) error
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
