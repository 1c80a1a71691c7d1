package caddyfaas

import (
	"fmt"
	"strings"
	"testing"

	"github.com/caddy-faas/faas/internal/bench"
)

// BenchmarkCompareVerified compares verified requests with the same ones on a route that takes any.
func BenchmarkCompareVerified(b *testing.B) {
	onLinux(b)
	answer := []byte(`{"version":"1.0","response":{}}`)
	pairs, ports := []string{"UPSTREAM", bench.Serve(b, answer), "SKILL", testSkill}, []string(nil)
	for i := range 4 {
		ports = append(ports, freePort(b))
		pairs = append(pairs, fmt.Sprint("PORT", i+1), ports[i])
	}
	g, a := newGateway(b, map[string]string{"Caddyfile": strings.NewReplacer(pairs...).Replace(`{
	admin unix/DATA/admin.sock|0600
	faas {
		provider fixed UPSTREAM 1
		data DATA
	}
}
http://localhost:PORT1 {
	faas_verify github {
		secret s
		replay off
	}
	faas f0
}
http://localhost:PORT2 {
	faas f0
}
http://localhost:PORT3 {
	faas_verify alexa {
		skill_id SKILL
		replay off
	}
	faas {
		alexa {
			intent * f0
		}
	}
}
http://localhost:PORT4 {
	faas {
		alexa {
			intent * f0
			insecure_skip_verify
		}
	}
}
`)}), newAmazon(b)
	a.trust(b, g)
	g.start(b)
	request := func(host, body string, header []string) []byte {
		head := fmt.Sprintf("POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", host, len(body))
		for i := 0; i < len(header); i += 2 {
			head += header[i] + ": " + header[i+1] + "\r\n"
		}
		return []byte(head + "\r\n" + body)
	}
	hook, intent := strings.Repeat("function", 1000), alexaBody("IntentRequest", "Hello")
	github, alexa := []string{"X-Hub-Signature-256", "sha256=" + mac("s", hook), "X-GitHub-Event", "push"}, a.sign(b, intent)
	for _, conns := range []int{1, 16} {
		for scheme, of := range map[string]struct {
			first  int
			body   string
			header []string
		}{"github": {0, hook, github}, "alexa": {2, intent, alexa}} {
			b.Run(fmt.Sprintf("%s/connections=%d", scheme, conns), func(b *testing.B) {
				var all []*bench.Side
				var turns []func()
				for i, name := range []string{"verified", "any"} {
					host := "localhost:" + ports[of.first+i]
					c := &bench.Side{Name: name, PID: g.cmd.Process.Pid, Load: bench.NewLoad(b, "tcp", host, conns, answer, request(host, of.body, of.header))}
					c.Load.Run(b, round())
					all, turns = append(all, c), append(turns, func() { c.Round(b, round()) })
				}
				bench.Alternate(rounds, turns...)
				bench.Report(b, all...)
				bench.ReportRatio(b, all[0], all[1])
			})
		}
	}
}
