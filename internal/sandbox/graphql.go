package sandbox

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A small GraphQL engine: parser, checker against a schema, projection. It knows what Shopify's Admin API is asked here
// (operations, variables, arguments, aliases, fragments) and refuses the rest. Specification: spec.graphql.org, October 2021.

// gqlOperation is the one operation of a document.
type gqlOperation struct {
	kind   string // query or mutation
	name   string
	vars   []gqlVar
	fields []gqlField
}

type gqlVar struct {
	name, typ  string
	value      any // default
	hasDefault bool
}

type gqlField struct {
	alias, name string
	args        map[string]any // literals, or gqlRef
	fields      []gqlField
	spread      string // name of a fragment; the field itself is empty then
	on          string // only for objects of this type
	typ         string // of what it gives; filled in by check
}

// gqlFragment is a named fragment.
type gqlFragment struct {
	on     string
	fields []gqlField
}

type (
	gqlRef  string // a variable
	gqlEnum string
)

// gqlError is one entry of the top-level errors.
type gqlError struct {
	Message    string         `json:"message"`
	Path       []any          `json:"path,omitempty"`
	Extensions map[string]any `json:"extensions,omitempty"`
}

func gqlErr(code, format string, args ...any) *gqlError {
	e := &gqlError{Message: fmt.Sprintf(format, args...)}
	if code != "" {
		e.Extensions = map[string]any{"code": code}
	}
	return e
}

type gqlParser struct {
	tokens []string
	at     int
	err    *gqlError
	depth  int
}

func gqlTokens(text string) ([]string, *gqlError) {
	var out []string
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == ',':
			i++
		case c == '#':
			for i < len(text) && text[i] != '\n' {
				i++
			}
		case strings.HasPrefix(text[i:], "..."):
			out = append(out, "...")
			i += 3
		case strings.IndexByte("{}()[]:!$=@|&", c) >= 0:
			out = append(out, string(c))
			i++
		case c == '"':
			j := i + 1
			for j < len(text) && text[j] != '"' && text[j] != '\n' {
				if text[j] == '\\' {
					j++
				}
				j++
			}
			if j >= len(text) || text[j] != '"' {
				return nil, gqlErr("", "syntax error, unterminated string")
			}
			out = append(out, text[i:j+1])
			i = j + 1
		case c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-':
			j := i + 1
			for j < len(text) && (text[j] == '_' || text[j] == '.' || text[j] >= 'a' && text[j] <= 'z' || text[j] >= 'A' && text[j] <= 'Z' || text[j] >= '0' && text[j] <= '9') {
				j++
			}
			out = append(out, text[i:j])
			i = j
		default:
			r, _ := utf8.DecodeRuneInString(text[i:])
			return nil, gqlErr("", "syntax error, unexpected invalid token (%q)", r)
		}
	}
	return out, nil
}

func (p *gqlParser) peek() string {
	if p.at < len(p.tokens) {
		return p.tokens[p.at]
	}
	return ""
}

func (p *gqlParser) next() string {
	t := p.peek()
	p.at++
	return t
}

func (p *gqlParser) fail(found string) {
	if p.err == nil {
		if found == "" {
			found = "end of file"
		}
		p.err = gqlErr("", "syntax error, unexpected %s", found)
	}
	p.at = len(p.tokens)
}

func (p *gqlParser) want(t string) {
	if found := p.next(); found != t {
		p.fail(found)
	}
}

func (p *gqlParser) name() string {
	t := p.next()
	if t == "" || t[0] != '_' && (t[0] < 'A' || t[0] > 'z' || t[0] > 'Z' && t[0] < 'a') || strings.Contains(t, ".") {
		p.fail(t)
		return ""
	}
	return t
}

// parseGraphQL returns the operation of that name, or the only one where name is empty.
func parseGraphQL(text, name string) (*gqlOperation, *gqlError) {
	tokens, err := gqlTokens(text)
	if err != nil {
		return nil, err
	}
	p := &gqlParser{tokens: tokens}
	var ops []*gqlOperation
	fragments := map[string]gqlFragment{}
	for p.err == nil && p.at < len(p.tokens) {
		switch t := p.peek(); t {
		case "{":
			ops = append(ops, &gqlOperation{kind: "query", fields: p.selection()})
		case "query", "mutation":
			p.next()
			op := &gqlOperation{kind: t}
			if n := p.peek(); n != "{" && n != "(" {
				op.name = p.name()
			}
			if p.peek() == "(" {
				op.vars = p.variables()
			}
			op.fields = p.selection()
			ops = append(ops, op)
		case "fragment":
			p.next()
			n := p.name()
			p.want("on")
			on := p.name()
			fragments[n] = gqlFragment{on, p.selection()}
		default:
			p.fail(t)
		}
	}
	if p.err != nil {
		return nil, p.err
	}
	for _, op := range ops {
		if len(ops) > 1 && op.name != name || name != "" && op.name != name {
			continue
		}
		fields, err := expand(op.fields, fragments, 0)
		if err != nil {
			return nil, err
		}
		op.fields = fields
		return op, nil
	}
	return nil, gqlErr("", "An operation name is required")
}

// expand puts the fields of fragments where the fragments stand, each marked with the type it is for.
func expand(fields []gqlField, fragments map[string]gqlFragment, depth int) ([]gqlField, *gqlError) {
	if depth > 20 {
		return nil, gqlErr("", "fragments nest too deep")
	}
	var out []gqlField
	for _, f := range fields {
		if f.spread != "" {
			inner, ok := fragments[f.spread]
			if !ok {
				return nil, gqlErr("useAndDefineFragment", "Fragment %s was used, but not defined", f.spread)
			}
			f.fields, f.on = inner.fields, inner.on
		}
		inner, err := expand(f.fields, fragments, depth+1)
		if err != nil {
			return nil, err
		}
		if f.name == "" {
			for _, in := range inner {
				if in.on == "" {
					in.on = f.on
				}
				out = append(out, in)
			}
			continue
		}
		f.fields = inner
		out = append(out, f)
	}
	return out, nil
}

func (p *gqlParser) variables() []gqlVar {
	var out []gqlVar
	p.want("(")
	for p.err == nil && p.peek() != ")" {
		p.want("$")
		v := gqlVar{name: p.name()}
		p.want(":")
		v.typ = p.typ()
		if p.peek() == "=" {
			p.next()
			v.value, v.hasDefault = p.value(), true
		}
		out = append(out, v)
	}
	p.want(")")
	return out
}

func (p *gqlParser) typ() string {
	var t string
	if p.peek() == "[" {
		p.next()
		t = "[" + p.typ() + "]"
		p.want("]")
	} else {
		t = p.name()
	}
	if p.peek() == "!" {
		p.next()
		t += "!"
	}
	return t
}

func (p *gqlParser) selection() []gqlField {
	p.depth++
	defer func() { p.depth-- }()
	if p.depth > 30 {
		p.fail("{")
		return nil
	}
	var out []gqlField
	p.want("{")
	for p.err == nil && p.peek() != "}" {
		if p.peek() == "..." {
			p.next()
			switch {
			case p.peek() == "on":
				p.next()
				on := p.name()
				out = append(out, gqlField{on: on, fields: p.selection()})
			case p.peek() == "{":
				out = append(out, gqlField{fields: p.selection()})
			default:
				out = append(out, gqlField{spread: p.name()})
			}
			continue
		}
		f := gqlField{name: p.name()}
		f.alias = f.name
		if p.peek() == ":" {
			p.next()
			f.name = p.name()
		}
		if p.peek() == "(" {
			p.next()
			f.args = map[string]any{}
			for p.err == nil && p.peek() != ")" {
				n := p.name()
				p.want(":")
				f.args[n] = p.value()
			}
			p.want(")")
		}
		if p.peek() == "{" {
			f.fields = p.selection()
		}
		out = append(out, f)
	}
	p.want("}")
	if p.err == nil && len(out) == 0 {
		p.fail("}")
	}
	return out
}

func (p *gqlParser) value() any {
	p.depth++
	defer func() { p.depth-- }()
	if p.depth > 30 {
		p.fail("value")
		return nil
	}
	switch t := p.next(); {
	case t == "$":
		return gqlRef(p.name())
	case t == "[":
		list := []any{}
		for p.err == nil && p.peek() != "]" {
			list = append(list, p.value())
		}
		p.want("]")
		return list
	case t == "{":
		object := map[string]any{}
		for p.err == nil && p.peek() != "}" {
			n := p.name()
			p.want(":")
			object[n] = p.value()
		}
		p.want("}")
		return object
	case t == "null":
		return nil
	case t == "true", t == "false":
		return t == "true"
	case strings.HasPrefix(t, `"`):
		s, err := strconv.Unquote(t)
		if err != nil {
			p.fail(t)
		}
		return s
	case t != "" && (t[0] == '-' || t[0] >= '0' && t[0] <= '9'):
		n, err := strconv.ParseFloat(t, 64)
		if err != nil {
			p.fail(t)
		}
		return n
	case t != "" && (t[0] == '_' || t[0] >= 'A' && t[0] <= 'z'):
		return gqlEnum(t)
	default:
		p.fail(t)
		return nil
	}
}
