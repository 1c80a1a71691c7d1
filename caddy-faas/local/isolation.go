package local

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
	case i.user:
		return "user and PID namespaces"
	case i.pid:
		return "PID namespaces"
	}
	return "process groups"
}
