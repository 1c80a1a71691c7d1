package main

import (
	"fmt"
	"io"
	"net/http"
)

// bounded is a body that must not be longer than so many bytes.
type bounded struct {
	io.ReadCloser
	left int64
	over error
}

// Read delivers nothing of a part that is too much.
func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, b.over
	}
	return n, err
}

func requestLimit(most int64) error {
	return &failure{http.StatusRequestEntityTooLarge, fmt.Sprintf("max_request of %d bytes exceeded", most), ""}
}

func responseLimit(most int64) error {
	return &failure{http.StatusBadGateway, fmt.Sprintf("max_response of %d bytes exceeded", most), "response-limit"}
}
