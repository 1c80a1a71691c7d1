package caddyfaas

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-faas/faas/caddy-faas/verify"
)

// The environment in which a gateway takes a test's server for Amazon's.
const (
	amazonRoot = "FAAS_TEST_AMAZON_ROOT" // a file
	amazonAddr = "FAAS_TEST_AMAZON_ADDR"
)

func trustTestAmazon() {
	file := os.Getenv(amazonRoot)
	if file == "" {
		return
	}
	text, err := os.ReadFile(file)
	roots := x509.NewCertPool()
	if err != nil || !roots.AppendCertsFromPEM(text) {
		fmt.Fprintln(os.Stderr, "reading the test's root:", err)
		os.Exit(1)
	}
	alexaCertificates = verify.NewCertificates(roots, &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, os.Getenv(amazonAddr))
		},
	})
}

const testSkill = "amzn1.ask.skill.test"

// amazon signs requests, and serves the certificates that it signs with.
type amazon struct {
	key     *rsa.PrivateKey
	fetches atomic.Int32
	root    string // PEM
	addr    string
	named   func(serial int64, name string) *x509.Certificate // by the root
}

func newAmazon(t testing.TB) *amazon {
	t.Helper()
	a := new(amazon)
	var err error
	if a.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	certificate := func(serial int64, c *x509.Certificate, parent *x509.Certificate) *x509.Certificate {
		c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(serial), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		if parent == nil {
			parent = c
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, a.key.Public(), a.key)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	root := certificate(1, &x509.Certificate{Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil)
	a.named = func(serial int64, name string) *x509.Certificate {
		return certificate(serial, &x509.Certificate{Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, root)
	}
	text := func(c *x509.Certificate) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	a.root = text(root)
	chains := map[string]string{"/echo.api/echo-api-cert.pem": text(a.named(2, "echo-api.amazon.com")), "/echo.api/other.pem": text(a.named(3, "other.amazon.com"))}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.fetches.Add(1)
		if r.URL.Path == "/echo.api/hangs.pem" {
			<-r.Context().Done()
			panic(http.ErrAbortHandler) // an answer now could still be read: over TLS closing has two steps
		}
		if chains[r.URL.Path] == "" {
			http.NotFound(w, r)
		}
		fmt.Fprint(w, chains[r.URL.Path])
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{a.named(4, "s3.amazonaws.com").Raw}, PrivateKey: a.key}}}
	s.StartTLS()
	t.Cleanup(s.Close)
	a.addr = s.Listener.Addr().String()
	return a
}

// trust makes a gateway take a for Amazon.
func (a *amazon) trust(t testing.TB, g *gateway) {
	t.Helper()
	writePEM(t, g, "root.pem", a.root)
	g.env = append(g.env, amazonRoot+"="+filepath.Join(g.dir, "root.pem"), amazonAddr+"="+a.addr)
}

// writePEM writes a file of the gateway as it is: what g.write replaces may be in it.
func writePEM(t testing.TB, g *gateway, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(g.dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// sign is the header of a request with this body.
func (a *amazon) sign(t testing.TB, body string) []string {
	t.Helper()
	sum := sha256.Sum256([]byte(body))
	sig, err := rsa.SignPKCS1v15(rand.Reader, a.key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return []string{"Content-Type", "application/json;charset=utf-8", "Signature-256", base64.StdEncoding.EncodeToString(sig),
		"SignatureCertChainUrl", "https://s3.amazonaws.com/echo.api/echo-api-cert.pem"}
}

// alexaBody is a request to the test's skill.
func alexaBody(typ, intent string) string {
	return fmt.Sprintf(`{"version":"1.0","session":{"application":{"applicationId":%q}},"request":{"type":%q,"requestId":"r-%d","timestamp":%q,"locale":"de-DE","intent":{"name":%q}}}`,
		testSkill, typ, requestIDs.Add(1), time.Now().UTC().Format(time.RFC3339), intent)
}

var requestIDs atomic.Int64

const skillSite = `{
	admin unix/DATA/admin.sock|0600
	faas {
		data DATA
		functions stack.yml
	}
}
SITE {
	log
	handle /metrics {
		metrics {
			disable_openmetrics
		}
	}
	handle /alexa {
		faas_verify alexa {
			skill_id {env.FAAS_TEST_SKILL}
		}
		faas {
			alexa {
				intent Mapped plain
				intent Gone nobody
				intent Endless* endless
				intent Huge huge
				intent Broken broken
				intent Cold cold
				session_ended fails
				on_error "No." {
					de "Nein."
				}
				wrap_text
			}
		}
	}
	handle_errors {
		respond "{err.message}" {err.status_code}
	}
}
`

const skillFunctions = `functions:
  hello:
    fprocess: sh -c 'cat >/dev/null; echo "{\"version\":\"1.0\",\"response\":{\"by\":\"$Http_X_Alexa_Intent $Http_X_Alexa_Locale $Http_X_Alexa_Request_Type $Http_X_Call_Id $Http_X_Faas_Scheme\"}}"'
    labels:
      faas.alexa: "true"
  unlabelled:
    fprocess: echo reached
  plain:
    fprocess: echo hello
  fails:
    fprocess: sh -c 'echo no luck >&2; exit 3'
    labels:
      faas.alexa: "true"
  endless:
    fprocess: sleep 1000
  huge:
    fprocess: head -c 200000 /dev/zero
  broken:
    fprocess: missing-command
  cold:
    fprocess: echo awake
    labels:
      com.openfaas.scale.min: "0"
  fulfils:
    fprocess: sh -c 'cat >/dev/null; echo "{\"version\":\"1.0\",\"response\":{\"canFulfillIntent\":{\"canFulfill\":\"YES\"}}}"'
    labels:
      faas.alexa: "true"
      faas.alexa.can_fulfill: "true"
`

func newSkill(t testing.TB) (*gateway, *amazon) {
	g, a := newGateway(t, map[string]string{"Caddyfile": skillSite, "stack.yml": skillFunctions}), newAmazon(t)
	a.trust(t, g)
	g.env = append(g.env, "FAAS_TEST_SKILL="+testSkill)
	g.start(t)
	return g, a
}

func TestSkill(t *testing.T) {
	t.Parallel()
	g, a := newSkill(t)
	said := func(text string) string { return speak(text, true) }
	for _, tt := range []struct{ name, typ, intent, want, reason string }{
		{"by its label", "IntentRequest", "hello", `"by":"hello de-DE IntentRequest r-`, ""},
		{"in lower case", "IntentRequest", "HelLo", `"by":"HelLo de-DE`, ""},
		{"without a label", "IntentRequest", "unlabelled", said("Nein."), "unknown"},
		{"mapped", "IntentRequest", "Mapped", said("hello"), ""},
		{"mapped to no function", "IntentRequest", "Gone", said("Nein."), "unknown"},
		{"no name of a function", "IntentRequest", "hello.other", said("Nein."), "unknown"},
		{"failing", "IntentRequest", "fails", said("Nein."), "failed"},
		{"never answering", "IntentRequest", "EndlessLove", said("Nein."), "timeout"},
		{"too large", "IntentRequest", "Huge", said("Nein."), "too-large"},
		{"that can't start", "IntentRequest", "Broken", said("Nein."), "start-failed"},
		{"woken", "IntentRequest", "Cold", said("awake"), ""},
		{"launch", "LaunchRequest", "", speak(welcome["de"], false), ""},
		{"stop", "IntentRequest", "AMAZON.StopIntent", farewell, ""},
		{"the end, whose function fails", "SessionEndedRequest", "", silence, "failed"},
		{"can it", "CanFulfillIntentRequest", "fulfils", `"YES"`, ""},
		{"can another", "CanFulfillIntentRequest", "hello", incapable, ""},
	} {
		body := alexaBody(tt.typ, tt.intent)
		r := g.call(t, "POST", "/alexa", body, append(a.sign(t, body), "X-Alexa-Intent", "forged")...)
		if r.StatusCode != 200 || !strings.Contains(r.body, tt.want) || r.Header.Get("X-Faas-Reason") != tt.reason || r.Header.Get("Content-Type") != alexaType {
			t.Errorf("%s: %d %.300s, reason %q", tt.name, r.StatusCode, r.body, r.Header.Get("X-Faas-Reason"))
		}
	}
	if n := a.fetches.Load(); n != 1 {
		t.Errorf("fetched %d certificates", n)
	}
	g.reload(t)
	good := alexaBody("IntentRequest", "hello")
	for _, tt := range []struct {
		name, body string
		change     []string
		status     int
	}{
		{"after a reload", good, nil, 200},
		{"the same again", good, nil, 200}, // checked below
		{"a changed body", strings.Replace(good, "de-DE", "de-AT", 1), nil, 400},
		{"another skill", strings.Replace(good, testSkill, "amzn1.ask.skill.other", 1), nil, 400},
		{"no signature", good, []string{"Signature-256", ""}, 400},
		{"another host", good, []string{"SignatureCertChainUrl", "https://evil.example/echo.api/echo-api-cert.pem"}, 400},
		{"this host", good, []string{"SignatureCertChainUrl", "http://127.0.0.1/echo.api/echo-api-cert.pem"}, 400},
		{"another name's certificate", good, []string{"SignatureCertChainUrl", "https://s3.amazonaws.com/echo.api/other.pem"}, 400},
		{"no certificate", good, []string{"SignatureCertChainUrl", "https://s3.amazonaws.com/echo.api/none.pem"}, 503},
		{"a slow server", good, []string{"SignatureCertChainUrl", "https://s3.amazonaws.com/echo.api/hangs.pem"}, 503},
		{"not from Alexa", `{"action":"opened"}`, nil, 400},
	} {
		r := g.call(t, "POST", "/alexa", tt.body, append(a.sign(t, good), tt.change...)...)
		duplicate := r.Header.Get("X-Faas-Duplicate") != ""
		if r.StatusCode != tt.status || duplicate != (tt.name == "the same again") || tt.status != 200 && strings.Contains(r.body, "mismatch") {
			t.Errorf("%s: %d %s, duplicate %t", tt.name, r.StatusCode, r.body, duplicate)
		}
	}
	if n := a.fetches.Load(); n != 4 {
		t.Errorf("fetched %d certificates in all; want the good one once, across the reload, and three others", n)
	}
	g.counts(t, `faas_alexa_requests_total{result="timeout",type="IntentRequest"}`, 1)
	g.counts(t, `gateway_function_invocation_total{code="504",function_name="endless.openfaas-fn"}`, 1)
}

// Amazon's root is trusted on a machine that has no certificates at all, such as an empty image.
func TestRootsWithoutSystem(t *testing.T) {
	c := (&gateway{dir: t.TempDir()}).caddy()
	c.Env = append(c.Env, "SSL_CERT_FILE=/nonexistent", "SSL_CERT_DIR=/nonexistent", askRoots+"=1")
	out, err := c.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Amazon Root CA 1") {
		t.Errorf("%v: %.300s", err, out)
	}
}

// askRoots makes the test binary print whom it trusts.
const askRoots = "FAAS_TEST_ROOTS"

func printRoots() {
	pool, err := x509.SystemCertPool()
	if err != nil {
		fmt.Println(err)
		return
	}
	//lint:ignore SA1019 of the roots that come with the program it tells all
	for _, s := range pool.Subjects() {
		fmt.Printf("%s\n", s)
	}
}
