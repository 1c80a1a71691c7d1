package local

import "testing"

func TestMapped(t *testing.T) {
	for text, want := range map[string]bool{
		"         0          0 4294967295\n":           true,
		"         0       1000          1\n":           false,
		"0 1000 1\n1 100000 65535\n":                   false,
		"0 0 65536\n1900000000 1900000000 100000000\n": true,
		"1900000001 1900000001 100000000\n":            false,
		"":                                             false,
	} {
		if got := mapped([]byte(text), firstUID); got != want {
			t.Errorf("%q: %t, want %t", text, got, want)
		}
	}
}
