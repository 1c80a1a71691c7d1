package stack

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

func lookup(name string) (string, bool) {
	v, ok := map[string]string{"SET": "value", "EMPTY": ""}[name]
	return v, ok
}

func parseText(text string) ([]faas.Function, error) { return Parse([]byte(text), "/stack", lookup) }

func TestAll(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("a.yml", "environment:\n  over: first file\n  number: 0x10\n")
	write("b.yml", "environment: {over: second file, last: yes}\n")
	write("stack.yml", `
version: 1.0
provider: {name: openfaas, gateway: "http://127.0.0.1:8080"}
configuration: {templates: []}
x-shared: &shared
  exec_timeout: 10s
functions:
  Hello_World:
    lang: go
    handler: ./hello
    image: ${SET_NOT:-team}/hello:${SET_NOT:-1.0}
    fprocess: ./run --flag "a b"
    skip_build: true
    build_args: {A: b}
    build_options: [dev]
    environment:
      <<: *shared
      text: "a\nb"
      number: 007
      float: 1e3
      bool: yes
      nothing:
      over: stack file
    environment_file: [a.yml, ./b.yml]
    labels: {com.openfaas.scale.min: 2, empty: ""}
    annotations:
      note: |
        two
        lines
    limits: {memory: 128Mi, cpu: 100m}
    requests: {memory: 5Mi}
    secrets: [one, two]
    constraints: ["node.role == worker"]
    namespace: other
    readonly_root_filesystem: true
    x-note: [anything]
  second: {fprocess: cat, handler: /abs/../folder}
  third: {image: x}
  x-template: {what: ever}
`)
	got, files, err := Read(filepath.Join(dir, "stack.yml"))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{dir + "/stack.yml", dir + "/a.yml", dir + "/b.yml"}; !slices.Equal(files, want) {
		t.Errorf("read from %v, want %v", files, want)
	}
	want := []faas.Function{
		{
			ID: faas.ID{Name: "Hello_World", Namespace: "other"}, Handler: filepath.Join(dir, "hello"), Image: "team/hello:1.0", Process: `./run --flag "a b"`,
			Env: map[string]string{
				"exec_timeout": "10s", "text": "a\nb", "number": "0x10", "float": "1e3", "bool": "yes", "nothing": "", "over": "second file", "last": "yes",
			},
			Labels:      map[string]string{"com.openfaas.scale.min": "2", "empty": ""},
			Annotations: map[string]string{"note": "two\nlines\n"},
			Secrets:     []string{"one", "two"}, Constraints: []string{"node.role == worker"},
			Limits: faas.Resources{"memory": "128Mi", "cpu": "100m"}, Requests: faas.Resources{"memory": "5Mi"}, ReadOnlyRootFilesystem: true,
		},
		{ID: faas.ID{Name: "second", Namespace: faas.DefaultNamespace}, Process: "cat", Handler: "/folder"},
		{ID: faas.ID{Name: "third", Namespace: faas.DefaultNamespace}, Image: "x"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

func TestErrors(t *testing.T) {
	many := strings.Builder{}
	for i := range MaxFunctions + 1 {
		fmt.Fprintf(&many, "  f%d: {image: x}\n", i)
	}
	for text, want := range map[string]string{
		"functions:\n  a:\n    image: x\n    fproces: cat\n":                         `line 4: unknown key "fproces"`,
		"x-t: &t {image: x, fproces: cat}\nfunctions:\n  a:\n    <<: *t\n":           `line 1: unknown key "fproces"`,
		"functions:\n  a:\n    image: x\n    <<: [{x-b: c}, {<<: {fproces: cat}}]\n": `line 4: unknown key "fproces"`,
		"functions:\n  a: {image: x, limits: {<<: {mem: 1}}}\n":                      `line 2: unknown key "mem"`,
		"functions:\n  a: &a\n    image: x\n    <<: *a\n":                            "contains itself",
		"function: {}\n": `line 1: unknown key "function"`,
		"functions:\n  a:\n    image: x\n    limits: {mem: 1}\n": `line 4: unknown key "mem": want memory, cpu or nvidia.com/gpu`,
		"functions:\n  a: {image: x}\n  a: {image: y}\n":         "line 3: function a: given twice",
		"functions:\n  a:\n    image: x\n    image: y\n":         "line 2: function a:",
		"functions:\n  ok: {image: x}\n  a: {lang: go}\n":        "line 3: function a: neither fprocess nor image",
		"functions:\n  a/b: {image: x}\n":                        "line 2: function a/b: function name",
		"functions:\n  a: {image: x, namespace: a.b}\n":          "line 2: function a: namespace",
		"functions:\n  a:\n":                                     "line 2: function a: want its settings",
		"functions:\n  a: {image: [x]}\n":                        "line 2: want a single value",
		"functions:\n  a: {image: x, environment: [a]}\n":        "line 2",
		"functions:\n  a: {image: x, environment_file: [no]}\n":  "function a: environment_file: open /stack/no",
		"functions: [a]\n":                                       "line 1: functions: want names",
		"functions: {}\nfunctions: {}\n":                         "line 2: functions: given twice",
		"- a\n":                                                  "line 1: want keys",
		"a: b\n---\nc: d\n":                                      "more than one",
		"functions: {\n":                                         "line 1",
		"a: ${SET:?x}\n":                                         `line 1: "${SET:?x}"`,
		"#\na: ${\n":                                             `line 2: "${"`,
		strings.Repeat("#", MaxSize+1):                           "larger than",
		"functions:\n" + many.String():                           "1001 functions",
	} {
		_, err := parseText(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %q", text, err, want)
		}
	}
	if _, _, err := Read("/no/such/stack.yml"); err == nil || !strings.Contains(err.Error(), "/no/such/stack.yml") {
		t.Errorf("missing file: %v", err)
	}
}

func TestEmpty(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "functions:\n", "functions: {}\n", "version: 1.0\n", "null\n"} {
		if got, err := parseText(text); len(got) > 0 || err != nil {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func TestSubstitute(t *testing.T) {
	for text, want := range map[string]string{
		"a ${SET} b":              "a value b",
		"${SET:-x}${UNSET:-x}":    "valuex",
		"${EMPTY:-x}|${EMPTY}|":   "x||",
		"${UNSET}|${UNSET:-}|":    "||",
		"$SET $ {SET} $$ $${SET}": "$SET $ {SET} $$ ${SET}",
		"${UNSET:-a:-b $c}":       "a:-b $c",
	} {
		got, err := substitute([]byte(text), lookup)
		if string(got) != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", text, got, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("functions:\n  a: {image: x, environment: {a: 1}, limits: {cpu: 1}, secrets: [a]}\n")
	f.Add("x-a: &a {image: x}\nfunctions:\n  a: *a\n  b:\n    <<: *a\n")
	f.Add("functions: &f\n  a: *f\n")
	f.Add("a: ${X:-y}$${\n---\n")
	f.Add("functions:\n  ? [a]\n  : {image: x}\n")
	f.Fuzz(func(t *testing.T, text string) {
		functions, err := Parse([]byte(text), "/stack", lookup)
		if err != nil && functions != nil {
			t.Fatal("an error and functions")
		}
		for _, fn := range functions {
			if err := fn.Validate(); err != nil {
				t.Fatal(err)
			}
			if fn.Process == "" && fn.Image == "" && fn.Env["fprocess"] == "" {
				t.Fatalf("%+v", fn)
			}
		}
	})
}

func TestGateway(t *testing.T) {
	t.Setenv("SET", "value")
	file := filepath.Join(t.TempDir(), "stack.yml")
	for text, want := range map[string]string{
		"":                                 "",
		"functions: {}\n":                  "",
		"provider:\n":                      "",
		"provider: {name: openfaas}":       "",
		"provider: {gateway: http://a:80}": "http://a:80",
		"provider: {gateway: 'https://${SET}.${UNSET:-example}'}": "https://value.example",
		"provider: {gateway: [a]}":                                "error",
		"provider: [a]":                                           "error",
		"- a":                                                     "error",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := Gateway(file); got != strings.TrimPrefix(want, "error") || (err != nil) != (want == "error") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	if _, err := Gateway(file + ".none"); err == nil {
		t.Error("no error without a file")
	}
}
