package verify

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"
)

// Deliveries remember what was delivered, so that the same is not delivered
// again. They hold a bounded number. Beyond it the sender with the most loses
// its oldest, so that a busy one is not at the cost of others.
type Deliveries struct {
	max int

	mu    sync.Mutex
	known map[DeliveryKey]*delivery
	past  map[digest]*list.List // a sender's *delivery that are done, in the order in which they were
	done  int                   // of all senders
}

// A DeliveryKey stands for one delivery of one sender.
type DeliveryKey struct{ sender, delivery digest }

type digest [sha256.Size]byte

type delivery struct {
	key   DeliveryKey
	ended chan struct{} // closed when the first of them has ended
	until time.Time     // when it is done: when to forget it
}

// NewDeliveries remembers at most max of those that are done.
func NewDeliveries(max int) *Deliveries {
	return &Deliveries{max: max, known: make(map[DeliveryKey]*delivery), past: make(map[digest]*list.List)}
}

// Key is that of a delivery's id among those of a scheme and a secret, which make a sender, that go to the same receiver.
func Key(scheme string, secret []byte, to, id string) DeliveryKey {
	return DeliveryKey{sum([]byte(scheme), secret), sum([]byte(to), []byte(id))}
}

func sum(parts ...[]byte) digest {
	h := sha256.New()
	for _, part := range parts {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		h.Write(part)
	}
	return digest(h.Sum(nil))
}

// Begin tells whether a delivery is the first one (then end must be called,
// with whether it was taken), or was taken already: then end is nil. One that is
// under way is waited for: it may yet fail. The error is the context's.
func (d *Deliveries) Begin(ctx context.Context, key DeliveryKey, now time.Time) (end func(taken bool, until time.Time), err error) {
	for {
		d.mu.Lock()
		other := d.known[key]
		if other != nil && !other.until.IsZero() && now.After(other.until) {
			other = nil // its place in past stays until its turn comes
		}
		if other == nil {
			e := &delivery{key: key, ended: make(chan struct{})}
			d.known[key] = e
			d.mu.Unlock()
			return func(taken bool, until time.Time) { d.end(e, taken, until) }, nil
		}
		done := !other.until.IsZero()
		d.mu.Unlock()
		if done {
			return nil, nil
		}
		select {
		case <-other.ended:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (d *Deliveries) end(e *delivery, taken bool, until time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer close(e.ended)
	if !taken {
		delete(d.known, e.key)
		return
	}
	e.until = until
	l := d.past[e.key.sender]
	if l == nil {
		l = list.New()
		d.past[e.key.sender] = l
	}
	l.PushBack(e)
	for d.done++; d.done > d.max; d.done-- {
		d.forget()
	}
}

// forget drops one of the sender that has the most.
func (d *Deliveries) forget() {
	var most digest
	n := 0
	for sender, l := range d.past {
		if l.Len() > n {
			most, n = sender, l.Len()
		}
	}
	l := d.past[most]
	oldest := l.Remove(l.Front()).(*delivery)
	if d.known[oldest.key] == oldest {
		delete(d.known, oldest.key)
	}
	if n == 1 {
		delete(d.past, most)
	}
}
