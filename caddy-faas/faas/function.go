package faas

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// DefaultNamespace is the namespace of a function named without one. It is
// OpenFaaS's, because faas-cli always invokes NAME.openfaas-fn.
const DefaultNamespace = "openfaas-fn"

// ID names a function: its name and its namespace.
type ID struct {
	Name, Namespace string
}

// ParseID reads NAME or NAME.NAMESPACE as they stand in a URL or a header; the
// part after the last dot is the namespace. It does not judge the name:
// whether there is such a function is for a look-up to say.
func ParseID(s string) ID {
	if i := strings.LastIndexByte(s, '.'); i >= 0 {
		return ID{Name: s[:i], Namespace: s[i+1:]}
	}
	return ID{Name: s, Namespace: DefaultNamespace}
}

// String is NAME.NAMESPACE, the form that metrics and logs use.
func (i ID) String() string { return i.Name + "." + i.Namespace }

// nameForm allows what OpenFaaS routes, less the dot (which parts name and
// namespace), and upper case, because an Alexa intent is a function's name.
var nameForm = regexp.MustCompile(`^[a-zA-Z0-9]([-_a-zA-Z0-9]{0,61}[a-zA-Z0-9])?$`)

// Validate reports a name or namespace that no function can have.
func (i ID) Validate() error {
	if !nameForm.MatchString(i.Name) {
		return fmt.Errorf("function name %q: want 1 to 63 letters, digits, - or _, with a letter or digit at both ends", i.Name)
	}
	if !nameForm.MatchString(i.Namespace) {
		return fmt.Errorf("namespace %q: want 1 to 63 letters, digits, - or _, with a letter or digit at both ends", i.Namespace)
	}
	return nil
}

// A Function is what its author asked for, verbatim. Values are kept as they
// were written ("5Mi", "100m"), so that answers can echo them.
type Function struct {
	ID
	// Image is a container image. The local provider runs none.
	Image string
	// Handler is the folder of the function's code on this machine; local provider only.
	Handler string
	// Process is the command, split with shell quoting but run without a shell (OpenFaaS: fprocess). Default: the image's own.
	Process string
	// Env is the declared environment.
	Env map[string]string
	// Labels and Annotations are OpenFaaS's com.openfaas.* and our faas.*.
	Labels, Annotations map[string]string
	// Secrets are names; their values never pass through here.
	Secrets []string
	// Constraints are placement constraints of the engine.
	Constraints []string
	// Limits and Requests are nil when not given.
	Limits, Requests Resources
	// ReadOnlyRootFilesystem asks for a root filesystem that the function can't write.
	ReadOnlyRootFilesystem bool
}

// Command is the command line, by whichever of its two names it was given; "" for the image's own.
func (f *Function) Command() string {
	if f.Process != "" {
		return f.Process
	}
	return f.Env["fprocess"]
}

// Resources are amounts in Kubernetes notation ("128Mi", "500m"), by the
// resource's name: [Memory], [CPU], or one that the engine knows ("nvidia.com/gpu").
type Resources map[string]string

// The resources that every engine knows.
const (
	Memory = "memory"
	CPU    = "cpu"
)

// A Deployment is a function as the engine has it now.
type Deployment struct {
	Function
	// Created is when the function was first deployed.
	Created time.Time
	// Desired is how many replicas there should be.
	Desired int
	// Replicas are those that exist, ready or not.
	Replicas []Replica
	// Lost are IDs of replicas, some of which may no longer be among Replicas, which have gone without a word, as with their
	// machine: what they were doing will never be answered.
	Lost []string
	// Rolling is set while replicas of an earlier definition serve on.
	Rolling bool
	// Failing is set when the last starts failed and the engine waits before the next one.
	Failing bool
	// Pending is for how many replicas, of those that there should be, the engine has found no place.
	Pending int
	// Reason says why there are fewer ready replicas than desired, or what else ails the
	// function, in the engine's words; empty when all is well.
	Reason string
	// Remarks say what of the definition has no effect here. The function runs all the same.
	Remarks []string
	// Job is how the last run of a job stands; nil if requests reach the function. A job has no replicas.
	Job *Job
}

// Ails is the reason and the remarks; empty when there are none.
func (d *Deployment) Ails() string {
	if d.Reason == "" {
		return strings.Join(d.Remarks, "; ")
	}
	return strings.Join(append([]string{d.Reason}, d.Remarks...), "; ")
}

// A Replica is one running copy of a function.
type Replica struct {
	// ID is unique among all replicas that ever were: a restart gets a new one.
	ID string
	// Slot is the replica's place among its siblings, from 1; a restart keeps it.
	Slot int
	// Addr is where to dial, as Caddy writes addresses: "10.0.1.5:8080" or "unix//run/faas/x.sock".
	Addr string
	// Ready means that requests may be sent. A draining replica isn't ready.
	Ready bool
}
