package faas

import (
	"errors"
	"strings"
)

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

// Words splits a command line, as the watchdog would: shell quoting, no shell.
func Words(line string) ([]string, error) {
	var all []string
	for skip(line) != "" {
		text, rest, err := Word(line)
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

// Word cuts one word off a command line.
func Word(line string) (text, rest string, err error) {
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
