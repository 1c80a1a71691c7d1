package scale

import (
	"math"
	"math/rand/v2"
)

// A part says which slots of a function's replicas this gateway may take while others have requests for it.
type part struct {
	gateways, place int64 // how many gateways there are, and how many of them come before this one
	others, before  int64 // requests that the other ones have, in replicas or waiting, and those of them that come before this one
}

// quota is the slots that may be taken: so many at most, of those from lo up to hi, counted over
// all replicas in their order; the one at first before others.
type quota struct{ most, lo, hi, first int64 }

// of divides slots for a gateway that has own requests, in replicas or waiting, one at least. Where all
// have no more than there are, it takes any that the others leave. Else each has slots by
// the number of its requests: those who know the same of each other never have the same ones, but for the
// one that who has too few for any is given.
func (p *part) of(slots, own int64) quota {
	all := own + p.others
	if all <= slots {
		return quota{slots - p.others, 0, slots, slots * p.place / p.gateways}
	}
	lo, hi := slots*p.before/all, slots*(p.before+own)/all
	if lo == hi {
		lo = min(lo, slots-1)
		hi = lo + 1
	}
	return quota{hi - lo, lo, hi, lo}
}

// divide takes in what the other gateways have to do.
func (f *scaled) divide() {
	o := &f.others
	if o.Others == 0 {
		f.part.Store(nil)
		return
	}
	f.part.Store(&part{int64(o.Others) + 1, int64(o.Place), int64(o.sum.InFlight + o.sum.Queued), int64(o.before)})
	if f.queued.Load() > 0 {
		f.dispatch() // it may be more than before
	}
}

// pick takes a slot of the ready replica with the fewest leases, or returns
// nil. It starts at a random one, so that equals share the load, or where slots are
// limited and there are other gateways, at each one's own place: they fill different replicas first.
// Where no replica of its quota accepts connections, it takes as many slots of others.
func (t *Target) pick() *replica {
	s := t.now.Load()
	n := len(s.ready)
	if n == 0 {
		return nil
	}
	all := s.limit * int64(n)
	first, mine, now := 0, quota{most: math.MaxInt64, hi: math.MaxInt64}, t.registry.clock()
	if p := t.part.Load(); p != nil && s.limit > 0 {
		mine = p.of(all, max(1, t.inFlight.Load()+t.queued.Load()))
		first = int(mine.first / s.limit)
	} else if n > 1 {
		first = rand.IntN(n)
	}
	for {
		var best *replica
		var least, taken int64
		alive := false // some replica of the quota
		for i := range n {
			i = (first + i) % n
			r := s.ready[i]
			leases := r.inFlight.Load()
			taken += leases
			room, passed := s.room(i, mine), r.ejected.Load() > now
			alive = alive || room > 0 && (!passed || r.full.Load() > 0)
			if !passed && leases < room && (best == nil || leases < least) {
				best, least = r, leases
			}
		}
		switch {
		case !alive && (mine.lo > 0 || mine.hi < all):
			mine.lo, mine.hi = 0, all
		case best == nil || taken >= mine.most:
			return nil
		case best.inFlight.CompareAndSwap(least, least+1):
			t.inFlight.Add(1)
			return best
		}
	}
}

// room is how many of a replica's slots are in a quota.
func (s *snapshot) room(i int, mine quota) int64 {
	if s.limit == 0 {
		return math.MaxInt64
	}
	return min(mine.hi, s.limit*int64(i+1)) - max(mine.lo, s.limit*int64(i))
}
