package main

import (
	"bytes"
	"io"
	"log"
	"os"
	"sync"
	"time"
)

// maxLine bounds one line of a function's output in the log, in bytes; a longer one is cut into several.
const maxLine = 8 << 10

// maxTail bounds how much of the end of stderr an answer of status 500 carries, in bytes.
const maxTail = 2 << 10

// logger writes the watchdog's log. Each line is one write, so lines never mix.
type logger struct {
	*log.Logger
	out    io.Writer
	prefix bool // lines of the function get a timestamp and the name of their stream
}

func newLogger(out io.Writer, prefix bool) *logger {
	return &logger{Logger: log.New(out, "", log.LstdFlags), out: out, prefix: prefix}
}

// line logs one line of the function's output; it may hold a final newline or not.
func (l *logger) line(stream string, line []byte) {
	line = bytes.TrimSuffix(line, []byte("\n"))
	if l.prefix {
		l.Printf("%s: %s", stream, line)
		return
	}
	l.out.Write(append(line[:len(line):len(line)], '\n'))
}

var lineBuffers = sync.Pool{New: func() any { b := make([]byte, maxLine); return &b }}

// lines carries one stream of a process into the log.
type lines struct {
	file   *os.File
	done   chan struct{} // closed when nothing more will be logged
	tail   []byte        // the last maxTail bytes; to be read after done
	log    *logger
	stream string
}

// follow starts logging what file, the reading end of a non-blocking pipe, delivers. It owns the file.
func (l *logger) follow(file *os.File, stream string) *lines {
	s := &lines{file: file, done: make(chan struct{}), log: l, stream: stream}
	go s.run()
	return s
}

// stop ends the logging once what the pipe holds by now has been logged, even if somebody still holds its writing end.
func (s *lines) stop() { s.file.SetReadDeadline(time.Unix(1, 0)) }

func (s *lines) run() {
	defer close(s.done)
	defer s.file.Close()
	pooled := lineBuffers.Get().(*[]byte)
	defer lineBuffers.Put(pooled)
	buf, n := *pooled, 0
	for {
		m, err := s.file.Read(buf[n:])
		n = s.emit(buf, n, m)
		if err != nil {
			break
		}
	}
	// Stopped: what was written before the process ended is still in the pipe.
	for left := maxPipe; left > 0; {
		m := readNow(s.file, buf[n:])
		if m == 0 {
			break
		}
		left -= m
		n = s.emit(buf, n, m)
	}
	if n > 0 {
		s.log.line(s.stream, buf[:n])
	}
}

// emit logs the whole lines in buf, where m new bytes follow n old ones, and returns how many bytes of an unfinished line it moved
// to the front.
func (s *lines) emit(buf []byte, n, m int) int {
	s.tail = append(s.tail, buf[n:n+m]...)
	if over := len(s.tail) - maxTail; over > 0 {
		s.tail = append(s.tail[:0], s.tail[over:]...)
	}
	rest := buf[:n+m]
	for {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 && len(rest) < len(buf) {
			break
		}
		if i < 0 {
			i = len(rest) - 1
		}
		s.log.line(s.stream, rest[:i+1])
		rest = rest[i+1:]
	}
	return copy(buf, rest)
}
