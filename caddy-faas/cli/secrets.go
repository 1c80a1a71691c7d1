package cli

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/spf13/cobra"
)

// secret is the API's Secret; its value is sent as it is, whatever its bytes.
type secret struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"`
	Value     string `json:"value"` // for the empty one
	RawValue  string `json:"rawValue,omitempty"`
}

func secretCommand() *cobra.Command {
	c := &cobra.Command{Use: "secret", Short: "Keeps secrets that functions can read"}
	c.AddCommand(
		keepSecretCommand("create", "Keeps a new secret", http.MethodPost, "created"),
		keepSecretCommand("update", "Replaces a secret's value, and the replicas that use it", http.MethodPut, "updated"),
		secretListCommand(), secretRemoveCommand(),
	)
	c.RunE = Unknown
	return c
}

// Unknown is what a command does that is nothing without a sub-command.
func Unknown(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return c.Help()
	}
	return misuse("%s has no command %q: see %s --help", c.CommandPath(), args[0], c.CommandPath())
}

func keepSecretCommand(use, short, method, done string) *cobra.Command {
	c, o := command(use+" <name>", short,
		short+`. The value is what is on the standard input, or
in a file, byte for byte, the end of its line included:

  printf %s sesame | caddy faas secret `+use+` api-key
  caddy faas secret `+use+` tls-key --from-file key.pem`)
	o.namespaceFlag()
	file := c.Flags().String("from-file", "", "file that holds the value")
	literal := c.Flags().String("from-literal", "", "the value; others on this machine can see it while the command runs")
	return o.run(1, 1, func(args []string) error {
		var (
			value []byte
			err   error
		)
		switch given := c.Flags().Changed("from-literal"); {
		case given && *file != "":
			return misuse("--from-file and --from-literal: want one of them")
		case given:
			value = []byte(*literal)
		case *file != "":
			if value, err = os.ReadFile(*file); err != nil {
				return Misuse(err)
			}
		default:
			in, err := o.stdin("value")
			if err != nil {
				return err
			}
			if value, err = io.ReadAll(in); err != nil {
				return err
			}
		}
		client, err := o.client("")
		if err != nil {
			return err
		}
		body := secret{Name: args[0], Namespace: o.namespace, RawValue: base64.StdEncoding.EncodeToString(value)}
		if _, err = client.do(c.Context(), method, "/system/secrets", body); err == nil {
			fmt.Fprintln(c.OutOrStdout(), done, "secret", args[0])
		}
		return err
	})
}

func secretListCommand() *cobra.Command {
	c, o := command("list", "Lists the names of secrets, never their values", "")
	c.Aliases = []string{"ls"}
	o.namespaceFlag()
	o.jsonFlag()
	return o.run(0, 0, func([]string) error {
		return show(o, "/system/secrets"+within(o.namespace), func(w io.Writer, all []secret) {
			for _, s := range all {
				row(w, s.Name)
			}
		})
	})
}

func secretRemoveCommand() *cobra.Command {
	c, o := command("remove <name>", "Removes a secret that no function uses", "")
	c.Aliases = []string{"rm", "delete"}
	o.namespaceFlag()
	return o.run(1, 1, func(args []string) error {
		client, err := o.client("")
		if err != nil {
			return err
		}
		body := map[string]string{"name": args[0], "namespace": o.namespace}
		if _, err = client.do(c.Context(), http.MethodDelete, "/system/secrets", body); err == nil {
			fmt.Fprintln(c.OutOrStdout(), "removed secret", args[0])
		}
		return err
	})
}
