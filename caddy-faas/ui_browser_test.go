package caddyfaas

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// privateUISite has everything below a path, and a password ("secret") before the page and the API.
const privateUISite = `{
	admin unix/DATA/admin.sock|0600
	faas {
		data DATA
		functions stack.yml
		namespace dev
		allow {
			command *
		}
	}
}
SITE {
	handle_path /tools/* {
		handle /function/* {
			faas
		}
		handle /healthz {
			faas_api
		}
		handle {
			basic_auth {
				admin $2a$04$3wGnD1xGUZVrzKmidcW2.Oc0tSFU.3GHIW/o2PVoX3sDdGaeXNd4m
			}
			faas_api
			faas_ui
		}
	}
}
`

// peered is a site whose gateway has peers: itself, one that has ended, and one that is silent.
func peered(t *testing.T, site string) string {
	self, ended, silent := freePort(t), freePort(t), freePort(t)
	return strings.Replace(site, "faas {", fmt.Sprintf(`faas {
		scale {
			peers 127.0.0.1:%s 127.0.0.1:%s 127.0.0.1:%s
			peer_secret_file secret
		}`, self, ended, silent), 1) + fmt.Sprintf("http://127.0.0.1:%s {\n\tfaas_peer\n}\nhttp://127.0.0.1:%s {\n\trespond 503\n}\n", self, silent)
}

// private calls the API of privateUISite.
func (g *gateway) private(t *testing.T, status int, method, path, body string) string {
	t.Helper()
	a := g.call(t, method, "/tools"+path, body, "Authorization", "Basic YWRtaW46c2VjcmV0")
	if a.StatusCode != status {
		t.Fatalf("%s %s %s: %d %s, want %d", method, path, body, a.StatusCode, a.body, status)
	}
	return a.body
}

func newPage(t *testing.T, stack string) (*gateway, *browser) {
	t.Helper()
	return newPageOf(t, privateUISite, stack)
}

func newPageOf(t *testing.T, site, stack string) (*gateway, *browser) {
	t.Helper()
	needs(t, "chromium")
	g := newGateway(t, map[string]string{"Caddyfile": site, "stack.yml": stack, "secret": strings.Repeat("s", minPeerSecret)})
	g.start(t)
	b := newBrowser(t, g.url+"/tools/ui/", "admin:secret")
	t.Cleanup(b.clean)
	return g, b
}

// upperStack is what TestBrowser deploys.
const upperStack = `functions:
  upper:
    image: functions/alpine:latest
    fprocess: "sh -c 'echo heard >&2; tr a-z A-Z'"
    environment:
      content_type: "text/plain; charset=utf-8"
    labels:
      com.openfaas.scale.min: "0"
      com.openfaas.scale.zero: "true"
      com.openfaas.scale.zero-duration: "10m"
`

// A newcomer deploys, calls, watches, changes, scales and deletes a function.
func TestBrowser(t *testing.T) {
	t.Parallel()
	g, b := newPage(t, "functions: {}\n")
	b.shows("No functions yet")

	b.press("Deploy the first one")
	b.fill("Name", "no good")
	b.until("the name is refused as it is typed", `document.querySelector('[aria-invalid=true]')?.labels[0].textContent === 'Name'`)
	b.fill("Name", "upper")
	b.fill("Image", "functions/alpine:latest")
	b.fill("Command", "no-such-program")
	b.press("Deploy")
	b.until("the server's refusal is at its field", `document.querySelector('[aria-invalid=true]')?.labels[0].textContent === 'Command' && document.querySelector('[role=alert]').innerText.includes('no-such-program')`)
	b.fill("Command", "sh -c 'echo heard >&2; tr a-z A-Z'")
	b.press("Add variable")
	b.fill("Variable: NAME", "content_type")
	b.fill("Variable: Value", "text/plain; charset=utf-8")
	b.fill("Minimum replicas", "0")
	b.until("the gateway's own rule is told, and what has no meaning by it can't be typed", `[...document.querySelectorAll('option')].some(e => e.innerText === 'default (no)') && document.querySelector('[placeholder="5m"]').disabled`)
	b.fill("Scale to zero", "true")
	b.fill("To zero after", "2x")
	b.until("what is no duration is refused as it is typed", `document.querySelector('[aria-invalid=true]')?.labels[0].textContent === 'To zero after' && `+element("Deploy")+`.disabled`)
	b.fill("To zero after", "10m")
	b.until("the same is there as a stack file", `document.querySelector('.file').textContent === `+quoted(upperStack))
	b.press("Deploy")
	b.shows("At zero")
	if s := g.private(t, 200, "GET", "/system/function/upper", ""); !strings.Contains(s, `"content_type":"text/plain; charset=utf-8"`) || !strings.Contains(s, `"com.openfaas.scale.min":"0","com.openfaas.scale.zero":"true","com.openfaas.scale.zero-duration":"10m"`) {
		t.Errorf("deployed: %s", s)
	}

	// The call wakes it.
	b.press("Invoke")
	b.fill("Body", "hello")
	b.fill("Query", "a=b")
	b.press("Invoke")
	b.shows("HELLO")
	b.shows("200 OK")
	b.until("the time is split", `/Cold start [1-9][\s\S]*Execution [\d.]+ ms[\s\S]*Queue and network/.test(document.querySelector('.timing').innerText)`)
	b.until("the commands are there", fmt.Sprintf(`document.body.innerText.includes("curl -i -H 'Content-Type: text/plain; charset=utf-8' --data-raw hello '%s/tools/function/upper?a=b'") && document.body.innerText.includes('printf %%s hello | faas-cli invoke upper -g %s/tools')`, g.url, g.url))
	b.until("it is awake", `document.querySelector('.head .badge').innerText === 'Ready'`)
	b.press("Invoke")
	b.until("the second call finds it awake", `(s => s.includes('Execution') && !s.includes('Cold'))(document.querySelector('.timing').innerText)`)
	b.until("the call is remembered", `document.querySelector('.history').innerText.includes('POST /?a=b')`)

	// What it writes follows.
	b.press("Logs")
	b.until("the line is there", `document.querySelector('.log').innerText.includes('heard')`)
	lines := js[int](b, `document.querySelectorAll('.log li').length`)
	g.call(t, "POST", "/tools/function/upper", "x")
	b.until("new lines come", fmt.Sprintf(`document.querySelectorAll('.log li').length > %d`, lines))
	b.fill("Filter lines", "heard")
	b.until("others are hidden", `[...document.querySelectorAll('.log li')].filter(e => e.checkVisibility()).length === 3`)

	b.press("Edit")
	b.until("the form is filled", `document.querySelector('form')?.checkVisibility() && [...document.querySelectorAll('input')].some(e => e.value.includes('tr a-z A-Z'))`)
	b.fill("Command", "rev")
	b.fill("Maximum replicas", "4")
	b.press("Save and redeploy")
	b.until("the new command is shown", `[...document.querySelectorAll('dd')].some(e => e.innerText.trim() === 'rev')`)
	if s := g.private(t, 200, "GET", "/system/function/upper", ""); !strings.Contains(s, `"content_type"`) || !strings.Contains(s, `"com.openfaas.scale.max":"4"`) || !strings.Contains(s, `"com.openfaas.scale.min":"0"`) {
		t.Errorf("changed: %s", s)
	}

	b.until("the slider knows the maximum", `document.querySelector('input[type=range]').max === '4'`)
	js[any](b, `(e => { e.value = 2; e.dispatchEvent(new Event('input')) })(document.querySelector('input[type=range]'))`)
	b.press("Scale")
	b.shows("2 / 2")
	js[any](b, `(e => { e.value = 0; e.dispatchEvent(new Event('input')) })(document.querySelector('input[type=range]'))`)
	b.press("Scale")
	b.shows("At zero")
	b.until("the events are told", `document.querySelector('.events').innerText.includes('2 → 0')`)
	b.until("there are charts", `document.querySelectorAll('.chart path.line').length > 3`)
	b.until("values of the environment are covered", `!document.body.innerText.includes('charset=utf-8')`)
	b.press("Show the value of content_type")
	b.shows("charset=utf-8")
	js[any](b, `document.querySelector('dl').dataset.old = 1`)
	g.call(t, "POST", "/tools/function/upper", "x")
	b.until("it stays so when all is read again", `!document.querySelector('dl[data-old]') && document.body.innerText.includes('charset=utf-8')`)

	b.press("System")
	b.shows("Healthy")
	b.shows("local")
	b.until("the events are told", `document.querySelector('.events').innerText.includes('upper')`)

	b.press("Functions")
	b.press("upper")
	b.press("Delete")
	b.press("Cancel")
	b.press("Delete")
	b.until("it is asked first", `document.querySelector('dialog h2').innerText === 'Delete upper?'`)
	js[any](b, `document.querySelector('dialog .danger').click()`)
	b.shows("No functions yet")
	g.private(t, 404, "GET", "/system/function/upper", "")
}

// The list is live, and holds what is asked of it.
func TestBrowserList(t *testing.T) {
	t.Parallel()
	stack := "functions:\n"
	for i := range 1000 {
		stack += fmt.Sprintf("  f%03d:\n    image: functions/alpine:latest\n    fprocess: cat\n    labels: {com.openfaas.scale.min: \"0\"}\n", i)
	}
	g, b := newPage(t, stack)
	b.until("all are there", `document.querySelectorAll('tbody tr').length === 1000`)
	if asked := js[[]string](b, `performance.getEntriesByType('resource').map(e => e.name.split('/ui/')[1]).filter(name => !/^[0-9a-f]{12}\//.test(name)).map(name => name.split('?')[0])`); !slices.Equal(asked, []string{"state"}) && !slices.Equal(asked, []string{"state", "events"}) {
		t.Errorf("besides its own files the page asked for %q", asked)
	}
	b.shows("At zero")
	js[any](b, `touched = new Set(); new MutationObserver(all => all.forEach(m => touched.add((m.target.closest ? m.target : m.target.parentElement).closest('tr')?.querySelector('a').textContent))).observe(document.querySelector('tbody'), {subtree: true, childList: true, attributes: true, characterData: true}), 0`)
	g.call(t, "POST", "/tools/function/f123", "x")
	row := `[...document.querySelectorAll('tbody tr')].find(e => e.querySelector('a').textContent === 'f123')`
	b.until("the call is counted", row+`.querySelector('.c-total').textContent.includes('1')`)
	b.until("it is ready", row+`.querySelector('.c-state').textContent.includes('Ready')`)
	if n := js[[]string](b, `[...touched]`); !slices.Equal(n, []string{"f123"}) {
		t.Errorf("one call changed the rows %q", n)
	}
	b.press("Invocations")
	b.until("it is the first one, and the heading says how", `document.querySelector('tbody tr a').textContent === 'f123' && document.querySelector('th.c-total').ariaSort === 'descending'`)
	b.fill("Search functions", "f12")
	b.until("ten are left", `document.querySelectorAll('tbody tr').length === 10 && document.body.innerText.includes('10 of 1000')`)
	b.fill("Namespace", "dev")
	b.shows("No function matches")
	b.press("Show all")
	b.until("all are back", `document.querySelectorAll('tbody tr').length === 1000`)
	g.private(t, 202, "POST", "/system/functions", `{"service":"late","namespace":"dev","image":"x","envProcess":"cat"}`)
	b.until("a new one comes by itself", `document.querySelectorAll('tbody tr').length === 1001`)
	g.private(t, 202, "DELETE", "/system/functions", `{"functionName":"late","namespace":"dev"}`)
	b.until("and goes", `document.querySelectorAll('tbody tr').length === 1000`)
}
