package history

import (
	"math"
	"time"
)

// buckets are how many ranges of durations are told apart: each is √2 times as
// wide as the one before, from half a millisecond to more than three minutes.
const buckets = 38

const narrowest = 500 * time.Microsecond

// bounds are the upper bounds of all buckets but the last, in seconds.
var bounds = func() (b [buckets - 1]float64) {
	for i := range b {
		b[i] = narrowest.Seconds() * math.Pow(2, float64(i)/2)
	}
	return b
}()

func bucketOf(d time.Duration) int {
	if d <= narrowest {
		return 0
	}
	i := int(math.Ceil(2*math.Log2(d.Seconds()/narrowest.Seconds()) - 1e-9))
	return min(i, buckets-1)
}

// counts is a histogram at rest.
type counts struct {
	failed  uint32
	buckets [buckets]uint32
}

func (c *counts) add(o *counts) {
	c.failed += o.failed
	for i, n := range o.buckets {
		c.buckets[i] += n
	}
}

func (c *counts) ended() (n uint32) {
	for _, b := range c.buckets {
		n += b
	}
	return n
}

// quantile estimates the duration, in seconds, that a part q of all did not
// exceed, off by at most a bucket's width; 0 without any.
func (c *counts) quantile(q float64) float32 {
	rank := q * float64(c.ended())
	if rank == 0 {
		return 0
	}
	before := 0.0
	for i, n := range c.buckets {
		if n == 0 || before+float64(n) < rank {
			before += float64(n)
			continue
		}
		low, high := 0.0, bounds[buckets-2]*math.Sqrt2
		if i > 0 {
			low = bounds[i-1]
		}
		if i < buckets-1 {
			high = bounds[i]
		}
		return float32(low + (high-low)*(rank-before)/float64(n))
	}
	return float32(bounds[buckets-2])
}
