//go:build !linux

package main

// keepDescriptors lets functions inherit none of the descriptors that the watchdog has inherited.
func keepDescriptors() { keepListed() }

// limitFiles: another process's limits can't be set here.
func limitFiles(int, uint64) {}
