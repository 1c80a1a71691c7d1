package scale

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

const (
	// askEvery is how often the others are asked while functions are in use here; while requests wait here, askSoon.
	askEvery, askSoon = 500 * time.Millisecond, 50 * time.Millisecond
	// sightFor is how old what a gateway has told may be while functions are lowered by it.
	sightFor = 2 * time.Second
	// loadFor is how long it counts as load.
	loadFor = 10 * time.Second
)

// Peers is what a gateway knows of the others, as somebody finds it out who
// asks them when [Peers.Run] says so. They are told apart by their
// addresses, and are one if they have one name.
type Peers struct {
	self string
	kick chan struct{} // of capacity 1

	mu     sync.Mutex
	listed bool // it is known which ones there are
	peers  map[string]*peer
}

// peer is the gateway at an address.
type peer struct {
	gateway string    // its name; "": not heard yet
	heard   time.Time // when it was asked for what it told last
	ended   bool
	reports map[faas.ID]Report
}

var _ Others = (*Peers)(nil)

// NewPeers returns the peers of a gateway of that name; nothing is known of them yet.
func NewPeers(self string) *Peers {
	return &Peers{self: self, kick: make(chan struct{}, 1), peers: map[string]*peer{}}
}

// Self is the name of this gateway.
func (p *Peers) Self() string { return p.self }

// Run calls ask, which asks the others, from time to time while somebody wants to know
// of them, until the context ends. What they tell is of use to the functions of r at once.
func (p *Peers) Run(ctx context.Context, r *Registry, ask func()) {
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.kick:
		}
		begun := time.Now()
		ask()
		r.heard()
		// Where there is much to tell, a tenth of the time at most goes into it.
		rest.Reset(min(max(askSoon, 9*time.Since(begun)), askEvery))
		for resting := true; resting; resting = time.Since(begun) < askEvery && r.queued.Load() == 0 {
			select {
			case <-ctx.Done():
				return
			case <-rest.C:
				rest.Reset(askSoon)
			}
		}
	}
}

// List says at which addresses there are gateways; this one may be among them.
// Not known means that there may be others, among them those that there were when it was last known.
func (p *Peers) List(addrs []string, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listed = known
	for addr := range p.peers {
		if known && !slices.Contains(addrs, addr) {
			delete(p.peers, addr)
		}
	}
	for _, addr := range addrs {
		if p.peers[addr] == nil {
			p.peers[addr] = new(peer)
		}
	}
}

// Addrs are those where another gateway is or may be.
func (p *Peers) Addrs() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for addr, one := range p.peers {
		if one.gateway != p.self {
			all = append(all, addr)
		}
	}
	return all
}

// Hear takes in what the gateway at an address has told, who was asked then: what
// it told may have lain unread since, where this process was stopped.
func (p *Peers) Hear(addr, gateway string, asked time.Time, reports map[string]Report) {
	byID := make(map[faas.ID]Report, len(reports))
	for name, r := range reports {
		byID[faas.ParseID(name)] = r
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.peers[addr] != nil {
		p.peers[addr] = &peer{gateway: gateway, heard: asked, reports: byID}
	}
}

// End says that no gateway is at an address now: connections are refused. One that only does not answer may be there.
func (p *Peers) End(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.peers[addr] != nil {
		p.peers[addr] = &peer{ended: true}
	}
}

// A Gateway is what is known of one at an address.
type Gateway struct {
	Name  string // "": not heard yet
	Addr  string
	Heard time.Time // last
	Ended bool      // connections to it are refused
}

// Gateways are all at known addresses, this one perhaps among them, in the
// order of those; and wants them to be asked.
func (p *Peers) Gateways() (all []Gateway) {
	p.want()
	p.mu.Lock()
	defer p.mu.Unlock()
	for addr, one := range p.peers {
		all = append(all, Gateway{one.gateway, addr, one.heard, one.ended})
	}
	slices.SortFunc(all, func(a, b Gateway) int { return strings.Compare(a.Addr, b.Addr) })
	return all
}

func (p *Peers) want() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// Ask is of [Others].
func (p *Peers) Ask(id faas.ID, told func(string, Report)) Sight {
	p.want()
	p.mu.Lock()
	defer p.mu.Unlock()
	names := []string{p.self}
	sight := Sight{Whole: p.listed}
	for _, one := range p.peers {
		age := time.Since(one.heard)
		switch {
		case one.ended || slices.Contains(names, one.gateway):
			continue
		case one.gateway == "" || age > sightFor:
			sight.Whole = false
		}
		if one.gateway == "" {
			continue
		}
		names = append(names, one.gateway)
		if r, ok := one.reports[id]; ok && age <= loadFor {
			told(one.gateway, r)
		}
	}
	for _, name := range names[1:] {
		if sight.Others++; name < p.self {
			sight.Place++
		}
	}
	if sight.Owner = Owner(id, names); sight.Owner == p.self {
		sight.Owner = ""
	}
	return sight
}

// Owner is which of some gateways lowers a function, by rendezvous hashing:
// each has an equal share of all functions, and when one comes or goes only its share moves.
func Owner(id faas.ID, gateways []string) (owner string) {
	var most uint64
	for _, name := range gateways {
		sum := sha256.Sum256([]byte(name + " " + id.String()))
		if weight := binary.BigEndian.Uint64(sum[:]); owner == "" || weight > most || weight == most && name > owner {
			owner, most = name, weight
		}
	}
	return owner
}
