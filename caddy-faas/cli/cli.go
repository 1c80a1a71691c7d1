// Package cli is the commands below `caddy faas` that manage functions, here or
// on another machine. It knows a gateway by its REST API alone.
package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// Statuses with which the commands end.
const (
	Failed      = 1 // refused or failed
	Misused     = 2 // arguments, flags or files that can't be meant
	Missing     = 3 // no such function, secret or namespace
	Unwelcome   = 4 // no credentials, or wrong ones
	Unreachable = 5 // no gateway there
)

// Help tells what all commands have in common.
const Help = `The gateway is --gateway, else provider.gateway of a stack file that is given
with -f, else OPENFAAS_URL, else http://127.0.0.1:8080.

The password comes from the standard input with --password-stdin, else from
what 'caddy faas login' (or 'faas-cli login') has written to
~/.openfaas/config.yml, or config.yml in the folder OPENFAAS_CONFIG. Else, if
the gateway is on this machine and the file can be read, it is admin.password
in the state directory --data.

What a command answers is on the standard output, errors are on the standard
error. It ends with status

  0  done
  1  the gateway or the function refused or failed
  2  arguments, flags or a stack file that can't be meant
  3  there is no such function, secret or namespace
  4  no user and password, or wrong ones
  5  there is no gateway at that address`

// Commands are the sub-commands. ExitStatus tells how the program ends with their errors.
func Commands() []*cobra.Command {
	return []*cobra.Command{
		listCommand(), describeCommand(), deployCommand(), removeCommand(), scaleCommand(), runCommand(),
		invokeCommand(), logsCommand(), secretCommand(), namespacesCommand(), versionCommand(),
		loginCommand(), logoutCommand(),
	}
}

// failure is an error with the status that it ends the program with.
type failure struct {
	status int
	error
}

func (f failure) Unwrap() error { return f.error }

// ExitStatus is the status for an error; 0 for nil.
func ExitStatus(err error) int {
	var f failure
	switch {
	case err == nil:
		return 0
	case errors.As(err, &f):
		return f.status
	}
	return Failed
}

// Misuse makes an error end the program with the status Misused.
func Misuse(err error) error { return failure{Misused, err} }

func misuse(format string, args ...any) error { return Misuse(fmt.Errorf(format, args...)) }

// options are the flags that every command has.
type options struct {
	cmd                     *cobra.Command
	gateway, user, data     string
	namespace               string
	passwordStdin, insecure bool
	json                    bool
}

// command begins a command with the flags that all have. Run ends it.
func command(use, short, long string) (*cobra.Command, *options) {
	c := &cobra.Command{Use: use, Short: short, Long: long}
	o := &options{cmd: c}
	f := c.Flags()
	f.StringVarP(&o.gateway, "gateway", "g", "", "URL of the gateway; default: see caddy faas --help")
	f.StringVarP(&o.user, "user", "u", "", "user for --password-stdin; default admin")
	f.BoolVarP(&o.passwordStdin, "password-stdin", "s", false, "read the password from the standard input")
	f.StringVar(&o.data, "data", cmp.Or(os.Getenv("FAAS_DATA"), ".faas"), "state directory with admin.password; default from FAAS_DATA")
	f.BoolVar(&o.insecure, "tls-no-verify", false, "don't verify the gateway's certificate")
	return c, o
}

// run sets what the command does, and how many arguments it takes; most is -1 for any number.
func (o *options) run(least, most int, do func(args []string) error) *cobra.Command {
	o.cmd.RunE = func(_ *cobra.Command, args []string) error {
		if len(args) < least || most >= 0 && len(args) > most {
			return o.usage()
		}
		return do(args)
	}
	return o.cmd
}

func (o *options) usage() error { return misuse("usage: %s", o.cmd.UseLine()) }

func (o *options) namespaceFlag() {
	o.cmd.Flags().StringVarP(&o.namespace, "namespace", "n", "", "the functions' namespace (default "+faas.DefaultNamespace+")")
}

func (o *options) jsonFlag() {
	o.cmd.Flags().BoolVar(&o.json, "json", false, "print the API's answer, which is JSON")
}

// id is the function that an argument names: NAME or NAME.NAMESPACE; --namespace wins.
func (o *options) id(name string) faas.ID {
	id := faas.ParseID(name)
	if o.namespace != "" {
		id.Namespace = o.namespace
	}
	return id
}

// stdin is the standard input for a command's own use; whoever has to type is told what.
func (o *options) stdin(what string) (io.Reader, error) {
	if o.passwordStdin {
		return nil, misuse("the standard input holds the password: give the %s by a flag", what)
	}
	in := o.cmd.InOrStdin()
	if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		o.cmd.PrintErrf("reading the %s from the standard input; Ctrl-D ends it\n", what)
	}
	return in, nil
}

// show prints what a path answers: as it came with --json, else by table.
func show[T any](o *options, path string, table func(w io.Writer, v T)) error {
	c, err := o.client("")
	if err != nil {
		return err
	}
	resp, err := c.do(o.cmd.Context(), http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	out := o.cmd.OutOrStdout()
	if o.json {
		_, err := io.Copy(out, resp.Body)
		return err
	}
	var v T
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		return fmt.Errorf("the answer of %s is not understood; is it a gateway? %w", c.base, err)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	table(w, v)
	return w.Flush()
}

func row(w io.Writer, cells ...any) {
	var line strings.Builder
	for i, cell := range cells {
		if i > 0 {
			line.WriteByte('\t')
		}
		fmt.Fprint(&line, cell)
	}
	fmt.Fprintln(w, line.String())
}
