//go:build unix && !linux

package local

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// Control groups exist on Linux only.
type (
	cgroups struct{}
	cgroup  struct {
		join []string
		oom  *os.File
	}
)

func newCgroups(string, bool) *cgroups { return new(cgroups) }

func (*cgroups) lacks(string) string { return "only Linux can" }

func (*cgroups) create(string, limits) (*cgroup, error) { return nil, errors.ErrUnsupported }

func (*cgroups) sweep() int { return 0 }

func (*cgroups) end() {}

func (*cgroup) enter(*syscall.SysProcAttr) {}

func (*cgroup) kills() int { return 0 }

func (*cgroup) usage() (time.Duration, uint64, error) { return 0, 0, errors.ErrUnsupported }

func (*cgroup) remove() error { return nil }
