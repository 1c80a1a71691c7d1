package caddyfaas

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"
	"github.com/spf13/cobra"

	"github.com/caddy-faas/faas/caddy-faas/cli"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "faas",
		Short: "Prepares and manages functions",
		CobraFunc: func(c *cobra.Command) {
			c.Long = "Prepares and manages functions.\n\n" + cli.Help
			c.AddCommand(initCommand(), healthcheckCommand())
			c.AddCommand(cli.Commands()...)
			c.RunE = cli.Unknown
			c.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return exit(c, cli.Misuse(err)) })
			exits(c)
		},
	})
}

// exits makes the errors of a command, and those below it, end the program with their status.
func exits(c *cobra.Command) {
	for _, sub := range c.Commands() {
		exits(sub)
	}
	run := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error { return exit(c, run(c, args)) }
}

// exit says what went wrong, in plain words and not as Caddy's log does, and ends the program with the error's status.
func exit(c *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	c.PrintErrln("Error:", err)
	c.SilenceErrors = true
	status := cli.ExitStatus(err)
	if status == cli.Failed {
		return err
	}
	return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) { return status, nil })(c, nil)
}

func initCommand() *cobra.Command {
	var data, site string
	c := &cobra.Command{
		Use:   "init [--data <dir>] [--site <addresses>]",
		Short: "Makes the state directory and the admin password, once",
		Long: `Makes the state directory and, if there is none, a random password for the
admin routes: admin.password, and admin.hash which the Caddyfile reads. Both
are readable by their owner alone. What exists is kept: delete both files to
get a new password, or write a hash of your own (caddy hash-password).

With --site it also checks that the ports of these addresses are free, and that
no Caddy runs with this state directory: a second one would take its admin socket.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := checkPorts(site); err != nil {
				return err
			}
			if site != "" && answers(filepath.Join(data, "admin.sock")) {
				return fmt.Errorf("a Caddy runs with %s already; stop it, or take another directory: FAAS_DATA=.faas2", data)
			}
			made, err := initData(data)
			if err != nil {
				return fmt.Errorf("preparing %s: %w", data, err)
			}
			if made {
				fmt.Println("made the admin password:", filepath.Join(data, "admin.password"))
			}
			return nil
		},
	}
	c.Flags().StringVar(&data, "data", cmp.Or(os.Getenv("FAAS_DATA"), ".faas"), "state directory; default from FAAS_DATA")
	c.Flags().StringVar(&site, "site", "", "addresses, as FAAS_SITE has them, whose ports must be free")
	return c
}

// initData makes the state directory with the admin password and its hash, and
// keeps what there is. made tells that there was no password.
func initData(dir string) (made bool, err error) {
	// Others may pass through to the functions' folders, which have modes of their own, but not look around.
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return false, err
	}
	password, hash := filepath.Join(dir, "admin.password"), filepath.Join(dir, "admin.hash")
	if done, err := filled(hash); done || err != nil {
		return false, err
	}
	kept, err := filled(password)
	if err != nil {
		return false, err
	}
	if !kept {
		if err := writePrivate(password, rand.Text()+"\n"); err != nil {
			return false, err
		}
	}
	secret, err := os.ReadFile(password)
	if err != nil {
		return false, err
	}
	h, err := caddyauth.BcryptHash{}.Hash([]byte(strings.TrimSpace(string(secret))))
	if err != nil {
		return false, fmt.Errorf("hashing the password: %w", err)
	}
	return !kept, writePrivate(hash, string(h)+"\n")
}

// filled tells whether a file exists and holds something.
func filled(file string) (bool, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return strings.TrimSpace(string(b)) != "", err
}

// writePrivate makes a file that its owner alone can read, whole or not at all.
func writePrivate(file, text string) error {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-*") // of mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it is renamed
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

// answers tells whether a program listens on a unix socket. Caddy itself does
// not ask: it removes the socket and makes its own, and learns only then that
// the provider's directory is in use.
func answers(socket string) bool {
	c, err := net.Dial("unix", socket)
	if err == nil {
		c.Close()
	}
	return err == nil
}

// checkPorts fails for the first address whose port another program listens on.
func checkPorts(site string) error {
	for _, address := range strings.FieldsFunc(site, func(r rune) bool { return r == ' ' || r == ',' }) {
		a, err := httpcaddyfile.ParseAddress(address)
		if err != nil {
			return fmt.Errorf("site address %q: %w", address, err)
		}
		port := a.Port
		if port == "" {
			port = map[bool]string{true: "80", false: "443"}[a.Scheme == "http"]
		}
		l, err := net.Listen("tcp", ":"+port)
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			return fmt.Errorf("port %s is taken by another program; stop it, or take another address: FAAS_SITE=http://localhost:9090", port)
		case err != nil:
			return fmt.Errorf("port %s can't be listened on: %w", port, err)
		}
		l.Close()
	}
	return nil
}
