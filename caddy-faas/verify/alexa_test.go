package verify

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// amazon is a certificate authority, the certificates that it has made, and the server that has them.
type amazon struct {
	root    *x509.Certificate
	rootKey *ecdsa.PrivateKey
	key     *rsa.PrivateKey

	mu      sync.Mutex
	fetched []string
	answer  func(url string) (*http.Response, error)
}

func newAmazon(t testing.TB) *amazon {
	t.Helper()
	a := new(amazon)
	var err error
	if a.rootKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	if a.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	a.root = a.issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, a.rootKey.Public(), a.rootKey)
	return a
}

func (a *amazon) issue(t testing.TB, c, parent *x509.Certificate, public crypto.PublicKey, signer crypto.Signer) *x509.Certificate {
	t.Helper()
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	if c.NotBefore.IsZero() {
		c.NotBefore = now.Add(-time.Hour)
	}
	if c.NotAfter.IsZero() {
		c.NotAfter = now.Add(365 * 24 * time.Hour)
	}
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, public, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// chain is a leaf, changed as wanted, and the intermediate that signed it.
func (a *amazon) chain(t testing.TB, change func(*x509.Certificate)) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	inter := a.issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "inter"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, a.root, key.Public(), a.rootKey)
	leaf := &x509.Certificate{Subject: pkix.Name{CommonName: signer}, DNSNames: []string{signer}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if change != nil {
		change(leaf)
	}
	return pemOf(a.issue(t, leaf, inter, a.key.Public(), key), inter)
}

func pemOf(certs ...*x509.Certificate) string {
	var all strings.Builder
	for _, c := range certs {
		pem.Encode(&all, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	return all.String()
}

func (a *amazon) RoundTrip(r *http.Request) (*http.Response, error) {
	a.mu.Lock()
	a.fetched = append(a.fetched, r.URL.String())
	a.mu.Unlock()
	return a.answer(r.URL.String())
}

func (a *amazon) serve(text string) {
	a.answer = func(string) (*http.Response, error) { return respond(200, text), nil }
}

func respond(status int, text string) *http.Response {
	return &http.Response{StatusCode: status, Status: fmt.Sprint(status), Header: http.Header{"Location": {"https://s3.amazonaws.com/echo.api/other.pem"}}, Body: io.NopCloser(strings.NewReader(text))}
}

func (a *amazon) certificates() *Certificates {
	roots := x509.NewCertPool()
	roots.AddCert(a.root)
	return NewCertificates(roots, a)
}

const (
	skill     = "amzn1.ask.skill.mine"
	chainAddr = "https://s3.amazonaws.com/echo.api/echo-api-cert.pem"
)

func alexaBody(at time.Time) string {
	return `{"version":"1.0","session":{"application":{"applicationId":"` + skill + `"}},"request":{"type":"IntentRequest","requestId":"r1","timestamp":"` +
		at.UTC().Format(time.RFC3339) + `","intent":{"name":"HelloIntent"}}}`
}

func (a *amazon) sign(t testing.TB, body string) http.Header {
	t.Helper()
	sum := sha256.Sum256([]byte(body))
	sig, err := rsa.SignPKCS1v15(rand.Reader, a.key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return headers("Signature-256", base64.StdEncoding.EncodeToString(sig), "SignatureCertChainUrl", chainAddr)
}

func TestAlexa(t *testing.T) {
	a := newAmazon(t)
	a.serve(a.chain(t, nil))
	good := alexaBody(now)
	skillEvent := strings.Replace(good, "IntentRequest", "AlexaSkillEvent.SkillEnabled", 1)
	inContext := strings.Replace(strings.Replace(good, `"session"`, `"context":{"System"`, 1), `}},"request"`, `}}},"request"`, 1)
	epoch := strings.Replace(good, `"`+now.UTC().Format(time.RFC3339)+`"`, fmt.Sprint(now.UnixMilli()), 1)
	with := func(h http.Header, name, value string) http.Header {
		h = h.Clone()
		h.Del(name)
		if value != "" {
			h.Set(name, value)
		}
		return h
	}
	for _, tt := range []struct {
		name   string
		header http.Header
		body   string
		at     time.Time
		reason string
		fetch  bool
	}{
		{"an intent", a.sign(t, good), good, now, "", true},
		{"the skill in the context", a.sign(t, inContext), inContext, now, "", true},
		{"a time in milliseconds", a.sign(t, epoch), epoch, now, "", true},
		{"a byte order mark", a.sign(t, "\xef\xbb\xbf"+good), "\xef\xbb\xbf" + good, now, "", true},
		{"as old as may be", a.sign(t, good), good, now.Add(150 * time.Second), "", true},
		{"too old", a.sign(t, good), good, now.Add(151 * time.Second), Stale, false},
		{"in the future", a.sign(t, good), good, now.Add(-151 * time.Second), Stale, false},
		{"an old skill event", a.sign(t, skillEvent), skillEvent, now.Add(time.Hour), "", true},
		{"a skill event too old", a.sign(t, skillEvent), skillEvent, now.Add(time.Hour + time.Second), Stale, false},
		{"a changed body", a.sign(t, good), good + " ", now, Mismatch, true},
		{"another skill", a.sign(t, strings.Replace(good, skill, "amzn1.ask.skill.other", 1)), strings.Replace(good, skill, "amzn1.ask.skill.other", 1), now, Stranger, false},
		{"no skill", a.sign(t, strings.Replace(good, skill, "", 1)), strings.Replace(good, skill, "", 1), now, Stranger, false},
		{"no signature", with(a.sign(t, good), "Signature-256", ""), good, now, Unsigned, false},
		{"only SHA-1", with(with(a.sign(t, good), "Signature-256", ""), "Signature", "abcd"), good, now, Unsigned, false},
		{"no base64", with(a.sign(t, good), "Signature-256", "?"), good, now, Malformed, false},
		{"no URL", with(a.sign(t, good), "SignatureCertChainUrl", ""), good, now, Unsigned, false},
		{"another signature", with(a.sign(t, good), "Signature-256", "abcd"), good, now, Mismatch, true},
		{"no JSON", a.sign(t, "x"), "x", now, Malformed, false},
		{"no time", a.sign(t, `{"request":{}}`), `{"request":{}}`, now, Malformed, false},
		{"a time that is none", a.sign(t, `{"request":{"timestamp":"soon"}}`), `{"request":{"timestamp":"soon"}}`, now, Malformed, false},
		{"a time before all", a.sign(t, `{"request":{"timestamp":-1}}`), `{"request":{"timestamp":-1}}`, now, Malformed, false},
	} {
		a.fetched = nil
		e, reason := judge(t, Alexa([]string{"other", skill}, a.certificates()), tt.header, tt.body, tt.at)
		if reason != tt.reason || len(a.fetched) > 0 != tt.fetch {
			t.Errorf("%s: got %q, fetched %v; want %q", tt.name, reason, a.fetched, tt.reason)
		}
		if reason == "" && (e.Delivery != "r1" || !e.Time.Equal(now) || e.Name != "HelloIntent" && e.Name != "AlexaSkillEvent.SkillEnabled") {
			t.Errorf("%s: %+v", tt.name, e)
		}
	}
}

func TestAlexaCertificates(t *testing.T) {
	a := newAmazon(t)
	other := newAmazon(t)
	good := a.chain(t, nil)
	leaf, inter, _ := strings.Cut(good, "-----END CERTIFICATE-----\n")
	leaf += "-----END CERTIFICATE-----\n"
	ec := a.issue(t, &x509.Certificate{DNSNames: []string{signer}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, a.root, a.rootKey.Public(), a.rootKey)
	body := alexaBody(now)
	for _, tt := range []struct {
		name   string
		status int
		chain  string
		reason string
	}{
		{"good", 200, good, ""},
		{"expired", 200, a.chain(t, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }), Untrusted},
		{"not yet valid", 200, a.chain(t, func(c *x509.Certificate) { c.NotBefore = now.Add(time.Second) }), Untrusted},
		{"of another name", 200, a.chain(t, func(c *x509.Certificate) { c.DNSNames = []string{"echo-api.amazon.com.evil.example"} }), Untrusted},
		{"a wildcard", 200, a.chain(t, func(c *x509.Certificate) { c.DNSNames = []string{"*.amazon.com"} }), Untrusted},
		{"the name only as subject", 200, a.chain(t, func(c *x509.Certificate) { c.DNSNames = nil }), Untrusted},
		{"for another use", 200, a.chain(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} }), Untrusted},
		{"of an unknown root", 200, other.chain(t, nil), Untrusted},
		{"of an unknown root that comes along", 200, other.chain(t, nil) + pemOf(other.root), Untrusted},
		{"a leaf alone", 200, leaf, Untrusted},
		{"the issuer first", 200, inter + leaf, Untrusted},
		{"the root alone", 200, pemOf(a.root), Untrusted},
		{"no RSA key", 200, pemOf(ec), Untrusted},
		{"nothing", 200, "", Untrusted},
		{"no PEM", 200, "<html>", Untrusted},
		{"a key among them", 200, leaf + "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", Untrusted},
		{"no DER", 200, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", Untrusted},
		{"huge", 200, good + strings.Repeat("\n", fetchSize), Untrusted},
		{"endless", 200, good + strings.Repeat("\n", 100*fetchSize), Untrusted},
		{"a redirect", 302, good, Unavailable},
		{"not found", 404, good, Unavailable},
		{"an error", 0, "", Unavailable},
	} {
		a.fetched = nil
		a.answer = func(string) (*http.Response, error) {
			if tt.status == 0 {
				return nil, errors.New("no route to host")
			}
			return respond(tt.status, tt.chain), nil
		}
		if _, reason := judge(t, Alexa([]string{skill}, a.certificates()), a.sign(t, body), body, now); reason != tt.reason || len(a.fetched) != 1 {
			t.Errorf("%s: %q, fetched %v; want %q", tt.name, reason, a.fetched, tt.reason)
		}
	}
}

func TestChainURL(t *testing.T) {
	for text, want := range map[string]string{
		chainAddr: chainAddr,
		"https://s3.amazonaws.com:443/echo.api/echo-api-cert.pem":          chainAddr,
		"HTTPS://S3.AmazonAWS.com/echo.api/echo-api-cert.pem":              chainAddr,
		"https://s3.amazonaws.com/echo.api/../echo.api/echo-api-cert.pem":  chainAddr,
		"https://s3.amazonaws.com/echo.api/./x/..//echo-api-cert.pem":      chainAddr,
		"https://s3.amazonaws.com/%65cho.api/echo-api-cert.pem":            chainAddr,
		"http://s3.amazonaws.com/echo.api/echo-api-cert.pem":               "",
		"https://notamazon.com/echo.api/echo-api-cert.pem":                 "",
		"https://s3.amazonaws.com/EcHo.aPi/echo-api-cert.pem":              "",
		"https://s3.amazonaws.com/invalid.path/echo-api-cert.pem":          "",
		"https://s3.amazonaws.com:563/echo.api/echo-api-cert.pem":          "",
		"https://s3.amazonaws.com:/echo.api/echo-api-cert.pem":             "",
		"https://s3.amazonaws.com.evil.example/echo.api/echo-api-cert.pem": "",
		"https://s3.amazonaws.com@evil.example/echo.api/echo-api-cert.pem": "",
		"https://evil@s3.amazonaws.com/echo.api/echo-api-cert.pem":         "",
		"https://s3.amazonaws.com/echo.api/../evil/echo-api-cert.pem":      "",
		"https://s3.amazonaws.com/echo.api/%2e%2e/evil/x.pem":              "",
		"https://s3.amazonaws.com/echo.api%2f..%2fevil/x.pem":              "",
		"https://s3.amazonaws.com/echo.api/%252e%252e/evil/x.pem":          "",
		`https://s3.amazonaws.com/echo.api/..\evil\x.pem`:                  "",
		`https://s3.amazonaws.com\@evil.example/echo.api/x.pem`:            "",
		"https://s3.amazonaws.com/echo.api":                                "",
		"https://s3.amazonaws.com/echo.api/":                               "",
		"https://s3.amazonaws.com/echo.apix/x.pem":                         "",
		"https://s3.amazonaws.com/echo.api/x.pem?y":                        "",
		"https://s3.amazonaws.com/echo.api/x.pem#y":                        "",
		"https:s3.amazonaws.com/echo.api/x.pem":                            "",
		"//s3.amazonaws.com/echo.api/x.pem":                                "",
		"/echo.api/x.pem":                                                  "",
		"https://[::1]/echo.api/x.pem":                                     "",
		"https://s3.amazonaws.com./echo.api/x.pem":                         "",
		"https://s3.amazonaws.com/echo.api/x\x00.pem":                      "",
		"https://s3.amazonaws.com/echo.api/x\r\nHost: evil.example":        "",
		"": "",
	} {
		got, err := chainURL(text)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
}

// However many wait, one certificate is fetched once, and again when it is time.
func TestCertificatesAreKept(t *testing.T) {
	a := newAmazon(t)
	text := a.chain(t, func(c *x509.Certificate) { c.NotAfter = now.Add(60 * time.Hour) })
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		a.answer = func(string) (*http.Response, error) {
			<-release
			return respond(200, text), nil
		}
		c := a.certificates()
		fetches := func(at time.Duration, want int, wanted string) {
			t.Helper()
			_, err := c.key(t.Context(), chainAddr, now.Add(at))
			var r *Refusal
			if errors.As(err, &r); (r != nil || wanted != "") && (r == nil || r.Reason != wanted) || len(a.fetched) != want {
				t.Errorf("after %s: %v, fetched %d times, want %d", at, err, len(a.fetched), want)
			}
		}
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() { fetches(0, 1, "") })
		}
		synctest.Wait()
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.key(gone, chainAddr, now); !errors.Is(err, context.Canceled) {
			t.Errorf("who went away waits on: %v", err)
		}
		close(release)
		all.Wait()
		fetches(keepKey-1, 1, "")
		fetches(keepKey, 2, "")
		a.serve("broken")
		fetches(2*keepKey, 3, Untrusted)
		a.serve(text)
		fetches(2*keepKey+keepFailure-1, 3, Untrusted)
		fetches(2*keepKey+keepFailure, 4, "")
		a.answer = func(string) (*http.Response, error) { return respond(503, ""), nil }
		fetches(60*time.Hour-time.Minute, 4, "")
		fetches(60*time.Hour, 5, Unavailable) // it has ended
		fetches(60*time.Hour+keepFailure-1, 5, Unavailable)

		// While it can't be fetched, the one that was known counts until its end.
		d := a.certificates()
		c, a.fetched = d, nil
		a.serve(text)
		fetches(0, 1, "")
		a.answer = func(string) (*http.Response, error) { return respond(503, ""), nil }
		fetches(keepKey, 2, "")
		fetches(keepKey+keepFailure-1, 2, "")
		fetches(keepKey+keepFailure, 3, "")
		a.serve("broken")
		fetches(keepKey+2*keepFailure, 4, Untrusted)
	})
}

// Strangers can make it neither fetch all at once, nor remember without end, nor forget the good ones.
func TestFetchesAreBounded(t *testing.T) {
	a := newAmazon(t)
	text := a.chain(t, nil)
	synctest.Test(t, func(t *testing.T) {
		a.serve(text)
		c := a.certificates()
		if _, err := c.key(t.Context(), chainAddr, now); err != nil {
			t.Fatal(err)
		}
		release := make(chan struct{})
		a.answer = func(string) (*http.Response, error) {
			<-release
			return respond(404, ""), nil
		}
		var all sync.WaitGroup
		for n := range fetchesAtOnce {
			all.Go(func() { c.key(t.Context(), chainAddr+fmt.Sprint(n), now) })
		}
		synctest.Wait()
		var r *Refusal
		if _, err := c.key(t.Context(), chainAddr+"x", now); !errors.As(err, &r) || r.Reason != Unavailable {
			t.Errorf("one more: %v", err)
		}
		if _, err := c.key(t.Context(), chainAddr, now); err != nil {
			t.Errorf("the known one: %v", err)
		}
		if _, err := c.key(t.Context(), chainAddr, now.Add(keepKey)); err != nil {
			t.Errorf("the known one, when it is time to fetch it again: %v", err)
		}
		if _, err := c.key(t.Context(), chainAddr, now.Add(20*365*24*time.Hour)); err == nil {
			t.Error("the known one counts when it has ended")
		}
		close(release)
		all.Wait()
		for n := range 3 * maxCertificate {
			c.key(t.Context(), chainAddr+fmt.Sprint(n), now)
		}
		if len(c.bad) > maxCertificate || len(c.good) != 1 || len(c.pending) != 0 {
			t.Errorf("remembers %d bad, %d good, %d pending", len(c.bad), len(c.good), len(c.pending))
		}
	})
}

// What is fetched is always an address below Amazon's, whatever was sent.
func FuzzChainURL(f *testing.F) {
	f.Add(chainAddr)
	f.Add("https://s3.amazonaws.com:443/echo.api/../echo.api/%65")
	f.Fuzz(func(t *testing.T, text string) {
		u, err := chainURL(text)
		if err == nil && (!strings.HasPrefix(u, "https://s3.amazonaws.com/echo.api/") || strings.ContainsAny(u[8:], "%?#@\\: ") || strings.Contains(u, "..") && strings.Contains(u, "/../")) {
			t.Errorf("%q becomes %q", text, u)
		}
	})
}

// A body that nobody signed is never taken for one of Alexa's.
func FuzzAlexaBody(f *testing.F) {
	a := newAmazon(f)
	a.serve(a.chain(f, nil))
	c := a.certificates()
	header := a.sign(f, "another body")
	f.Add([]byte(alexaBody(now)))
	f.Add([]byte("\xef\xbb\xbf{\"request\":{\"timestamp\":1e9}}"))
	f.Fuzz(func(t *testing.T, body []byte) {
		if e, reason := judge(t, Alexa([]string{skill}, c), header, string(body), now); reason == "" {
			t.Errorf("%q is taken for %+v", body, e)
		}
	})
}

// Real requests, brought to the present and signed, are verified.
func TestAlexaOnRealBodies(t *testing.T) {
	payload(t, "NOTICE") // skips without them
	files, err := filepath.Glob(payloads + "/alexa/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no bodies: %v", err)
	}
	a := newAmazon(t)
	a.serve(a.chain(t, nil))
	c := a.certificates()
	stamp := regexp.MustCompile(`"timestamp"\s*:\s*("[^"]*"|\d+)`)
	id := regexp.MustCompile(`"applicationId"\s*:\s*"([^"]*)"`)
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		app := id.FindSubmatch(b)
		if app == nil {
			t.Errorf("%s has no applicationId", file)
			continue
		}
		body := stamp.ReplaceAllString(string(b), `"timestamp": "`+now.UTC().Format(time.RFC3339)+`"`)
		if e, reason := judge(t, Alexa([]string{string(app[1])}, c), a.sign(t, body), body, now); reason != "" || e.Name == "" || !e.Time.Equal(now) {
			t.Errorf("%s: %q, %+v", file, reason, e)
		}
		if _, reason := judge(t, Alexa([]string{string(app[1])}, c), a.sign(t, string(b)), string(b), now); reason != Stale && reason != Malformed {
			t.Errorf("%s as it was: %q", file, reason)
		}
	}
}
