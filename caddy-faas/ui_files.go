package caddyfaas

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/encode"
)

// uiFolder holds the page as it is sent: nothing is built from it.
//
//go:embed ui
var uiFolder embed.FS

// asset is a file of the page.
type asset struct {
	kind, tag   string
	policy      string // of its contents, if it is a page
	plain, gzip []byte
}

// What browsers may keep: files whose address changes when any of them does, and the page that names them.
const (
	forEver  = "public, max-age=31536000, immutable"
	askFirst = "no-cache"
)

// uiAssets are the page and the files that it needs, by HASH/NAME.
type uiAssets struct {
	page   *asset
	assets map[string]*asset
}

// uiFiles reads and compresses the files, once. Modules import each other by
// relative names, so they share one hash: that of all of them.
var uiFiles = sync.OnceValue(func() uiAssets {
	all := uiAssets{assets: make(map[string]*asset)}
	files := make(map[string][]byte)
	sum := sha256.New()
	entries, _ := fs.ReadDir(uiFolder, "ui") // sorted, and it is there: go:embed says so
	for _, e := range entries {
		text, _ := fs.ReadFile(uiFolder, "ui/"+e.Name())
		files[e.Name()] = text
		sum.Write([]byte(e.Name() + "\x00"))
		sum.Write(text)
	}
	hash := hex.EncodeToString(sum.Sum(nil))[:12]
	for name, text := range files {
		switch name {
		case "index.html":
			all.page = newAsset(name, bytes.ReplaceAll(text, []byte("{hash}"), []byte(hash)), hash, pagePolicy)
		case "preview.html":
			all.assets[hash+"/"+name] = newAsset(name, text, hash, strings.ReplaceAll(previewPolicy, "{hash}", scriptHash(text)))
		default:
			all.assets[hash+"/"+name] = newAsset(name, text, hash, "")
		}
	}
	return all
})

// scriptHash is that of a page's only script. It can't be a file: a sandboxed
// frame is a stranger to the site's password.
func scriptHash(page []byte) string {
	_, rest, _ := bytes.Cut(page, []byte("<script>"))
	script, _, _ := bytes.Cut(rest, []byte("</script>"))
	sum := sha256.Sum256(script)
	return base64.StdEncoding.EncodeToString(sum[:])
}

func newAsset(name string, text []byte, hash, policy string) *asset {
	var packed bytes.Buffer
	z, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression) // a level that exists
	z.Write(text)
	z.Close()
	return &asset{kind: uiKind(name), tag: hash, policy: policy, plain: text, gzip: packed.Bytes()}
}

// uiKind doesn't ask the machine's tables, which may be wrong.
func uiKind(name string) string {
	switch path.Ext(name) {
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".html":
		return "text/html; charset=utf-8"
	}
	return mime.TypeByExtension(path.Ext(name))
}

// Content security policies. The page runs its own files only, and can't make
// markup out of text. The preview shows a function's HTML, without its scripts, forms and
// whatever it would fetch, in an origin of its own.
const (
	pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; " +
		"frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
	previewPolicy = "default-src 'none'; script-src 'sha256-{hash}'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; " +
		"frame-ancestors 'self'; sandbox allow-scripts"
)

func acceptsGzip(r *http.Request) bool {
	return slices.Contains(encode.AcceptedEncodings(r, nil), "gzip")
}

func (a *asset) serve(w http.ResponseWriter, r *http.Request, cache string) error {
	h := w.Header()
	h.Set("Content-Type", a.kind)
	h.Set("Cache-Control", cache)
	h.Set("Vary", "Accept-Encoding")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	if a.policy != "" {
		h.Set("Content-Security-Policy", a.policy)
	}
	// Weak, for it is the same packed or not.
	h.Set("ETag", `W/"`+a.tag+`"`)
	if strings.Contains(r.Header.Get("If-None-Match"), `"`+a.tag+`"`) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	body := a.plain
	if acceptsGzip(r) {
		body = a.gzip
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		w.Write(body) // an error means that the client is gone
	}
	return nil
}
