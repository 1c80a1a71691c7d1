package local

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// An owner is whom a function runs as.
type owner struct{ uid, gid int }

// lookUp reads the option user. Nil means a user per function for root, and
// the gateway's own otherwise.
func lookUp(name string) (*owner, error) {
	if name == "" {
		return nil, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		u, err = user.LookupId(name)
	}
	who := owner{}
	if err == nil {
		who.uid, err = strconv.Atoi(u.Uid)
		if err == nil {
			who.gid, err = strconv.Atoi(u.Gid)
		}
	} else if id, e := strconv.ParseUint(name, 10, 31); e == nil {
		who, err = owner{int(id), int(id)}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("user %q: %w", name, err)
	}
	if self := os.Geteuid(); self != 0 {
		if who.uid != self {
			return nil, fmt.Errorf("user %q: only root can run functions as another user", name)
		}
		return nil, nil
	}
	return &who, nil
}

// own gives a working directory to a user, with everything in it if it was another's.
// The walk can't be led out of the folder by links; files that have other names
// as well, which may be outside, stay as they are.
func own(dir string, who owner) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) == who.uid && int(st.Gid) == who.gid {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && info.Mode().IsRegular() && st.Nlink > 1 {
			return nil
		}
		return root.Lchown(path, who.uid, who.gid)
	})
	if err != nil {
		return err
	}
	return os.Chown(dir, who.uid, who.gid) // last: it marks the rest as done
}

// closed says which folder on the way to these files a user may not enter,
// as far as modes tell, to follow the description of a failed start.
func closed(who owner, files ...string) string {
	for _, file := range files {
		for dir := filepath.Dir(file); ; dir = filepath.Dir(dir) {
			info, err := os.Stat(dir)
			if err != nil {
				break
			}
			bit := fs.FileMode(0o001)
			if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) == who.uid {
				bit = 0o100
			} else if ok && int(st.Gid) == who.gid {
				bit = 0o010
			}
			if who.uid != 0 && info.Mode()&bit == 0 {
				return fmt.Sprintf(" (user %d can't enter %s: allow it with chmod o+x, move %s elsewhere, or choose another user)", who.uid, dir, file)
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return ""
}
