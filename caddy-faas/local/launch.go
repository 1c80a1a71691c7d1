package local

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/internal/meter"
)

// launch starts a function's process in a slot.
func (e *Engine) launch(f *function, rec record, slot int) (*running, error) {
	if err := check(rec.Function); err != nil { // a stack file's entry has not been checked before
		return nil, err
	}
	opt := e.options()
	l, err := limitsOf(rec.Function, opt.limits)
	if err != nil {
		return nil, err
	}
	folder := rec.Function.Handler
	line, err := resolve(rec.Function)
	if err == nil {
		err = e.absent(rec.Function)
	}
	if err != nil {
		return nil, err
	}
	p := e.newRunning(f)
	p.limits = l
	work := filepath.Join(e.dir, "work", f.id.String(), strconv.Itoa(rec.Version), strconv.Itoa(slot))
	who := opt.user
	if who == nil && e.iso.drop {
		who = &owner{rec.UID, rec.UID}
	}
	if err := e.folders(p, rec.Function, work, who); err != nil {
		p.clean()
		return nil, fmt.Errorf("making the replica's folders: %w", err)
	}
	if name, _, _ := faas.Word(process(rec.Function)); who != nil && !strings.Contains(name, "/") && filepath.Dir(line[0]) != folder {
		// Root's PATH may begin with folders of its own: the user looks further down PATH.
		if p.hint = closed(*who, line[0]); p.hint != "" {
			line[0] = name
		}
	}
	in := places{work, p.tmp, filepath.Join(p.dir, "secrets")}
	p.cmd = exec.Command(opt.watchdog)
	p.cmd.SysProcAttr = e.iso.attributes()
	steps, err := e.limit(p, who)
	if err != nil {
		p.clean()
		return nil, err
	}
	switch {
	case e.iso.mount:
		if in, err = p.mounts(&steps, rec.Function, work, who); err != nil {
			p.clean()
			return nil, err
		}
		p.mark = in.tmp
		steps.user(who)
		if folder != "" {
			for i := range line {
				line[i] = within(line[i], folder, filepath.Join(p.dir, "handler"))
			}
		}
	case who != nil && who.uid != os.Geteuid():
		p.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(who.uid), Gid: uint32(who.gid)}
		p.hint = cmp.Or(p.hint, closed(*who, work, line[0], opt.watchdog))
		fallthrough
	default:
		p.cmd.Dir = work
	}
	if len(steps) > 0 {
		p.cmd.Args = append(p.cmd.Args, "-stage", steps.String())
	}
	p.cmd.Args = append(p.cmd.Args, "-parent-fd", "3", "-listen-fd", "4")
	p.cmd.Env = environment(rec.Function, l, quoted(line), in)
	if err := e.start(p); err != nil {
		p.clean()
		return nil, fmt.Errorf("starting the watchdog: %w%s", err, p.hint)
	}
	return p, nil
}

// newRunning names a process and its places.
func (e *Engine) newRunning(f *function) *running {
	id := make([]byte, 8)
	rand.Read(id)
	p := &running{meter: meter.NewCPU(time.Now()), e: e, f: f, id: hex.EncodeToString(id), alone: e.iso.pid, spoke: make(chan struct{}, 1), fell: make(chan struct{}, 1), exited: make(chan struct{})}
	p.dir, p.tmp = filepath.Join(e.run, p.id), filepath.Join(e.dir, "tmp", p.id)
	p.socket, p.mark = filepath.Join(p.dir, "s"), p.tmp
	return p
}

// start gives the process its pipes and starts it.
func (e *Engine) start(p *running) error {
	alive, parent, err := os.Pipe()
	if err != nil {
		return err
	}
	defer alive.Close()
	socket, err := p.listen()
	if err != nil {
		parent.Close()
		return err
	}
	defer socket.Close() // once the process has ended nobody listens
	output, stdout, err := os.Pipe()
	if err != nil {
		parent.Close()
		return err
	}
	defer stdout.Close()
	p.parent, p.output = parent, output
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.ExtraFiles = stdout, stdout, []*os.File{alive, socket}
	if p.group != nil && p.group.oom != nil {
		p.cmd.Args = append(p.cmd.Args, "-oom-fd", "5", "-memory-limit", p.limits.memoryText)
		p.cmd.ExtraFiles = append(p.cmd.ExtraFiles, p.group.oom)
	}
	if err := e.spawn.start(p.cmd); err != nil {
		parent.Close()
		output.Close()
		return err
	}
	go p.watch()
	return nil
}

// limit subjects a process to its limits: as far as it can before the process
// starts, and by steps that the process carries out before it runs any code of
// the function and while it still may.
func (e *Engine) limit(p *running, who *owner) (steps stage, err error) {
	if runtime.GOOS != "linux" {
		return nil, nil
	}
	if n := p.limits.files; n > 0 {
		p.cmd.Args = append(p.cmd.Args, "-open-files", strconv.FormatInt(n, 10))
	}
	if p.limits.grouped() {
		if p.group, err = e.groups.create(p.id, p.limits); err != nil {
			return nil, fmt.Errorf("limiting the replica: %w", err)
		}
	}
	grouped := p.group != nil && e.groups.lacks(limitProcesses) == ""
	if p.group != nil {
		p.group.enter(p.cmd.SysProcAttr)
		for _, file := range p.group.join {
			steps.add("join", file)
		}
	}
	own := who != nil && who.uid != 0
	if n := p.limits.processes; n > 0 && !grouped && e.counts() && (own || p.limits.named[limitProcesses] != "") {
		steps.add("processes", strconv.FormatInt(min(max(n, minProcesses), mostProcesses), 10))
	}
	return steps, nil
}

// listen makes the process's socket. Its name is in a folder that the function
// can't write to, whoever the function is: the gateway, which may be root,
// follows whatever is at that name.
func (p *running) listen() (*os.File, error) {
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: p.socket, Net: "unix"})
	if err != nil {
		return nil, err
	}
	defer ln.Close()
	ln.SetUnlinkOnClose(false)
	// Until the folder is opened nobody else can reach the socket, whatever the umask.
	err = errors.Join(os.Chmod(p.socket, 0o600), os.Chmod(p.dir, 0o711))
	if err != nil {
		return nil, err
	}
	return ln.File()
}

// folders makes what the process needs to be there, and its own.
func (e *Engine) folders(p *running, fn faas.Function, work string, who *owner) error {
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
	switch {
	case err != nil:
	case e.iso.mount:
		for _, name := range []string{"handler", "work", "tmp", "secrets"} {
			err = errors.Join(err, os.Mkdir(filepath.Join(p.dir, name), 0o755))
		}
	default:
		err = e.copySecrets(fn, filepath.Join(p.dir, "secrets"), who)
	}
	if err == nil && who != nil {
		err = errors.Join(os.Chown(p.tmp, who.uid, who.gid), own(work, *who))
	}
	return err
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
	secrets := filepath.Join(dir, "secrets")
	if info, err := os.Lstat(secrets); err == nil && info.IsDir() {
		os.Chmod(secrets, 0o700) // only root could empty it as it is
	}
	return os.RemoveAll(dir)
}
