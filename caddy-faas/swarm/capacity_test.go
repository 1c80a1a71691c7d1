package swarm

import (
	"fmt"
	"strings"
	"testing"
)

// What no node has room for is told, with what Swarm says of it, and once that it has found a place.
func TestNoRoom(t *testing.T) {
	g := beginGateway(t)
	name := run + "-huge"
	huge := deployment(name, "cat")
	labelled(huge, "com.openfaas.scale.min", "2")
	huge["requests"] = map[string]string{"memory": "1000Ti"}
	pending := fmt.Sprintf(`gateway_service_pending{function_name="%s.openfaas-fn"} `, name)
	logged := func(event string) bool {
		for line := range strings.Lines(g.docker("logs", g.container)) {
			if strings.Contains(line, `"event":"faas.capacity.`+event) || strings.Contains(line, `"event": "faas.capacity.`+event) {
				return strings.Contains(line, name) && strings.Contains(line, "insufficient resources")
			}
		}
		return false
	}
	g.call("POST", "/system/functions", huge, 202)
	eventually(t, "it is told that there is no room", func() bool { return logged("pending") })
	eventually(t, "the metrics have "+pending+"2", func() bool { return strings.Contains(g.call("GET", "/metrics", "", 200), pending+"2\n") })
	if status := g.status(name); !strings.Contains(status.Reason, "insufficient resources") {
		t.Errorf("the function's reason is %q", status.Reason)
	}
	huge["requests"] = map[string]string{"memory": "5Mi"}
	g.call("PUT", "/system/functions", huge, 202)
	g.ready(name, 2)
	eventually(t, "it is told that there is room", func() bool { return logged("cleared") })
}
