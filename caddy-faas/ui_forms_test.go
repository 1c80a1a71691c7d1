package caddyfaas

import (
	"strings"
	"testing"
)

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
