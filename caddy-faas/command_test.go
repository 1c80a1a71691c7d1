package caddyfaas

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"
)

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestInitData(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "data")
	password, hash := filepath.Join(dir, "admin.password"), filepath.Join(dir, "admin.hash")
	check := func(wantMade bool) {
		t.Helper()
		made, err := initData(dir)
		if err != nil || made != wantMade {
			t.Fatalf("made a password: %t, %v", made, err)
		}
		for _, f := range []string{password, hash} {
			if i, err := os.Stat(f); err != nil || i.Mode() != 0o600 {
				t.Errorf("%s: mode %s, %v", f, i.Mode(), err)
			}
		}
		ok, err := caddyauth.BcryptHash{}.Compare([]byte(strings.TrimSpace(read(t, hash))), []byte(strings.TrimSpace(read(t, password))))
		if !ok || err != nil {
			t.Errorf("the hash is not of the password: %v", err)
		}
	}
	check(true)
	first := read(t, password)
	if len(strings.TrimSpace(first)) < 26 {
		t.Errorf("password %q is short", first)
	}
	before := read(t, hash)
	check(false)
	if read(t, password) != first || read(t, hash) != before {
		t.Error("a second call changed the files")
	}
	// Killed between the two files, or emptied: the password stays.
	os.Remove(hash)
	check(false)
	os.WriteFile(hash, nil, 0o600)
	check(false)
	if read(t, password) != first {
		t.Error("the password changed")
	}
	// A hash of one's own needs no password file.
	os.Remove(password)
	if made, err := initData(dir); err != nil || made {
		t.Fatal(made, err)
	}
	if _, err := os.Stat(password); err == nil {
		t.Error("made a password that the hash is not of")
	}
	if left, _ := filepath.Glob(dir + "/.*"); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

func TestCheckPorts(t *testing.T) {
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, taken, _ := net.SplitHostPort(l.Addr().String())
	free := freePort(t)
	for site, want := range map[string]string{
		"":                         "",
		"http://localhost:" + free: "",
		"localhost:" + free + ", http://127.0.0.1:" + free: "",
		"http://localhost:" + taken:                        "port " + taken + " is taken",
		"localhost:" + free + " localhost:" + taken:        "port " + taken + " is taken",
		"http://localhost:seventy":                         "seventy",
	} {
		err := checkPorts(site)
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", site, err, want)
		}
	}
}
