package local

import (
	"bytes"
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
	best, least := isolation{pid: true, user: !root}, isolation{}
	cmd := exec.Command(watchdog, "-version")
	ids, err := os.ReadFile("/proc/self/uid_map")
	// Root of a user namespace, as in a rootless container, may have few users to give away.
	if root && (err != nil || mapped(ids, firstUID)) {
		best, least = isolation{drop: true, pid: true, mount: true}, isolation{drop: true}
		plan := stage{Mounts: []mount{{Source: run, Target: run, ReadOnly: true}}, Proc: true, Dir: "/", UID: firstUID, GID: firstUID}
		// Staged, it asks for the health of a watchdog that isn't there: that fails, but not in the stage.
		cmd = exec.Command(watchdog, "-stage", plan.String(), "-run-healthcheck", "-socket", filepath.Join(run, "none"))
	}
	var said bytes.Buffer
	cmd.Env = []string{}
	cmd.Stderr = &said
	cmd.SysProcAttr = best.attributes()
	err = start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if best.mount && said.Len() > 0 && !bytes.Contains(said.Bytes(), []byte("-stage")) {
		err = nil
	}
	if err != nil {
		return least, fmt.Errorf("%w %s", err, bytes.TrimSpace(said.Bytes()))
	}
	return best, nil
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
