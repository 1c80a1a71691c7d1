package local

import (
	"os"
	"os/exec"
	"syscall"
)

// probe finds out what this machine allows by starting the watchdog with it.
func probe(watchdog string, start func(*exec.Cmd) error) isolation {
	best := isolation{pid: true, user: true}
	least := isolation{}
	if os.Geteuid() == 0 {
		best, least = isolation{drop: true, pid: true, mount: true}, isolation{drop: true}
	}
	args := []string{"-version"}
	if best.mount {
		args = []string{"-stage", `{"proc":true,"dir":"/","uid":1900000000,"gid":1900000000}`, "-version"}
	}
	cmd := exec.Command(watchdog, args...)
	cmd.Env = []string{}
	cmd.SysProcAttr = best.attributes()
	if start(cmd) == nil && cmd.Wait() == nil {
		return best
	}
	return least
}

// attributes are those of every process that the engine starts.
func (i isolation) attributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if i.pid {
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

// sockaddrUnix is how long the address of a unix socket may be, its final NUL included.
const sockaddrUnix = 108
