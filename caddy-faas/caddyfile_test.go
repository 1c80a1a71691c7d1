package caddyfaas

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

var update = flag.Bool("update", false, "write the golden files anew")

func adapt(t *testing.T, caddyfile string) ([]byte, error) {
	t.Helper()
	b, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), nil)
	return b, err
}

func TestAdapt(t *testing.T) {
	files, err := filepath.Glob("testdata/adapt/*.caddyfile")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got, err := adapt(t, string(text))
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		var indented bytes.Buffer
		if err := json.Indent(&indented, got, "", "\t"); err != nil {
			t.Fatal(err)
		}
		indented.WriteByte('\n')
		golden := strings.TrimSuffix(file, ".caddyfile") + ".json"
		if *update {
			if err := os.WriteFile(golden, indented.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(indented.Bytes(), want) {
			t.Errorf("%s adapts to\n%s\nwant %s:\n%s", file, indented.Bytes(), golden, want)
		}
	}
}

func TestAdaptErrors(t *testing.T) {
	tests := []struct{ name, caddyfile, want string }{
		{"unknown option", ":80\nfaas {\n\twiat 3s\n}", `unknown option "wiat" of faas: want alexa or wait`},
		{"two functions", ":80\nfaas a b", "wrong argument count"},
		{"bad wait", ":80\nfaas {\n\twait soon\n}", "want a positive duration such as 30s"},
		{"no wait", ":80\nfaas {\n\twait 0s\n}", "want a positive duration such as 30s"},
		{"wait twice", ":80\nfaas {\n\twait 1s\n\twait 2s\n}", "wait is given twice"},
		{"data twice", "{\n\tfaas {\n\t\tdata a\n\t\tdata b\n\t}\n}\n", "data is given twice"},
		{"options of faas_handover", "{\n\tservers {\n\t\tlistener_wrappers {\n\t\t\tfaas_handover {\n\t\t\t\tx\n\t\t\t}\n\t\t}\n\t}\n}\n:80\nfaas", "faas_handover has none"},
		{"options of faas_api", ":80\nfaas_api {\n\tx\n}", "faas_api has none"},
		{"alexa without verification", ":80\nfaas {\n\talexa\n}", "insecure_skip_verify"},
		{"alexa twice", ":80\nfaas {\n\talexa {\n\t\tinsecure_skip_verify\n\t}\n\talexa {\n\t\tinsecure_skip_verify\n\t}\n}", "twice"},
		{"alexa beside a function", ":80\nfaas echo {\n\talexa {\n\t\tinsecure_skip_verify\n\t}\n}", "every request goes to echo"},
		{"intent without function", ":80\nfaas {\n\talexa {\n\t\tintent Greet\n\t}\n}", "wrong argument count"},
		{"intent twice", ":80\nfaas {\n\talexa {\n\t\tintent Greet a\n\t\tintent Greet b\n\t}\n}", "intent Greet is given twice"},
		{"unknown alexa option", ":80\nfaas {\n\talexa {\n\t\tverify\n\t}\n}", `unknown option "verify" of alexa`},
		{"unknown app option", "{\n\tfaas {\n\t\tdate x\n\t}\n}\n", `unknown option "date" of faas`},
		{"app twice", "{\n\tfaas {\n\t\tdata x\n\t}\n\tfaas {\n\t\tdata y\n\t}\n}\n", "given twice"},
		{"provider twice", "{\n\tfaas {\n\t\tprovider local\n\t\tprovider local\n\t}\n}\n", "given twice"},
		{"unknown provider", "{\n\tfaas {\n\t\tprovider cloud\n\t}\n}\n", "faas.providers.cloud"},
		{"unknown provider option", "{\n\tfaas {\n\t\tprovider local {\n\t\t\tcolour blue\n\t\t}\n\t}\n}\n", `unknown option "colour"`},
		{"option without value", "{\n\tfaas {\n\t\tdata\n\t}\n}\n", "want one value"},
		{"missing hash", "{\n\tfaas {\n\t\tadmin_hash testdata/none\n\t}\n}\n", "caddy faas init"},
		{"options of dynamic faas", ":80\nreverse_proxy {\n\tdynamic faas {\n\t\tname x\n\t}\n}", "dynamic faas has none"},
	}
	for _, tt := range tests {
		if b, err := adapt(t, tt.caddyfile); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got error %v and %s, want an error with %q", tt.name, err, b, tt.want)
		}
	}
}
