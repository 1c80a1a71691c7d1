package cli

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// status is the API's FunctionStatus.
type status struct {
	Name string `json:"name"`
	deployment
	InvocationCount   float64   `json:"invocationCount"`
	Replicas          int       `json:"replicas"`
	AvailableReplicas int       `json:"availableReplicas"`
	CreatedAt         time.Time `json:"createdAt"`
	Reason            string    `json:"reason"`
	Job               *job      `json:"job"`
	Scaling           *scaling  `json:"scaling"`
	Usage             *struct {
		CPU              float64 `json:"cpu"` // thousandths of a core
		TotalMemoryBytes float64 `json:"totalMemoryBytes"`
	} `json:"usage"`
}

// scaling is how many replicas a function has, and why.
type scaling struct {
	InFlight int       `json:"inFlight"`
	Queued   int       `json:"queued"`
	Rate     float64   `json:"rate"`
	Reason   string    `json:"reason"`
	Since    time.Time `json:"since"`
	Held     string    `json:"held"`
}

func (s *scaling) describe(line func(name, value string)) {
	if s == nil { // of another gateway's
		return
	}
	if s.InFlight+s.Queued > 0 {
		line("Load:", fmt.Sprintf("%.3g requests/s, %d in flight, %d waiting", s.Rate, s.InFlight, s.Queued))
	}
	if s.Reason != "" {
		line("Scaled:", s.Reason+", at "+s.Since.Format(time.RFC3339))
	}
	if s.Held != "" {
		line("Held:", s.Held)
	}
}

// ready is how many replicas are ready of how many there should be, or how a job stands.
func (s *status) ready() string {
	if s.Job != nil {
		return s.Job.String()
	}
	return fmt.Sprintf("%d/%d", s.AvailableReplicas, s.Replicas)
}

// within is the query for a namespace.
func within(namespace string) string {
	if namespace == "" {
		return ""
	}
	return "?namespace=" + url.QueryEscape(namespace)
}

func listCommand() *cobra.Command {
	c, o := command("list", "Lists the functions of a namespace", "")
	c.Aliases = []string{"ls"}
	o.namespaceFlag()
	o.jsonFlag()
	quiet := c.Flags().BoolP("quiet", "q", false, "names only")
	return o.run(0, 0, func([]string) error {
		return show(o, "/system/functions"+within(o.namespace), func(w io.Writer, all []status) {
			if !*quiet {
				row(w, "NAME", "READY", "INVOCATIONS", "IMAGE", "COMMAND")
			}
			for _, s := range all {
				if *quiet {
					row(w, s.Name)
				} else {
					row(w, s.Name, s.ready(), s.InvocationCount, s.Image, s.command())
				}
			}
		})
	})
}

func describeCommand() *cobra.Command {
	_, o := command("describe <name>", "Shows one function, and what ails it", "")
	o.namespaceFlag()
	o.jsonFlag()
	return o.run(1, 1, func(args []string) error {
		id := o.id(args[0])
		path := "/system/function/" + url.PathEscape(id.Name) + "?usage=1&namespace=" + url.QueryEscape(id.Namespace)
		return show(o, path, func(w io.Writer, s status) {
			base, _ := o.url("") // the one that has answered
			s.describe(w, base)
		})
	})
}

// describe prints a line for each thing that is known; further lines of it are indented.
func (s *status) describe(w io.Writer, base string) {
	line := func(name string, text string) {
		for i, part := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
			if i > 0 {
				name = ""
			} else if text == "" {
				return
			}
			row(w, name, part)
		}
	}
	pairs := func(name string, values map[string]string) {
		var lines []string
		for _, key := range slices.Sorted(maps.Keys(values)) {
			lines = append(lines, key+"="+values[key])
		}
		line(name, strings.Join(lines, "\n"))
	}
	line("Name:", s.Name)
	line("Namespace:", s.Namespace)
	if s.Job != nil {
		s.Job.describe(line)
		line("Reason:", s.Reason)
	} else {
		line("Ready:", s.ready())
		line("Reason:", s.Reason)
		s.Scaling.describe(line)
		line("URL:", functionURL(base, faas.ID{Name: s.Name, Namespace: s.Namespace}))
	}
	line("Image:", s.Image)
	line("Command:", s.command())
	line("Invocations:", strconv.FormatFloat(s.InvocationCount, 'f', -1, 64))
	line("Created:", s.CreatedAt.Format(time.RFC3339))
	if s.Usage != nil {
		line("CPU:", fmt.Sprintf("%.3f cores", s.Usage.CPU/1000))
		line("Memory:", fmt.Sprintf("%.1f MiB", s.Usage.TotalMemoryBytes/(1<<20)))
	}
	pairs("Environment:", s.EnvVars)
	pairs("Labels:", s.Labels)
	pairs("Annotations:", s.Annotations)
	line("Secrets:", strings.Join(s.Secrets, "\n"))
	line("Constraints:", strings.Join(s.Constraints, "\n"))
	pairs("Limits:", s.Limits)
	pairs("Requests:", s.Requests)
	if s.ReadOnlyRootFilesystem {
		line("Read-only:", "true")
	}
}

// functionURL is where a function is called.
func functionURL(base string, id faas.ID) string {
	return base + "/function/" + strings.TrimSuffix(id.String(), "."+faas.DefaultNamespace)
}

func removeCommand() *cobra.Command {
	c, o := command("remove <name...> | -f <stack.yml>", "Removes functions", "")
	c.Aliases = []string{"rm", "delete"}
	o.namespaceFlag()
	var s selection
	s.flags(c)
	return o.run(0, -1, func(args []string) error {
		functions, given, err := s.read()
		if err != nil {
			return err
		}
		if (len(args) == 0) == (s.file == "") {
			return o.usage()
		}
		var ids []faas.ID
		for _, name := range args {
			ids = append(ids, o.id(name))
		}
		for _, fn := range functions {
			ids = append(ids, o.override(fn.ID))
		}
		client, err := o.client(given)
		if err != nil {
			return err
		}
		return o.each(ids, func(id faas.ID) error {
			body := map[string]string{"functionName": id.Name, "namespace": id.Namespace}
			_, err := client.do(c.Context(), http.MethodDelete, "/system/functions", body)
			if err == nil {
				fmt.Fprintln(c.OutOrStdout(), "removed", short(id))
			}
			return err
		})
	})
}

func scaleCommand() *cobra.Command {
	c, o := command("scale <name> <replicas>", "Sets the number of replicas",
		"Sets the number of replicas. With 0 the next invocation starts one again.")
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error { // -1 is taken for a flag
		return c.Parent().FlagErrorFunc()(c, fmt.Errorf("%w; replicas: want a number from 0", err))
	})
	o.namespaceFlag()
	return o.run(2, 2, func(args []string) error {
		n, err := strconv.Atoi(args[1])
		if err != nil || n < 0 {
			return misuse("replicas %q: want a number from 0", args[1])
		}
		client, err := o.client("")
		if err != nil {
			return err
		}
		id := o.id(args[0])
		body := map[string]any{"serviceName": id.Name, "namespace": id.Namespace, "replicas": n}
		if _, err = client.do(c.Context(), http.MethodPost, "/system/scale-function/"+url.PathEscape(id.Name), body); err == nil {
			fmt.Fprintf(c.OutOrStdout(), "scaled %s to %d\n", short(id), n)
		}
		return err
	})
}

// short is NAME in the default namespace, else NAME.NAMESPACE.
func short(id faas.ID) string { return strings.TrimSuffix(id.String(), "."+faas.DefaultNamespace) }

// each does all, and prints the errors of all but the last that fails, which it returns.
func (o *options) each(ids []faas.ID, do func(faas.ID) error) error {
	var failed error
	for _, id := range ids {
		if err := do(id); err != nil {
			if failed != nil {
				o.cmd.PrintErrln("Error:", failed)
			}
			failed = err
		}
		if ExitStatus(failed) >= Unwelcome { // so it is for the others
			break
		}
	}
	return failed
}

func namespacesCommand() *cobra.Command {
	_, o := command("namespaces", "Lists the namespaces", "")
	o.jsonFlag()
	return o.run(0, 0, func([]string) error {
		return show(o, "/system/namespaces", func(w io.Writer, names []string) {
			for _, name := range names {
				row(w, name)
			}
		})
	})
}

func versionCommand() *cobra.Command {
	c, o := command("version", "Shows what the gateway is", "")
	c.Aliases = []string{"info"}
	o.jsonFlag()
	return o.run(0, 0, func([]string) error {
		type version struct{ Release, SHA string }
		type info struct {
			Provider struct{ Provider, Orchestration string }
			Version  version
			Arch     string
		}
		return show(o, "/system/info", func(w io.Writer, i info) {
			row(w, "Gateway:", i.Provider.Provider)
			row(w, "Release:", i.Version.Release)
			row(w, "Commit:", i.Version.SHA)
			row(w, "Provider:", i.Provider.Orchestration)
			row(w, "Architecture:", i.Arch)
		})
	})
}
