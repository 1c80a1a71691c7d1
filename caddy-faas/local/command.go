package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// process is the function's command line.
func process(fn faas.Function) string {
	if fn.Process != "" {
		return fn.Process
	}
	return fn.Env["fprocess"]
}

// blank is what separates words.
const blank = " \t\r\n"

// firstWord cuts the command's name off a command line; rest is verbatim.
func firstWord(line string) (name, rest string, err error) {
	name, rest, err = word(line)
	if err == nil && name == "" {
		err = errors.New("it names no command")
	}
	return name, rest, err
}

// word cuts one word off a command line, as the watchdog would: shell quoting, no shell.
func word(line string) (text, rest string, err error) {
	line = strings.TrimLeft(line, blank)
	var b strings.Builder
	quote, escaped := byte(0), false
	i := 0
scan:
	for ; i < len(line); i++ {
		c := line[i]
		switch {
		case c == 0:
			return "", "", errors.New("it contains a NUL byte")
		case escaped:
			escaped = false
			if quote == '"' && strings.IndexByte("\"\\$`\n", c) < 0 {
				b.WriteByte('\\')
			}
			if c != '\n' {
				b.WriteByte(c)
			}
		case c == '\\' && quote != '\'':
			escaped = true
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			b.WriteByte(c)
		case c == '\'' || c == '"':
			quote = c
		case strings.IndexByte(blank, c) >= 0:
			break scan
		default:
			b.WriteByte(c)
		}
	}
	switch {
	case quote != 0:
		return "", "", errors.New("a quote is not closed")
	case escaped:
		return "", "", errors.New("a backslash is the last character")
	}
	return b.String(), line[i:], nil
}

// readable reports a command line that the watchdog couldn't read.
func readable(line string) error {
	_, rest, err := firstWord(line)
	for err == nil && strings.TrimLeft(rest, blank) != "" {
		_, rest, err = word(rest)
	}
	return err
}

// quoted writes a word so that the watchdog reads it back as it is.
func quoted(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }

// find resolves a command's name: in the function's folder, then on PATH. A
// name with a slash is a path, relative to the folder.
func find(name, folder string) (string, error) {
	if strings.Contains(name, "/") {
		path := name
		if !filepath.IsAbs(path) {
			path = filepath.Join(folder, path)
		}
		return path, executable(path)
	}
	if folder == "" {
		path, err := exec.LookPath(name)
		if err != nil {
			return "", fmt.Errorf("command %q not found on PATH", name)
		}
		return path, nil
	}
	path := filepath.Join(folder, name)
	here := executable(path)
	if here == nil {
		return path, nil
	}
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path, nil
	case errors.Is(here, fs.ErrPermission):
		return "", here
	}
	return "", fmt.Errorf("command %q not found in %s or on PATH", name, folder)
}

func executable(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("command %q not found", path)
	case err != nil:
		return fmt.Errorf("command %q: %w", path, err)
	case info.IsDir():
		return fmt.Errorf("command %q is a folder", path)
	case info.Mode()&0o111 == 0:
		return fmt.Errorf("command %q is not executable (chmod +x): %w", path, fs.ErrPermission)
	}
	return nil
}

// within maps a path in one folder to the same place in another; a path elsewhere stays as it is.
func within(path, folder, other string) string {
	rel, err := filepath.Rel(folder, path)
	if err != nil || !filepath.IsLocal(rel) {
		return path
	}
	return filepath.Join(other, rel)
}

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
