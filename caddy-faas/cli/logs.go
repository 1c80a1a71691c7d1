package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

func logsCommand() *cobra.Command {
	c, o := command("logs <name>", "Shows what a function's replicas print",
		`Shows what a function's replicas print on their standard error: time, replica
and text. With -f it goes on until the function is removed, also while the
gateway gets a new configuration.`)
	o.namespaceFlag()
	c.Flags().BoolVar(&o.json, "json", false, "print the API's lines of JSON")
	follow := c.Flags().BoolP("follow", "f", false, "go on with new lines as they come")
	tail := c.Flags().Int("tail", -1, "how many of the last lines; -1 for all")
	since := c.Flags().String("since", "", "only lines since a time such as "+time.RFC3339+", or in the last 10m")
	instance := c.Flags().String("instance", "", "only lines of this replica")
	return o.run(1, 1, func(args []string) error {
		id := o.id(args[0])
		q := url.Values{
			"name": {id.Name}, "namespace": {id.Namespace}, "instance": {*instance},
			"tail": {strconv.Itoa(*tail)}, "follow": {strconv.FormatBool(*follow)},
		}
		if *since != "" {
			from, err := moment(*since)
			if err != nil {
				return err
			}
			q.Set("since", from.Format(time.RFC3339Nano))
		}
		client, err := o.client("")
		if err != nil {
			return err
		}
		return o.logs(client, id, q, *follow)
	})
}

// rest is how long to wait before a log that has ended is asked for again.
const rest = 500 * time.Millisecond

// logs prints a log. One that is followed also ends when the gateway gets a new configuration: then it goes on with the next line.
func (o *options) logs(client *client, id faas.ID, q url.Values, follow bool) error {
	ctx := o.cmd.Context()
	for again := false; ; again = true {
		resp, err := client.stream(ctx, http.MethodGet, "/system/logs?"+q.Encode(), nil)
		if again && ExitStatus(err) == Missing {
			return nil // it was removed
		}
		if err != nil {
			return err
		}
		last, err := o.printLog(resp.Body)
		resp.Body.Close()
		if err != nil || !follow {
			return err
		}
		if !last.IsZero() {
			q.Set("since", last.Add(1).Format(time.RFC3339Nano))
			q.Set("tail", "-1")
		}
		select {
		case <-time.After(rest):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// printLog prints lines of JSON, or what they say, and returns the time of the last one.
func (o *options) printLog(log io.Reader) (last time.Time, err error) {
	out := o.cmd.OutOrStdout()
	for lines := json.NewDecoder(log); ; {
		var (
			raw json.RawMessage
			l   struct {
				Instance  string    `json:"instance"`
				Timestamp time.Time `json:"timestamp"`
				Text      string    `json:"text"`
			}
		)
		err := lines.Decode(&raw)
		if errors.Is(err, io.EOF) {
			return last, nil
		}
		if err == nil {
			err = json.Unmarshal(raw, &l)
		}
		if err != nil {
			return last, fmt.Errorf("the log broke off: %w", err)
		}
		last = l.Timestamp
		if o.json {
			_, err = fmt.Fprintf(out, "%s\n", raw)
		} else {
			_, err = fmt.Fprintf(out, "%s %s %s\n", l.Timestamp.Format(time.RFC3339Nano), cmp.Or(l.Instance, "-"), l.Text)
		}
		if err != nil {
			return last, err
		}
	}
}

// moment reads a time, or how long ago it was.
func moment(s string) (time.Time, error) {
	if ago, err := time.ParseDuration(s); err == nil {
		return time.Now().Add(-ago), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, misuse("--since %q: want a duration such as 10m, or a time such as %s", s, time.RFC3339)
	}
	return t, nil
}
