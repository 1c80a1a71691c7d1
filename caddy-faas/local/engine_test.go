package local

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/internal/faastest"
)

func TestContract(t *testing.T) {
	faastest.Contract(t, func(t *testing.T) (faas.Provider, faas.Function) {
		return begin(t).Engine, fn("echo", "cat")
	})
}

func TestAnswers(t *testing.T) {
	r := begin(t)
	watch := faastest.Record(t, r, nil)
	f := fn("echo", "cat")
	must(t, r.Create(background, f))
	if got := ask(t, watch, f, "hello"); got != "hello" {
		t.Errorf("cat answered %q", got)
	}
}

func TestEnvironmentIsExactlyWhatIsDeclared(t *testing.T) {
	t.Setenv("SECRET_OF_THE_GATEWAY", "x")
	r := begin(t)
	watch := faastest.Record(t, r, nil)
	f := fn("env", "env")
	f.Env["cgi_headers"] = "false"
	f.Env["greeting"] = "hello\nworld"
	f.Labels = map[string]string{faas.LabelTimeout: "7"}
	must(t, r.Create(background, f))
	answer := ask(t, watch, f, "")
	replica := watch.Deployment(f.ID).Replicas[0]
	run := filepath.Join(r.run, replica.ID)
	home, tmp := filepath.Join(run, "work"), filepath.Join(run, "tmp")
	if !r.iso.mount {
		home, tmp = filepath.Join(r.dir, "work", f.ID.String(), "1", "1"), filepath.Join(r.dir, "tmp", replica.ID)
	}
	env, err := find("env", "")
	must(t, err)
	want := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "secret_mount_path=" + filepath.Join(run, "secrets"), "TMPDIR=" + tmp, "fprocess='" + env + "'", "exec_timeout=7s",
		"healthcheck_interval=0", "cgi_headers=false", "greeting=hello", "world",
	}
	got := strings.Split(strings.TrimSuffix(answer, "\n"), "\n")
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("environment is\n%q\nwant\n%q", got, want)
	}
}

func TestScaleUpAndDown(t *testing.T) {
	r := begin(t)
	watch := faastest.Record(t, r, nil)
	f := fn("echo", "cat")
	must(t, r.Create(background, f))
	watch.UntilReady(t, f.ID, 1)
	must(t, r.Scale(background, f.ID, 5))
	var slots []int
	for _, replica := range watch.UntilReady(t, f.ID, 5) {
		slots = append(slots, replica.Slot)
	}
	if !slices.Equal(slots, []int{1, 2, 3, 4, 5}) {
		t.Errorf("slots are %v", slots)
	}
	must(t, r.Scale(background, f.ID, 2))
	for i, replica := range watch.UntilReady(t, f.ID, 2) {
		if replica.Slot != i+1 {
			t.Errorf("slot %d stayed", replica.Slot)
		}
	}
	must(t, r.Scale(background, f.ID, 0))
	watch.UntilReady(t, f.ID, 0)
	until(t, "no runtime folder is left", func() bool { return len(list(r.run)) == 0 && len(list(filepath.Join(r.dir, "tmp"))) == 0 })
}

func TestRecordsSurvive(t *testing.T) {
	r := begin(t)
	a, b := fn("a", "cat"), fn("b", "cat")
	a.Annotations = map[string]string{"note": "x\ny"}
	must(t, r.Create(background, a))
	must(t, r.Create(background, b))
	must(t, r.Scale(background, a.ID, 2))
	must(t, r.Scale(background, b.ID, 0))
	before, err := r.List(background)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(r.dir, "functions", "tmp-123"), []byte("{"), 0o600))
	must(t, os.WriteFile(filepath.Join(r.dir, "functions", "c.ns.json"), []byte("{"), 0o600))
	r = r.again(t)
	after, err := r.List(background)
	must(t, err)
	for _, ds := range [][]faas.Deployment{before, after} {
		slices.SortFunc(ds, func(x, y faas.Deployment) int { return strings.Compare(x.Name, y.Name) })
	}
	if len(after) != 2 || after[0].Desired != 2 || after[1].Desired != 0 || !after[0].Created.Equal(before[0].Created) || after[0].Annotations["note"] != "x\ny" {
		t.Errorf("before\n%+v\nafter\n%+v", before, after)
	}
	if names := list(filepath.Join(r.dir, "functions")); slices.Contains(names, "tmp-123") || !slices.Contains(names, "c.ns.json") {
		t.Errorf("files are %v: want the unfinished one gone, and the unreadable one kept", names)
	}
	faastest.Record(t, r, nil).UntilReady(t, a.ID, 2)
}

func TestLock(t *testing.T) {
	r := begin(t)
	other := open(t, r.settings.Data)
	err := other.apply()
	if err == nil || !strings.Contains(err.Error(), "data directory "+r.settings.Data+" is in use by process ") {
		t.Fatalf("a second engine on one directory: %v", err)
	}
	must(t, r.Close())
	must(t, other.apply())
}

func TestNotStarted(t *testing.T) {
	r := open(t, dir(t))
	if err := r.Create(background, fn("a", "cat")); !errors.Is(err, errClosed) {
		t.Errorf("Create before Apply: %v", err)
	}
	if left := list(r.settings.Data); len(left) > 0 {
		t.Errorf("opening left %v", left)
	}
	r.settings.Functions = filepath.Join(r.settings.Data, "stack.yml")
	if err := r.apply(); err == nil || !strings.Contains(err.Error(), r.settings.Functions) {
		t.Errorf("missing stack file: %v", err)
	}
	r.settings.Functions, r.settings.Watchdog = "", filepath.Join(r.settings.Data, "none")
	if err := r.apply(); err == nil || !strings.Contains(err.Error(), r.settings.Watchdog) {
		t.Errorf("missing watchdog: %v", err)
	}
	r.settings.Watchdog = watchdog
	must(t, r.apply())
	must(t, r.Create(background, fn("a", "cat")))
	must(t, r.Close())
	if err := r.apply(); !errors.Is(err, errClosed) {
		t.Errorf("Apply after Close: %v", err)
	}
}

func TestOptionsChangeKeepsProcesses(t *testing.T) {
	r := begin(t)
	watch := faastest.Record(t, r, nil)
	f := fn("echo", "cat")
	must(t, r.Create(background, f))
	before := watch.UntilReady(t, f.ID, 1)[0]
	r.provider = &Provider{LogLines: 10, User: map[bool]string{true: "root"}[os.Geteuid() == 0]}
	must(t, r.apply())
	r.provider = &Provider{User: "no such user"}
	if err := r.apply(); err == nil {
		t.Error("an unknown user was accepted")
	}
	if got := r.options(); got.logLines != 10 {
		t.Errorf("after a refused change the options are %+v", got)
	}
	must(t, r.Scale(background, f.ID, 2))
	if after := watch.UntilReady(t, f.ID, 2)[0]; after != before {
		t.Errorf("the replica was %+v, is %+v", before, after)
	}
}

func TestWatchBeforeApply(t *testing.T) {
	data := dir(t)
	f := fn("a", "cat")
	first := open(t, data)
	must(t, first.apply())
	must(t, first.Create(background, f))
	must(t, first.Close())
	r := open(t, data)
	began := make(chan struct{})
	go func() {
		close(began)
		if err := r.apply(); err != nil {
			t.Error(err)
		}
	}()
	<-began
	watch := faastest.Record(t, r, nil)
	if watch.Deployment(f.ID).ID != f.ID {
		t.Error("synced without what was on disk")
	}
	watch.UntilReady(t, f.ID, 1)
	if err := r.Watch(background, watch); err == nil {
		t.Error("a second watch at the same time was accepted")
	}
	must(t, r.Close())
	if d := watch.Deployment(f.ID); len(d.Replicas) > 0 {
		t.Errorf("after Close: %+v", d)
	}
}

func TestInvalid(t *testing.T) {
	r := begin(t)
	for what, change := range map[string]func(*faas.Function){
		"no command":       func(f *faas.Function) { f.Process = "" },
		"open quote":       func(f *faas.Function) { f.Process = "cat 'x" },
		"empty command":    func(f *faas.Function) { f.Process = "'' x" },
		"relative handler": func(f *faas.Function) { f.Handler = "./x" },
		"variable's name":  func(f *faas.Function) { f.Env["a=b"] = "" },
		"variable's value": func(f *faas.Function) { f.Env["a"] = "\x00" },
	} {
		f := fn("f", "cat")
		change(&f)
		if err := r.Create(background, f); !errors.Is(err, faas.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestCallsWhileClosing: what comes while requests end is refused at once.
func TestCallsWhileClosing(t *testing.T) {
	r := begin(t)
	watch := faastest.Record(t, r, nil)
	fifo := filepath.Join(dir(t), "fifo")
	must(t, syscall.Mkfifo(fifo, 0o666))
	must(t, os.Chmod(fifo, 0o666))
	f := fn("f", "cat "+fifo)
	must(t, r.Create(background, f))
	receive, err := send(watch.UntilReady(t, f.ID, 1)[0].Addr, "")
	must(t, err)
	release, err := os.OpenFile(fifo, os.O_WRONLY, 0) // once the function reads
	must(t, err)
	closed := make(chan error)
	go func() { closed <- r.Close() }()
	<-r.closed
	if err := r.Create(background, fn("g", "cat")); !errors.Is(err, errClosed) {
		t.Errorf("create: %v", err)
	}
	select {
	case <-closed:
		t.Error("closed before the request's end")
	default:
	}
	must(t, release.Close())
	if _, err := receive(); err != nil {
		t.Error(err)
	}
	must(t, <-closed)
}
