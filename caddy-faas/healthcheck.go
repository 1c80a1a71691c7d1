package caddyfaas

import (
	"fmt"
	"net/http"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func healthcheckCommand() *cobra.Command {
	timeout := 5 * time.Second
	c := &cobra.Command{
		Use:   "healthcheck [<url>] [--timeout <duration>]",
		Short: "Asks a gateway for a page; ends with status 1 if it does not get one",
		Long: `Asks for the page at url, by default http://127.0.0.1:8080/, and ends with
status 0 if it is there or elsewhere (2xx, 3xx), else with status 1: the health check of a
container that has no other program. It does not ask /healthz by default: a
gateway whose engine is silent still serves, and must not be ended for that.`,
		Args: cobra.MaximumNArgs(1),
		RunE: caddycmd.WrapCommandFuncForCobra(func(f caddycmd.Flags) (int, error) {
			url := "http://127.0.0.1:8080/"
			if f.NArg() > 0 {
				url = f.Arg(0)
			}
			if err := askPage(url, timeout); err != nil {
				return 1, err
			}
			return 0, nil
		}),
	}
	c.Flags().DurationVar(&timeout, "timeout", timeout, "how long to wait for the answer")
	return c
}

func askPage(url string, timeout time.Duration) error {
	client := http.Client{
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "caddy-faas-healthcheck") // by which the Caddyfile keeps it out of the access log
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return nil
}
