package local

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// A function is a record and the replicas that make it true. One goroutine,
// supervise, compares the two whenever either changed.
type function struct {
	e    *Engine
	id   faas.ID
	op   *semaphore.Weighted // a mutex, held to change the record
	kick chan struct{}       // something changed
	over chan struct{}       // closed when the last replica has ended and none will follow
	logs ring

	mu       sync.Mutex // never held while something is told, started or stopped
	rec      record
	files    folder // what rec's version was made of; known while the engine watches
	replicas []*replica
	ended    bool // every replica must leave: removed, or the engine closes
	removed  bool

	tell sync.Mutex // held while the sink is told, so that a later state is told later
	gone bool       // the sink knows that the function is; guarded by tell
}

func newFunction(e *Engine, rec record) *function {
	f := &function{e: e, id: rec.Function.ID, op: semaphore.NewWeighted(1), kick: make(chan struct{}, 1), over: make(chan struct{}), rec: rec}
	f.wake()
	return f
}

// supervise starts and stops replicas until the function has ended and the last one has.
func (f *function) supervise() {
	defer f.e.left(f)
	defer close(f.over)
	versions := map[int]bool{} // those that may have working directories
	for range f.kick {
		f.remember()
		leaving, stale, done := f.reconcile(versions)
		f.publish()
		for _, r := range leaving { // after publish: nothing is sent to them any more
			close(r.quit)
		}
		for _, version := range stale {
			f.clean(version)
		}
		if done {
			return
		}
	}
}

// reconcile starts the replicas that are missing and returns those that must
// leave, the versions whose working directories are of no more use, and
// whether the function has ended.
func (f *function) reconcile(versions map[int]bool) (leaving []*replica, stale []int, done bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.replicas = slices.DeleteFunc(f.replicas, func(r *replica) bool { return r.ended })
	want := f.rec.Desired
	if f.ended {
		want = 0
	}
	leaving = surplus(f.replicas, f.rec.Version, want)
	for _, r := range leaving {
		r.leaving = true
	}
	for _, slot := range missing(f.replicas, f.rec.Version, want) {
		r := &replica{f: f, rec: f.rec, slot: slot, quit: make(chan struct{})}
		f.replicas = append(f.replicas, r)
		go r.run()
	}
	versions[f.rec.Version] = true
	for version := range versions {
		used := slices.ContainsFunc(f.replicas, func(r *replica) bool { return r.rec.Version == version })
		if !used && (version != f.rec.Version || f.removed) {
			stale = append(stale, version)
			delete(versions, version)
		}
	}
	return leaving, stale, f.ended && len(f.replicas) == 0
}

// surplus says which replicas must leave: of the current version the highest
// slots beyond want, of earlier ones as many as current ones have become
// ready, and those that never served.
func surplus(replicas []*replica, version, want int) (leaving []*replica) {
	var current, earlier []*replica
	ready := 0
	for _, r := range replicas {
		switch {
		case r.leaving:
		case r.rec.Version == version:
			current = append(current, r)
		case !r.served:
			leaving = append(leaving, r)
		default:
			earlier = append(earlier, r)
		}
	}
	slices.SortFunc(current, func(a, b *replica) int { return a.slot - b.slot })
	if len(current) > want {
		leaving = append(leaving, current[want:]...)
		current = current[:want]
	}
	for _, r := range current {
		if r.ready {
			ready++
		}
	}
	slices.SortFunc(earlier, func(a, b *replica) int {
		if a.ready != b.ready {
			if a.ready {
				return -1
			}
			return 1
		}
		return cmp.Or(b.rec.Version-a.rec.Version, a.slot-b.slot)
	})
	return append(leaving, earlier[min(len(earlier), want-ready):]...)
}

// missing says in which slots to start a replica: the lowest that are free.
func missing(replicas []*replica, version, want int) (slots []int) {
	taken := map[int]bool{}
	for _, r := range replicas {
		if r.rec.Version != version {
			continue
		}
		taken[r.slot] = true
		if !r.leaving {
			want--
		}
	}
	for slot := 1; len(slots) < want; slot++ {
		if !taken[slot] {
			slots = append(slots, slot)
		}
	}
	return slots
}

// replace keeps a new definition, as the next version; what rec says beside it is kept, too.
func (f *function) replace(rec record, fn faas.Function) error {
	rec.Function = clone(fn)
	rec.Version++
	if err := f.e.kept.save(rec); err != nil {
		return err
	}
	f.set(rec)
	f.publish()
	f.e.log.Info("function updated", zap.Stringer("function", f.id), zap.Int("version", rec.Version))
	return nil
}

func (f *function) record() record {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rec
}

func (f *function) ending() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ended
}

func (f *function) set(rec record) {
	f.mu.Lock()
	f.rec = rec
	f.mu.Unlock()
	f.wake()
}

// end makes all replicas leave, and tells the sink of a removal before it returns.
func (f *function) end(removed bool) {
	f.mu.Lock()
	f.ended = true
	f.removed = f.removed || removed
	f.mu.Unlock()
	f.publish()
}

func (f *function) wake() {
	select {
	case f.kick <- struct{}{}:
	default:
	}
}

// deployment is the present state. A replica that leaves is no longer part of it.
func (f *function) deployment() faas.Deployment {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := faas.Deployment{Function: f.rec.Function, Created: f.rec.Created, Desired: f.rec.Desired}
	d.Remarks = append(f.e.unmet(f.rec.Function), f.e.unmounted(f.rec.Function)...)
	var ailing *replica
	earlier := false
	for _, r := range f.replicas {
		if r.leaving || f.ended {
			continue
		}
		if r.id != "" {
			d.Replicas = append(d.Replicas, faas.Replica{ID: r.id, Slot: r.slot, Addr: r.addr, Ready: r.ready})
		}
		d.Rolling = d.Rolling || r.rec.Version != f.rec.Version
		if r.reason != "" && r.rec.Version == f.rec.Version && ailing == nil { // what ails an earlier version may be mended in this one
			ailing = r
		}
		earlier = earlier || r.ready && r.rec.Version != f.rec.Version
	}
	slices.SortFunc(d.Replicas, func(a, b faas.Replica) int { return a.Slot - b.Slot })
	if ailing != nil {
		d.Failing = ailing.fails > 1
		d.Reason = fmt.Sprintf("replica %d: %s", ailing.slot, ailing.reason)
		if earlier {
			d.Reason = "the earlier version serves on, because the new one does not start: " + d.Reason
		}
	} else if err := f.e.absent(f.rec.Function); err != nil { // it would not start
		d.Reason = err.Error()
	}
	return d
}

// clean removes the working directories of a version.
func (f *function) clean(version int) {
	dir := filepath.Join(f.e.dir, "work", f.id.String())
	if err := os.RemoveAll(filepath.Join(dir, strconv.Itoa(version))); err != nil {
		f.e.log.Warn("removing working directories", zap.Stringer("function", f.id), zap.Error(err))
	}
	os.Remove(dir) // when it is empty; another version's or a namesake's may be in it
}
