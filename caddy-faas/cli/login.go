package cli

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

// authorization is what lets a client in; zero for none.
type authorization struct {
	header string // of the request
	source string // where it was found
}

func basic(user, password, source string) authorization {
	return authorization{"Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password)), source}
}

func (a authorization) set(r *http.Request) {
	if a.header != "" {
		r.Header.Set("Authorization", a.header)
	}
}

// authorization finds the gateway's, see [Help].
func (o *options) authorization(base string) (authorization, error) {
	if o.passwordStdin {
		password, err := o.password()
		return basic(cmp.Or(o.user, "admin"), password, "the standard input"), err
	}
	if o.user != "" {
		return authorization{}, misuse("--user wants --password-stdin")
	}
	file, err := configFile()
	if err != nil {
		return authorization{}, err
	}
	known, err := readConfig(file)
	if err != nil {
		return authorization{}, err
	}
	if i := known.find(base); i >= 0 {
		a := known.Auths[i]
		if a.Auth == "basic" {
			return authorization{"Basic " + a.Token, file}, nil
		}
		return authorization{"Bearer " + a.Token, file}, nil
	}
	// Whoever may read the file may see the password. Other machines may not.
	if u, err := url.Parse(base); err == nil && local(u.Hostname()) {
		file := filepath.Join(o.data, "admin.password")
		if b, err := os.ReadFile(file); err == nil {
			return basic(cmp.Or(os.Getenv("FAAS_USER"), "admin"), strings.TrimSpace(string(b)), file), nil
		}
	}
	return authorization{}, nil
}

func local(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// password is the standard input, without the end of its line.
func (o *options) password() (string, error) {
	b, err := io.ReadAll(io.LimitReader(o.cmd.InOrStdin(), 4<<10))
	password := strings.TrimRight(string(b), "\r\n")
	switch {
	case err != nil:
		return "", err
	case password == "":
		return "", misuse("the standard input holds no password")
	}
	return password, nil
}

// config is faas-cli's file of credentials. What else it holds is kept.
type config struct {
	Auths []auth         `yaml:"auths"`
	Rest  map[string]any `yaml:",inline"`
}

type auth struct {
	Gateway string         `yaml:"gateway"`
	Auth    string         `yaml:"auth"`
	Token   string         `yaml:"token"` // of auth basic: base64 of user:password
	Rest    map[string]any `yaml:",inline"`
}

func (c *config) find(gateway string) int {
	return slices.IndexFunc(c.Auths, func(a auth) bool { return strings.TrimRight(a.Gateway, "/") == gateway })
}

func configFile() (string, error) {
	dir := os.Getenv("OPENFAAS_CONFIG")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("looking for .openfaas/config.yml: %w", err)
		}
		dir = filepath.Join(home, ".openfaas")
	}
	return filepath.Join(dir, "config.yml"), nil
}

// readConfig reads the file; there need be none. Errors don't show what it holds.
func readConfig(file string) (*config, error) {
	c := new(config)
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err == nil && yaml.Unmarshal(b, c) != nil {
		err = fmt.Errorf("%s: want a list auths of gateway, auth and token", file)
	}
	return c, err
}

// write replaces the file, for its owner alone to read.
func (c *config) write(file string) error {
	var text bytes.Buffer
	if err := yaml.NewEncoder(&text).Encode(c); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".config-*") // of mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it is renamed
	_, err = f.Write(text.Bytes())
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

func loginCommand() *cobra.Command {
	_, o := command("login --password-stdin", "Keeps a gateway's user and password",
		`Reads a password from the standard input, tries it, and keeps it in
~/.openfaas/config.yml, where faas-cli finds it too:

  caddy faas login -g https://functions.example.com --password-stdin < file`)
	return o.run(0, 0, func([]string) error {
		if !o.passwordStdin {
			return o.usage()
		}
		client, err := o.client("")
		if err != nil {
			return err
		}
		if u, err := url.Parse(client.base); err == nil && u.Scheme == "http" && !local(u.Hostname()) {
			o.cmd.PrintErrln("warning: without https the password can be read on its way to", client.base)
		}
		if _, err := client.do(o.cmd.Context(), http.MethodGet, "/system/functions", nil); err != nil {
			return err
		}
		file, err := configFile()
		if err != nil {
			return err
		}
		known, err := readConfig(file)
		if err != nil {
			return err
		}
		entry := auth{Gateway: client.base, Auth: "basic", Token: strings.TrimPrefix(client.login.header, "Basic ")}
		if i := known.find(client.base); i >= 0 {
			known.Auths[i] = entry
		} else {
			known.Auths = append(known.Auths, entry)
		}
		if err := known.write(file); err != nil {
			return fmt.Errorf("keeping the password: %w", err)
		}
		fmt.Fprintf(o.cmd.OutOrStdout(), "kept the password for %s in %s\n", client.base, file)
		return nil
	})
}

func logoutCommand() *cobra.Command {
	_, o := command("logout", "Forgets a gateway's user and password", "")
	return o.run(0, 0, func([]string) error {
		base, err := o.url("")
		if err != nil {
			return err
		}
		file, err := configFile()
		if err != nil {
			return err
		}
		known, err := readConfig(file)
		if err != nil {
			return err
		}
		i := known.find(base)
		if i < 0 {
			return failure{Missing, fmt.Errorf("%s has no password for %s", file, base)}
		}
		known.Auths = slices.Delete(known.Auths, i, i+1)
		if err := known.write(file); err != nil {
			return fmt.Errorf("forgetting the password: %w", err)
		}
		fmt.Fprintf(o.cmd.OutOrStdout(), "forgot the password for %s\n", base)
		return nil
	})
}
