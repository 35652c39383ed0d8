package sandbox

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

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
		object, defs := object, defs
		if f.on != "" && f.on != object {
			if s.objects[f.on] == nil {
				return gqlErr("undefinedType", "No such type %s, so it can't be a fragment condition", f.on)
			}
			if object != "Node" {
				return gqlErr("cannotSpreadFragment", "Fragment on %s can't be spread inside %s", f.on, object)
			}
			object, defs = f.on, s.objects[f.on]
		}
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
		f.args, f.typ = args, base(def.typ)
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
			if typ, ok := v["__typename"]; ok {
				object = text(typ)
			}
			if f.on != "" && object != "" && f.on != object {
				continue
			}
			if f.name == "__typename" {
				out[f.alias] = object
				continue
			}
			value := v[f.name]
			if fn, ok := value.(func(map[string]any) any); ok {
				value = fn(f.args)
			}
			out[f.alias] = project(value, f.fields, f.typ)
		}
		return out
	}
	return data
}
