package local

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/internal/faastest"
)

func TestDecide(t *testing.T) {
	for _, test := range []struct {
		what  string
		rec   *record
		entry string
		want  verdict
	}{
		{"nothing", nil, "", keep},
		{"a new entry", nil, "1", create},
		{"an unchanged entry", &record{Stack: true, Entry: "1"}, "1", keep},
		{"a changed entry", &record{Stack: true, Entry: "1"}, "2", update},
		{"a deleted entry", &record{Stack: true, Entry: "1"}, "", remove},
		{"the API's", &record{}, "", keep},
		{"the API's, and now an entry", &record{}, "1", update},
		{"removed, its entry unchanged", &record{Stack: true, Entry: "1", Removed: true}, "1", keep},
		{"removed, its entry changed", &record{Stack: true, Entry: "1", Removed: true}, "2", create},
		{"removed, its entry deleted", &record{Stack: true, Entry: "1", Removed: true}, "", forget},
		{"removed, then the API's", &record{Entry: "1"}, "1", keep},
		{"removed, then the API's, its entry changed", &record{Entry: "1"}, "2", update},
		{"removed, then the API's, its entry deleted", &record{Entry: "1"}, "", separate},
	} {
		if got := decide(test.rec, test.entry); got != test.want {
			t.Errorf("%s: %d, want %d", test.what, got, test.want)
		}
	}
}

// TestStackVariables: an entry that can't be run says why, and keeps no other from running.
func TestStackVariables(t *testing.T) {
	file := filepath.Join(dir(t), "stack.yml")
	must(t, os.WriteFile(file, []byte("functions:\n  a: {fprocess: cat, environment: {A=B: 1}}\n  b: {fprocess: cat, environment: {C: \"x\\0y\"}}\n  c: {fprocess: cat}\n"), 0o644))
	r := open(t, dir(t))
	r.settings.Functions = file
	must(t, r.apply())
	faastest.Record(t, r, nil).Until(t, "the reasons", func(now map[faas.ID]faas.Deployment) bool {
		return strings.Contains(now[fn("a", "").ID].Reason, `environment variable "A=B" can't be set`) &&
			strings.Contains(now[fn("b", "").ID].Reason, `environment variable "C" can't be set`) && faastest.Ready(now[fn("c", "").ID]) == 1
	})
}

// TestDamagedRecord: neither the API nor the stack file overwrites it.
func TestDamagedRecord(t *testing.T) {
	file := filepath.Join(dir(t), "stack.yml")
	must(t, os.WriteFile(file, []byte("functions:\n  a: {fprocess: cat}\n  b: {fprocess: cat}\n"), 0o644))
	r := open(t, dir(t))
	r.settings.Functions = file
	must(t, r.apply())
	a := fn("a", "cat")
	path := r.kept.path(a.ID)
	must(t, os.WriteFile(path, []byte("{"), 0o600))
	r = r.again(t)
	if err := r.Create(background, a); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("created: %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "{" {
		t.Errorf("record is %q, %v", text, err)
	}
	if r.find(a.ID) != nil || r.find(fn("b", "").ID) == nil {
		t.Error("the stack file's functions are not b alone")
	}
	must(t, os.Remove(path))
	must(t, r.apply())
	if r.find(a.ID) == nil {
		t.Error("not deployed when its record was removed")
	}
}

// TestStack goes through the life of a stack file, with a restart of the
// gateway after each step: what holds must hold after it as well.
func TestStack(t *testing.T) {
	home := dir(t)
	file := filepath.Join(home, "stack.yml")
	write := func(entries ...string) {
		t.Helper()
		must(t, os.WriteFile(file, []byte("functions:\n"+strings.Join(entries, "")), 0o644))
	}
	entry := func(name, command string) string {
		return fmt.Sprintf("  %s:\n    fprocess: %s\n    environment:\n      healthcheck_interval: 0\n", name, command)
	}
	r := open(t, dir(t))
	r.settings.Functions = file
	write(entry("a", "cat"), entry("b", "cat"), entry("c", "no-such-program"))
	must(t, r.apply())
	a, b, c := fn("a", "").ID, fn("b", "").ID, fn("c", "").ID
	is := func(what, want string) {
		t.Helper()
		for range 2 {
			got := []string{}
			for _, id := range []faas.ID{a, b, c} {
				if f := r.find(id); f != nil {
					got = append(got, fmt.Sprintf("%s=%s*%d", id.Name, f.record().Function.Process, f.record().Desired))
				}
			}
			if strings.Join(got, " ") != want {
				t.Errorf("%s: %s, want %s", what, strings.Join(got, " "), want)
			}
			must(t, r.apply())
			r = r.again(t)
		}
	}
	is("first", "a=cat*1 b=cat*1 c=no-such-program*1")
	watch := faastest.Record(t, r, nil)
	watch.UntilReady(t, a, 1)
	watch.Until(t, "the broken one says why", func(now map[faas.ID]faas.Deployment) bool {
		return strings.Contains(now[c].Reason, "not found")
	})

	must(t, r.Scale(background, a, 2))
	must(t, r.Update(background, fn("b", "sort")))
	is("changed by the API", "a=cat*2 b=sort*1 c=no-such-program*1")

	must(t, r.Remove(background, c))
	is("one removed", "a=cat*2 b=sort*1")

	write(entry("a", "uniq"), entry("b", "cat"), entry("c", "no-such-program"))
	must(t, r.apply())
	is("one edited", "a=uniq*2 b=sort*1")

	write(entry("a", "uniq"), entry("b", "wc"), entry("c", "cat"))
	must(t, r.apply())
	is("the others edited", "a=uniq*2 b=wc*1 c=cat*1")

	must(t, r.Remove(background, c))
	must(t, r.Create(background, fn("c", "tac")))
	is("removed and created by the API", "a=uniq*2 b=wc*1 c=tac*1")

	must(t, r.Remove(background, b))
	write(entry("a", "uniq"))
	must(t, r.apply())
	is("two deleted", "a=uniq*2 c=tac*1")

	write(entry("a", "uniq"), entry("b", "wc"))
	must(t, r.apply())
	is("one is back", "a=uniq*2 b=wc*1 c=tac*1")

	must(t, os.WriteFile(file, []byte("functions: ["), 0o644))
	if err := r.apply(); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("broken file: %v", err)
	}
	if r.find(a) == nil || r.find(b) == nil {
		t.Error("a broken file took functions away")
	}
	write()
	must(t, r.apply())
	is("empty", "c=tac*1")
}

func TestHandlerStaysWhenTheAPINamesNone(t *testing.T) {
	r := begin(t)
	f := fn("f", "cat")
	f.Handler = dir(t)
	must(t, r.Create(background, f))
	must(t, r.Update(background, fn("f", "sort")))
	if got := r.find(f.ID).record().Function; got.Handler != f.Handler || got.Process != "sort" {
		t.Errorf("got %+v", got)
	}
}
