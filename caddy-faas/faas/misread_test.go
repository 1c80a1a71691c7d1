package faas

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"
)

func TestMisread(t *testing.T) {
	for _, tt := range []struct {
		label, value string
		want         string // part of the only remark; "" for none
	}{
		{LabelMin, "0", ""}, {LabelMin, "many", `label com.openfaas.scale.min "many" is not obeyed: want a whole number from 0`}, {LabelMin, "-1", "from 0"},
		{LabelMax, "0", "from 1"}, {LabelFactor, "101", "to 100"}, {LabelFactor, "100", ""}, {LabelFactor, "", ""},
		{LabelType, "rps", ""}, {LabelType, "cpu", "want capacity, rps, queue"}, {LabelResolve, "steps", "want min, step"},
		{LabelProportion, "0.7", ""}, {LabelProportion, "70", "at most 1"}, {LabelProportion, "NaN", "at most 1"},
		{LabelZero, "yes", "true or false"}, {LabelAlexa, "TRUE", ""},
		{LabelDownWindow, "5m", ""}, {LabelDownWindow, "301", `label com.openfaas.scale.down.window "301" counts as 5m0s, which is the most`},
		{"com.openfaas.scale.mix", "1", "label com.openfaas.scale.mix has no effect"}, {"com.openfaas.health", "1", ""},
		{LabelTimeout, "30", ""}, {LabelTimeout, "soon", "want a duration"}, {LabelQueueTimeout, "-1s", "want a duration"},
		{LabelOpenFiles, "4Ki", ""}, {LabelRequest, "lots", "want a quantity"},
		{LabelMethods, "get", `nobody may call it: label faas.methods "get": want methods`}, {LabelAuth, "Basic ", "nobody may call it"},
		{LabelDomains, "a.example.com,localhost", `label faas.domains "localhost" is not obeyed`},
		{"faas.concurency", "1", "label faas.concurency has no effect"}, {"faas_function", "f", ""}, {"com.example.faas.x", "1", ""},
		{LabelType, strings.Repeat("x", 1000), strings.Repeat("x", 64) + `" is not`},
	} {
		f := Function{ID: ID{"f", DefaultNamespace}, Labels: map[string]string{tt.label: tt.value}}
		got := f.Misread()
		if tt.want == "" && len(got) > 0 || tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], tt.want)) {
			t.Errorf("%s=%s: %q, want %q", tt.label, tt.value, got, tt.want)
		}
	}
}

func TestMisreadMost(t *testing.T) {
	f := Function{ID: ID{"f", DefaultNamespace}, Labels: map[string]string{LabelMin: "5", LabelMax: "5"}}
	if got := f.Misread(); got != nil {
		t.Error(got)
	}
	f.Labels[LabelMax] = "4"
	if got := f.Misread(); len(got) != 1 || got[0] != `label com.openfaas.scale.max "4" is not obeyed: want at least com.openfaas.scale.min, which is 5` {
		t.Error(got)
	}
}

// A new label must be given its form, or functions that have it would be said to be wrong.
func TestFormOfEveryLabel(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "labels.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	labels := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Label") {
			return true
		}
		labels++
		name, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		if forms[name].is == nil {
			t.Errorf("%s (%s) has no form", spec.Names[0].Name, name)
		}
		return true
	})
	if labels != len(forms) {
		t.Errorf("%d labels, %d forms", labels, len(forms))
	}
}
