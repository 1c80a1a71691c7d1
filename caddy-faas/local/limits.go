package local

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// Limits are those of functions that name none themselves. A quantity is a
// number of bytes or cores as in Kubernetes: 128Mi, 0.5, 500m.
type Limits struct {
	// Memory is a quantity of bytes, for each replica. Default: no limit.
	Memory string `json:"memory,omitempty"`
	// CPU is a quantity of cores, for each replica. Default: no limit.
	CPU string `json:"cpu,omitempty"`
	// OpenFiles is how many files a process may have open. Default: 4096.
	OpenFiles int64 `json:"open_files,omitempty"`
	// Processes is how many processes and threads a replica may have. Default: 4096.
	// Without a limit of memory or CPU, a function's replicas have them together.
	Processes int64 `json:"processes,omitempty"`
	// Request is the largest body of a request, as a quantity of bytes. Default: no limit.
	Request string `json:"request,omitempty"`
	// Response is the largest body of an answer, as a quantity of bytes. Default: no limit.
	Response string `json:"response,omitempty"`
}

const (
	defaultFiles, defaultProcesses = 4096, 4096

	// minMemory is what a memory limit is raised to, because the watchdog needs a part of it.
	minMemory = 16 << 20
	// minCPU is the least that the kernel's scheduler takes, in thousandths of a core.
	minCPU = 10
	// minProcesses is what a limit of processes is raised to: the watchdog's own threads count.
	minProcesses = 32
	// mostProcesses is the most that the kernel can number.
	mostProcesses = 4 << 20
)

// limits bound one replica; 0 is no limit.
type limits struct {
	memory, cpu       int64  // bytes; thousandths of a core
	memoryText        string // as its author wrote it
	processes, files  int64
	request, response int64 // bytes of a body

	named map[string]string // those that somebody asked for, and how
	apart bool              // the function itself names processes: worth a control group for each replica
}

// grouped tells whether they take a control group.
func (l limits) grouped() bool { return l.memory > 0 || l.cpu > 0 || l.apart && l.processes > 0 }

// The names of limits, beside faas.Memory and faas.CPU, as the configuration has them.
const limitProcesses, limitFiles, limitRequest, limitResponse = "processes", "open_files", "request", "response"

// parse reads the configuration.
func (c Limits) parse() (limits, error) {
	if c.OpenFiles < 0 || c.Processes < 0 {
		return limits{}, fmt.Errorf("open_files %d, processes %d: want numbers from 1", c.OpenFiles, c.Processes)
	}
	asked := map[string]string{faas.Memory: c.Memory, faas.CPU: c.CPU, limitRequest: c.Request, limitResponse: c.Response}
	if c.OpenFiles > 0 {
		asked[limitFiles] = fmt.Sprint(c.OpenFiles)
	}
	if c.Processes > 0 {
		asked[limitProcesses] = fmt.Sprint(c.Processes)
	}
	l := limits{files: defaultFiles, processes: defaultProcesses, named: map[string]string{}}
	for name, text := range asked {
		if err := l.set(name, text); err != nil {
			return l, err
		}
	}
	return l, nil
}

// unmarshal reads the block that begins here in a Caddyfile.
func (c *Limits) unmarshal(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.ArgErr()
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		var value string
		if !d.AllArgs(&value) {
			return d.ArgErr()
		}
		texts := map[string]*string{faas.Memory: &c.Memory, faas.CPU: &c.CPU, limitRequest: &c.Request, limitResponse: &c.Response}
		numbers := map[string]*int64{limitFiles: &c.OpenFiles, limitProcesses: &c.Processes}
		if text := texts[name]; text != nil {
			*text = value
		} else if number := numbers[name]; number != nil {
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil || n < 1 {
				return d.Errf("%s %q: want a number from 1", name, value)
			}
			*number = n
		} else {
			return d.Errf("unknown limit %q: want memory, cpu, open_files, processes, request or response", name)
		}
	}
	if _, err := c.parse(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

// set reads one limit; "" leaves it as it is.
func (l *limits) set(name, text string) error {
	if text == "" {
		return nil
	}
	inOne := int64(1)
	if name == faas.CPU {
		inOne = 1000
	}
	n, err := faas.ParseQuantity(text, inOne)
	if err == nil && name == faas.Memory && n > 0 && n < 1<<20 {
		err = fmt.Errorf("%q is less than 1Mi: want a number of bytes such as 134217728 or 128Mi", text)
	}
	if err != nil {
		return fmt.Errorf("limit of %s: %w", name, err)
	}
	switch name {
	case faas.Memory:
		l.memory, l.memoryText = n, text
	case faas.CPU:
		l.cpu = n
	case limitProcesses:
		l.processes = n
	case limitFiles:
		l.files = n
	case limitRequest:
		l.request = n
	case limitResponse:
		l.response = n
	}
	l.named[name] = text
	if n == 0 { // no limit
		delete(l.named, name)
	}
	return nil
}

// limitsOf are a function's own limits, where it names any. Labels that mean
// nothing count as absent, resources do not.
func limitsOf(fn faas.Function, byDefault limits) (limits, error) {
	l := byDefault
	l.named = maps.Clone(byDefault.named)
	if l.named == nil {
		l.named = map[string]string{}
	}
	for name, label := range map[string]string{
		limitFiles: faas.LabelOpenFiles, limitProcesses: faas.LabelProcesses, limitRequest: faas.LabelRequest, limitResponse: faas.LabelResponse,
	} {
		text := fn.Labels[label]
		if err := l.set(name, text); text == "" || err != nil {
			text = fn.Annotations[label]
			if l.set(name, text) != nil {
				text = ""
			}
		}
		l.apart = l.apart || name == limitProcesses && text != ""
	}
	for _, name := range []string{faas.Memory, faas.CPU} {
		if err := l.set(name, fn.Limits[name]); err != nil {
			return l, err
		}
	}
	return l, nil
}

// unmet says which limits of a function don't hold on this machine, and why.
func (e *Engine) unmet(fn faas.Function) (remarks []string) {
	l, err := limitsOf(fn, e.options().limits)
	if err != nil {
		return nil // it doesn't start, and says so
	}
	not := func(name, value, why string) {
		remarks = append(remarks, fmt.Sprintf("the limit of %s %s is not enforced: %s", value, name, why))
	}
	for _, name := range []string{faas.Memory, faas.CPU} {
		if l.named[name] == "" {
			continue
		}
		if why := e.groups.lacks(name); why != "" {
			not(name, l.named[name], why)
		}
	}
	if text := l.named[limitProcesses]; text != "" && !e.counts() {
		if why := e.groups.lacks(limitProcesses); why != "" {
			not(limitProcesses, text, why)
		}
	}
	if text := l.named[limitFiles]; text != "" && runtime.GOOS != "linux" {
		not("open files", text, "only Linux can")
	}
	for _, name := range slices.Sorted(maps.Keys(fn.Limits)) {
		if name != faas.Memory && name != faas.CPU {
			not(name, fn.Limits[name], "this machine doesn't know that resource")
		}
	}
	return remarks
}

// counts tells whether the kernel counts a function's processes apart from
// those of others without a control group: RLIMIT_NPROC goes by users.
func (e *Engine) counts() bool {
	return e.iso.user || e.iso.drop && e.options().user == nil && runtime.GOOS == "linux"
}
