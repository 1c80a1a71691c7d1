package scale

import (
	"fmt"
	"math"
	"time"
)

// A Status explains how many replicas a function has.
type Status struct {
	Desired  int       `json:"desired"`           // replicas that there should be
	Ready    int       `json:"ready"`             // replicas that are ready
	Starting int       `json:"starting"`          // replicas that are not ready yet
	Pending  int       `json:"pending,omitempty"` // those among them that the engine has no room for
	InFlight int64     `json:"inFlight"`          // invocations inside a replica
	Streams  int64     `json:"streams"`           // event streams and upgraded connections among them
	Queued   int64     `json:"queued"`            // invocations that wait for one
	Rate     float64   `json:"rate"`              // invocations a second, lately
	Reason   string    `json:"reason,omitempty"`  // why the number of replicas was last changed; "" if it was not
	Since    time.Time `json:"since,omitzero"`    // when that was
	Held     string    `json:"held,omitempty"`    // why it keeps more replicas than its load needs; "" if it does not
}

// explanation of the last change.
type explanation struct {
	text string
	at   time.Time
}

// explain keeps why the number of replicas changes; t.mu is held.
func (t *Target) explain(from, to int, why string) {
	t.why.Store(&explanation{fmt.Sprintf("%d -> %d: %s", from, to, why), time.Now()})
}

// Status is how the function stands.
func (t *Target) Status() Status {
	s := t.now.Load()
	status := Status{
		Desired: s.Desired, Ready: s.up, Starting: max(0, s.Desired-s.up), Pending: s.Pending,
		InFlight: t.inFlight.Load(), Streams: t.streams.Load(), Queued: t.queued.Load(), Rate: math.Round(1000*math.Float64frombits(t.rate.Load())) / 1000,
		Held: held[t.held.Load()],
	}
	if why := t.why.Load(); why != nil {
		status.Reason, status.Since = why.text, why.at
	}
	return status
}
