package local

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// A catalog is what the configuration and the stack file offer to those who deploy functions.
type catalog struct {
	images    map[string]string // name with its tag: folder, or "" for none
	commands  map[string]bool   // command lines
	variables map[string]bool   // NAME=VALUE
}

// newCatalog offers the images of the options, and what the stack file's entries name.
func newCatalog(images map[string]string, entries []faas.Function) *catalog {
	c := &catalog{images: map[string]string{}, commands: map[string]bool{}, variables: map[string]bool{}}
	for _, fn := range entries {
		c.commands[process(fn)] = true
		for name, value := range fn.Env {
			c.variables[name+"="+value] = true
		}
		if fn.Image == "" {
			continue
		}
		image := tagged(fn.Image)
		if folder, twice := c.images[image]; twice && folder != fn.Handler {
			c.images[image] = "" // which one can't be known
		} else {
			c.images[image] = fn.Handler
		}
	}
	for name, folder := range images {
		c.images[tagged(name)] = folder
	}
	return c
}

// tagged is an image's name with the tag, and without the registry, that it has by default.
func tagged(image string) string {
	image = strings.TrimPrefix(strings.TrimPrefix(image, "docker.io/"), "library/")
	if strings.Contains(image, "@") || strings.Contains(image[strings.LastIndexByte(image, '/')+1:], ":") {
		return image
	}
	return image + ":latest"
}

// imaged gives a function the folder of its image, if there is one.
func (e *Engine) imaged(fn faas.Function) faas.Function {
	if c := e.offers.Load(); c != nil && fn.Handler == "" {
		fn.Handler = c.images[tagged(fn.Image)]
	}
	return fn
}

// Allowed lets run what this machine's owner has named: functions are processes
// of this machine. Where the configuration has command patterns, the image's name is of no account.
func (e *Engine) Allowed(fn faas.Function, image, command bool) error {
	c := e.offers.Load()
	if !command || c == nil {
		return nil
	}
	fn = e.imaged(fn)
	if _, known := c.images[tagged(fn.Image)]; image && !known {
		return fmt.Errorf("image %q is %w: it is neither in the stack file nor mapped by `image <name> <folder>` in the local provider's block; `allow { image <pattern> }` allows others", fn.Image, faas.ErrForbidden)
	}
	switch line := process(fn); {
	case c.commands[line] || inside(fn):
	case line == "":
		return fmt.Errorf("image %q without a command (fprocess, envProcess) is %w: it has none of its own here", fn.Image, faas.ErrForbidden)
	default:
		return fmt.Errorf("command %q is %w: it is neither in the stack file nor a program of its image's folder; `allow { command <pattern> }` allows others", line, faas.ErrForbidden)
	}
	for name, value := range fn.Env {
		if steers(name) && !c.variables[name+"="+value] {
			return fmt.Errorf("environment variable %q is %w: it can make an allowed command run something else; `allow { command <pattern> }` allows it", name, faas.ErrForbidden)
		}
	}
	return nil
}

// inside tells whether the function's program is a file of its folder.
func inside(fn faas.Function) bool {
	if fn.Handler == "" {
		return false
	}
	line, err := resolve(fn)
	if err != nil {
		return false
	}
	rel, err := filepath.Rel(fn.Handler, line[0])
	return err == nil && filepath.IsLocal(rel)
}

// steers tells whether a variable says what is executed, to the loader, to common interpreters and tools or to the watchdog.
func steers(name string) bool {
	switch name {
	case "PATH", "ENV", "IFS", "SHELLOPTS", "fprocess", "function_process", "upstream_url", "http_upstream_url",
		"TAR_OPTIONS", "MAKEFLAGS", "GNUMAKEFLAGS", "RSYNC_RSH", "LESSOPEN", "LESSCLOSE", "PAGER", "MANPAGER", "EDITOR", "VISUAL", "CLASSPATH":
		return true
	}
	for _, prefix := range []string{"LD_", "DYLD_", "GCONV_", "OPENSSL_", "BASH_", "PYTHON", "PERL", "RUBY", "NODE_", "JAVA_", "JDK_", "_JAVA", "PHP", "LUA_", "ERL_", "GIT_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
