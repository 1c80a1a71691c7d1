package local

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// unfinished begins the names of files that are being written.
const unfinished = "tmp-"

// keepFile gives a file of a folder this content, for its owner alone. Once it
// has returned the content outlives a crash; until then there is the earlier one.
func keepFile(dir, name string, data []byte) error {
	f, err := os.CreateTemp(dir, unfinished)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncFolder(dir)
}

// dropFile deletes a file of a folder for good, if it is there.
func dropFile(dir, name string) error {
	if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncFolder(dir)
}

// syncFolder makes a folder's entries outlive a crash.
func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// dropUnfinished deletes what killed writes have left in a folder. Every other file there has a dot in its name.
func dropUnfinished(dir string) (err error) {
	for _, name := range list(dir) {
		if strings.HasPrefix(name, unfinished) && !strings.Contains(name, ".") {
			err = errors.Join(err, os.Remove(filepath.Join(dir, name)))
		}
	}
	return err
}
