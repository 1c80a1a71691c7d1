package caddyfaas

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-faas/faas/caddy-faas/scale"
)

const (
	// peerTimeout bounds one answer, and one look-up of a name.
	peerTimeout = time.Second
	// peersEvery is how often names are looked up; as long as they aren't all found, peersSoon. Then it takes peersEvery
	// until that is told: an engine knows the name of what has just begun a moment later.
	peersEvery, peersSoon = 5 * time.Second, time.Second
	// maxNews bounds an answer in bytes: some 50,000 functions in use. A gateway that says more is not heard.
	maxNews = 8 << 20
	// byName is before a name, where an address may be, that could not be looked up.
	byName = "by name: "
)

// peering asks the other gateways how functions stand there. It lives as long
// as its engine, and sleeps while no function is in use.
type peering struct {
	*scale.Peers
	registry *scale.Registry
	alerts   *alerts
	log      *zap.Logger
	client   *http.Client
	group    atomic.Pointer[group]

	looked time.Time // run's own: when names were last looked up, and for which group
	of     *group
	found  time.Time // when all were found last, or first looked up
	apart  sync.WaitGroup
	mu     sync.Mutex
	silent map[string]string // why an address is not heard, as it was logged
	asking map[string]bool   // those among them that are asked just now
}

func newPeering(r *scale.Registry, a *alerts, log *zap.Logger) *peering {
	return &peering{
		Peers: scale.NewPeers(gatewayName()), registry: r, alerts: a, log: log, silent: map[string]string{}, asking: map[string]bool{},
		client: &http.Client{
			Timeout: peerTimeout,
			// Never by a proxy of the environment: these are neighbours.
			Transport:     &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// gatewayName is one that no other gateway ever has: its host, for people, and a text that is new each time.
func gatewayName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return host + "/" + rand.Text()
}

// configure makes g the gateways that scale these functions; nil: this one alone.
func (p *peering) configure(g *group) {
	p.group.Store(g)
	if g == nil || len(g.peers) == 0 {
		p.registry.Heed(nil)
		return
	}
	p.registry.Heed(p)
}

// run asks the others until the context ends.
func (p *peering) run(ctx context.Context) {
	defer p.client.CloseIdleConnections()
	defer p.apart.Wait()
	p.Run(ctx, p.registry, func() {
		if g := p.group.Load(); g != nil && len(g.peers) > 0 {
			p.look(ctx, g)
			p.askAll(ctx, g)
		}
	})
}

// look finds out at which addresses there are gateways, from time to time.
func (p *peering) look(ctx context.Context, g *group) {
	now := time.Now()
	if g != p.of {
		p.of, p.found, p.looked = g, now, time.Time{}
	}
	every := peersEvery
	if !p.found.Equal(p.looked) {
		every = peersSoon
	}
	if now.Sub(p.looked) < every {
		return
	}
	p.looked = now
	var all []string
	known := true
	for _, peer := range g.peers {
		host, port, err := net.SplitHostPort(peer)
		if err == nil {
			var found []string
			found, err = p.resolve(ctx, host)
			for _, addr := range found {
				all = append(all, net.JoinHostPort(addr, port))
			}
		}
		if err == nil || now.Sub(p.found) >= peersEvery {
			p.tell(byName+peer, "finding gateways failed; functions are not lowered meanwhile", err)
		}
		known = known && err == nil
	}
	if known {
		p.found = now
	}
	slices.Sort(all)
	all = slices.Compact(all)
	p.List(all, known)
	if !known { // those that there were are asked on
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.silent, func(addr, _ string) bool {
		return !slices.Contains(all, addr) && !slices.Contains(g.peers, strings.TrimPrefix(addr, byName))
	})
}

func (p *peering) resolve(ctx context.Context, host string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	return net.DefaultResolver.LookupHost(ctx, host)
}

// askAll asks all gateways, and waits for the answers of those that were heard before.
func (p *peering) askAll(ctx context.Context, g *group) {
	var heard sync.WaitGroup
	for _, addr := range p.Addrs() {
		p.mu.Lock()
		silent, asking := p.silent[addr] != "", p.asking[addr]
		if silent {
			p.asking[addr] = true
		}
		p.mu.Unlock()
		switch {
		case !silent:
			heard.Go(func() { p.askOne(ctx, g, addr) })
		case !asking:
			p.apart.Go(func() {
				p.askOne(ctx, g, addr)
				p.mu.Lock()
				delete(p.asking, addr)
				p.mu.Unlock()
			})
		}
	}
	heard.Wait()
}

func (p *peering) askOne(ctx context.Context, g *group, addr string) {
	asked := time.Now()
	said, err := p.ask(ctx, g, addr)
	switch {
	case err == nil:
		p.Hear(addr, said.Gateway, asked, said.Functions)
		p.alerts.learn(said.Alerts, asked)
	case errors.Is(err, syscall.ECONNREFUSED):
		p.End(addr)
	}
	if ctx.Err() == nil {
		p.tell(addr, "a gateway does not tell how functions stand there; they are not lowered as long as there may be one", err)
	}
}

// ask asks the gateway at an address.
func (p *peering) ask(ctx context.Context, g *group, addr string) (*peerNews, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/", nil)
	if err != nil {
		return nil, err
	}
	nonce := rand.Text()
	r.Header.Set(peerNonce, nonce)
	r.Header.Set(peerProof, proof(g.secret, "question", nonce, nil))
	resp, err := p.client.Do(r)
	if asked := (*url.Error)(nil); errors.As(err, &asked) {
		return nil, asked.Err // the rest is in the address
	}
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %s", resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxNews+1))
	switch {
	case err != nil:
		return nil, err
	case len(body) > maxNews:
		return nil, fmt.Errorf("its answer has more than %d bytes", maxNews)
	case !hmac.Equal([]byte(resp.Header.Get(peerProof)), []byte(proof(g.secret, "answer", nonce, body))):
		return nil, errors.New("its answer does not prove that it knows the secret")
	}
	said := new(peerNews)
	if err := json.Unmarshal(body, said); err != nil {
		return nil, err
	}
	if said.Gateway == "" {
		return nil, errors.New("its answer names no gateway")
	}
	return said, nil
}

// tell logs what is wrong with an address once, and that it is right again.
func (p *peering) tell(addr, what string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.silent[addr]
	switch {
	case err == nil && before != "":
		delete(p.silent, addr)
		p.log.Info("a gateway is heard again", zap.String("address", addr))
	case err != nil && before == "":
		p.silent[addr] = err.Error()
		p.log.Warn(what, zap.String("address", addr), zap.Error(err))
	}
}

// problems are what is wrong with the addresses and names that are not heard.
func (p *peering) problems() map[string]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.silent)
}
