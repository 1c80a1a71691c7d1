// Command HostnameIntent is an Alexa skill: it answers the intent of its name
// by speaking the name of the host that it runs on.
package main

import (
	"os"

	"github.com/caddy-faas/faas/functions/internal/alexa"
)

func main() {
	alexa.Main("Hostname", func() (string, error) {
		host, err := os.Hostname()
		return "Your hostname is " + host, err
	})
}
