package local

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

var _ faas.NodeLister = (*Engine)(nil)

// Nodes is this machine. Nothing is reserved on it.
func (e *Engine) Nodes(ctx context.Context) ([]faas.Node, error) {
	name, err := os.Hostname()
	if err != nil {
		name = "localhost"
	}
	n := faas.Node{
		ID: name, Name: name, State: faas.NodeReady, Availability: faas.NodeActive, CPU: 1000 * int64(runtime.NumCPU()), Memory: totalMemory(),
	}
	for _, f := range e.all() {
		n.Replicas += len(f.processes())
	}
	return []faas.Node{n}, ctx.Err()
}

// totalMemory is the machine's, in bytes; 0 where the system doesn't tell it this way.
func totalMemory() int64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "MemTotal: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	return 0
}
