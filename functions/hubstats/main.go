// Command hubstats says how many repositories a user or an organisation has on
// Docker Hub. The name is the first line of its input.
//
// Variables: hub_url, the address of the Hub (default https://hub.docker.com).
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	_ "golang.org/x/crypto/x509roots/fallback" // an image FROM scratch has no certificates
)

var names = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "hubstats:", err)
		os.Exit(1)
	}
}

func run() error {
	name, err := firstLine(os.Stdin)
	if err != nil {
		return err
	}
	hub := os.Getenv("hub_url")
	if hub == "" {
		hub = "https://hub.docker.com"
	}
	n, err := count(hub, name)
	if err != nil {
		return err
	}
	_, err = fmt.Printf("%s has %d repositories on Docker Hub\n", name, n)
	return err
}

func firstLine(in io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(in, 1<<10)).ReadString('\n')
	if err != nil && err != io.EOF {
		return "", err
	}
	name := strings.TrimSpace(line)
	switch {
	case name == "":
		return "", errors.New("send the name of a user or an organisation")
	case !names.MatchString(name):
		return "", fmt.Errorf("%q is no name on Docker Hub", name)
	}
	return name, nil
}

// count asks the Hub.
func count(hub, name string) (int, error) {
	address, err := url.JoinPath(hub, "v2/repositories", name)
	if err != nil {
		return 0, err
	}
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Get(address + "/?page_size=1")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return 0, fmt.Errorf("there is no %q on Docker Hub", name)
	default:
		return 0, fmt.Errorf("the answer of Docker Hub: %s", resp.Status)
	}
	var page struct {
		Count *int `json:"count"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&page); err != nil {
		return 0, fmt.Errorf("the answer of Docker Hub: %w", err)
	}
	if page.Count == nil {
		return 0, errors.New("the answer of Docker Hub has no count")
	}
	return *page.Count, nil
}
