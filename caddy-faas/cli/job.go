package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// job is how the last run of a job stands.
type job struct {
	Iteration   int       `json:"iteration"`
	Completions int       `json:"completions"`
	Done        int       `json:"done"`
	Failed      int       `json:"failed"`
	Running     int       `json:"running"`
	Began       time.Time `json:"began"`
	Ended       time.Time `json:"ended"`
	ExitCode    *int      `json:"exitCode"`
	Failure     string    `json:"failure"`
}

func (j *job) String() string {
	word := "done"
	switch {
	case j.Ended.IsZero():
		word = "running"
	case j.Done < j.Completions:
		word = "failed"
	}
	return fmt.Sprintf("%s %d/%d", word, j.Done, j.Completions)
}

func (j *job) describe(line func(name, text string)) {
	line("Job:", j.String())
	line("Run:", strconv.Itoa(j.Iteration))
	line("Began:", j.Began.Format(time.RFC3339))
	if !j.Ended.IsZero() {
		line("Ended:", j.Ended.Format(time.RFC3339))
	}
	if j.ExitCode != nil {
		line("Exit status:", strconv.Itoa(*j.ExitCode))
	}
}

func runCommand() *cobra.Command {
	c, o := command("run <name>", "Runs a job again",
		"Runs a job again, once its last run has ended. With --wait the program ends with the run, with status 1 if it failed.")
	o.namespaceFlag()
	completions := c.Flags().Int("completions", 0, "how many processes must end with status 0 (default: as deployed)")
	wait := c.Flags().Bool("wait", false, "wait for its end")
	return o.run(1, 1, func(args []string) error {
		if *completions < 0 || *completions == 0 && c.Flags().Changed("completions") {
			return misuse("--completions %d: want a number from 1", *completions)
		}
		client, err := o.client("")
		if err != nil {
			return err
		}
		id := o.id(args[0])
		before, err := client.job(c.Context(), id)
		if err != nil {
			return err
		}
		body := map[string]any{"namespace": id.Namespace}
		if *completions > 0 {
			body["completions"] = *completions
		}
		if _, err := client.do(c.Context(), http.MethodPost, "/system/run-function/"+url.PathEscape(id.Name), body); err != nil {
			return err
		}
		fmt.Fprintln(c.OutOrStdout(), "runs", short(id))
		for *wait {
			select {
			case <-c.Context().Done():
				return c.Context().Err()
			case <-time.After(time.Second):
			}
			j, err := client.job(c.Context(), id)
			switch {
			case err != nil:
				return err
			case j.Iteration <= before.Iteration || j.Ended.IsZero():
			case j.Done < j.Completions:
				return fmt.Errorf("job %s: %s: %s", short(id), &j, j.Failure)
			default:
				fmt.Fprintln(c.OutOrStdout(), &j)
				return nil
			}
		}
		return nil
	})
}

// job asks how a job stands; a function that is none stands at nothing, and running it is refused.
func (c *client) job(ctx context.Context, id faas.ID) (job, error) {
	resp, err := c.do(ctx, http.MethodGet, "/system/function/"+url.PathEscape(id.Name)+"?namespace="+url.QueryEscape(id.Namespace), nil)
	if err != nil {
		return job{}, err
	}
	var s status
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		return job{}, fmt.Errorf("the gateway's answer: %w", err)
	}
	if s.Job == nil {
		return job{}, nil
	}
	return *s.Job, nil
}
