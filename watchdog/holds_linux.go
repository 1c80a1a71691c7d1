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
	all := processes()
	family := map[int]bool{p.pid: true}
	for pid, its := range all {
		if its.group == p.pid {
			family[pid] = true
		}
	}
	descend(family, all)
	return family
}
