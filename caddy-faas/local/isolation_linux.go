package local

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// probe finds out what this machine allows by starting the watchdog with it,
// and says what was refused.
func probe(watchdog, run string, start func(*exec.Cmd) error) (isolation, error) {
	root := os.Geteuid() == 0
	ids, err := os.ReadFile("/proc/self/uid_map")
	// Root of a user namespace, as in a rootless container, may have few users to give away.
	if !root || err == nil && !mapped(ids, firstUID) {
		best := isolation{pid: true, user: !root}
		if err := try(best, exec.Command(watchdog, "-version"), start); err != nil {
			return isolation{}, err
		}
		return best, nil
	}
	var refused error
	for _, seal := range []stage{{"read-only", "writable", run}, nil} {
		steps := append(stage{"bind-ro", run, run, "tmpfs", run, "4096", "0", "0", "seal", run}, seal...)
		steps.add("proc", "chdir", "/")
		steps.user(&owner{firstUID, firstUID})
		best := isolation{drop: true, pid: true, mount: true, seal: seal != nil}
		// Staged, it asks for the health of a watchdog that isn't there: that fails, but not in the stage.
		err := try(best, exec.Command(watchdog, "-stage", steps.String(), "-run-healthcheck", "-socket", filepath.Join(run, "none")), start)
		if refused = errors.Join(refused, err); err == nil {
			return best, refused
		}
	}
	return isolation{drop: true}, refused
}

// try starts a command with as much isolation as this.
func try(iso isolation, cmd *exec.Cmd, start func(*exec.Cmd) error) error {
	var said bytes.Buffer
	cmd.Env = []string{}
	cmd.Stderr = &said
	cmd.SysProcAttr = iso.attributes()
	err := start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err == nil || iso.mount && said.Len() > 0 && !bytes.Contains(said.Bytes(), []byte("-stage")) {
		return nil
	}
	return fmt.Errorf("%w %s", err, bytes.TrimSpace(said.Bytes()))
}

// mapped tells whether a user ID exists in the user namespace of this uid_map.
func mapped(uidMap []byte, id int) bool {
	for line := range bytes.Lines(uidMap) {
		var inside, outside, count int
		if _, err := fmt.Sscan(string(line), &inside, &outside, &count); err == nil && inside <= id && id-inside < count {
			return true
		}
	}
	return false
}

// attributes are those of every process that the engine starts.
func (i isolation) attributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true}
	if i.pid {
		// Only here: without a namespace the watchdog must live long enough to kill what it started.
		attr.Pdeathsig = syscall.SIGKILL
		attr.Cloneflags |= syscall.CLONE_NEWPID
	}
	if i.mount {
		attr.Cloneflags |= syscall.CLONE_NEWNS
	}
	if i.user {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
	}
	return attr
}

// noNewPrivileges makes what the calling thread starts from now on unable to
// gain privileges from any program. Go never makes new threads from a locked one.
func noNewPrivileges() error {
	const setNoNewPrivs = 38 // PR_SET_NO_NEW_PRIVS
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, setNoNewPrivs, 1, 0, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// sockaddrUnix is how long the address of a unix socket may be, its final NUL included.
const sockaddrUnix = 108
