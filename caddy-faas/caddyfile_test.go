package caddyfaas

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-faas/faas/caddy-faas/scale"
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

// Every option of the scale block is obeyed.
func TestScaleBlock(t *testing.T) {
	b, err := adapt(t, `{
	faas {
		scale {
			auto off
			min 2
			max 30
			target 9
			target_proportion 0.5
			down_window 2m
			zero on
			zero_duration 1h
			concurrency 3
			queue_depth 7
			queue_total 70
			queue_timeout 3s
			alert_for 4m
			starting 5
			writes 6
			pending_after 7s
			node_idle 8m
			peers tasks.gateway:8081 [::1]:1
			peer_secret_file peers.secret
		}
	}
}
`)
	if err != nil {
		t.Fatal(err)
	}
	var config struct{ Apps struct{ Faas App } }
	if err := json.Unmarshal(b, &config); err != nil {
		t.Fatal(err)
	}
	want := scale.NewDefaults()
	want.Auto, want.Min, want.Max, want.Target, want.Proportion, want.Window = false, 2, 30, 9, 0.5, 2*time.Minute
	want.Zero, want.ZeroAfter, want.Concurrency, want.Depth, want.QueueTotal, want.QueueTimeout = true, time.Hour, 3, 7, 70, 3*time.Second
	want.AlertFor, want.Starting, want.Writes = 4*time.Minute, 5, 6
	want.PendingAfter, want.NodeIdle = 7*time.Second, 8*time.Minute
	if got := config.Apps.Faas.Scale.defaults(); got != want {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if s := config.Apps.Faas.Scale; fmt.Sprint(s.Peers) != "[tasks.gateway:8081 [::1]:1]" || s.PeerSecretFile != "peers.secret" {
		t.Errorf("peers: %+v", s)
	}
	for _, option := range new(Scaling).options() {
		if !strings.Contains(read(t, "../README.md"), "\n\t\t\t"+option+" <") {
			t.Errorf("README.md does not have the option %s", option)
		}
	}
}

func TestAdaptErrors(t *testing.T) {
	tests := []struct{ name, caddyfile, want string }{
		{"unknown option", ":80\nfaas {\n\twiat 3s\n}", `unknown option "wiat" of faas: want alexa, domains, fallback or wait`},
		{"two functions", ":80\nfaas a b", "wrong argument count"},
		{"bad wait", ":80\nfaas {\n\twait soon\n}", "want a positive duration such as 30s"},
		{"no wait", ":80\nfaas {\n\twait 0s\n}", "want a positive duration such as 30s"},
		{"wait twice", ":80\nfaas {\n\twait 1s\n\twait 2s\n}", "wait is given twice"},
		{"data twice", "{\n\tfaas {\n\t\tdata a\n\t\tdata b\n\t}\n}\n", "data is given twice"},
		{"options of faas_handover", "{\n\tservers {\n\t\tlistener_wrappers {\n\t\t\tfaas_handover {\n\t\t\t\tx\n\t\t\t}\n\t\t}\n\t}\n}\n:80\nfaas", "faas_handover has none"},
		{"options of faas_api", ":80\nfaas_api {\n\tx\n}", "faas_api has none"},
		{"options of faas_ui", ":80\nfaas_ui {\n\tx\n}", "faas_ui has none"},
		{"alexa twice", ":80\nfaas {\n\talexa {\n\t\tinsecure_skip_verify\n\t}\n\talexa {\n\t\tinsecure_skip_verify\n\t}\n}", "twice"},
		{"alexa beside a function", ":80\nfaas echo {\n\talexa {\n\t\tinsecure_skip_verify\n\t}\n}", "every request goes to echo"},
		{"intent without function", ":80\nfaas {\n\talexa {\n\t\tintent Greet\n\t}\n}", "wrong argument count"},
		{"intent twice", ":80\nfaas {\n\talexa {\n\t\tintent Greet a\n\t\tintent Greet b\n\t}\n}", "intent Greet is given twice"},
		{"unknown alexa option", ":80\nfaas {\n\talexa {\n\t\tverify\n\t}\n}", `unknown option "verify" of alexa`},
		{"two stars", ":80\nfaas {\n\talexa {\n\t\tintent A*B* x\n\t}\n}", "want a * at its end only"},
		{"launch twice", ":80\nfaas {\n\talexa {\n\t\tlaunch x\n\t\tlaunch y\n\t}\n}", "launch is given twice"},
		{"no sentence", ":80\nfaas {\n\talexa {\n\t\ton_error\n\t}\n}", "want a sentence"},
		{"a language twice", ":80\nfaas {\n\talexa {\n\t\ton_error {\n\t\t\tde a\n\t\t\tde b\n\t\t}\n\t}\n}", "de is given twice"},
		{"flag with a value", ":80\nfaas {\n\talexa {\n\t\twrap_text on\n\t}\n}", "wrong argument count"},
		{"no skill", ":80\nfaas_verify alexa {\n\tskill_id\n}", "wrong argument count"},
		{"fallback without a function", ":80\nfaas {\n\tfallback x\n}", "fallback x has no use"},
		{"domains with a function", ":80\nfaas x {\n\tdomains\n}", "the host names the function"},
		{"options of permission", "{\n\ton_demand_tls {\n\t\tpermission faas x\n\t}\n}\n", "has no options"},
		{"fallback twice", ":80\nfaas a {\n\tfallback x\n\tfallback y\n}", "fallback is given twice"},
		{"no scheme", ":80\nfaas_verify", "want the scheme"},
		{"unknown scheme", ":80\nfaas_verify githab", "faas.verifiers.githab"},
		{"unknown option of a scheme", ":80\nfaas_verify github {\n\tsecrt x\n}", "unknown option \"secrt\" of faas_verify github: want events, max_body, ping, replay, secret, secret_file"},
		{"option of another scheme", ":80\nfaas_verify github {\n\ttolerance 5m\n}", "unknown option \"tolerance\""},
		{"bad tolerance", ":80\nfaas_verify slack {\n\tsecret x\n\ttolerance -5m\n}", "want a positive duration"},
		{"header twice", ":80\nfaas_verify hmac {\n\theader X\n\theader Y\n}", "header is given twice"},
		{"bad size", ":80\nfaas_verify github {\n\tmax_body many\n}", "want a size such as 1MiB"},
		{"no events", ":80\nfaas_verify github {\n\tevents\n}", "wrong argument count"},
		{"bad ping", ":80\nfaas_verify github {\n\tping maybe\n}", "want respond or forward"},
		{"bad replay", ":80\nfaas_verify github {\n\treplay on\n}", "want a duration such as 24h, or off"},
		{"replay twice", ":80\nfaas_verify github {\n\treplay off\n\treplay 1h\n}", "replay is given twice"},
		{"secret without value", ":80\nfaas_verify github {\n\tsecret\n}", "secret: want one value"},
		{"unknown app option", "{\n\tfaas {\n\t\tdate x\n\t}\n}\n", `unknown option "date" of faas`},
		{"app twice", "{\n\tfaas {\n\t\tdata x\n\t}\n\tfaas {\n\t\tdata y\n\t}\n}\n", "given twice"},
		{"provider twice", "{\n\tfaas {\n\t\tprovider local\n\t\tprovider local\n\t}\n}\n", "given twice"},
		{"unknown provider", "{\n\tfaas {\n\t\tprovider cloud\n\t}\n}\n", "faas.providers.cloud"},
		{"unknown provider option", "{\n\tfaas {\n\t\tprovider local {\n\t\t\tcolour blue\n\t\t}\n\t}\n}\n", `unknown option "colour"`},
		{"unknown scale option", "{\n\tfaas {\n\t\tscale {\n\t\t\tmaximum 3\n\t\t}\n\t}\n}\n", `unknown option "maximum" of scale: want alert_for, auto,`},
		{"scale option twice", "{\n\tfaas {\n\t\tscale {\n\t\t\tmax 3\n\t\t\tmax 4\n\t\t}\n\t}\n}\n", "scale: max is given twice"},
		{"scale option without value", "{\n\tfaas {\n\t\tscale {\n\t\t\tmax\n\t\t}\n\t}\n}\n", "scale: max: want one value"},
		{"no number", "{\n\tfaas {\n\t\tscale {\n\t\t\tmax 0\n\t\t}\n\t}\n}\n", "scale: max 0: want a number from 1"},
		{"no duration", "{\n\tfaas {\n\t\tscale {\n\t\t\tzero_duration 0s\n\t\t}\n\t}\n}\n", "scale: zero_duration 0s: want a positive duration"},
		{"window too long", "{\n\tfaas {\n\t\tscale {\n\t\t\tdown_window 10m\n\t\t}\n\t}\n}\n", "want at most 5m"},
		{"no proportion", "{\n\tfaas {\n\t\tscale {\n\t\t\ttarget_proportion 1.5\n\t\t}\n\t}\n}\n", "target_proportion 1.5: want a number above 0, at most 1"},
		{"peers without a secret", "{\n\tfaas {\n\t\tscale {\n\t\t\tpeers gateway:8081\n\t\t}\n\t}\n}\n", "scale: peers need peer_secret_file"},
		{"peer without a port", "{\n\tfaas {\n\t\tscale {\n\t\t\tpeer_secret_file f\n\t\t\tpeers gateway\n\t\t}\n\t}\n}\n", "scale: peers gateway: want HOST:PORT such as tasks.gateway:8081"},
		{"no peers", "{\n\tfaas {\n\t\tscale {\n\t\t\tpeers\n\t\t}\n\t}\n}\n", "scale: peers: want one address or more"},
		{"faas_peer with an option", ":80\nfaas_peer {\n\tx\n}", "faas_peer has none"},
		{"no switch", "{\n\tfaas {\n\t\tscale {\n\t\t\tzero true\n\t\t}\n\t}\n}\n", "scale: zero true: want on or off"},
		{"max below min", "{\n\tfaas {\n\t\tscale {\n\t\t\tmin 5\n\t\t\tmax 4\n\t\t}\n\t}\n}\n", "max 4 is less than min 5"},
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
