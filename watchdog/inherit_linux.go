package main

import (
	"syscall"
	"unsafe"
)

// keepDescriptors lets functions inherit none of the descriptors that the watchdog has inherited.
func keepDescriptors() {
	// The same number on all architectures but MIPS, where it is none.
	const closeRange, cloexec = 436, 4 // SYS_CLOSE_RANGE, CLOSE_RANGE_CLOEXEC
	if _, _, errno := syscall.Syscall(closeRange, 3, 0xffffffff, cloexec); errno != 0 {
		keepListed() // before Linux 5.11
	}
}

// limitFiles bounds what the process may have open; the kernel has no way to do so at its start.
func limitFiles(pid int, files uint64) {
	limit := syscall.Rlimit{Cur: files, Max: files}
	syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(pid), syscall.RLIMIT_NOFILE, uintptr(unsafe.Pointer(&limit)), 0, 0, 0)
}
