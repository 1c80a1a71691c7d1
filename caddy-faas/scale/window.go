package scale

import "time"

// bucket is a time of which only the most is remembered.
const bucket = 5 * time.Second

// A window remembers the most of each bucket of time.
type window struct {
	buckets []int // a ring; the newest is at index newest modulo its length
	newest  int64
}

// most takes a number in, and returns the most of those of the last so long, to a bucket more.
func (w *window) most(at, last time.Duration, n int) int {
	size := int((last+bucket-1)/bucket) + 1
	if size != len(w.buckets) {
		w.resize(size)
	}
	now := int64(at / bucket)
	for ; w.newest < now; w.newest++ {
		if now-w.newest > int64(size) {
			w.newest = now - int64(size)
		}
		w.buckets[(w.newest+1)%int64(size)] = 0
	}
	i := now % int64(size)
	w.buckets[i] = max(w.buckets[i], n)
	for _, b := range w.buckets {
		n = max(n, b)
	}
	return n
}

// resize keeps the most of all.
func (w *window) resize(size int) {
	most := 0
	for _, b := range w.buckets {
		most = max(most, b)
	}
	w.buckets = make([]int, size)
	w.buckets[w.newest%int64(size)] = most
}
