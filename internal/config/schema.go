package config

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Schema returns the JSON Schema (2020-12) of stagewire.yaml, for editors.
func Schema() ([]byte, error) {
	root := map[string]any{}
	for k, v := range form(Default()).schema {
		root[k] = v
	}
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "stagewire.yaml"
	return json.Marshal(root, json.Deterministic(true), jsontext.WithIndent("  "))
}
