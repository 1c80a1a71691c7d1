package caddyfaas

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// description is openapi.yaml, which must be OpenAPI.
var description = sync.OnceValue(func() *openapi3.T {
	doc, err := openapi3.NewLoader().LoadFromData(openAPI)
	if err == nil {
		err = doc.Validate(openapi3.NewLoader().Context)
	}
	if err != nil {
		panic("openapi.yaml: " + err.Error())
	}
	// A text, whatever is in it; and the lines of a log, each by itself.
	openapi3filter.RegisterBodyDecoder("application/yaml", openapi3filter.PlainBodyDecoder)
	openapi3filter.RegisterBodyDecoder("application/x-ndjson", func(body io.Reader, _ http.Header, line *openapi3.SchemaRef, _ openapi3filter.EncodingFn) (any, error) {
		var last any = map[string]any{"name": "", "namespace": "", "instance": "", "timestamp": "2026-01-01T00:00:00Z", "text": ""}
		for lines := bufio.NewScanner(body); lines.Scan(); {
			var v any
			if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
				return nil, err
			}
			if err := line.Value.VisitJSON(v); err != nil {
				return nil, err
			}
			last = v
		}
		return last, nil
	})
	return doc
})

// operation is what the description has for a request; nil for nothing.
func operation(method, path string) *routers.Route {
	doc := description()
	for template, item := range doc.Paths.Map() {
		form := regexp.MustCompile(`\\\{[a-z]+\\\}`).ReplaceAllString(regexp.QuoteMeta(template), `[^/]+`)
		if op := item.GetOperation(method); op != nil && regexp.MustCompile("^"+form+"$").MatchString(path) {
			return &routers.Route{Spec: doc, Path: template, PathItem: item, Method: method, Operation: op}
		}
	}
	return nil
}

// isDescribed holds an answer of the API to its description: status, type and form.
func isDescribed(t testing.TB, method, target string, status int, header http.Header, answer string) {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	if !strings.HasPrefix(r.URL.Path, "/system/") && r.URL.Path != "/healthz" {
		return
	}
	route := operation(method, r.URL.Path)
	if route == nil {
		if !slices.Contains([]int{401, 404, 405}, status) {
			t.Errorf("%s %s: %d, but openapi.yaml does not have it", method, r.URL.Path, status)
		}
		return
	}
	said := route.Operation.Responses.Status(status)
	if said != nil && answer == "" && said.Value.Content.Get("text/plain") != nil {
		return // the text may be empty, and then has no type
	}
	out := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, Route: route}, Status: status, Header: header,
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}
	if err := openapi3filter.ValidateResponse(t.Context(), out.SetBodyBytes([]byte(answer))); err != nil {
		t.Errorf("%s %s: %d is not as openapi.yaml says: %v", method, target, status, err)
	} else if len(said.Value.Content) == 0 && answer != "" {
		t.Errorf("%s %s: %d with %.100q, where openapi.yaml has no body", method, target, status, answer)
	}
}

// isTaken holds a body that the API has taken to its description.
func isTaken(t testing.TB, method, target, body string, status int) {
	t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	route := operation(method, r.URL.Path)
	if route == nil || route.Operation.RequestBody == nil || status/100 != 2 {
		return
	}
	in := &openapi3filter.RequestValidationInput{Request: r, Route: route}
	if err := openapi3filter.ValidateRequestBody(t.Context(), in, route.Operation.RequestBody.Value); err != nil {
		t.Errorf("%s %s: %s was taken, but is not as openapi.yaml says: %v", method, target, body, err)
	}
}

// TestDescription: the API and its description have the same calls.
func TestDescription(t *testing.T) {
	var described, served []string
	for path, item := range description().Paths.Map() {
		for method := range item.Operations() {
			described = append(described, method+" "+path)
		}
	}
	served = append(served, "GET /healthz", "HEAD /healthz")
	for what, methods := range endpoints {
		for method := range methods {
			path := "/system/" + what
			if strings.HasSuffix(path, "/") && (what != "namespace/" || method != http.MethodPost) {
				path += "{name}"
			}
			served = append(served, method+" "+path)
		}
	}
	slices.Sort(described)
	slices.Sort(served)
	if !slices.Equal(described, served) {
		t.Errorf("openapi.yaml has\n%s\nand the API has\n%s", strings.Join(described, "\n"), strings.Join(served, "\n"))
	}
}
