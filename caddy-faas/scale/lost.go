package scale

import (
	"errors"
	"net"
	"slices"
	"sync"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// ErrLost is of an invocation whose replica has gone without a word. It may have been executed.
var ErrLost = errors.New("its replica was lost")

// Doubt has the provider look at the function again: what it told can't be all.
func (t *Target) Doubt() {
	if r, ok := t.registry.raiser.(faas.Refresher); ok {
		r.Refresh(t.id)
	}
}

// inside are the invocations inside a replica, by the connections that they are sent on: where
// a machine dies nobody closes them.
type inside struct {
	mu    sync.Mutex
	conns map[*Invocation]net.Conn
	lost  bool
}

// enter notes which connection an invocation is sent on.
func (s *inside) enter(i *Invocation, c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost {
		i.cut(c)
		return
	}
	if s.conns == nil {
		s.conns = map[*Invocation]net.Conn{}
	}
	s.conns[i] = c
}

// leave is to be called before the lease is given back.
func (s *inside) leave(i *Invocation) {
	s.mu.Lock()
	delete(s.conns, i)
	s.mu.Unlock()
}

// lose ends all invocations inside, and those that come, until it is not lost after all.
func (s *inside) lose(lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = lost
	if lost {
		for i, c := range s.conns {
			i.cut(c)
		}
		clear(s.conns)
	}
}

func (i *Invocation) cut(c net.Conn) {
	i.lost.Store(true)
	c.Close()
}

// follow keeps what is still at work in replicas that s no longer has, and ends what is in lost ones.
func (s *snapshot) follow(old *snapshot) {
	if old == nil {
		return
	}
	for _, r := range slices.Concat(old.all, old.leaving) {
		if r.inFlight.Load() > 0 && !slices.Contains(s.all, r) {
			s.leaving = append(s.leaving, r)
		}
	}
	if len(old.Lost)+len(s.Lost) == 0 {
		return
	}
	for _, some := range [][]*replica{s.all, s.leaving} {
		for _, r := range some {
			r.lose(slices.Contains(s.Lost, r.id))
		}
	}
}
