package caddyfaas

import (
	"strings"
	"testing"
)

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
