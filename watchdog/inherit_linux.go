package main

import "syscall"

// keepDescriptors lets functions inherit none of the descriptors that the watchdog has inherited.
func keepDescriptors() {
	// The same number on all architectures but MIPS, where it is none.
	const closeRange, cloexec = 436, 4 // SYS_CLOSE_RANGE, CLOSE_RANGE_CLOEXEC
	if _, _, errno := syscall.Syscall(closeRange, 3, 0xffffffff, cloexec); errno != 0 {
		keepListed() // before Linux 5.11
	}
}
