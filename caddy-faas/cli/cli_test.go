package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// run runs a command; text is what it prints on either output.
func run(t *testing.T, in string, args ...string) (text string, status int) {
	t.Helper()
	root := &cobra.Command{Use: "faas", SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(Commands()...)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return Misuse(err) })
	var out bytes.Buffer
	root.SetArgs(args)
	root.SetIn(strings.NewReader(in))
	root.SetOut(&out)
	root.SetErr(&out)
	err := root.ExecuteContext(context.Background())
	if err != nil {
		out.WriteString(err.Error())
	}
	return out.String(), ExitStatus(err)
}

// a request that a recording server got
type request struct{ line, authorization, body string }

// record is a server that answers all with a status and a text.
func record(t *testing.T, status int, text string) (base string, got *[]request) {
	got = new([]request)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		*got = append(*got, request{r.Method + " " + r.URL.RequestURI(), r.Header.Get("Authorization"), string(b)})
		w.Header().Set("Location", "https://elsewhere.example/")
		if strings.HasPrefix(r.URL.Path, "/function/") {
			w.Header().Set("X-Call-Id", "1") // a function has answered
		}
		w.WriteHeader(status)
		io.WriteString(w, text)
	}))
	t.Cleanup(s.Close)
	return s.URL, got
}

// alone keeps what is configured on this machine from a test.
func alone(t *testing.T) (dir string) {
	dir = t.TempDir()
	for name, value := range map[string]string{"HOME": dir, "OPENFAAS_CONFIG": "", "OPENFAAS_URL": "", "FAAS_DATA": filepath.Join(dir, "data"), "FAAS_USER": ""} {
		t.Setenv(name, value)
	}
	return dir
}

func TestGatewayURL(t *testing.T) {
	alone(t)
	base, got := record(t, 200, "[]")
	for _, url := range []string{base, base + "/", strings.TrimPrefix(base, "http://")} {
		if text, status := run(t, "", "list", "-g", url); status != 0 {
			t.Errorf("%s: %d %s", url, status, text)
		}
	}
	t.Setenv("OPENFAAS_URL", base+"/")
	run(t, "", "list", "-n", "a&b")
	if len(*got) != 4 || (*got)[3].line != "GET /system/functions?namespace=a%26b" || (*got)[0].line != "GET /system/functions" {
		t.Errorf("got %q", *got)
	}
	for _, url := range []string{"ftp://a", "http://", "http://a b", "http://a?b=c", "http://me:sesame@a"} {
		if text, status := run(t, "", "list", "-g", url); status != Misused || strings.Contains(text, "sesame") {
			t.Errorf("%s: %d %s", url, status, text)
		}
	}
}

func TestStatuses(t *testing.T) {
	alone(t)
	for answer, want := range map[int]int{202: 0, 400: Failed, 401: Unwelcome, 403: Failed, 404: Missing, 409: Failed, 500: Failed, 308: Failed} {
		base, got := record(t, answer, "the server's words\n")
		text, status := run(t, "", "scale", "f", "1", "-g", base)
		if status != want || len(*got) != 1 {
			t.Errorf("%d: status %d, %s, %q", answer, status, text, *got)
		}
		switch answer {
		case 202:
			if body := (*got)[0].body; body != `{"namespace":"openfaas-fn","replicas":1,"serviceName":"f"}` {
				t.Errorf("sent %s", body)
			}
		case 401:
		case 308: // not followed: a POST would not be one any more
			if !strings.Contains(text, "https://elsewhere.example/") {
				t.Errorf("redirect: %s", text)
			}
		default:
			if text != "the server's words" {
				t.Errorf("%d: %s", answer, text)
			}
		}
	}
	base, _ := record(t, 200, "")
	for _, args := range []string{"list", "deploy f --image i", "remove f", "scale f 1"} {
		if text, status := run(t, "", append(strings.Fields(args), "-g", base)...); status != Failed || !strings.Contains(text, "answers nothing") {
			t.Errorf("%s, of a site of another name: %d %s", args, status, text)
		}
	}
	base, _ = record(t, 200, "<html>")
	if text, status := run(t, "", "list", "-g", base); status != Failed || !strings.Contains(text, "is it a gateway?") {
		t.Errorf("no gateway: %d %s", status, text)
	}
}

func TestCredentials(t *testing.T) {
	dir := alone(t)
	base, got := record(t, 200, "[]")
	sent := func(want string, args ...string) {
		t.Helper()
		if text, status := run(t, "sesame\r\n", append(args, "-g", base)...); status != 0 {
			t.Errorf("%d %s", status, text)
		}
		if a := (*got)[len(*got)-1].authorization; a != want {
			t.Errorf("%q was sent, want %q", a, want)
		}
	}
	token := func(user string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":sesame"))
	}
	sent("", "list")
	sent(token("admin"), "list", "--password-stdin")
	sent(token("me"), "list", "--password-stdin", "-u", "me")

	// On this machine the state directory has it.
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "admin.password"), []byte("sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sent(token("admin"), "list")
	sent("", "invoke", "f", "-d", "x")
	sent(token("admin"), "invoke", "f", "-d", "x", "--password-stdin")
	o := &options{data: data}
	if a, err := o.authorization("http://192.0.2.1:8080"); a.header != "" || err != nil {
		t.Errorf("another machine gets %q, %v", a.header, err)
	}

	// What other programs keep in the file stays.
	file := filepath.Join(dir, ".openfaas", "config.yml")
	if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	theirs := "auths:\n- gateway: https://other.example\n  auth: oauth2\n  token: abc\n  options: [{name: a, value: b}]\nmore: kept\n"
	if err := os.WriteFile(file, []byte(theirs), 0o600); err != nil {
		t.Fatal(err)
	}
	if a, err := o.authorization("https://other.example"); a.header != "Bearer abc" || err != nil {
		t.Errorf("oauth2: %q, %v", a.header, err)
	}
	sent(token("me"), "login", "-u", "me", "-s")
	sent(token("me"), "login", "-u", "me", "-s")
	sent(token("me"), "list")
	b, err := os.ReadFile(file)
	if err != nil || strings.Count(string(b), base) != 1 || !strings.Contains(string(b), "more: kept") || !strings.Contains(string(b), "name: a") {
		t.Errorf("%s %v", b, err)
	}
	if i, _ := os.Stat(file); i.Mode() != 0o600 {
		t.Errorf("mode %s", i.Mode())
	}
	if text, status := run(t, "", "logout", "-g", base); status != 0 {
		t.Errorf("logout: %d %s", status, text)
	}
	sent(token("admin"), "list")

	if err := os.WriteFile(file, []byte("auths: sesame"), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, status := run(t, "", "list", "-g", base); status != Failed || strings.Contains(text, "sesame") {
		t.Errorf("a broken file: %d %s", status, text)
	}
	for _, args := range [][]string{{"list", "-u", "me"}, {"login"}, {"list", "-s"}} {
		if text, status := run(t, "\n", append(args, "-g", base)...); status != Misused {
			t.Errorf("%q: %d %s", args, status, text)
		}
	}
}

func TestSecretValues(t *testing.T) {
	dir := alone(t)
	file := filepath.Join(dir, "value")
	raw := "\x00\xff line\r\n"
	if err := os.WriteFile(file, []byte(raw), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		in   string
		args []string
		want string
	}{
		{raw, nil, raw},
		{"", []string{"--from-file", file}, raw},
		{"", []string{"--from-literal", ""}, ""},
		{"", []string{"--from-literal", "sesame"}, "sesame"},
	} {
		base, got := record(t, 201, "")
		text, status := run(t, row.in, append([]string{"secret", "create", "s", "-n", "dev", "-g", base}, row.args...)...)
		var sent struct{ Name, Namespace, RawValue string }
		if status != 0 || len(*got) != 1 || json.Unmarshal([]byte((*got)[0].body), &sent) != nil {
			t.Fatalf("%d %s %q", status, text, *got)
		}
		value, err := base64.StdEncoding.DecodeString(sent.RawValue)
		if string(value) != row.want || err != nil || sent.Name != "s" || sent.Namespace != "dev" || (*got)[0].line != "POST /system/secrets" {
			t.Errorf("%q: sent %+v", row.want, sent)
		}
		if strings.Contains(text, "sesame") {
			t.Errorf("it is shown: %s", text)
		}
	}
	for _, args := range [][]string{
		{"secret", "create"}, {"secret", "create", "s", "--from-file", file, "--from-literal", "x"},
		{"secret", "create", "s", "--from-file", file + ".none"}, {"secret", "create", "s", "-s"}, {"secret", "frobnicate"},
	} {
		if text, status := run(t, "x", args...); status != Misused {
			t.Errorf("%q: %d %s", args, status, text)
		}
	}
}

func TestInvokeRequest(t *testing.T) {
	alone(t)
	base, got := record(t, 200, "")
	for _, row := range []struct{ args, line, body string }{
		{"f -d x", "POST /function/f", "x"},
		{"f", "POST /function/f", "standard input"},
		{"f.dev/a%20b/ -m get", "GET /function/f.dev/a%20b/", ""},
		{"f -n dev -m put --query a=b&c --query a=", "PUT /function/f.dev?a=b%26c&a=", "standard input"},
		{"f/p?x=y --query a=b -m DELETE", "DELETE /function/f/p?x=y&a=b", ""},
		{"f -m DELETE -d x", "DELETE /function/f", "x"},
	} {
		if text, status := run(t, "standard input", append(append([]string{"invoke"}, strings.Fields(row.args)...), "-g", base)...); status != 0 {
			t.Errorf("%s: %d %s", row.args, status, text)
		} else if last := (*got)[len(*got)-1]; last.line != row.line || last.body != row.body {
			t.Errorf("%s: sent %q, want %q %q", row.args, last, row.line, row.body)
		}
	}
	for _, args := range []string{"", "f g", "f --query x", "f -H x", "f -d @/none", "f -s"} {
		if text, status := run(t, "", append([]string{"invoke"}, strings.Fields(args)...)...); status != Misused {
			t.Errorf("%s: %d %s", args, status, text)
		}
	}
}
