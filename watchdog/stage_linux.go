package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// plan is what the flag -stage asks for.
type plan struct {
	Mounts []bind `json:"mounts"` // made in this order
	Proc   bool   `json:"proc"`   // mount a fresh /proc, that of the present PID namespace
	Dir    string `json:"dir"`    // absolute; "": stay
	UID    int    `json:"uid"`    // 0: stay root
	GID    int    `json:"gid"`
}

// bind shows Source at Target, both absolute and existing; never with device files or set-user-ID programs.
type bind struct {
	Source   string `json:"source"`
	Target   string `json:"target"`
	ReadOnly bool   `json:"read_only"`
}

func parsePlan(text string) (*plan, error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	var p plan
	if err := d.Decode(&p); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, errors.New("something follows the object")
	}
	const most = 1<<32 - 2 // a larger one would be cut to 32 bits, and 1<<32 is root's
	if p.UID < 0 || p.GID < 0 || int64(p.UID) > most || int64(p.GID) > most {
		return nil, fmt.Errorf("uid and gid must be from 0 to %d", int64(most))
	}
	paths := []string{p.Dir}
	for _, m := range p.Mounts {
		if m.Source == "" || m.Target == "" {
			return nil, errors.New("a mount needs source and target")
		}
		paths = append(paths, m.Source, m.Target)
	}
	for _, path := range paths {
		if path != "" && !filepath.IsAbs(path) {
			return nil, fmt.Errorf("path %q is not absolute", path)
		}
	}
	return &p, nil
}

// stage is run as root in new mount and PID namespaces. It carries out the plan and then becomes the watchdog proper: the same program
// and arguments without -stage, as the user of the plan, who may not be able to reach the program's file any more. The user gains no
// privileges from any program he starts. The process dies with the thread that started it. stage returns only if a step failed.
func stage(text string, args []string) error {
	p, err := parsePlan(text)
	if err != nil {
		return fmt.Errorf("-stage: %w", err)
	}
	runtime.LockOSThread() // no_new_privs and the death signal belong to the thread that executes the program
	parent := os.Getppid()
	self, err := syscall.Open("/proc/self/exe", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("-stage: opening the watchdog's own file: %w", err)
	}
	if err := p.mount(); err != nil {
		return fmt.Errorf("-stage: %w", err)
	}
	if p.Dir != "" {
		// While still root: the directories above may be closed to the user.
		if err := os.Chdir(p.Dir); err != nil {
			return fmt.Errorf("-stage: %w", err)
		}
	}
	if err := p.drop(); err != nil {
		return fmt.Errorf("-stage: %w", err)
	}
	// Changing the user has cleared it.
	if err := prctl(syscall.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL)); err != nil {
		return fmt.Errorf("-stage: asking to die with the parent: %w", err)
	}
	// In a PID namespace of its own the process sees no parent; there -parent-fd tells.
	if os.Getppid() != parent {
		return errors.New("-stage: the parent has ended")
	}
	err = syscall.Exec(fmt.Sprintf("/proc/self/fd/%d", self), withoutStage(args), os.Environ())
	return fmt.Errorf("-stage: executing the watchdog again: %w", err)
}

func (p *plan) mount() error {
	if len(p.Mounts) == 0 && !p.Proc {
		return nil
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	for _, m := range p.Mounts {
		if err := m.mount(); err != nil {
			return err
		}
	}
	if p.Proc {
		err := syscall.Mount("proc", "/proc", "proc", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, "")
		if err != nil && err != syscall.EPERM { // containers may forbid it; then /proc stays as it was
			return fmt.Errorf("mounting /proc: %w", err)
		}
	}
	return nil
}

func (m *bind) mount() error {
	if err := syscall.Mount(m.Source, m.Target, "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting %s on %s: %w", m.Source, m.Target, err)
	}
	// A bind mount takes flags only when it is mounted again, and then it needs all of them: keep those that the source has.
	var now syscall.Statfs_t
	if err := syscall.Statfs(m.Target, &now); err != nil {
		return fmt.Errorf("looking at the mount %s: %w", m.Target, err)
	}
	const kept = syscall.MS_RDONLY | syscall.MS_NOEXEC | syscall.MS_NOATIME | syscall.MS_NODIRATIME
	flags := uintptr(now.Flags)&kept | syscall.MS_NOSUID | syscall.MS_NODEV
	if m.ReadOnly {
		flags |= syscall.MS_RDONLY
	}
	if err := syscall.Mount("", m.Target, "", syscall.MS_BIND|syscall.MS_REMOUNT|flags, ""); err != nil {
		return fmt.Errorf("setting the flags of the mount %s: %w", m.Target, err)
	}
	return nil
}

// drop becomes the user of the plan, for good.
func (p *plan) drop() error {
	if p.UID == 0 {
		return nil
	}
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("leaving all groups: %w", err)
	}
	if err := syscall.Setgid(p.GID); err != nil {
		return fmt.Errorf("becoming group %d: %w", p.GID, err)
	}
	if err := syscall.Setuid(p.UID); err != nil {
		return fmt.Errorf("becoming user %d: %w", p.UID, err)
	}
	const setNoNewPrivs = 38 // PR_SET_NO_NEW_PRIVS
	if err := prctl(setNoNewPrivs, 1); err != nil {
		return fmt.Errorf("giving up new privileges: %w", err)
	}
	return nil
}

func prctl(option, value uintptr) error {
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, option, value, 0, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// withoutStage returns the arguments without -stage and its value, in all the ways that package flag allows to write them.
func withoutStage(args []string) []string {
	var rest []string
	for i := 0; i < len(args); i++ {
		name, _, joined := strings.Cut(args[i], "=")
		if i > 0 && (name == "-stage" || name == "--stage") {
			if !joined {
				i++
			}
			continue
		}
		rest = append(rest, args[i])
	}
	return rest
}
