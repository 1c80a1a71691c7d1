package caddyfaas

import (
	"regexp"
	"strings"
	"testing"
)

// example is a command of README.md and what it shows as its output.
type example struct{ command, output string }

func examples(t *testing.T) []example {
	t.Helper()
	var all []example
	inside := false
	for line := range strings.Lines(read(t, "../README.md")) {
		line = strings.TrimSuffix(line, "\n")
		command, ok := strings.CutPrefix(line, "$ ")
		switch {
		case line == "```console":
			inside = true
		case line == "```":
			inside = false
		case inside && ok:
			all = append(all, example{command: command})
		case inside:
			all[len(all)-1].output += line + "\n"
		}
	}
	return all
}

// varies is what differs from run to run.
var varies = []struct {
	re *regexp.Regexp
	to string
}{
	{regexp.MustCompile(`\d{19}`), "NANOSECONDS"},
	{regexp.MustCompile(`hostname is [^"]+`), "hostname is HOST"},
	{regexp.MustCompile(`"createdAt":"[^"]+"`), `"createdAt":TIME`},
	{regexp.MustCompile(`[ \t]+`), " "},
}

func normal(s string) string {
	for _, v := range varies {
		s = v.re.ReplaceAllString(s, v.to)
	}
	return strings.TrimSpace(s)
}

// What README.md shows is what its commands print, in their order.
func TestReadme(t *testing.T) {
	g := shippedGateway(t)
	n := 0
	for _, e := range examples(t) {
		if strings.Contains(e.command, "git clone") || strings.HasPrefix(e.command, "./xcaddy.sh") {
			continue // .ci/run does these
		}
		n++
		c := g.caddy()
		command := strings.NewReplacer("localhost:8080", strings.TrimPrefix(g.url, "http://"), ".faas/", g.data()+"/", "bin/caddy", c.Path).Replace(e.command)
		c.Path, c.Args, c.Err = "/bin/sh", []string{"sh", "-c", command}, nil
		c.Stderr = &g.log
		out, err := c.Output()
		if got, want := normal(string(out)), normal(e.output); err != nil || got != want {
			t.Errorf("%s\nprints (%v):\n%s\nREADME.md shows:\n%s", e.command, err, got, want)
		}
	}
	if n < 10 {
		t.Errorf("found %d commands", n)
	}
}

// The tables of README.md name every label and metric that there is.
func TestReadmeIsComplete(t *testing.T) {
	readme := read(t, "../README.md")
	for file, re := range map[string]string{
		"faas/labels.go": `"((?:com\.openfaas|faas)\.[a-z.]+)"`,
		"metrics.go":     `"(gateway_[a-z_]+)"`,
		"../Caddyfile":   `\{\$(FAAS_[A-Z]+)`,
	} {
		found := regexp.MustCompile(re).FindAllStringSubmatch(read(t, file), -1)
		if len(found) == 0 {
			t.Errorf("%s: nothing like %s", file, re)
		}
		for _, m := range found {
			if !strings.Contains(readme, "`"+m[1]) {
				t.Errorf("README.md does not have %s of %s", m[1], file)
			}
		}
	}
}
