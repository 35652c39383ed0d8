package server

import (
	"reflect"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/gofiber/fiber/v2"
)

// openapi answers with the OpenAPI 3.1 document of the routes. It is open to all: it says what exists, not what is in it.
func (s *Server) openapi(c *fiber.Ctx) error { return ok(c, OpenAPI(s.opts.Version)) }

// OpenAPI returns the document, made from the table of routes and the Go types of their bodies.
func OpenAPI(version string) map[string]any {
	w := schemaWriter{}
	paths := map[string]any{}
	problem := map[string]any{"description": "What went wrong.", "content": map[string]any{
		"application/problem+json": map[string]any{"schema": w.of(reflect.TypeFor[Problem]())},
	}}
	for i := range routes {
		r := &routes[i]
		var parts []string
		parameters := []any{}
		for part := range strings.SplitSeq(r.path, "/") {
			if name, ok := strings.CutPrefix(part, ":"); ok {
				part = "{" + name + "}"
				parameters = append(parameters, map[string]any{"name": name, "in": "path", "required": true, "schema": map[string]any{"type": "string"}})
			}
			parts = append(parts, part)
		}
		for _, p := range r.query {
			parameters = append(parameters, map[string]any{"name": p.name, "in": "query", "description": p.about, "schema": map[string]any{"type": "string"}})
		}
		operation := map[string]any{
			"operationId": r.id, "summary": r.summary, "description": "Takes the role " + r.role + ".", "parameters": parameters,
			"responses": map[string]any{
				"200": map[string]any{"description": "OK", "content": map[string]any{
					"application/json": map[string]any{"schema": w.of(reflect.TypeOf(r.response))},
				}},
				"default": problem,
			},
		}
		if r.request != nil {
			operation["requestBody"] = map[string]any{"required": true, "content": map[string]any{
				"application/json": map[string]any{"schema": w.of(reflect.TypeOf(r.request))},
			}}
		}
		path := base + strings.Join(parts, "/")
		if paths[path] == nil {
			paths[path] = map[string]any{}
		}
		paths[path].(map[string]any)[strings.ToLower(r.method)] = operation
	}
	return map[string]any{
		"openapi":  "3.1.0",
		"info":     map[string]any{"title": "Stagewire", "version": version, "license": map[string]any{"name": "Apache-2.0", "identifier": "Apache-2.0"}},
		"paths":    paths,
		"security": []any{map[string]any{"bearer": []string{}}},
		"components": map[string]any{
			"securitySchemes": map[string]any{"bearer": map[string]any{"type": "http", "scheme": "bearer"}},
			"schemas":         map[string]any(w),
		},
	}
}

// schemaWriter gathers the schemas of named types.
type schemaWriter map[string]any

func (w schemaWriter) of(t reflect.Type) map[string]any {
	switch t {
	case reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case reflect.TypeFor[[]byte]():
		return map[string]any{"type": "string", "contentEncoding": "base64"}
	case reflect.TypeFor[jsontext.Value]():
		return map[string]any{}
	}
	switch t.Kind() {
	case reflect.Pointer:
		if inner := w.of(t.Elem()); inner["$ref"] == nil {
			if text, ok := inner["type"].(string); ok {
				inner["type"] = []string{text, "null"}
			}
			return inner
		}
		return map[string]any{"anyOf": []any{w.of(t.Elem()), map[string]any{"type": "null"}}}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": w.of(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": w.of(t.Elem())}
	case reflect.Struct:
		return w.object(t)
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return map[string]any{"type": "integer"}
	case reflect.Float64:
		return map[string]any{"type": "number"}
	default:
		return map[string]any{} // any
	}
}

// object writes a struct's schema under its name and refers to it: Clause holds clauses.
func (w schemaWriter) object(t reflect.Type) map[string]any {
	name := t.Name()
	if before, element, generic := strings.Cut(name, "["); generic { // List[…/server.Customer]
		name = strings.TrimSuffix(element[strings.LastIndex(element, ".")+1:], "]") + before
	}
	ref := map[string]any{"$ref": "#/components/schemas/" + name}
	if w[name] != nil {
		return ref
	}
	properties, required := map[string]any{}, []string{}
	w[name] = map[string]any{"type": "object", "properties": properties}
	for f := range t.Fields() {
		key, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if key == "" || key == "-" {
			continue
		}
		properties[key] = w.of(f.Type)
		if !strings.Contains(options, "omit") {
			required = append(required, key)
		}
	}
	w[name] = map[string]any{"type": "object", "properties": properties, "required": required}
	return ref
}
