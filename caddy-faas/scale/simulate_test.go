package scale

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// A simulation is an engine without processes, and the load.
type simulation struct {
	policy   func(*Target) Policy // nil: ours
	unfair   bool                 // the engine is asked for everything at once, and starts in that order
	starters int                  // replicas that it starts at once
	start    time.Duration        // that one takes, of which a starter is busy for 80%
	zero     time.Duration        // functions go to zero after so long; 0: not
	gateways int                  // that the load is spread over, which tell each other; 0: one
	strict   bool                 // replicas refuse requests beyond their places, whoever sends them
	traces   []trace
	seed     uint64

	mu        sync.Mutex
	all       []*Registry // of each gateway
	functions map[faas.ID]*simulated
	queue     []*simReplica  // to be started
	inside    map[string]int // requests, by replica's address
	starting  int

	waits  []float64 // s
	busy   float64   // s in replicas, by the places that they have
	lived  float64   // s of replicas
	result outcome
}

type simulated struct {
	faas.Deployment
	replicas []*simReplica
}

type simReplica struct {
	f     *simulated
	slot  int
	state int // waiting, starting, ready, gone
	since time.Time
}

const (
	simWaiting = iota
	simStarting
	simReady
	simGone
)

// An outcome is a line of the table.
type outcome struct {
	requests, dropped, starts, writes, most int
	beyond                                  int     // that came to a replica without a free place, at least once
	p99, p999                               float64 // s that requests waited
	late, cold, over                        float64 // % that waited for more than 1 s; % that met no replica; replicas for each busy one
}

func (o outcome) String() string {
	return fmt.Sprintf("p99 %6.2f s  p99.9 %6.2f s  >1 s %5.2f%%  cold %4.1f%%  dropped %d, beyond places %d of %d  %5.1f replicas for each busy one  %d starts  %d writes",
		o.p99, o.p999, o.late, o.cold, o.dropped, o.beyond, o.requests, o.over, o.starts, o.writes)
}

// Scale is the engine's.
func (s *simulation) Scale(ctx context.Context, id faas.ID, n int) error {
	_, err := s.Adjust(ctx, id, func(int) int { return n })
	return err
}

// Adjust is the engine's.
func (s *simulation) Adjust(_ context.Context, id faas.ID, next func(int) int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.functions[id]
	n := next(f.Desired)
	if n == f.Desired {
		return n, nil
	}
	s.result.writes++
	f.Desired = n
	for len(f.replicas) > n { // what has not begun goes first, then the highest slot
		slices.SortStableFunc(f.replicas, func(a, b *simReplica) int {
			return cmp.Or(cmp.Compare(b.state, a.state), cmp.Compare(a.slot, b.slot))
		})
		last := f.replicas[len(f.replicas)-1]
		f.replicas = f.replicas[:len(f.replicas)-1]
		s.gone(last)
	}
	for slot := 1; len(f.replicas) < n; slot++ {
		if !slices.ContainsFunc(f.replicas, func(r *simReplica) bool { return r.slot == slot }) {
			r := &simReplica{f: f, slot: slot, since: time.Now()}
			f.replicas = append(f.replicas, r)
			s.queue = append(s.queue, r)
		}
	}
	s.tell(f)
	s.next()
	return n, nil
}

func (s *simulation) gone(r *simReplica) {
	if r.state == simReady || r.state == simStarting {
		s.lived += time.Since(r.since).Seconds()
	}
	r.state = simGone
}

// next starts what waits, as far as there are starters.
func (s *simulation) next() {
	for len(s.queue) > 0 && s.starting < s.starters {
		r := s.queue[0]
		if s.queue = s.queue[1:]; r.state != simWaiting {
			continue
		}
		s.result.starts++
		s.starting++
		r.state, r.since = simStarting, time.Now()
		time.AfterFunc(s.start*8/10, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.starting--
			s.next()
		})
		time.AfterFunc(s.start, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if r.state == simStarting {
				r.state = simReady
				s.tell(r.f)
			}
		})
	}
}

func (s *simulation) tell(f *simulated) {
	f.Replicas = nil
	for _, r := range f.replicas {
		f.Replicas = append(f.Replicas, faas.Replica{ID: fmt.Sprintf("%p", r), Slot: r.slot, Addr: fmt.Sprintf("%p", r), Ready: r.state == simReady})
	}
	s.result.most = max(s.result.most, len(f.replicas))
	for _, reg := range s.all {
		reg.Set(f.Deployment)
	}
}

// run lets the real registry, queue, scaler and budget meet the load, in fake time.
func (s *simulation) run(t *testing.T) (o outcome) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := NewDefaults()
		d.Starting, d.Depth, d.QueueTotal, d.QueueTimeout = 2*s.starters, math.MaxInt32, math.MaxInt32, time.Minute
		d.Zero, d.ZeroAfter = s.zero > 0, s.zero
		if s.policy != nil || s.unfair {
			d.Starting, d.Writes = 1<<40, 1<<30
		}
		defer s.open(t, d)()
		s.functions, s.inside = map[faas.ID]*simulated{}, map[string]int{}
		var load sync.WaitGroup
		for i, tr := range s.traces {
			id := faas.ParseID(fmt.Sprint("f", i))
			f := &simulated{Deployment: faas.Deployment{Function: faas.Function{ID: id, Labels: tr.labels}}}
			s.functions[id] = f
			for _, reg := range s.all {
				reg.Set(f.Deployment)
			}
		}
		for i, tr := range s.traces {
			id := faas.ParseID(fmt.Sprint("f", i))
			rnd := rand.New(rand.NewPCG(s.seed, uint64(i)))
			load.Go(func() { s.load(t, id, tr, rnd, &load) })
		}
		load.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, f := range s.functions {
			for _, r := range f.replicas {
				s.gone(r)
			}
		}
		o = s.summary()
	})
	return o
}

// open makes the gateways, until the returned function is called.
func (s *simulation) open(t *testing.T, d Defaults) (end func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	peers := map[string]*Registry{}
	for n := range max(1, s.gateways) {
		reg := NewRegistry(s, zap.NewNop(), func(faas.ID) {})
		if s.policy != nil {
			reg.scaler.policy = s.policy
		}
		reg.Configure(d)
		reg.Synced()
		s.all = append(s.all, reg)
		peers[fmt.Sprint("gateway ", n)] = reg
	}
	for name, reg := range peers {
		if s.gateways < 2 {
			break
		}
		p := NewPeers(name)
		reg.Heed(p)
		asking.Go(func() {
			p.Run(ctx, reg, func() {
				p.List(slices.Collect(maps.Keys(peers)), true)
				for _, addr := range p.Addrs() {
					p.Hear(addr, addr, time.Now(), peers[addr].Reports())
				}
			})
		})
	}
	return func() {
		cancel()
		asking.Wait()
		for _, reg := range s.all {
			reg.Close()
		}
	}
}

// load sends the requests of a trace.
func (s *simulation) load(t *testing.T, id faas.ID, tr trace, rnd *rand.Rand, all *sync.WaitGroup) {
	time.Sleep(tr.delay)
	begin := time.Now()
	toward := rand.New(rand.NewPCG(s.seed, rnd.Uint64())) // so that the load is the same, however many gateways there are
	places := float64(s.all[0].get(id).Rules().Concurrency)
	for {
		gap := rnd.ExpFloat64() / tr.most
		if tr.gap != nil {
			gap = tr.gap(rnd)
		}
		if time.Since(begin).Seconds()+gap >= tr.length.Seconds() {
			return
		}
		time.Sleep(time.Duration(gap * float64(time.Second)))
		now := time.Since(begin)
		if tr.gap == nil && rnd.Float64()*tr.most >= tr.rate(now.Seconds()) {
			continue
		}
		takes := tr.service * math.Exp(tr.sigma*rnd.NormFloat64()-tr.sigma*tr.sigma/2)
		target := s.all[0].get(id)
		if s.gateways > 1 {
			target = s.all[toward.IntN(s.gateways)].get(id)
		}
		all.Go(func() {
			begin := time.Now()
			i, err := target.Invoke(t.Context(), 0, nil)
			beyond := false
			for err == nil && !s.enter(i.Addr(), int(places), &beyond) {
				if err = i.Full(); err == nil { // other gateways use it as well
					err = i.Next(t.Context())
				}
			}
			waited := time.Since(begin).Seconds()
			if err == nil {
				time.Sleep(time.Duration(takes * float64(time.Second)))
				s.leave(i.Addr())
			}
			i.End()
			s.mu.Lock()
			defer s.mu.Unlock()
			s.waits = append(s.waits, waited)
			if beyond {
				s.result.beyond++
			}
			if err != nil {
				s.result.dropped++
				return
			}
			s.busy += takes / places
			if i.ColdStart() > 0 {
				s.result.cold++
			}
		})
	}
}

// enter lets a request into a replica that has a place free, or into any one that is not strict.
func (s *simulation) enter(addr string, places int, beyond *bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	full := places > 0 && s.inside[addr] >= places
	*beyond = *beyond || full
	if full && s.strict {
		return false
	}
	s.inside[addr]++
	return true
}

func (s *simulation) leave(addr string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inside[addr]--
}

func (s *simulation) summary() outcome {
	o := s.result
	slices.Sort(s.waits)
	o.requests = len(s.waits)
	at := func(p float64) float64 { return s.waits[min(len(s.waits)-1, int(p*float64(len(s.waits))))] }
	o.p99, o.p999 = at(0.99), at(0.999)
	late, _ := slices.BinarySearch(s.waits, 1.0)
	o.late = 100 * float64(len(s.waits)-late) / float64(len(s.waits))
	o.cold *= 100 / float64(len(s.waits))
	o.over = s.lived / s.busy
	return o
}
