package main

import (
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// holds says whether the process or a descendant of it is what listens on the target. Where that can't be seen it says yes: the target
// may be another machine's, or the process another user's.
func (p *process) holds(target *url.URL) bool {
	sockets := listeningOn(target)
	if len(sockets) == 0 {
		return true
	}
	for pid := range p.family() {
		dir := "/proc/" + strconv.Itoa(pid) + "/fd"
		fds, err := os.ReadDir(dir)
		if os.IsPermission(err) {
			return true
		}
		for _, fd := range fds {
			if link, err := os.Readlink(filepath.Join(dir, fd.Name())); err == nil && sockets[link] {
				return true
			}
		}
	}
	return false
}

// listeningOn returns what links in /proc/PID/fd to the sockets that listen on the target's port, or at its path, look like.
func listeningOn(target *url.URL) map[string]bool {
	sockets := map[string]bool{}
	each := func(file string, least int, inode func(fields []string) string) {
		text, _ := os.ReadFile(file)
		for line := range strings.Lines(string(text)) {
			if fields := strings.Fields(line); len(fields) >= least {
				if n := inode(fields); n != "" {
					sockets["socket:["+n+"]"] = true
				}
			}
		}
	}
	if target.Scheme == "unix" {
		each("/proc/net/unix", 8, func(f []string) string {
			const accepting = "00010000"
			if f[3] == accepting && f[7] == target.Path {
				return f[6]
			}
			return ""
		})
		return sockets
	}
	port, err := strconv.ParseUint(target.Port(), 10, 16)
	if err != nil {
		port = 80
	}
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		each(file, 10, func(f []string) string {
			const listen = "0A"
			_, hex, _ := strings.Cut(f[1], ":")
			if n, err := strconv.ParseUint(hex, 16, 16); err == nil && n == port && f[3] == listen {
				return f[9]
			}
			return ""
		})
	}
	return sockets
}

// family are the process, those of its group, and the descendants of all of these.
func (p *process) family() map[int]bool {
	parents := map[int]int{}
	family := map[int]bool{p.pid: true}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		stat, _ := os.ReadFile(name)
		// The name, in parentheses, may contain anything. After it: state, parent, group.
		f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil || len(f) < 3 {
			continue
		}
		parents[pid], _ = strconv.Atoi(f[1])
		if f[2] == strconv.Itoa(p.pid) {
			family[pid] = true
		}
	}
	for grown := true; grown; {
		grown = false
		for pid, parent := range parents {
			if family[parent] && !family[pid] {
				family[pid], grown = true, true
			}
		}
	}
	return family
}
