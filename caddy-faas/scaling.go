package caddyfaas

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/scale"
)

// Scaling says how functions are scaled whose labels don't say otherwise.
// A field that is left out has its default.
type Scaling struct {
	// Auto says whether functions are raised and lowered by their load. A function without a replica is woken by a request in any case. Default: true.
	Auto *bool `json:"auto,omitempty"`
	// Min is the least number of replicas. Default: 1.
	Min *int `json:"min,omitempty"`
	// Max is the most replicas. Default: 20.
	Max *int `json:"max,omitempty"`
	// Target is how many requests at once a fully used replica has that may have any number. Default: 50.
	Target *int `json:"target,omitempty"`
	// TargetProportion is the part of that which is aimed at, above 0 and at most 1. Default: 0.7.
	TargetProportion *float64 `json:"target_proportion,omitempty"`
	// DownWindow is how long a load must have been gone before replicas follow it, at most 5m. Default: 60s.
	DownWindow caddy.Duration `json:"down_window,omitempty"`
	// Zero says whether functions that are not used go down to no replica. Default: false.
	Zero *bool `json:"zero,omitempty"`
	// ZeroDuration is for how long they must not have been used. Default: 5m.
	ZeroDuration caddy.Duration `json:"zero_duration,omitempty"`
	// Concurrency is how many requests one replica is given at a time; 0: no limit. Default: 0.
	Concurrency *int `json:"concurrency,omitempty"`
	// QueueDepth is how many requests may wait for one function. Default: 1000.
	QueueDepth *int `json:"queue_depth,omitempty"`
	// QueueTotal is how many may wait for all functions together. Default: 20000.
	QueueTotal *int `json:"queue_total,omitempty"`
	// QueueTimeout is how long each may wait. Default: the longest of 10s, 3.5 times what a
	// start of the function takes, and its time limit; 30s as long as it is not known what a start takes.
	QueueTimeout caddy.Duration `json:"queue_timeout,omitempty"`
	// AlertFor is how long an alert holds for a function that is scaled by load. Default: 60s.
	AlertFor caddy.Duration `json:"alert_for,omitempty"`
	// Starting is how many replicas may be starting at once because of load, at first: it adapts. Default: 8.
	Starting *int `json:"starting,omitempty"`
	// Writes is how many changes a second the engine is asked for because of load; one in 25 of these may lower a
	// function, after as many at once. Default: 20 for a swarm, 500 for processes of this machine.
	Writes *int `json:"writes,omitempty"`
	// PendingAfter is how long the engine must have had no room for a replica until the event
	// faas.capacity.pending tells so, and room again until faas.capacity.cleared does. Default: 10s.
	PendingAfter caddy.Duration `json:"pending_after,omitempty"`
	// NodeIdle is how long a node must have had no replica of a function until the event faas.capacity.idle tells so. Default: 10m.
	NodeIdle caddy.Duration `json:"node_idle,omitempty"`
	// Peers are where the sites with faas_peer of all gateways are that scale the same functions, as
	// HOST:PORT; a name stands for all of its addresses. This gateway may be among them. Default: none, there is one gateway.
	Peers []string `json:"peers,omitempty"`
	// PeerSecretFile has a secret that they all know, of at least 16 bytes; a newline at the end is not part of it.
	// It is read when the configuration is loaded. It must be given for faas_peer, and with Peers.
	PeerSecretFile string `json:"peer_secret_file,omitempty"`
}

// defaults are the rules that s stands for; nil for those without any option.
func (s *Scaling) defaults() scale.Defaults {
	d := scale.NewDefaults()
	if s == nil {
		return d
	}
	if s.Auto != nil {
		d.Auto = *s.Auto
	}
	if s.Zero != nil {
		d.Zero = *s.Zero
	}
	for name, to := range map[string]*int{
		"min": &d.Min, "max": &d.Max, "target": &d.Target, "concurrency": &d.Concurrency, "queue_depth": &d.Depth,
		"queue_total": &d.QueueTotal, "starting": &d.Starting, "writes": &d.Writes,
	} {
		if from := *s.numbers()[name].value; from != nil {
			*to = *from
		}
	}
	for name, to := range map[string]*time.Duration{
		"down_window": &d.Window, "zero_duration": &d.ZeroAfter, "queue_timeout": &d.QueueTimeout, "alert_for": &d.AlertFor,
		"pending_after": &d.PendingAfter, "node_idle": &d.NodeIdle,
	} {
		if from := *s.durations()[name]; from != 0 {
			*to = time.Duration(from)
		}
	}
	if s.TargetProportion != nil {
		d.Proportion = *s.TargetProportion
	}
	return d
}

type scalingNumber struct {
	value **int
	least int
}

func (s *Scaling) numbers() map[string]scalingNumber {
	return map[string]scalingNumber{
		"min": {&s.Min, 0}, "max": {&s.Max, 1}, "target": {&s.Target, 1}, "concurrency": {&s.Concurrency, 0},
		"queue_depth": {&s.QueueDepth, 0}, "queue_total": {&s.QueueTotal, 1}, "starting": {&s.Starting, 1}, "writes": {&s.Writes, 1},
	}
}

func (s *Scaling) durations() map[string]*caddy.Duration {
	return map[string]*caddy.Duration{
		"down_window": &s.DownWindow, "zero_duration": &s.ZeroDuration, "queue_timeout": &s.QueueTimeout, "alert_for": &s.AlertFor,
		"pending_after": &s.PendingAfter, "node_idle": &s.NodeIdle,
	}
}

// validate refuses what can't be meant.
func (s *Scaling) validate() error {
	if s == nil {
		return nil
	}
	for name, n := range s.numbers() {
		if v := *n.value; v != nil && *v < n.least {
			return fmt.Errorf("scale: %s %d: want a number from %d", name, *v, n.least)
		}
	}
	for name, d := range s.durations() {
		if *d < 0 {
			return fmt.Errorf("scale: %s %s: want a positive duration such as 60s", name, time.Duration(*d))
		}
	}
	if err := s.validatePeers(); err != nil {
		return err
	}
	d := s.defaults()
	switch {
	case !(d.Proportion > 0 && d.Proportion <= 1):
		return fmt.Errorf("scale: target_proportion %g: want a number above 0, at most 1", d.Proportion)
	case d.Window > faas.MaxDownWindow:
		return fmt.Errorf("scale: down_window %s: want at most %s", d.Window, faas.MaxDownWindow)
	case d.Max < d.Min:
		return fmt.Errorf("scale: max %d is less than min %d: want max %[2]d or more", d.Max, d.Min)
	}
	return nil
}

// unmarshalCaddyfile reads the block scale of the global option faas.
func (s *Scaling) unmarshalCaddyfile(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.ArgErr()
	}
	given := map[string]bool{}
	for d.NextBlock(1) {
		option, value := d.Val(), ""
		if given[option] {
			return d.Errf("scale: %s is given twice", option)
		}
		given[option] = true
		if option == "peers" {
			if s.Peers = d.RemainingArgs(); len(s.Peers) == 0 {
				return d.Errf("scale: peers: want one address or more, such as tasks.gateway:8081")
			}
			continue
		}
		if !s.has(option) {
			return d.Errf("unknown option %q of scale: want %s", option, strings.Join(s.options(), ", "))
		}
		if !d.AllArgs(&value) {
			return d.Errf("scale: %s: want one value", option)
		}
		if err := s.set(option, value); err != nil {
			return d.WrapErr(err)
		}
	}
	if err := s.validate(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func (s *Scaling) options() []string {
	all := []string{"auto", "zero", "target_proportion", "peers", "peer_secret_file"}
	for name := range s.numbers() {
		all = append(all, name)
	}
	for name := range s.durations() {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

func (s *Scaling) has(option string) bool { return slices.Contains(s.options(), option) }

func (s *Scaling) set(option, value string) error {
	bad := func(want string) error { return fmt.Errorf("scale: %s %s: want %s", option, value, want) }
	if n, ok := s.numbers()[option]; ok {
		v, err := strconv.Atoi(value)
		if err != nil || v < n.least {
			return bad(fmt.Sprintf("a number from %d", n.least))
		}
		*n.value = &v
		return nil
	}
	if d, ok := s.durations()[option]; ok {
		v, err := caddy.ParseDuration(value)
		if err != nil || v <= 0 {
			return bad("a positive duration such as 60s")
		}
		*d = caddy.Duration(v)
		return nil
	}
	if option == "peer_secret_file" {
		s.PeerSecretFile = value
		return nil
	}
	if option == "target_proportion" {
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return bad("a number above 0, at most 1")
		}
		s.TargetProportion = &v
		return nil
	}
	on := value == "on"
	if !on && value != "off" {
		return bad("on or off")
	}
	if option == "auto" {
		s.Auto = &on
	} else {
		s.Zero = &on
	}
	return nil
}
