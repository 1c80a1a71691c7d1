package meter

import (
	"testing"
	"time"
)

// Whoever asks soon after somebody else gets the same answer, of an idle function too.
func TestCPU(t *testing.T) {
	began := time.Now()
	m := NewCPU(began)
	for _, tt := range []struct {
		after, cpu time.Duration
		want       float64
	}{{500, 0, 0}, {501, 10, 0}, {1500, 10, 10}, {1501, 500, 10}, {2500, 510, 500}} {
		if got := m.Average(began.Add(tt.after*time.Millisecond), tt.cpu*time.Millisecond); got != tt.want {
			t.Errorf("after %d ms: %v, want %v", tt.after, got, tt.want)
		}
	}
}
