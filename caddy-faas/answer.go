package caddyfaas

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxFull bounds in bytes the answer of a watchdog that has as many requests as it takes, since it is kept. Another one is a function's.
const maxFull = 4 << 10

// replicaFull tells such an answer to r: nothing was executed.
func replicaFull(r *http.Request, status int, h http.Header) bool {
	if status != http.StatusTooManyRequests || h.Get("X-Faas-Replica-Full") == "" {
		return false
	}
	n, err := strconv.Atoi(h.Get("Content-Length"))
	return r.Method == http.MethodHead || err == nil && n <= maxFull
}

// forgetAnswer takes the headers of such an answer back.
func forgetAnswer(h http.Header) {
	for _, name := range []string{"X-Faas-Replica-Full", "Retry-After", "Content-Type", "Content-Length", "X-Content-Type-Options", "Date", "Via"} {
		h.Del(name)
	}
}

// endless tells an answer that has no end by nature. No time limit holds for it.
func endless(status int, h http.Header) bool {
	media, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return status == http.StatusSwitchingProtocols || strings.TrimSpace(media) == "text/event-stream"
}

// timeLimitSlack is what the watchdog, whose time limit is the function's, has to answer that it has passed.
const timeLimitSlack = 2 * time.Second

// A timeLimit is the gateway's, for replicas whose watchdog keeps none or no longer answers. Nil is none.
type timeLimit struct {
	timeout time.Duration
	timer   *time.Timer
	cancel  context.CancelCauseFunc
}

func newTimeLimit(timeout time.Duration) *timeLimit {
	if timeout <= 0 {
		return nil
	}
	return &timeLimit{timeout: timeout}
}

// context ends when the time has passed.
func (l *timeLimit) context(parent context.Context) context.Context {
	if l == nil {
		return parent
	}
	ctx, cancel := context.WithCancelCause(parent)
	l.cancel = cancel
	l.timer = time.AfterFunc(l.timeout+timeLimitSlack, func() { cancel(l) })
	return ctx
}

// lift lets what follows take as long as it takes.
func (l *timeLimit) lift() {
	if l != nil {
		l.timer.Stop()
	}
}

// again begins the time anew.
func (l *timeLimit) again() {
	if l != nil {
		l.timer.Reset(l.timeout + timeLimitSlack)
	}
}

// end gives the context back.
func (l *timeLimit) end() {
	if l != nil {
		l.timer.Stop()
		l.cancel(nil)
	}
}

func (l *timeLimit) Error() string {
	return fmt.Sprintf("faas.timeout of %s exceeded, and the replica did not say so itself", l.timeout)
}
