package stack

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
)

var variable = regexp.MustCompile(`^\$\{([A-Za-z_][A-Za-z0-9_]*)(:-([^{}\n]*))?\}`)

// substitute replaces ${NAME} by the variable's value, nothing if it is
// unset, and ${NAME:-default} by the default if it is unset or empty.
func substitute(data []byte, env func(string) (string, bool)) ([]byte, error) {
	if len(data) > MaxSize {
		return nil, errTooLarge
	}
	var out bytes.Buffer
	for rest := data; ; {
		i := bytes.Index(rest, []byte("${"))
		if i < 0 {
			out.Write(rest)
			return out.Bytes(), nil
		}
		if i > 0 && rest[i-1] == '$' {
			out.Write(rest[:i-1])
			out.WriteString("${")
			rest = rest[i+2:]
			continue
		}
		out.Write(rest[:i])
		m := variable.FindSubmatch(rest[i:])
		if m == nil {
			line := 1 + bytes.Count(data[:len(data)-len(rest)+i], []byte("\n"))
			text, _, _ := strings.Cut(string(rest[i:min(len(rest), i+40)]), "\n")
			return nil, fmt.Errorf("line %d: %q: want ${NAME} or ${NAME:-default}", line, text)
		}
		value, _ := env(string(m[1]))
		if value == "" {
			value = string(m[3])
		}
		if out.WriteString(value); out.Len() > MaxSize {
			return nil, errTooLarge
		}
		rest = rest[i+len(m[0]):]
	}
}
