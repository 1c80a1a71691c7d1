package local

import (
	"os"
	"runtime"
)

// isolation is what this machine allows between a function and the rest.
type isolation struct {
	drop  bool // functions run as another user
	pid   bool // a PID namespace each
	mount bool // a mount namespace each
	seal  bool // and in it everything can be made read-only
	user  bool // the PID namespace is in a user namespace
}

// noMounts says why a function has no mounts of its own; "" if it has.
func (i isolation) noMounts() string {
	switch {
	case i.mount:
		return ""
	case runtime.GOOS != "linux":
		return "only Linux can"
	case os.Geteuid() != 0:
		return "only root can"
	}
	return "this machine does not allow Caddy to make private mounts"
}

// String is for the log.
func (i isolation) String() string {
	switch {
	case i.mount:
		return "PID and mount namespaces, a user per function"
	case i.drop:
		return "a user per function, no namespaces"
	case i.user:
		return "user and PID namespaces"
	case i.pid:
		return "PID namespaces"
	}
	return "process groups"
}
