package local

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

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

// TestProbe: a watchdog that can do less makes for less isolation, with the reason.
func TestProbe(t *testing.T) {
	need(t, os.Geteuid() == 0 && begin(t).iso.mount, "root, and leave to make namespaces")
	full := isolation{drop: true, pid: true, mount: true, seal: true}
	for step, want := range map[string]isolation{
		"none":      full,
		"read-only": {drop: true, pid: true, mount: true},
		"tmpfs":     {drop: true},
	} {
		run := dir(t)
		script(t, run, "dog", `case "$2" in *"'`+step+`'"*) echo "-stage: `+step+`: not here" >&2;; *) echo "no answer" >&2;; esac; exit 1`)
		got, refused := probe(filepath.Join(run, "dog"), run, (*exec.Cmd).Start)
		if got != want || (refused == nil) != (want == full) || refused != nil && !strings.Contains(refused.Error(), step+": not here") {
			t.Errorf("without %s: %+v, %v", step, got, refused)
		}
	}
}
