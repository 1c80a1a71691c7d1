package local

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// maxLine is the longest line that a log keeps, in bytes; the rest of a longer one is dropped.
const maxLine = 8 << 10

// Logs reads the last lines of a function's replicas, past ones included: at
// most log_lines of them.
func (e *Engine) Logs(ctx context.Context, id faas.ID, q faas.LogQuery, line func(faas.LogLine) error) error {
	f := e.find(id)
	if f == nil {
		return fmt.Errorf("log of %s: %w", id, faas.ErrNotFound)
	}
	wanted := func(l faas.LogLine) bool {
		return (q.Replica == "" || l.Replica == q.Replica) && !l.Time.Before(q.Since)
	}
	last := false
	lines, read, more := f.logs.after(0)
	lines = slices.DeleteFunc(lines, func(l faas.LogLine) bool { return !wanted(l) })
	if q.Tail >= 0 {
		lines = lines[max(0, len(lines)-q.Tail):]
	}
	for {
		for _, l := range lines {
			if !wanted(l) {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := line(l); err != nil {
				return err
			}
		}
		if !q.Follow || last {
			return nil
		}
		select {
		case <-more:
		case <-f.over:
			last = true
		case <-ctx.Done():
			return ctx.Err()
		}
		lines, read, more = f.logs.after(read)
	}
}

// A ring keeps the last lines.
type ring struct {
	mu    sync.Mutex
	lines []faas.LogLine
	next  int
	total int           // lines ever added
	more  chan struct{} // closed by the next add; nil: nobody waits
}

// add appends a line, in place of the oldest once there are n.
func (r *ring) add(n int, line faas.LogLine) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total++
	if r.more != nil {
		close(r.more)
		r.more = nil
	}
	if len(r.lines) != n && (len(r.lines) > n || r.next != 0) {
		r.resize(n)
	}
	if len(r.lines) < n {
		r.lines = append(r.lines, line)
		return
	}
	r.lines[r.next] = line
	r.next = (r.next + 1) % n
}

// resize makes room for n lines, or lets the oldest beyond n go.
func (r *ring) resize(n int) {
	all := r.ordered()
	r.lines, r.next = all[max(0, len(all)-n):], 0
}

func (r *ring) ordered() []faas.LogLine {
	all := make([]faas.LogLine, 0, len(r.lines))
	return append(append(all, r.lines[r.next:]...), r.lines[:r.next]...)
}

// after returns what is kept of the lines after the first n, how many there
// have been until now, and a channel that is closed when there are more.
func (r *ring) after(n int) (lines []faas.LogLine, total int, more <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.more == nil {
		r.more = make(chan struct{})
	}
	all := r.ordered()
	return all[max(0, len(all)-(r.total-n)):], r.total, r.more
}
