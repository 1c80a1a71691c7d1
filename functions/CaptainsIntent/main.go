// Command CaptainsIntent is an Alexa skill: it speaks how many Docker Captains
// there are, by counting them on a page.
//
// Variables: captains_url, the page (default: Docker's own); captains_pattern,
// a regular expression whose group is what tells one Captain from another
// (default: the name in a link to /captains/NAME). Who is found twice counts once.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"time"

	_ "golang.org/x/crypto/x509roots/fallback" // an image FROM scratch has no certificates

	"github.com/caddy-faas/faas/functions/internal/alexa"
)

const (
	page    = "https://www.docker.com/community/captains/"
	pattern = `(?i)href="[^"]*/captains/([^"/#?]+)/?"`
	// maxPage bounds the page, in bytes.
	maxPage = 8 << 20
)

func main() {
	alexa.Main("Docker Captains", func() (string, error) {
		n, err := count(variable("captains_url", page), variable("captains_pattern", pattern))
		return fmt.Sprintf("There are %d Docker Captains", n), err
	})
}

func variable(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// count reads the page. None at all means that it looks different than expected.
func count(address, pattern string) (int, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return 0, err
	}
	if re.NumSubexp() != 1 {
		return 0, fmt.Errorf("captains_pattern %q: want one group", pattern)
	}
	client := http.Client{Timeout: 6 * time.Second} // Alexa waits 8 seconds
	resp, err := client.Get(address)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s answered %s", address, resp.Status)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxPage+1))
	if err != nil {
		return 0, err
	}
	if len(text) > maxPage {
		return 0, fmt.Errorf("%s has more than %d bytes", address, maxPage)
	}
	captains := map[string]bool{}
	for _, found := range re.FindAllSubmatch(text, -1) {
		captains[string(found[1])] = true
	}
	if len(captains) == 0 {
		return 0, fmt.Errorf("%s shows no Captain", address)
	}
	return len(captains), nil
}
