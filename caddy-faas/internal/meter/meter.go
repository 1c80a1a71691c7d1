// Package meter makes usages of what engines count up.
package meter

import (
	"sync"
	"time"
)

// window is the least time that a CPU usage is averaged over: the kernel may count in hundredths of a second.
const window = time.Second

// A CPU averages the CPU usage of one replica.
type CPU struct {
	mu   sync.Mutex
	at   time.Time     // when it was read last, at first the replica's start
	used time.Duration // what was read then
	read bool          // since the start
	last float64
}

// NewCPU is the meter of a replica that has used nothing yet.
func NewCPU(start time.Time) *CPU { return &CPU{at: start} }

// Average is the CPU usage since the last call, in thousandths of a core; a call that comes too soon gets the last answer.
func (c *CPU) Average(now time.Time, used time.Duration) float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	span := now.Sub(c.at)
	if span >= window || !c.read && span > 0 {
		c.last = 1000 * float64(max(0, used-c.used)) / float64(span)
		c.at, c.used, c.read = now, used, true
	}
	return c.last
}
