package swarm

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/pkg/stdcopy"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

var _ faas.Logger = (*Engine)(nil)

// maxLogLines bounds what is read of each replica's past when all is asked for, because it must be sorted.
const maxLogLines = 10000

// maxLine is the longest line that is passed on, in bytes; the rest of a longer one is dropped.
const maxLine = 64 << 10

// Logs reads what the log driver has kept of a function's replicas, on
// whichever node: at most the last 10,000 lines of each. Replicas that Swarm
// has forgotten have no log any more. What a lost node has is left out: a line of no replica says so at the end.
func (e *Engine) Logs(ctx context.Context, id faas.ID, q faas.LogQuery, line func(faas.LogLine) error) error {
	s, err := e.find(ctx, id)
	if err != nil {
		return fmt.Errorf("log of %s: %w", id, err)
	}
	l := logReader{e: e, service: s.ID, tty: s.Spec.TaskTemplate.ContainerSpec.TTY, replica: q.Replica, last: map[string]time.Time{}}
	past, err := l.past(ctx, q)
	if err != nil {
		return fmt.Errorf("log of %s: %w", id, err)
	}
	for _, p := range past {
		if err := cmp.Or(ctx.Err(), line(p)); err != nil {
			return err
		}
		l.last[p.Replica] = p.Time
	}
	if !q.Follow {
		return nil
	}
	return e.followLog(ctx, &l, id, past, line)
}

// followLog passes on new lines until the context ends or the function does.
func (e *Engine) followLog(ctx context.Context, l *logReader, id faas.ID, past []faas.LogLine, line func(faas.LogLine) error) error {
	limited, cancel := context.WithCancel(ctx)
	defer cancel()
	if service, gone := e.table.find(id); service == l.service {
		go func() {
			select {
			case <-gone:
				// What it said last is on its way.
				select {
				case <-time.After(2 * time.Second):
				case <-limited.Done():
				}
				cancel()
			case <-limited.Done():
			}
		}()
	}
	q := faas.LogQuery{Follow: true, Tail: -1, Since: time.Now().Add(-time.Minute)}
	if len(past) > 0 {
		q.Since = past[len(past)-1].Time
	}
	err := l.read(limited, q, func(n faas.LogLine) error {
		if !n.Time.After(l.last[n.Replica]) {
			return nil
		}
		l.last[n.Replica] = n.Time
		return line(n)
	})
	if limited.Err() != nil && ctx.Err() == nil {
		return nil // removed
	}
	return err
}

type logReader struct {
	e       *Engine
	service string
	tty     bool
	replica string // the only one wanted; "": all
	last    map[string]time.Time
}

// past reads the lines that there are, in order.
func (l *logReader) past(ctx context.Context, q faas.LogQuery) (lines []faas.LogLine, err error) {
	tail := q.Tail
	if tail < 0 || tail > maxLogLines {
		tail = maxLogLines
	}
	err = l.read(ctx, faas.LogQuery{Tail: tail, Since: q.Since}, func(n faas.LogLine) error {
		lines = append(lines, n)
		return nil
	})
	slices.SortStableFunc(lines, func(a, b faas.LogLine) int { return a.Time.Compare(b.Time) })
	if q.Tail >= 0 {
		lines = lines[max(0, len(lines)-q.Tail):]
	}
	if why := incomplete(err); why != "" {
		note := faas.LogLine{Time: time.Now(), Text: why}
		if len(lines) > 0 {
			note.Time = lines[len(lines)-1].Time
		}
		return append(lines, note), nil
	}
	return lines, err
}

// incomplete is what the engine says after the lines that it has, when a node is lost that has others; "" for other errors.
func incomplete(err error) string {
	if err == nil {
		return ""
	}
	text, ok := strings.CutPrefix(err.Error(), "error from daemon in stream: ") // as stdcopy has it
	if !ok {
		return ""
	}
	if _, desc, ok := strings.Cut(text, " desc = "); ok {
		text = desc
	}
	return strings.TrimSpace(text)
}

// read passes on the lines of one stream.
func (l *logReader) read(ctx context.Context, q faas.LogQuery, line func(faas.LogLine) error) error {
	stream, err := l.e.docker.logs(ctx, l.service, q)
	if err != nil {
		return err
	}
	defer stream.Close()
	take := func(text []byte) error {
		n, ok := parseLogLine(string(text))
		if !ok || l.replica != "" && n.Replica != l.replica || n.Time.Before(q.Since) {
			return nil
		}
		return line(n)
	}
	out, errs := &lineWriter{line: take}, &lineWriter{line: take}
	if l.tty {
		_, err = io.Copy(out, stream)
	} else {
		_, err = stdcopy.StdCopy(out, errs, stream)
	}
	if err == nil {
		err = errors.Join(out.flush(), errs.flush())
	}
	return cmp.Or(ctx.Err(), err)
}

// parseLogLine reads a line with details and timestamp: TIME KEY=VALUE,... TEXT. Details name the task.
func parseLogLine(text string) (line faas.LogLine, ok bool) {
	stamp, rest, _ := strings.Cut(text, " ")
	details, text, _ := strings.Cut(rest, " ")
	at, err := time.Parse(time.RFC3339Nano, stamp)
	if err != nil {
		return line, false
	}
	line = faas.LogLine{Time: at, Text: strings.TrimSuffix(text, "\r")}
	for detail := range strings.SplitSeq(details, ",") {
		if task, is := strings.CutPrefix(detail, "com.docker.swarm.task.id="); is {
			line.Replica = task
		}
	}
	return line, line.Replica != ""
}

// A lineWriter cuts what is written into lines.
type lineWriter struct {
	rest []byte
	line func([]byte) error
}

func (w *lineWriter) Write(p []byte) (int, error) {
	for n := len(p); ; {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			w.keep(p)
			return n, nil
		}
		w.keep(p[:i])
		p = p[i+1:]
		if err := w.flush(); err != nil {
			return 0, err
		}
	}
}

func (w *lineWriter) keep(p []byte) { w.rest = append(w.rest, p[:min(len(p), maxLine-len(w.rest))]...) }

func (w *lineWriter) flush() error {
	if len(w.rest) == 0 {
		return nil
	}
	err := w.line(w.rest)
	w.rest = w.rest[:0]
	return err
}
