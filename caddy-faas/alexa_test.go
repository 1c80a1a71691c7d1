package caddyfaas

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

// payloads are real request bodies, kept beside the repository.
const payloads = "../../shared/payloads"

func TestDetectAlexaOnRealBodies(t *testing.T) {
	if _, err := os.Stat(payloads); err != nil {
		t.Skip("no folder of real request bodies beside the repository: ", err)
	}
	files, err := filepath.Glob(payloads + "/*/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no bodies in %s: %v", payloads, err)
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want := filepath.Base(filepath.Dir(file)) == "alexa"
		if got := detectAlexa(body) != nil; got != want {
			t.Errorf("%s: taken for an Alexa request: %t, want %t", file, got, want)
		}
	}
}

func TestAlexaFunction(t *testing.T) {
	intent := func(name string) string {
		return `{"version":"1.0","session":{"application":{"applicationId":"amzn1.x"}},"request":{"type":"IntentRequest","intent":{"name":"` + name + `"}}}`
	}
	inContext := `{"version":"1.0","context":{"System":{"application":{"applicationId":"amzn1.x"}}},"request":{"type":"IntentRequest","intent":{"name":"HostnameIntent"}}}`
	hostname := faas.ID{Name: "HostnameIntent", Namespace: faas.DefaultNamespace}
	a := &Alexa{Intents: map[string]string{"Greet": "greeter.staging"}}
	tests := []struct {
		name, method, contentType, body string
		id                              faas.ID
		mapped                          bool
		status                          int
	}{
		{"by its name", "POST", "application/json", intent("HostnameIntent"), hostname, false, 0},
		{"with a charset", "POST", "application/json;charset=UTF-8", intent("HostnameIntent"), hostname, false, 0},
		{"with a byte order mark", "POST", "application/json", "\xef\xbb\xbf \n" + intent("HostnameIntent"), hostname, false, 0},
		{"application in the context", "POST", "application/json", inContext, hostname, false, 0},
		{"mapped", "POST", "application/json", intent("Greet"), faas.ID{Name: "greeter", Namespace: "staging"}, true, 0},
		{"a name that no function has", "POST", "application/json", intent("../etc"), faas.ID{}, false, 404},
		{"a namespace in the name", "POST", "application/json", intent("a.b"), faas.ID{}, false, 404},
		{"another request type", "POST", "application/json", strings.Replace(intent("x"), "IntentRequest", "LaunchRequest", 1), faas.ID{}, false, 404},
		{"another media type", "POST", "text/plain", intent("HostnameIntent"), faas.ID{}, false, 0},
		{"another method", "PUT", "application/json", intent("HostnameIntent"), faas.ID{}, false, 0},
		{"no application", "POST", "application/json", `{"version":"1.0","request":{"type":"IntentRequest"},"applicationId":1}`, faas.ID{}, false, 0},
		{"not JSON", "POST", "application/json", `{"applicationId" "request"`, faas.ID{}, false, 0},
		{"foreign JSON", "POST", "application/json", `{"action":"opened"}`, faas.ID{}, false, 0},
		{"too long", "POST", "application/json", intent("HostnameIntent") + strings.Repeat(" ", alexaMaxBody), faas.ID{}, false, 0},
		{"empty", "POST", "application/json", "", faas.ID{}, false, 0},
	}
	for _, tt := range tests {
		for _, known := range []bool{true, false} { // the length of the body
			r := httptest.NewRequest(tt.method, "/", strings.NewReader(tt.body))
			r.Header.Set("Content-Type", tt.contentType)
			if !known {
				r.ContentLength = -1
				r.TransferEncoding = []string{"chunked"}
			}
			id, mapped, err := a.function(r)
			var he caddyhttp.HandlerError
			errors.As(err, &he)
			if id != tt.id || mapped != tt.mapped || he.StatusCode != tt.status {
				t.Errorf("%s: got %v, mapped %t, status %d", tt.name, id, mapped, he.StatusCode)
			}
			if b, err := io.ReadAll(r.Body); err != nil || string(b) != tt.body {
				t.Errorf("%s: afterwards the body reads %.40q (%d bytes), %v", tt.name, b, len(b), err)
			}
		}
	}
}

func TestPeekBodyOverTheRoutesLimit(t *testing.T) {
	r := httptest.NewRequest("POST", "/", strings.NewReader("0123456789"))
	r.Body = http.MaxBytesReader(nil, r.Body, 5)
	_, err := peekBody(r, 100)
	var he caddyhttp.HandlerError
	if !errors.As(err, &he) || he.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("got %v, want a 413", err)
	}
}

// What is taken for an Alexa request is one that Go's JSON decoder, too, finds complete.
func FuzzDetectAlexa(f *testing.F) {
	f.Add([]byte(`{"version":"1.0","session":{"application":{"applicationId":"a"}},"request":{"type":"IntentRequest","intent":{"name":"x"}}}`))
	f.Add([]byte("\xef\xbb\xbf{\"applicationId\":1,\"request\":2}"))
	f.Fuzz(func(t *testing.T, body []byte) {
		a := detectAlexa(body)
		if a == nil {
			return
		}
		if !json.Valid(bytes.TrimPrefix(bytes.TrimSpace(body), []byte("\xef\xbb\xbf"))) || a.Request.Type == "" {
			t.Errorf("%q is taken for an Alexa request", body)
		}
	})
}
