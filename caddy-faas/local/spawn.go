package local

import (
	"os/exec"
	"runtime"
)

// A spawner starts processes from one thread that lives until the engine
// ends: the kernel's signal at the parent's death is at the death of the
// thread that started the process.
type spawner struct {
	jobs       chan func()
	quit, done chan struct{}
}

func newSpawner() spawner {
	s := spawner{jobs: make(chan func()), quit: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		for {
			select {
			case job := <-s.jobs:
				job()
			case <-s.quit:
				return
			}
		}
	}()
	return s
}

func (s spawner) start(cmd *exec.Cmd) error { return s.do(cmd.Start) }

// do runs something on that thread.
func (s spawner) do(job func() error) error {
	result := make(chan error, 1)
	select {
	case s.jobs <- func() { result <- job() }:
		return <-result
	case <-s.done:
		return errClosed
	}
}

func (s spawner) end() {
	close(s.quit)
	<-s.done
}
