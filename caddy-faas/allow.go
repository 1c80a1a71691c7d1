package caddyfaas

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// Allow says which functions may be deployed through the API. Each rule is a
// list of patterns, of which one must fit the whole text; * stands for any
// characters and ? for one. The functions of the stack file are always allowed.
type Allow struct {
	// Image patterns fit the image as it was sent. Default: what the provider says; local: images of its
	// own configuration and of the stack file, unless there are command patterns; swarm: any.
	Image []string `json:"image,omitempty"`

	// Name patterns fit NAME or NAME.NAMESPACE. Default: any name.
	Name []string `json:"name,omitempty"`

	// Command patterns fit the whole command line (fprocess), "" if none was sent. Default: what the
	// provider says; local: commands of the stack file and of the images' folders; swarm: any.
	Command []string `json:"command,omitempty"`
}

// rules are the Caddyfile's names.
func (l *Allow) rules() map[string]*[]string {
	return map[string]*[]string{"image": &l.Image, "name": &l.Name, "command": &l.Command}
}

// allowed reports which rule keeps a function from being deployed through the API.
func (a *App) allowed(p faas.Provider, fn faas.Function) error {
	l := a.Allow
	if l == nil {
		l = new(Allow)
	}
	refused := func(rule, text string, patterns []string) error {
		return fmt.Errorf("%s %q is %w: the configuration allows %s %s", rule, text, faas.ErrForbidden, rule, strings.Join(patterns, " "))
	}
	switch {
	case len(l.Name) > 0 && !fits(l.Name, fn.Name) && !fits(l.Name, fn.ID.String()):
		return refused("name", fn.Name, l.Name)
	case len(l.Image) > 0 && !fits(l.Image, fn.Image):
		return refused("image", fn.Image, l.Image)
	case len(l.Command) > 0 && !fits(l.Command, fn.Command()):
		return refused("command", fn.Command(), l.Command)
	}
	if g, ok := p.(faas.Guard); ok {
		return g.Allowed(fn, len(l.Image) == 0, len(l.Command) == 0)
	}
	return nil
}

// fits tells whether one of the patterns fits the whole text.
func fits(patterns []string, text string) bool {
	for _, p := range patterns {
		form := strings.NewReplacer(`\*`, `.*`, `\?`, `.`).Replace(regexp.QuoteMeta(p))
		if regexp.MustCompile(`(?s)\A` + form + `\z`).MatchString(text) {
			return true
		}
	}
	return false
}
