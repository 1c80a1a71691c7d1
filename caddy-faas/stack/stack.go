// Package stack reads faas-cli's stack file (stack.yml): the functions of a
// project, each with its folder, command and environment.
//
// Keys that only matter to building, publishing or finding a gateway are
// accepted and ignored. Keys that faas-cli doesn't know are errors, so that a
// slip of the keyboard is not silent; those that begin with x- are allowed
// for notes and anchors. ${NAME} and ${NAME:-default} are replaced from the
// environment before the file is parsed; $${ stands for ${.
package stack

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/caddy-faas/faas/caddy-faas/faas"
)

const (
	// MaxSize bounds the file, and each environment file, in bytes.
	MaxSize = 1 << 20
	// MaxFunctions bounds the functions of one file.
	MaxFunctions = 1000
)

// Read reads a stack file. The folders that it names are relative to its own.
// files are what it was read from, it and environment files; on error as far as reading came.
func Read(path string) (functions []faas.Function, files []string, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, nil, err
	}
	load := func(path string) ([]byte, error) {
		if !slices.Contains(files, path) {
			files = append(files, path)
		}
		return readFile(path)
	}
	data, err := load(path)
	if err != nil {
		return nil, files, err
	}
	functions, err = parse(data, filepath.Dir(path), os.LookupEnv, load)
	if err != nil {
		return nil, files, fmt.Errorf("%s: %w", path, err)
	}
	return functions, files, nil
}

// Gateway is the URL that a stack file gives as provider.gateway; empty if none.
func Gateway(path string) (string, error) {
	data, err := readFile(path)
	if err == nil {
		data, err = substitute(data, os.LookupEnv)
	}
	if err != nil {
		return "", err
	}
	root, err := document(data)
	if err != nil || root == nil {
		return "", err
	}
	var in struct{ Provider struct{ Gateway text } }
	if err := root.Decode(&in); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return string(in.Provider.Gateway), nil
}

// Parse reads a stack file's text. Folders and environment files are relative
// to dir; variables are looked up with env.
func Parse(data []byte, dir string, env func(string) (string, bool)) ([]faas.Function, error) {
	return parse(data, dir, env, readFile)
}

func parse(data []byte, dir string, env func(string) (string, bool), load func(string) ([]byte, error)) ([]faas.Function, error) {
	data, err := substitute(data, env)
	if err != nil {
		return nil, err
	}
	root, err := document(data)
	if err != nil || root == nil {
		return nil, err
	}
	if err := known(root, "version", "provider", "functions", "configuration"); err != nil {
		return nil, err
	}
	var functions []faas.Function
	for key, value := range pairs(root) {
		if key.Value != "functions" {
			continue
		}
		if functions != nil {
			return nil, fmt.Errorf("line %d: functions: given twice", key.Line)
		}
		if functions, err = parseFunctions(resolve(value), dir, load); err != nil {
			return nil, err
		}
	}
	return functions, nil
}

func parseFunctions(node *yaml.Node, dir string, load func(string) ([]byte, error)) ([]faas.Function, error) {
	functions := []faas.Function{}
	if node.Tag == "!!null" {
		return functions, nil
	}
	if node.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: functions: want names with their settings", node.Line)
	}
	if len(node.Content)/2 > MaxFunctions {
		return nil, fmt.Errorf("line %d: %d functions, more than %d", node.Line, len(node.Content)/2, MaxFunctions)
	}
	for key, value := range pairs(node) {
		if strings.HasPrefix(key.Value, "x-") {
			continue
		}
		fn, err := parseFunction(key.Value, resolve(value), dir, load)
		if err == nil && slices.ContainsFunc(functions, func(f faas.Function) bool { return f.ID == fn.ID }) {
			err = errors.New("given twice")
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: function %s: %w", key.Line, key.Value, err)
		}
		functions = append(functions, fn)
	}
	return functions, nil
}

// An entry is one function as it stands in the file.
type entry struct {
	Handler         text
	Image           text
	FProcess        text
	Environment     map[string]text
	EnvironmentFile []text `yaml:"environment_file"`
	Labels          map[string]text
	Annotations     map[string]text
	Limits          resources
	Requests        resources
	Secrets         []text
	Constraints     []text
	Namespace       text
	ReadOnly        bool `yaml:"readonly_root_filesystem"`
}

var entryKeys = []string{
	"handler", "image", "fprocess", "environment", "environment_file", "labels", "annotations", "limits", "requests",
	"secrets", "constraints", "namespace", "readonly_root_filesystem",
	// of building and publishing
	"lang", "skip_build", "build_args", "build_options", "build_secrets", "copy_extra", "platforms", "publish",
}

type resources map[string]text

// UnmarshalYAML refuses what it doesn't know.
func (r *resources) UnmarshalYAML(node *yaml.Node) error {
	if err := known(node, faas.Memory, faas.CPU, "nvidia.com/gpu"); err != nil {
		return fmt.Errorf("%w: want memory, cpu or nvidia.com/gpu", err)
	}
	return node.Decode((*map[string]text)(r))
}

// text is a scalar of any kind, as it was written: 007 and yes stay what they are.
type text string

// UnmarshalYAML refuses lists and maps.
func (t *text) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind != yaml.ScalarNode {
		return fmt.Errorf("line %d: want a single value", node.Line)
	}
	*t = text(node.Value)
	return nil
}

func parseFunction(name string, node *yaml.Node, dir string, load func(string) ([]byte, error)) (fn faas.Function, err error) {
	if node.Kind != yaml.MappingNode {
		return fn, errors.New("want its settings")
	}
	if err := known(node, entryKeys...); err != nil {
		return fn, err
	}
	var in entry
	if err := node.Decode(&in); err != nil {
		return fn, err
	}
	fn = faas.Function{
		ID:    faas.ID{Name: name, Namespace: string(in.Namespace)},
		Image: string(in.Image), Process: string(in.FProcess),
		Env: plainMap(in.Environment), Labels: plainMap(in.Labels), Annotations: plainMap(in.Annotations),
		Secrets: plainList(in.Secrets), Constraints: plainList(in.Constraints),
		Limits: plainMap(in.Limits), Requests: plainMap(in.Requests),
		ReadOnlyRootFilesystem: in.ReadOnly,
	}
	if fn.Namespace == "" {
		fn.Namespace = faas.DefaultNamespace
	}
	if in.Handler != "" {
		fn.Handler = absolute(dir, string(in.Handler))
	}
	for _, file := range in.EnvironmentFile {
		if err := addEnvironment(&fn, absolute(dir, string(file)), load); err != nil {
			return fn, err
		}
	}
	if fn.Process == "" && fn.Image == "" && fn.Env["fprocess"] == "" {
		return fn, errors.New("neither fprocess nor image is given")
	}
	return fn, fn.Validate()
}

// addEnvironment reads an environment file; as with faas-cli its values win over those in the stack file.
func addEnvironment(fn *faas.Function, path string, load func(string) ([]byte, error)) error {
	data, err := load(path)
	if err != nil {
		return fmt.Errorf("environment_file: %w", err)
	}
	root, err := document(data)
	if err != nil {
		return fmt.Errorf("environment_file %s: %w", path, err)
	}
	var in struct{ Environment map[string]text }
	if root != nil {
		if err = known(root, "environment"); err == nil {
			err = root.Decode(&in)
		}
	}
	if err != nil {
		return fmt.Errorf("environment_file %s: %w", path, err)
	}
	for name, value := range in.Environment {
		if fn.Env == nil {
			fn.Env = map[string]string{}
		}
		fn.Env[name] = string(value)
	}
	return nil
}

func absolute(dir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err == nil && len(data) > MaxSize {
		err = errTooLarge
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, nil
}

var errTooLarge = fmt.Errorf("larger than %d bytes", MaxSize)

// document parses one YAML document whose root is a mapping; nil if there is none.
func document(data []byte) (*yaml.Node, error) {
	in := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	switch err := in.Decode(&doc); {
	case err == io.EOF:
		return nil, nil
	case err != nil:
		return nil, err
	}
	if in.Decode(&more) != io.EOF {
		return nil, errors.New("more than one YAML document")
	}
	root := resolve(doc.Content[0])
	switch {
	case root.Tag == "!!null":
		return nil, nil
	case root.Kind != yaml.MappingNode:
		return nil, fmt.Errorf("line %d: want keys with values", root.Line)
	}
	return root, nil
}

// pairs are a mapping's keys and values.
func pairs(node *yaml.Node) func(func(key, value *yaml.Node) bool) {
	return func(yield func(key, value *yaml.Node) bool) {
		for i := 0; i+1 < len(node.Content); i += 2 {
			if !yield(node.Content[i], node.Content[i+1]) {
				return
			}
		}
	}
}

func resolve(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

// known refuses a mapping's keys that are not among these, x- ones excepted; those of the mappings that it merges (<<), too.
func known(node *yaml.Node, keys ...string) error {
	return knownMerged(node, keys, map[*yaml.Node]bool{})
}

// knownMerged is known for a mapping, or for a list of them that is merged. Of what was seen before nothing is looked at again: merging
// may go in circles, which only the decoder refuses.
func knownMerged(node *yaml.Node, keys []string, seen map[*yaml.Node]bool) error {
	node = resolve(node)
	if seen[node] {
		return nil
	}
	seen[node] = true
	if node.Kind == yaml.SequenceNode {
		for _, part := range node.Content {
			if err := knownMerged(part, keys, seen); err != nil {
				return err
			}
		}
		return nil
	}
	for key, value := range pairs(node) {
		switch {
		case key.Kind == yaml.ScalarNode && key.Tag == "!!merge":
			if err := knownMerged(value, keys, seen); err != nil {
				return err
			}
		case key.Kind != yaml.ScalarNode || !slices.Contains(keys, key.Value) && !strings.HasPrefix(key.Value, "x-"):
			return fmt.Errorf("line %d: unknown key %q", key.Line, key.Value)
		}
	}
	return nil
}

func plainMap(in map[string]text) map[string]string {
	if in == nil {
		return nil
	}
	out := make(map[string]string, len(in))
	for name, value := range in {
		out[name] = string(value)
	}
	return out
}

func plainList(in []text) (out []string) {
	for _, value := range in {
		out = append(out, string(value))
	}
	return out
}
