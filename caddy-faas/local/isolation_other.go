//go:build unix && !linux

package local

import (
	"os"
	"os/exec"
	"syscall"
)

// probe: no namespaces here.
func probe(string, string, func(*exec.Cmd) error) (isolation, error) {
	return isolation{drop: os.Geteuid() == 0}, nil
}

func (isolation) attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// noNewPrivileges: there is no such thing here.
func noNewPrivileges() error { return nil }

// sweep has no way to know stray processes here.
func sweep(...string) int { return 0 }

func sweepUsers(map[int]bool) int { return 0 }

// sockaddrUnix is how long the address of a unix socket may be, its final NUL included.
const sockaddrUnix = 104
