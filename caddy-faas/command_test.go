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
	t.Parallel() // for a hash takes seconds with the race detector
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
	os.WriteFile(hash, nil, 0o600)
	if done, err := filled(hash); done || err != nil {
		t.Errorf("an empty file is taken for a hash: %t, %v", done, err)
	}
	os.Remove(hash)
	check(false)
	if read(t, password) != first {
		t.Error("the password changed")
	}
	ok, err := caddyauth.BcryptHash{}.Compare([]byte(strings.TrimSpace(read(t, hash))), []byte(strings.TrimSpace(first)))
	if !ok || err != nil {
		t.Errorf("the hash is not of the password: %v", err)
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

// TestInitBeside: whoever is about to run is kept from taking the admin socket of a Caddy that runs.
func TestInitBeside(t *testing.T) {
	dir, err := os.MkdirTemp("", "faas") // of a short path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.WriteFile(filepath.Join(dir, "admin.hash"), []byte("x"), 0o600); err != nil { // making one takes seconds
		t.Fatal(err)
	}
	begin := func(site string) error {
		c := initCommand()
		c.SetArgs([]string{"--data", dir, "--site", site})
		c.SilenceErrors, c.SilenceUsage = true, true
		return c.Execute()
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "admin.sock")})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	site := "http://localhost:" + freePort(t)
	if err := begin(site); err == nil || !strings.Contains(err.Error(), "a Caddy runs with "+dir+" already") {
		t.Errorf("beside one that runs: %v", err)
	}
	if err := begin(""); err != nil {
		t.Errorf("without --site: %v", err)
	}
	l.Close() // as one that was killed leaves it
	if err := begin(site); err != nil {
		t.Errorf("once it has ended: %v", err)
	}
}
