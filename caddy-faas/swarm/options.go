package swarm

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/swarm"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// options are those in force.
type options struct {
	network         string
	registryAuth    string // a file; "": none
	requireRegistry []string
	requireDigest   bool
	endpointMode    string
	logDriver       *swarm.Driver
	defaultUser     string
	capDrop         []string
	restartDelay    time.Duration
}

func (p *Provider) options() (*options, error) {
	o := &options{
		network: p.network(), registryAuth: p.RegistryAuth, requireRegistry: p.RequireRegistry, requireDigest: p.RequireDigest,
		endpointMode: p.EndpointMode, defaultUser: p.User, capDrop: p.CapDrop, restartDelay: time.Second,
	}
	if o.endpointMode == "" {
		o.endpointMode = modeDNS // a virtual address needs IPVS on every node, and keeps connections to what has gone
	}
	if p.LogDriver != "" {
		o.logDriver = &swarm.Driver{Name: p.LogDriver, Options: p.LogOptions}
	}
	if p.RestartDelay != nil {
		o.restartDelay = time.Duration(*p.RestartDelay)
	}
	if o.registryAuth == "" {
		return o, nil
	}
	_, err := readCredentials(o.registryAuth)
	return o, err
}

func checkImage(image string) error {
	if _, err := reference.ParseNormalizedNamed(image); err != nil {
		return fmt.Errorf("image %q: %w", image, err)
	}
	return nil
}

// allowed reports which option keeps an image from being deployed.
func (o *options) allowed(image string) error {
	ref, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return fmt.Errorf("%w: image %q: %w", faas.ErrInvalid, image, err)
	}
	begins := func(prefix string) bool {
		return strings.HasPrefix(image, prefix) || strings.HasPrefix(ref.String(), prefix)
	}
	if len(o.requireRegistry) > 0 && !slices.ContainsFunc(o.requireRegistry, begins) {
		return fmt.Errorf("image %q is %w: require_registry wants it to begin with %s", image, faas.ErrForbidden, strings.Join(o.requireRegistry, " or "))
	}
	if _, ok := ref.(reference.Digested); o.requireDigest && !ok {
		return fmt.Errorf("image %q is %w: require_digest wants its digest, as in NAME@sha256:…", image, faas.ErrForbidden)
	}
	return nil
}

// authFor is what the engine is given to pull an image with, in its own encoding; "" for none.
func (o *options) authFor(image string) (string, error) {
	if o.registryAuth == "" {
		return "", nil
	}
	all, err := readCredentials(o.registryAuth)
	if err != nil {
		return "", err
	}
	ref, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return "", fmt.Errorf("%w: image %q: %w", faas.ErrInvalid, image, err)
	}
	c, ok := all[reference.Domain(ref)]
	if !ok {
		return "", nil
	}
	text, err := json.Marshal(c)
	return base64.URLEncoding.EncodeToString(text), err
}

// credentials are as the engine's API has them.
type credentials struct {
	Username      string `json:"username,omitempty"`
	Password      string `json:"password,omitempty"`
	IdentityToken string `json:"identitytoken,omitempty"`
	RegistryToken string `json:"registrytoken,omitempty"`
	ServerAddress string `json:"serveraddress"`
}

// readCredentials reads a Docker config.json, by registry.
func readCredentials(file string) (map[string]credentials, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("registry_auth: %w", err)
	}
	all, err := parseCredentials(text)
	if err != nil {
		return nil, fmt.Errorf("registry_auth %s: %w", file, err)
	}
	return all, nil
}

// parseCredentials never tells a part of the text, which holds passwords.
func parseCredentials(text []byte) (map[string]credentials, error) {
	var file struct {
		Auths map[string]struct {
			credentials
			Auth string `json:"auth"`
		} `json:"auths"`
		CredsStore  string            `json:"credsStore"`
		CredHelpers map[string]string `json:"credHelpers"`
	}
	if json.Unmarshal(text, &file) != nil {
		return nil, errors.New("want a Docker config.json, as docker login writes it")
	}
	if file.CredsStore != "" || len(file.CredHelpers) > 0 {
		return nil, errors.New("the credentials are in a credential helper (credsStore, credHelpers): want them in the file, under auths")
	}
	all := map[string]credentials{}
	for server, entry := range file.Auths {
		c := entry.credentials
		c.ServerAddress = server
		if entry.Auth != "" {
			pair, err := base64.StdEncoding.DecodeString(strings.TrimRight(entry.Auth, "\x00"))
			user, password, ok := strings.Cut(string(pair), ":")
			if err != nil || !ok {
				return nil, fmt.Errorf("auths: %s: auth: want base64 of USER:PASSWORD", server)
			}
			c.Username, c.Password = user, strings.TrimRight(password, "\x00")
		}
		if c.IdentityToken == "" && c.RegistryToken == "" && (c.Username == "" || c.Password == "") {
			return nil, fmt.Errorf("auths: %s: want a user and a password, or a token", server)
		}
		all[registryHost(server)] = c
	}
	if len(all) == 0 {
		return nil, errors.New("auths: there are no credentials")
	}
	return all, nil
}

// registryHost is the registry's domain as images name it.
func registryHost(server string) string {
	host := strings.TrimPrefix(strings.TrimPrefix(server, "https://"), "http://")
	host, _, _ = strings.Cut(host, "/")
	if host == "index.docker.io" || host == "registry-1.docker.io" {
		return "docker.io"
	}
	return host
}
