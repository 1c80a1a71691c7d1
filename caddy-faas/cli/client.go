package cli

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// client speaks to one gateway.
type client struct {
	base  string // URL without a slash at its end
	login authorization
	http  *http.Client
}

// patience is how long a call may take that neither invokes a function nor follows a log.
const patience = time.Minute

// client is for the gateway that the flags name, else the given one if it is not empty, else that of the environment.
func (o *options) client(given string) (*client, error) {
	base, err := o.url(given)
	if err != nil {
		return nil, err
	}
	login, err := o.authorization(base)
	if err != nil {
		return nil, err
	}
	return o.newClient(base, login), nil
}

// url is the gateway's, without a slash at its end.
func (o *options) url(given string) (string, error) {
	base := cmp.Or(o.gateway, given, os.Getenv("OPENFAAS_URL"), "http://127.0.0.1:8080")
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	u, err := url.Parse(base)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "":
		return "", misuse("the gateway's URL must be like https://functions.example.com")
	case u.User != nil:
		return "", misuse("the gateway's URL must not hold a password: others can read it; use --user and --password-stdin")
	}
	return strings.TrimRight(base, "/"), nil
}

func (o *options) newClient(base string, login authorization) *client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: o.insecure}
	return &client{base: base, login: login, http: &http.Client{
		Transport: transport,
		// A POST would be sent on as a GET, a password to somebody else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// do sends a call, with body as JSON unless it is nil. The answer's status is
// 2xx; any other is an error with the server's words.
func (c *client) do(ctx context.Context, method, path string, body any) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	resp, err := c.stream(ctx, method, path, body)
	if err != nil {
		cancel()
		return nil, err
	}
	text, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	cancel()
	resp.Body = io.NopCloser(bytes.NewReader(text))
	return resp, err
}

// stream is do for an answer that takes its time.
func (c *client) stream(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var text io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		text = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, text)
	if err != nil {
		return nil, Misuse(err)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	c.login.set(r)
	resp, err := c.send(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 == 2 && !unknownHost(resp) {
		return resp, nil
	}
	defer resp.Body.Close()
	if unknownHost(resp) {
		return nil, c.wrongHost()
	}
	return nil, c.refused(resp)
}

// unknownHost tells Caddy's answer to those who call it by a name that it doesn't know.
func unknownHost(resp *http.Response) bool {
	return resp.StatusCode == http.StatusOK && resp.ContentLength == 0 && resp.Header.Get("Content-Type") == ""
}

func (c *client) wrongHost() error {
	return fmt.Errorf("the gateway %s answers nothing: give the address that it is configured for (FAAS_SITE)", c.base)
}

// send sends a request, whatever the answer's status.
func (c *client) send(r *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(r)
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return nil, failure{Unreachable, fmt.Errorf("the gateway %s can't be reached: %w", c.base, wrapped.Err)}
	}
	return resp, err
}

// refused makes an error of an answer.
func (c *client) refused(resp *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // what there is of it
	text := strings.TrimSpace(string(b))
	switch status := resp.StatusCode; {
	case status == http.StatusUnauthorized && c.login == (authorization{}):
		return failure{Unwelcome, fmt.Errorf("the gateway %s wants a user and password: see caddy faas login --help", c.base)}
	case status == http.StatusUnauthorized:
		return failure{Unwelcome, fmt.Errorf("the gateway %s does not take the user and password from %s", c.base, c.login.source)}
	case status/100 == 3:
		return fmt.Errorf("the gateway %s answers with a redirect to %s: give its address", c.base, resp.Header.Get("Location"))
	case status == http.StatusNotFound:
		return failure{Missing, errors.New(cmp.Or(text, resp.Status))}
	case text == "":
		return fmt.Errorf("the gateway %s answers %s", c.base, resp.Status)
	default:
		return errors.New(text)
	}
}
