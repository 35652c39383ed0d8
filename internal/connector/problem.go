package connector

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Problem is one mistake in what a person wrote, with its place. Line and Column count from 1; 0 is unknown.
type Problem struct {
	File         string
	Line, Column int
	Path         string // e.g. receive.events[3].identifiers.email
	Message      string
	Suggestion   string // "" where there is none
}

// Error gives "file:line:column: path: message (suggestion)".
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	if p.Path != "" {
		b.WriteString(": " + p.Path)
	}
	b.WriteString(": " + p.Message)
	if p.Suggestion != "" {
		b.WriteString(" (" + p.Suggestion + ")")
	}
	return b.String()
}

// suggest returns "did you mean …?" for the nearest of known, or "".
func suggest(name string, known []string) string {
	best, distance := "", len(name)/2+1
	for _, k := range known {
		if d := editDistance(strings.ToLower(name), strings.ToLower(k)); d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", best)
}

// editDistance counts insertions, deletions, substitutions and swaps of neighbours.
func editDistance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	two, one, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range one {
		one[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(one[j]+1, cur[j-1]+1, one[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], two[j-2]+1)
			}
		}
		two, one, cur = one, cur, two
	}
	return one[len(b)]
}

// loader reads one manifest and gathers all its mistakes.
type loader struct {
	file     string
	problems []error
	names    members // member names that expressions over the body can read
	dynamic  bool    // some expression reads members by computed names: keep them all
	settings map[string]Setting
	compiled map[compileKey]*expression
	// usesSettings: some expression reads them, so that they are worth preparing for each webhook.
	usesSettings bool
}

// at is a YAML node with its path from the root; node is nil where the key is absent.
type at struct {
	*loader
	node *yaml.Node
	path string
}

func (a at) problem(suggestion, format string, args ...any) {
	p := Problem{File: a.file, Path: a.path, Message: fmt.Sprintf(format, args...), Suggestion: suggestion}
	if a.node != nil {
		p.Line, p.Column = a.node.Line, a.node.Column
	}
	a.problems = append(a.problems, p)
}

func (a at) absent() bool {
	return a.node == nil || a.node.Kind == 0 || a.node.Kind == yaml.ScalarNode && a.node.Tag == "!!null"
}

func (a at) child(node *yaml.Node, key string) at {
	var path string
	switch {
	case strings.HasPrefix(key, "["), a.path == "":
		path = a.path + key
	default:
		path = a.path + "." + key
	}
	return at{a.loader, node, path}
}

// entry is one key of a mapping.
type entry struct {
	key   string
	keyAt at
	at
}

// entries lists a mapping in its own order; a key given twice is a mistake.
func (a at) entries() []entry {
	if a.absent() {
		return nil
	}
	if a.node.Kind != yaml.MappingNode {
		a.problem("", "must be a mapping")
		return nil
	}
	var out []entry
	seen := map[string]bool{}
	for i := 0; i+1 < len(a.node.Content); i += 2 {
		k, v := a.node.Content[i], a.node.Content[i+1]
		if k.Kind != yaml.ScalarNode || v.Kind == yaml.AliasNode {
			a.child(k, k.Value).problem("", "keys are plain text, and anchors and aliases are not supported")
			continue
		}
		e := entry{k.Value, a.child(k, k.Value), a.child(v, k.Value)}
		if seen[k.Value] {
			e.keyAt.problem("", "is given twice")
			continue
		}
		seen[k.Value] = true
		out = append(out, e)
	}
	return out
}

// object reads a mapping whose keys are known; others are mistakes.
func (a at) object(known ...string) map[string]at {
	out := make(map[string]at, len(known))
	for _, e := range a.entries() {
		if !slices.Contains(known, e.key) {
			e.keyAt.problem(suggest(e.key, known), "unknown key %q", e.key)
			continue
		}
		out[e.key] = e.at
	}
	for _, k := range known {
		if _, ok := out[k]; !ok {
			out[k] = a.child(nil, k)
			// A missing key is reported where its parent stands.
			if a.node != nil {
				o := out[k]
				o.node = &yaml.Node{Line: a.node.Line, Column: a.node.Column}
				out[k] = o
			}
		}
	}
	return out
}

// list reads a sequence; a single value counts as a list of one.
func (a at) list() []at {
	if a.absent() {
		return nil
	}
	if a.node.Kind != yaml.SequenceNode {
		return []at{a}
	}
	out := make([]at, 0, len(a.node.Content))
	for i, n := range a.node.Content {
		if n.Kind == yaml.AliasNode {
			a.child(n, fmt.Sprintf("[%d]", i)).problem("", "anchors and aliases are not supported")
			continue
		}
		out = append(out, a.child(n, fmt.Sprintf("[%d]", i)))
	}
	return out
}

func (a at) text() string {
	if a.absent() {
		return ""
	}
	if a.node.Kind != yaml.ScalarNode {
		a.problem("", "must be text")
		return ""
	}
	return a.node.Value
}

func (a at) texts() []string {
	var out []string
	for _, x := range a.list() {
		if s := x.text(); s != "" {
			out = append(out, s)
		}
	}
	return out
}

func (a at) oneOf(fallback string, known ...string) string {
	s := a.text()
	if s == "" {
		return fallback
	}
	if !slices.Contains(known, s) {
		a.problem(suggest(s, known), "%q is none of %s", s, strings.Join(known, ", "))
		return fallback
	}
	return s
}

func (a at) boolean() bool {
	switch s := a.text(); s {
	case "", "false":
		return false
	case "true":
		return true
	default:
		a.problem("", "%q is neither true nor false", s)
		return false
	}
}
