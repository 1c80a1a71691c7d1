package caddyfaas

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser is a headless Chromium that shows a gateway's page.
type browser struct {
	t      *testing.T
	ctx    context.Context
	base   string // the page's address
	mu     sync.Mutex
	faults []string // exceptions, and violations of the page's policy
}

// newBrowser starts Chromium. Credentials, if any, are typed into the address bar once.
func newBrowser(t *testing.T, page, credentials string) *browser {
	t.Helper()
	path := needs(t, "chromium")
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.WSURLReadTimeout(patience))
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	if inside := ownNetwork(t, page); inside != "" {
		// Chromium breaks all connections whenever an address comes or goes, as they do where Docker is tested.
		options = append(options, chromedp.ModifyCmdFunc(func(c *exec.Cmd) {
			c.Args = append([]string{"nsenter", "--net=" + inside, path}, c.Args[1:]...)
			c.Path, c.Err = needs(t, "nsenter"), nil
		}))
	}
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &browser{t: t, ctx: ctx, base: page}
	if _, err := chromedp.Call(ctx, log.Enable, cdp.Empty{}); err != nil { // starts it, for as long as ctx lives
		t.Fatal(err)
	}
	if err := chromedp.Listen(ctx, b.heard); err != nil {
		t.Fatal(err)
	}
	b.as(1280, "light")
	if credentials != "" {
		b.do(chromedp.Navigate(strings.Replace(page, "://", "://"+credentials+"@", 1)))
		b.until("the page is live", `document.getElementById('link').textContent === 'Live'`)
	}
	return b
}

func (b *browser) heard(e any) {
	fault := ""
	switch e := e.(type) {
	case *runtime.EventExceptionThrown:
		fault = e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			fault += " " + e.ExceptionDetails.Exception.Description
		}
	case *log.EventEntryAdded:
		if strings.Contains(e.Entry.Text, "Content Security Policy") || strings.Contains(e.Entry.Text, "TrustedHTML") {
			fault = e.Entry.Text
		}
	}
	if fault != "" {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.faults = append(b.faults, fault)
	}
}

// clean tells what went wrong inside the page.
func (b *browser) clean() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.faults {
		b.t.Errorf("in the page: %s", f)
	}
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// js evaluates an expression.
func js[T any](b *browser, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%.300s: %v", expression, err)
	}
	return v
}

// until waits for a condition in the page.
func (b *browser) until(what, condition string) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); !js[bool](b, "(() => { try { return !!("+condition+") } catch (e) { if (e instanceof SyntaxError) throw e } })() ?? false"); {
		if time.Now().After(deadline) {
			b.shot("failed")
			b.t.Fatalf("waited in vain until %s; the page shows:\n%s", what, js[string](b, "document.body.innerText"))
		}
		<-time.After(30 * time.Millisecond)
	}
}

// open shows a view.
func (b *browser) open(hash string) {
	b.t.Helper()
	b.do(chromedp.Navigate("about:blank"), chromedp.Navigate(b.base+"#/"+hash))
	b.until("the view "+hash+" is there", `document.querySelector('main h1')`)
}

// press clicks the visible control that is named so.
func (b *browser) press(name string) {
	b.t.Helper()
	// At once: the page may draw it anew at any time.
	b.until("there is "+name, "(e => e && !e.disabled && (e.click(), true))("+element(name)+")")
}

// element is the element with a name, as a screen reader would say it.
func element(name string) string {
	return fmt.Sprintf(`[...document.querySelectorAll('button, a, [role=tab], summary')].reverse().find(e => e.checkVisibility() && (e.getAttribute('aria-label') ?? e.innerText).trim() === %s)`, quoted(name))
}

// fill types a value into the control with a label.
func (b *browser) fill(label, value string) {
	b.t.Helper()
	control := fmt.Sprintf(`[...document.querySelectorAll('main input, main select, main textarea')].find(e => e.checkVisibility() && [e.getAttribute('aria-label'), ...[...e.labels].map(l => l.innerText.trim())].includes(%s))`, quoted(label))
	b.until("there is a field "+label, fmt.Sprintf(`(e => { if (!e) return false; e.focus(); if (e.type === 'checkbox' || e.type === 'radio') { if (e.checked !== (%[2]s !== 'false')) e.click(); return true; } e.value = %[2]s; e.dispatchEvent(new Event('input', {bubbles: true})); e.dispatchEvent(new Event('change', {bubbles: true})); return true; })(%[1]s)`, control, quoted(value)))
}

// shows waits for a text.
func (b *browser) shows(text string) {
	b.t.Helper()
	b.until("it shows "+text, "document.body.innerText.includes("+quoted(text)+")")
}

func quoted(s string) string {
	q, _ := json.Marshal(s) // a string can be written
	return string(q)
}

// as sets the window and the color scheme.
func (b *browser) as(width int64, scheme string) {
	b.t.Helper()
	height := map[bool]int64{true: 740, false: 900}[width < 500]
	_, err := chromedp.Call(b.ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1, Mobile: width < 500})
	if err == nil {
		_, err = chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// shot keeps a picture of the page, where FAAS_TEST_SCREENSHOTS says.
func (b *browser) shot(name string) {
	b.t.Helper()
	dir := os.Getenv("FAAS_TEST_SCREENSHOTS")
	if dir == "" {
		return
	}
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, strings.ReplaceAll(b.t.Name(), "/", "-")+"-"+name+".png"), png, 0o644)
	}
	if err != nil {
		b.t.Error(err)
	}
}

// tunnel passes connections that a listener takes on to an address.
func tunnel(l net.Listener, to string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			up, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			defer up.Close()
			go func() {
				io.Copy(up, c)
				up.(*net.TCPConn).CloseWrite()
			}()
			io.Copy(c, up)
		}()
	}
}

// hostOf is the host and port of an address.
func hostOf(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}
