package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// maxHeader bounds the headers of a request, in bytes (net/http adds 4 KiB), and with them the variables of a process: the kernel
// takes 128 KiB for one variable. More is answered with 431.
const maxHeader = 64 << 10

// function is one of the modes: what answers requests.
type function interface {
	http.Handler
	// ready says why requests would be refused, nil if they would not.
	ready() error
	// stop ends a long-lived process once no request is in flight; it is given until the context ends.
	stop(context.Context)
}

// server is what stands between the listener and the function: health, the limit of requests in flight, draining.
type server struct {
	cfg      *config
	log      *logger
	function function
	metrics  *metrics // nil: off
	port     int      // where it listens, if it does on a port
	lock     string   // path of the lock file; "": none
	draining atomic.Bool
	inflight atomic.Int64
	requests sync.WaitGroup
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Body != http.NoBody {
		if c := connOf(r.Context()); !c.limit.IsZero() {
			c.Conn.SetReadDeadline(c.limit)
		}
	}
	if s.draining.Load() && r.Header.Get("Upgrade") == "" {
		w.Header().Set("Connection", "close")
	}
	switch r.URL.Path {
	case "/_/health":
		s.report(w, s.health(), http.StatusServiceUnavailable)
	case "/_/ready":
		err := s.health()
		if err == nil && s.full(s.inflight.Load()+1) {
			s.replicaFull(w)
			return
		}
		s.report(w, err, http.StatusServiceUnavailable)
	default:
		s.invoke(w, r)
	}
}

// invoke passes a request to the function.
func (s *server) invoke(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	defer s.requests.Done()
	defer s.inflight.Add(-1)
	now := s.inflight.Add(1)
	if s.metrics != nil {
		rec := s.metrics.begin(w, r)
		defer rec.end()
		w = rec
	}
	if s.full(now) {
		s.replicaFull(w)
		return
	}
	if most := s.cfg.maxRequest; most > 0 && r.ContentLength > most {
		b := takeBody(w, r, 0)
		defer b.end()
		closeUnread(w, b)
		writeError(w, requestLimit(most))
		return
	}
	s.function.ServeHTTP(w, r)
}

func (s *server) full(inflight int64) bool {
	return s.cfg.maxInflight > 0 && inflight > int64(s.cfg.maxInflight)
}

func (s *server) replicaFull(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "1")
	w.Header().Set("X-Faas-Replica-Full", "1")
	http.Error(w, fmt.Sprintf("max_inflight of %d requests reached", s.cfg.maxInflight), http.StatusTooManyRequests)
}

func (s *server) report(w http.ResponseWriter, err error, status int) {
	if err != nil {
		http.Error(w, err.Error(), status)
		return
	}
	w.WriteHeader(http.StatusOK)
}

var errDraining = errors.New("draining")

// health says why the replica must not be given requests, nil if it may.
func (s *server) health() error {
	if s.draining.Load() {
		return errDraining
	}
	if s.lock != "" {
		if _, err := os.Stat(s.lock); err != nil {
			return errors.New("the lock file is gone")
		}
	}
	return s.function.ready()
}

// writeLock writes the file that says, to Docker health checks of the classic watchdog, that the function is up. Who removes it makes
// the function unhealthy.
func (s *server) writeLock() error {
	name := ".lock"
	if s.cfg.port != 8080 { // another watchdog may share the directory
		name += "-" + strconv.Itoa(s.port)
	}
	path := filepath.Join(os.TempDir(), name)
	if err := os.WriteFile(path, nil, 0o660); err != nil {
		return fmt.Errorf("writing the lock file (suppress_lock=true does without): %w", err)
	}
	s.lock = path
	return nil
}

// grace is added to exec_timeout when draining: a request that meets its limit still has to be answered, and net/http gives a new
// connection five seconds for its first request.
const grace = 6 * time.Second

// drain makes the replica unready, serves on for the lame duck, then refuses new connections and waits for the requests in flight.
// It returns an error if some are left.
func (s *server) drain(srv *http.Server, ln *listener) error {
	s.draining.Store(true)
	if s.lock != "" {
		os.Remove(s.lock)
	}
	s.log.Printf("Draining: new requests are served for %s more", s.cfg.lameDuck)
	time.Sleep(s.cfg.lameDuck)
	ln.finish()
	ctx := context.Background()
	if s.cfg.execTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.cfg.execTimeout+grace)
		defer cancel()
	}
	srv.Shutdown(ctx)
	done := make(chan struct{})
	go func() {
		s.requests.Wait() // upgraded connections are not net/http's any more
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
	if n := s.inflight.Load(); n > 0 {
		return fmt.Errorf("%d requests were still in flight", n)
	}
	s.function.stop(ctx)
	return nil
}
