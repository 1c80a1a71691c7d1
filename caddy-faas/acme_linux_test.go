package caddyfaas

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// A domain that a function claims gets its certificate from a real ACME server, Let's Encrypt's Pebble, and no other does.
func TestDomainByACME(t *testing.T) {
	t.Parallel()
	pebble, dns := needs(t, "pebble"), needs(t, "pebble-challtestsrv")
	a := newAmazon(t) // for Pebble's own certificate
	key, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	var ports []string
	for range 6 {
		ports = append(ports, freePort(t))
	}
	acme, management, resolver, answers, plain, secure := ports[0], ports[1], ports[2], ports[3], ports[4], ports[5]
	g := newGateway(t, map[string]string{
		"Caddyfile": strings.NewReplacer("ACME", acme, "HTTP", plain, "SECURE", secure).Replace(`{
	admin unix/DATA/admin.sock|0600
	http_port HTTP
	https_port SECURE
	acme_ca https://localhost:ACME/dir
	acme_ca_root root.pem
	on_demand_tls {
		permission faas
	}
	faas {
		data DATA
		functions stack.yml
	}
}
https:// {
	tls {
		on_demand
	}
	faas {
		domains
	}
}
`),
		"stack.yml": "functions:\n  hello:\n    fprocess: echo hello\n    labels:\n      faas.domains: hello.example.com\n",
	})
	writePEM(t, g, "root.pem", a.root)
	writePEM(t, g, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.named(5, "localhost").Raw})))
	writePEM(t, g, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": "127.0.0.1:" + acme, "managementListenAddress": "127.0.0.1:" + management,
		"certificate": filepath.Join(g.dir, "cert.pem"), "privateKey": filepath.Join(g.dir, "key.pem"),
		"httpPort": atoi(t, plain), "tlsPort": atoi(t, secure),
	}})
	if err != nil {
		t.Fatal(err)
	}
	g.write(t, "pebble.json", string(config))
	runtime.LockOSThread() // at whose end the children get their signal
	defer runtime.UnlockOSThread()
	for _, c := range []*exec.Cmd{
		exec.Command(dns, "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dnsserver", "127.0.0.1:"+resolver, "-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "", "-management", "127.0.0.1:"+answers),
		exec.Command(pebble, "-config", filepath.Join(g.dir, "pebble.json"), "-dnsserver", "127.0.0.1:"+resolver),
	} {
		c.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1")
		c.Stdout, c.Stderr = &g.log, &g.log
		c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			c.Process.Kill()
			c.Wait()
		}()
	}
	defer func() {
		if t.Failed() {
			t.Log(g.log.tail(20))
		}
	}()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(a.root))
	names := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:"+resolver)
	}}
	eventually(t, "the resolver answers", func() bool {
		addrs, err := names.LookupHost(t.Context(), "hello.example.com")
		return err == nil && slices.Equal(addrs, []string{"127.0.0.1"})
	})
	directory := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
	eventually(t, "Pebble's directory answers", func() bool {
		a, err := whole(directory.Get("https://localhost:" + acme + "/dir"))
		return err == nil && a.StatusCode == 200 && strings.Contains(a.body, "newOrder")
	})
	g.start(t)
	issuer := func(name string) string {
		c, err := tls.Dial("tcp", "127.0.0.1:"+secure, &tls.Config{InsecureSkipVerify: true, ServerName: name}) // the certificate is looked at
		if err != nil {
			return ""
		}
		defer c.Close()
		cert := c.ConnectionState().PeerCertificates[0]
		if cert.VerifyHostname(name) != nil {
			return ""
		}
		return cert.Issuer.CommonName
	}
	eventually(t, "the function has a certificate of Pebble's", func() bool { return strings.Contains(issuer("hello.example.com"), "Pebble") })
	if got := issuer("other.example.com"); got != "" {
		t.Errorf("a name that no function claims has a certificate of %s", got)
	}
}
