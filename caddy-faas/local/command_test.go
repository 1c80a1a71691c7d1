package local

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

func TestWords(t *testing.T) {
	for line, want := range map[string][]string{
		"cat":                 {"cat"},
		"  cat -n 'a b' ''":   {"cat", "-n", "a b", ""},
		`'my program' x`:      {"my program", "x"},
		`"my \"p\" \x" x`:     {`my "p" \x`, "x"},
		`my\ program	x`:       {"my program", "x"},
		`a'b'"c"\d e`:         {"abcd", "e"},
		`./a"$b" "$c" | less`: {"./a$b", "$c", "|", "less"},
	} {
		got, err := faas.Words(line)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v; want %q", line, got, err, want)
		}
		if again, err := faas.Words(quoted(got)); !slices.Equal(again, want) || err != nil {
			t.Errorf("%s: quoted it reads %q, %v", line, again, err)
		}
	}
	for _, line := range []string{"", "  ", "''", "cat 'x", `cat "x`, `cat \`, "a\x00b", "cat x\x00"} {
		if got, err := faas.Words(line); err == nil {
			t.Errorf("%q: %q, and no error", line, got)
		}
	}
}

func TestResolve(t *testing.T) {
	folder := dir(t)
	script(t, folder, "run", "x")
	must(t, os.WriteFile(filepath.Join(folder, "handler.py"), nil, 0o644))
	must(t, os.Mkdir(filepath.Join(folder, "sub"), 0o755))
	got, err := resolve(faas.Function{Handler: folder, Process: "./run handler.py ./handler.py sub none ../x -v 'two words'"})
	want := []string{folder + "/run", folder + "/handler.py", folder + "/handler.py", "sub", "none", "../x", "-v", "two words"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
}

func TestFind(t *testing.T) {
	folder, other := dir(t), dir(t)
	script(t, folder, "sort", "x")
	script(t, folder, "sub", "x")
	must(t, os.WriteFile(filepath.Join(folder, "text"), nil, 0o644))
	must(t, os.WriteFile(filepath.Join(folder, "cat"), nil, 0o644))
	script(t, other, "cat", "x")
	t.Setenv("PATH", other)
	for name, want := range map[string]string{
		"sort": folder + "/sort", "./sub": folder + "/sub", "cat": other + "/cat", folder + "/sub": folder + "/sub",
		"text": "!not executable", "./none": "!not found", "none": "!not found in " + folder + " or on PATH", "/": "!is a folder",
	} {
		got, err := find(name, folder)
		if wrong, ok := strings.CutPrefix(want, "!"); ok {
			if err == nil || !strings.Contains(err.Error(), wrong) {
				t.Errorf("%s: %s, %v; want an error with %q", name, got, err, wrong)
			}
		} else if err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", name, got, err, want)
		}
	}
}

func TestPatience(t *testing.T) {
	for want, f := range map[time.Duration]faas.Function{
		43 * time.Second: {},
		7*time.Second + 12*time.Second + time.Second:    {Labels: map[string]string{faas.LabelTimeout: "7"}},
		10*time.Second + 12*time.Second:                 {Annotations: map[string]string{faas.LabelTimeout: "10s"}, Env: map[string]string{"healthcheck_interval": "0"}},
		20*time.Second + 12*time.Second + 3*time.Second: {Env: map[string]string{"write_timeout": "20", "healthcheck_interval": "3s"}},
		10*time.Minute + 13*time.Second:                 {Env: map[string]string{"exec_timeout": "0", "write_timeout": "20"}},
	} {
		if got := patience(f); got != want {
			t.Errorf("%+v: %s, want %s", f, got, want)
		}
	}
}

func TestRuntimeFolder(t *testing.T) {
	if os.Geteuid() != 0 { // root's is always /run
		long := filepath.Join(dir(t), strings.Repeat("x", 100))
		must(t, os.Mkdir(long, 0o700))
		t.Setenv("XDG_RUNTIME_DIR", long)
		if _, err := runtimeDir("/data"); err == nil || !strings.Contains(err.Error(), "shorter") {
			t.Errorf("too long: %v", err)
		}
		t.Setenv("XDG_RUNTIME_DIR", "")
	}
	a, err := runtimeDir("/some/data")
	must(t, err)
	defer os.Remove(a)
	b, err := runtimeDir("/some/data")
	must(t, err)
	if a != b {
		t.Errorf("%s and then %s", a, b)
	}
	must(t, os.Remove(a))
	must(t, os.Symlink("/", a))
	if _, err := runtimeDir("/some/data"); err == nil {
		t.Error("a link was taken for the runtime folder")
	}
}

func TestCaddyfile(t *testing.T) {
	for text, want := range map[string]string{
		"local":                                  `{}`,
		"local {\n}":                             `{}`,
		"local {\n user nobody\n log_lines 5\n}": `{"user":"nobody","log_lines":5}`,
		"local x":                                "!",
		"local {\n watch off\n}":                 `{"watch":false}`,
		"local {\n watch on\n}":                  `{"watch":true}`,
		"local {\n watch never\n}":               "!want on or off",
		"local {\n log_lines 0\n}":               "!log_lines",
		"local {\n log_lines\n}":                 "!",
		"local {\n color red\n}":                 "!unknown option",
		"local {\n user a b\n}":                  "!",
	} {
		d := caddyfile.NewTestDispenser(text)
		d.Next() // the app has read the name
		mod, err := caddyfile.UnmarshalModule(d, "faas.providers.local")
		if wrong, ok := strings.CutPrefix(want, "!"); ok {
			if err == nil || !strings.Contains(err.Error(), wrong) {
				t.Errorf("%s: %v, want an error with %q", text, err, wrong)
			}
			continue
		}
		must(t, err)
		if got := string(caddyconfig.JSON(mod, nil)); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	if err := (&Provider{LogLines: -1}).Validate(); err == nil {
		t.Error("negative log_lines were accepted")
	}
	if _, err := caddy.GetModule("faas.providers.local"); err != nil {
		t.Error(err)
	}
}

func TestJoinedLines(t *testing.T) {
	for _, line := range []string{"\\\n cat", "\\\ncat", " \\\n\\\n cat \\\n", "ca\\\nt"} {
		if got, err := faas.Words(line); err != nil || !slices.Equal(got, []string{"cat"}) {
			t.Errorf("%q: %q, %v", line, got, err)
		}
	}
}
