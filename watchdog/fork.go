package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// chunk is the size in bytes of the buffers that bodies pass through: an answer below this size is held back until the process has
// ended, a request body of known length up to this size is in the pipe before the process starts.
const chunk = 64 << 10

// quiet is how long the function may be silent before the part of its answer that is held back is sent; heldMost is how long it is
// held back if the function is never silent.
const (
	quiet    = 100 * time.Millisecond
	heldMost = 500 * time.Millisecond
)

var chunks = sync.Pool{New: func() any { b := make([]byte, chunk); return &b }}

// forker is the mode fork: one process per request, the body on its stdin, the answer on its stdout.
type forker struct {
	cfg      *config
	children *children
	log      *logger
	path     string   // of the program
	env      []string // of every process
}

// ready is nil: a process can always be started.
func (f *forker) ready() error { return nil }

func (f *forker) stop(context.Context) {}

// call is one request in mode fork.
type call struct {
	*forker
	w     http.ResponseWriter
	r     *http.Request
	body  *body // nil: none
	start time.Time
	proc  *process

	stdout   *os.File
	stderr   *lines // nil: combined with stdout
	held     []byte // a chunk, of which the first n bytes are to be sent
	n        int
	sent     int64
	kills    int  // for the memory limit, before the process started
	streamed bool // the headers have been sent, so failing means aborting

	once    sync.Once
	stopped chan struct{} // closed when the call failed, with why set
	why     error
	woken   atomic.Bool // stdout's deadline has been moved into the past for good
}

func (f *forker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{forker: f, w: w, r: r, start: time.Now(), stopped: make(chan struct{}), body: takeBody(w, r, f.cfg.maxRequest)}
	buffer := chunks.Get().(*[]byte)
	defer chunks.Put(buffer)
	c.held = *buffer
	if c.body != nil {
		defer c.body.end()
	}
	err := c.run()
	if err == nil {
		err = c.finish()
	}
	c.log.Printf("Wrote %d Bytes - Duration: %.3fs", c.sent, time.Since(c.start).Seconds())
	if err != nil {
		c.refuse(err)
	}
}

// run starts the process, feeds it and sends or holds its answer until it has ended. An error means that there is no whole answer.
func (c *call) run() error {
	early, err := c.readEarly()
	if err != nil {
		return err
	}
	env := c.env
	if c.cfg.cgiHeaders {
		if env, err = requestEnv(c.env, c.r); err != nil {
			return err
		}
	}
	c.log.Print("Forking fprocess")
	c.kills = c.cfg.memory.kills()
	stdin, rest, err := c.launch(env, early)
	if err != nil {
		return err
	}
	defer c.stdout.Close()
	if c.stderr != nil {
		defer c.awaitStderr()
	}
	if limit := c.cfg.execTimeout; limit > 0 {
		timer := time.AfterFunc(limit, func() { c.fail(execTimeout(limit)) })
		defer timer.Stop()
	}
	defer context.AfterFunc(c.r.Context(), func() { c.fail(c.body.whyGone()) })()
	if c.body.unread() {
		c.body.watch(func() { c.fail(errClientGone) })
	}
	if rest != nil {
		fed := make(chan struct{})
		go func() { defer close(fed); c.feed(stdin, rest) }()
		defer func() {
			stdin.Close() // interrupts a write that waits
			if c.body != nil {
				c.body.end() // and a read
			}
			<-fed
		}()
	}
	return c.collect()
}

// awaitStderr waits until all that the process wrote to stderr is in the log.
func (c *call) awaitStderr() {
	c.stderr.stop()
	<-c.stderr.done
}

// readEarly reads a body of known length up to a chunk; nil for any other.
func (c *call) readEarly() ([]byte, error) {
	if c.body == nil || c.r.ContentLength <= 0 || c.r.ContentLength > chunk {
		return nil, nil
	}
	// The buffer for the answer is free until the process runs.
	early := c.held[:c.r.ContentLength]
	if _, err := io.ReadFull(c.body, early); err != nil {
		return nil, err
	}
	return early, nil
}

// launch starts the process with early in its stdin. If the function's stdin is to be fed more, launch returns what with and the pipe
// to it, still open.
func (c *call) launch(env []string, early []byte) (stdin *os.File, rest io.Reader, err error) {
	var in, out, errs pipe
	defer func() {
		if err != nil {
			in.close()
			out.close()
			errs.close()
		}
	}()
	if in, err = pipeTo(); err != nil {
		return nil, nil, err
	}
	if out, err = pipeFrom(); err != nil {
		return nil, nil, err
	}
	stderr := out.theirs
	if !c.cfg.combineOutput {
		if errs, err = pipeFrom(); err != nil {
			return nil, nil, err
		}
		stderr = errs.theirs
	}
	rest = c.fill(in.ours, early)
	c.stdout = out.ours
	c.proc, err = c.children.start(c.path, c.cfg.command, env, [3]int{in.theirs, out.theirs, stderr}, c.wake)
	if err != nil {
		return nil, nil, err
	}
	in.closeTheirs()
	out.closeTheirs()
	if errs.ours != nil {
		errs.closeTheirs()
		c.stderr = c.log.follow(errs.ours, "stderr")
	}
	if rest == nil {
		in.ours.Close()
	}
	return in.ours, rest, nil
}

// fill writes early into the pipe before anybody reads from it, and returns what is to be fed later, nil for nothing.
func (c *call) fill(stdin *os.File, early []byte) io.Reader {
	if early != nil {
		// A user who has many pipes gets smaller ones.
		if n := writeNow(stdin, early); n < len(early) {
			return strings.NewReader(string(early[n:]))
		}
		return nil
	}
	if c.body == nil {
		return nil
	}
	enlarge(stdin)
	return c.body
}

// feed copies the body to the process. A process that does not read it all is none the worse; a client that does not send it all
// fails the call.
func (c *call) feed(stdin *os.File, from io.Reader) {
	defer stdin.Close()
	buffer := chunks.Get().(*[]byte)
	defer chunks.Put(buffer)
	for {
		n, err := from.Read(*buffer)
		if n > 0 {
			if _, err := stdin.Write((*buffer)[:n]); err != nil {
				return
			}
		}
		if err == io.EOF {
			return
		}
		if err != nil {
			c.fail(err)
			return
		}
	}
}

// fail ends the call with an answer that says why; only the first reason counts. The process group is killed.
func (c *call) fail(why error) {
	c.once.Do(func() {
		c.why = why
		close(c.stopped)
		c.proc.kill(syscall.SIGKILL)
		c.wake()
	})
}

// wake ends collect's waiting for output: the process has ended or the call has failed.
func (c *call) wake() {
	c.woken.Store(true)
	c.stdout.SetReadDeadline(time.Unix(1, 0))
}

// failed returns why the call failed, nil if it has not.
func (c *call) failed() error {
	select {
	case <-c.stopped:
		return c.why
	default:
		return nil
	}
}

// failure is an answer that is not the function's.
type failure struct {
	status int
	text   string
	reason string // "": none
}

func (f *failure) Error() string { return f.text }

func execTimeout(limit time.Duration) error {
	return &failure{http.StatusGatewayTimeout, fmt.Sprintf("exec_timeout of %s exceeded", limit), ""}
}

// finish decides, now that the process has ended by itself, and sends what is still held.
func (c *call) finish() error {
	if err := c.proc.failure(); err != nil {
		said := c.held[:c.n]
		if c.stderr != nil {
			said = c.stderr.tail
		}
		text := strings.TrimRight(fmt.Sprintf("fprocess failed: %v\n%s", err, lastLines(said)), "\n")
		return c.cfg.memory.exceeded(c.kills, http.StatusInternalServerError, &failure{http.StatusInternalServerError, text, ""})
	}
	if !c.streamed {
		c.header()
		c.w.Header().Set("Content-Length", strconv.Itoa(c.n))
	}
	return c.write()
}

// lastLines returns the lines that end in the last maxTail bytes, without the one that began before.
func lastLines(said []byte) []byte {
	if len(said) < maxTail {
		return said
	}
	said = said[len(said)-maxTail:]
	if i := bytes.IndexByte(said, '\n'); i >= 0 && i < len(said)-1 {
		return said[i+1:]
	}
	return said
}

// refuse answers with the failure, or breaks the answer off if its beginning has been sent or nobody is there to read it.
func (c *call) refuse(err error) {
	first, _, _ := strings.Cut(err.Error(), "\n") // what follows is from stderr, and logged already
	c.log.Print(first)
	if c.streamed || errors.Is(err, errClientGone) {
		if !c.r.ProtoAtLeast(1, 1) {
			connOf(c.r.Context()).abort()
		}
		panic(http.ErrAbortHandler)
	}
	c.header()
	writeError(c.w, err)
}

// writeError answers with the status that belongs to the error and its text.
func writeError(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	var f *failure
	switch {
	case errors.As(err, &f):
		status = f.status
		if f.reason != "" {
			w.Header().Set("X-Faas-Reason", f.reason)
		}
	case errors.Is(err, errBodySlow):
		status = http.StatusRequestTimeout
	case errors.Is(err, errBodyBad), errors.Is(err, errPathNUL):
		status = http.StatusBadRequest
	case errors.Is(err, errStopped):
		status = http.StatusServiceUnavailable
	}
	http.Error(w, err.Error(), status)
}
