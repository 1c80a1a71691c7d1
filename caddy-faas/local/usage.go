package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

var _ faas.Meter = (*Engine)(nil)

// Usage is that of all replicas together: of their control groups, or else of
// their processes, which count memory that they share several times. CPU is
// averaged over the time since it was last asked for, at first since the start.
func (e *Engine) Usage(ctx context.Context, id faas.ID) (faas.Usage, error) {
	f := e.find(id)
	if f == nil {
		return faas.Usage{}, fmt.Errorf("usage of %s: %w", id, faas.ErrNotFound)
	}
	if err := ctx.Err(); err != nil {
		return faas.Usage{}, err
	}
	var sum faas.Usage
	var table processTable // read once, if at all
	for _, p := range f.processes() {
		cpu, memory, ok := p.consumed(&table)
		if !ok {
			continue
		}
		sum.CPU += p.meter.Average(time.Now(), cpu)
		sum.Memory += float64(memory)
	}
	return sum, nil
}

// processes are the watchdogs that run.
func (f *function) processes() (all []*running) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.replicas {
		if r.process != nil {
			all = append(all, r.process)
		}
	}
	return all
}

// consumed is what the process and all that it started have used so far of the CPU, and use of memory.
func (p *running) consumed(table *processTable) (cpu time.Duration, memory uint64, ok bool) {
	if p.group != nil {
		if cpu, memory, err := p.group.usage(); err == nil {
			return cpu, memory, true
		}
	}
	if *table == nil {
		*table = readProcesses()
	}
	self := p.cmd.Process.Pid
	for pid, one := range *table {
		if table.descends(pid, self) {
			cpu += one.cpu
			memory += one.memory
		}
	}
	return cpu, memory, len(*table) > 0
}

// A processTable is what /proc knows; empty where there is none.
type processTable map[int]processStat

type processStat struct {
	parent int
	cpu    time.Duration // its own and that of the children it has waited for
	memory uint64        // resident
}

func readProcesses() processTable {
	table := processTable{}
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			if one, ok := parseStat(string(data)); ok {
				table[pid] = one
			}
		}
	}
	return table
}

// parseStat reads /proc/PID/stat, where the second field, the program's name, may hold anything.
func parseStat(text string) (one processStat, ok bool) {
	const tick = time.Second / 100
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 22 {
		return one, false
	}
	number := func(field int) int64 { // as proc(5) counts, from 1
		n, _ := strconv.ParseInt(fields[field-3], 10, 64)
		return n
	}
	one.parent = int(number(4))
	one.cpu = time.Duration(number(14)+number(15)+number(16)+number(17)) * tick
	one.memory = uint64(number(24)) * uint64(os.Getpagesize())
	return one, true
}

// descends tells whether a process is another one, or was started by it or by one that was.
func (t processTable) descends(pid, ancestor int) bool {
	for range 1000 { // a table read while processes come and go may have circles
		if pid == ancestor {
			return true
		}
		one, known := t[pid]
		if !known {
			return false
		}
		pid = one.parent
	}
	return false
}
