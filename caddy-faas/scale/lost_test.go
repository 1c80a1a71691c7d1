package scale

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"testing"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// doubted is a provider that counts how often it is doubted.
type doubted struct {
	raiser
	asked atomic.Int64
}

func (d *doubted) Refresh(id faas.ID) {
	if id == echo {
		d.asked.Add(1)
	}
}

// Requests in a lost replica end, whether it is still among the function's or not; others go on.
func TestLostReplica(t *testing.T) {
	for name, here := range map[string]bool{"still there": true, "replaced": false} {
		t.Run(name, func(t *testing.T) {
			silent, err := net.Listen("tcp", "127.0.0.1:0") // takes requests and never answers
			if err != nil {
				t.Fatal(err)
			}
			defer silent.Close()
			d := deployment(1, nil)
			d.Replicas[0].Addr = silent.Addr().String()
			reg, target := setUp(t, new(raiser), d)
			begun := make(chan *Invocation)
			ended := make(chan error)
			send := func() {
				i := mustInvoke(t, target)
				ctx := httptrace.WithClientTrace(t.Context(), i.Trace())
				req, err := http.NewRequestWithContext(ctx, "GET", "http://"+i.Addr()+"/", nil)
				if err != nil {
					t.Error(err)
				}
				begun <- i
				_, err = new(http.Transport).RoundTrip(req)
				if i.Err() != nil {
					err = i.Err()
				}
				i.End()
				ended <- err
			}
			go send()
			<-begun
			c, err := silent.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.Read(make([]byte, 1)); err != nil { // the request has come
				t.Fatal(err)
			}
			if !here {
				d = deployment(1, nil)
				d.Replicas[0].ID = "other"
				reg.Set(d)
			}
			d.Lost = []string{"r0"}
			reg.Set(d)
			if err := <-ended; !errors.Is(err, ErrLost) {
				t.Errorf("the request ended with %v", err)
			}
			if _, err := io.Copy(io.Discard, c); err != nil {
				t.Errorf("its connection: %v", err)
			}
			if n := target.InFlight(); n != 0 {
				t.Errorf("%d are in flight", n)
			}
			if !here {
				return
			}
			// One that comes before it is passed over ends, too; found again, it serves as before.
			go send()
			<-begun
			if err := <-ended; !errors.Is(err, ErrLost) {
				t.Errorf("a later request ended with %v", err)
			}
			d.Lost = nil
			reg.Set(d)
			go send()
			i := <-begun
			late, err := silent.Accept()
			for ; err == nil; late, err = silent.Accept() {
				if n, _ := late.Read(make([]byte, 1)); n == 1 {
					break
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			late.Close()
			if err := <-ended; err == nil || errors.Is(err, ErrLost) || i.lost.Load() {
				t.Errorf("a request whose connection was closed ended with %v", err)
			}
		})
	}
}

// A connection that fails makes the provider look again.
func TestDoubt(t *testing.T) {
	p := new(doubted)
	reg := newRegistry(t, p)
	reg.Set(deployment(2, nil))
	i := mustInvoke(t, reg.Lookup(t.Context(), echo, 0))
	defer i.End()
	i.Trace().ConnectDone("tcp", i.Addr(), errors.New("no route to host"))
	if err := i.Next(t.Context()); err != nil || p.asked.Load() != 1 {
		t.Errorf("asked %d times, %v", p.asked.Load(), err)
	}
}
