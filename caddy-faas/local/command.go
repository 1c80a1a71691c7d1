package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

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

// resolve finds a function's program, and returns the rest of its command line with it.
func resolve(fn faas.Function) (program, arguments string, err error) {
	if process(fn) == "" {
		return "", "", errors.New("no fprocess: the local provider runs commands, not images")
	}
	name, arguments, err := firstWord(process(fn))
	if err != nil {
		return "", "", fmt.Errorf("fprocess: %w", err)
	}
	if fn.Handler != "" {
		if info, err := os.Stat(fn.Handler); err != nil {
			return "", "", fmt.Errorf("handler: %w", err)
		} else if !info.IsDir() {
			return "", "", fmt.Errorf("handler %s is not a folder", fn.Handler)
		}
	}
	program, err = find(name, fn.Handler)
	return program, arguments, err
}

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
