package sandbox

import (
	"fmt"
	"maps"
	"slices"
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
	fragments := map[string][]gqlField{}
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
			p.name()
			fragments[n] = p.selection()
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

func expand(fields []gqlField, fragments map[string][]gqlField, depth int) ([]gqlField, *gqlError) {
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
			f.fields = inner
		}
		inner, err := expand(f.fields, fragments, depth+1)
		if err != nil {
			return nil, err
		}
		if f.name == "" {
			out = append(out, inner...)
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
				p.name()
				out = append(out, gqlField{fields: p.selection()})
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

// gqlSchema says which fields objects have, which arguments those take, and which fields inputs have.
type gqlSchema struct {
	objects map[string]map[string]gqlDef
	inputs  map[string]map[string]string // input type → field → type
	enums   map[string][]string
}

type gqlDef struct {
	typ  string
	args map[string]string
}

func base(typ string) string { return strings.Trim(typ, "[]!") }

// check validates op against the schema and returns the operation's arguments with the variables put in.
func (s *gqlSchema) check(op *gqlOperation, given map[string]any) *gqlError {
	root := map[string]string{"query": "QueryRoot", "mutation": "Mutation"}[op.kind]
	values, types := map[string]any{}, map[string]string{}
	for _, v := range op.vars {
		types[v.name] = v.typ
		value, ok := given[v.name]
		if !ok && v.hasDefault {
			value, ok = v.value, true
		}
		if !ok && !strings.HasSuffix(v.typ, "!") {
			continue
		}
		coerced, why := s.coerce(value, v.typ, false)
		if why != "" {
			return gqlErr("INVALID_VARIABLE", "Variable $%s of type %s was provided invalid value for %s", v.name, v.typ, why)
		}
		values[v.name] = coerced
	}
	used := map[string]bool{}
	if err := s.fields(op.fields, root, []any{op.kind}, values, types, used); err != nil {
		return err
	}
	for _, v := range op.vars {
		if !used[v.name] {
			return gqlErr("variableNotUsed", "Variable $%s is declared by %s but not used", v.name, cmpName(op.name))
		}
	}
	return nil
}

func cmpName(n string) string {
	if n == "" {
		return "anonymous query"
	}
	return n
}

func (s *gqlSchema) fields(fields []gqlField, object string, path []any, values map[string]any, types map[string]string, used map[string]bool) *gqlError {
	defs := s.objects[object]
	for i := range fields {
		f := &fields[i]
		here := append(slices.Clone(path), f.alias)
		if f.name == "__typename" {
			continue
		}
		def, ok := defs[f.name]
		if !ok {
			e := gqlErr("undefinedField", "Field '%s' doesn't exist on type '%s'", f.name, object)
			e.Path, e.Extensions["typeName"], e.Extensions["fieldName"] = here, object, f.name
			return e
		}
		_, composite := s.objects[base(def.typ)]
		if composite && len(f.fields) == 0 {
			e := gqlErr("selectionMismatch", "Field must have selections (field '%s' returns %s but has no selections. Did you mean '%s { ... }'?)", f.name, base(def.typ), f.name)
			e.Path = here
			return e
		}
		if !composite && len(f.fields) > 0 {
			e := gqlErr("selectionMismatch", "Selections can't be made on scalars (field '%s' returns %s but has selections)", f.name, base(def.typ))
			e.Path = here
			return e
		}
		args := map[string]any{}
		for name, raw := range f.args {
			typ, ok := def.args[name]
			if !ok {
				e := gqlErr("argumentNotAccepted", "Field '%s' doesn't accept argument '%s'", f.name, name)
				e.Path = here
				return e
			}
			if err := refs(raw, typ, types, used, f.name, name); err != nil {
				err.Path = here
				return err
			}
			value, present := substitute(raw, values)
			if !present {
				continue
			}
			coerced, why := s.coerce(value, typ, true)
			if why != "" {
				e := gqlErr("argumentLiteralsIncompatible", "Argument '%s' on Field '%s' has an invalid value (%s). Expected type '%s'.", name, f.name, why, typ)
				e.Path = here
				return e
			}
			args[name] = coerced
		}
		for name, typ := range def.args {
			if _, ok := args[name]; !ok && strings.HasSuffix(typ, "!") {
				e := gqlErr("missingRequiredArguments", "Field '%s' is missing required arguments: %s", f.name, name)
				e.Path = here
				return e
			}
		}
		f.args = args
		if err := s.fields(f.fields, base(def.typ), here, values, types, used); err != nil {
			return err
		}
	}
	return nil
}

// refs checks the variables in a literal: declared, and of a type that fits where they stand alone.
func refs(raw any, typ string, types map[string]string, used map[string]bool, field, arg string) *gqlError {
	switch v := raw.(type) {
	case gqlRef:
		declared, ok := types[string(v)]
		if !ok {
			return gqlErr("variableNotDefined", "Variable $%s is used by %s but not declared", string(v), field)
		}
		used[string(v)] = true
		if typ != "" && (strings.ReplaceAll(declared, "!", "") != strings.ReplaceAll(typ, "!", "") || strings.HasSuffix(typ, "!") && !strings.HasSuffix(declared, "!")) {
			return gqlErr("variableMismatch", "Nullability or type mismatch on variable $%s and argument %s (%s / %s)", string(v), arg, declared, typ)
		}
	case []any:
		for _, item := range v {
			if err := refs(item, "", types, used, field, arg); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, item := range v {
			if err := refs(item, "", types, used, field, arg); err != nil {
				return err
			}
		}
	}
	return nil
}

func substitute(raw any, values map[string]any) (any, bool) {
	switch v := raw.(type) {
	case gqlRef:
		value, ok := values[string(v)]
		return value, ok
	case []any:
		out := make([]any, 0, len(v))
		for _, item := range v {
			value, _ := substitute(item, values)
			out = append(out, value)
		}
		return out, true
	case map[string]any:
		out := map[string]any{}
		for k, item := range v {
			if value, ok := substitute(item, values); ok {
				out[k] = value
			}
		}
		return out, true
	}
	return raw, true
}

// coerce checks value against an input type; why names the place and the reason, "" for good.
func (s *gqlSchema) coerce(value any, typ string, literal bool) (out any, why string) {
	if inner, ok := strings.CutSuffix(typ, "!"); ok {
		if value == nil {
			return nil, "(Expected value to not be null)"
		}
		typ = inner
	}
	if value == nil {
		return nil, ""
	}
	if inner, ok := strings.CutPrefix(typ, "["); ok {
		inner = strings.TrimSuffix(inner, "]")
		list, ok := value.([]any)
		if !ok {
			list = []any{value} // one value counts as a list of one
		}
		res := make([]any, len(list))
		for i, item := range list {
			v, why := s.coerce(item, inner, literal)
			if why != "" {
				return nil, fmt.Sprintf("%d.%s", i, why)
			}
			res[i] = v
		}
		return res, ""
	}
	if fields, ok := s.inputs[typ]; ok {
		object, ok := value.(map[string]any)
		if !ok {
			return nil, fmt.Sprintf("(Expected %v to be a key-value object.)", value)
		}
		res := map[string]any{}
		for _, k := range slices.Sorted(maps.Keys(object)) {
			t, ok := fields[k]
			if !ok {
				return nil, fmt.Sprintf("%s (Field is not defined on %s)", k, typ)
			}
			v, why := s.coerce(object[k], t, literal)
			if why != "" {
				return nil, k + " " + why
			}
			res[k] = v
		}
		for k, t := range fields {
			if _, ok := res[k]; !ok && strings.HasSuffix(t, "!") {
				return nil, k + " (Expected value to not be null)"
			}
		}
		return res, ""
	}
	if names, ok := s.enums[typ]; ok {
		name, isEnum := value.(gqlEnum)
		if text, isText := value.(string); isText {
			name, isEnum = gqlEnum(text), true
		}
		if !isEnum || !slices.Contains(names, string(name)) {
			return nil, fmt.Sprintf("(Expected %q to be one of: %s)", fmt.Sprint(value), strings.Join(names, ", "))
		}
		return string(name), ""
	}
	switch v := value.(type) {
	case string:
		if typ == "Int" || typ == "Boolean" || typ == "Float" {
			return nil, fmt.Sprintf("(Could not coerce value %q to %s)", v, typ)
		}
		if typ == "ID" && !strings.HasPrefix(v, "gid://shopify/") {
			return nil, fmt.Sprintf("(Invalid global id '%s')", v)
		}
		return v, ""
	case bool:
		if typ == "Boolean" {
			return v, ""
		}
	case float64:
		if typ == "Float" || typ == "Int" && v == float64(int64(v)) {
			return v, ""
		}
	}
	return nil, fmt.Sprintf("(Could not coerce value %v to %s)", value, typ)
}

// project cuts data down to what was selected. A func stands for a field with arguments.
func project(data any, fields []gqlField, object string) any {
	switch v := data.(type) {
	case nil:
		return nil
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = project(item, fields, object)
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for _, f := range fields {
			if f.name == "__typename" {
				out[f.alias] = object
				continue
			}
			value := v[f.name]
			if fn, ok := value.(func(map[string]any) any); ok {
				value = fn(f.args)
			}
			out[f.alias] = project(value, f.fields, "")
		}
		return out
	}
	return data
}
