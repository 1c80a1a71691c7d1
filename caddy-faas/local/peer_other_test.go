//go:build unix && !linux

package local

import (
	"errors"
	"net"
)

func peer(*net.UnixConn) (int, error) { return 0, errors.ErrUnsupported }
