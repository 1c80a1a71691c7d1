package caddyfaas

import (
	"fmt"
	"slices"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// Every view can be read and used at every width and in both schemes. With
// FAAS_TEST_SCREENSHOTS it is pictured too.
func TestBrowserLooks(t *testing.T) {
	t.Parallel()
	g, b := newPageOf(t, peered(t, privateUISite), `functions:
  echo:
    image: functions/alpine:latest
    fprocess: sh -c 'sleep 0.0$RANDOM; cat'
    environment: {content_type: text/plain, write_debug: "true"}
    labels: {com.openfaas.scale.max: "8", team: platform}
    annotations: {topic: "payments and refunds, with a text that is longer than its column is wide"}
    limits: {memory: 128Mi, cpu: 500m}
  a-function-with-a-name-that-is-as-long-as-names-may-ever-become:
    image: registry.example.com/some/deep/path/a-function-with-a-long-name:v1.2.3
    fprocess: cat
  asleep:
    image: functions/alpine:latest
    fprocess: cat
    labels: {com.openfaas.scale.min: "0"}
  broken:
    image: functions/alpine:latest
    fprocess: sh -c 'echo the port is taken by another program >&2; exit 3'
    environment: {mode: http}
  errors:
    image: functions/alpine:latest
    fprocess: sh -c 'exit 1'
`)
	for range 20 {
		g.call(t, "POST", "/tools/function/echo", "hello")
		g.call(t, "POST", "/tools/function/errors", "hello")
	}
	const answered = `document.querySelector('.result .body > *')`
	b.looks([]look{
		{"list", "", "", `document.querySelectorAll('tbody tr').length === 5 && document.body.innerText.includes('Failing') && document.querySelector('.errors[d^=M]')`},
		{"function", "f/echo.openfaas-fn", "", `document.querySelectorAll('.chart path.line').length > 3 && document.body.innerText.includes('128Mi')`},
		{"long", "f/a-function-with-a-name-that-is-as-long-as-names-may-ever-become.openfaas-fn", "", `document.body.innerText.includes('a-function-with-a-long-name:v1.2.3')`},
		{"failing", "f/broken.openfaas-fn", "", `document.body.innerText.includes('the port is taken') && document.body.innerText.includes('exit 3')`},
		{"invoke", "f/echo.openfaas-fn/invoke", "Invoke", answered},
		{"refused", "f/broken.openfaas-fn/invoke", "Invoke", answered + ` && document.body.innerText.includes('start-failed')`},
		{"logs", "f/echo.openfaas-fn/logs", "", `document.querySelectorAll('.log li').length > 5`},
		{"edit", "f/echo.openfaas-fn/edit", "", `document.querySelectorAll('.pair').length > 3`},
		{"deploy", "deploy", "", `document.querySelectorAll('.field').length > 8`},
		{"secrets", "secrets", "", `document.querySelector('main .panel, main .banner')`},
		{"system", "system", "", `['Healthy', 'this one', 'Up', 'Ended', 'Silent', 'Nodes'].every(s => document.body.innerText.includes(s)) && document.querySelector('.events li')`},
		{"gone", "f/nobody.openfaas-fn", "", `document.body.innerText.includes('no such function')`},
	})
}

// A look is a view, what is pressed there, and a condition of its being complete.
type look struct{ name, hash, press, ready string }

// looks audits views at every width and in both schemes.
func (b *browser) looks(views []look) {
	audit := read(b.t, "testdata/audit.js")
	for _, v := range views {
		b.as(1280, "light")
		b.open(v.hash)
		if v.press != "" {
			b.press(v.press)
		}
		b.until(v.name+" is complete", v.ready)
		for _, width := range []int64{1280, 360, 2560, 800} {
			for _, scheme := range []string{"light", "dark"} {
				b.as(width, scheme)
				js[any](b, `new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))`)
				if faults := js[string](b, audit); faults != "" {
					b.t.Errorf("%s, %d px, %s:\n%s", v.name, width, scheme, faults)
				}
				b.shot(fmt.Sprintf("%s-%d-%s", v.name, width, scheme))
			}
		}
	}
}

// A function is deployed, called and deleted with the keyboard alone.
func TestBrowserByKeyboard(t *testing.T) {
	_, b := newPage(t, "functions: {}\n")
	b.open("")
	b.tabTo("Deploy the first one", "\r")
	b.tabTo("Name", "shout")
	b.tabTo("Image", "functions/alpine:latest")
	b.tabTo("Command", "tr a-z A-Z")
	b.tabTo("Deploy", "\r")
	b.shows("Ready")
	b.tabTo("Invoke", "\r")
	b.tabTo("Body", "hello")
	b.tabTo("Invoke", "\r")
	b.shows("HELLO")
	b.tabTo("Delete", "\r")
	b.until("the dialog has the focus", `document.activeElement.closest('dialog')`)
	b.do(chromedp.KeyEvent("\x1b"))
	b.until("Escape closes it", `!document.querySelector('dialog')`)
	b.tabTo("Delete", "\r")
	b.until("it asks again", `document.activeElement.closest('dialog')`)
	b.tabTo("Delete", "\r")
	b.shows("No functions yet")
}

// focused names what has the focus, as a screen reader would.
const focused = `(e => (e.getAttribute('aria-label') ?? (e.labels?.length ? e.labels[0].innerText : e.innerText)).trim())(document.activeElement)`

// tabTo presses Tab until the focus is at a name in the view or dialog, where it types a text.
func (b *browser) tabTo(name, text string) {
	b.t.Helper()
	b.until("there is "+name, fmt.Sprintf(`[...document.querySelectorAll('main *, dialog *')].some(e => e.checkVisibility() && (e.getAttribute('aria-label') ?? e.innerText)?.trim() === %s)`, quoted(name)))
	var met []string
	for range 80 {
		b.do(chromedp.KeyEvent("\t"))
		if at := js[string](b, focused); at == name && js[bool](b, `!!document.activeElement.closest('main, dialog')`) {
			b.do(chromedp.KeyEvent(text))
			return
		} else {
			met = append(met, at)
		}
	}
	b.t.Fatalf("Tab does not reach %q: %q", name, met)
}

// The keyboard goes everywhere, and the scheme can be chosen.
func TestBrowserKeyboard(t *testing.T) {
	t.Parallel()
	_, b := newPage(t, oneEcho)
	b.open("")
	b.until("echo is there", `document.querySelector('tbody tr')`)
	var order []string
	for range 30 {
		b.do(chromedp.KeyEvent("\t"))
		if js[bool](b, `document.activeElement !== document.body && getComputedStyle(document.activeElement).outlineStyle === 'none'`) {
			t.Errorf("nothing shows that %s has the focus", js[string](b, focused))
		}
		order = append(order, js[string](b, focused))
	}
	for _, want := range []string{"Skip to content", "System", "Deploy a function", "Search functions", "echo", "Invoke echo", "Function"} {
		if !slices.Contains(order, want) {
			t.Errorf("Tab does not reach %q: %q", want, order)
		}
	}
	js[any](b, `document.activeElement.blur()`)
	b.do(chromedp.KeyEvent("/"), chromedp.KeyEvent("ec"))
	b.until("/ searches", `document.querySelector('input[type=search]').value.endsWith('ec')`)
	background := `getComputedStyle(document.body).backgroundColor`
	light := js[string](b, background)
	b.press("Colors: as the system. Change")
	b.press("Colors: light. Change")
	b.until("it is dark", background+" !== "+quoted(light))
	b.open("")
	b.until("it stays dark", background+" !== "+quoted(light))

	// Who wants no motion gets none.
	js[any](b, `(e => { e.className = 'link bad'; document.body.append(e); })(document.createElement('i'))`)
	for value, animation := range map[string]string{"no-preference": "pulse", "reduce": "none"} {
		if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-reduced-motion", Value: value}}}); err != nil {
			t.Fatal(err)
		}
		b.until("motion is as wanted", `getComputedStyle(document.querySelector('i.link'), '::before').animationName === '`+animation+`'`)
	}
}
