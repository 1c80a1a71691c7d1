package caddyfaas

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-faas/faas/caddy-faas/scale"
)

func init() {
	caddy.RegisterModule(Peer{})
}

// Peer tells other gateways that scale the same functions how those in use stand
// here, as JSON. It belongs on a site of its own, on a network that functions
// aren't on. Who asks proves that it knows the secret of the option
// peer_secret_file, and so does the answer; the secret itself is not sent. Errors: 401, 405.
type Peer struct {
	engine *engine
	secret []byte
}

// CaddyModule returns the module's ID and constructor.
func (Peer) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.faas_peer", New: func() caddy.Module { return new(Peer) }}
}

// Provision finds the app.
func (p *Peer) Provision(ctx caddy.Context) error {
	app, err := app(ctx)
	if err != nil {
		return err
	}
	if app.group == nil {
		return errors.New("faas_peer: the global option faas has no scale { peer_secret_file <path> }, by which gateways know each other")
	}
	p.engine, p.secret = app.engine, app.group.secret
	return nil
}

// peerNews is what one gateway tells another.
type peerNews struct {
	Gateway   string                  `json:"gateway"`
	Functions map[string]scale.Report `json:"functions"`
	// Alerts are how long ago (ns) those on load were obeyed that may be sent again.
	Alerts map[string]time.Duration `json:"alerts,omitempty"`
}

// Headers of the question: a text that is new each time, and the proof of it; of the answer, its proof.
const (
	peerNonce = "X-Faas-Peer-Nonce"
	peerProof = "X-Faas-Peer-Proof"
	// peerNonceSize bounds the former, in bytes.
	peerNonceSize = 64
)

// proof tells who knows the secret. The two kinds differ, so that no question serves as an answer.
func proof(secret []byte, kind, nonce string, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "caddy-faas %s %s\n%s", kind, nonce, body)
	return hex.EncodeToString(mac.Sum(nil))
}

// ServeHTTP answers any path.
func (p *Peer) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		return caddyhttp.Error(http.StatusMethodNotAllowed, errors.New("gateways ask with GET"))
	}
	nonce := r.Header.Get(peerNonce)
	if n := len(nonce); n == 0 || n > peerNonceSize || !hmac.Equal([]byte(r.Header.Get(peerProof)), []byte(proof(p.secret, "question", nonce, nil))) {
		return caddyhttp.Error(http.StatusUnauthorized, errors.New("this is for gateways that know the secret"))
	}
	body, err := json.Marshal(peerNews{p.engine.peering.Self(), p.engine.registry.Reports(), p.engine.alerts.ages(time.Now())})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set(peerProof, proof(p.secret, "answer", nonce, body))
	w.Write(body) // who is gone can't be told
	return nil
}

// A group of gateways that scale the same functions.
type group struct {
	peers  []string
	secret []byte
}

// minPeerSecret is the least length of their secret in bytes.
const minPeerSecret = 16

func (s *Scaling) validatePeers() error {
	if len(s.Peers) > 0 && s.PeerSecretFile == "" {
		return errors.New("scale: peers need peer_secret_file, with a secret that all of them know")
	}
	for _, addr := range s.Peers {
		host, port, err := net.SplitHostPort(addr)
		if n, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || n == 0 || host == "" {
			return fmt.Errorf("scale: peers %s: want HOST:PORT such as tasks.gateway:8081", addr)
		}
	}
	return nil
}

// group reads the secret of the gateways; nil if there is none.
func (s *Scaling) group() (*group, error) {
	if s == nil || s.PeerSecretFile == "" {
		return nil, nil
	}
	secret, err := readSecret(s.PeerSecretFile)
	if err == nil && len(secret) < minPeerSecret {
		err = fmt.Errorf("%s has %d bytes, fewer than %d", s.PeerSecretFile, len(secret), minPeerSecret)
	}
	if err != nil {
		return nil, fmt.Errorf("scale: peer_secret_file: %w; make one with: openssl rand -hex 32", err)
	}
	return &group{s.Peers, secret}, nil
}

var (
	_ caddy.Provisioner           = (*Peer)(nil)
	_ caddyhttp.MiddlewareHandler = (*Peer)(nil)
)
