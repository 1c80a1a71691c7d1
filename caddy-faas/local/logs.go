package local

import (
	"sync"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// maxLine is the longest line that a log keeps, in bytes; the rest of a longer one is dropped.
const maxLine = 8 << 10

// A LogLine is one line that a replica wrote.
type LogLine struct {
	Time time.Time
	// Replica is the ID of the replica.
	Replica string
	// Text is the line without its end, and cut at 8 KiB.
	Text string
}

// Logs returns the last lines of a function's replicas, past ones included,
// oldest first: at most log_lines of them, and none for an unknown function.
func (e *Engine) Logs(id faas.ID) []LogLine {
	f := e.find(id)
	if f == nil {
		return nil
	}
	return f.logs.snapshot()
}

// A ring keeps the last lines.
type ring struct {
	mu    sync.Mutex
	lines []LogLine
	next  int
}

// add appends a line, in place of the oldest once there are n.
func (r *ring) add(n int, line LogLine) {
	r.mu.Lock()
	defer r.mu.Unlock()
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

func (r *ring) ordered() []LogLine {
	all := make([]LogLine, 0, len(r.lines))
	return append(append(all, r.lines[r.next:]...), r.lines[:r.next]...)
}

func (r *ring) snapshot() []LogLine {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ordered()
}
