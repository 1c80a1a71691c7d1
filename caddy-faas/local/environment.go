package local

import (
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// places are folders of a process, as it sees them.
type places struct{ home, tmp, secrets string }

// environment is everything that a watchdog is started with.
func environment(fn faas.Function, l limits, command string, in places) []string {
	env := map[string]string{"PATH": os.Getenv("PATH"), "healthcheck_interval": "1s"}
	for name, value := range fn.Env {
		env[name] = value
	}
	// Not to be declared otherwise: what a dead gateway left behind is known by these.
	env["HOME"], env["TMPDIR"] = in.home, in.tmp
	env["secret_mount_path"] = in.secrets // on another machine they may have been elsewhere
	env["fprocess"] = command
	if timeout := fn.Timeout(); timeout > 0 {
		env["exec_timeout"] = timeout.String()
	}
	for name, n := range map[string]int64{"max_request": l.request, "max_response": l.response} {
		if _, declared := fn.Env[name]; n > 0 && !declared {
			env[name] = strconv.FormatInt(n, 10)
		}
	}
	var list []string
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	return list
}

func validEnv(name, value string) bool {
	return name != "" && !strings.ContainsAny(name, "=\x00") && !strings.Contains(value, "\x00")
}

// patience is how long a replica may take to end after SIGTERM: its lame duck,
// its longest execution, and what the watchdog allows on top.
func patience(fn faas.Function) time.Duration {
	const unlimited = 10 * time.Minute // in place of no limit
	run := fn.Timeout()
	ok := run > 0
	for _, name := range []string{"exec_timeout", "write_timeout"} {
		if !ok {
			run, ok = faas.ParseDuration(fn.Env[name])
		}
	}
	switch {
	case !ok:
		run = 30 * time.Second
	case run == 0:
		run = unlimited
	}
	lame, ok := faas.ParseDuration(fn.Env["healthcheck_interval"])
	if !ok {
		lame = time.Second
	}
	return lame + run + 12*time.Second
}
