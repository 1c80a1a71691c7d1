package caddyfaas

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/internal/faastest"
	"github.com/caddy-faas/faas/caddy-faas/scale"
)

func init() { caddy.RegisterModule(shared{}) }

// shared is a provider of the function f0 whose number of replicas a server
// keeps, so that several gateways have the same one.
type shared struct {
	Addr string `json:"addr,omitempty"` // of the server, and of all replicas
	Type string `json:"type,omitempty"` // what the load is measured by
}

func (shared) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "faas.providers.shared", New: func() caddy.Module { return new(shared) }}
}

func (s *shared) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.AllArgs(&s.Addr, &s.Type) {
		return d.ArgErr()
	}
	return nil
}

func (s *shared) Identity(faas.Settings) string { return s.Addr }

func (s *shared) Open(faas.Settings, *zap.Logger) faas.Provider {
	return &sharedEngine{&faastest.Memory{Addr: func(faas.ID, int) string { return s.Addr }}, s.Addr, s.Type}
}

func (s *shared) Apply(context.Context, faas.Provider, faas.Settings) error { return nil }

type sharedEngine struct {
	*faastest.Memory
	addr, load string
}

// present asks the server for the number of replicas once it is not that many, after it was changed if it is still from.
func (e *sharedEngine) present(ctx context.Context, query url.Values) (n int, err error) {
	r, err := http.NewRequestWithContext(ctx, "GET", "http://"+e.addr+"/engine?"+query.Encode(), nil)
	if err != nil {
		return 0, err
	}
	a, err := whole(http.DefaultClient.Do(r))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(a.body)
}

func (e *sharedEngine) Watch(ctx context.Context, sink faas.Sink) error {
	f0 := faas.Function{ID: faas.ParseID("f0"), Labels: map[string]string{faas.LabelTarget: "1", faas.LabelDownWindow: "1s", faas.LabelMax: "50"}}
	if e.load == scale.Backlog {
		f0.Labels[faas.LabelType], f0.Labels[faas.LabelConcurrency], f0.Labels[faas.LabelProportion], f0.Labels[faas.LabelQueueTimeout] = e.load, "1", "1", "5m"
	}
	if err := e.Create(ctx, f0); err != nil {
		return err
	}
	go func() {
		for known := 1; ctx.Err() == nil; {
			if n, err := e.present(ctx, url.Values{"not": {strconv.Itoa(known)}}); err == nil && n != known {
				known = n
				e.Memory.Scale(ctx, f0.ID, n)
			}
		}
	}()
	return e.Memory.Watch(ctx, sink)
}

func (e *sharedEngine) Scale(context.Context, faas.ID, int) error {
	return fmt.Errorf("set without a look at what there is: %w", faas.ErrInvalid)
}

func (e *sharedEngine) Adjust(ctx context.Context, id faas.ID, next func(int) int) (int, error) {
	now, err := e.present(ctx, nil)
	for err == nil {
		n, was := next(now), now
		if now, err = e.present(ctx, url.Values{"from": {strconv.Itoa(was)}, "to": {strconv.Itoa(n)}}); now == n {
			break
		}
	}
	if err != nil {
		return 0, err
	}
	return now, e.Memory.Scale(ctx, id, now)
}

// A sharedServer is the engine and the replicas of several gateways.
type sharedServer struct {
	mu      sync.Mutex
	changed *sync.Cond
	n       int
	lowered []string      // each time, from what to what
	release chan struct{} // closed: requests end
}

func (s *sharedServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/engine" {
		s.mu.Lock()
		release := s.release
		s.mu.Unlock()
		select {
		case <-release:
		case <-r.Context().Done():
		}
		io.WriteString(w, "done")
		return
	}
	stop := context.AfterFunc(r.Context(), s.changed.Broadcast)
	defer stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	q := r.URL.Query()
	if q.Has("to") && q.Get("from") == strconv.Itoa(s.n) {
		was := s.n
		if s.n = atoiOr(q.Get("to"), was); s.n < was {
			s.lowered = append(s.lowered, fmt.Sprint(was, "-", s.n))
		}
		s.changed.Broadcast()
	}
	for q.Get("not") == strconv.Itoa(s.n) && r.Context().Err() == nil {
		s.changed.Wait()
	}
	fmt.Fprint(w, s.n)
}

func atoiOr(text string, or int) int {
	if n, err := strconv.Atoi(text); err == nil {
		return n
	}
	return or
}

func (s *sharedServer) replicas() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

// end ends all requests, which others then wait for, and has the next ones held again.
func (s *sharedServer) end(wait func()) {
	s.mu.Lock()
	close(s.release)
	s.mu.Unlock()
	wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release = make(chan struct{})
}

// threeGateways are processes that have one engine and know each other.
func threeGateways(t *testing.T, load string) (*sharedServer, []*gateway, []string) {
	s := &sharedServer{n: 1, release: make(chan struct{})}
	s.changed = sync.NewCond(&s.mu)
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	ports := []string{freePort(t), freePort(t), freePort(t)}
	peers := "127.0.0.1:" + strings.Join(ports, " 127.0.0.1:")
	var all []*gateway
	for _, port := range ports {
		g := newGateway(t, map[string]string{"secret": strings.Repeat("s", minPeerSecret) + "\n", "Caddyfile": `{
	admin unix/DATA/admin.sock|0600
	faas {
		provider shared ` + strings.TrimPrefix(server.URL, "http://") + " " + load + `
		data DATA
		scale {
			peers ` + peers + `
			peer_secret_file secret
		}
	}
}
SITE {
	handle /system/* {
		faas_api
	}
	handle /ui/* {
		faas_ui
	}
	faas
}
http://127.0.0.1:` + port + ` {
	log
	faas_peer
	handle_errors {
		respond "{err.message}" {err.status_code}
	}
}
`})
		g.start(t)
		all = append(all, g)
	}
	t.Cleanup(func() { s.end(func() {}) }) // before they are told to end
	return s, all, ports
}

// hold makes so many requests at each gateway, which end when the server ends them.
func hold(t *testing.T, all []*gateway, n int) (wait func()) {
	var held sync.WaitGroup
	for _, g := range all {
		for range n {
			held.Go(func() {
				if a, err := g.try(t.Context(), "GET", "/function/f0", nil); err != nil || a.StatusCode != 200 {
					t.Errorf("%v %+v", err, a)
				}
			})
		}
	}
	return held.Wait
}

// Three processes scale a function as one would: by the load of all, whoever owns it, comes or goes.
func TestThreeGateways(t *testing.T) {
	t.Parallel()
	s, all, _ := threeGateways(t, scale.Capacity)
	wait := hold(t, all, 3)
	eventually(t, "there is a replica for each of nine requests", func() bool { return s.replicas() == 9 })
	s.end(wait)
	eventually(t, "there is one again", func() bool { return s.replicas() == 1 })
	for _, g := range all {
		eventually(t, "the page tells of all gateways", func() bool { return g.gatewaysThat(t, gatewayHeard) == 3 })
	}
	lowered := 0
	for _, g := range all {
		if strings.Contains(g.log.String(), "less load for") {
			lowered++
		}
	}
	if lowered != 1 {
		t.Errorf("%d gateways have lowered it, want its owner", lowered)
	}
	all[0].stop(t, syscall.SIGKILL)
	eventually(t, "the page tells of the one that has ended", func() bool { return all[1].gatewaysThat(t, gatewayEnded) == 1 })
	wait = hold(t, all[1:], 3)
	eventually(t, "those that are left raise it", func() bool { return s.replicas() > 1 })
	s.end(wait)
	eventually(t, "those that are left lower it", func() bool { return s.replicas() == 1 })
}

// A gateway tells the others which alerts it has obeyed.
func TestAlertsAreToldToGateways(t *testing.T) {
	t.Parallel()
	s, all, ports := threeGateways(t, scale.Capacity)
	body := `{"alerts":[{"status":"firing","labels":{"function_name":"f0"},"fingerprint":"f","startsAt":"t"}]}`
	if a := all[0].call(t, "POST", "/system/alert", body); a.StatusCode != 200 {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	eventually(t, "a tenth of the most are started", func() bool { return s.replicas() == 6 })
	r := scale.NewRegistry(new(faastest.Memory), zap.NewNop(), func(faas.ID) {})
	defer r.Close()
	var heard alerts
	p, g := newPeering(r, &heard, zap.NewNop()), &group{[]string{"127.0.0.1:" + ports[0]}, []byte(strings.Repeat("s", minPeerSecret))}
	p.look(t.Context(), g)
	p.askAll(t.Context(), g)
	if !heard.again(alert{Status: "firing", Fingerprint: "f", StartsAt: "t"}, time.Now()) {
		t.Errorf("a gateway that was asked knows of %v", heard.obeyed)
	}
}

// gatewaysThat counts those in a state, as the page does, where one of all that can be heard owns f0.
func (g *gateway) gatewaysThat(t *testing.T, state string) (n int) {
	t.Helper()
	var c uiCluster
	if err := json.Unmarshal([]byte(g.call(t, "GET", "/ui/cluster", "").body), &c); err != nil {
		t.Fatal(err)
	}
	owns := 0
	for i, one := range c.Gateways {
		if one.Self != (i == 0) || one.State == gatewayHeard && one.Host == "" || one.State == gatewaySilent && one.Problem == "" {
			t.Fatalf("gateway %d is %+v", i, one)
		}
		if owns += one.Owns; one.State == state {
			n++
		}
	}
	if owns != 1 {
		t.Fatalf("f0 is owned by %d gateways: %+v", owns, c.Gateways)
	}
	return n
}

// A gateway tells those only that know the secret, and is told nothing by others; a reload may change it.
func TestPeerSecret(t *testing.T) {
	t.Parallel()
	s, all, ports := threeGateways(t, scale.Capacity)
	site := "http://127.0.0.1:" + ports[0] + "/"
	right := []byte(strings.Repeat("s", minPeerSecret))
	for _, tt := range []struct {
		method, nonce, proof string
		want                 int
	}{
		{"GET", "", "", 401}, {"GET", "n", "", 401}, {"GET", "n", proof([]byte("wrong"), "question", "n", nil), 401},
		{"GET", "n", proof(right, "question", "m", nil), 401}, {"GET", "n", proof(right, "answer", "n", nil), 401}, {"GET", "", proof(right, "question", "", nil), 401},
		{"POST", "n", proof(right, "question", "n", nil), 405}, {"GET", "n", proof(right, "question", "n", nil), 200},
	} {
		r, err := http.NewRequest(tt.method, site, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(peerNonce, tt.nonce)
		r.Header.Set(peerProof, tt.proof)
		a := all[0].do(t, r)
		if a.StatusCode != tt.want {
			t.Errorf("%+v: %d %s", tt, a.StatusCode, a.body)
		}
		if said := new(peerNews); tt.want == 200 && (json.Unmarshal([]byte(a.body), said) != nil || said.Gateway == "" || a.Header.Get(peerProof) != proof(right, "answer", "n", []byte(a.body))) {
			t.Errorf("it says %s", a.body)
		}
	}
	all[2].write(t, "secret", strings.Repeat("x", minPeerSecret))
	all[2].reload(t)
	wait := hold(t, all[:2], 2)
	eventually(t, "one with another secret is refused", func() bool { return strings.Contains(all[0].log.String(), "401 Unauthorized") })
	eventually(t, "the page says why it is silent", func() bool { return all[0].gatewaysThat(t, gatewaySilent) == 1 })
	all[2].write(t, "secret", string(right))
	all[2].reload(t)
	eventually(t, "it is heard again", func() bool { return strings.Contains(all[0].log.String(), "a gateway is heard again") })
	s.end(wait)
	eventually(t, "there is one replica", func() bool { return s.replicas() == 1 })
	all[2].write(t, "secret", "short")
	out, err := all[2].caddy("reload", "--force", "--config", "Caddyfile").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "secret has 5 bytes, fewer than 16; make one with: openssl rand -hex 32") {
		t.Errorf("%v: %s", err, out)
	}
}

// While a name can't be looked up, what is wrong with the addresses that it had is not logged anew.
func TestSilentPeerIsLoggedOnce(t *testing.T) {
	core, log := observer.New(zap.WarnLevel)
	r := scale.NewRegistry(new(faastest.Memory), zap.NewNop(), func(faas.ID) {})
	defer r.Close()
	p := newPeering(r, new(alerts), zap.New(core))
	for _, peer := range []string{"127.0.0.1:" + freePort(t), ":1", ":2"} { // no name, no address
		g := &group{peers: []string{peer}}
		p.look(t.Context(), g)
		p.askAll(t.Context(), g)
	}
	if n := log.FilterMessageSnippet("does not tell").Len(); n != 1 || len(p.Addrs()) != 1 {
		t.Errorf("logged %d times: %v", n, log.All())
	}
}

// One that does not answer is not waited for again before the others are asked.
func TestSilentPeerIsNotWaitedFor(t *testing.T) {
	r := scale.NewRegistry(new(faastest.Memory), zap.NewNop(), func(faas.ID) {})
	defer r.Close()
	var silent, heard atomic.Int64
	over := make(chan struct{})
	serve := func(answer http.HandlerFunc) string {
		s := httptest.NewServer(answer)
		t.Cleanup(s.Close)
		return strings.TrimPrefix(s.URL, "http://")
	}
	g := &group{secret: []byte("a secret of the gateways")}
	other := &Peer{secret: g.secret, engine: &engine{registry: r, peering: newPeering(r, new(alerts), zap.NewNop())}}
	g.peers = append(g.peers, serve(func(http.ResponseWriter, *http.Request) { silent.Add(1); <-over }))
	g.peers = append(g.peers, serve(func(w http.ResponseWriter, r *http.Request) { heard.Add(1); other.ServeHTTP(w, r, nil) }))
	t.Cleanup(func() { close(over) }) // before the servers
	p := newPeering(r, new(alerts), zap.NewNop())
	p.look(t.Context(), g)
	for range 6 {
		p.askAll(t.Context(), g)
	}
	p.apart.Wait()
	if silent.Load() >= heard.Load() || heard.Load() != 6 {
		t.Errorf("the silent one was asked %d times, the other one %d times", silent.Load(), heard.Load())
	}
}

// A name that is not found yet just after the start is not told of; one that still is not found later, once.
func TestUnknownNameIsLogged(t *testing.T) {
	core, log := observer.New(zap.WarnLevel)
	r := scale.NewRegistry(new(faastest.Memory), zap.NewNop(), func(faas.ID) {})
	defer r.Close()
	p := newPeering(r, new(alerts), zap.New(core))
	g := &group{peers: []string{":1"}}
	for n := range 3 {
		p.look(t.Context(), g)
		if got := log.FilterMessageSnippet("finding gateways failed").Len(); got != min(n, 1) {
			t.Errorf("logged %d times after %d looks", got, n+1)
		}
		p.found, p.looked = p.found.Add(-peersEvery), p.looked.Add(-peersSoon)
	}
}
