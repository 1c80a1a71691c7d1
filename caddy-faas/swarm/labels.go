package swarm

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// label reads one label of a function; the annotation of its name is as good.
func label[T any](fn faas.Function, name string, read func(string) (T, error), absent T) (T, error) {
	text := fn.Labels[name]
	if text == "" {
		text = fn.Annotations[name]
	}
	if text == "" {
		return absent, nil
	}
	value, err := read(text)
	if err != nil {
		return absent, fmt.Errorf("label %s: %w", name, err)
	}
	return value, nil
}

func number(text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("%q: want a number from 0", text)
	}
	return n, nil
}

func boolean(text string) (*bool, error) {
	on, err := strconv.ParseBool(text)
	if err != nil {
		return nil, fmt.Errorf("%q: want true or false", text)
	}
	return &on, nil
}

func list(text string) ([]string, error) {
	parts := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
	if len(parts) == 0 {
		return nil, fmt.Errorf("%q: want names, parted by commas", text)
	}
	return parts, nil
}

// oneOf returns a reader of one of these words.
func oneOf(words ...string) func(string) (string, error) {
	return func(text string) (string, error) {
		if !slices.Contains(words, text) {
			return "", fmt.Errorf("%q: want %s", text, strings.Join(words, " or "))
		}
		return text, nil
	}
}

// duration reads a Go duration or whole seconds, not negative, as the watchdog does.
func duration(text string) (time.Duration, error) {
	d, ok := faas.ParseDuration(text)
	if !ok {
		return 0, fmt.Errorf("%q: want a duration such as 30s", text)
	}
	return d, nil
}

// healthcheck reads a command as exec needs it: an image from scratch has no shell.
func healthcheck(text string) (*container.HealthConfig, error) {
	if text == "none" {
		return &container.HealthConfig{Test: []string{"NONE"}}, nil
	}
	command := strings.Fields(text)
	if strings.HasPrefix(text, "[") {
		command = nil
		if err := json.Unmarshal([]byte(text), &command); err != nil {
			return nil, fmt.Errorf("%q: want a command, as a JSON list of words", text)
		}
	}
	if len(command) == 0 || command[0] == "" {
		return nil, fmt.Errorf("%q: want a command", text)
	}
	// A replica gets no requests before the first one, which comes after the first interval.
	return &container.HealthConfig{Test: append([]string{"CMD"}, command...), Interval: time.Second, Timeout: 5 * time.Second, Retries: 3}, nil
}

// tmpfs reads PATH or PATH=SIZE, parted by commas.
func tmpfs(text string) ([]mount.Mount, error) {
	parts, err := list(text)
	if err != nil {
		return nil, err
	}
	var all []mount.Mount
	for _, part := range parts {
		path, size, sized := strings.Cut(part, "=")
		m := mount.Mount{Type: mount.TypeTmpfs, Target: path, TmpfsOptions: &mount.TmpfsOptions{Mode: 0o1777}}
		if !strings.HasPrefix(path, "/") || path == "/" {
			return nil, fmt.Errorf("%q: want an absolute path", path)
		}
		if sized {
			if m.TmpfsOptions.SizeBytes, err = faas.ParseQuantity(size, 1); err != nil {
				return nil, err
			}
		}
		all = append(all, m)
	}
	return all, nil
}
