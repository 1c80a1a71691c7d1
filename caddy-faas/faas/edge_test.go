package faas

import (
	"reflect"
	"strings"
	"testing"
)

func TestEdge(t *testing.T) {
	for _, tt := range []struct {
		labels map[string]string
		want   Edge
		err    string
	}{
		{nil, Edge{}, ""},
		{map[string]string{LabelAuth: "none", LabelMethods: " , ", LabelMaxBody: ""}, Edge{}, ""},
		{map[string]string{LabelAuth: "github", LabelAuthSecret: "new,old", LabelMethods: "GET, POST", LabelMaxBody: "1Ki"},
			Edge{Auth: "github", Secrets: []string{"new", "old"}, Methods: []string{"GET", "POST"}, MaxBody: 1024}, ""},
		{map[string]string{LabelAuth: "none", LabelAuthSecret: "x"}, Edge{Secrets: []string{"x"}}, ""},
		{map[string]string{LabelAuth: "", LabelAuthSecret: "x"}, Edge{}, LabelAuthSecret},
		{map[string]string{LabelAuth: "Basic "}, Edge{}, LabelAuth},
		{map[string]string{LabelAuth: "basic", LabelAuthSecret: "../x"}, Edge{}, LabelAuthSecret},
		{map[string]string{LabelAuth: "basic", LabelAuthSecret: "x x"}, Edge{}, "twice"},
		{map[string]string{LabelMethods: "get"}, Edge{}, LabelMethods},
		{map[string]string{LabelMaxBody: "much"}, Edge{}, LabelMaxBody},
		{map[string]string{LabelMaxBody: "0"}, Edge{}, LabelMaxBody},
		{map[string]string{LabelMaxBody: "-1"}, Edge{}, LabelMaxBody},
	} {
		f := Function{ID: ID{"x", "ns"}, Labels: tt.labels}
		got, err := f.Edge()
		if tt.err == "" && (err != nil || got.Auth != tt.want.Auth || got.MaxBody != tt.want.MaxBody || strings.Join(got.Secrets, " ") != strings.Join(tt.want.Secrets, " ") || strings.Join(got.Methods, " ") != strings.Join(tt.want.Methods, " ")) {
			t.Errorf("%v: %+v, %v", tt.labels, got, err)
		}
		if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%v: %v, want an error with %q", tt.labels, err, tt.err)
		}
	}
}

func TestDomains(t *testing.T) {
	f := Function{Labels: map[string]string{LabelDomains: "Hello.Example.com, b.example.com 10.0.0.1 localhost *.example.com a_b.example.com -a.example.com x..example.com é.example.com a.example.com:443 " + strings.Repeat("a.", 127) + "com"}}
	if got := f.Domains(); !reflect.DeepEqual(got, []string{"hello.example.com", "b.example.com"}) {
		t.Errorf("%v", got)
	}
}
