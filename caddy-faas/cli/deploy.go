package cli

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/stack"
)

// deployment is the API's FunctionDeployment.
type deployment struct {
	Service                string            `json:"service,omitempty"`
	Namespace              string            `json:"namespace,omitempty"`
	Image                  string            `json:"image,omitempty"`
	EnvProcess             string            `json:"envProcess,omitempty"`
	EnvVars                map[string]string `json:"envVars,omitempty"`
	Constraints            []string          `json:"constraints,omitempty"`
	Secrets                []string          `json:"secrets,omitempty"`
	Labels                 map[string]string `json:"labels,omitempty"`
	Annotations            map[string]string `json:"annotations,omitempty"`
	Limits                 map[string]string `json:"limits,omitempty"`
	Requests               map[string]string `json:"requests,omitempty"`
	ReadOnlyRootFilesystem bool              `json:"readOnlyRootFilesystem,omitempty"`
}

func (d *deployment) command() string { return cmp.Or(d.EnvProcess, d.EnvVars["fprocess"]) }

func (d *deployment) id() faas.ID { return faas.ID{Name: d.Service, Namespace: d.Namespace} }

// selection is a stack file, and which of its functions are meant.
type selection struct{ file, filter, regex string }

func (s *selection) flags(c *cobra.Command) {
	c.Flags().StringVarP(&s.file, "yaml", "f", "", "stack file; all its functions, unless they are filtered")
	c.Flags().StringVar(&s.filter, "filter", "", "of the stack file only names that this pattern fits, such as 'api-*'")
	c.Flags().StringVar(&s.regex, "regex", "", "of the stack file only names that this regular expression fits")
}

// read returns the functions, and the gateway that the file names.
func (s *selection) read() (functions []faas.Function, gateway string, err error) {
	if s.file == "" {
		if s.filter != "" || s.regex != "" {
			err = misuse("--filter and --regex want a stack file: -f stack.yml")
		}
		return nil, "", err
	}
	_, bad := path.Match(s.filter, "")
	fits, err := regexp.Compile(s.regex)
	switch {
	case bad != nil:
		return nil, "", misuse("--filter %q: want a name with * or ?", s.filter)
	case err != nil:
		return nil, "", misuse("--regex: %w", err)
	}
	if functions, _, err = stack.Read(s.file); err == nil {
		gateway, err = stack.Gateway(s.file)
	}
	if err != nil {
		return nil, "", Misuse(err)
	}
	functions = slices.DeleteFunc(functions, func(fn faas.Function) bool {
		named, _ := path.Match(cmp.Or(s.filter, "*"), fn.Name)
		return !named || !fits.MatchString(fn.Name)
	})
	if len(functions) == 0 {
		return nil, "", misuse("%s: no function is selected", s.file)
	}
	return functions, gateway, nil
}

// fields are the flags of one deployment.
type fields struct {
	deployment
	env, labels, annotations []string
	limits, requests         amounts
}

func (d *fields) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&d.Image, "image", "", "image; the allow block of the gateway says which may be deployed")
	f.StringVar(&d.EnvProcess, "fprocess", "", "command; default: the image's own")
	f.StringArrayVarP(&d.env, "env", "e", nil, "environment variable NAME=VALUE; may be repeated, as all below may")
	f.StringArrayVarP(&d.labels, "label", "l", nil, "label NAME=VALUE")
	f.StringArrayVar(&d.annotations, "annotation", nil, "annotation NAME=VALUE")
	f.StringArrayVar(&d.Secrets, "secret", nil, "name of a secret that the function gets")
	f.StringArrayVar(&d.Constraints, "constraint", nil, "placement constraint")
	f.StringVar(&d.limits.memory, "memory-limit", "", "such as 64Mi")
	f.StringVar(&d.limits.cpu, "cpu-limit", "", "such as 500m")
	f.StringVar(&d.requests.memory, "memory-request", "", "reservation")
	f.StringVar(&d.requests.cpu, "cpu-request", "", "reservation")
	f.BoolVar(&d.ReadOnlyRootFilesystem, "readonly", false, "the function can't write its root filesystem")
}

// named is the deployment of this name that the flags make.
func (d *fields) named(id faas.ID) (deployment, error) {
	d.Service, d.Namespace = id.Name, id.Namespace
	for flag, list := range map[string]struct {
		pairs []string
		into  *map[string]string
	}{"env": {d.env, &d.EnvVars}, "label": {d.labels, &d.Labels}, "annotation": {d.annotations, &d.Annotations}} {
		for _, pair := range list.pairs {
			name, value, ok := strings.Cut(pair, "=")
			if !ok || name == "" {
				return d.deployment, misuse("--%s %q: want NAME=VALUE", flag, pair)
			}
			set(list.into, name, value)
		}
	}
	d.limits.into(&d.Limits)
	d.requests.into(&d.Requests)
	return d.deployment, nil
}

// amounts are of one replica.
type amounts struct{ memory, cpu string }

func (a amounts) into(m *map[string]string) {
	for name, amount := range map[string]string{faas.Memory: a.memory, faas.CPU: a.cpu} {
		if amount != "" {
			set(m, name, amount)
		}
	}
}

// set sets an entry of a map that is made when it is needed.
func set(m *map[string]string, name, value string) {
	if *m == nil {
		*m = map[string]string{}
	}
	(*m)[name] = value
}

// declared is the deployment of a stack file's function.
func declared(fn faas.Function) deployment {
	return deployment{
		Service: fn.Name, Namespace: fn.Namespace, Image: fn.Image, EnvProcess: fn.Process, EnvVars: fn.Env,
		Constraints: fn.Constraints, Secrets: fn.Secrets, Labels: fn.Labels, Annotations: fn.Annotations,
		Limits: fn.Limits, Requests: fn.Requests, ReadOnlyRootFilesystem: fn.ReadOnlyRootFilesystem,
	}
}

func deployCommand() *cobra.Command {
	c, o := command("deploy <name> --image <image> | -f <stack.yml>", "Deploys functions, or updates those that there are",
		`Deploys a function, or the functions of a stack file in faas-cli's format. One
that there is already gets the new definition: its replicas are replaced
without losing a request, and if the new ones don't start the old ones serve on.

  caddy faas deploy upper --image functions/alpine --fprocess 'tr a-z A-Z'
  caddy faas deploy -f stack.yml --filter 'api-*'

If the start fails within a second the command says why, and ends with status
1 though the definition is kept; if it is not ready by then the command says so,
and 'caddy faas describe' tells what becomes of it.`)
	o.namespaceFlag()
	var (
		s selection
		d fields
	)
	s.flags(c)
	d.flags(c)
	return o.run(0, 1, func(args []string) error {
		functions, given, err := s.read()
		if err != nil {
			return err
		}
		if (len(args) == 0) == (s.file == "") || s.file == "" && d.Image == "" {
			return o.usage()
		}
		all := map[faas.ID]deployment{}
		var ids []faas.ID
		for _, fn := range functions {
			fn.ID = o.override(fn.ID)
			all[fn.ID], ids = declared(fn), append(ids, fn.ID)
		}
		if len(args) > 0 {
			id := o.id(args[0])
			if all[id], err = d.named(id); err != nil {
				return err
			}
			ids = append(ids, id)
		}
		client, err := o.client(given)
		if err != nil {
			return err
		}
		return o.each(ids, func(id faas.ID) error { return client.deploy(c, all[id]) })
	})
}

// override puts a stack file's function into the namespace of the flag.
func (o *options) override(id faas.ID) faas.ID {
	id.Namespace = cmp.Or(o.namespace, id.Namespace)
	return id
}

// deploy updates a function, or creates it.
func (c *client) deploy(cmd *cobra.Command, d deployment) error {
	name, done := short(d.id()), "updated"
	if d.Image == "" {
		return misuse("function %s: no image: a folder and a command alone are for the gateway's own stack file", name)
	}
	resp, err := c.do(cmd.Context(), http.MethodPut, "/system/functions", d)
	if ExitStatus(err) == Missing {
		done = "deployed"
		resp, err = c.do(cmd.Context(), http.MethodPost, "/system/functions", d)
	}
	if err != nil {
		return fmt.Errorf("function %s: %w", name, err)
	}
	note, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	where := functionURL(c.base, d.id())
	if (&faas.Function{Labels: d.Labels, Annotations: d.Annotations}).IsJob() { // nobody can call it
		where = "the job runs; caddy faas describe " + name + " tells how"
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s %s: %s\n", done, name, where)
	text := strings.TrimSpace(string(note))
	switch {
	case text == "":
	case resp.Header.Get("X-Faas-Reason") != "":
		return fmt.Errorf("function %s: %s", name, text)
	default:
		cmd.PrintErrf("function %s: %s\n", name, text)
	}
	return nil
}
