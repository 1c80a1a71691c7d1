package local

import (
	"encoding/binary"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// maxFiles bounds how many files and folders of one function are looked at; the deepest are left out first.
const maxFiles = 5000

// A survey is what a look at files has found.
type survey struct {
	// sum stands for names, sizes, modes and times of change: it differs when one of them does.
	// The content is not read: looking again and again must cost little.
	sum uint64
	// beyond is a folder that was not looked at to its end, because there are more than maxFiles; "" if there is none.
	beyond string
}

// A sum is of use within one run of the program only.
var seed = maphash.MakeSeed()

// surveyFiles looks at single files, through links. Missing ones count as well.
func surveyFiles(paths []string) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	for _, path := range paths {
		info, err := os.Stat(path)
		note(&h, path, info, err)
	}
	return h.Sum64()
}

// surveyFolder looks at a folder and those in it. Links in it are looked through, but
// not entered; the folder itself may be a link. The folders in skip are left out.
func surveyFolder(root string, skip ...string) (s survey) {
	var h maphash.Hash
	h.SetSeed(seed)
	target, err := filepath.EvalSymlinks(root) // a link to another release is a change, however alike the two are
	if err != nil {
		h.WriteString(err.Error())
		return survey{sum: h.Sum64()}
	}
	h.WriteString(target)
	var others []fs.FileInfo
	for _, path := range skip {
		if info, err := os.Stat(path); err == nil {
			others = append(others, info)
		}
	}
	left := maxFiles
	for folders := []string{target}; len(folders) > 0 && s.beyond == ""; folders = folders[1:] {
		entries, err := readFolder(folders[0], left+1)
		if err != nil {
			note(&h, folders[0], nil, err)
		}
		for _, entry := range entries {
			path := filepath.Join(folders[0], entry.Name())
			if left--; left < 0 {
				s.beyond = folders[0]
				break
			}
			if passing(entry.Name()) {
				continue
			}
			info, err := entry.Info()
			if err == nil && info.Mode()&fs.ModeSymlink != 0 {
				info, err = os.Stat(path)
			}
			if entry.IsDir() && err == nil {
				if slices.ContainsFunc(others, func(other fs.FileInfo) bool { return os.SameFile(other, info) }) {
					continue
				}
				folders = append(folders, path)
			}
			note(&h, path, info, err)
		}
	}
	s.sum = h.Sum64()
	return s
}

// readFolder names at most so many files of a folder, sorted. What has become
// something else since it was found to be a folder is not opened.
func readFolder(path string, most int) ([]fs.DirEntry, error) {
	dir, err := os.OpenFile(path, syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	entries, err := dir.ReadDir(most)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	if err == io.EOF {
		err = nil
	}
	return entries, err
}

// passing tells names that come and go without being a function's code: what
// editors and version control keep for themselves, and what is made from code.
func passing(name string) bool {
	switch name {
	case ".env":
		return false
	case "__pycache__", "node_modules":
		return true
	}
	return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "#") || strings.HasSuffix(name, "~")
}

// note adds one file. A folder's size and time say nothing beyond what is in it.
func note(h *maphash.Hash, path string, info fs.FileInfo, err error) {
	h.WriteString(path)
	if err != nil {
		h.WriteString("\x00" + err.Error() + "\x00")
		return
	}
	var b [21]byte // led by a NUL, which ends the name
	binary.LittleEndian.PutUint32(b[1:], uint32(info.Mode()))
	if !info.IsDir() {
		binary.LittleEndian.PutUint64(b[5:], uint64(info.Size()))
		binary.LittleEndian.PutUint64(b[13:], uint64(info.ModTime().UnixNano()))
	}
	h.Write(b[:])
}
