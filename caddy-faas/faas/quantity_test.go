package faas

import (
	"fmt"
	"math"
	"testing"
)

func TestParseQuantity(t *testing.T) {
	for _, tt := range []struct {
		text  string
		inOne int64
		want  int64
	}{
		{"128Mi", 1, 128 << 20}, {"5Mi", 1, 5 << 20}, {"1Gi", 1, 1 << 30}, {"1.5Ki", 1, 1536}, {"1G", 1, 1e9}, {"64M", 1, 64e6}, {"1k", 1, 1000},
		{"134217728", 1, 128 << 20}, {"1e3", 1, 1000}, {"1E3", 1, 1000}, {"1E", 1, 1e18}, {"128e-1", 1, 13}, {"7Ei", 1, 7 << 60},
		{"100m", 1000, 100}, {"0.5", 1000, 500}, {"2", 1000, 2000}, {".25", 1000, 250}, {"1.", 1000, 1000}, {"1n", 1000, 1}, {"1500u", 1000, 2},
		{"0", 1, 0}, {"0Mi", 1, 0}, {"40m", 1, 1}, {"9223372036854775807", 1, math.MaxInt64},
	} {
		if got, err := ParseQuantity(tt.text, tt.inOne); err != nil || got != tt.want {
			t.Errorf("%s: %d, %v; want %d", tt.text, got, err, tt.want)
		}
	}
	for _, bad := range []string{
		"", " ", "-1", "+1", "1 Mi", "Mi", "1mi", "1K", "1MB", "1MiB", "1e", "e3", "1e3Mi", "1e999", "9223372036854775808", "8Ei", "1e30", "0x10", "1_0", "1/2", "Inf", "NaN", "1\n", "\u0661",
	} {
		if got, err := ParseQuantity(bad, 1); err == nil {
			t.Errorf("%q is taken for %d", bad, got)
		}
	}
}

func FuzzParseQuantity(f *testing.F) {
	for _, seed := range []string{"128Mi", "0.5", "100m", "1e3", "1E", ".5Gi", "999999999999999999999999999999E"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := ParseQuantity(text, 1)
		if n < 0 || err != nil && n != 0 {
			t.Errorf("%q: %d, %v", text, n, err)
		}
		if again, e := ParseQuantity(fmt.Sprint(n), 1); e != nil || again != n {
			t.Errorf("%q: %d, and that is %d, %v", text, n, again, e)
		}
		if milli, e := ParseQuantity(text, 1000); e == nil && (milli < n || n == 0 && milli > 0) {
			t.Errorf("%q: %d, but %d thousandths", text, n, milli)
		}
	})
}
