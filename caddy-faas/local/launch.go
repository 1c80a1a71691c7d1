package local

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
)

// A stage tells the watchdog how to arrange its namespaces before it begins; the names are the watchdog's.
type stage struct {
	Mounts []mount `json:"mounts,omitempty"`
	Proc   bool    `json:"proc,omitempty"`
	Dir    string  `json:"dir"`
	UID    int     `json:"uid"`
	GID    int     `json:"gid"`
}

type mount struct {
	Source   string `json:"source"`
	Target   string `json:"target"`
	ReadOnly bool   `json:"read_only,omitempty"`
}

// launch starts a function's process in a slot.
func (e *Engine) launch(f *function, rec record, slot int) (*running, error) {
	opt := e.options()
	if process(rec.Function) == "" {
		return nil, errors.New("no fprocess: the local provider runs commands, not images")
	}
	word, rest, err := firstWord(process(rec.Function))
	if err != nil {
		return nil, fmt.Errorf("fprocess: %w", err)
	}
	folder := rec.Function.Handler
	if folder != "" {
		if info, err := os.Stat(folder); err != nil {
			return nil, fmt.Errorf("handler: %w", err)
		} else if !info.IsDir() {
			return nil, fmt.Errorf("handler %s is not a folder", folder)
		}
	}
	program, err := find(word, folder)
	if err != nil {
		return nil, err
	}
	id := make([]byte, 8)
	rand.Read(id)
	p := &running{e: e, f: f, id: hex.EncodeToString(id), alone: e.iso.pid, spoke: make(chan struct{}, 1), exited: make(chan struct{})}
	p.dir, p.tmp = filepath.Join(e.run, p.id), filepath.Join(e.dir, "tmp", p.id)
	p.socket = filepath.Join(p.dir, "s")
	work := filepath.Join(e.dir, "work", f.id.String(), strconv.Itoa(rec.Version), strconv.Itoa(slot))
	who := opt.user
	if who == nil && e.iso.drop {
		who = &owner{rec.UID, rec.UID}
	}
	if err := e.folders(p, work, who); err != nil {
		p.clean()
		return nil, fmt.Errorf("making the replica's folders: %w", err)
	}

	home, tmp := work, p.tmp
	p.cmd = exec.Command(opt.watchdog)
	p.cmd.Dir, p.cmd.SysProcAttr = work, e.iso.attributes()
	switch {
	case e.iso.mount:
		var plan stage
		plan, home, tmp = e.plan(p, folder, work, who)
		text, err := json.Marshal(plan)
		if err != nil {
			p.clean()
			return nil, err
		}
		p.cmd.Args = append(p.cmd.Args, "-stage", string(text))
		p.cmd.Dir = "/"
		if folder != "" {
			program = within(program, folder, filepath.Join(p.dir, "handler"))
		}
	case who != nil:
		p.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(who.uid), Gid: uint32(who.gid)}
		p.hint = closed(*who, work, program, opt.watchdog)
	}
	p.mark = tmp
	p.cmd.Args = append(p.cmd.Args, "-socket", p.socket, "-parent-fd", "3")
	p.cmd.Env = environment(rec.Function, quoted(program)+rest, home, tmp)
	if err := e.start(p); err != nil {
		p.clean()
		return nil, fmt.Errorf("starting the watchdog: %w%s", err, p.hint)
	}
	return p, nil
}

// start gives the process its pipes and starts it.
func (e *Engine) start(p *running) error {
	alive, parent, err := os.Pipe()
	if err != nil {
		return err
	}
	defer alive.Close()
	output, stdout, err := os.Pipe()
	if err != nil {
		parent.Close()
		return err
	}
	defer stdout.Close()
	p.parent, p.output = parent, output
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.ExtraFiles = stdout, stdout, []*os.File{alive}
	if err := e.spawn.start(p.cmd); err != nil {
		parent.Close()
		output.Close()
		return err
	}
	go p.watch()
	return nil
}

// folders makes what the process needs to be there, and its own.
func (e *Engine) folders(p *running, work string, who *owner) error {
	if err := os.MkdirAll(filepath.Dir(work), 0o711); err != nil {
		return err
	}
	if err := os.Mkdir(work, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	err := os.Mkdir(p.dir, 0o700)
	if err == nil {
		err = os.Mkdir(p.tmp, 0o700)
	}
	if err == nil && e.iso.mount {
		for _, name := range []string{"handler", "work", "tmp"} {
			err = errors.Join(err, os.Mkdir(filepath.Join(p.dir, name), 0o755))
		}
	}
	if err == nil && who != nil {
		err = errors.Join(os.Chown(p.dir, who.uid, who.gid), os.Chown(p.tmp, who.uid, who.gid), own(work, *who))
	}
	return err
}

// plan shows the process its folders under its runtime folder, which every user can reach.
func (e *Engine) plan(p *running, folder, work string, who *owner) (plan stage, home, tmp string) {
	home, tmp = filepath.Join(p.dir, "work"), filepath.Join(p.dir, "tmp")
	plan = stage{Proc: true, Dir: home, Mounts: []mount{{Source: work, Target: home}, {Source: p.tmp, Target: tmp}}}
	if folder != "" {
		plan.Mounts = append(plan.Mounts, mount{Source: folder, Target: filepath.Join(p.dir, "handler"), ReadOnly: true})
	}
	if who != nil {
		plan.UID, plan.GID = who.uid, who.gid
	}
	return plan, home, tmp
}

// removeRuntime removes RUN/REPLICA. Folders that are mounted into the process
// must be empty here: should one ever not be, it is left alone rather than
// emptied, since it is the function's source.
func removeRuntime(dir string) error {
	for _, name := range []string{"handler", "work", "tmp"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return os.RemoveAll(dir)
}

// own gives a working directory to a user, with everything in it if it was another's.
// The walk can't be led out of the folder by links.
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
	err = fs.WalkDir(root.FS(), ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err
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

// A spawner starts processes from one thread that lives until the engine
// ends: the kernel's signal at the parent's death is at the death of the
// thread that started the process.
type spawner struct {
	jobs       chan func()
	quit, done chan struct{}
}

func newSpawner() spawner {
	s := spawner{jobs: make(chan func()), quit: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		for {
			select {
			case job := <-s.jobs:
				job()
			case <-s.quit:
				return
			}
		}
	}()
	return s
}

func (s spawner) start(cmd *exec.Cmd) error { return s.do(cmd.Start) }

// do runs something on that thread.
func (s spawner) do(job func() error) error {
	result := make(chan error, 1)
	select {
	case s.jobs <- func() { result <- job() }:
		return <-result
	case <-s.done:
		return errClosed
	}
}

func (s spawner) end() {
	close(s.quit)
	<-s.done
}
