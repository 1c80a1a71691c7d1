package local

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/internal/faastest"
)

func write(t testing.TB, path, text string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(text), 0o644))
}

// over replaces a file by renaming, as editors do.
func over(t testing.TB, path, text string) {
	t.Helper()
	write(t, path+"~", text)
	must(t, os.Rename(path+"~", path))
}

// What counts as a change of a folder, and what doesn't.
func TestSurvey(t *testing.T) {
	top := dir(t)
	folder := filepath.Join(top, "current")
	data := filepath.Join(folder, "data")
	write(t, top+"/one/run", "x")
	write(t, top+"/one/lib/a", "x")
	write(t, top+"/shared", "x")
	must(t, os.Symlink("one", folder))
	must(t, os.Symlink("../shared", folder+"/shared"))
	must(t, os.Symlink("..", folder+"/lib/loop"))
	past := time.Now().Add(-time.Hour)
	for _, test := range []struct {
		what    string
		changed bool
		do      func() error
	}{
		{"nothing", false, func() error { return nil }},
		{"another time", true, func() error { return os.Chtimes(folder+"/run", past, past) }},
		{"another size, the same time", true, func() error {
			write(t, folder+"/run", "xy")
			return os.Chtimes(folder+"/run", past, past)
		}},
		{"another mode", true, func() error { return os.Chmod(folder+"/run", 0o755) }},
		{"in a folder", true, func() error { write(t, folder+"/lib/a", "longer"); return nil }},
		{"a new file in a new folder", true, func() error { write(t, folder+"/lib/new/b", ""); return nil }},
		{"a file removed", true, func() error { return os.Remove(folder + "/lib/new/b") }},
		{"behind a link", true, func() error { write(t, top+"/shared", "longer"); return nil }},
		{"a link that leads nowhere", true, func() error { return os.Remove(top + "/shared") }},
		{".env", true, func() error { write(t, folder+"/.env", "A=b"); return nil }},
		{"editors' files", false, func() error {
			write(t, folder+"/.run.swp", "x")
			write(t, folder+"/#run#", "x")
			write(t, folder+"/run~", "x")
			return nil
		}},
		{"what is made from code", false, func() error {
			write(t, folder+"/.git/index", "x")
			write(t, folder+"/lib/__pycache__/a", "x")
			write(t, folder+"/node_modules/a/b", "x")
			return nil
		}},
		{"the gateway's data", false, func() error { write(t, data+"/work/x", "x"); return nil }},
		{"the whole folder is another one", true, func() error {
			must(t, os.CopyFS(top+"/two", os.DirFS(top+"/one/lib")))
			must(t, os.Remove(folder))
			return os.Symlink("two", folder)
		}},
		{"gone", true, func() error { return os.Remove(folder) }},
		{"a file", true, func() error { write(t, folder, "x"); return nil }},
	} {
		before := surveyFolder(folder, data)
		must(t, test.do())
		after := surveyFolder(folder, data)
		if (before.sum != after.sum) != test.changed || after.beyond != "" {
			t.Errorf("%s: changed is %t, want %t (%q)", test.what, before.sum != after.sum, test.changed, after.beyond)
		}
	}
}

// A folder with too many files is looked at in part, its upper files first, and that is said once.
func TestSurveyIsBounded(t *testing.T) {
	folder := dir(t)
	deep := filepath.Join(folder, "a", "many")
	must(t, os.MkdirAll(deep, 0o755))
	for i := range maxFiles {
		must(t, os.WriteFile(fmt.Sprintf("%s/%d", deep, i), nil, 0o644))
	}
	script(t, folder, "run", "echo one")
	if s := surveyFolder(folder); s.beyond != deep {
		t.Errorf("not seen in %q, want %q", s.beyond, deep)
	}
	r := begin(t)
	watch := faastest.Record(t, r, nil)
	f := fn("f", "run")
	f.Handler = folder
	must(t, r.Create(background, f))
	ask(t, watch, f, "")
	script(t, folder, "run", "echo 'number two'")
	r.version(t, watch, f.ID, 2)
	if n := r.log.FilterMessageSnippet("too many files").Len(); n != 1 {
		t.Errorf("said %d times", n)
	}
}

// version waits until only ready replicas of a version are there.
func (r *rig) version(t *testing.T, watch *faastest.Recorder, id faas.ID, version int) {
	t.Helper()
	watch.Until(t, fmt.Sprintf("version %d of %s", version, id), func(now map[faas.ID]faas.Deployment) bool {
		f := r.find(id)
		if f == nil || f.record().Version != version || faastest.Ready(now[id]) == 0 || faastest.Ready(now[id]) != len(now[id].Replicas) {
			return false
		}
		for _, v := range f.current() {
			if v != version {
				return false
			}
		}
		return true
	})
}

// Whatever happens to a function's folder, it rolls once the folder has settled.
func TestFolderRolls(t *testing.T) {
	top := dir(t)
	folder, other := filepath.Join(top, "folder"), filepath.Join(top, "other")
	text := filepath.Join(folder, "text")
	for name, say := range map[string]string{folder: "first", other: "linked"} {
		write(t, name+"/text", say)
		script(t, name, "run", `cat "$(dirname "$0")/text"`)
	}
	r := begin(t)
	watch := faastest.Record(t, r, nil)
	f := fn("f", "run")
	f.Handler = folder
	must(t, r.Create(background, f))
	if got := ask(t, watch, f, ""); got != "first" {
		t.Errorf("at first %q", got)
	}
	version := 1
	for _, test := range []struct {
		want string
		do   func()
	}{
		{"edited in place", func() { write(t, text, "edited in place") }},
		{"renamed over", func() { over(t, text, "renamed over") }},
		{"from a new file", func() {
			write(t, folder+"/lib/more", "from a new file")
			script(t, folder, "run.new", `cat "$(dirname "$0")/lib/more"`)
			must(t, os.Rename(folder+"/run.new", folder+"/run"))
		}},
		{"new file edited", func() { write(t, folder+"/lib/more", "new file edited") }},
		{"made anew", func() {
			fresh := folder + ".new"
			must(t, os.CopyFS(fresh, os.DirFS(folder)))
			write(t, fresh+"/lib/more", "made anew")
			must(t, os.RemoveAll(folder))
			must(t, os.Rename(fresh, folder))
		}},
		{"linked", func() {
			must(t, os.RemoveAll(folder))
			must(t, os.Symlink(other, folder))
		}},
		{"linked folder edited", func() { write(t, other+"/text", "linked folder edited") }},
	} {
		before := watch.UntilReady(t, f.ID, 1)[0].ID
		test.do()
		version++
		r.version(t, watch, f.ID, version)
		if got := ask(t, watch, f, ""); got != test.want || watch.UntilReady(t, f.ID, 1)[0].ID == before {
			t.Errorf("answers %q, want %q from another replica", got, test.want)
		}
	}

	must(t, r.Update(background, fn("f", "run"))) // as through the API, which names no folder
	r.version(t, watch, f.ID, version+1)
	write(t, other+"/text", "after an update")
	r.version(t, watch, f.ID, version+2)

	must(t, os.Remove(folder))
	watch.Until(t, "the status says that the folder is gone", func(now map[faas.ID]faas.Deployment) bool {
		return strings.Contains(now[f.ID].Reason, "the earlier version serves on") && strings.Contains(now[f.ID].Reason, "no such file")
	})
	must(t, os.Symlink(other, folder))
	r.version(t, watch, f.ID, version+4)
	if got := ask(t, watch, f, ""); got != "after an update" {
		t.Errorf("with its folder back: %q", got)
	}
}

// A function whose command appears recovers at once, by rolling.
func TestCommandAppears(t *testing.T) {
	r := begin(t)
	watch := faastest.Record(t, r, nil)
	f := fn("f", "late")
	f.Handler = dir(t)
	r.listed(t, f)
	watch.Until(t, "failing", func(now map[faas.ID]faas.Deployment) bool { return now[f.ID].Failing })
	script(t, f.Handler, "late", "cat")
	r.version(t, watch, f.ID, 2)
}

// What a folder was before its processes started counts, not what the first look finds.
func TestRemember(t *testing.T) {
	e := newEngine(dir(t), zap.NewNop())
	e.opt.Store(options{watch: true})
	f := newFunction(e, record{Function: faas.Function{Handler: dir(t)}})
	f.remember()
	want := surveyFolder(f.rec.Function.Handler).sum
	script(t, f.rec.Function.Handler, "run", "echo one")
	f.remember()
	if got := f.baseline(f.rec.Function.Handler, func() uint64 { return 0 }); got != want {
		t.Errorf("%d, want %d", got, want)
	}
	f.rec.Function.Handler = dir(t)
	if got := f.baseline(f.rec.Function.Handler, func() uint64 { return 1 }); got != 1 {
		t.Errorf("another folder: %d, want 1", got)
	}
}

// A stack file's life while the gateway runs, without a reload.
func TestStackFileIsWatched(t *testing.T) {
	home := dir(t)
	file, env := filepath.Join(home, "stack.yml"), filepath.Join(home, "env.yml")
	entry := func(name, say string, more ...string) string {
		return fmt.Sprintf("  %s:\n    fprocess: sh -c 'echo %s $SAY'\n    environment: {healthcheck_interval: 0}\n%s", name, say, strings.Join(more, ""))
	}
	stack := func(entries ...string) { over(t, file, "functions:\n"+strings.Join(entries, "")) }
	a, b, c := fn("a", ""), fn("b", ""), fn("c", "")
	r := open(t, dir(t))
	r.settings.Functions = file
	stack(entry("a", "one"))
	must(t, r.apply())
	watch := faastest.Record(t, r, nil)
	answers := func(f faas.Function, want string) {
		t.Helper()
		until(t, f.Name+" answers "+want, func() bool {
			for _, replica := range watch.Deployment(f.ID).Replicas {
				answer, err := call(replica.Addr, "")
				return err == nil && strings.TrimSpace(answer) == want
			}
			return false
		})
	}
	gone := func(f faas.Function) {
		t.Helper()
		watch.Until(t, f.Name+" is gone", func(now map[faas.ID]faas.Deployment) bool { _, there := now[f.ID]; return !there })
	}
	answers(a, "one")

	stack(entry("a", "one"), entry("b", "new"))
	answers(b, "new")
	write(t, file, "functions:\n"+entry("a", "two")+entry("b", "new")) // in place
	answers(a, "two")

	errors := func() int { return r.log.FilterLevelExact(zap.ErrorLevel).Len() }
	stack(entry("a", "three", "    environment_file: [env.yml]\n"), entry("b", "new"))
	until(t, "the missing environment file is reported", func() bool { return errors() == 1 })
	write(t, env, "environment: {SAY: hello}\n")
	answers(a, "three hello")
	write(t, env, "environment: {SAY: bye bye}\n")
	answers(a, "three bye bye")

	version := r.find(a.ID).record().Version
	write(t, file, "functions:\n  a: {fprocess: cat}\n  c: {fproces: cat}\n")
	until(t, "the broken file is reported", func() bool { return errors() == 2 })
	if text := r.log.FilterLevelExact(zap.ErrorLevel).All()[1].ContextMap()["error"]; !strings.Contains(fmt.Sprint(text), "line 3") {
		t.Errorf("the log says %v", text)
	}
	write(t, file, "functions:\n  a: {fprocess: sort}\n  c: {fproces: sort}\n") // otherwise, broken in the same way
	must(t, r.Update(background, fn("b", "echo by the API")))
	answers(b, "by the API")
	answers(a, "three bye bye")
	stack(entry("a", "three", "    environment_file: [env.yml]\n"), entry("b", "new"), entry("c", "mended"))
	answers(c, "mended")
	if got := r.find(a.ID).record().Version; got != version || errors() != 2 {
		t.Errorf("a has version %d, want %d as before; %d errors, want 2", got, version, errors())
	}
	answers(b, "by the API") // its entry has not changed

	must(t, r.Remove(background, c.ID))
	stack(entry("b", "new"), entry("c", "mended"))
	gone(a)
	gone(c)

	must(t, os.Remove(file))
	until(t, "the missing file is reported", func() bool { return errors() == 3 })
	write(t, file, "")
	until(t, "the empty file is reported", func() bool { return errors() == 4 })
	answers(b, "by the API")
	stack(entry("b", "edited"))
	answers(b, "edited")

	// Another configuration, another file: the former one is watched no more.
	former := file
	file = filepath.Join(home, "other.yml")
	stack(entry("b", "elsewhere"))
	r.settings.Functions = file
	must(t, r.apply())
	over(t, former, "functions:\n"+entry("b", "wrong")+entry("c", "wrong"))
	stack(entry("b", "elsewhere"), entry("a", "back"))
	answers(a, "back")
	answers(b, "elsewhere")
	if r.find(c.ID) != nil {
		t.Error("the former stack file was applied")
	}
}

// With watch off nothing is applied until a reload; on again, everything is.
func TestWatchOff(t *testing.T) {
	file := filepath.Join(dir(t), "stack.yml")
	write(t, file, "functions: {}\n")
	r := open(t, dir(t))
	off := false
	r.provider.Watch, r.settings.Functions = &off, file
	must(t, r.apply())
	watch := faastest.Record(t, r, nil)
	f := fn("f", "run")
	f.Handler = dir(t)
	script(t, f.Handler, "run", "echo one")
	must(t, r.Create(background, f))
	ask(t, watch, f, "")
	script(t, f.Handler, "run", "echo number two")
	write(t, file, "functions:\n  a: {fprocess: cat}\n")
	other := open(t, dir(t)) // one that watches tells when there has been time for it
	other.settings.Functions = file
	must(t, other.apply())
	for _, name := range []string{"b", "c"} {
		over(t, file, "functions:\n  a: {fprocess: cat}\n  "+name+": {fprocess: cat}\n")
		until(t, "the other engine has applied it", func() bool { return other.find(fn(name, "").ID) != nil })
	}
	if version := r.find(f.ID).record().Version; r.find(fn("a", "").ID) != nil || version != 1 {
		t.Errorf("a change was applied; version %d", version)
	}
	r.provider.Watch = nil
	must(t, r.apply())
	watch.UntilReady(t, fn("a", "").ID, 1)
	write(t, file, "functions:\n  d: {fprocess: cat}\n") // applied at its second look, which is not the first one at f's folder
	until(t, "it looks", func() bool { return r.find(fn("d", "").ID) != nil })
	script(t, f.Handler, "run", "echo and number three")
	until(t, "it rolls", func() bool { return r.find(f.ID).record().Version > 1 })
}

// What the watcher does once it has found the stack file changed, step by step.
func TestReread(t *testing.T) {
	home := dir(t)
	file, env := filepath.Join(home, "stack.yml"), filepath.Join(home, "env.yml")
	write(t, env, "environment: {A: b}\n")
	write(t, file, "functions:\n  a: {fprocess: cat, environment_file: [env.yml]}\n")
	r := open(t, dir(t))
	off := false
	r.provider.Watch, r.settings.Functions = &off, file
	must(t, r.apply())
	again := func() {
		now := r.stack.Load()
		r.reread(now, surveyFiles(now.files))
	}
	errors := func() int { return r.log.FilterLevelExact(zap.ErrorLevel).Len() }
	process := func() string { return r.find(fn("a", "").ID).record().Function.Process }

	before := r.stack.Load()
	sum := surveyFiles(before.files)
	write(t, file, "functions:\n  a: {fprocess: uniq, environment_file: [env.yml]}\n")
	if r.reread(before, sum); process() != "cat" {
		t.Error("a file that changed after the look was applied")
	}
	if again(); process() != "uniq" {
		t.Error("the settled file was not applied")
	}
	if r.reread(before, sum); r.stack.Load() == before {
		t.Error("a stack file that is no longer in force was applied")
	}

	write(t, file, "functions:\n  a: {fproces: cat, environment_file: [env.yml]}\n")
	again()
	if now := r.stack.Load(); !slices.Contains(now.files, env) {
		t.Errorf("of a broken stack file only %v are watched", now.files)
	}
	write(t, file, "functions:\n  a: {fproces: cat}\n")
	if again(); errors() != 1 || process() != "uniq" {
		t.Errorf("broken in the same way: %d errors, command %s", errors(), process())
	}
	write(t, file, "functions:\n  a: {fprocess: uniq, environment_file: [env.yml]}\n")
	if again(); r.log.FilterMessage("stack file can be read again").Len() != 1 {
		t.Error("not said to be mended")
	}
}

// Files have settled when two looks find them the same.
func TestSettling(t *testing.T) {
	w := &watcher{changes: map[*function]change{}}
	var began time.Time
	for i, test := range []struct {
		sum, applied   uint64
		begun, settled bool
	}{
		{1, 1, false, false}, {2, 1, true, false}, {3, 1, true, false}, {3, 1, true, true}, {3, 3, false, false}, {4, 3, true, false}, {3, 3, false, false}, {4, 3, true, false},
	} {
		since, settled := w.due(nil, test.sum, test.applied)
		if settled != test.settled || since.IsZero() == test.begun || i == 2 && !since.Equal(began) {
			t.Errorf("%d: since %s, settled is %t", i, since, settled)
		}
		began = since
	}
	for took, want := range map[time.Duration]time.Duration{0: lookInterval, time.Millisecond: lookInterval, 50 * time.Millisecond: time.Second, time.Minute: maxLookInterval} {
		if got := rest(took, false); got != want {
			t.Errorf("after a look of %s: %s, want %s", took, got, want)
		}
	}
	if rest(0, true) != settleInterval {
		t.Error("a change is not looked at soon")
	}
}

// A function that keeps changing its own folder rolls less and less often.
func TestRolls(t *testing.T) {
	var r rolls
	now := time.Now()
	for range maxRolls {
		var allowed bool
		if r, allowed = r.next(now); !allowed {
			t.Fatal("refused at first")
		}
	}
	allowed := func(after time.Duration) (ok bool) {
		r, ok = r.next(now.Add(after))
		return ok
	}
	if allowed(slowRoll-1) || !allowed(slowRoll) || allowed(slowRoll+1) || !allowed(2*slowRoll) {
		t.Error("does not go on slowly")
	}
	for range 2 {
		if !allowed(2 * rollWindow) {
			t.Error("is slow for good")
		}
	}
}

// TestWritesItself: a function that writes into its own folder at each start is reported and doesn't keep the machine busy.
func TestWritesItself(t *testing.T) {
	rollWindow = time.Hour // a busy machine takes long for each roll
	t.Cleanup(func() { rollWindow = time.Minute })
	r := atLevel(t, "process groups", new(Provider))
	f := fn("f", "run")
	f.Handler, f.Env["mode"] = dir(t), "http"
	script(t, f.Handler, "run", `echo x >> "$(dirname "$0")/log"; exec sleep 100`)
	must(t, r.Create(background, f))
	until(t, "it is said", func() bool { return r.log.FilterMessageSnippet("change all the time").Len() == 1 })
}

func BenchmarkSurvey(b *testing.B) {
	folder := dir(b)
	for i := range 1000 {
		must(b, os.WriteFile(fmt.Sprintf("%s/%d", folder, i), nil, 0o644))
	}
	for b.Loop() {
		surveyFolder(folder)
	}
}
