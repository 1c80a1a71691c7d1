// Fwatchdog makes a function out of any program: it serves HTTP and passes each request to a process. It owns the function's time
// limits, its limit of requests in flight, its draining on SIGTERM and its log. In environment variables and behaviour it takes the
// place of the classic watchdog and of of-watchdog.
//
// # Variables
//
// Names are in lower case exactly. Durations are Go's (10s, 1m30s) or whole seconds; 0 means no limit. Booleans are true, false, 1 or 0.
// A value that is none of these ends the watchdog with one line on stderr and status 1. A variable set to nothing counts as unset.
//
//	fprocess, function_process  command line of the function, split like a shell does but without one: see split. Required.
//	mode                  fork  fork (streaming and serializing mean the same): one process per request, body on stdin, answer on stdout.
//	                            http: one long-lived process that serves HTTP itself.
//	upstream_url,               http: where the process listens: http://HOST:PORT or unix:/PATH. Unset: a free port that the process is
//	http_upstream_url           told in the variable PORT. While something else listens there the process is not
//	                            started.
//	read_timeout          30s   reading one request. Headers late: the connection is closed; body late: 408. Time that the function
//	                            takes before it reads on does not count.
//	write_timeout         30s   one write (at most 64 KiB) to a client that does not read.
//	exec_timeout                the function's time for one request, beyond which the answer is 504 and, in mode fork, the process group is
//	                            killed. Default: write_timeout. Upgraded connections and event streams that have begun are exempt (http).
//	max_inflight          0     requests at once; more are answered with 429, X-Faas-Replica-Full: 1 and Retry-After: 1. 0: no limit.
//	max_request           0     bytes of a request's body; more is answered with 413. 0: no limit.
//	max_response          0     bytes of an answer's body; beyond them the answer is 502 with X-Faas-Reason: response-limit, or broken off if
//	                            its beginning has been sent. 0: no limit.
//	content_type                fork: Content-Type of answers. Unset: the caller's, or told from the answer if there is none or it is a form's.
//	combine_output        false fork: stderr goes into the answer too.
//	cgi_headers           true  fork: the request is in the process's variables: see requestEnv.
//	prefix_logs           true  lines that the function prints get a timestamp and the name of their stream in the log.
//	write_debug           false log (the beginning of) answers, or in mode http each request.
//	healthcheck_interval  3s    lame duck: how long after SIGTERM new requests are still served.
//	port                  8080  where to listen, on all addresses; 0: any free port, named in the log.
//	metrics_port          0     port of /metrics; 0: none.
//	suppress_lock         false do not write the lock file, .lock in the temporary directory or, for a port
//	                            other than 8080, .lock-PORT. With -socket or -listen-fd there never is one.
//
// # Flags
//
//	-socket PATH      listen on a unix socket (mode 0600) instead of the port
//	-listen-fd N      listen on an inherited socket, which a parent has bound: its file is left as it is, at the end too
//	-parent-fd N      an inherited pipe; at its end every process is killed (see The end) and the watchdog ends at once
//	-oom-fd N         an inherited memory.events or memory.oom_control of the control group that the watchdog is in: a failed request during
//	                  which the kernel killed there is answered with X-Faas-Reason: memory-limit
//	-memory-limit X   that limit as such an answer names it
//	-open-files N     Linux: bounds the open files of each process of the function, from as soon as it runs
//	-run-healthcheck  ask the watchdog that runs with the same port or -socket; status 0 if it is healthy, 1 if not
//	-version          print the version
//	-stage STEPS      Linux: prepare limits, mounts, directory and user, then start again without this flag: see stage
//
// # Paths
//
// /_/health answers 200, or 503 while draining, when the lock file is gone or (http) when the process does not accept. /_/ready is the
// same and 429 at max_inflight. Every other path is the function's, for every method.
//
// # Answers in mode fork
//
// An answer below 64 KiB is held until the process has ended: it has a Content-Length, or is a 500 that says what went wrong if the
// exit status is not 0. It is sent earlier, in parts, once the function has been silent for 100 ms or 500 ms have passed; if it fails
// after that the connection is broken off. The answer ends when the process does: what is left of its group is killed. The group is
// also killed when the client goes away.
//
// # The end
//
// On SIGTERM or SIGINT the watchdog turns unhealthy, serves on for healthcheck_interval, refuses new connections, lets requests in
// flight finish within exec_timeout, and ends with status 0; or with 1 if some did not finish. A second signal kills all processes
// and ends it at once with status 1. Whenever it ends, unless by SIGKILL, the process groups that it started are killed, and on Linux
// whatever else descends from it. Until it stops listening it never closes an idle connection: a client that sends a request at
// that instant could not know whether it was executed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"
)

// version is set when a release is linked.
var version string

// options are the flags.
type options struct {
	socket         string
	listenFd       int    // -1: none
	parentFd       int    // -1: none
	oomFd          int    // -1: none
	memoryLimit    string // what oomFd counts against, for messages
	openFiles      uint64 // of each process of the function; 0: as many as now
	runHealthcheck bool
	version        bool
	stage          string
}

func parseFlags(args []string, stderr io.Writer) (*options, error) {
	var o options
	f := flag.NewFlagSet("fwatchdog", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.socket, "socket", "", "listen on the unix socket at `PATH` instead of a port")
	f.IntVar(&o.listenFd, "listen-fd", -1, "listen on the inherited socket `N` instead of a port")
	f.IntVar(&o.parentFd, "parent-fd", -1, "kill everything and end at the end of the inherited pipe `N`")
	f.IntVar(&o.oomFd, "oom-fd", -1, "learn from the inherited file `N`, memory.events or memory.oom_control, of kills at the memory limit")
	f.StringVar(&o.memoryLimit, "memory-limit", "", "name the memory limit as `TEXT`")
	f.Uint64Var(&o.openFiles, "open-files", 0, "Linux: let each process of the function open `N` files")
	f.BoolVar(&o.runHealthcheck, "run-healthcheck", false, "ask the running watchdog whether it is healthy")
	f.BoolVar(&o.version, "version", false, "print the version")
	f.StringVar(&o.stage, "stage", "", "Linux: carry out `STEPS` (limits, mounts, directory, user), then start again without this flag")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		err := fmt.Errorf("unexpected argument %q: the function is named by the variable fprocess", f.Arg(0))
		fmt.Fprintln(stderr, "fwatchdog:", err)
		return nil, err
	}
	if o.socket != "" && o.listenFd >= 0 {
		err := errors.New("-socket and -listen-fd exclude each other")
		fmt.Fprintln(stderr, "fwatchdog:", err)
		return nil, err
	}
	return &o, nil
}

func main() {
	o, err := parseFlags(os.Args[1:], os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		os.Exit(2)
	case o.version:
		fmt.Println("fwatchdog", versionText())
	case o.stage != "":
		err = stage(o.stage, os.Args)
	}
	switch {
	case err != nil || o.version:
	case o.runHealthcheck:
		err = askHealth(o.socket)
	default:
		err = run(o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fwatchdog:", err)
		os.Exit(1)
	}
}

func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// run is the watchdog's life; a nil error is an orderly end.
func run(o *options) error {
	keepDescriptors()
	// For ps and the kernel's log: after a stage it is called by the number of a descriptor. Elsewhere than on Linux there is no such file.
	if f, err := os.OpenFile("/proc/self/comm", os.O_WRONLY, 0); err == nil {
		f.WriteString("fwatchdog")
		f.Close()
	}
	signals, heard := make(chan os.Signal, 2), make(chan struct{})
	go func() { // beside the rest of the start: it takes a millisecond or more
		signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
		// Who reads the log may go away; writing to nobody must not end the watchdog. Ignoring the signal would be inherited by functions.
		signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
		close(heard)
	}()
	cfg, err := readConfig(os.LookupEnv)
	if err != nil {
		return err
	}
	path, err := exec.LookPath(cfg.command[0])
	if err != nil {
		return fmt.Errorf("the function's program: %w", err)
	}
	log := newLogger(os.Stderr, cfg.prefixLogs)
	cfg.memory = newMemory(o.oomFd, o.memoryLimit)
	children := newChildren()
	children.bound(o.openFiles)
	children.oomAdjust, _ = os.OpenFile("/proc/self/oom_score_adj", os.O_RDWR, 0)
	ln, err := listen(cfg, o.socket, o.listenFd)
	if err != nil {
		return err
	}
	defer ln.unlink()
	if o.parentFd >= 0 {
		if err := watchParent(o.parentFd, ln, children); err != nil {
			return err
		}
	}
	s := &server{cfg: cfg, log: log}
	if tcp, ok := ln.Addr().(*net.TCPAddr); ok {
		s.port = tcp.Port
	}
	if o.socket == "" && o.listenFd < 0 && !cfg.suppressLock {
		if err := s.writeLock(); err != nil {
			return err
		}
	}
	if cfg.metricsPort != 0 {
		if s.metrics, err = serveMetrics(cfg.metricsPort); err != nil {
			return err
		}
	}
	s.function = newFunction(cfg, children, log, path)
	srv := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: cfg.readTimeout,
		MaxHeaderBytes:    maxHeader,
		ConnContext:       withConn,
		ErrorLog:          log.Logger,
		// No ReadTimeout and no IdleTimeout: with both 0 an idle connection stays open.
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	<-heard // whoever has read the next line may send SIGTERM
	log.Printf("fwatchdog %s, mode %s, listening on %s", versionText(), cfg.mode, ln.Addr())
	defer children.killAll()
	select {
	case err := <-served:
		return fmt.Errorf("accepting connections: %w", err)
	case <-signals:
	}
	drained := make(chan error, 1)
	go func() { drained <- s.drain(srv, ln) }()
	select {
	case err := <-drained:
		return err
	case <-signals:
		return errors.New("ended by a second signal")
	}
}

func newFunction(cfg *config, c *children, l *logger, path string) function {
	env := baseEnv(os.Environ(), cfg.cgiHeaders && cfg.mode == modeFork)
	if cfg.mode == modeHTTP {
		return newProxy(cfg, c, l, path, env)
	}
	return &forker{cfg: cfg, children: c, log: l, path: path, env: env}
}

func serveMetrics(port int) (*metrics, error) {
	ln, err := net.Listen("tcp", ":"+strconv.Itoa(port))
	if err != nil {
		return nil, fmt.Errorf("metrics_port: %w", err)
	}
	m := newMetrics()
	go (&http.Server{Handler: m, ReadHeaderTimeout: 10 * time.Second}).Serve(ln)
	return m, nil
}

// watchParent ends everything when the writing end of the inherited pipe is closed, which the kernel does when the parent dies.
func watchParent(fd int, ln *listener, c *children) error {
	var info syscall.Stat_t
	if err := syscall.Fstat(fd, &info); err != nil {
		return fmt.Errorf("-parent-fd %d: %w", fd, err)
	}
	syscall.CloseOnExec(fd)
	go func() {
		io.Copy(io.Discard, os.NewFile(uintptr(fd), "parent"))
		c.killAll()
		ln.unlink()
		os.Exit(1)
	}()
	return nil
}

// askHealth asks the watchdog that listens on the socket, or on the port that the environment names, for its health.
func askHealth(socket string) error {
	network, address := "unix", socket
	if socket == "" {
		e := &environment{lookup: os.LookupEnv}
		network, address = "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(e.number("port", 8080, 65535, "0 for any free port")))
		if e.err != nil {
			return e.err
		}
	}
	client := http.Client{
		Timeout: 5 * time.Second,
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		}},
	}
	res, err := client.Get("http://watchdog/_/health")
	if err != nil {
		return fmt.Errorf("asking for health: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 1024))
		return fmt.Errorf("unhealthy: %s: %s", res.Status, text)
	}
	return nil
}
