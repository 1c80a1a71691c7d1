package local

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
)

// isolation is what this machine allows between a function and the rest.
type isolation struct {
	drop  bool // functions run as another user
	pid   bool // a PID namespace each
	mount bool // a mount namespace each
	user  bool // the PID namespace is in a user namespace
}

// String is for the log.
func (i isolation) String() string {
	switch {
	case i.mount:
		return "PID and mount namespaces, a user per function"
	case i.drop:
		return "a user per function, no namespaces"
	case i.pid:
		return "user and PID namespaces"
	}
	return "process groups"
}

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
