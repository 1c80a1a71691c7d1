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

func alexaOf(typ, intent string) *alexaRequest {
	var a alexaRequest
	a.Request.Type, a.Request.Intent.Name, a.Request.Locale = typ, intent, "en-US"
	return &a
}

func TestAlexaRequest(t *testing.T) {
	body := `{"version":"1.0","session":{"application":{"applicationId":"amzn1.x"}},"request":{"type":"IntentRequest","intent":{"name":"HostnameIntent"}}}`
	inContext := `{"version":"1.0","context":{"System":{"application":{"applicationId":"amzn1.x"}}},"request":{"type":"IntentRequest","intent":{"name":"HostnameIntent"}}}`
	tests := []struct {
		name, method, target, contentType, body string
		scheme                                  string // that has verified it
		intent                                  string
		status                                  int
	}{
		{"as it should be", "POST", "/", "application/json", body, "alexa", "HostnameIntent", 0},
		{"with a charset", "POST", "/", "application/json;charset=UTF-8", body, "alexa", "HostnameIntent", 0},
		{"with a byte order mark", "POST", "/", "application/json", "\xef\xbb\xbf \n" + body, "alexa", "HostnameIntent", 0},
		{"application in the context", "POST", "/", "application/json", inContext, "alexa", "HostnameIntent", 0},
		{"not verified", "POST", "/", "application/json", body, "", "", 400},
		{"verified as somebody else's", "POST", "/", "application/json", body, "github", "", 400},
		{"to a function", "POST", "/function/x", "application/json", body, "", "", 0},
		{"another media type", "POST", "/", "text/plain", body, "alexa", "", 0},
		{"another method", "PUT", "/", "application/json", body, "alexa", "", 0},
		{"no application", "POST", "/", "application/json", `{"version":"1.0","request":{"type":"IntentRequest"},"applicationId":1}`, "alexa", "", 0},
		{"not JSON", "POST", "/", "application/json", `{"applicationId" "request"`, "alexa", "", 0},
		{"foreign JSON", "POST", "/", "application/json", `{"action":"opened"}`, "alexa", "", 0},
		{"too long", "POST", "/", "application/json", body + strings.Repeat(" ", alexaMaxBody), "alexa", "", 0},
		{"empty", "POST", "/", "application/json", "", "alexa", "", 0},
	}
	for _, tt := range tests {
		for _, known := range []bool{true, false} { // the length of the body
			r := httptest.NewRequest(tt.method, tt.target, strings.NewReader(tt.body))
			r.Header.Set("Content-Type", tt.contentType)
			if !known {
				r.ContentLength = -1
				r.TransferEncoding = []string{"chunked"}
			}
			r = asVerified(r, tt.scheme)
			req, err := new(Alexa).request(r)
			var he caddyhttp.HandlerError
			errors.As(err, &he)
			if req == nil {
				req = new(alexaRequest)
			}
			if req.Request.Intent.Name != tt.intent || he.StatusCode != tt.status {
				t.Errorf("%s: got %+v, status %d", tt.name, req, he.StatusCode)
			}
			if b, err := io.ReadAll(r.Body); err != nil || string(b) != tt.body {
				t.Errorf("%s: afterwards the body reads %.40q (%d bytes), %v", tt.name, b, len(b), err)
			}
		}
	}
	r := httptest.NewRequest("POST", "/", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	if req, err := (&Alexa{InsecureSkipVerify: true}).request(r); req == nil || err != nil {
		t.Errorf("insecure: %v, %v", req, err)
	}
}

func TestAlexaChoices(t *testing.T) {
	a := &Alexa{Intents: map[string]string{"Greet": "greeter.staging", "Gr*": "short", "Gree*": "long", "AudioPlayer.*": "player"},
		Launch: "launch", SessionEnded: "ended", Fallback: "fallback"}
	for _, tt := range []struct {
		alexa        *Alexa
		typ, intent  string
		want, canned string // what comes if there is no function
	}{
		{a, "IntentRequest", "Greet", "greeter.staging!", ""},
		{a, "IntentRequest", "Greeting", "long.openfaas-fn!", ""},
		{a, "IntentRequest", "Grow", "short.openfaas-fn!", ""},
		{a, "IntentRequest", "HelloIntent", "HelloIntent.openfaas-fn hellointent.openfaas-fn fallback.openfaas-fn!", ""},
		{new(Alexa), "IntentRequest", "HelloIntent", "HelloIntent.openfaas-fn hellointent.openfaas-fn", ""},
		{new(Alexa), "IntentRequest", "../etc", "", ""},
		{new(Alexa), "IntentRequest", "a.b", "", ""},
		{a, "IntentRequest", "a.b", "fallback.openfaas-fn!", ""},
		{a, "IntentRequest", "AMAZON.StopIntent", "", farewell},
		{a, "IntentRequest", "AMAZON.CancelIntent", "", farewell},
		{&Alexa{Intents: map[string]string{"AMAZON.*": "x"}}, "IntentRequest", "AMAZON.StopIntent", "x.openfaas-fn!", farewell},
		{a, "IntentRequest", "AMAZON.HelpIntent", "launch.openfaas-fn! fallback.openfaas-fn!", speak(welcome["en"], false)},
		{a, "IntentRequest", "AMAZON.FallbackIntent", "fallback.openfaas-fn! launch.openfaas-fn!", ""},
		{a, "LaunchRequest", "", "launch.openfaas-fn!", speak(welcome["en"], false)},
		{new(Alexa), "LaunchRequest", "", "", speak(welcome["en"], false)},
		{a, "SessionEndedRequest", "", "ended.openfaas-fn!", silence},
		{a, "AlexaSkillEvent.SkillEnabled", "", "ended.openfaas-fn!", silence},
		{new(Alexa), "SessionEndedRequest", "", "", silence},
		{a, "CanFulfillIntentRequest", "HelloIntent", "HelloIntent.openfaas-fn hellointent.openfaas-fn fallback.openfaas-fn!", incapable},
		{a, "AudioPlayer.PlaybackStarted", "", "player.openfaas-fn!", silence},
		{a, "Display.ElementSelected", "", "", silence},
	} {
		req := alexaOf(tt.typ, tt.intent)
		var got []string
		for _, c := range tt.alexa.choices(req) {
			s := c.ID.String()
			if c.mapped {
				s += "!"
			}
			got = append(got, s)
		}
		if s := strings.Join(got, " "); s != tt.want || tt.alexa.canned(req) != tt.canned {
			t.Errorf("%s %s: got %s and %s", tt.typ, tt.intent, s, tt.alexa.canned(req))
		}
	}
}

func TestAlexaAnswer(t *testing.T) {
	full := `{"version":"1.0","response":{"shouldEndSession":true}}`
	for _, tt := range []struct {
		typ, output string
		wrap        bool
		want        string // "" for an error
	}{
		{"IntentRequest", full + "\n", false, full},
		{"IntentRequest", "\xef\xbb\xbf" + full, true, full},
		{"IntentRequest", "hello <you>\n", true, `{"version":"1.0","response":{"outputSpeech":{"type":"PlainText","text":"hello <you>"},"shouldEndSession":true}}`},
		{"IntentRequest", "hello", false, ""},
		{"IntentRequest", " \n", true, ""},
		{"IntentRequest", `{"version":"1.0","request":{}}`, false, ""},
		{"IntentRequest", `{"version":"1.0","response":null}`, false, ""},
		{"IntentRequest", `{"response":{}}`, false, ""},
		{"IntentRequest", full + full, false, ""},
		{"IntentRequest", `[1]`, true, `{"version":"1.0","response":{"outputSpeech":{"type":"PlainText","text":"[1]"},"shouldEndSession":true}}`},
		{"SessionEndedRequest", "bye", true, silence},
		{"CanFulfillIntentRequest", "yes", true, ""},
		{"LaunchRequest", strings.Repeat("é", alexaMaxSpeech+1), true, speak(strings.Repeat("é", alexaMaxSpeech), true)},
	} {
		got, err := (&Alexa{WrapText: tt.wrap}).answer(alexaOf(tt.typ, "x"), []byte(tt.output))
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s %.50q: got %.200q, %v", tt.typ, tt.output, got, err)
		}
	}
}

func TestAlexaApology(t *testing.T) {
	own := map[string]string{"": "all", "de": "German", "de-AT": "Austrian"}
	for _, tt := range []struct {
		sentences    map[string]string
		locale, want string
	}{
		{nil, "en-GB", sorry["en"]}, {nil, "de-DE", sorry["de"]}, {nil, "xx-YY", sorry["en"]}, {nil, "", sorry["en"]},
		{own, "de-AT", "Austrian"}, {own, "de-DE", "German"}, {own, "fr-FR", "all"}, {map[string]string{"de": "German"}, "fr-FR", sorry["fr"]},
	} {
		if got := (&Alexa{OnError: tt.sentences}).apology(tt.locale); got != tt.want {
			t.Errorf("%v %s: %s, want %s", tt.sentences, tt.locale, got, tt.want)
		}
	}
	for language := range welcome {
		if sorry[language] == "" {
			t.Errorf("no apology in %s", language)
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
