package verify

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// payloads are real request bodies and published signatures, kept beside the repository.
const payloads = "../../../shared/payloads"

func payload(t testing.TB, name string) []byte {
	t.Helper()
	if _, err := os.Stat(payloads); err != nil {
		t.Skip("no folder of real request bodies beside the repository: ", err)
	}
	b, err := os.ReadFile(payloads + "/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var now = time.Unix(1_800_000_000, 0)

func secrets(s ...string) (all [][]byte) {
	for _, text := range s {
		all = append(all, []byte(text))
	}
	return all
}

func headers(pairs ...string) http.Header {
	h := make(http.Header)
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

// judge is both steps of a scheme. The reason is that of the refusal.
func judge(t *testing.T, s Scheme, h http.Header, body string, now time.Time) (e Event, reason string) {
	t.Helper()
	c, err := s.Claim(h, now)
	if err == nil {
		e, err = c.Verify(t.Context(), []byte(body))
	}
	var refusal *Refusal
	if err != nil && !errors.As(err, &refusal) {
		t.Fatalf("%T: the error %v is no refusal", s, err)
	}
	if refusal != nil {
		return e, refusal.Reason
	}
	return e, ""
}

// scheme makes one by its name.
func scheme(t testing.TB, name string, s [][]byte) Scheme {
	t.Helper()
	switch name {
	case "github":
		return GitHub(s)
	case "gitlab":
		return GitLab(s)
	case "gitea":
		return Gitea(s)
	case "slack":
		return Slack(s, DefaultTolerance)
	case "stripe":
		return Stripe(s, DefaultTolerance)
	case "standard":
		sch, err := Standard(s, DefaultTolerance)
		if err != nil {
			t.Fatal(err)
		}
		return sch
	}
	t.Fatalf("no scheme %q", name)
	return nil
}

func TestPublishedVectors(t *testing.T) {
	var vectors []struct {
		Scheme, Secret, Body, Why string
		Now                       int64
		Headers                   map[string]string
		Valid                     bool
	}
	if err := json.Unmarshal(payload(t, "signature-vectors.json"), &vectors); err != nil || len(vectors) == 0 {
		t.Fatalf("%d vectors: %v", len(vectors), err)
	}
	for i, v := range vectors {
		h := make(http.Header)
		for name, value := range v.Headers {
			h.Set(name, value)
		}
		for _, all := range [][][]byte{secrets(v.Secret), secrets(another(v.Scheme), v.Secret)} {
			e, reason := judge(t, scheme(t, v.Scheme, all), h, v.Body, time.Unix(v.Now, 0))
			if valid := reason == ""; valid != v.Valid || valid && e.Secret != len(all)-1 {
				t.Errorf("%d, %s with %d secrets: %q, secret %d; want valid %t (%s)", i, v.Scheme, len(all), reason, e.Secret, v.Valid, v.Why)
			}
		}
		if _, reason := judge(t, scheme(t, v.Scheme, secrets(another(v.Scheme))), h, v.Body, time.Unix(v.Now, 0)); reason == "" {
			t.Errorf("%d, %s: valid by another secret", i, v.Scheme)
		}
	}
}

// another is a secret that signed nothing.
func another(scheme string) string {
	if scheme == "standard" {
		return "whsec_" + base64.StdEncoding.EncodeToString([]byte("another"))
	}
	return "another"
}

func sign(secret, text string) string {
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte(text))
	return hex.EncodeToString(m.Sum(nil))
}

func TestGit(t *testing.T) {
	push := string(payload(t, "github/push.json"))
	good := sign("s", push)
	gitea := string(payload(t, "gitea/push-event.json"))
	tests := []struct {
		name, scheme string
		header       http.Header
		body         string
		want         Event
		reason       string
	}{
		{"push", "github", headers("X-Hub-Signature-256", "sha256="+good, "X-GitHub-Event", "push", "X-GitHub-Delivery", "d1"), push, Event{Name: "push", Delivery: "d1"}, ""},
		{"upper case", "github", headers("X-Hub-Signature-256", "sha256="+strings.ToUpper(good)), push, Event{}, ""},
		{"a byte more", "github", headers("X-Hub-Signature-256", "sha256="+good), push + "\n", Event{}, Mismatch},
		{"no prefix", "github", headers("X-Hub-Signature-256", good), push, Event{}, Malformed},
		{"cut", "github", headers("X-Hub-Signature-256", "sha256="+good[:62]), push, Event{}, Malformed},
		{"longer", "github", headers("X-Hub-Signature-256", "sha256="+good+"00"), push, Event{}, Malformed},
		{"no hex", "github", headers("X-Hub-Signature-256", "sha256="+strings.Repeat("z", 64)), push, Event{}, Malformed},
		{"empty", "github", headers("X-Hub-Signature-256", ""), push, Event{}, Unsigned},
		{"two signatures", "github", headers("X-Hub-Signature-256", "sha256="+good, "X-Hub-Signature-256", "sha256="+good), push, Event{}, Malformed},
		{"a name that is no word", "github", headers("X-Hub-Signature-256", "sha256="+good, "X-GitHub-Event", "a b", "X-GitHub-Delivery", strings.Repeat("x", 201)), push, Event{}, ""},
		{"gitea", "gitea", headers("X-Gitea-Signature", sign("s", gitea), "X-Gitea-Event", "push", "X-Gitea-Delivery", "d2"), gitea, Event{Name: "push", Delivery: "d2"}, ""},
		{"forgejo", "gitea", headers("X-Forgejo-Signature", sign("s", gitea), "X-Forgejo-Event", "push"), gitea, Event{Name: "push"}, ""},
		{"gitea by github's header", "gitea", headers("X-Hub-Signature-256", "sha256="+sign("s", gitea)), gitea, Event{}, Unsigned},
		{"gitlab", "gitlab", headers("X-Gitlab-Token", "s", "X-Gitlab-Event", "Merge Request Hook", "Idempotency-Key", "k", "X-Gitlab-Event-UUID", "u"), "{}", Event{Name: "merge_request", Delivery: "k", Token: "X-Gitlab-Token"}, ""},
		{"gitlab's system hook", "gitlab", headers("X-Gitlab-Token", "s", "X-Gitlab-Event", "System Hook"), "{}", Event{Name: "system", Token: "X-Gitlab-Token"}, ""},
		{"gitlab, a part of the token", "gitlab", headers("X-Gitlab-Token", "ss"), "{}", Event{}, Mismatch},
		{"gitlab, two tokens", "gitlab", headers("X-Gitlab-Token", "x", "X-Gitlab-Token", "s"), "{}", Event{}, Malformed},
		{"gitlab, no token", "gitlab", headers("X-Gitlab-Event", "Push Hook"), "{}", Event{}, Unsigned},
	}
	for _, tt := range tests {
		e, reason := judge(t, scheme(t, tt.scheme, secrets("s")), tt.header, tt.body, now)
		tt.want.Unsigned = tt.reason == ""
		if e != tt.want || reason != tt.reason {
			t.Errorf("%s: got %+v, %q", tt.name, e, reason)
		}
	}
	ping := string(payload(t, "github/ping.json"))
	e, reason := judge(t, GitHub(secrets("s")), headers("X-Hub-Signature-256", "sha256="+sign("s", ping), "X-GitHub-Event", "ping"), ping, now)
	if reason != "" || e.Reply == nil || e.Reply.Body == "" {
		t.Errorf("ping: %+v, %q", e, reason)
	}
}

func TestSlack(t *testing.T) {
	stamp := fmt.Sprint(now.Unix())
	signed := func(stamp, body string) http.Header {
		return headers("X-Slack-Request-Timestamp", stamp, "X-Slack-Signature", "v0="+sign("s", "v0:"+stamp+":"+body))
	}
	for body, want := range map[string]Event{
		`{"type":"event_callback","event_id":"Ev1","event":{"type":"app_mention"}}`:   {Name: "app_mention", Delivery: "Ev1"},
		`command=%2Fdeploy&trigger_id=1.2.a`:                                          {Name: "slash_command", Delivery: "1.2.a"},
		`payload=%7B%22type%22%3A%22block_actions%22%2C%22trigger_id%22%3A%229%22%7D`: {Name: "block_actions", Delivery: "9"},
		`{"type":"app_rate_limited"}`:                                                 {Name: "app_rate_limited"},
		`nothing`:                                                                     {},
		`%zz`:                                                                         {},
	} {
		want.Time = now
		if e, reason := judge(t, Slack(secrets("s"), DefaultTolerance), signed(stamp, body), body, now); e != want || reason != "" {
			t.Errorf("%s: got %+v, %q", body, e, reason)
		}
	}
	challenge := `{"type":"url_verification","challenge":"3eZbrw1aBm2rZgRNFdxV"}`
	if e, _ := judge(t, Slack(secrets("s"), DefaultTolerance), signed(stamp, challenge), challenge, now); e.Reply == nil || e.Reply.Body != "3eZbrw1aBm2rZgRNFdxV" {
		t.Errorf("challenge: %+v", e)
	}
	for _, tt := range []struct {
		name   string
		header http.Header
		at     time.Time
		reason string
	}{
		{"at the limit", signed(stamp, "x"), now.Add(DefaultTolerance), ""},
		{"too old", signed(stamp, "x"), now.Add(DefaultTolerance + time.Second), Stale},
		{"in the future", signed(stamp, "x"), now.Add(-DefaultTolerance - time.Second), Stale},
		{"another time than the signed", headers("X-Slack-Request-Timestamp", fmt.Sprint(now.Unix()+1), "X-Slack-Signature", signed(stamp, "x").Get("X-Slack-Signature")), now, Mismatch},
		{"no number", signed("+"+stamp, "x"), now, Malformed},
		{"no end", signed(stamp+strings.Repeat("0", 20), "x"), now, Malformed},
		{"no time", headers("X-Slack-Signature", signed(stamp, "x").Get("X-Slack-Signature")), now, Unsigned},
	} {
		if _, reason := judge(t, Slack(secrets("s"), DefaultTolerance), tt.header, "x", tt.at); reason != tt.reason {
			t.Errorf("%s: %q, want %q", tt.name, reason, tt.reason)
		}
	}
}

func TestStripe(t *testing.T) {
	body := `{"id":"evt_1","type":"charge.succeeded"}`
	stamp := fmt.Sprint(now.Unix())
	good := sign("s", stamp+"."+body)
	bad := strings.Repeat("0", 64)
	for text, reason := range map[string]string{
		"t=" + stamp + ",v1=" + good:                                  "",
		"v1=" + bad + ", v1=" + good + ",t=" + stamp:                  "",
		"t=" + stamp + ",v1=junk,v1=" + good + ",v2=x":                "",
		"t=" + stamp + ",v1=" + bad:                                   Mismatch,
		"t=" + stamp + ",v0=" + good:                                  Unsigned,
		"v1=" + good:                                                  Malformed,
		"t=" + stamp + ",t=" + stamp + ",v1=" + good:                  Malformed,
		"t=" + stamp + ",v1":                                          Malformed,
		"t=,v1=" + good:                                               Malformed,
		"t=" + stamp + strings.Repeat(",v1="+bad, 16) + ",v1=" + good: Mismatch,
		"t=" + fmt.Sprint(now.Unix()-301) + ",v1=" + good:             Stale,
		"t=" + fmt.Sprint(now.Unix()+301) + ",v1=" + good:             Stale,
		"t=" + fmt.Sprint(now.Unix()+1) + ",v1=" + good:               Mismatch,
	} {
		e, got := judge(t, Stripe(secrets("s"), DefaultTolerance), headers("Stripe-Signature", text), body, now)
		if got != reason || got == "" && (e != Event{Name: "charge.succeeded", Delivery: "evt_1", Time: now}) {
			t.Errorf("%.90s: %q, %+v, want %q", text, got, e, reason)
		}
	}
}

func TestStandard(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString
	stamp, body := fmt.Sprint(now.Unix()), `{"type":"user.created"}`
	asymmetric := func(id string) string { return "v1a," + b64(ed25519.Sign(private, []byte(id+"."+stamp+"."+body))) }
	symmetric := func(id string) string {
		sum, _ := hex.DecodeString(sign("key", id+"."+stamp+"."+body))
		return "v1," + b64(sum)
	}
	whsec, whpk := "whsec_"+b64([]byte("key")), "whpk_"+b64(public)
	for _, tt := range []struct {
		name                  string
		secrets               [][]byte
		prefix, id, signature string
		secret                int
		reason                string
	}{
		{"symmetric", secrets(whsec), "webhook-", "m", symmetric("m"), 0, ""},
		{"svix's names", secrets(whsec), "Svix-", "m", symmetric("m"), 0, ""},
		{"without prefix", secrets(b64([]byte("key"))), "webhook-", "m", symmetric("m"), 0, ""},
		{"asymmetric", secrets(whsec, whpk), "webhook-", "m", asymmetric("m"), 1, ""},
		{"both", secrets(whpk, whsec), "webhook-", "m", symmetric("m") + " " + "v1a," + b64(make([]byte, 64)), 1, ""},
		{"asymmetric for a secret", secrets(whsec), "webhook-", "m", asymmetric("m"), 0, Mismatch},
		{"symmetric for a public key", secrets(whpk), "webhook-", "m", symmetric("m"), 0, Mismatch},
		{"another id", secrets(whsec, whpk), "webhook-", "n", asymmetric("m") + " " + symmetric("m"), 0, Mismatch},
		{"a dot in the id", secrets(whsec), "webhook-", "m.1", symmetric("m.1"), 0, Malformed},
		{"no known version", secrets(whsec), "webhook-", "m", "v2,abcd v1;x", 0, Unsigned},
		{"no signature", secrets(whsec), "webhook-", "m", "", 0, Unsigned},
	} {
		s, err := Standard(tt.secrets, DefaultTolerance)
		if err != nil {
			t.Fatal(err)
		}
		h := headers(tt.prefix+"id", tt.id, tt.prefix+"timestamp", stamp, tt.prefix+"signature", tt.signature)
		e, reason := judge(t, s, h, body, now)
		if reason != tt.reason || reason == "" && (e != Event{Name: "user.created", Delivery: "m", Time: now, Secret: tt.secret}) {
			t.Errorf("%s: %q, %+v", tt.name, reason, e)
		}
	}
	for _, bad := range []string{"whsec_", "whsec_%", "whpk_" + b64([]byte("short")), "other_" + b64([]byte("key")), "not base64"} {
		if _, err := Standard(secrets(whsec, bad), 0); err == nil || strings.Contains(err.Error(), "short") {
			t.Errorf("secret %q: %v", bad, err)
		}
	}
}

func TestHMAC(t *testing.T) {
	text := func(hash func() []byte) string { return base64.RawURLEncoding.EncodeToString(hash()) }
	s512 := func(signed string) string {
		m := hmac.New(sha512.New, []byte("s"))
		m.Write([]byte(signed))
		return text(func() []byte { return m.Sum(nil) })
	}
	milli := fmt.Sprint(now.UnixMilli())
	full := HMACOptions{Header: "X-Sig", Prefix: "v=", Hash: "sha512", Encoding: "base64url", TimestampHeader: "X-Ts", Signed: "{id}:{ts}:{body}!",
		DeliveryHeader: "X-Id", EventHeader: "X-Event", Tolerance: time.Minute}
	with := func(id, ts, sig string) http.Header {
		return headers("X-Sig", sig, "X-Ts", ts, "X-Id", id, "X-Event", "paid")
	}
	good := "v=" + s512("7:"+milli+":b!")
	for _, tt := range []struct {
		name    string
		options HMACOptions
		header  http.Header
		at      time.Time
		reason  string
	}{
		{"plain", HMACOptions{Header: "X-Sig"}, headers("X-Sig", sign("s", "b")), now, ""},
		{"in full", full, with("7", milli, good), now, ""},
		{"padded", full, with("7", milli, good+"=="), now, ""},
		{"another id", full, with("8", milli, good), now, Mismatch},
		{"no id", full, headers("X-Sig", good, "X-Ts", milli), now, Unsigned},
		{"stale", full, with("7", milli, good), now.Add(61 * time.Second), Stale},
		{"future", full, with("7", milli, good), now.Add(-61 * time.Second), Stale},
		{"no time", full, headers("X-Sig", good, "X-Id", "7"), now, Unsigned},
		{"no prefix", full, with("7", milli, good[2:]), now, Malformed},
		{"another size", full, with("7", milli, "v="+good[10:]), now, Malformed},
		{"no time at all", full, with("7", "9999999999999999999", good), now, Malformed},
	} {
		s, err := HMAC(secrets("s"), tt.options)
		if err != nil {
			t.Fatal(err)
		}
		e, reason := judge(t, s, tt.header, "b", tt.at)
		if reason != tt.reason || reason == "" && tt.options.DeliveryHeader != "" && (e.Name != "paid" || e.Delivery != "7" || !e.Time.Equal(now)) {
			t.Errorf("%s: %q, %+v", tt.name, reason, e)
		}
		if signed := strings.Contains(tt.options.Signed, "{id}"); reason == "" && e.Unsigned == signed {
			t.Errorf("%s: unsigned is %t", tt.name, e.Unsigned)
		}
	}
	for _, o := range []HMACOptions{
		{},
		{Header: "X", Hash: "md5"},
		{Header: "X", Encoding: "rot13"},
		{Header: "X", Signed: "{ts}"},
		{Header: "X", Signed: "{body}{body}"},
		{Header: "X", Signed: "{ts}{body}"},
		{Header: "X", Signed: "{id}{body}"},
		{Header: "X", TimestampHeader: "T"},
	} {
		if _, err := HMAC(secrets("s"), o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

// Whatever the header says, nothing is taken for signed by a secret that nobody knows.
func FuzzHeaders(f *testing.F) {
	f.Add("sha256="+sign("s", ""), "1800000000", "id", "{}")
	f.Add("v0="+sign("s", ""), "1800000000", "", "payload={}&command")
	f.Add("t=1800000000,v1="+sign("s", "")+",v1=,t", "+1", "a.b", "")
	f.Add("v1,AAAA v1a,AAAA", "1800000000", "msg", `{"type":"a"}`)
	f.Add("v="+strings.Repeat("A", 43)+"=", "1800000000000", "msg", `{"type":"url_verification"}`)
	secret := make([]byte, 24)
	rand.Read(secret)
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	standard, err := Standard(secrets("whsec_"+base64.StdEncoding.EncodeToString(secret), "whpk_"+base64.StdEncoding.EncodeToString(public)), DefaultTolerance)
	if err != nil {
		f.Fatal(err)
	}
	all := []Scheme{GitHub([][]byte{secret}), GitLab([][]byte{secret}), Gitea([][]byte{secret}), Slack([][]byte{secret}, DefaultTolerance), Stripe([][]byte{secret}, DefaultTolerance), standard}
	for _, encoding := range []string{"hex", "base64", "base64url"} {
		s, err := HMAC([][]byte{secret}, HMACOptions{Header: "X-Sig", Prefix: "v=", Encoding: encoding, TimestampHeader: "X-Ts", DeliveryHeader: "X-Id", Signed: "{ts}.{id}.{body}"})
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, s)
	}
	f.Fuzz(func(t *testing.T, signature, stamp, id, body string) {
		h := headers("X-Hub-Signature-256", signature, "X-Gitea-Signature", signature, "X-Gitlab-Token", signature, "X-Gitlab-Event", id, "X-Slack-Signature", signature,
			"X-Slack-Request-Timestamp", stamp, "Stripe-Signature", signature, "webhook-id", id, "webhook-timestamp", stamp, "webhook-signature", signature,
			"X-Sig", signature, "X-Ts", stamp, "X-Id", id)
		for _, s := range all {
			if e, reason := judge(t, s, h, body, now); reason == "" {
				t.Errorf("%T takes it for %+v", s, e)
			}
		}
	})
}

// What is told of a believed body can stand in a header.
func FuzzEvents(f *testing.F) {
	f.Add([]byte(`{"type":"event_callback","event":{"type":"a\nb"},"event_id":" "}`))
	f.Add([]byte(`payload={"type":"x"}&command`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, e := range []Event{slackEvent(body), jsonEvent(body)} {
			if strings.ContainsFunc(e.Name+e.Delivery, func(r rune) bool { return r <= ' ' || r > '~' }) {
				t.Errorf("%q: %+v", body, e)
			}
		}
	})
}
