package local

import (
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

const (
	// startTimeout is how long a process may take to become ready.
	startTimeout = 30 * time.Second
	// healthyAfter is how long a replica must have run for its earlier failures to be forgotten.
	healthyAfter = 10 * time.Second
	// watchInterval is how often a ready replica is asked whether it still is.
	watchInterval = time.Second

	// minPause and maxPause are between two questions to a process that starts.
	minPause, maxPause = 2 * time.Millisecond, 100 * time.Millisecond

	minRestartDelay, maxRestartDelay = 100 * time.Millisecond, 30 * time.Second
)

// A replica keeps one process running in one slot. Its goroutine, run, is
// waited for by the function's supervisor.
type replica struct {
	f    *function
	rec  record // as it was when the replica began
	slot int
	quit chan struct{} // closed by the supervisor: stop the process and end

	// Guarded by f.mu. The first two are of the present process, empty when there is none.
	id, addr string
	process  *running
	ready    bool
	served   bool   // it has been ready
	fails    int    // failed starts in a row
	reason   string // why it is not ready
	leaving  bool
	ended    bool
}

// run starts the process again and again until the replica must leave.
func (r *replica) run() {
	defer r.change(func() { r.ended = true })
	for {
		began := time.Now()
		err := r.live()
		if err == nil {
			return
		}
		delay := r.failed(err, time.Since(began) >= healthyAfter)
		select {
		case <-r.quit:
			return
		case <-time.After(delay):
		}
	}
}

// live runs one process from its start to its end. It returns nil when the replica must leave.
func (r *replica) live() error {
	p, err := r.f.e.launch(r.f, r.rec, r.slot)
	if err != nil {
		return err
	}
	defer p.clean()
	r.change(func() { r.id, r.addr, r.process = p.id, "unix/"+p.socket, p })
	defer r.change(func() { r.process = nil })
	deadline := time.NewTimer(startTimeout)
	defer deadline.Stop()
	served, ready, pause := false, false, minPause
	for {
		if now, known := p.ready(); known && now != ready {
			ready, served, pause = now, true, minPause
			r.turn(p, ready)
			if deadline.Stop(); !ready {
				deadline.Reset(startTimeout)
			}
		}
		spoke := p.spoke // while it starts: a line of its log is a good time to ask again
		if ready {
			spoke, pause = nil, watchInterval
		} else if p.restarted() {
			r.change(func() { r.fails, r.reason = max(r.fails, 2), "its process does not stay up"+p.lastWords() })
		}
		select {
		case <-p.exited:
			return p.failure()
		case <-r.quit:
			r.leave(p, served)
			return nil
		case <-deadline.C:
			p.kill()
			return fmt.Errorf("not ready after %s%s", startTimeout, p.lastWords())
		case <-spoke:
		case <-p.fell:
		case <-time.After(pause):
			pause = min(2*pause, maxPause)
		}
	}
}

// turn notes that the process became ready, or no longer is.
func (r *replica) turn(p *running, ready bool) {
	r.change(func() {
		r.ready, r.served, r.reason = ready, true, ""
		if !ready {
			r.reason = "no longer ready" + p.lastWords()
		}
	})
}

// leave ends the process: in good order if it may have requests.
func (r *replica) leave(p *running, served bool) {
	if served {
		p.stop(patience(r.rec.Function))
		return
	}
	p.kill() // it may not hear SIGTERM yet
}

// failed notes why a process ended and returns how long to wait before the next one.
func (r *replica) failed(err error, healthy bool) (delay time.Duration) {
	fails := 0
	r.change(func() {
		if healthy {
			r.fails = 0
		}
		r.fails++
		r.ready, r.reason, r.id, r.addr = false, err.Error(), "", ""
		fails = r.fails
	})
	delay = backoff(fails)
	level := zap.DebugLevel // a loop of failures is one change of state
	if fails <= 2 {
		level = zap.WarnLevel
	}
	r.f.e.log.Log(level, "replica failed", zap.Stringer("function", r.f.id), zap.Int("slot", r.slot),
		zap.Int("failures", fails), zap.Duration("restart_in", delay), zap.Error(err))
	return delay
}

// backoff is how long to wait after so many failures in a row.
func backoff(fails int) time.Duration {
	return min(minRestartDelay<<min(fails-1, 20), maxRestartDelay)
}

// change alters what f.mu guards and lets the supervisor know.
func (r *replica) change(do func()) {
	r.f.mu.Lock()
	do()
	r.f.mu.Unlock()
	r.f.wake()
}

// failure describes an exit that nobody asked for.
func (p *running) failure() error {
	if p.group.kills() > 0 {
		p.hint = fmt.Sprintf(" (its memory limit of %s was exceeded)", p.limits.memoryText)
	}
	if p.err == nil {
		return errors.New("exit status 0" + p.lastWords() + p.hint)
	}
	return fmt.Errorf("%w%s%s", p.err, p.lastWords(), p.hint)
}
