package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestSplit(t *testing.T) {
	for _, tt := range []struct {
		line string
		want []string // nil: an error
	}{
		{"", []string{}},
		{" \t\n", []string{}},
		{"cat", []string{"cat"}},
		{"  wc   -l\t-c\n", []string{"wc", "-l", "-c"}},
		{`sh -c 'echo "hi" \n'`, []string{"sh", "-c", `echo "hi" \n`}},
		{`a''b "" ''`, []string{"ab", "", ""}},
		{`"a b"c'd e'`, []string{"a bcd e"}},
		{`"\"\\\$\` + "`" + `\n\'"`, []string{`"\$` + "`" + `\n\'`}},
		{`a\ b \' \"`, []string{"a b", "'", `"`}},
		{"a\\\nb \"c\\\nd\"", []string{"ab", "cd"}},
		{"$HOME ~ * | ; > x &", []string{"$HOME", "~", "*", "|", ";", ">", "x", "&"}},
		{"é 'ü ß'", []string{"é", "ü ß"}},
		{`'`, nil}, {`"`, nil}, {`a 'b`, nil}, {`a "b\"`, nil}, {`a\`, nil}, {"a\x00b", nil}, {"'a\x00b'", nil},
	} {
		got, err := split(tt.line)
		if (err != nil) != (tt.want == nil) || !slices.Equal(got, tt.want) && err == nil {
			t.Errorf("split(%q) = %q, %v; want %q", tt.line, got, err, tt.want)
		}
	}
}

// The shell itself is the judge of quoting where nothing is expanded.
func TestSplitLikeShell(t *testing.T) {
	for _, line := range []string{`a 'b  c' "d e"`, `x\y "x\y" 'x\y' "\\" \\`, `''"" ""a`, `a"b'c"d'e"f'`, "a\\\nb", `\a\ \"`} {
		out, err := exec.Command("sh", "-c", `printf '%s\0' `+line).Output()
		if err != nil {
			t.Fatal(err)
		}
		want := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
		if got, err := split(line); err != nil || !slices.Equal(got, want) {
			t.Errorf("split(%q) = %q, %v; the shell says %q", line, got, err, want)
		}
	}
}

// Words that are quoted in each of three ways come back as they were, whatever they hold; any line is split without a panic, and into
// words that come back when quoted.
func FuzzSplit(f *testing.F) {
	f.Add(`sh -c 'echo "hi"'`)
	f.Add(`a\ b "c\"d" '' "`)
	f.Fuzz(func(t *testing.T, line string) {
		words, err := split(line)
		if err != nil {
			words = []string{strings.ReplaceAll(line, "\x00", ""), "x"}
		}
		for _, quote := range []func(string) string{singleQuote, doubleQuote, backslashes} {
			var quoted []string
			for _, w := range words {
				quoted = append(quoted, quote(w))
			}
			again, err := split(strings.Join(quoted, " \t"))
			if err != nil || !slices.Equal(again, words) {
				t.Fatalf("%q quoted as %q was split into %q, %v", words, quoted, again, err)
			}
		}
	})
}

func singleQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func doubleQuote(s string) string {
	return `"` + strings.NewReplacer(`"`, `\"`, `\`, `\\`, `$`, `\$`, "`", "\\`").Replace(s) + `"`
}

func backslashes(s string) string {
	if s == "" {
		return `""`
	}
	var b strings.Builder
	for _, c := range []byte(s) {
		if c == '\n' {
			b.WriteString("'\n'") // a backslash would join the lines
			continue
		}
		b.WriteByte('\\')
		b.WriteByte(c)
	}
	return b.String()
}
