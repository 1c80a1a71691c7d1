package caddyfaas

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
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
	b.until("the events are told", `document.querySelector('.events').innerText.includes('2 -> 0')`)
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

// Answers are shown as what they are, and can do nothing.
func TestBrowserAnswers(t *testing.T) {
	t.Parallel()
	_, b := newPage(t, `functions:
  html:
    image: x
    fprocess: echo '<style>h1{color:red}</style><h1 id=t>Hi</h1><img src=x onerror="parent.postMessage(1);document.title=1"><script>document.title=1</script>'
    environment: {content_type: text/html}
  json:
    image: x
    fprocess: echo '{"a":[1,2]}'
    environment: {content_type: application/json}
  svg:
    image: x
    fprocess: echo '<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"><rect width="8" height="8"/></svg>'
    environment: {content_type: image/svg+xml}
  env:
    image: x
    fprocess: env
  sum:
    image: x
    fprocess: sha256sum
  fail:
    image: x
    fprocess: sh -c 'exit 3'
`)
	call := func(name string) {
		b.open("f/" + name + ".openfaas-fn/invoke")
		b.press("Invoke")
	}
	call("html")
	b.until("it is a page", `document.querySelector('.result iframe')`)
	b.until("it is rendered", `document.querySelector('.result iframe').contentDocument === null`)
	b.press("Text")
	b.shows("<h1 id=t>Hi</h1>")
	call("json")
	b.until("it is laid out", `document.querySelector('.result pre').textContent === JSON.stringify({a: [1, 2]}, null, 2)`)
	b.press("Headers")
	b.shows("x-call-id")
	call("svg")
	b.until("it is an image", `document.querySelector('.result img')?.naturalWidth === 8`)
	call("fail")
	b.shows("500 Internal Server Error")

	b.open("f/env.openfaas-fn/invoke")
	js[any](b, `document.cookie = 'session=1; path=/'`)
	b.fill("Method", "PUT")
	b.fill("Path", "/some/path")
	b.fill("Query", "a=b")
	b.press("Add header")
	b.fill("Header: Name", "Cookie")
	b.shows("Browsers don’t let a page set Cookie")
	b.fill("Header: Name", "X-Mine")
	b.fill("Header: Value", "yes")
	b.press("Invoke")
	b.until("all of it arrived", `['Http_Method=PUT', 'Http_Path=/some/path', 'Http_Query=a=b', 'Http_X_Mine=yes'].every(s => document.querySelector('.result').innerText.includes(s))`)
	if js[bool](b, `/Http_(Authorization|Cookie)/.test(document.querySelector('.result').innerText)`) {
		t.Error("the function got the page's credentials")
	}
	b.fill("Send my sign-in for this site along (the function sees it)", "true")
	b.press("Invoke")
	b.until("now it has them", `document.querySelector('.result').innerText.includes('Http_Cookie=session=1')`)
	b.fill("Method", "GET")
	b.shows("Browsers send no body with GET")

	b.open("f/sum.openfaas-fn/invoke")
	js[any](b, `[...document.querySelectorAll('form option')].find(o => o.textContent === 'GitHub push').parentElement.value = 'push'`)
	js[any](b, `document.querySelector('form .head select').dispatchEvent(new Event('change'))`)
	b.until("the template is there", `document.querySelector('textarea[aria-label=Body]').value.includes('refs/heads/main')`)
	b.fill("File", "true")
	js[any](b, `(e => { const d = new DataTransfer(); d.items.add(new File([new Uint8Array([0, 1, 255])], 'bytes')); e.files = d.files; e.dispatchEvent(new Event('change')) })(document.querySelector('input[type=file]'))`)
	b.press("Invoke")
	b.shows("26a66b061e8f48f39927c312f25293959729eee95978e2892d49d3512a5cc092")
}

// What may not be is said where it was typed.
func TestBrowserRefused(t *testing.T) {
	_, b := newPageOf(t, strings.Replace(privateUISite, "		allow {\n			command *\n		}\n", "", 1), oneEcho)
	b.open("deploy")
	b.fill("Name", "backwards")
	b.fill("Image", "functions/alpine:latest")
	b.fill("Command", "tac")
	b.press("Deploy")
	b.until("the refusal is at its field", `document.querySelector('[aria-invalid=true]')?.labels[0].textContent === 'Command' && ['.field.wrong', '[role=alert]'].every(e => document.querySelector(e).innerText.includes('command "tac" is not allowed'))`)
	b.fill("Command", "cat")
	b.until("it is forgotten as one types", `!document.querySelector('[aria-invalid=true]') && document.querySelector('[role=alert]').hidden`)
	b.press("Deploy")
	b.shows("Ready")
}

// Secrets go in and never come out.
func TestBrowserSecrets(t *testing.T) {
	t.Parallel()
	g, b := newPage(t, oneEcho)
	b.open("secrets")
	b.fill("Name", "api-key")
	b.fill("Value", "s3cret")
	b.press("Create")
	b.until("it is kept", `document.querySelector('tbody').innerText.includes('api-key')`)
	g.private(t, 202, "PUT", "/system/functions", `{"service":"echo","image":"functions/alpine:latest","envProcess":"cat","secrets":["api-key"]}`)
	b.until("its user is shown", `document.querySelector('tbody').innerText.includes('echo')`)
	b.press("Change api-key")
	b.fill("Value", "other")
	b.press("Save")
	b.shows("api-key is changed")
	b.press("Delete api-key")
	js[any](b, `document.querySelector('dialog .danger').click()`)
	b.until("what is in use stays, and why", `document.querySelector('.toast.bad')?.innerText.includes('echo')`)
	b.open("f/echo.openfaas-fn/edit")
	b.until("the form has it", `[...document.querySelectorAll('.checks input')].some(e => e.checked)`)
	b.fill("api-key", "false")
	b.press("Save and redeploy")
	b.shows("echo is redeployed")
	b.open("secrets")
	b.press("Delete api-key")
	js[any](b, `document.querySelector('dialog .danger').click()`)
	b.shows("There are no secrets")
}

// Text that looks like markup does nothing, wherever it is shown.
func TestBrowserMarkup(t *testing.T) {
	t.Parallel()
	const evil = `<img src=x onerror="document.documentElement.dataset.evil=1">`
	g, b := newPage(t, "functions: {}\n")
	text := quoted(evil)
	g.private(t, 202, "POST", "/system/functions", `{"service":"evil","image":`+text+`,"envProcess":"sh -c 'cat >&2; exit 1' `+strings.ReplaceAll(strings.Trim(text, `"`), `\"`, ``)+`","envVars":{"plain":`+text+`},`+
		`"labels":{`+text+`:`+text+`,"com.openfaas.ui.ext":`+text+`},"annotations":{`+text+`:`+text+`}}`)
	g.private(t, 404, "DELETE", "/system/functions", `{"functionName":`+text+`}`)
	g.call(t, "POST", "/tools/function/evil", evil)
	for _, view := range []string{"", "f/evil.openfaas-fn", "f/evil.openfaas-fn/invoke", "f/evil.openfaas-fn/logs", "f/evil.openfaas-fn/edit", "deploy", "system", "f/" + "%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E.dev"} {
		b.open(view)
		if view == "f/evil.openfaas-fn/invoke" {
			b.fill("Body", evil)
			b.press("Invoke")
			b.shows("500 Internal Server Error")
		}
		if view != "deploy" {
			b.until("the text is shown in "+view, `document.body.innerText.includes('<img src=x') || [...document.querySelectorAll('input, textarea')].some(e => e.value.includes('<img src=x'))`)
		}
		if n := js[int](b, `document.querySelectorAll('main img').length`); n > 0 || js[bool](b, `'evil' in document.documentElement.dataset`) {
			t.Errorf("in %s markup came alive", view)
		}
	}
}

// The page says that the gateway is away, and goes on when it is back.
func TestBrowserReconnects(t *testing.T) {
	t.Parallel()
	g, b := newPage(t, oneEcho)
	b.shows("Live")
	g.reload(t)
	g.call(t, "POST", "/tools/function/echo", "x")
	row := `document.querySelector('tbody tr .c-total').innerText`
	b.until("it goes on after a reload", row+`.includes('1')`)
	g.stop(t, syscall.SIGKILL)
	b.shows("Reconnecting")
	g.start(t)
	b.shows("Live")
	eventually(t, "echo answers", func() bool { return g.call(t, "POST", "/tools/function/echo", "x").StatusCode == 200 })
	b.until("it counts anew", row+`.includes('1')`)
}

// Where event streams don't come through, the page asks.
func TestBrowserPolls(t *testing.T) {
	t.Parallel()
	needs(t, "chromium")
	site := strings.Replace(openUISite, "		handle {\n", "		handle /ui/events {\n			respond 404\n		}\n		handle {\n", 1)
	g := newUIGateway(t, site, oneEcho)
	b := newBrowser(t, g.url+"/tools/ui/", "")
	b.open("")
	b.shows("Polling")
	eventually(t, "echo answers", func() bool { return g.call(t, "POST", "/tools/function/echo", "x").StatusCode == 200 })
	b.until("calls are counted", `document.querySelector('tbody tr .c-total').innerText.match(/[1-9]/)`)

	// Whoever isn't let in any more is told, and goes on when they are.
	g.write(t, "Caddyfile", strings.Replace(site, "			faas_ui\n", "			respond /ui/* 401\n", 1))
	g.reload(t)
	b.shows("Signed out: load again")
	g.write(t, "Caddyfile", site)
	g.reload(t)
	b.shows("Polling")
}
