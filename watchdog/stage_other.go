//go:build !linux

package main

import "errors"

func stage(string, []string) error { return errors.New("-stage exists on Linux only") }
