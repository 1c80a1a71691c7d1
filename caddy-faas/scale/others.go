package scale

import (
	"maps"
	"math"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// Others tell of the other gateways that scale the same functions.
type Others interface {
	// Self is this gateway's name.
	Self() string
	// Ask tells what each other gateway last said of a function, if it did, by a
	// name that no two gateways ever have. It is called often and does not wait.
	Ask(id faas.ID, told func(gateway string, r Report)) Sight
}

// A Sight is what a gateway sees of the others. Every gateway may raise a
// function, but only its owner lowers it, and only while the sight is whole: a
// swarm that falls apart has too many replicas, not too few.
type Sight struct {
	Owner  string // the gateway that lowers the function; "" for this one
	Whole  bool   // every gateway that there is has told lately
	Others int    // how many other gateways there are
	Place  int    // how many of them come before this one, in an order that all agree on
}

// A Report is how a function stands at one gateway.
type Report struct {
	At        time.Duration `json:"at"`                // ns, by the gateway's own clock that never goes back
	Arrived   uint64        `json:"arrived,omitempty"` // as in [Sample]
	Completed uint64        `json:"completed,omitempty"`
	Busy      time.Duration `json:"busy,omitempty"` // ns
	InFlight  int           `json:"inFlight,omitempty"`
	Streams   int           `json:"streams,omitempty"`
	Queued    int           `json:"queued,omitempty"`
	Start     time.Duration `json:"start,omitempty"`    // ns
	Least     int           `json:"least,omitempty"`    // an alert asks for no fewer replicas
	Stay      bool          `json:"stay,omitempty"`     // an alert asks not to lower the function
	Narrowed  int           `json:"narrowed,omitempty"` // requests are given to the lowest so many replicas only; 0: to all
}

// Reports are of the functions in use at this gateway, by the ID's String.
func (r *Registry) Reports() map[string]Report {
	all := make(map[string]Report)
	r.used.Range(func(t, _ any) bool {
		all[t.(*Target).name] = t.(*Target).report()
		return true
	})
	return all
}

func (t *Target) report() Report {
	r := Report{
		Completed: t.completed.Load(), Busy: time.Duration(t.busy.Load()), Streams: int(t.streams.Load()),
		InFlight: int(t.inFlight.Load()), Queued: int(t.queued.Load()), Arrived: t.started.Load(), Start: t.startup.load(),
	}
	now := t.registry.clock()
	r.At = time.Duration(now)
	t.mu.Lock()
	defer t.mu.Unlock()
	r.Least, r.Stay = t.goal.alert.at(now), now < t.goal.stay
	if t.goal.narrowed != none {
		r.Narrowed = t.goal.narrowed
	}
	return r
}

// others is what the other gateways have told of a function since it is in use here.
type others struct {
	Sight
	told     map[string]*told
	sum      Sample // its counts never go back, whoever comes and goes
	before   int    // requests in replicas or waiting at those that come before this one
	arriving bool   // some were told of just now
	least    int
	stay     bool
}

// told is what one gateway has told of a function. What has arrived there since
// the report before is taken for spread over that time: otherwise the rate would
// jump by how many reports come between two looks.
type told struct {
	last    Report
	arrived uint64        // not taken in yet
	over    time.Duration // so long these took to arrive
	silent  time.Duration // for so long nothing was told
}

// forgotten is after how long a silent gateway is no longer known: each start of one has a name of its own.
const forgotten = time.Hour

// take gives what has arrived in so long.
func (t *told) take(elapsed time.Duration) uint64 {
	elapsed = min(elapsed, t.over)
	n := t.arrived
	if elapsed < t.over {
		n = uint64(float64(n) * elapsed.Seconds() / t.over.Seconds())
	}
	t.arrived -= n
	t.over -= elapsed
	return n
}

func (o *others) owned() bool { return o.Owner == "" }

// narrowed is what the owner lets requests be given to, unless it may have ended since it said so.
func (o *others) narrowed() int {
	if t := o.told[o.Owner]; o.Whole && t != nil && t.last.Narrowed > 0 {
		return t.last.Narrowed
	}
	return none
}

// ask takes in what the others tell. Without any, everything is this gateway's to do.
func (o *others) ask(from *Others, id faas.ID, elapsed time.Duration) {
	o.sum.InFlight, o.sum.Streams, o.sum.Queued, o.sum.Start, o.least, o.before, o.stay, o.arriving = 0, 0, 0, 0, 0, 0, false, false
	if from == nil {
		o.Sight = Sight{Whole: true}
		return
	}
	maps.DeleteFunc(o.told, func(_ string, t *told) bool {
		t.silent += elapsed
		return t.silent > forgotten
	})
	self := (*from).Self()
	o.Sight = (*from).Ask(id, func(gateway string, r Report) {
		o.add(gateway, r)
		if gateway < self {
			o.before += bounded(r.InFlight) + bounded(r.Queued)
		}
	})
	for _, t := range o.told {
		o.sum.Arrived += t.take(elapsed)
	}
}

func (o *others) add(gateway string, r Report) {
	if o.told == nil {
		o.told = make(map[string]*told)
	}
	t := o.told[gateway]
	if t == nil {
		t = &told{last: r}
		o.told[gateway] = t
	}
	// What it did before it was first heard, or before the function was made anew, is no load of now.
	if last := t.last; r.At > last.At && r.Arrived >= last.Arrived && r.Completed >= last.Completed && r.Busy >= last.Busy {
		o.arriving = o.arriving || r.Arrived > last.Arrived
		t.arrived += r.Arrived - last.Arrived
		if t.over += r.At - last.At; t.over > sightFor { // it was silent: no more than its rate is of use
			t.arrived, t.over = uint64(float64(t.arrived)*sightFor.Seconds()/t.over.Seconds()), sightFor
		}
		o.sum.Completed += r.Completed - last.Completed
		o.sum.Busy += r.Busy - last.Busy
	}
	t.last, t.silent = r, 0
	o.sum.InFlight += bounded(r.InFlight)
	o.sum.Streams += bounded(r.Streams)
	o.sum.Queued += bounded(r.Queued)
	o.sum.Start = max(o.sum.Start, r.Start)
	o.least = max(o.least, r.Least)
	o.stay = o.stay || r.Stay
}

func bounded(n int) int { return min(max(0, n), math.MaxInt16) }

// plus is how a function stands at two gateways together; the replicas are the same ones.
func (s Sample) plus(o Sample) Sample {
	s.Arrived += o.Arrived
	s.Completed += o.Completed
	s.Busy += o.Busy
	s.InFlight += o.InFlight
	s.Streams += o.Streams
	s.Queued += o.Queued
	s.Start = max(s.Start, o.Start)
	return s
}

// heard has functions for which requests wait looked at, as the others have told how they stand.
func (r *Registry) heard() {
	r.used.Range(func(t, _ any) bool {
		if t := t.(*Target); t.queued.Load() > 0 {
			t.attend()
		}
		return true
	})
}

// stranger is why a number of replicas has changed that this gateway did not ask for.
func (r *Registry) stranger() string {
	if r.others.Load() != nil {
		return "set by another gateway or program, or by hand"
	}
	return "set by hand, or by another program"
}
