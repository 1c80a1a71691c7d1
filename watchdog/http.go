package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// The delays between a long-lived process's end and its next start, and how long one must have run for the delay to start over.
const (
	firstRestart = 100 * time.Millisecond
	lastRestart  = 10 * time.Second
	steady       = 10 * time.Second
)

// proxy is the mode http: one long-lived process that serves HTTP itself, and a reverse proxy in front of it.
type proxy struct {
	cfg      *config
	children *children
	log      *logger
	path     string
	env      []string
	reverse  *httputil.ReverseProxy
	target   atomic.Pointer[url.URL] // where the present process listens
	notReady atomic.Pointer[error]   // nil: it accepts connections

	proc     atomic.Pointer[process] // the last one started
	stopping chan struct{}           // closed by stop
	ended    chan struct{}           // closed when supervise has returned
}

func newProxy(cfg *config, c *children, l *logger, path string, env []string) *proxy {
	p := &proxy{cfg: cfg, children: c, log: l, path: path, env: env, stopping: make(chan struct{}), ended: make(chan struct{})}
	p.down(errors.New("the function is starting"))
	p.reverse = &httputil.ReverseProxy{
		Rewrite:        p.rewrite,
		Transport:      p.transport(),
		FlushInterval:  -1,
		ErrorLog:       l.Logger,
		BufferPool:     chunkPool{},
		ModifyResponse: p.answered,
		ErrorHandler:   p.refuse,
	}
	go p.supervise()
	return p
}

// chunkPool lends chunks to the ReverseProxy.
type chunkPool struct{}

func (chunkPool) Get() []byte  { return *chunks.Get().(*[]byte) }
func (chunkPool) Put(b []byte) { chunks.Put(&b) }

func (p *proxy) transport() *http.Transport {
	return &http.Transport{
		Proxy: nil,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialUpstream(ctx, p.target.Load())
		},
		DisableCompression:  true,
		MaxIdleConnsPerHost: 1024,
		// Shorter than what servers allow (gunicorn 2 s, Node.js 5 s): who closes first loses no request.
		IdleConnTimeout: 500 * time.Millisecond,
	}
}

func dialUpstream(ctx context.Context, u *url.URL) (net.Conn, error) {
	d := net.Dialer{Timeout: time.Second}
	if u.Scheme == "unix" {
		return d.DialContext(ctx, "unix", u.Path)
	}
	return d.DialContext(ctx, "tcp", u.Host)
}

// rewrite aims the request at the process and leaves everything else as the caller's proxy sent it.
func (p *proxy) rewrite(r *httputil.ProxyRequest) {
	target := *p.target.Load()
	if target.Scheme == "unix" {
		target = url.URL{Scheme: "http", Host: "unix"}
	}
	r.SetURL(&target)
	r.Out.Host = r.In.Host
	r.Out.URL.RawQuery = r.In.URL.RawQuery // ReverseProxy would leave out what it cannot parse
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if v, ok := r.In.Header[name]; ok {
			r.Out.Header[name] = v
		}
	}
}

// exchange is one request in mode http, found in its context.
type exchange struct {
	start time.Time
	kills int         // for the memory limit, at the start
	body  *body       // nil: none
	timer *time.Timer // nil: no exec_timeout
}

type exchangeKey struct{}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{start: time.Now(), kills: p.cfg.memory.kills(), body: takeBody(w, r, p.cfg.maxRequest)}
	if err := p.ready(); err != nil {
		w.Header().Set("Retry-After", "1")
		closeUnread(w, x.body)
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	ctx, cancel := context.WithCancelCause(context.WithValue(r.Context(), exchangeKey{}, x))
	defer cancel(nil)
	if x.body != nil {
		defer x.body.end()
		x.body.watch(func() { cancel(errClientGone) })
	}
	if limit := p.cfg.execTimeout; limit > 0 {
		x.timer = time.AfterFunc(limit, func() { cancel(execTimeout(limit)) })
		defer x.timer.Stop()
	}
	defer func() {
		if reason := recover(); reason != nil { // the answer is broken off
			connOf(ctx).abort()
			panic(reason)
		}
	}()
	p.reverse.ServeHTTP(w, r.WithContext(ctx))
	if p.cfg.writeDebug {
		p.log.Printf("%s %s - Duration: %.3fs", r.Method, r.URL.Path, time.Since(x.start).Seconds())
	}
}

// answered is called when the headers of the answer are there. What has no end by nature is exempt from exec_timeout from now on.
func (p *proxy) answered(res *http.Response) error {
	x := res.Request.Context().Value(exchangeKey{}).(*exchange)
	res.Header.Del("X-Faas-Replica-Full") // of a function that this one has called, perhaps: a gateway would send the request again
	media, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";")
	if x.timer != nil && (res.StatusCode == http.StatusSwitchingProtocols || strings.TrimSpace(media) == "text/event-stream") {
		x.timer.Stop()
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		res.Header.Set("X-Duration-Seconds", fmt.Sprintf("%.6f", time.Since(x.start).Seconds()))
		if x.body.unread() {
			res.Header.Set("Connection", "close")
		}
		if most := p.cfg.maxResponse; most > 0 {
			if res.ContentLength > most && res.Request.Method != http.MethodHead {
				return responseLimit(most)
			}
			res.Body = &bounded{res.Body, most, responseLimit(most)}
		}
	}
	return nil
}

// refuse answers a request that the process did not answer.
func (p *proxy) refuse(w http.ResponseWriter, r *http.Request, err error) {
	x := r.Context().Value(exchangeKey{}).(*exchange)
	said := err
	var limit *failure
	switch cause := context.Cause(r.Context()); {
	case errors.As(cause, &limit):
		err = limit
	case cause == context.Canceled:
		err = x.body.whyGone()
	case cause != nil:
		err = cause
	case errors.As(err, &limit):
		err = limit
	case errors.Is(err, errBodySlow), errors.Is(err, errBodyBad), errors.Is(err, errClientGone):
	default:
		var op *net.OpError
		if errors.As(err, &op) { // the addresses are for the log
			err = op.Err
		}
		err = &failure{http.StatusBadGateway, "the function did not answer: " + err.Error(), ""}
		err = p.cfg.memory.exceeded(x.kills, http.StatusBadGateway, err)
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	if op := (*net.OpError)(nil); errors.As(said, &op) {
		first += " (" + said.Error() + ")"
	}
	p.log.Printf("%s %s: %s", r.Method, r.URL.Path, first)
	if errors.Is(err, errClientGone) {
		panic(http.ErrAbortHandler)
	}
	closeUnread(w, x.body)
	writeError(w, err)
}

func (p *proxy) ready() error {
	if err := p.notReady.Load(); err != nil {
		return *err
	}
	return nil
}

func (p *proxy) down(why error) { p.notReady.Store(&why) }

// stop asks the process to end, now that nothing is in flight, and kills its group if the context ends first or 5 s have passed.
func (p *proxy) stop(ctx context.Context) {
	close(p.stopping)
	if proc := p.proc.Load(); proc != nil {
		proc.kill(syscall.SIGTERM)
	}
	late := time.NewTimer(5 * time.Second)
	defer late.Stop()
	select {
	case <-p.ended: // and its last words are in the log
	case <-ctx.Done():
	case <-late.C:
	}
	p.children.killAll()
}
