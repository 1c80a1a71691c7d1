package caddyfaas

import (
	"net/http"
	"strings"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/scale"
)

// uiCluster is what the page tells of the machines.
type uiCluster struct {
	Gateways []uiGateway `json:"gateways"`          // this one and its peers; this one alone if there are none
	Nodes    []faas.Node `json:"nodes,omitempty"`   // of the provider, if it knows them
	Problem  string      `json:"problem,omitempty"` // why it doesn't
}

// A uiGateway is a gateway that scales the same functions, or an address where one may be.
type uiGateway struct {
	Host    string    `json:"host"`    // "": not heard yet
	Address string    `json:"address"` // "": this one, which its peers know by another
	Self    bool      `json:"self"`
	State   string    `json:"state"`
	Heard   time.Time `json:"heard,omitzero"` // last
	Owns    int       `json:"owns"`           // how many functions only it lowers
	Problem string    `json:"problem,omitempty"`
}

// States of a gateway on the page.
const (
	gatewayHeard  = "heard"
	gatewayAsked  = "asked"  // for the first time
	gatewaySilent = "silent" // it may be there, so its functions are not lowered
	gatewayEnded  = "ended"
)

func (u *UI) cluster(w http.ResponseWriter, r *http.Request) error {
	c := uiCluster{Gateways: u.engine.gateways()}
	if lister, ok := u.engine.provider.(faas.NodeLister); ok {
		var err error
		if c.Nodes, err = lister.Nodes(r.Context()); err != nil {
			c.Problem = err.Error()
		}
	}
	return answerJSON(w, c)
}

// gateways are this one and the others.
func (e *engine) gateways() []uiGateway {
	p := e.peering
	host, _, _ := strings.Cut(p.Self(), "/")
	all := []uiGateway{{Host: host, Self: true, State: gatewayHeard}}
	names := []string{p.Self()}
	at := map[string]int{p.Self(): 0} // name -> index
	if g := p.group.Load(); g == nil || len(g.peers) == 0 {
		all[0].Owns = e.owned(names)[p.Self()]
		return all
	}
	problems := p.problems()
	for _, one := range p.Gateways() {
		if i, known := at[one.Name]; known { // by another address, too
			all[i].Address = strings.TrimPrefix(all[i].Address+", "+one.Addr, ", ")
			continue
		}
		g := uiGateway{Address: one.Addr, State: gatewayHeard, Heard: one.Heard, Problem: problems[one.Addr]}
		g.Host, _, _ = strings.Cut(one.Name, "/")
		switch {
		case one.Ended:
			g.State, g.Problem = gatewayEnded, ""
		case g.Problem != "":
			g.State = gatewaySilent
		case one.Name == "":
			g.State = gatewayAsked
		}
		if one.Name != "" {
			at[one.Name] = len(all)
			names = append(names, one.Name)
		}
		all = append(all, g)
		delete(problems, one.Addr)
	}
	for addr, problem := range problems { // those that were looked for and not found
		all = append(all, uiGateway{Address: strings.TrimPrefix(addr, byName), State: gatewaySilent, Problem: problem})
	}
	for name, n := range e.owned(names) {
		all[at[name]].Owns = n
	}
	return all
}

// owned counts the functions that each of some gateways lowers.
func (e *engine) owned(gateways []string) map[string]int {
	owned := make(map[string]int, len(gateways))
	for t := range e.registry.All() {
		owned[scale.Owner(t.ID(), gateways)]++
	}
	return owned
}
