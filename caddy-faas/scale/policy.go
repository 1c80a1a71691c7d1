package scale

import (
	"math"
	"time"
)

// A Policy says how many replicas a function should have. There is one for each
// function that is in use. It has no clock and knows no engine: it is told how
// the function stands, from time to time and when requests wait.
type Policy interface {
	Decide(Rules, Sample) Decision
}

// A Sample is how a function stands, and what it has done so far. The counts
// and sums of several gateways add up.
type Sample struct {
	At        time.Duration // by a clock that never goes back
	Arrived   uint64        // invocations that have begun
	Completed uint64        // those that a replica has answered, but no streams
	Busy      time.Duration // how long these were inside replicas, together
	InFlight  int           // now inside a replica, streams included
	Streams   int           // event streams and upgraded connections among them
	Queued    int           // now waiting for a replica
	Ready     int           // replicas
	Start     time.Duration // how long a replica takes to become ready
}

// A Decision is how many replicas a function should have, and why.
type Decision struct {
	Want    int           // as many as the present load needs; from 0 to the rules' Max
	Keep    int           // no fewer than this for now; at least Want
	Rate    float64       // invocations a second
	Service time.Duration // how long one is inside a replica
}

const (
	// step is the shortest time over which arrivals become a rate.
	step = 900 * time.Millisecond
	// moment is the shortest time over which they do where there are so many that chance can't explain them.
	moment = 200 * time.Millisecond
	// Rates follow quickly upwards and less so downwards: weights of the last second.
	rising, falling = 0.8, 0.5
	// known is how many invocations must have completed before their service time is relied on.
	known = 3
	// forget is the least weight of one invocation in the mean service time.
	forget = 0.05
	// initialSpare is added to twice the ready replicas as a bound while the service time is not known.
	initialSpare = 4
)

// Demand is a Policy after Little's law: the load of a function is how many
// requests arrive in a second times how many seconds each takes, and what
// it takes to work off those that wait by the time a further replica could
// be ready. Requests in flight would ask for too much: they pile up while replicas start.
type Demand struct {
	begun     bool
	at        time.Duration // when arrivals were last made a rate
	arrived   uint64
	rate      float64 // 1/s
	completed uint64
	busy      time.Duration
	learnt    int           // invocations that service was learnt from, up to 1/forget
	service   float64       // s
	stalled   time.Duration // since when nothing has completed of what is in replicas
	idle      bool          // nothing was, at the last sample
	window    window
}

// NewDemand returns a policy for a function whose service time was known
// before; 0 if it was not.
func NewDemand(service time.Duration) *Demand {
	d := &Demand{service: service.Seconds()}
	if service > 0 {
		d.learnt = known
	}
	return d
}

// Decide returns what the load at s needs. Calls are in the order of time.
func (d *Demand) Decide(r Rules, s Sample) Decision {
	if !d.begun {
		d.begun, d.at, d.idle, d.completed, d.busy = true, s.At, true, s.Completed, s.Busy
		d.arrived = s.Arrived - min(s.Arrived, uint64(max(0, s.InFlight+s.Queued))) // these came just now
	}
	d.learn(s)
	rate := d.arrivals(s)
	service := d.service
	if waited := (s.At - d.stalled).Seconds(); waited > service {
		service = waited // nothing has completed for so long
	}
	want := min(d.want(r, s, rate, service), r.Max)
	return Decision{Want: want, Keep: d.window.most(s.At, r.Window, want), Rate: rate, Service: time.Duration(d.service * float64(time.Second))}
}

// learn takes in the service times of what has completed.
func (d *Demand) learn(s Sample) {
	if n := int(s.Completed - d.completed); n > 0 {
		mean := (s.Busy - d.busy).Seconds() / float64(n)
		weight := float64(n) / float64(d.learnt+n)
		if d.learnt += n; d.learnt > 1/forget {
			d.learnt = 1 / forget
			weight = max(forget, 1-math.Pow(1-forget, float64(n)))
		}
		d.service += weight * (mean - d.service)
		d.completed, d.busy, d.stalled = s.Completed, s.Busy, s.At
	}
	idle := s.InFlight <= s.Streams
	if idle || d.idle { // what is there has only just come
		d.stalled = s.At
	}
	d.idle = idle
}

// arrivals returns the rate of arrivals: the kept one, or a higher one if the
// time since shows it.
func (d *Demand) arrivals(s Sample) float64 {
	elapsed := s.At - d.at
	arrived := float64(s.Arrived - d.arrived)
	if elapsed < step {
		// So many in less than a second, or in a moment, less two standard deviations of what comes by chance.
		return max(d.rate, rising*arrived+(1-rising)*d.rate, (arrived-2*math.Sqrt(arrived))/max(elapsed, moment).Seconds())
	}
	now, weight := arrived/elapsed.Seconds(), falling
	if now > d.rate {
		weight = rising
	}
	// What takes long is needed for long: then a second's arrivals say little.
	if part := elapsed.Seconds() / max(1, d.service); part != 1 {
		weight = 1 - math.Pow(1-weight, part)
	}
	d.rate += weight * (now - d.rate)
	if d.rate < 1e-3 {
		d.rate = 0
	}
	d.at, d.arrived = s.At, s.Arrived
	return d.rate
}

func (d *Demand) want(r Rules, s Sample, rate, service float64) int {
	start := max(1, s.Start.Seconds())
	full := float64(r.Target)
	least := 0
	if r.Concurrency > 0 {
		least = ceil(float64(s.InFlight) / float64(r.Concurrency))
	}
	switch {
	case r.Type == Rate:
		return max(least, ceil((rate+float64(s.Queued)/start)/(full*r.Proportion)))
	case r.Type == Backlog:
		return max(least, ceil(float64(s.Queued)/(full*r.Proportion)))
	case d.learnt < known:
		if r.Concurrency > 0 {
			full *= r.Proportion
		}
		return min(ceil(float64(s.InFlight+s.Queued)/full), 2*s.Ready+initialSpare)
	}
	// However many there are, one request is in one replica at a time.
	backlog := float64(s.Queued) * min(1, service/start)
	return max(least, ceil((rate*service+backlog+float64(s.Streams))/(full*r.Proportion)))
}

// ceil rounds up, but for what is a hair's breadth above a whole number.
func ceil(x float64) int { return int(min(math.Ceil(x-1e-9), math.MaxInt32)) }
