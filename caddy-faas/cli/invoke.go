package cli

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

func invokeCommand() *cobra.Command {
	c, o := command("invoke <name>[/path]", "Calls a function",
		`Calls a function with what is on the standard input, or with --data-binary:

  echo hello | caddy faas invoke echo
  caddy faas invoke env/some/path -m GET --query a=b
  caddy faas invoke resize -d @picture.png --content-type image/png

The body of the answer is on the standard output, whatever its status; if that
is not 2xx the command ends with status 1, and with 3 if the gateway has no such
function. No password is sent, since the
function would get it, unless there is --password-stdin.`)
	o.namespaceFlag()
	f := c.Flags()
	body := f.StringP("data-binary", "d", "", "body; @file for a file's bytes")
	method := f.StringP("method", "m", http.MethodPost, "method")
	headers := f.StringArrayP("header", "H", nil, "header NAME=VALUE or 'NAME: VALUE'; may be repeated")
	query := f.StringArray("query", nil, "query parameter NAME=VALUE; may be repeated")
	kind := f.String("content-type", "text/plain", "Content-Type of the body")
	return o.run(1, 1, func(args []string) error {
		in, err := o.body(*body, *method)
		if err != nil {
			return err
		}
		base, err := o.url("")
		if err != nil {
			return err
		}
		name, rest, deeper := strings.Cut(args[0], "/")
		target := functionURL(base, o.id(name))
		if deeper {
			target += "/" + rest
		}
		if target, err = withQuery(target, *query); err != nil {
			return err
		}
		r, err := http.NewRequestWithContext(c.Context(), strings.ToUpper(*method), target, in)
		if err != nil {
			return Misuse(err)
		}
		if in != nil {
			r.Header.Set("Content-Type", *kind)
		}
		var login authorization
		if o.passwordStdin {
			if login, err = o.authorization(base); err != nil {
				return err
			}
			login.set(r)
		}
		if err := addHeaders(r.Header, *headers); err != nil {
			return err
		}
		return o.print(o.newClient(base, login), r, name)
	})
}

// print sends a request to a function and prints the answer.
func (o *options) print(client *client, r *http.Request, name string) error {
	resp, err := client.send(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	called := resp.Header.Get("X-Call-Id") != "" // else the gateway itself answers
	if !called && resp.StatusCode/100 != 2 {
		return client.refused(resp)
	}
	if !called && unknownHost(resp) {
		return client.wrongHost()
	}
	if _, err := io.Copy(o.cmd.OutOrStdout(), resp.Body); err != nil {
		return fmt.Errorf("the answer of %s broke off: %w", name, err)
	}
	if resp.StatusCode/100 == 2 {
		return nil
	}
	reason := ""
	if text := resp.Header.Get("X-Faas-Reason"); text != "" {
		reason = " (" + text + ")"
	}
	return fmt.Errorf("%s answered %s%s", name, resp.Status, reason)
}

// body is the one that the flag gives, else the standard input for methods that have one.
func (o *options) body(text, method string) (io.Reader, error) {
	file, isFile := strings.CutPrefix(text, "@")
	switch {
	case isFile:
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, Misuse(err)
		}
		return bytes.NewReader(b), nil
	case o.cmd.Flags().Changed("data-binary"):
		return strings.NewReader(text), nil
	case strings.EqualFold(method, http.MethodGet), strings.EqualFold(method, http.MethodHead),
		strings.EqualFold(method, http.MethodOptions), strings.EqualFold(method, http.MethodDelete):
		return nil, nil
	}
	return o.stdin("body")
}

func withQuery(target string, pairs []string) (string, error) {
	values := url.Values{}
	for _, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		if !ok {
			return "", misuse("--query %q: want NAME=VALUE", pair)
		}
		values.Add(name, value)
	}
	if len(values) == 0 {
		return target, nil
	}
	if strings.Contains(target, "?") {
		return target + "&" + values.Encode(), nil
	}
	return target + "?" + values.Encode(), nil
}

func addHeaders(h http.Header, pairs []string) error {
	for _, pair := range pairs {
		i := strings.IndexAny(pair, ":=")
		if i < 1 {
			return misuse("--header: want NAME=VALUE or 'NAME: VALUE'") // it may be a secret
		}
		h.Add(pair[:i], strings.TrimSpace(pair[i+1:]))
	}
	return nil
}
