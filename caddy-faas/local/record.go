package local

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// A record is what is kept of a function on disk.
type record struct {
	Function faas.Function
	// Desired is how many replicas there should be.
	Desired int
	// Created is when the function was first deployed.
	Created time.Time
	// Version counts the definitions that the function has had, from 1.
	Version int
	// UID is the user and group that it runs as when the engine is root.
	UID int
	// Stack is set while the function is one of the stack file's.
	Stack bool
	// Entry is the hash of the stack file's entry that was applied last; "" if none was.
	Entry string
	// Removed marks one of the stack file's functions that somebody removed: it stays so until its entry changes.
	Removed bool
}

// records is the folder of the deployment records.
type records string

func (r records) path(id faas.ID) string { return filepath.Join(string(r), id.String()+".json") }

// load reads every record. What a killed write left behind is deleted; a
// record that can't be read is reported in bad, and left alone by install, too.
func (r records) load() (all map[faas.ID]record, bad map[faas.ID]error, err error) {
	entries, err := os.ReadDir(string(r))
	if err != nil {
		return nil, nil, fmt.Errorf("reading deployment records: %w", err)
	}
	all, bad = map[faas.ID]record{}, map[faas.ID]error{}
	for _, entry := range entries {
		path := filepath.Join(string(r), entry.Name())
		if !strings.HasSuffix(path, ".json") {
			continue
		}
		rec, e := read(path)
		if e == nil && r.path(rec.Function.ID) != path {
			e = fmt.Errorf("it names %s", rec.Function.ID)
		}
		if e != nil {
			bad[faas.ParseID(strings.TrimSuffix(entry.Name(), ".json"))] = fmt.Errorf("deployment record %s: %w", path, e)
			continue
		}
		all[rec.Function.ID] = rec
	}
	return all, bad, dropUnfinished(string(r))
}

func read(path string) (record, error) {
	var rec record
	data, err := os.ReadFile(path)
	if err != nil {
		return rec, err
	}
	if err := json.Unmarshal(data, &rec); err != nil {
		return rec, err
	}
	return rec, rec.Function.Validate()
}

// save keeps a record: once it has returned, the record outlives a crash.
func (r records) save(rec record) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("keeping the deployment record of %s: %w", rec.Function.ID, err)
		}
	}()
	data, err := json.MarshalIndent(rec, "", "\t")
	if err != nil {
		return err
	}
	return keepFile(string(r), filepath.Base(r.path(rec.Function.ID)), append(data, '\n'))
}

// drop deletes a record for good.
func (r records) drop(id faas.ID) error {
	if err := dropFile(string(r), filepath.Base(r.path(id))); err != nil {
		return fmt.Errorf("deleting the deployment record of %s: %w", id, err)
	}
	return nil
}
