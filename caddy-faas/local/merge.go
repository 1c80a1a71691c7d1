package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"

	"go.uber.org/zap"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// A verdict is what to do about a name after the stack file was read.
type verdict int

const (
	keep     verdict = iota
	create           // deploy the entry
	update           // the entry replaces the definition
	remove           // the entry is gone, and the function with it
	forget           // the entry of a removed function is gone: nothing is left to remember
	separate         // the entry is gone, but the function didn't come from it
)

// decide compares what is kept of a function with its entry's hash; nil and "" for what there isn't.
func decide(rec *record, entry string) verdict {
	switch {
	case rec == nil && entry == "":
		return keep
	case rec == nil:
		return create
	case entry != "" && rec.Entry == entry:
		return keep
	case entry != "" && rec.Removed:
		return create
	case entry != "":
		return update
	case rec.Removed:
		return forget
	case rec.Stack:
		return remove
	case rec.Entry != "":
		return separate
	}
	return keep
}

// fingerprint identifies an entry as it was read.
func fingerprint(fn faas.Function) (string, error) {
	text, err := json.Marshal(fn) // sorts maps
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), err
}

// merge makes the stack file's entries true. A function that can't be changed
// does not keep the others from it.
func (e *Engine) merge(entries []faas.Function) error {
	e.offers.Store(newCatalog(e.options().images, entries))
	byID := map[faas.ID]faas.Function{}
	for _, fn := range entries {
		byID[fn.ID] = fn
	}
	e.mu.Lock()
	ids := map[faas.ID]bool{}
	for _, known := range []map[faas.ID]bool{keys(byID), keys(e.functions), keys(e.removed)} {
		maps.Copy(ids, known)
	}
	e.mu.Unlock()
	var errs []error
	for id := range ids {
		fn, listed := byID[id]
		entry := ""
		if listed {
			var err error
			if entry, err = fingerprint(fn); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		if err := e.settle(id, fn, entry); err != nil {
			errs = append(errs, fmt.Errorf("applying the stack file to %s: %w", id, err))
		}
	}
	return errors.Join(errs...)
}

// settle applies the verdict on one name. It is called with e.op held.
func (e *Engine) settle(id faas.ID, fn faas.Function, entry string) error {
	f := e.find(id)
	if f == nil {
		e.mu.Lock()
		rec, removed := e.removed[id]
		e.mu.Unlock()
		var kept *record
		if removed {
			kept = &rec
		}
		switch decide(kept, entry) {
		case create:
			err := e.install(record{Stack: true, Entry: entry}, fn)
			if err != nil && e.damaged[id] != nil { // the rest of the configuration is good
				e.log.Error("not deploying the stack file's function", zap.Stringer("function", id), zap.Error(err))
				return nil
			}
			return err
		case forget:
			e.mu.Lock()
			delete(e.removed, id)
			e.mu.Unlock()
			return e.kept.drop(id)
		}
		return nil
	}
	rec := f.record()
	switch decide(&rec, entry) {
	case remove:
		e.log.Info("function is no longer in the stack file", zap.Stringer("function", id))
		return e.discard(f, false)
	case update, separate:
		return e.revise(f, fn, entry)
	}
	return nil
}

// revise applies a changed entry, or with none cuts the tie to it.
func (e *Engine) revise(f *function, fn faas.Function, entry string) error {
	f.op.Acquire(context.Background(), 1)
	defer f.op.Release(1)
	rec := f.record()
	rec.Entry = entry
	if entry != "" {
		rec.Stack = true
		return f.replace(rec, fn)
	}
	if err := e.kept.save(rec); err != nil {
		return err
	}
	f.set(rec)
	return nil
}

func keys[V any](m map[faas.ID]V) map[faas.ID]bool {
	set := map[faas.ID]bool{}
	for id := range m {
		set[id] = true
	}
	return set
}

// User IDs of functions: a range that distributions and container engines leave alone.
const firstUID, countUID = 1_900_000_000, 100_000_000

// freeUID picks the user ID of a new function. It follows from the name, so
// that a name which comes back finds its files, and another doesn't get them.
func (e *Engine) freeUID(id faas.ID) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	taken := map[int]bool{}
	for _, f := range e.functions {
		taken[f.record().UID] = true
	}
	for f := range e.leaving {
		taken[f.record().UID] = f.id != id
	}
	uid := int(hash(e.dir+"\x00"+id.String()) % countUID)
	for taken[firstUID+uid] {
		uid = (uid + 1) % countUID
	}
	return firstUID + uid
}

func hash(s string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(s))
	return h.Sum32()
}
