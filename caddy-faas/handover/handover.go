// Package handover keeps client connections across reloads of the
// configuration. Caddy gives each configuration HTTP servers of its own, and
// when net/http shuts the old one down it closes idle connections and drops
// requests that it has only just read: a client that was about to send a POST
// loses it, since nobody may send it again. With this listener wrapper a
// connection that is between two requests goes over to the new server, with
// what the client has sent meanwhile.
//
// This holds for HTTP/1 over TCP without TLS, where no wrapper comes between it
// and the server and HTTP/2 isn't switched off (Caddy then has a wrapper there). HTTP/2 has a way of its own (GOAWAY). Of
// HTTP/1 connections with TLS only those go over on which nothing was sent yet.
// A connection that comes within the instant in which Caddy's second socket is
// closed may still be reset; elsewhere than on Linux, while it is open.
package handover

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() { caddy.RegisterModule(Wrapper{}) }

// Wrapper is the listener wrapper faas_handover. It must be the first, and the
// wrapper tls come after it:
//
//	servers {
//		listener_wrappers {
//			faas_handover
//			tls
//		}
//	}
type Wrapper struct{}

// CaddyModule returns the module's ID and constructor.
func (Wrapper) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.listeners.faas_handover", New: func() caddy.Module { return new(Wrapper) }}
}

// Provision asks the server to tell when a connection is between two requests.
func (Wrapper) Provision(ctx caddy.Context) error {
	s, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return nil
	}
	// The socket outlives the configuration, so whatever came before would, too.
	var names []string
	for _, raw := range s.ListenerWrappersRaw {
		var w struct{ Wrapper string }
		if err := json.Unmarshal(raw, &w); err != nil {
			return err
		}
		names = append(names, w.Wrapper)
	}
	if len(names) < 2 || names[0] != "faas_handover" || !slices.Contains(names, "tls") {
		return fmt.Errorf("listener_wrappers %s: want faas_handover first, and tls after it", strings.Join(names, ", "))
	}
	s.RegisterConnState(ConnState)
	return nil
}

// UnmarshalCaddyfile reads faas_handover, which has no options.
func (Wrapper) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.ArgErr()
	}
	if d.NextBlock(d.Nesting()) {
		return d.Errf("unknown option %q: faas_handover has none", d.Val())
	}
	return nil
}

// WrapListener returns a listener whose connections go over to the next one on the same address.
func (Wrapper) WrapListener(l net.Listener) net.Listener { return Listen(l) }

var (
	_ caddy.Provisioner     = Wrapper{}
	_ caddy.ListenerWrapper = Wrapper{}
	_ caddyfile.Unmarshaler = (*Wrapper)(nil)
)

// net/http drops a request that it has read but not yet given to a handler when
// it is shut down. So a new server has all new requests before Listen returns,
// and so before Caddy stops the old server, until the old one has said of each
// earlier request that it is whole, and for some time more: from there to the
// handler nobody can see it.
const (
	settling = 50 * time.Millisecond
	// slowest is how long is waited for requests to become whole; a client may never send the rest.
	slowest = 2 * time.Second
)

// newConn is more deadlines than net/http sets before it first reads from a connection.
const newConn = 10

// Listen wraps l, which gets all connections and requests from now on. If the
// same address is wrapped already, l is closed at once and the new listener
// shares the older socket. What it returns must be closed.
func Listen(l net.Listener) net.Listener {
	if l.Addr().Network() != "tcp" {
		return l // Caddy itself hands unix sockets on, and would hand on one that we had closed
	}
	w, shared := share(l)
	w.station.enter(w, true)
	if shared {
		for late := time.Now().Add(slowest); w.station.coming(w) && time.Now().Before(late); {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(settling)
	}
	return w
}

// share finds or makes the station for l's address.
func share(l net.Listener) (w *listener, shared bool) {
	mu.Lock()
	defer mu.Unlock()
	key := l.Addr().Network() + " " + l.Addr().String()
	s, shared := stations[key]
	if shared {
		closeAfter(l, func(c net.Conn) { go s.deliver(accepted{conn: c}, nil, false) })
	} else {
		s = &station{key: key, raw: l}
		s.changed.L = &s.mu
		stations[key] = s
		go s.accept()
	}
	s.users++
	return &listener{station: s, accepted: make(chan accepted), closed: make(chan struct{})}, shared
}

var (
	mu       sync.Mutex
	stations = map[string]*station{} // by network and address
)

// A station is one listening socket and the servers that use it. Who came last gets all connections.
type station struct {
	key   string
	raw   net.Listener
	users int // under the package's mu

	mu      sync.Mutex
	changed sync.Cond
	serving []*listener // the newest last
	closed  bool
	newest  atomic.Pointer[listener]
}

// accept ends when the socket is closed.
func (s *station) accept() {
	for {
		c, err := s.raw.Accept()
		s.mu.Lock()
		closed := s.closed
		s.mu.Unlock()
		if closed && err != nil {
			return
		}
		s.deliver(accepted{c, err}, nil, false)
	}
}

// deliver gives a connection to the newest server, with what was read of it
// already; handed tells that another server had it.
func (s *station) deliver(a accepted, stash []byte, handed bool) {
	raw := a.conn
	for {
		l := s.wait()
		if l == nil {
			if raw != nil {
				raw.Close()
			}
			return
		}
		if raw != nil {
			a.conn = &conn{Conn: raw, listener: l, between: true, stash: stash, handed: handed, deadlines: -newConn}
		}
		select {
		case l.accepted <- a:
			return
		case <-l.closed:
		}
	}
}

// wait returns the newest server, nil if the station is closed.
func (s *station) wait() *listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.serving) == 0 && !s.closed {
		s.changed.Wait()
	}
	return s.newest.Load()
}

// enter adds l to the servers, or removes it.
func (s *station) enter(l *listener, in bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serving = slices.DeleteFunc(s.serving, func(o *listener) bool { return o == l })
	if in {
		s.serving = append(s.serving, l)
	}
	if n := len(s.serving); n > 0 {
		s.newest.Store(s.serving[n-1])
	} else {
		s.newest.Store(nil)
	}
	s.changed.Broadcast()
}

// coming tells whether requests have begun to come to other servers than l, of which no handler knows yet.
func (s *station) coming(l *listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.serving, func(o *listener) bool { return o != l && o.coming.Load() > 0 })
}

// leave closes the socket after its last user.
func (s *station) leave() error {
	mu.Lock()
	defer mu.Unlock()
	if s.users--; s.users > 0 {
		return nil
	}
	delete(stations, s.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.changed.Broadcast()
	return s.raw.Close()
}

// listener is one server's view of a station.
type listener struct {
	station  *station
	accepted chan accepted
	closed   chan struct{}
	leave    sync.Once
	coming   atomic.Int64 // requests that have begun to come, of which no handler knows yet
}

type accepted struct {
	conn net.Conn
	err  error
}

// Accept returns the next connection.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, net.ErrClosed
	default:
	}
	select {
	case a := <-l.accepted:
		return a.conn, a.err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept; the socket goes on for the other servers.
func (l *listener) Close() error {
	err := net.ErrClosed
	l.leave.Do(func() {
		close(l.closed)
		l.station.enter(l, false)
		err = l.station.leave()
	})
	return err
}

func (l *listener) Addr() net.Addr { return l.station.raw.Addr() }

// replaced tells that a connection of l would better go over to another server.
func (l *listener) replaced() bool {
	n := l.station.newest.Load()
	return n != nil && n != l
}

// ConnState is the hook of an http.Server that uses a listener of this package.
func ConnState(nc net.Conn, state http.ConnState) {
	c, ok := nc.(*conn)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew:
		c.told = true
	case http.StateActive:
		c.comes(false)
	case http.StateIdle:
		c.idle()
	case http.StateHijacked:
		c.pinned = true
	}
}
