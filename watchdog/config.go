package main

import (
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	modeFork = "fork"
	modeHTTP = "http"
)

// config is what the environment says; the package comment lists the variables with their defaults. Durations of 0 mean no limit.
type config struct {
	mode         string // modeFork or modeHTTP
	command      []string
	upstream     *url.URL // nil: the watchdog picks a free port
	readTimeout  time.Duration
	writeTimeout time.Duration
	execTimeout  time.Duration
	lameDuck     time.Duration // 0: drain at once
	maxInflight  int           // 0: no limit
	maxRequest   int64         // bytes; 0: no limit
	maxResponse  int64         // bytes; 0: no limit
	contentType  string        // "": see answerType

	combineOutput bool
	prefixLogs    bool
	writeDebug    bool
	cgiHeaders    bool
	suppressLock  bool

	port        int // 0: any free port, named in the log
	metricsPort int // 0: no metrics

	memory *memory // nil: no limit is known; not from the environment
}

// environment reads variables and keeps the first error.
type environment struct {
	lookup func(string) (string, bool)
	err    error
}

// readConfig reads the variables through lookup, which is os.LookupEnv but in tests. A variable set to nothing counts as unset.
func readConfig(lookup func(string) (string, bool)) (*config, error) {
	e := &environment{lookup: lookup}
	c := &config{
		mode:         e.mode(),
		command:      e.command(),
		upstream:     e.upstream(),
		readTimeout:  e.duration("read_timeout", 30*time.Second, "no limit"),
		writeTimeout: e.duration("write_timeout", 30*time.Second, "no limit"),
		lameDuck:     e.duration("healthcheck_interval", 3*time.Second, "drain at once"),
		maxInflight:  e.number("max_inflight", 0, math.MaxInt32, "0 for no limit"),
		maxRequest:   int64(e.number("max_request", 0, math.MaxInt, "0 for no limit")),
		maxResponse:  int64(e.number("max_response", 0, math.MaxInt, "0 for no limit")),
		contentType:  e.get("content_type"),

		combineOutput: e.boolean("combine_output", false),
		prefixLogs:    e.boolean("prefix_logs", true),
		writeDebug:    e.boolean("write_debug", false),
		cgiHeaders:    e.boolean("cgi_headers", true),
		suppressLock:  e.boolean("suppress_lock", false),

		port:        e.number("port", 8080, 65535, "0 for any free port"),
		metricsPort: e.number("metrics_port", 0, 65535, "0 for no metrics"),
	}
	c.execTimeout = e.duration("exec_timeout", c.writeTimeout, "no limit")
	if strings.ContainsAny(c.contentType, "\r\n\x00") {
		e.fail("content_type", c.contentType, "want a media type such as application/json")
	}
	if e.err != nil {
		return nil, e.err
	}
	return c, nil
}

func (e *environment) get(name string) string {
	v, _ := e.lookup(name)
	return v
}

func (e *environment) fail(name, value, allowed string) {
	if e.err == nil {
		e.err = fmt.Errorf("%s=%q: %s", name, value, allowed)
	}
}

func (e *environment) mode() string {
	switch v := e.get("mode"); v {
	case "", modeFork, "streaming", "serializing":
		return modeFork
	case modeHTTP:
		return modeHTTP
	default:
		e.fail("mode", v, "want fork, streaming or serializing (one process per request), or http (one process serving HTTP)")
		return ""
	}
}

func (e *environment) command() []string {
	name := "fprocess"
	v := e.get(name)
	if v == "" {
		if other := e.get("function_process"); other != "" {
			name, v = "function_process", other
		}
	}
	words, err := split(v)
	switch {
	case err != nil:
		e.fail(name, v, "want a command line: "+err.Error())
	case len(words) == 0 || words[0] == "":
		e.fail(name, v, "want the command line of the function")
	}
	return words
}

// upstream accepts http://HOST:PORT[/PATH] and unix:/PATH (unix:///PATH too); the latter comes back with the scheme unix.
func (e *environment) upstream() *url.URL {
	name := "upstream_url"
	v := e.get(name)
	if v == "" {
		if other := e.get("http_upstream_url"); other != "" {
			name, v = "http_upstream_url", other
		}
	}
	if v == "" {
		return nil
	}
	u, err := url.Parse(v)
	if err == nil && u.Scheme == "unix" && strings.HasPrefix(u.Path, "/") && u.Host == "" {
		return u
	}
	if err == nil && u.Scheme == "http" && u.Hostname() != "" {
		if u.Port() == "" {
			u.Host += ":80"
		}
		return u
	}
	e.fail(name, v, "want http://HOST:PORT or unix:/PATH")
	return nil
}

func (e *environment) duration(name string, byDefault time.Duration, zero string) time.Duration {
	v := e.get(name)
	if v == "" {
		return byDefault
	}
	d, ok := parseDuration(v)
	if !ok {
		e.fail(name, v, "want a duration such as 10s or 1m30s, or whole seconds, not negative; 0 for "+zero)
	}
	return d
}

// parseDuration reads a Go duration or whole seconds; it refuses what is negative or out of range.
func parseDuration(s string) (time.Duration, bool) {
	if d, err := time.ParseDuration(s); err == nil {
		return d, d >= 0
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/int64(time.Second) {
		return 0, false
	}
	return time.Duration(n) * time.Second, true
}

func (e *environment) number(name string, byDefault, max int, zero string) int {
	v := e.get(name)
	if v == "" {
		return byDefault
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 || n > max {
		e.fail(name, v, fmt.Sprintf("want a number from 0 to %d; %s", max, zero))
	}
	return n
}

func (e *environment) boolean(name string, byDefault bool) bool {
	switch v := e.get(name); v {
	case "":
		return byDefault
	case "true", "1":
		return true
	case "false", "0":
		return false
	default:
		e.fail(name, v, "want true, false, 1 or 0")
		return false
	}
}
