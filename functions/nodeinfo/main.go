// Command nodeinfo describes the machine that it runs on. The word "verbose"
// in its input adds the CPUs and the network interfaces.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

func main() {
	if err := describe(os.Stdout, os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "nodeinfo:", err)
		os.Exit(1)
	}
}

func describe(out io.Writer, in io.Reader) error {
	input, err := io.ReadAll(io.LimitReader(in, 4<<10))
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	w := bufio.NewWriter(out)
	fmt.Fprintf(w, "Hostname: %s\nOS: %s\nArchitecture: %s\nCPUs: %d\n", host, runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	if up, ok := uptime(); ok {
		fmt.Fprintf(w, "Uptime: %s\n", up)
	}
	if bytes.Contains(input, []byte("verbose")) {
		for _, model := range models() {
			fmt.Fprintf(w, "CPU: %s\n", model)
		}
		if err := interfaces(w); err != nil {
			return err
		}
	}
	return w.Flush()
}

// uptime is known where there is a /proc.
func uptime() (time.Duration, bool) {
	text, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return 0, false
	}
	seconds, _, _ := strings.Cut(string(text), " ")
	s, err := strconv.ParseFloat(seconds, 64)
	return (time.Duration(s) * time.Second), err == nil
}

// models are the names of the CPUs, as far as /proc tells them.
func models() (all []string) {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			all = append(all, strings.TrimSpace(value))
		}
	}
	return all
}

func interfaces(w io.Writer) error {
	all, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, i := range all {
		fmt.Fprintf(w, "Interface: %s %s", i.Name, i.Flags)
		addresses, err := i.Addrs()
		if err != nil {
			return err
		}
		for _, a := range addresses {
			fmt.Fprintf(w, " %s", a)
		}
		fmt.Fprintln(w)
	}
	return nil
}
