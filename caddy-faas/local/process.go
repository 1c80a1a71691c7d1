package local

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/internal/meter"
)

// running is one watchdog process.
type running struct {
	e      *Engine
	f      *function
	id     string
	dir    string // RUN/ID
	socket string
	tmp    string // its temporary folder on this machine
	mark   string // its TMPDIR, by which stray processes are known
	hint   string // what may have kept it from starting
	alone  bool   // it has a PID namespace: nothing outlives it
	cmd    *exec.Cmd
	group  *cgroup // nil: none
	limits limits
	meter  *meter.CPU
	parent *os.File // the watchdog ends, and all that it started, once this is closed
	output *os.File

	spoke  chan struct{} // it wrote a line: a good time to ask whether it is ready
	fell   chan struct{} // the process behind it has ended (mode http): it is no longer ready
	exited chan struct{} // closed when the process has ended and its log is read
	err    error         // how it ended; to be read after exited

	mu   sync.Mutex
	last []string // the last lines that it wrote
	ends int      // how often the process behind it has ended or could not be started (mode http)
}

// watch reads the process's log and waits for its end.
func (p *running) watch() {
	read := make(chan struct{})
	go func() {
		defer close(read)
		p.read()
	}()
	p.err = p.cmd.Wait()
	if !p.alone {
		sweep(p.mark)
	}
	// A stray process may hold the other end: what was written is read, then no more.
	p.output.SetReadDeadline(time.Now().Add(time.Second))
	<-read
	p.output.Close()
	p.parent.Close()
	close(p.exited)
}

// read keeps the log until it ends. Lines may be of any length; memory is bounded.
func (p *running) read() {
	in := bufio.NewReaderSize(p.output, maxLine)
	for {
		line, err := in.ReadSlice('\n')
		text := strings.ToValidUTF8(strings.TrimRight(string(line), "\r\n"), "\uFFFD")
		for err == bufio.ErrBufferFull {
			_, err = in.ReadSlice('\n')
		}
		if text != "" {
			p.line(text)
		}
		if err != nil {
			return
		}
	}
}

// line keeps and forwards one line.
func (p *running) line(text string) {
	p.f.logs.add(p.e.options().logLines, faas.LogLine{Time: time.Now(), Replica: p.id, Text: text})
	own, level := unprefixed(text)
	p.mu.Lock()
	if level == zap.DebugLevel && (strings.HasPrefix(own, "fprocess has ended: ") || strings.HasPrefix(own, "fprocess can't be started: ")) {
		p.ends++
		select {
		case p.fell <- struct{}{}:
		default:
		}
	}
	if level != zap.DebugLevel || !strings.HasPrefix(own, "Started fprocess") { // that it was started is no reason why it ended
		p.last = append(p.last[max(0, len(p.last)-4):], own[:min(len(own), 300)])
	}
	p.mu.Unlock()
	select {
	case p.spoke <- struct{}{}:
	default:
	}
	if c := p.e.log.Check(level, "function log"); c != nil {
		c.Write(zap.Stringer("function", p.f.id), zap.String("replica", p.id), zap.String("text", own))
	}
}

// unprefixed takes the watchdog's prefix off a line and tells the level of what
// is left: the watchdog's own lines begin with date and time, the function's in
// addition with the name of the stream, or with nothing (prefix_logs=false).
func unprefixed(line string) (text string, level zapcore.Level) {
	const stamp = "2006/01/02 15:04:05 "
	if len(line) < len(stamp) || line[4] != '/' || line[7] != '/' || line[13] != ':' || line[16] != ':' {
		return line, zap.InfoLevel
	}
	line = line[len(stamp):]
	for _, stream := range []string{"stderr: ", "stdout: "} {
		if text, ok := strings.CutPrefix(line, stream); ok {
			return text, zap.InfoLevel
		}
	}
	return line, zap.DebugLevel
}

// lastWords are the last lines of the log, to follow the description of an end.
func (p *running) lastWords() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.last) == 0 {
		return ""
	}
	return ": " + strings.Join(p.last, "; ")
}

// restarted tells whether the function's long-lived process has failed twice
// since the last time that this was so: it doesn't start.
func (p *running) restarted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ends < 2 {
		return false
	}
	p.ends = 0
	return true
}

// ready asks the watchdog; known is false when it gave no answer in time. One
// that has as many requests as it takes (429) is ready all the same.
func (p *running) ready() (ready, known bool) {
	conn, err := net.DialTimeout("unix", p.socket, time.Second)
	if err != nil { // a full backlog is no sign of death
		return false, errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := conn.Write([]byte("GET /_/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")); err != nil {
		return false, false
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return false, false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusTooManyRequests, true
}

// stop lets the process end what it does, for so long.
func (p *running) stop(patience time.Duration) {
	p.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.exited:
	case <-timer.C:
		p.e.log.Warn("replica did not end in time, killing it",
			zap.Stringer("function", p.f.id), zap.String("replica", p.id), zap.Duration("waited", patience))
		p.kill()
	}
}

// kill ends the process and what it started, at once.
func (p *running) kill() {
	if p.alone {
		p.cmd.Process.Kill() // the namespace ends with its first process
		<-p.exited
		return
	}
	p.parent.Close() // the watchdog knows the process groups that it started
	timer := time.NewTimer(2 * time.Second)
	defer timer.Stop()
	select {
	case <-p.exited:
		return
	case <-timer.C:
	}
	p.cmd.Process.Kill()
	<-p.exited
}

// clean removes what belongs to the process alone.
func (p *running) clean() {
	err := p.group.remove()
	if err == nil {
		err = removeRuntime(p.dir)
	}
	if err == nil {
		err = os.RemoveAll(p.tmp)
	}
	if err != nil {
		p.e.log.Warn("removing a replica's files", zap.Stringer("function", p.f.id), zap.Error(err))
	}
}
