package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// A stage tells the watchdog what to do before it begins: steps, whose words and order are the watchdog's.
type stage []string

func (s *stage) add(words ...string) { *s = append(*s, words...) }

// user becomes somebody else, for good.
func (s *stage) user(who *owner) {
	if who != nil {
		s.add("user", strconv.Itoa(who.uid), strconv.Itoa(who.gid))
	}
}

// String is the stage as the watchdog takes it.
func (s stage) String() string { return quoted(s) }

// mounts shows the process its folders under its runtime folder, which every
// user can reach.
func (p *running) mounts(s *stage, fn faas.Function, work string, who *owner) (in places, err error) {
	in = places{filepath.Join(p.dir, "work"), filepath.Join(p.dir, "tmp"), filepath.Join(p.dir, "secrets")}
	s.add("bind", work, in.home, "bind", p.tmp, in.tmp)
	if fn.Handler != "" {
		s.add("bind-ro", fn.Handler, filepath.Join(p.dir, "handler"))
	}
	if err := p.e.showSecrets(s, fn, in.secrets, who); err != nil {
		return in, err
	}
	if fn.ReadOnlyRootFilesystem && p.e.iso.seal {
		s.add("read-only", "writable", in.home, "writable", in.tmp)
	}
	s.add("proc", "chdir", in.home)
	return in, nil
}

// showSecrets puts a function's secrets into memory that is mounted for the process alone, here and at the usual place.
func (e *Engine) showSecrets(s *stage, fn faas.Function, dir string, who *owner) error {
	uid, gid := strconv.Itoa(who.uid), strconv.Itoa(who.gid)
	page := int64(os.Getpagesize())
	size := page // 0 would be no limit
	var files stage
	for _, secret := range secretsOf(fn) {
		path := e.secrets.path(secret)
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		size += (info.Size() + page - 1) / page * page
		files.add("secret", path, filepath.Join(dir, secret.Name), uid, gid)
	}
	s.add("tmpfs", dir, strconv.FormatInt(size, 10), uid, gid)
	s.add(files...)
	s.add("seal", dir)
	if len(files) > 0 && mountPoint(e.mounted) == nil {
		s.add("bind-ro", dir, e.mounted)
	}
	return nil
}

// secretsPlace is where OpenFaaS's functions look for their secrets.
const secretsPlace = "/var/openfaas/secrets"

// mountPoint makes the folder that secrets are shown at, once for all gateways
// of the machine, and checks that functions can get there. It is never removed: that
// would take the mounts on it from every process that sees one.
func mountPoint(path string) error {
	for _, dir := range []string{filepath.Dir(path), path} {
		err := os.Mkdir(dir, 0o755)
		if err == nil {
			err = os.Chmod(dir, 0o755) // whatever the umask
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		switch info, err := os.Stat(dir); {
		case err != nil:
			return err
		case !info.IsDir():
			return fmt.Errorf("%s is not a folder", dir)
		case info.Mode()&0o001 == 0:
			return fmt.Errorf("functions can't enter %s: allow it with chmod o+x", dir)
		}
	}
	return nil
}

// unmounted says which of a function's wishes for mounts don't hold on this machine, and why.
func (e *Engine) unmounted(fn faas.Function) (remarks []string) {
	why := e.iso.noMounts()
	if fn.ReadOnlyRootFilesystem && !e.iso.seal {
		reason := why
		if reason == "" {
			reason = "this machine's kernel can't make all mounts read-only"
		}
		remarks = append(remarks, "the root filesystem is not read-only: "+reason)
	}
	if len(fn.Secrets) == 0 {
		return remarks
	}
	if why == "" {
		if err := mountPoint(e.mounted); err != nil {
			why = err.Error()
		}
	}
	if why != "" {
		remarks = append(remarks, fmt.Sprintf("secrets are only in the folder that secret_mount_path names, not at %s: %s", e.mounted, why))
	}
	return remarks
}
