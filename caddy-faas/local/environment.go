package local

import (
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// environment is everything that a watchdog is started with.
func environment(fn faas.Function, command, home, tmp string) []string {
	env := map[string]string{"PATH": os.Getenv("PATH"), "healthcheck_interval": "1s"}
	for name, value := range fn.Env {
		env[name] = value
	}
	// Not to be declared otherwise: what a dead gateway left behind is known by these.
	env["HOME"], env["TMPDIR"] = home, tmp
	env["fprocess"] = command
	if timeout, ok := declaredTimeout(fn); ok {
		env["exec_timeout"] = timeout.String()
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

// declaredTimeout is what the label or annotation faas.timeout says.
func declaredTimeout(fn faas.Function) (time.Duration, bool) {
	if d, ok := duration(fn.Labels[faas.LabelTimeout]); ok {
		return d, d > 0
	}
	d, ok := duration(fn.Annotations[faas.LabelTimeout])
	return d, ok && d > 0
}

// patience is how long a replica may take to end after SIGTERM: its lame duck,
// its longest execution, and what the watchdog allows on top.
func patience(fn faas.Function) time.Duration {
	const unlimited = 10 * time.Minute // in place of no limit
	run, ok := declaredTimeout(fn)
	for _, name := range []string{"exec_timeout", "write_timeout"} {
		if !ok {
			run, ok = duration(fn.Env[name])
		}
	}
	switch {
	case !ok:
		run = 30 * time.Second
	case run == 0:
		run = unlimited
	}
	lame, ok := duration(fn.Env["healthcheck_interval"])
	if !ok {
		lame = time.Second
	}
	return lame + run + 12*time.Second
}

// duration reads a Go duration or whole seconds, not negative, as the watchdog does.
func duration(s string) (time.Duration, bool) {
	if d, err := time.ParseDuration(s); err == nil {
		return d, d >= 0
	}
	n, err := strconv.ParseInt(s, 10, 32)
	return time.Duration(n) * time.Second, err == nil && n >= 0
}
