package local

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/internal/faastest"
)

func secret(name string) faas.Secret {
	return faas.Secret{Name: name, Namespace: faas.DefaultNamespace}
}

// revealing is a function that names secrets and runs a script.
func revealing(name, script string, secrets ...string) faas.Function {
	f := fn(name, "sh -c "+quoted([]string{script}))
	f.Secrets = secrets
	f.Env["combine_output"] = "true"
	return f
}

// TestSecretFiles: what a function finds, and who else does.
func TestSecretFiles(t *testing.T) {
	value := make([]byte, 100_000)
	rand.Read(value)
	for _, level := range slices.Sorted(maps.Keys(levels)) {
		t.Run(level, func(t *testing.T) {
			r := atLevel(t, level, new(Provider))
			watch := faastest.Record(t, r, nil)
			must(t, r.CreateSecret(background, secret("api.key"), value))
			must(t, r.CreateSecret(background, secret("line"), []byte("x\n")))
			must(t, r.CreateSecret(background, faas.Secret{Name: "line", Namespace: "other"}, []byte("other's\n")))
			f := revealing("f", `cd "$secret_mount_path"; ls -lnd . *; id -u; cat line; echo "$secret_mount_path"; cat /var/openfaas/secrets/line 2>&1; (chmod 700 . && echo y >new) 2>/dev/null || echo sealed`, "api.key", "line", "line")
			f.Env["secret_mount_path"] = "/run/secrets"
			must(t, r.Create(background, f))
			got := strings.Split(ask(t, watch, f, ""), "\n")
			uid := got[3]
			for i, want := range []string{"dr-x------ ", "-r-------- ", "-r-------- "} {
				if fields := strings.Fields(got[i]); !strings.HasPrefix(got[i], want) || fields[2] != uid || fields[3] != uid && os.Geteuid() == 0 {
					t.Errorf("%s: want %s of user %s", got[i], want, uid)
				}
			}
			path := got[5]
			if got[4] != "x" || path != filepath.Join(r.run, watch.Deployment(f.ID).Replicas[0].ID, "secrets") || r.iso.mount && got[7] != "sealed" {
				t.Errorf("it finds %q", got)
			}
			reason := ails(watch, f)
			switch {
			case r.iso.mount && (got[6] != "x" || reason != ""):
				t.Errorf("at %s: %s; its status: %s", secretsPlace, got[6], reason)
			case !r.iso.mount && !strings.Contains(reason, "only in the folder that secret_mount_path names"):
				t.Errorf("its status: %q", reason)
			}

			exact := revealing("exact", `cat "$secret_mount_path/api.key"`, "api.key")
			must(t, r.Create(background, exact))
			if got := ask(t, watch, exact, ""); got != string(value) {
				t.Errorf("%d bytes came out as %d others", len(value), len(got))
			}
			other := revealing("other", `cat `+path+`/line; ls -A "$secret_mount_path"; ls -A `+secretsPlace+` 2>/dev/null; cat `+r.secrets.path(secret("line"))+`; true`)
			must(t, r.Create(background, other))
			if got := ask(t, watch, other, ""); r.iso.drop && (strings.Count(got, "\n") != 2 || strings.Contains(got, "\nx\n")) {
				t.Errorf("another function finds %q", got)
			}
			namesake := revealing("namesake", `cat "$secret_mount_path/line"`, "line")
			namesake.Namespace = "other"
			must(t, r.Create(background, namesake))
			if got := ask(t, watch, namesake, ""); got != "other's\n" {
				t.Errorf("in the other namespace it is %q", got)
			}

			info, err := os.Stat(r.secrets.path(secret("line")))
			must(t, err)
			folder, err := os.Stat(string(r.secrets))
			must(t, err)
			if info.Mode() != 0o600 || folder.Mode() != os.ModeDir|0o700 {
				t.Errorf("kept with modes %v in %v", info.Mode(), folder.Mode())
			}
			if r.iso.mount && len(list(path)) > 0 {
				t.Errorf("outside the function there is %v", list(path))
			}
			run := r.run
			must(t, r.Close())
			if left := list(run); len(left) > 0 {
				t.Errorf("left in the runtime folder: %v", left)
			}
		})
	}
}

// TestSecretsPlaceIsImpossible: then secret_mount_path holds alone, and the status says so.
func TestSecretsPlaceIsImpossible(t *testing.T) {
	base := dir(t)
	must(t, os.WriteFile(filepath.Join(base, "file"), nil, 0o644))
	must(t, os.Mkdir(filepath.Join(base, "closed"), 0o700))
	for _, place := range []string{"/proc/none/secrets", filepath.Join(base, "file", "secrets"), filepath.Join(base, "closed", "secrets")} {
		r := open(t, dir(t))
		r.mounted = place
		must(t, r.apply())
		need(t, r.iso.mount, "root on Linux, and leave to make namespaces")
		watch := faastest.Record(t, r, nil)
		must(t, r.CreateSecret(background, secret("s"), []byte("x")))
		f := revealing("f", `cat "$secret_mount_path/s"`, "s")
		must(t, r.Create(background, f))
		if got := ask(t, watch, f, ""); got != "x" {
			t.Errorf("%s: %q", place, got)
		}
		if reason := ails(watch, f); !strings.Contains(reason, "not at "+place+": ") {
			t.Errorf("status: %q", reason)
		}
	}
}

// ails is a function's status.
func ails(watch *faastest.Recorder, f faas.Function) string {
	d := watch.Deployment(f.ID)
	return d.Ails()
}

// TestSecretLife: what a secret's creation, update and removal do to those that use it, and what is there after a restart.
func TestSecretLife(t *testing.T) {
	r := open(t, dir(t))
	r.settings.Functions = filepath.Join(dir(t), "stack.yml")
	stack := `functions:
  good: {fprocess: echo good}
  late: {fprocess: 'sh -c "cat $secret_mount_path/*"', secrets: [a, b]}
  asleep: {fprocess: cat, secrets: [a], labels: {com.openfaas.scale.min: "0"}}
  wrong: {fprocess: cat, secrets: [../a]}
`
	must(t, os.WriteFile(r.settings.Functions, []byte(stack), 0o644))
	must(t, r.apply())
	watch := faastest.Record(t, r, nil)
	want := func(f faas.Function, text string) {
		t.Helper()
		until(t, text, func() bool { return ask(t, watch, f, "") == text })
	}
	good, late, asleep, wrong := fn("good", ""), fn("late", ""), fn("asleep", ""), fn("wrong", "")
	want(good, "good\n")
	missing := func() {
		t.Helper()
		watch.Until(t, "the missing secrets are named", func(now map[faas.ID]faas.Deployment) bool {
			return strings.Contains(now[late.ID].Reason, "no such secret in namespace openfaas-fn: a, b: create it") &&
				strings.Contains(now[asleep.ID].Reason, "no such secret in namespace openfaas-fn: a:") &&
				strings.Contains(now[wrong.ID].Reason, `secret name "../a": want`)
		})
	}
	missing()
	r = r.again(t)
	watch = faastest.Record(t, r, nil)
	missing()

	must(t, r.CreateSecret(background, secret("a"), []byte("1")))
	must(t, r.CreateSecret(background, secret("b"), []byte("1")))
	want(late, "11")
	must(t, r.UpdateSecret(background, secret("b"), []byte("2")))
	want(late, "12")
	if reason := ails(watch, asleep); reason != "" && r.iso.mount {
		t.Errorf("the status of who sleeps: %s", reason)
	}
	must(t, os.WriteFile(filepath.Join(string(r.secrets), "tmp-1"), []byte("3"), 0o600))
	r = r.again(t)
	watch = faastest.Record(t, r, nil)
	want(late, "12")
	if names := list(string(r.secrets)); !slices.Equal(names, []string{"a.openfaas-fn", "b.openfaas-fn"}) {
		t.Errorf("kept are %v", names)
	}

	err := r.RemoveSecret(background, secret("a"))
	if !errors.Is(err, faas.ErrInUse) || !strings.HasSuffix(err.Error(), "in use by asleep.openfaas-fn, late.openfaas-fn") {
		t.Errorf("removed while in use: %v", err)
	}
	// The new version of late doesn't need it, and doesn't start: the earlier one may have to be started again.
	must(t, r.Remove(background, asleep.ID))
	broken := revealing("late", `exit 1`)
	broken.Env["mode"] = "http"
	must(t, r.Update(background, broken))
	err = r.RemoveSecret(background, secret("a"))
	if !errors.Is(err, faas.ErrInUse) || !strings.Contains(err.Error(), "late.openfaas-fn (its earlier version") {
		t.Errorf("removed while an earlier version uses it: %v", err)
	}
	want(late, "12")
	must(t, r.Update(background, revealing("late", "echo without")))
	want(late, "without\n")
	until(t, "the secret can be removed", func() bool { return r.RemoveSecret(background, secret("a")) == nil })
	must(t, r.Close())
	if err := r.CreateSecret(background, secret("c"), []byte("1")); !errors.Is(err, errClosed) {
		t.Errorf("created after the end: %v", err)
	}
}

// TestSecretIsWhole: at every moment of an update there is the earlier value or the new one.
func TestSecretIsWhole(t *testing.T) {
	r := begin(t)
	values := [][]byte{bytes.Repeat([]byte("a"), faas.MaxSecret), bytes.Repeat([]byte("b"), faas.MaxSecret)}
	must(t, r.CreateSecret(background, secret("s"), values[0]))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 30 {
			if err := r.UpdateSecret(background, secret("s"), values[i%2]); err != nil {
				t.Error(err)
			}
		}
	}()
	for n := 0; ; n++ {
		got, err := os.ReadFile(r.secrets.path(secret("s")))
		if err != nil || !bytes.Equal(got, values[0]) && !bytes.Equal(got, values[1]) {
			t.Fatalf("look %d: %d bytes, %v", n, len(got), err)
		}
		select {
		case <-done:
			return
		default:
		}
	}
}

// TestSecretsAreNowhere: no value is in a log, an environment, a command line, a record or a status.
func TestSecretsAreNowhere(t *testing.T) {
	need(t, runtime.GOOS == "linux", "/proc")
	for _, level := range slices.Sorted(maps.Keys(levels)) {
		t.Run(level, func(t *testing.T) {
			r := atLevel(t, level, new(Provider))
			watch := faastest.Record(t, r, nil)
			text := rand.Text()
			must(t, r.CreateSecret(background, secret("s"), []byte("x")))
			f := revealing("f", `cat /proc/1/environ /proc/self/environ; head -c1000 /proc/1/cmdline`, "s")
			must(t, r.Create(background, f))
			before := watch.UntilReady(t, f.ID, 1)[0]
			must(t, r.UpdateSecret(background, secret("s"), []byte(text)))
			watch.Until(t, "the new replica", func(now map[faas.ID]faas.Deployment) bool {
				d := now[f.ID]
				return faastest.Ready(d) == 1 && len(d.Replicas) == 1 && d.Replicas[0].ID != before.ID
			})
			seen := ask(t, watch, f, "") + fmt.Sprint(watch.Deployment(f.ID), r.log.All())
			for _, pattern := range []string{"/proc/[0-9]*/cmdline", "/proc/[0-9]*/environ", filepath.Join(r.dir, "functions", "*")} {
				files, _ := filepath.Glob(pattern)
				for _, file := range files {
					data, _ := os.ReadFile(file)
					seen += string(data)
				}
			}
			if strings.Contains(seen, text) {
				t.Error("the value is seen")
			}
			if !strings.Contains(seen, "secret_mount_path=") {
				t.Error("this test sees nothing")
			}
		})
	}
}

// TestReadOnlyRoot: the function writes to its working directory and to TMPDIR, and nowhere else.
func TestReadOnlyRoot(t *testing.T) {
	open := dir(t)
	must(t, os.Chmod(open, 0o777))
	for _, level := range slices.Sorted(maps.Keys(levels)) {
		t.Run(level, func(t *testing.T) {
			r := atLevel(t, level, new(Provider))
			watch := faastest.Record(t, r, nil)
			must(t, r.CreateSecret(background, secret("s"), []byte("x\n")))
			f := revealing("f", `for dir in "$HOME" "$TMPDIR" /tmp /var/tmp `+open+`; do touch "$dir/x" 2>/dev/null && echo yes || echo no; done; echo x >/dev/null && cat "$secret_mount_path/s"`, "s")
			f.ReadOnlyRootFilesystem = true
			must(t, r.Create(background, f))
			got := ask(t, watch, f, "")
			reason := ails(watch, f)
			if r.iso.seal != (got == "yes\nyes\nno\nno\nno\nx\n") || r.iso.seal != (reason == "") {
				t.Errorf("writable: %q, status: %s", got, reason)
			}
			if !r.iso.seal && !strings.Contains(reason, "the root filesystem is not read-only") {
				t.Errorf("status: %s", reason)
			}
			if level == "best" && os.Geteuid() == 0 && runtime.GOOS == "linux" {
				need(t, r.iso.seal, "a kernel that makes mounts read-only (Linux 5.12)")
			}
		})
	}
}

// FuzzSecretName: whatever a secret may be called, its file is one of the folder, and no other's.
func FuzzSecretName(f *testing.F) {
	for _, name := range []string{"a", "a.b", "..", "../a", "a/b", "a\x00", "tmp-1", "A-_.9", ""} {
		f.Add(name, "openfaas-fn")
	}
	f.Fuzz(func(t *testing.T, name, namespace string) {
		s := faas.Secret{Name: name, Namespace: namespace}
		if s, ok := parseSecret(name); ok && s.String() != name {
			t.Errorf("file %q is read as %q", name, s)
		}
		if s.Validate() != nil {
			return
		}
		path := secrets("/x").path(s)
		if back, ok := parseSecret(filepath.Base(path)); filepath.Dir(path) != "/x" || len(filepath.Base(path)) > 255 || !ok || back != s {
			t.Errorf("%q is kept in %q, read as %q", s, path, back)
		}
	})
}

// Whoever made Caddy's umask strict didn't mean to keep functions from their secrets.
func TestMountPoint(t *testing.T) {
	path := filepath.Join(dir(t), "openfaas", "secrets")
	before := syscall.Umask(0o077)
	err := mountPoint(path)
	syscall.Umask(before)
	must(t, err)
	must(t, mountPoint(path))
	must(t, os.Chmod(filepath.Dir(path), 0o700))
	if err := mountPoint(path); err == nil || !strings.Contains(err.Error(), "chmod o+x") {
		t.Errorf("closed: %v", err)
	}
}
