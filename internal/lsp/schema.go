package lsp

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
)

// Schema is a JSON Schema that tells which keys there are, read once.
type Schema struct{ root map[string]any }

// ParseSchema reads a JSON Schema as lifecycle and config make them.
func ParseSchema(text []byte) (*Schema, error) {
	s := &Schema{}
	if err := json.Unmarshal(text, &s.root); err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	return s, nil
}

type node = map[string]any

// expand follows references and returns the alternatives of a node.
func (s *Schema) expand(n node, depth int) []node {
	if depth > 10 || n == nil {
		return nil
	}
	if ref, ok := n["$ref"].(string); ok {
		defs, _ := s.root["$defs"].(node)
		target, _ := defs[strings.TrimPrefix(ref, "#/$defs/")].(node)
		return s.expand(target, depth+1)
	}
	out := []node{n}
	for _, key := range []string{"oneOf", "anyOf"} {
		list, _ := n[key].([]any)
		for _, item := range list {
			item, _ := item.(node)
			out = append(out, s.expand(item, depth+1)...)
		}
	}
	return out
}

// at returns what can stand at a path: keys, and [] for an item of a list.
func (s *Schema) at(path []string) []node {
	if s == nil {
		return nil
	}
	nodes := s.expand(s.root, 0)
	for _, step := range path {
		var next []node
		for _, n := range nodes {
			var inner node
			if step == "[]" {
				inner, _ = n["items"].(node)
			} else {
				properties, _ := n["properties"].(node)
				if inner, _ = properties[step].(node); inner == nil {
					inner, _ = n["additionalProperties"].(node)
				}
			}
			next = append(next, s.expand(inner, 0)...)
		}
		nodes = next
	}
	return nodes
}

// keys returns the keys that can stand in the mapping at a path, with their descriptions.
func (s *Schema) keys(path []string) []entry {
	found := map[string]entry{}
	for _, n := range s.at(path) {
		properties, _ := n["properties"].(node)
		for name, p := range properties {
			p, _ := p.(node)
			about, _ := p["description"].(string)
			found[name] = entry{name: name, doc: about, kind: kindProperty}
		}
	}
	out := slices.Collect(maps.Values(found))
	slices.SortFunc(out, func(a, b entry) int { return cmp.Compare(a.name, b.name) })
	return out
}

// values returns the only values that can stand at a path, if there are any.
func (s *Schema) values(path []string) []entry {
	var out []entry
	for _, n := range s.at(path) {
		list, _ := n["enum"].([]any)
		for _, v := range list {
			out = append(out, entry{name: fmt.Sprint(v), kind: kindValue})
		}
		if n["type"] == "boolean" {
			out = append(out, entry{name: "true", kind: kindValue}, entry{name: "false", kind: kindValue})
		}
	}
	return out
}

// about returns the description of what stands at a path.
func (s *Schema) about(path []string) string {
	if len(path) == 0 {
		return ""
	}
	for _, k := range s.keys(path[:len(path)-1]) {
		if k.name == path[len(path)-1] {
			return k.doc
		}
	}
	return ""
}
