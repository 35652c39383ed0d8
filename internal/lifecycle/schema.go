package lifecycle

import (
	"maps"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stagewire/stagewire/internal/hub"
)

// ModelSchema returns the JSON Schema (2020-12) of a model's file, for editors. It is made from the table of keys that the loader
// reads; kinds are those that tests can name.
func ModelSchema(kinds *hub.Kinds) ([]byte, error) {
	return schema("Stagewire model", FormModel, kinds)
}

// ReactionSchema returns the JSON Schema of a file of reactions.
func ReactionSchema(kinds *hub.Kinds) ([]byte, error) {
	return schema("Stagewire reactions", FormReactions, kinds)
}

func schema(title, form string, kinds *hub.Kinds) ([]byte, error) {
	s := schemer{kinds: kinds, defs: map[string]any{}}
	root := maps.Clone(s.form(form))
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = title
	root["$defs"] = s.defs
	return json.Marshal(root, json.Deterministic(true), jsontext.WithIndent("  "))
}

// schemer says forms in JSON Schema. YAML reads a text such as 5 or yes as a number or a truth value, so texts may be those too.
type schemer struct {
	kinds *hub.Kinds
	defs  map[string]any
}

type object = map[string]any

var (
	textSchema     = object{"type": []string{"string", "number", "boolean"}}
	nameSchema     = object{"type": "string", "pattern": nameForm.String()}
	durationSchema = object{"type": "string", "pattern": `^[0-9]+(\.[0-9]+)?(ms|s|m|h|d|w|mo)$`}
)

func listOf(items object) object { return object{"type": "array", "items": items} }

func oneOrMore(item object) object { return object{"oneOf": []any{item, listOf(item)}} }

// form returns the schema of a mapping of that form.
func (s schemer) form(form string) object {
	properties, required := object{}, []string{}
	for _, k := range Keys(form) {
		p := maps.Clone(s.value(form, k))
		p["description"] = k.Doc
		if k.Later {
			p["description"], p["deprecated"] = k.Doc+" Not supported yet.", true
		}
		properties[k.Name] = p
		if k.Needed {
			required = append(required, k.Name)
		}
	}
	out := object{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		out["required"] = required
	}
	switch form {
	case FormRule:
		out["oneOf"] = []any{object{"required": []string{"stage", "when"}}, object{"required": []string{"otherwise"}}}
	case FormEvent:
		out["additionalProperties"] = true // the kind's own
		own := object{}
		for _, kind := range s.kinds.All() {
			for name, t := range kind.Properties {
				if properties[name] == nil {
					own[name] = object{"description": "Of events such as " + kind.Name + ": " + string(t) + "."}
				}
			}
		}
		maps.Copy(properties, own)
	case FormStep:
		out["minProperties"], out["maxProperties"] = 1, 2
	}
	return out
}

// ref returns a reference to the form, which it defines where that has not been done.
func (s schemer) ref(form string) object {
	switch form {
	case "":
		return object{}
	case formParam:
		return object{"anyOf": []any{textSchema, listOf(textSchema)}}
	case formCondition:
		return textSchema
	}
	if s.defs[form] == nil {
		s.defs[form] = true // it may refer to itself
		s.defs[form] = s.form(form)
	}
	return object{"$ref": "#/$defs/" + form}
}

// value returns the schema of what a key takes.
func (s schemer) value(form string, k Key) object {
	if len(k.Values) > 0 {
		return object{"enum": k.Values}
	}
	switch {
	case form == FormEvent && k.Name == "kind":
		names := s.kinds.Of("any")
		slices.Sort(names)
		return object{"anyOf": []any{object{"enum": names}, object{"type": "string", "pattern": `^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$`}}}
	case k.Name == "model" && form == FormModel, k.Name == "name" && form == FormStage:
		return nameSchema
	}
	switch k.Takes {
	case TakesTexts, TakesStages:
		return oneOrMore(textSchema)
	case TakesDuration:
		return durationSchema
	case TakesFlag:
		return object{"type": "boolean"}
	case TakesShare:
		return object{"type": "number", "exclusiveMinimum": 0, "maximum": 1}
	case TakesCount:
		return object{"type": "integer", "minimum": 0}
	case TakesStage:
		return object{"type": "string"}
	case TakesLabels:
		return object{"type": "object", "additionalProperties": textSchema}
	case TakesMap:
		return s.ref(k.Of)
	case TakesList:
		return listOf(s.ref(k.Of))
	case TakesNames:
		return object{"type": "object", "additionalProperties": s.ref(k.Of)}
	case TakesAny:
		if k.Of == "" {
			return object{}
		}
		return object{"anyOf": []any{s.ref(k.Of), listOf(s.ref(k.Of)), textSchema}}
	}
	return textSchema
}
