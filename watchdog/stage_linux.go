package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// verbs are the steps that the flag -stage can ask for, each with the form of its arguments: p is an absolute path, n a number. The flag
// takes them one after the other, in words that are split like a command line. They are carried out in the order in which they stand.
// Mounts are made private by the first step that makes one, and never have device files or set-user-ID programs.
var verbs = map[string]string{
	"join":      "p",    // join the control group of this cgroup.procs file
	"processes": "n",    // let the user have so many processes and threads (RLIMIT_NPROC)
	"read-only": "",     // make everything that is mounted by now read-only
	"writable":  "p",    // but not this mount
	"bind":      "pp",   // show the first, which exists, at the second, which exists too; read-only if it is
	"bind-ro":   "pp",   // the same, read-only in any case
	"tmpfs":     "pnnn", // mount memory of so many bytes, which user and group may read, and nobody write once it is sealed
	"secret":    "ppnn", // copy a file to where only user and group ID may read it
	"seal":      "p",    // make a mount read-only
	"proc":      "",     // mount a fresh /proc, that of the present PID namespace
	"chdir":     "p",
	"user":      "nn", // become user and group, for good
}

// A step is a verb and its arguments.
type step struct {
	verb    string
	paths   []string
	numbers []int64
}

func parseSteps(text string) (steps []step, err error) {
	words, err := split(text)
	if err != nil {
		return nil, err
	}
	for len(words) > 0 {
		s := step{verb: words[0]}
		form, known := verbs[s.verb]
		words = words[1:]
		if !known || len(words) < len(form) {
			return nil, fmt.Errorf("%q is unknown, or something is missing after it", s.verb)
		}
		for _, kind := range form {
			word := words[0]
			words = words[1:]
			// A larger number would be cut to 32 bits where it is a user's, and 1<<32 is root's.
			n, err := strconv.ParseInt(word, 10, 64)
			switch {
			case kind == 'n' && (err != nil || n < 0 || n > 1<<32-2):
				return nil, fmt.Errorf("%s %q: want a number from 0 to %d", s.verb, word, int64(1<<32-2))
			case kind == 'n':
				s.numbers = append(s.numbers, n)
			case !filepath.IsAbs(word):
				return nil, fmt.Errorf("%s %q: want an absolute path", s.verb, word)
			default:
				s.paths = append(s.paths, word)
			}
		}
		steps = append(steps, s)
	}
	return steps, nil
}

// stage carries out the steps and then becomes the watchdog proper: the same program and arguments without -stage, as the user of the
// steps, who may not be able to reach the program's file any more and gains no privileges from any program he starts. The process dies
// with the thread that started it. stage is run as root in new mount and PID namespaces, unless the steps are all limits. It returns an
// error if a step failed, and nil if they are all limits: then nothing needs a new start.
func stage(text string, args []string) error {
	steps, err := parseSteps(text)
	if err != nil {
		return fmt.Errorf("-stage: %w", err)
	}
	runtime.LockOSThread() // no_new_privs and the death signal belong to the thread that executes the program
	parent := os.Getppid()
	self, err := syscall.Open("/proc/self/exe", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("-stage: opening the watchdog's own file: %w", err)
	}
	limits, private := true, false
	for _, s := range steps {
		limits = limits && (s.verb == "join" || s.verb == "processes")
		if !limits && !private {
			private = true
			if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
				return fmt.Errorf("-stage: making mounts private: %w", err)
			}
		}
		if err := s.do(); err != nil {
			return fmt.Errorf("-stage: %s: %w", s.verb, err)
		}
	}
	if limits {
		runtime.UnlockOSThread()
		return syscall.Close(self)
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

func (s *step) do() error {
	p, n := s.paths, s.numbers
	switch s.verb {
	case "join":
		return os.WriteFile(p[0], []byte("0"), 0)
	case "processes":
		const nproc = 6 // RLIMIT_NPROC, on all architectures but MIPS and SPARC
		return syscall.Setrlimit(nproc, &syscall.Rlimit{Cur: uint64(n[0]), Max: uint64(n[0])})
	case "read-only":
		return readOnly()
	case "bind", "bind-ro":
		return bind(p[0], p[1], s.verb == "bind-ro")
	case "writable":
		return reflag(p[0], syscall.MS_RDONLY, 0)
	case "tmpfs":
		const flags = syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_NOEXEC
		return named(p[0], syscall.Mount("tmpfs", p[0], "tmpfs", flags, fmt.Sprintf("size=%d,mode=0500,uid=%d,gid=%d", n[0], n[1], n[2])))
	case "secret":
		data, err := os.ReadFile(p[0])
		if err == nil {
			err = os.WriteFile(p[1], data, 0o400)
		}
		if err == nil {
			err = os.Chown(p[1], int(n[0]), int(n[1]))
		}
		return err
	case "seal":
		return reflag(p[0], 0, syscall.MS_RDONLY)
	case "proc":
		err := syscall.Mount("proc", "/proc", "proc", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, "")
		if err == syscall.EPERM { // containers may forbid it; then /proc stays as it was
			err = nil
		}
		return err
	case "chdir":
		return os.Chdir(p[0]) // before the user changes: the directories above may be closed to him
	case "user":
		return become(int(n[0]), int(n[1]))
	}
	return nil
}

// named says of which file an error is.
func named(path string, err error) error {
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return err
}

// readOnly is one call for all mounts, since Linux 5.12.
func readOnly() error {
	const setAttr, recursive, readOnly = 442, 0x8000, 1 // SYS_MOUNT_SETATTR, AT_RECURSIVE, MOUNT_ATTR_RDONLY
	root := []byte("/\x00")
	attr := [4]uint64{readOnly} // set, clear, propagation, userns_fd
	here := -100                // AT_FDCWD
	_, _, errno := syscall.Syscall6(setAttr, uintptr(here), uintptr(unsafe.Pointer(&root[0])), recursive,
		uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func bind(source, target string, readOnly bool) error {
	if err := syscall.Mount(source, target, "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting %s on %s: %w", source, target, err)
	}
	var set uintptr
	if readOnly {
		set = syscall.MS_RDONLY
	}
	return reflag(target, 0, set)
}

// reflag changes the flags of a mount. They are set all at once, so those that it has must be kept.
func reflag(target string, clear, set uintptr) error {
	var now syscall.Statfs_t
	err := syscall.Statfs(target, &now)
	if err == nil {
		const kept = syscall.MS_RDONLY | syscall.MS_NOEXEC | syscall.MS_NOATIME | syscall.MS_NODIRATIME
		flags := uintptr(now.Flags)&kept&^clear | set | syscall.MS_NOSUID | syscall.MS_NODEV
		err = syscall.Mount("", target, "", syscall.MS_BIND|syscall.MS_REMOUNT|flags, "")
	}
	return named(target, err)
}

// become changes the user, for good.
func become(uid, gid int) error {
	if uid == 0 {
		return nil
	}
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("leaving all groups: %w", err)
	}
	if err := syscall.Setgid(gid); err != nil {
		return fmt.Errorf("becoming group %d: %w", gid, err)
	}
	if err := syscall.Setuid(uid); err != nil {
		return fmt.Errorf("becoming user %d: %w", uid, err)
	}
	const setNoNewPrivs = 38 // PR_SET_NO_NEW_PRIVS
	return prctl(setNoNewPrivs, 1)
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
