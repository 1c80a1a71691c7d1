package caddyfaas

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-faas/faas/caddy-faas/faas"
	"github.com/caddy-faas/faas/caddy-faas/internal/faastest"
)

// memoryAPI is the API over a provider in memory.
type memoryAPI struct {
	*API
	testing.TB
	provider *faastest.Memory
	log      *observer.ObservedLogs
}

func newMemoryAPI(t testing.TB) *memoryAPI {
	t.Helper()
	provider := new(faastest.Memory)
	e, err := newEngine(provider, "memory", zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context() // ends before Cleanup; a fuzz target may not ask for it once it runs
	e.watch.Go(func() { provider.Watch(ctx, &chronicle{engine: e}) })
	t.Cleanup(func() { e.Destruct() })
	core, log := observer.New(zapcore.DebugLevel)
	return &memoryAPI{
		TB: t, API: &API{app: &App{Namespaces: []string{"dev"}}, engine: e, log: zap.New(core), origins: http.NewCrossOriginProtection(), stopping: make(chan struct{})},
		log: log, provider: provider,
	}
}

func (a *memoryAPI) call(method, target, body string, header ...string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, nil)
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusTeapot)
		return nil
	})
	if err := a.ServeHTTP(w, r, next); err != nil {
		panic(err)
	}
	isDescribed(a.TB, method, target, w.Code, w.Header(), w.Body.String())
	return w
}

// A contractRow is one call and what is to be answered.
type contractRow struct {
	method, target, body string
	status               int
	want                 string // part of the answer; ^ and $ as usual
}

// contract is the table of OpenFaaS's calls, one after the other.
func contract() []contractRow {
	full := `{"service":"full","image":"functions/alpine:latest","envProcess":"cat","envVars":{"A":"1"},"constraints":["node.role == worker"],
		"labels":{"l":"v"},"annotations":{"note":"two\nlines, and {\"json\": true}"},"limits":{"memory":"5Mi","cpu":"100m"},"requests":{"nvidia.com/gpu":"1"},
		"readOnlyRootFilesystem":true,"network":"func_functions","registryAuth":"x","unknown":{"field":[1]}}`
	big := strings.Repeat("x", 70_000)
	return []contractRow{
		{"GET", "/healthz", "", 200, "OK"},
		{"GET", "/other", "", 418, ""},
		{"GET", "/system", "", 418, ""},
		{"GET", "/system/info", "", 200, `"orchestration":"`},
		{"GET", "/system/functions", "", 200, "^[]\n$"},
		{"GET", "/system/functions?namespace=none", "", 404, "none"},
		{"GET", "/system/openapi.yaml", "", 200, "openapi: 3"},
		{"GET", "/system/namespaces", "", 200, `^["openfaas-fn","dev"]` + "\n$"},
		{"GET", "/system/namespace/dev", "", 200, `"name":"dev"`},
		{"GET", "/system/namespace/none", "", 404, "none"},
		{"POST", "/system/namespace/", `{"name":"x"}`, 501, "Caddyfile"},
		{"PUT", "/system/namespace/dev", `{}`, 501, "Caddyfile"},
		{"DELETE", "/system/namespace/dev", ``, 501, "Caddyfile"},
		{"GET", "/system/telemetry", "", 404, ""},
		{"GET", "/system/function/", "", 404, ""},
		{"GET", "/system/function/a/b", "", 404, ""},

		{"PUT", "/system/functions", full, 404, "no such function: full"},
		{"POST", "/system/functions", full, 202, "^$"},
		{"POST", "/system/functions", full, 400, "exists already"},
		{"PUT", "/system/functions", full, 202, "^$"},
		{"GET", "/system/function/full", "", 200, `"annotations":{"note":"two\nlines, and {\"json\": true}"}`},
		{"GET", "/system/function/full.openfaas-fn?usage=1", "", 200, `"limits":{"cpu":"100m","memory":"5Mi"},"requests":{"nvidia.com/gpu":"1"}`},
		{"GET", "/system/function/full?namespace=dev", "", 404, "full.dev"},
		{"GET", "/system/functions", "", 200, `"labels":{"faas_function":"full","l":"v"}`},
		{"POST", "/system/functions?namespace=dev", `{"service":"full","image":"i","envProcess":"cat","labels":null,"annotations":null}`, 202, "^$"},
		{"GET", "/system/function/full?namespace=dev", "", 200, `"labels":{"faas_function":"full"},"annotations":{},"invocationCount":0,"replicas":1,"availableReplicas":1`},
		{"GET", "/system/functions?namespace=dev", "", 200, `"namespace":"dev"`},
		{"DELETE", "/system/functions?namespace=dev", `{"functionName":"full"}`, 202, "^$"},
		{"GET", "/system/functions?namespace=dev", "", 200, "^[]\n$"},

		{"POST", "/system/functions", ``, 400, "empty"},
		{"POST", "/system/functions", `{`, 400, "JSON"},
		{"POST", "/system/functions", `[]`, 400, "object"},
		{"POST", "/system/functions", ` null`, 400, "object"},
		{"POST", "/system/functions", `{"service":7}`, 400, "field service: want a string"},
		{"POST", "/system/functions", `{"service":"x","labels":{"a":1}}`, 400, "field labels"},
		{"POST", "/system/functions", `{"image":"i"}`, 400, "service"},
		{"POST", "/system/functions", `{"service":"x"}`, 400, "image"},
		{"POST", "/system/functions", `{"service":"a.b","image":"i"}`, 400, `"a.b"`},
		{"POST", "/system/functions", `{"service":"../x","image":"i"}`, 400, `"../x"`},
		{"POST", "/system/functions", `{"service":"` + strings.Repeat("x", 64) + `","image":"i"}`, 400, "1 to 63"},
		{"POST", "/system/functions", `{"service":"x","image":"i","namespace":"none"}`, 400, "none"},
		{"POST", "/system/functions", `{"service":"x","image":"i","envProcess":"cat","secrets":["missing"]}`, 400, "missing"},
		{"POST", "/system/functions", `{"service":"x","image":"i","envVars":{"` + big + `":""}}`, 400, "envVars: 70000 bytes"},
		{"POST", "/system/functions", `{"service":"x","image":"i","labels":{"` + "l" + `":"` + big + `"}}`, 400, "labels.l: 70000 bytes"},
		{"POST", "/system/functions", `{"service":"x","image":"i","secrets":["` + strings.Repeat(`s","`, 256) + `"]}`, 400, "secrets: 257 entries"},
		{"POST", "/system/functions", `{"service":"x","image":"i","envVars":{` + entries(5, 60_000) + `}}`, 400, "more than 262144"},
		{"POST", "/system/functions", `{"service":"x","image":"i","annotations":{` + entries(257, 1) + `}}`, 400, "annotations: 257 entries"},
		{"POST", "/system/functions", `{"service":"x","image":"` + strings.Repeat(" ", 1<<20) + `"}`, 413, "1048576"},
		{"DELETE", "/system/functions", `{"functionName":"nobody"}`, 404, "nobody"},
		{"DELETE", "/system/functions", `{}`, 400, "functionName"},
		{"PATCH", "/system/functions", `{}`, 405, "want DELETE, GET, POST, PUT"},

		{"POST", "/system/scale-function/full", `{"serviceName":"full","replicas":7}`, 202, "^$"},
		{"GET", "/system/function/full", "", 200, `"replicas":7,"availableReplicas":7`},
		{"POST", "/system/scale-function/full", `{"serviceName":"full","replicas":0}`, 202, "^$"},
		{"GET", "/system/function/full", "", 200, `"replicas":0,"availableReplicas":0`},
		{"POST", "/system/scale-function/nobody", `{"replicas":1}`, 404, "nobody"},
		{"POST", "/system/scale-function/full", `{"replicas":-1}`, 400, "replicas"},
		{"POST", "/system/scale-function/full", `{"replicas":"1"}`, 400, "field replicas: want a whole number"},
		{"POST", "/system/scale-function/full?namespace=dev", `{"replicas":1}`, 404, "full.dev"},

		{"GET", "/system/secrets", "", 200, "^[]\n$"},
		{"PUT", "/system/secrets", `{"name":"s","value":"1"}`, 404, "no such secret"},
		{"POST", "/system/secrets", `{"name":"s","value":"sesame"}`, 201, "^$"},
		{"POST", "/system/secrets", `{"name":"s","value":"sesame"}`, 409, "exists already"},
		{"POST", "/system/secrets", `{"name":"raw","namespace":"dev","rawValue":"AAECAw=="}`, 201, "^$"},
		{"POST", "/system/secrets", `{"name":"raw2","rawValue":"sesame!"}`, 400, "^the body's field rawValue: want base64\n$"},
		{"POST", "/system/secrets", `{"name":"raw2","value":12345}`, 400, "^the body's field value: want a string\n$"},
		{"POST", "/system/secrets", `{"name":"raw2"}`, 400, "value"},
		{"POST", "/system/secrets", `{"value":"x"}`, 400, "name"},
		{"POST", "/system/secrets", `{"name":"a/b","value":"x"}`, 400, "a/b"},
		{"POST", "/system/secrets", `{"name":"x","value":"` + strings.Repeat("x", faas.MaxSecret+1) + `"}`, 400, "500 KiB"},
		{"PUT", "/system/secrets", `{"name":"s","value":"2"}`, 202, "^$"},
		{"GET", "/system/secrets", "", 200, `^[{"name":"s","namespace":"openfaas-fn"}]` + "\n$"},
		{"GET", "/system/secrets?namespace=dev", "", 200, `^[{"name":"raw","namespace":"dev"}]` + "\n$"},
		{"PUT", "/system/functions", `{"service":"full","image":"i","envProcess":"cat","secrets":["s"]}`, 202, "^$"},
		{"GET", "/system/function/full", "", 200, `"secrets":["s"]`},
		{"DELETE", "/system/secrets", `{"name":"s"}`, 409, "full"},
		{"DELETE", "/system/functions", `{"functionName":"full"}`, 202, "^$"},
		{"DELETE", "/system/secrets", `{"name":"s"}`, 202, "^$"},
		{"DELETE", "/system/secrets", `{"name":"s"}`, 404, "no such secret"},

		{"GET", "/system/logs?name=x", "", 501, "keeps no logs"},
		{"POST", "/system/alert", `{`, 400, "JSON"},
		{"POST", "/system/alert", `null`, 400, "object"},
		{"POST", "/system/alert", `{"status":"firing","alerts":[]}`, 200, "^$"},
	}
}

// entries are n entries of a JSON object, with values of some bytes.
func entries(n, size int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`"name%d":"%s"`, i, strings.Repeat("v", size)))
	}
	return strings.Join(all, ",")
}

// fits tells whether an answer is as the row says.
func (row contractRow) fits(status int, got string) bool {
	want, exact := strings.CutPrefix(row.want, "^")
	want, whole := strings.CutSuffix(want, "$")
	fits := strings.Contains(got, want)
	if exact {
		fits = strings.HasPrefix(got, want) && (!whole || got == want)
	}
	return status == row.status && fits
}

func TestContract(t *testing.T) {
	a := newMemoryAPI(t)
	for i, row := range contract() {
		w := a.call(row.method, row.target, row.body)
		got := w.Body.String()
		isTaken(t, row.method, row.target, row.body, w.Code)
		if !row.fits(w.Code, got) {
			t.Errorf("row %d: %s %s %.300s: %d %.300s, want %d with %q", i, row.method, row.target, row.body, w.Code, got, row.status, row.want)
		}
		if strings.Contains(got, "sesame") {
			t.Errorf("row %d tells a secret: %s", i, got)
		}
	}
	for _, entry := range a.log.All() {
		if strings.Contains(fmt.Sprint(entry.ContextMap()), "sesame") {
			t.Errorf("the log tells a secret: %v", entry)
		}
	}
	audited := a.log.FilterMessage("management call").FilterField(zap.String("target", "full.dev")).Len()
	if audited != 2 {
		t.Errorf("%d calls that changed full.dev are logged, want 2", audited)
	}
}

// TestCrossOrigin: a browser sends a password that it knows with whatever another site's page asks for.
func TestCrossOrigin(t *testing.T) {
	a := newMemoryAPI(t)
	body := `{"service":"x","image":"i"}`
	if w := a.call("POST", "/system/functions", body, "Sec-Fetch-Site", "cross-site"); w.Code != 403 {
		t.Errorf("from another site: %d", w.Code)
	}
	if w := a.call("POST", "/system/functions", body, "Origin", "https://elsewhere.example"); w.Code != 403 {
		t.Errorf("from another origin: %d", w.Code)
	}
	if w := a.call("GET", "/system/functions", "", "Sec-Fetch-Site", "cross-site"); w.Code != 200 || w.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("reading: %d %v", w.Code, w.Header())
	}
	if w := a.call("POST", "/system/functions", body, "Sec-Fetch-Site", "same-origin"); w.Code != 202 {
		t.Errorf("from its own page: %d %s", w.Code, w.Body)
	}
}

func TestAllow(t *testing.T) {
	a := newMemoryAPI(t)
	a.app.Allow = &Allow{Image: []string{"ghcr.io/us/*", "functions/alpine:?.?"}, Name: []string{"web-*", "*.dev"}, Command: []string{"", "cat", "sha*sum *"}}
	for _, row := range []struct {
		name, namespace, image, command, want string
	}{
		{"web-1", "", "ghcr.io/us/a/b:1", "", ""},
		{"web-1", "", "ghcr.io/us/a/b:1", "cat", ""},
		{"api", "dev", "functions/alpine:3.2", "sha256sum -b", ""},
		{"api", "", "ghcr.io/us/a", "", `name "api" is not allowed: the configuration allows name web-* *.dev`},
		{"web-1", "", "ghcr.io/them/a", "", `image "ghcr.io/them/a" is not allowed`},
		{"web-1", "", "functions/alpine:3.10", "", "image"},
		{"web-1", "", "ghcr.io/us/a", "cat /etc/passwd", `command "cat /etc/passwd" is not allowed`},
		{"web-1", "", "ghcr.io/us/a", "xcat", "command"},
	} {
		body, _ := json.Marshal(map[string]any{"service": row.name, "namespace": row.namespace, "image": row.image, "envProcess": row.command})
		w := a.call("POST", "/system/functions", string(body))
		if row.want == "" && w.Code != 202 && !strings.Contains(w.Body.String(), "exists already") || row.want != "" && (w.Code != 403 || !strings.Contains(w.Body.String(), row.want)) {
			t.Errorf("%+v: %d %s", row, w.Code, w.Body)
		}
	}
	// The command has two names.
	if w := a.call("POST", "/system/functions", `{"service":"web-2","image":"ghcr.io/us/a","envVars":{"fprocess":"rm -r /"}}`); w.Code != 403 {
		t.Errorf("a command by environment: %d %s", w.Code, w.Body)
	}
}

func TestAlert(t *testing.T) {
	a := newMemoryAPI(t)
	deploy := func(name, labels string) {
		t.Helper()
		if w := a.call("POST", "/system/functions", `{"service":"`+name+`","image":"i","labels":{"faas.scale.auto":"false"`+labels+`}}`); w.Code != 202 {
			t.Fatal(w.Body)
		}
	}
	deploy("plain", "")
	deploy("labelled", `,"com.openfaas.scale.min":"2","com.openfaas.scale.max":"10","com.openfaas.scale.factor":"35"`)
	deploy("fixed", `,"com.openfaas.scale.factor":"0"`)
	replicas := func(name string) int {
		return a.engine.registry.Lookup(t.Context(), faas.ParseID(name), 0).Deployment().Desired
	}
	firing := func(names ...string) string {
		var alerts []string
		for _, name := range names {
			alerts = append(alerts, `{"status":"firing","labels":{"alertname":"APIHighInvocationRate","function_name":"`+name+`"}}`)
		}
		return `{"status":"firing","receiver":"scale-up","alerts":[` + strings.Join(alerts, ",") + `]}`
	}
	for i, step := range []struct {
		body                   string
		plain, labelled, fixed int
	}{
		{firing("plain"), 3, 2, 1},
		{firing("plain.openfaas-fn", "labelled", "fixed", "nobody"), 5, 6, 1},
		{firing("labelled"), 5, 10, 1},
		{firing("labelled"), 5, 10, 1},
		{`{"status":"firing","alerts":[{"status":"resolved","labels":{"function_name":"labelled"}},{"status":"firing","labels":{"function_name":"plain"}}]}`, 7, 2, 1},
		{strings.ReplaceAll(firing("plain", "labelled", "fixed"), "firing", "resolved"), 1, 2, 1},
		{strings.ReplaceAll(firing("plain"), `"labels"`, `"fingerprint":"f","startsAt":"t","labels"`), 3, 2, 1},
		{strings.ReplaceAll(firing("plain"), `"labels"`, `"fingerprint":"f","startsAt":"t","labels"`), 3, 2, 1},
		{strings.ReplaceAll(firing("plain"), `"labels"`, `"fingerprint":"f","startsAt":"u","labels"`), 5, 2, 1},
	} {
		if w := a.call("POST", "/system/alert", step.body); w.Code != 200 {
			t.Errorf("step %d: %d %s", i, w.Code, w.Body)
		}
		if p, l, f := replicas("plain"), replicas("labelled"), replicas("fixed"); p != step.plain || l != step.labelled || f != step.fixed {
			t.Errorf("step %d: %d, %d and %d replicas, want %d, %d and %d", i, p, l, f, step.plain, step.labelled, step.fixed)
		}
	}
}

// TestAlertAgain: an alert that could not be obeyed is not taken for obeyed when it is sent again.
func TestAlertAgain(t *testing.T) {
	a := newMemoryAPI(t)
	a.call("POST", "/system/functions", `{"service":"f","image":"i","labels":{"faas.scale.auto":"false"}}`)
	one := alert{Status: "firing", Fingerprint: "f", StartsAt: "t"}
	one.Labels.FunctionName = "f"
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.engine.alerts.obey(gone, a.engine, one); err == nil {
		t.Error("obeyed in vain")
	}
	d := a.engine.registry.Lookup(t.Context(), faas.ParseID("f"), 0)
	if err := a.engine.alerts.obey(t.Context(), a.engine, one); err != nil || d.Deployment().Desired != 3 {
		t.Errorf("sent again: %v, %d replicas", err, d.Deployment().Desired)
	}
}

// What one gateway has obeyed another one takes for the same message, for as long and no longer.
func TestAlertOfAnotherGateway(t *testing.T) {
	var here, there alerts
	one, began := alert{Status: "firing", Fingerprint: "f", StartsAt: "t"}, time.Now()
	here.learn(map[string]time.Duration{one.key(): 0}, began)
	for _, tt := range []struct {
		after time.Duration
		again bool
	}{{resend - 2, true}, {resend - 1, true}, {resend, false}, {resend + time.Second, false}} {
		now := began.Add(tt.after)
		there.learn(here.ages(now), now)
		here.learn(there.ages(now), now)
		if here.again(one, now) != tt.again || there.again(one, now) != tt.again {
			t.Errorf("after %s: %t at this gateway and %t at the other, want %t", tt.after, here.again(one, now), there.again(one, now), tt.again)
		}
	}
}

// An alert on a function that is scaled by load says how many replicas it has at least, until it is resolved or has not been heard of for a minute.
func TestAlertIsAFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newMemoryAPI(t)
		a.engine.registry.Configure((&Scaling{DownWindow: caddy.Duration(10 * time.Second)}).defaults())
		synctest.Wait()
		a.call("POST", "/system/functions", `{"service":"f","image":"i"}`)
		replicas := func(want int) {
			t.Helper()
			time.Sleep(2 * time.Second)
			if got := a.engine.registry.Lookup(t.Context(), faas.ParseID("f"), 0).Status(); got.Desired != want {
				t.Errorf("%+v, want %d", got, want)
			}
		}
		send := func(status, more string) {
			t.Helper()
			if w := a.call("POST", "/system/alert", `{"alerts":[{"status":"`+status+`","labels":{"function_name":"f.openfaas-fn"`+more+`}}]}`); w.Code != 200 {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
		}
		send("firing", "")
		replicas(3)
		if got := a.engine.registry.Lookup(t.Context(), faas.ParseID("f"), 0).Status().Reason; got != "1 -> 3: an alert asks for 3" {
			t.Errorf("the reason is %q", got)
		}
		send("firing", "")
		replicas(5)
		send("resolved", "")
		time.Sleep(20 * time.Second)
		replicas(1)
		send("firing", "")
		replicas(3)
		time.Sleep(50 * time.Second)
		replicas(3)
		time.Sleep(20 * time.Second)
		replicas(1)
		send("firing", "")
		replicas(3)
		send("firing", `,"severity":"hold"`)
		send("resolved", "")
		time.Sleep(40 * time.Second)
		replicas(3)
		if w := a.call("GET", "/system/function/f", ""); !strings.Contains(w.Body.String(), `"held":"an alert of severity hold"`) {
			t.Errorf("what holds it is not told: %s", w.Body)
		}
		send("resolved", `,"severity":"hold"`)
		time.Sleep(2 * time.Second)
		replicas(1)
	})
}

// TestDeployTells: the answer to a deployment waits a moment for the start, and tells what became of it.
func TestDeployTells(t *testing.T) {
	for what, row := range map[string]struct {
		addr, label, reason, want string
		wait                      time.Duration
	}{
		"ready":   {"127.0.0.1:1", "", "", "", 0},
		"failing": {"", "", "exit status 3:\n\x1b\x00port taken", "deployed, but: exit status 3:\n\x1b\x00port taken\n", 100 * time.Millisecond},
		"slow":    {"", "", "", "starting: not ready after 1s; GET /system/function/f.openfaas-fn tells what becomes of it\n", settling},
		"misread": {"127.0.0.1:1", "many", "", "label com.openfaas.scale.max \"many\" is not obeyed: want a whole number from 1\n", 0},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newMemoryAPI(t)
				a.provider.Addr = func(faas.ID, int) string { return row.addr }
				synctest.Wait()
				begin := time.Now()
				if row.reason != "" {
					time.AfterFunc(row.wait-time.Millisecond, func() { a.provider.Fail(faas.ParseID("f"), true, row.reason) })
				}
				w := a.call("POST", "/system/functions", `{"service":"f","image":"i","labels":{"com.openfaas.scale.max":"`+row.label+`"}}`)
				if got := w.Body.String(); w.Code != 202 || got != row.want || time.Since(begin) != row.wait {
					t.Errorf("%d %q after %s", w.Code, got, time.Since(begin))
				}
				if got := w.Header().Get("X-Faas-Reason"); got != strings.ReplaceAll(row.reason, "\n\x1b\x00", " ") {
					t.Errorf("X-Faas-Reason: %q", got)
				}
				if got := a.call("GET", "/system/function/f", "").Body.String(); strings.Contains(got, "is not obeyed: want") != (row.label != "") {
					t.Errorf("its status: %s", got)
				}
			})
		})
	}
}

// TestStarting: before the provider has told what there is, nothing is taken for gone.
func TestStarting(t *testing.T) {
	for _, call := range []struct{ method, path, body string }{
		{"GET", "/system/functions", ""},
		{"GET", "/system/secrets", ""},
		{"PUT", "/system/functions", `{"service":"f","image":"i"}`},
		{"POST", "/system/scale-function/f", `{"replicas":1}`},
		{"DELETE", "/system/functions", `{"functionName":"f"}`},
		{"GET", "/healthz", ""},
	} {
		for _, late := range []time.Duration{100 * time.Millisecond, time.Hour} {
			synctest.Test(t, func(t *testing.T) {
				a, provider := newMemoryAPI(t), new(faastest.Memory)
				if err := provider.Create(t.Context(), faas.Function{ID: faas.ParseID("f"), Image: "i"}); err != nil {
					t.Fatal(err)
				}
				e, err := newEngine(provider, "memory", zap.NewNop())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { e.Destruct() })
				a.engine = e
				ctx := t.Context()
				time.AfterFunc(late, func() { e.watch.Go(func() { provider.Watch(ctx, e.registry) }) })
				w := a.call(call.method, call.path, call.body)
				listed := call.path != "/system/functions" || call.method != "GET" || strings.Contains(w.Body.String(), `"f"`)
				if ok := w.Code/100 == 2 && listed; ok != (late < starting) || !ok && w.Code != 503 {
					t.Errorf("%s %s, told after %s: %d %s", call.method, call.path, late, w.Code, w.Body)
				}
			})
		}
	}
}

// TestSecretSettles: the answer to a new value waits a moment for the functions that use it.
func TestSecretSettles(t *testing.T) {
	for what, row := range map[string]struct {
		ready, want time.Duration
		users       int
	}{
		"no user":   {0, 0, 0},
		"ready":     {100 * time.Millisecond, 100 * time.Millisecond, 2},
		"too late":  {time.Hour, settling, 2}, // of all together
		"all along": {0, 0, 1},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newMemoryAPI(t)
				synctest.Wait()
				a.call("POST", "/system/secrets", `{"name":"key","value":"v"}`)
				a.call("POST", "/system/functions", `{"service":"other","image":"i"}`)
				var users []faas.ID
				for i := range row.users {
					users = append(users, faas.ParseID(fmt.Sprint("f", i)))
					a.call("POST", "/system/functions", fmt.Sprintf(`{"service":"f%d","image":"i","secrets":["key"]}`, i))
				}
				if row.ready > 0 {
					a.provider.Addr = func(faas.ID, int) string { return "" }
				}
				time.AfterFunc(row.ready-time.Millisecond, func() {
					for _, id := range users {
						a.provider.Replicas(id, faas.Replica{ID: "r", Slot: 1, Addr: "127.0.0.1:1", Ready: true})
					}
				})
				begin := time.Now()
				if w := a.call("PUT", "/system/secrets", `{"name":"key","value":"w"}`); w.Code != 202 || time.Since(begin) != row.want {
					t.Errorf("%d after %s", w.Code, time.Since(begin))
				}
			})
		})
	}
}

// TestAtOnce deploys, updates, scales and removes the same names from many clients.
func TestAtOnce(t *testing.T) {
	a := newMemoryAPI(t)
	atOnce(t, func(method, path, body string) (int, string) {
		w := a.call(method, path, body)
		return w.Code, w.Body.String()
	}, `"image":"i"`)
}

// atOnce ends with a list in which every function is as its last answer says.
func atOnce(t *testing.T, call func(method, path, body string) (int, string), what string) {
	var wg sync.WaitGroup
	for i := range 50 {
		name := fmt.Sprintf("f%d", i%5)
		wg.Go(func() {
			for j := range 4 {
				method, path, body := "POST", "/system/functions", fmt.Sprintf(`{"service":%q,%s,"labels":{"by":"%d-%d"}}`, name, what, i, j)
				switch (i/5 + j) % 4 {
				case 1:
					method = "PUT"
				case 2:
					path, body = "/system/scale-function/"+name, fmt.Sprintf(`{"replicas":%d}`, j%3)
				case 3:
					method, body = "DELETE", fmt.Sprintf(`{"functionName":%q}`, name)
				}
				if status, text := call(method, path, body); !slices.Contains([]int{202, 400, 404}, status) || status == 400 && !strings.Contains(text, "exists already") {
					t.Errorf("%s %s %s: %d %s", method, path, body, status, text)
				}
			}
		})
	}
	wg.Wait()
	var list []functionStatus
	if _, text := call("GET", "/system/functions", ""); json.Unmarshal([]byte(text), &list) != nil {
		t.Fatalf("the list is %s", text)
	}
	there := map[string]bool{}
	for _, f := range list {
		if there[f.Name] {
			t.Errorf("%s is listed twice", f.Name)
		}
		there[f.Name] = true
	}
	for i := range 5 {
		name := fmt.Sprintf("f%d", i)
		want := map[bool]int{true: 200, false: 404}[there[name]]
		if status, text := call("GET", "/system/function/"+name, ""); status != want {
			t.Errorf("%s is listed: %t, described: %d %s", name, there[name], status, text)
		}
		want = map[bool]int{true: 202, false: 404}[there[name]]
		if status, text := call("PUT", "/system/functions", fmt.Sprintf(`{"service":%q,%s}`, name, what)); status != want {
			t.Errorf("%s is listed: %t, updated: %d %s", name, there[name], status, text)
		}
	}
}

// FuzzAPI sends any body to every call that takes one.
func FuzzAPI(f *testing.F) {
	for _, body := range []string{
		`{"service":"x","image":"i","labels":{"com.openfaas.scale.min":"3"}}`, `{"functionName":"x"}`, `{"replicas":2}`,
		`{"name":"s","value":"v"}`, `{"name":"s","rawValue":"AA=="}`, `{"status":"firing","alerts":[{"labels":{"function_name":"x"}}]}`,
		``, `null`, `[]`, `{"service":null,"image":{}}`, `{"replicas":1e99}`, "\xff",
	} {
		f.Add(body)
	}
	a := newMemoryAPI(f)
	f.Fuzz(func(t *testing.T, body string) {
		a.TB = t
		for _, call := range [][2]string{
			{"POST", "functions"}, {"PUT", "functions"}, {"POST", "scale-function/x"}, {"DELETE", "functions"},
			{"POST", "secrets"}, {"PUT", "secrets"}, {"DELETE", "secrets"}, {"POST", "alert"},
		} {
			w := a.call(call[0], "/system/"+call[1], body)
			if w.Code >= 500 || w.Code >= 400 && (w.Body.Len() == 0 || w.Header().Get("Content-Type") != "text/plain; charset=utf-8") {
				t.Errorf("%s %s %q: %d %q", call[0], call[1], body, w.Code, w.Body)
			}
		}
		for t := range a.engine.registry.All() {
			a.call("DELETE", "/system/functions", fmt.Sprintf(`{"functionName":%q,"namespace":%q}`, t.ID().Name, t.ID().Namespace))
		}
	})
}
