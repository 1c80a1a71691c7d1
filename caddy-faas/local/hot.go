package local

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/stack"
)

// Changes of the stack file and of functions' folders are found by looking at
// them again and again. Unlike notifications by the kernel that needs no
// descriptors, meets no limit of watches, and sees mounts, network folders,
// links and what is replaced or made anew in the same way everywhere.
const (
	// lookInterval is between two looks, settleInterval when something has just changed.
	lookInterval, settleInterval = 250 * time.Millisecond, 100 * time.Millisecond
	// settleMax is how long a folder that keeps changing may put its function's roll off.
	settleMax = 500 * time.Millisecond
	// lookShare bounds the cost: a look of a millisecond is followed by so many without one, up to maxLookInterval.
	lookShare, maxLookInterval = 20, 10 * time.Second

	// A function that has rolled maxRolls times in rollWindow for its files' sake
	// does so every slowRoll only: it may be the one that writes them.
	maxRolls, slowRoll = 20, 5 * time.Second
)

var rollWindow = time.Minute // longer in a test

// A stackFile is the stack file in force.
type stackFile struct {
	path    string
	files   []string // what it was read from
	entries []faas.Function
	sum     uint64 // of files when they were read; 0: not known
	failed  string // why it could not be read since
}

// A watcher is the goroutine that looks.
type watcher struct {
	e       *Engine
	changes map[*function]change // those under way; nil stands for the stack file
	rolls   map[*function]rolls
	told    map[*function]string // folders that were said to be too large
}

// watch looks until the engine is closed.
func (e *Engine) watch() {
	defer e.wg.Done()
	w := &watcher{e: e, changes: map[*function]change{}, rolls: map[*function]rolls{}, told: map[*function]string{}}
	for {
		var again <-chan time.Time
		if e.options().watch {
			began := time.Now()
			w.look()
			again = time.After(rest(time.Since(began), len(w.changes) > 0))
		} else {
			clear(w.changes)
		}
		select {
		case <-e.closed:
			return
		case <-e.applied:
		case <-again:
		}
	}
}

// rest is the pause after a look that took so long.
func rest(took time.Duration, changing bool) time.Duration {
	interval := lookInterval
	if changing {
		interval = settleInterval
	}
	return min(max(interval, lookShare*took), maxLookInterval)
}

// look looks once at everything, and applies what has changed.
func (w *watcher) look() {
	w.stack()
	there := map[*function]bool{nil: true}
	for _, f := range w.e.all() {
		there[f] = true
		w.folder(f)
	}
	gone := func(f *function) bool { return !there[f] }
	maps.DeleteFunc(w.changes, func(f *function, _ change) bool { return gone(f) })
	maps.DeleteFunc(w.rolls, func(f *function, _ rolls) bool { return gone(f) })
	maps.DeleteFunc(w.told, func(f *function, _ string) bool { return gone(f) })
}

// stack looks at the stack file.
func (w *watcher) stack() {
	now := w.e.stack.Load()
	if now == nil || now.path == "" {
		delete(w.changes, nil)
		return
	}
	sum := surveyFiles(now.files)
	if _, due := w.due(nil, sum, now.sum); due { // never sooner: half a stack file would remove functions
		delete(w.changes, nil)
		w.e.reread(now, sum)
	}
}

// folder looks at a function's folder.
func (w *watcher) folder(f *function) {
	path := f.record().Function.Handler
	if path == "" {
		delete(w.changes, f)
		return
	}
	s := w.e.survey(path)
	if s.beyond != "" && w.told[f] != path {
		w.told[f] = path
		w.e.log.Warn("function's folder has too many files, changes of some are not seen", zap.Stringer("function", f.id),
			zap.Int("seen", maxFiles), zap.String("not_seen_in", s.beyond))
	}
	since, settled := w.due(f, s.sum, f.baseline(path, func() uint64 { return s.sum }))
	if late := !since.IsZero() && time.Since(since) >= settleMax; !settled && !late {
		return
	}
	delete(w.changes, f)
	recent, allowed := w.rolls[f].next(time.Now())
	if !allowed {
		if !recent.told {
			recent.told = true
			w.e.log.Warn("function's files change all the time, rolling it less often: what it writes belongs into its working directory",
				zap.Stringer("function", f.id), zap.String("folder", path))
		}
		w.rolls[f] = recent
		return
	}
	w.rolls[f] = recent
	if err := f.roll(path, s.sum); err != nil {
		w.e.log.Error("function's files have changed, but it can't be rolled", zap.Stringer("function", f.id), zap.Error(err))
	}
}

// due notes that files differ from how they were applied, and tells since when,
// and whether they have settled: two looks found them the same. When they don't differ, since is zero.
func (w *watcher) due(f *function, sum, applied uint64) (since time.Time, settled bool) {
	if sum == applied {
		delete(w.changes, f)
		return since, false
	}
	before, ok := w.changes[f]
	if !ok {
		before.since = time.Now()
	}
	w.changes[f] = change{sum, before.since}
	return before.since, ok && sum == before.sum
}

// A change is under way until the files have settled.
type change struct {
	sum   uint64
	since time.Time
}

// rolls are when a function was rolled of late.
type rolls struct {
	times []time.Time
	told  bool // that it rolls too often
}

// next adds a roll, if another one is allowed now.
func (r rolls) next(now time.Time) (rolls, bool) {
	i := 0
	for i < len(r.times) && now.Sub(r.times[i]) >= rollWindow {
		i++
	}
	r.times = r.times[i:]
	if len(r.times) >= maxRolls && now.Sub(r.times[len(r.times)-1]) < slowRoll {
		return r, false
	}
	return rolls{times: append(slices.Clone(r.times), now), told: r.told && len(r.times) > 0}, true
}

// survey looks at a function's folder, without what the gateway itself writes.
func (e *Engine) survey(folder string) survey { return surveyFolder(folder, e.data, e.dir) }

// reread applies a changed stack file. One that can't be read changes nothing.
func (e *Engine) reread(before *stackFile, sum uint64) {
	e.op.Acquire(context.Background(), 1)
	defer e.op.Release(1)
	if !e.started || e.stack.Load() != before {
		return
	}
	entries, files, err := stack.Read(before.path)
	if surveyFiles(before.files) != sum {
		return // it was being written
	}
	if err == nil && entries == nil && len(before.entries) > 0 { // more likely still to be written than meant to remove all
		err = fmt.Errorf("%s: it names no functions: want at least functions: {}", before.path)
	}
	next := &stackFile{path: before.path, files: files, entries: entries, sum: sum}
	if err != nil {
		next.entries, next.failed = before.entries, err.Error()
		for _, file := range before.files { // it may not have been read to the end
			if !slices.Contains(next.files, file) {
				next.files = append(next.files, file)
			}
		}
	}
	if !slices.Equal(next.files, before.files) {
		next.sum = 0
	}
	e.stack.Store(next)
	switch {
	case err != nil:
		if next.failed != before.failed {
			e.log.Error("stack file can't be read, what runs goes on as before", zap.Error(err))
		}
		return
	case before.failed != "":
		e.log.Info("stack file can be read again", zap.String("file", next.path))
	}
	if reflect.DeepEqual(entries, before.entries) {
		return
	}
	if err := e.merge(entries); err != nil {
		e.log.Error("the stack file's changes are not all applied", zap.Error(err))
	}
}

// A folder is a function's, and how it was when the function's present version began.
type folder struct {
	path string
	sum  uint64
}

// baseline returns the sum that present processes go by, and makes it the given one for a folder not seen before.
func (f *function) baseline(path string, sum func() uint64) uint64 {
	f.mu.Lock()
	known := f.files
	f.mu.Unlock()
	if known.path == path {
		return known.sum
	}
	fresh := folder{path, sum()}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.files = fresh
	return fresh.sum
}

// remember takes the baseline before processes start from a folder: what changes later is noticed.
func (f *function) remember() {
	path := f.record().Function.Handler
	if path != "" && f.e.options().watch {
		f.baseline(path, func() uint64 { return f.e.survey(path).sum })
	}
}

// roll makes a further version of the same definition, because its files are other ones.
func (f *function) roll(path string, sum uint64) error {
	f.op.Acquire(context.Background(), 1)
	defer f.op.Release(1)
	rec := f.record()
	if f.ending() || rec.Function.Handler != path {
		return nil
	}
	f.mu.Lock()
	f.files = folder{path, sum}
	f.mu.Unlock()
	f.e.log.Info("function's files have changed", zap.Stringer("function", f.id), zap.String("folder", path))
	return f.replace(rec, rec.Function)
}
