package caddyfaas

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openfaas/faas-provider/types"
	"github.com/openfaas/go-sdk"
)

// TestContractLocal is TestContract with processes, with a password before the API and without.
func TestContractLocal(t *testing.T) {
	t.Parallel()
	eachGateway(t, func(t *testing.T, g *gateway) {
		for i, row := range contract() {
			switch {
			case row.target == "/other" || row.target == "/system" || strings.Contains(row.want, "keeps no logs"):
				continue // of the handler alone, and of a provider that can do less
			}
			a := g.call(t, row.method, row.target, row.body)
			if row.method == "GET" && !row.fits(a.StatusCode, a.body) {
				for late := time.Now().Add(patience); !row.fits(a.StatusCode, a.body) && time.Now().Before(late); {
					<-time.After(10 * time.Millisecond) // processes take a while to start and end
					a = g.call(t, row.method, row.target, row.body)
				}
			}
			if !row.fits(a.StatusCode, a.body) {
				t.Errorf("row %d: %s %s %.300s: %d %.300s, want %d with %q", i, row.method, row.target, row.body, a.StatusCode, a.body, row.status, row.want)
			}
		}
		if strings.Contains(g.log.String(), "sesame") {
			t.Error("the log tells a secret")
		}
		g.want(t, 400, "POST", "/system/functions", `{"service":"report","image":"i","envProcess":"cat","labels":{"faas.job":"true"}}`)
		g.want(t, 501, "POST", "/system/run-function/report", "")
	})
}

// TestPassword: nothing of the API is there without it, and who has changed what is logged.
func TestPassword(t *testing.T) {
	t.Parallel()
	g := newClosedGateway(t, anyCommand)
	password := g.password
	for _, wrong := range []string{"", "wrong"} {
		g.password = wrong
		for what, methods := range endpoints {
			for method := range methods {
				path := "/system/" + what
				if strings.HasSuffix(path, "/") {
					path += "x"
				}
				if a := g.call(t, method, path, `{"service":"x","image":"i","envProcess":"cat","name":"s","value":"v"}`); a.StatusCode != 401 || a.Header.Get("WWW-Authenticate") == "" {
					t.Errorf("%s %s with password %q: %d %v", method, path, wrong, a.StatusCode, a.Header)
				}
			}
		}
	}
	if a := g.call(t, "GET", "/healthz", ""); a.StatusCode != 200 {
		t.Errorf("/healthz: %d", a.StatusCode)
	}
	g.password = password
	g.want(t, 404, "PUT", "/system/functions", `{"service":"x","image":"i","envProcess":"cat"}`) // not audited: clients begin so
	g.want(t, 202, "POST", "/system/functions", `{"service":"x","image":"i","envProcess":"cat"}`)
	g.want(t, 400, "POST", "/system/functions", `{"service":"x","image":"i","envProcess":"cat"}`)
	want := []string{
		"management call admin POST /system/functions x.openfaas-fn 0",
		"management call refused admin POST /system/functions x.openfaas-fn 400",
	}
	eventually(t, "the log has the calls", func() bool { return len(g.audited()) == len(want) })
	if calls := g.audited(); !slices.Equal(calls, want) {
		t.Errorf("logged %q, want %q", calls, want)
	}
}

// audited are the calls that the log has: what became of them, user, method, path, target and status.
func (g *gateway) audited() (calls []string) {
	for line := range strings.Lines(g.log.String()) {
		var e struct {
			Msg, User, Method, Path, Target string
			Status                          int
		}
		if json.Unmarshal([]byte(line), &e) == nil && strings.HasPrefix(e.Msg, "management call") {
			calls = append(calls, fmt.Sprint(e.Msg, " ", e.User, " ", e.Method, " ", e.Path, " ", e.Target, " ", e.Status))
		}
	}
	return calls
}

// faasCLI speaks as faas-cli was recorded to.
type faasCLI struct {
	*gateway
	testing.TB
}

func (c faasCLI) send(method, path, body string) *answer {
	c.Helper()
	header := []string{"User-Agent", "faas-cli/0.18.5"}
	if c.password == "" {
		header = append(header, "Authorization", "Bearer ") // what it has without credentials
	}
	return c.call(c, method, path, body, header...)
}

// deploy returns the statuses that it got: PUT, and POST if there was no such function.
func (c faasCLI) deploy(d types.FunctionDeployment) (statuses []int) {
	c.Helper()
	body, err := json.Marshal(d)
	if err != nil {
		c.Fatal(err)
	}
	for _, method := range []string{"PUT", "POST"} {
		statuses = append(statuses, c.send(method, "/system/functions", string(body)).StatusCode)
		if statuses[0] != 404 {
			break
		}
	}
	return statuses
}

// invoke is faas-cli invoke: the name always has its namespace.
func (c faasCLI) invoke(name, body, want string) {
	c.Helper()
	eventually(c, name+" answers "+want, func() bool {
		a := c.call(c, "POST", "/function/"+name+".openfaas-fn", body, "Content-Type", "text/plain")
		return a.StatusCode == 200 && a.body == want
	})
}

func TestFaasCLI(t *testing.T) {
	t.Parallel()
	eachGateway(t, func(t *testing.T, g *gateway) {
		c := faasCLI{g, t}
		want := func(status int, a *answer) string {
			t.Helper()
			if a.StatusCode != status {
				t.Errorf("%s %s: %d %s, want %d", a.Request.Method, a.Request.URL, a.StatusCode, a.body, status)
			}
			return a.body
		}
		want(200, c.send("GET", "/healthz", "")) // ready
		// login
		want(200, c.send("GET", "/system/functions", ""))
		if g.password != "" {
			want(401, g.call(t, "GET", "/system/functions", "", "Authorization", "Basic YWRtaW46d3Jvbmc="))
		}
		// version
		var info sdk.SystemInfo
		if err := json.Unmarshal([]byte(want(200, c.send("GET", "/system/info", ""))), &info); err != nil ||
			info.Provider.Orchestration != "local" || info.Provider.Provider == "" || info.Version.Release == "" || info.Version.SHA == "" || info.Arch == "" {
			t.Errorf("%+v, %v", info, err)
		}
		// namespaces
		if got := want(200, c.send("GET", "/system/namespaces", "")); got != `["openfaas-fn","dev"]`+"\n" {
			t.Errorf("namespaces: %s", got)
		}
		// deploy, and deploy again
		d := types.FunctionDeployment{
			Service: "up", Image: "functions/alpine:latest", EnvProcess: "tr a-z A-Z", EnvVars: map[string]string{},
			Constraints: []string{}, Secrets: []string{}, Labels: &map[string]string{}, Annotations: &map[string]string{"a": "b c"},
			Requests: &types.FunctionResources{}, Limits: &types.FunctionResources{Memory: "64Mi"},
		}
		if got := c.deploy(d); !slices.Equal(got, []int{404, 202}) {
			t.Errorf("deploy: %d", got)
		}
		c.invoke("up", "abc", "ABC")
		d.EnvProcess = "rev"
		if got := c.deploy(d); !slices.Equal(got, []int{202}) {
			t.Errorf("deploy again: %d", got)
		}
		c.invoke("up", "abc", "cba")
		// --replace --update=false
		want(202, c.send("DELETE", "/system/functions", `{"functionName":"up","namespace":""}`))
		body, _ := json.Marshal(d)
		want(202, c.send("POST", "/system/functions", string(body)))
		want(400, c.send("POST", "/system/functions", string(body)))
		c.invoke("up", "abc", "cba")
		// list, and describe, which takes the count of invocations from the list
		var list []types.FunctionStatus
		var one types.FunctionStatus
		for path, into := range map[string]any{"/system/functions?namespace=": &list, "/system/function/up?namespace=&usage=1": &one} {
			if err := json.Unmarshal([]byte(want(200, c.send("GET", path, ""))), into); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
		if len(list) != 1 || list[0].Name != "up" || list[0].InvocationCount < 1 || list[0].Replicas != 1 || one.AvailableReplicas != 1 ||
			one.Labels == nil || (*one.Annotations)["a"] != "b c" || one.Limits.Memory != "64Mi" || one.CreatedAt.IsZero() {
			t.Errorf("list %+v, describe %+v", list, one)
		}
		want(404, c.send("GET", "/system/function/nobody?namespace=", ""))
		// logs
		if line := <-g.follow(t, "follow=true&name=up&namespace=&tail=-1"); line.Name != "up" {
			t.Errorf("line %+v", line)
		}
		c.secrets()
		// remove
		want(202, c.send("DELETE", "/system/functions", `{"functionName":"up","namespace":"openfaas-fn"}`))
		want(404, c.send("DELETE", "/system/functions", `{"functionName":"up","namespace":"openfaas-fn"}`))
	})
}

// secrets: create, create again, list, update, remove.
func (c faasCLI) secrets() {
	c.Helper()
	for _, step := range []struct {
		method, body string
		status       int
	}{
		{"POST", `{"name":"s","namespace":"","value":"v"}`, 201},
		{"POST", `{"name":"s","namespace":"","value":"v"}`, 409},
		{"PUT", `{"name":"s","namespace":"","value":"w"}`, 202},
		{"GET", "", 200},
		{"DELETE", `{"name":"s","namespace":""}`, 202},
		{"DELETE", `{"name":"s","namespace":""}`, 404},
	} {
		if a := c.send(step.method, "/system/secrets", step.body); a.StatusCode != step.status {
			c.Errorf("%s secret %s: %d %s, want %d", step.method, step.body, a.StatusCode, a.body, step.status)
		}
	}
}

// TestSDK drives the API by OpenFaaS's own client for Go.
func TestSDK(t *testing.T) {
	t.Parallel()
	eachGateway(t, func(t *testing.T, g *gateway) {
		base, err := url.Parse(g.url)
		if err != nil {
			t.Fatal(err)
		}
		var auth sdk.ClientAuth
		if g.password != "" {
			auth = &sdk.BasicAuth{Username: "admin", Password: g.password}
		}
		ctx := t.Context()
		c := sdk.NewClient(base, auth, http.DefaultClient)
		must := func(_ any, err error) {
			t.Helper()
			if err != nil {
				t.Error(err)
			}
		}
		d := types.FunctionDeployment{
			Service: "up", Image: "functions/alpine:latest", Namespace: "dev", EnvProcess: "tr a-z A-Z",
			Labels: &map[string]string{"x": "y"}, Limits: &types.FunctionResources{Memory: "64Mi", CPU: "100m"},
		}
		if status, err := c.Update(ctx, d); status != 404 || err == nil {
			t.Errorf("update of what is not there: %d, %v", status, err)
		}
		must(c.Deploy(ctx, d))
		d.Annotations = &map[string]string{"note": "two\nlines"}
		must(c.Update(ctx, d))
		eventually(t, "it is updated", func() bool {
			f, err := c.GetFunction(ctx, "up", "dev")
			return err == nil && f.AvailableReplicas == 1 && f.Annotations != nil && (*f.Annotations)["note"] == "two\nlines" && f.Limits.CPU == "100m"
		})
		must(nil, c.ScaleFunction(ctx, "up", "dev", 2))
		eventually(t, "it is scaled", func() bool {
			all, err := c.GetFunctions(ctx, "dev")
			return err == nil && len(all) == 1 && all[0].Replicas == 2 && all[0].AvailableReplicas == 2
		})
		if names, err := c.GetNamespaces(ctx); err != nil || !slices.Equal(names, []string{"openfaas-fn", "dev"}) {
			t.Errorf("namespaces %q, %v", names, err)
		}
		if n, err := c.GetNamespace(ctx, "dev"); err != nil || n.Name != "dev" {
			t.Errorf("namespace %+v, %v", n, err)
		}
		if status, err := c.CreateNamespace(ctx, types.FunctionNamespace{Name: "x"}); status != 501 {
			t.Errorf("a new namespace: %d, %v", status, err)
		}
		if i, err := c.GetInfo(ctx); err != nil || i.Provider.Orchestration != "local" {
			t.Errorf("info %+v, %v", i, err)
		}
		readLog(t, c)
		must(c.CreateSecret(ctx, types.Secret{Name: "s", Namespace: "dev", RawValue: []byte{0, 1, 255}}))
		must(c.UpdateSecret(ctx, types.Secret{Name: "s", Namespace: "dev", Value: "v"}))
		if all, err := c.GetSecrets(ctx, "dev"); err != nil || len(all) != 1 || all[0].Name != "s" || all[0].Value != "" {
			t.Errorf("secrets %+v, %v", all, err)
		}
		must(nil, c.DeleteSecret(ctx, "s", "dev"))
		must(nil, c.DeleteFunction(ctx, "up", "dev"))
		if err := c.DeleteFunction(ctx, "up", "dev"); err == nil {
			t.Error("removed twice")
		}
	})
}

func readLog(t *testing.T, c *sdk.Client) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	lines, err := c.GetLogs(ctx, "up", "dev", true, -1, nil)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case l := <-lines:
		if l.Name != "up" || l.Namespace != "dev" || l.Instance == "" {
			t.Errorf("line %+v", l)
		}
	case <-time.After(patience):
		t.Error("no line")
	}
}
