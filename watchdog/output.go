package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// collect reads stdout until the process has ended, by itself (then it returns nil) or because the call failed. What fits is held
// back: a small answer gets its length, and a clean status if the function fails in the end.
func (c *call) collect() error {
	var until time.Time // when what is held is sent; zero: nothing is held
	for {
		switch now := time.Now(); {
		case c.n > 0 && until.IsZero():
			until = now.Add(heldMost)
			fallthrough
		case c.n > 0:
			c.stdout.SetReadDeadline(earlier(until, now.Add(quiet)))
		case !until.IsZero():
			until = time.Time{}
			c.stdout.SetReadDeadline(until)
		}
		// Whoever wakes stores first and sets the deadline then, so it cannot be lost between the lines above and the Read.
		if c.woken.Load() {
			return c.drain()
		}
		m, err := c.stdout.Read(c.held[c.n:])
		if c.add(m); c.failed() != nil {
			continue
		}
		if err == io.EOF {
			return c.awaitExit()
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			c.fail(fmt.Errorf("reading the answer of fprocess: %w", err))
			continue
		}
		silent := err != nil && !c.woken.Load()
		if c.n > 0 && (c.n == len(c.held) || c.streamed || silent) {
			c.send()
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// awaitExit waits for the end of a process that has closed its stdout.
func (c *call) awaitExit() error {
	silence := time.NewTimer(quiet)
	defer silence.Stop()
	for {
		if c.streamed && c.n > 0 {
			c.send()
		}
		select {
		case <-c.proc.exited:
			return c.failed() // which may be what ended it
		case <-c.stopped:
			return c.why
		case <-silence.C:
			if c.n > 0 {
				c.send()
			}
		}
	}
}

// drain takes what a process that has ended left in the pipe. Somebody may still hold the pipe open, a process that left the group:
// its output is not waited for.
func (c *call) drain() error {
	if err := c.failed(); err != nil {
		return err
	}
	for left := maxPipe; left > 0; {
		if c.n == len(c.held) {
			c.send()
			if err := c.failed(); err != nil {
				return err
			}
		}
		m := readNow(c.stdout, c.held[c.n:])
		if m == 0 {
			break
		}
		c.add(m)
		if err := c.failed(); err != nil {
			return err
		}
		left -= m
	}
	return nil
}

// add counts bytes that were read into held. The call fails when they are too many.
func (c *call) add(n int) {
	c.n += n
	if most := c.cfg.maxResponse; most > 0 && c.sent+int64(c.n) > most {
		c.fail(responseLimit(most))
	}
}

// send sends what is held at once. If the client does not take it the call fails.
func (c *call) send() {
	if !c.streamed {
		c.header()
		c.streamed = true
	}
	err := c.write()
	if err == nil {
		if err = http.NewResponseController(c.w).Flush(); err != nil {
			err = writeFailure(err)
		}
	}
	if err != nil {
		c.fail(err)
	}
}

func (c *call) write() error {
	if c.cfg.writeDebug && c.n > 0 {
		c.log.Printf("Output: %q", c.held[:min(c.n, maxTail)])
	}
	n, err := c.w.Write(c.held[:c.n])
	c.n = 0
	c.sent += int64(n)
	if err != nil {
		return writeFailure(err)
	}
	return nil
}

func writeFailure(err error) error {
	return fmt.Errorf("%w: writing the answer: %v", errClientGone, err)
}

// header sets the headers of the answer; those of a streamed answer can tell only how long its first bytes took.
func (c *call) header() {
	h := c.w.Header()
	h.Set("X-Duration-Seconds", fmt.Sprintf("%.6f", time.Since(c.start).Seconds()))
	if t := answerType(c.cfg.contentType, c.r.Header.Get("Content-Type")); t != "" {
		h.Set("Content-Type", t)
	}
	closeUnread(c.w, c.body)
}

// answerType is the Content-Type of an answer: the configured one, or else the caller's. It is "", so net/http tells it from the first
// bytes, if the caller sent none or the one that HTML forms and curl -d use.
func answerType(configured, callers string) string {
	if configured != "" {
		return configured
	}
	if media, _, _ := strings.Cut(callers, ";"); strings.EqualFold(strings.TrimSpace(media), "application/x-www-form-urlencoded") {
		return ""
	}
	return callers
}

// closeUnread announces that the connection ends with this answer if part of the body has not been read.
func closeUnread(w http.ResponseWriter, b *body) {
	if b.unread() {
		w.Header().Set("Connection", "close")
	}
}
