// Command markdown turns GitHub's Markdown into HTML that is safe to show,
// whoever wrote it: scripts, event handlers and javascript: links are left out.
package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"regexp"

	"github.com/microcosm-cc/bluemonday"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/renderer/html"
)

var checkbox = regexp.MustCompile(`^checkbox$`)

// maxInput bounds the input, in bytes.
const maxInput = 4 << 20

func main() {
	if err := render(os.Stdout, os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "markdown:", err)
		os.Exit(1)
	}
}

func render(out io.Writer, in io.Reader) error {
	source, err := io.ReadAll(io.LimitReader(in, maxInput+1))
	if err != nil {
		return err
	}
	if len(source) > maxInput {
		return fmt.Errorf("the input has more than %d bytes", maxInput)
	}
	// HTML in the source goes through: the policy decides about it.
	md := goldmark.New(goldmark.WithExtensions(extension.GFM), goldmark.WithRendererOptions(html.WithUnsafe()))
	var page bytes.Buffer
	if err := md.Convert(source, &page); err != nil {
		return err
	}
	_, err = out.Write(policy().SanitizeBytes(page.Bytes()))
	return err
}

// policy allows what users may write, and the boxes of task lists.
func policy() *bluemonday.Policy {
	p := bluemonday.UGCPolicy()
	p.AllowAttrs("type").Matching(checkbox).OnElements("input")
	p.AllowAttrs("checked", "disabled").OnElements("input")
	return p
}
