package history

import (
	"strings"
	"sync"
	"time"
)

// Kinds of events.
const (
	Deployed = "deployed"
	Updated  = "updated"
	Removed  = "removed"
	Scaled   = "scaled"  // the number of replicas that there should be changed
	Ready    = "ready"   // the first replica serves
	Failing  = "failing" // replicas don't start, or something else ails the function
	Failed   = "failed"  // an invocation ended with an error
	Refused  = "refused" // a management call was refused
)

// An Event is something that happened to a function, or that several times in short order.
type Event struct {
	Seq      uint64    `json:"seq"` // larger than that of every earlier event
	Time     time.Time `json:"time"`
	Function string    `json:"function"`
	Kind     string    `json:"kind"`
	Text     string    `json:"text,omitempty"`
	Count    int       `json:"count"`
}

// JournalSize is how many events are kept.
const JournalSize = 200

// alike is how many of the latest events are searched for an equal one, and sameAfter how old that may be.
const (
	alike     = 20
	sameAfter = 10 * time.Minute
)

// maxText bounds an event's text, in bytes.
const maxText = 500

// Journal keeps the latest events.
type Journal struct {
	mu     sync.Mutex
	seq    uint64
	events []Event // by Seq
}

// Add keeps an event. One that equals a recent one counts with that, as does a
// further failure to start, whose words tell process IDs and pauses.
func (j *Journal) Add(e Event) {
	if len(e.Text) > maxText {
		e.Text = strings.ToValidUTF8(e.Text[:maxText], "") + "…"
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.seq++
	e.Seq, e.Count = j.seq, 1
	for i := len(j.events) - 1; i >= max(0, len(j.events)-alike); i-- {
		o := &j.events[i]
		if o.Function == e.Function && o.Kind == e.Kind && (o.Text == e.Text || e.Kind == Failing) && e.Time.Sub(o.Time) < sameAfter {
			e.Count = o.Count + 1
			j.events = append(j.events[:i], j.events[i+1:]...)
			break
		}
	}
	if len(j.events) == JournalSize {
		copy(j.events, j.events[1:])
		j.events = j.events[:JournalSize-1]
	}
	j.events = append(j.events, e)
}

// Since returns the events after one, the oldest first, and the newest's Seq. It
// never returns nil.
func (j *Journal) Since(seq uint64) (events []Event, newest uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	i := len(j.events)
	for i > 0 && j.events[i-1].Seq > seq {
		i--
	}
	return append([]Event{}, j.events[i:]...), j.seq
}
