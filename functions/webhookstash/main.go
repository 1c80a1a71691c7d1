// Command webhookstash keeps what it is sent: it writes its standard input to
// UNIXNANO.txt in its working directory.
package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

func main() {
	if err := stash(); err != nil {
		fmt.Fprintln(os.Stderr, "webhookstash:", err)
		os.Exit(1)
	}
	fmt.Println("Stashing request")
}

func stash() error {
	for {
		name := fmt.Sprintf("%d.txt", time.Now().UnixNano())
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if os.IsExist(err) {
			continue // another request in the same nanosecond
		}
		if err != nil {
			return err
		}
		if _, err := io.Copy(f, os.Stdin); err != nil {
			return err
		}
		return f.Close()
	}
}
