package caddyfaas

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

func TestThrottle(t *testing.T) {
	f := throttle{max: 100, clients: make(map[loginAt]*failed)}
	at := func(addr netip.Addr) loginAt { return loginAt{client: addr} }
	a, now := at(netip.MustParseAddr("192.0.2.1")), time.Unix(1000, 0)
	for n := range 10 {
		if wait := f.wait(a, 10, time.Minute, now); wait != 0 {
			t.Errorf("after %d failures: wait %s", n, wait)
		}
		f.add(a, 10, time.Minute, now)
	}
	if wait := f.wait(a, 10, time.Minute, now); wait != 6*time.Second {
		t.Errorf("after 10 failures: wait %s", wait)
	}
	if wait := f.wait(at(netip.MustParseAddr("192.0.2.2")), 10, time.Minute, now); wait != 0 {
		t.Errorf("another client: wait %s", wait)
	}
	if wait := f.wait(loginAt{a.client, faas.ParseID("f")}, 10, time.Minute, now); wait != 0 {
		t.Errorf("at another place: wait %s", wait)
	}
	for n := range 10_000 {
		f.add(at(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)})), 10, time.Minute, now)
	}
	if len(f.clients) > 100 {
		t.Errorf("remembers %d clients", len(f.clients))
	}
	if wait := f.wait(a, 10, time.Minute, now); wait != 6*time.Second {
		t.Errorf("after the failures of many others: wait %s", wait)
	}
	if wait := f.wait(a, 10, time.Minute, now.Add(6*time.Second)); wait != 0 {
		t.Errorf("6 s later: wait %s", wait)
	}
	for remote, want := range map[string]string{
		"192.0.2.1:80": "192.0.2.1", "[::ffff:192.0.2.1]:80": "192.0.2.1", "[2001:db8:1:2:3:4:5:6]:80": "2001:db8:1:2::", "[fe80::1%eth0]:80": "fe80::", "@": "invalid IP",
	} {
		r := httptest.NewRequest("GET", "/", nil)
		if r.RemoteAddr = remote; clientOf(r).String() != want {
			t.Errorf("%s is %s, want %s", remote, clientOf(r), want)
		}
	}
}

func TestFailedLoginsAreThrottled(t *testing.T) {
	t.Parallel()
	g := shippedGateway(t)
	wrong := login("admin", "wrong")
	for range 20 { // a browser's first request has no password
		if a := g.call(t, "GET", "/system/functions", ""); a.StatusCode != 401 {
			t.Fatalf("without a password: %d", a.StatusCode)
		}
	}
	eventually(t, "the client is throttled", func() bool {
		a := g.call(t, "GET", "/system/functions", "", wrong...)
		if a.StatusCode != 401 && a.StatusCode != 429 {
			t.Fatalf("a wrong password: %d %s", a.StatusCode, a.body)
		}
		return a.StatusCode == 429 && a.Header.Get("Retry-After") != ""
	})
	g.reload(t)
	tries := 0 // one is due each six seconds, and a reload may take long
	eventually(t, "the client is throttled after a reload", func() bool {
		tries++
		return g.call(t, "GET", "/system/functions", "", wrong...).StatusCode == 429
	})
	if tries > 9 {
		t.Errorf("a reload forgets who has failed: %d more tries", tries)
	}
	if a := g.call(t, "POST", "/function/echo", "x"); a.StatusCode != 200 {
		t.Errorf("a function: %d", a.StatusCode)
	}
	eventually(t, "the right password counts again", func() bool { return g.asAdmin(t, "GET", "/system/functions", "").StatusCode == 200 })
}

// Passwords that are tried at once are bounded as well: none of them has failed yet.
func TestLoginsAtOnce(t *testing.T) {
	h := new(Throttle)
	if err := h.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	try := func(remote string, next caddyhttp.HandlerFunc) error {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = remote
		r.SetBasicAuth("admin", "x")
		return h.ServeHTTP(httptest.NewRecorder(), r, next)
	}
	passes := func(http.ResponseWriter, *http.Request) error { return nil }
	release := make(chan struct{})
	var all sync.WaitGroup
	for n := range maxTries + 1 {
		begun := make(chan struct{})
		all.Go(func() {
			err := try("198.51.100.1:1", func(w http.ResponseWriter, _ *http.Request) error {
				if n == 0 { // its password was right: the answer goes on for long
					w.WriteHeader(200)
				}
				close(begun)
				<-release
				return nil
			})
			if err != nil {
				t.Errorf("login %d: %v", n, err)
				close(begun)
			}
		})
		<-begun
	}
	var he caddyhttp.HandlerError
	if err := try("198.51.100.1:2", passes); !errors.As(err, &he) || he.StatusCode != 429 {
		t.Errorf("one more: %v", err)
	}
	if err := try("198.51.100.2:2", passes); err != nil {
		t.Errorf("another client: %v", err)
	}
	close(release)
	all.Wait()
	if err := try("198.51.100.1:2", passes); err != nil || len(failures.trying) != 0 {
		t.Errorf("afterwards: %v, %v", err, failures.trying)
	}
}
