package caddyfaas

import (
	"strings"
	"syscall"
	"testing"
)

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
