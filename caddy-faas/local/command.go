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

// skip goes on to the next word. Escaped line ends make none.
func skip(line string) string {
	for {
		line = strings.TrimLeft(line, blank)
		rest, joined := strings.CutPrefix(line, "\\\n")
		if !joined {
			return line
		}
		line = rest
	}
}

// words splits a command line.
func words(line string) ([]string, error) {
	var all []string
	for skip(line) != "" {
		text, rest, err := word(line)
		if err != nil {
			return nil, err
		}
		all, line = append(all, text), rest
	}
	if len(all) == 0 || all[0] == "" {
		return nil, errors.New("it names no command")
	}
	return all, nil
}

// word cuts one word off a command line, as the watchdog would: shell quoting, no shell.
func word(line string) (text, rest string, err error) {
	line = skip(line)
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

// quoted writes words so that the watchdog reads them back as they are.
func quoted(line []string) string {
	var b strings.Builder
	for i, word := range line {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString("'" + strings.ReplaceAll(word, "'", `'\''`) + "'")
	}
	return b.String()
}

// resolve returns a function's command line, with the program found and the
// arguments that name files of the function's folder made absolute: the function
// runs elsewhere.
func resolve(fn faas.Function) ([]string, error) {
	if process(fn) == "" {
		return nil, errors.New("no fprocess: the local provider runs commands, not images")
	}
	line, err := words(process(fn))
	if err != nil {
		return nil, fmt.Errorf("fprocess: %w", err)
	}
	if fn.Handler != "" {
		if info, err := os.Stat(fn.Handler); err != nil {
			return nil, fmt.Errorf("handler: %w", err)
		} else if !info.IsDir() {
			return nil, fmt.Errorf("handler %s is not a folder", fn.Handler)
		}
		for i, word := range line[1:] {
			path := filepath.Join(fn.Handler, word)
			if info, err := os.Stat(path); filepath.IsLocal(word) && err == nil && info.Mode().IsRegular() {
				line[i+1] = path
			}
		}
	}
	line[0], err = find(line[0], fn.Handler)
	return line, err
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
