package server

import (
	"fmt"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/stagewire/stagewire/internal/hub"
)

// KindInfo is one kind of the catalogue.
type KindInfo struct {
	Kind       string            `json:"kind"`
	Group      string            `json:"group"`
	About      string            `json:"about,omitempty"` // one sentence
	Object     string            `json:"object,omitempty"`
	Properties map[string]string `json:"properties"` // name: text, number, bool, time, money, texts
	Schema     string            `json:"schema"`     // path of its JSON Schema
}

// DescribeKind returns a kind's row in the catalogue.
func DescribeKind(k hub.Kind) KindInfo {
	out := KindInfo{Kind: k.Name, Group: k.Group, About: k.Doc, Object: k.Object, Properties: map[string]string{}, Schema: base + "/events/catalogue/" + k.Name + ".v1"}
	for name, t := range k.Properties {
		out.Properties[name] = string(t)
	}
	return out
}

func (s *Server) kinds() *hub.Kinds {
	if kinds := s.setup.Load().Kinds; kinds != nil {
		return kinds
	}
	return hub.Catalogue
}

func (s *Server) listKinds(c *fiber.Ctx) error {
	all := s.kinds().All()
	items := make([]KindInfo, len(all))
	for i, k := range all {
		items[i] = DescribeKind(k)
	}
	return list(c, items, "")
}

func (s *Server) getKind(c *fiber.Ctx) error {
	name := strings.TrimSuffix(c.Params("kind"), ".v1")
	k, found := s.kinds().Lookup(name)
	if !found {
		return fmt.Errorf("kind %q: %w", shorten(name, 60), hub.ErrNotFound)
	}
	return ok(c, KindSchema(k, s.setup.Load().publicURL))
}

// KindSchema returns the JSON Schema of an event's properties, and of stage.entered the one of its callback's data. More
// members may come with time, so none is forbidden and none of an event's is required: vendors leave out what they do not know.
func KindSchema(k hub.Kind, publicURL string) map[string]any {
	schema := map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"$id":     publicURL + base + "/events/catalogue/" + k.Name + ".v1",
		"title":   k.Name, "type": "object",
	}
	if k.Doc != "" {
		schema["description"] = k.Doc
	}
	properties := map[string]any{}
	for name, t := range k.Properties {
		properties[name] = propertySchema(t)
	}
	if k.Name == "stage.entered" {
		text, instant := propertySchema(hub.Text), propertySchema(hub.Time)
		properties = map[string]any{
			"model": text, "version": map[string]any{"type": "integer"}, "from": text, "to": text, "at": instant, "decided_at": instant,
			"by": text, "customer": map[string]any{"type": "object", "properties": map[string]any{
				"id": text, "ids": map[string]any{"type": "object", "additionalProperties": text},
			}, "required": []string{"id"}},
		}
		schema["required"] = []string{"model", "version", "from", "to", "at", "decided_at", "by", "customer"}
	}
	schema["properties"] = properties
	return schema
}

func propertySchema(t hub.PropertyType) map[string]any {
	switch t {
	case hub.Number:
		return map[string]any{"type": "number"}
	case hub.Bool:
		return map[string]any{"type": "boolean"}
	case hub.Time:
		return map[string]any{"type": "string", "format": "date-time"}
	case hub.Amount:
		return map[string]any{
			"type": "object", "required": []string{"amount", "currency"},
			"properties": map[string]any{"amount": map[string]any{"type": "string"}, "currency": map[string]any{"type": "string", "pattern": "^[A-Z]{3}$"}},
		}
	case hub.Texts:
		return map[string]any{"type": "array", "items": map[string]any{"type": "string"}}
	default:
		return map[string]any{"type": "string"}
	}
}
