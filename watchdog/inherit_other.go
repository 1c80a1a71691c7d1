//go:build !linux

package main

// keepDescriptors lets functions inherit none of the descriptors that the watchdog has inherited.
func keepDescriptors() { keepListed() }
