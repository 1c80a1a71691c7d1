package caddyfaas

import (
	"strings"
	"testing"
)

func TestHealthcheck(t *testing.T) {
	t.Parallel()
	g := shippedGateway(t)
	for _, c := range []struct {
		args []string
		want string // of what it says; "": it ends well
	}{
		{[]string{g.url}, ""},
		{[]string{g.url + "/function/echo", "--timeout", "30s"}, ""},
		{[]string{g.url + "/function/none"}, "404 Not Found"},
		{[]string{"http://127.0.0.1:" + freePort(t)}, "connection refused"},
		{[]string{"ftp://localhost"}, "unsupported protocol"},
	} {
		out, err := g.caddy(append([]string{"faas", "healthcheck"}, c.args...)...).CombinedOutput()
		if (err == nil) != (c.want == "") || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: %v\n%s\nwant %q", c.args, err, out, c.want)
		}
	}
	// It comes every few seconds: the access log has others' requests, and its own for functions.
	eventually(t, "requests of functions are logged", func() bool { return strings.Contains(g.log.String(), `"uri":"/function/none"`) })
	if strings.Contains(g.log.String(), `"uri":"/"`) {
		t.Error("the health check is in the access log")
	}
	g.call(t, "GET", "/", "")
	eventually(t, "others are logged", func() bool { return strings.Contains(g.log.String(), `"uri":"/"`) })
}
