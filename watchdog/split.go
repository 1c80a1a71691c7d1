package main

import (
	"errors"
	"strings"
)

// split cuts a command line into words the way a POSIX shell does, but without a shell: white space separates words; 'single quotes'
// keep everything as it is; in "double quotes" a backslash escapes ", \, $ and ` and joins lines; outside of quotes it escapes any
// character. Nothing is expanded: $, *, ~, | and ; are ordinary characters. An open quote, a backslash at the end and a NUL byte
// are errors. An empty line gives no words.
func split(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; c {
		case 0:
			return nil, errors.New("it contains a NUL byte")
		case ' ', '\t', '\n', '\r':
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		case '\'':
			n := strings.IndexByte(line[i+1:], '\'')
			if n < 0 {
				return nil, errors.New("a single quote is not closed")
			}
			word.WriteString(line[i+1 : i+1+n])
			i += 1 + n
			inWord = true
		case '"':
			n, err := doubleQuoted(&word, line[i+1:])
			if err != nil {
				return nil, err
			}
			i += n
			inWord = true
		case '\\':
			i++
			if i == len(line) {
				return nil, errors.New("a backslash is the last character")
			}
			if line[i] != '\n' {
				word.WriteByte(line[i])
				inWord = true
			}
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if inWord {
		words = append(words, word.String())
	}
	for _, w := range words {
		if strings.IndexByte(w, 0) >= 0 {
			return nil, errors.New("it contains a NUL byte")
		}
	}
	return words, nil
}

// doubleQuoted appends what rest holds up to the closing quote and returns how many bytes of rest that took, the quote included.
func doubleQuoted(word *strings.Builder, rest string) (int, error) {
	for i := 0; i < len(rest); i++ {
		c := rest[i]
		if c == '"' {
			return i + 1, nil
		}
		if c == '\\' && i+1 < len(rest) && strings.IndexByte("\"\\$`\n", rest[i+1]) >= 0 {
			i++
			if c = rest[i]; c == '\n' {
				continue
			}
		}
		word.WriteByte(c)
	}
	return 0, errors.New("a double quote is not closed")
}
