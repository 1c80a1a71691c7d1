//go:build !linux

package caddyfaas

import "testing"

// ownNetwork is for Linux alone.
func ownNetwork(*testing.T, string) string { return "" }
