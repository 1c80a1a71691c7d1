package main

import (
	"os"
	"strconv"
	"syscall"
)

// keepListed is keepDescriptors for the descriptors that the system lists.
func keepListed() {
	list, _ := os.ReadDir("/dev/fd")
	for _, entry := range list {
		if fd, err := strconv.Atoi(entry.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
}
