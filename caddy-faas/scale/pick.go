package scale

import (
	"math"
	"math/rand/v2"
)

// A part is how many slots of a function's replicas this gateway may take while others have requests for it.
type part struct {
	gateways, place int64 // how many gateways there are, and how many of them come before this one
	others          int64 // requests that the other ones have, in replicas or waiting
}

// of returns how many of some slots may be taken: what the others leave, and in
// any case as many as everybody has who takes an equal part.
func (p *part) of(slots int64) int64 {
	return max(1, slots*(p.place+1)/p.gateways-slots*p.place/p.gateways, slots-p.others)
}

// divide takes in what the other gateways have to do.
func (f *scaled) divide() {
	o := &f.others
	if o.Others == 0 {
		f.part.Store(nil)
		return
	}
	f.part.Store(&part{int64(o.Others) + 1, int64(o.Place), int64(o.sum.InFlight + o.sum.Queued)})
	if f.queued.Load() > 0 {
		f.dispatch() // it may be more than before
	}
}

// pick takes a slot of the ready replica with the fewest leases, or returns
// nil. It starts at a random one, so that equals share the load, or where slots are
// limited and there are other gateways, at each one's own place: they fill different replicas first.
func (t *Target) pick() *replica {
	s := t.now.Load()
	n := len(s.ready)
	if n == 0 {
		return nil
	}
	first, part, now := 0, int64(math.MaxInt64), t.registry.clock()
	if p := t.part.Load(); p != nil && s.limit > 0 {
		first, part = int(p.place)*n/int(p.gateways), p.of(s.limit*int64(n))
	} else if n > 1 {
		first = rand.IntN(n)
	}
	for {
		var best *replica
		var least, taken int64
		for i := range n {
			r := s.ready[(first+i)%n]
			leases := r.inFlight.Load()
			taken += leases
			if until := r.ejected.Load(); until != 0 && until > now {
				continue
			}
			if best == nil || leases < least {
				best, least = r, leases
			}
		}
		switch {
		case best == nil || s.limit > 0 && least >= s.limit || taken >= part:
			return nil
		case best.inFlight.CompareAndSwap(least, least+1):
			t.inFlight.Add(1)
			return best
		}
	}
}
