package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"go.uber.org/zap"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/stack"
)

// options may change while the engine runs; processes that run already keep what they were started with.
type options struct {
	watchdog string
	user     *owner // nil: see lookUp
	logLines int
	images   map[string]string // name: folder, absolute
	watch    bool
	limits   limits // of functions that name none
}

// apply makes the engine obey; the first call starts it.
func (e *Engine) apply(ctx context.Context, next options, s faas.Settings) (err error) {
	if err := e.op.Acquire(ctx, 1); err != nil {
		return err
	}
	defer e.op.Release(1)
	select {
	case <-e.closed:
		return errClosed
	default:
	}
	if next.watchdog, err = findWatchdog(s.Watchdog); err != nil {
		return err
	}
	file, err := readStack(s.Functions)
	if err != nil {
		return err
	}
	before := e.opt.Swap(next)
	if !e.started {
		err = e.open()
	}
	if err == nil {
		err = e.merge(file.entries)
	}
	if err != nil && before != nil {
		e.opt.Store(before)
	}
	if err == nil {
		e.stack.Store(file)
		e.once.Do(func() { close(e.loaded) })
		select {
		case e.applied <- struct{}{}:
		default:
		}
	}
	return err
}

// open takes the data directory, ends what an earlier program left, and begins every kept function.
func (e *Engine) open() (err error) {
	if err := os.MkdirAll(e.dir, 0o711); err != nil {
		return fmt.Errorf("making the data directory: %w", err)
	}
	held, err := lock(e.data, e.dir)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			held.Close()
		}
	}()
	run, err := runtimeDir(e.dir)
	if err != nil {
		return err
	}
	if n := sweep(run, filepath.Join(e.dir, "tmp"), filepath.Join(e.dir, "work")); n > 0 {
		e.log.Warn("killed processes left by an earlier gateway", zap.Int("processes", n))
	}
	kept := records(filepath.Join(e.dir, "functions"))
	all, err := e.load(run, kept)
	if err != nil {
		return err
	}
	if n := sweepUsers(users(all)); n > 0 {
		e.log.Warn("killed processes of functions, left by an earlier gateway", zap.Int("processes", n))
	}
	e.run, e.kept, e.held, e.spawn = run, kept, held, newSpawner()
	iso, refused := probe(e.options().watchdog, run, e.spawn.start)
	if e.weaken != nil {
		iso = e.weaken(iso)
	}
	e.iso, e.groups = iso, newCgroups(e.dir, iso.mount)
	if n := e.groups.sweep(); n > 0 {
		e.log.Warn("killed processes in control groups, left by an earlier gateway", zap.Int("processes", n))
	}
	if iso.drop && !iso.mount { // else the stage sees to it
		refused = errors.Join(refused, e.spawn.do(noNewPrivileges))
	}
	e.log.Info("local provider started", zap.Stringer("isolation", e.iso), zap.NamedError("refused", refused),
		zap.String("data", e.dir), zap.String("run", run))
	e.started = true
	for _, rec := range all {
		if rec.Removed {
			e.removed[rec.Function.ID] = rec
		} else {
			e.begin(rec)
		}
	}
	e.wg.Add(1)
	go e.watch()
	return nil
}

// users are the functions' own user IDs; none unless the engine is root, or else nothing has run as them.
func users(all map[faas.ID]record) map[int]bool {
	uids := map[int]bool{}
	for _, rec := range all {
		if os.Geteuid() == 0 && rec.UID >= firstUID {
			uids[rec.UID] = true
		}
	}
	return uids
}

// load reads the records and removes the files that belong to nothing any more.
func (e *Engine) load(run string, kept records) (map[faas.ID]record, error) {
	work, tmp := filepath.Join(e.dir, "work"), filepath.Join(e.dir, "tmp")
	err := errors.Join(os.RemoveAll(tmp), os.MkdirAll(tmp, 0o711), os.MkdirAll(work, 0o711),
		os.MkdirAll(string(kept), 0o700), os.MkdirAll(string(e.secrets), 0o700), os.Chmod(string(e.secrets), 0o700), syncFolder(e.dir))
	if err == nil {
		err = dropUnfinished(string(e.secrets))
	}
	if err != nil {
		return nil, err
	}
	all, bad, err := kept.load()
	if err != nil {
		return nil, err
	}
	e.damaged = bad
	for _, err := range bad {
		e.log.Error("skipping an unreadable function", zap.Error(err))
	}
	current := map[string]string{} // NAME.NS: VERSION
	for id, rec := range all {
		if !rec.Removed {
			current[id.String()] = strconv.Itoa(rec.Version)
		}
	}
	stale := []error{}
	for _, name := range list(run) {
		stale = append(stale, removeRuntime(filepath.Join(run, name)))
	}
	if len(bad) == 0 { // else a folder may belong to one of those
		for _, name := range list(work) {
			for _, version := range list(filepath.Join(work, name)) {
				if version != current[name] {
					stale = append(stale, os.RemoveAll(filepath.Join(work, name, version)))
				}
			}
			os.Remove(filepath.Join(work, name)) // if it is empty
		}
	}
	if err := errors.Join(stale...); err != nil {
		e.log.Warn("removing what an earlier gateway left", zap.Error(err))
	}
	return all, nil
}

// list names what is in a folder, if it can be read.
func list(dir string) (names []string) {
	entries, _ := os.ReadDir(dir)
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func readStack(path string) (*stackFile, error) {
	if path == "" {
		return new(stackFile), nil
	}
	entries, files, err := stack.Read(path)
	if err != nil {
		return nil, fmt.Errorf("stack file: %w", err)
	}
	return &stackFile{path: path, files: files, entries: entries}, nil
}

// findWatchdog resolves the setting: beside this program, then on PATH.
func findWatchdog(path string) (string, error) {
	if path != "" {
		path, err := filepath.Abs(path)
		if err == nil {
			err = executable(path)
		}
		if err != nil {
			return "", fmt.Errorf("watchdog: %w", err)
		}
		return path, nil
	}
	beside := ""
	if self, err := os.Executable(); err == nil {
		beside = filepath.Join(filepath.Dir(self), "fwatchdog")
		if executable(beside) == nil {
			return beside, nil
		}
	}
	path, err := exec.LookPath("fwatchdog")
	if err != nil {
		return "", fmt.Errorf("watchdog not found: neither %s nor fwatchdog on PATH", beside)
	}
	return filepath.Abs(path)
}

// runtimeDir makes RUN, which must be ours alone.
func runtimeDir(dir string) (string, error) {
	parent, mode := os.Getenv("XDG_RUNTIME_DIR"), fs.FileMode(0o700)
	switch {
	case os.Geteuid() == 0:
		parent, mode = "/run", 0o711
		if info, err := os.Stat(parent); err != nil || !info.IsDir() {
			parent = "/var/run"
		}
	default:
		if info, err := os.Stat(parent); err != nil || !info.IsDir() {
			parent = os.TempDir()
		}
	}
	run := filepath.Join(parent, fmt.Sprintf("faas-%08x", hash(dir)))
	// The longest address of a socket, its final NUL included, is 108 bytes on Linux and 104 elsewhere.
	if longest := len(run) + len("/0123456789abcdef/s") + 1; longest > sockaddrUnix {
		return "", fmt.Errorf("runtime directory %s: sockets in it have addresses of %d bytes, more than %d; set XDG_RUNTIME_DIR or TMPDIR to a shorter path", run, longest, sockaddrUnix)
	}
	if err := os.Mkdir(run, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("making the runtime directory: %w", err)
	}
	info, err := os.Lstat(run)
	if err != nil {
		return "", fmt.Errorf("runtime directory: %w", err)
	}
	if !info.IsDir() || !mine(info) {
		return "", fmt.Errorf("runtime directory %s belongs to somebody else", run)
	}
	return run, os.Chmod(run, mode)
}
