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

// handlerFile is the program in a function's folder that runs when no command is given.
const handlerFile = "./handler"

// process is the function's command line.
func process(fn faas.Function) string {
	if command := fn.Command(); command != "" || fn.Handler == "" {
		return command
	}
	return handlerFile
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
		return nil, errors.New("no fprocess (envProcess): the local provider runs commands, not images")
	}
	line, err := faas.Words(process(fn))
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
