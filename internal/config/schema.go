package config

import (
	"maps"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Schema returns the JSON Schema (2020-12) of stagewire.yaml, for editors.
func Schema() ([]byte, error) {
	root := map[string]any{}
	maps.Copy(root, form(Default()).schema)
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "stagewire.yaml"
	return json.Marshal(root, json.Deterministic(true), jsontext.WithIndent("  "))
}
