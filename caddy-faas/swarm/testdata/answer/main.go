// Answer is a function that costs little: it answers every request with a KiB.
package main

import (
	"bytes"
	"log"
	"net"

	"github.com/caddy-faas/faas/internal/bench"
)

func main() {
	ln, err := net.Listen("tcp", ":8080")
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(bench.Answer(ln, bytes.Repeat([]byte("function"), 128)))
}
