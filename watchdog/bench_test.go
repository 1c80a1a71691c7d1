package main

import (
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// BenchmarkFork compares a request in mode fork with what no watchdog can do without: pipes, fork, exec and wait of the same program.
//
//	go test -run - -bench Fork -count 5 ./watchdog
func BenchmarkFork(b *testing.B) {
	path, err := exec.LookPath("cat")
	if err != nil {
		b.Fatal(err)
	}
	b.Run("spawn", func(b *testing.B) {
		for b.Loop() {
			spawn(b, path)
		}
	})
	b.Run("request", func(b *testing.B) {
		socket := filepath.Join(b.TempDir(), "s")
		d := launchDog(b, command(b, plainBinary, []string{"fprocess=cat"}, "-socket", socket), socket)
		for b.Loop() {
			res, err := d.client.Post("http://function.test/", "text/plain", strings.NewReader("hello"))
			if err != nil {
				b.Fatal(err)
			}
			if body, err := io.ReadAll(res.Body); err != nil || string(body) != "hello" {
				b.Fatalf("%q, %v", body, err)
			}
			res.Body.Close()
		}
	})
}

// spawn runs cat once with hello on its stdin.
func spawn(b *testing.B, path string) {
	in, err := pipeTo()
	if err != nil {
		b.Fatal(err)
	}
	defer in.close()
	out, err := pipeFrom()
	if err != nil {
		b.Fatal(err)
	}
	defer out.close()
	writeNow(in.ours, []byte("hello"))
	pid, err := syscall.ForkExec(path, []string{"cat"}, &syscall.ProcAttr{Files: []uintptr{uintptr(in.theirs), uintptr(out.theirs), uintptr(out.theirs)}})
	if err != nil {
		b.Fatal(err)
	}
	in.close()
	out.closeTheirs()
	if body, err := io.ReadAll(out.ours); err != nil || string(body) != "hello" {
		b.Fatalf("%q, %v", body, err)
	}
	wait(pid, nil, 0)
}
