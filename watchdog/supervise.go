package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// supervise starts the process again whenever it has ended, later each time, until the watchdog ends.
func (p *proxy) supervise() {
	defer close(p.ended)
	delay := firstRestart
	for {
		began := time.Now()
		err := p.once()
		select {
		case <-p.stopping:
			return
		default:
		}
		if errors.Is(err, errStopped) {
			return
		}
		if time.Since(began) > steady {
			delay = firstRestart
		}
		if errors.Is(err, errTaken) {
			p.down(fmt.Errorf("the function can't be started: %w", err))
			p.log.Printf("fprocess can't be started: %v; trying again in %s", err, delay)
		} else {
			p.down(fmt.Errorf("the function has ended (%w) and is started again", err))
			p.log.Printf("fprocess has ended: %v; starting it again in %s", err, delay)
		}
		select {
		case <-p.stopping:
			return
		case <-time.After(delay):
		}
		delay = min(2*delay, lastRestart)
	}
}

// once runs the process until it ends, and says how it ended.
func (p *proxy) once() error {
	env, err := p.aim()
	if err != nil {
		return err
	}
	if c, err := dialUpstream(context.Background(), p.target.Load()); err == nil {
		c.Close()
		return p.taken()
	}
	kills := p.cfg.memory.kills()
	proc, logs, err := p.launch(env)
	if err != nil {
		return err
	}
	p.proc.Store(proc)
	p.log.Printf("Started fprocess, pid %d; waiting for it to accept on %s", proc.pid, p.target.Load())
	p.awaitAccept(proc)
	<-proc.exited
	for _, l := range logs {
		l.stop()
		<-l.done
	}
	if err := proc.failure(); err != nil {
		if p.cfg.memory.kills() > kills {
			err = fmt.Errorf("%w, because the memory limit of %s was exceeded", err, p.cfg.memory.limit)
		}
		return err
	}
	return errors.New("exit status 0")
}

// errTaken is of a target that is not the function's own: requests for the function must not get there.
var errTaken = errors.New("something else listens")

func (p *proxy) taken() error { return fmt.Errorf("%w on %s", errTaken, p.target.Load()) }

// aim sets the target and returns the environment that tells the process about it. Without an upstream_url that is a free port, a new
// one for each start: several replicas live on one host, and the last one's port may not be free again at once.
func (p *proxy) aim() ([]string, error) {
	if p.cfg.upstream != nil {
		p.target.Store(p.cfg.upstream)
		return p.env, nil
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("looking for a free port: %w", err)
	}
	defer ln.Close()
	port := strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)
	p.target.Store(&url.URL{Scheme: "http", Host: "127.0.0.1:" + port})
	env := make([]string, 0, len(p.env)+1)
	for _, v := range p.env {
		if !strings.HasPrefix(v, "PORT=") {
			env = append(env, v)
		}
	}
	return append(env, "PORT="+port), nil
}

// launch starts the process with nothing on its stdin and what it prints in the log.
func (p *proxy) launch(env []string) (proc *process, logs []*lines, err error) {
	var outs [2]pipe
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, nil, err
	}
	defer null.Close()
	for i := range outs {
		if outs[i], err = pipeFrom(); err != nil {
			outs[0].close()
			return nil, nil, err
		}
	}
	files := [3]int{int(null.Fd()), outs[0].theirs, outs[1].theirs}
	proc, err = p.children.start(p.path, p.cfg.command, env, files, func() {})
	if err != nil {
		outs[0].close()
		outs[1].close()
		return nil, nil, err
	}
	for i, stream := range []string{"stdout", "stderr"} {
		outs[i].closeTheirs()
		logs = append(logs, p.log.follow(outs[i].ours, stream))
	}
	return proc, logs, nil
}

// awaitAccept makes the function ready once the process accepts a connection; it gives up when the process ends. Whoever accepts may be
// another program, which came first while this one was starting.
func (p *proxy) awaitAccept(proc *process) {
	began, told := time.Now(), false
	for delay := 2 * time.Millisecond; ; delay = min(delay*3/2, 100*time.Millisecond) {
		c, err := dialUpstream(context.Background(), p.target.Load())
		if err == nil {
			c.Close()
			if !proc.holds(p.target.Load()) {
				err = p.taken()
				p.down(err)
			}
		}
		if err == nil {
			p.notReady.Store(nil)
			// It may have ended meanwhile; supervise, which says so, runs after this function.
			p.log.Printf("fprocess accepts after %.3fs", time.Since(began).Seconds())
			return
		}
		if !told && time.Since(began) > 10*time.Second {
			told = true
			p.log.Printf("fprocess has been running for 10s and does not accept yet: %v", err)
		}
		select {
		case <-proc.exited:
			return
		case <-time.After(delay):
		}
	}
}
