package lifecycle_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/lifecycle"
	"github.com/stagewire/stagewire/rules"
)

func compileSchema(t *testing.T, text []byte, err error) *jsonschema.Schema {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("schema.json")
	if err != nil {
		t.Fatalf("the schema is none: %v", err)
	}
	return schema
}

// plain returns a YAML file as an editor's JSON Schema sees it: times are texts.
func plain(t *testing.T, text []byte) any {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	var convert func(n *yaml.Node) any
	convert = func(n *yaml.Node) any {
		switch n.Kind {
		case yaml.MappingNode:
			out := map[string]any{}
			for i := 0; i+1 < len(n.Content); i += 2 {
				out[n.Content[i].Value] = convert(n.Content[i+1])
			}
			return out
		case yaml.SequenceNode:
			out := []any{}
			for _, c := range n.Content {
				out = append(out, convert(c))
			}
			return out
		}
		if n.Tag == "!!timestamp" {
			return n.Value
		}
		var v any
		if err := n.Decode(&v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	text, err := json.Marshal(convert(doc.Content[0]))
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestModelSchema: the shipped models are good by the schema, and what the loader refuses for its form is not.
func TestModelSchema(t *testing.T) {
	text, err := lifecycle.ModelSchema(hub.Catalogue)
	schema := compileSchema(t, text, err)
	for _, name := range rules.Names() {
		model, _ := rules.Text(name)
		if err := schema.Validate(plain(t, model)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	const good = "model: m\nstages:\n  - {name: a, dwell: 7d, target: {to: b, within: 30d, share: 0.3}}\n  - {name: b, terminal: true}\ndecide:\n  - stage: a\n    when: true\n    from: [b]\n  - otherwise: stay\n" +
		"tests:\n  - name: n\n    events:\n      - {at: 2026-01-01T10:00:00Z, kind: order.paid, amount: 4 EUR}\n    walk: [a]\n"
	if err := schema.Validate(plain(t, []byte(good))); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{
		{"model: m", "model: My Model"},
		{"model: m\n", ""},
		{"decide:", "decied:"},
		{"dwell: 7d", "dwell: 7 days"},
		{"share: 0.3", "share: 30"},
		{"terminal: true", "terminal: maybe"},
		{"    when: true\n", ""},
		{"to: b", "too: b"},
		{"model: m", "model: m\nof: contact"},
		{"kind: order.paid", "kind: paid"},
	} {
		bad := strings.Replace(good, c[0], c[1], 1)
		if bad == good {
			t.Fatalf("%s is not there", c[0])
		}
		if err := schema.Validate(plain(t, []byte(bad))); err == nil {
			t.Errorf("%q in place of %q is good by the schema", c[1], c[0])
		}
	}
}

// TestReactionSchema does the same for reactions.
func TestReactionSchema(t *testing.T) {
	text, err := lifecycle.ReactionSchema(hub.Catalogue)
	schema := compileSchema(t, text, err)
	const good = "reactions:\n  - name: call\n    enter: clc.lost\n    if: 'count(\"order.paid\") >= 2'\n    do:\n      - create_task: {via: crm, subject: \"Call ${customer.name}\", due: {days: 2, at: \"17:00\"}}\n      - set_fields: {via: crm, fields: {a: 1}}\n      - add_tag: {via: crm, tag: x}\n"
	if err := schema.Validate(plain(t, []byte(good))); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{{"create_task", "create_tsk"}, {"enter", "entre"}, {"subject", "subjct"}, {"via: crm, ", ""}, {"    do:", "    does:"}} {
		if err := schema.Validate(plain(t, []byte(strings.Replace(good, c[0], c[1], 1)))); err == nil {
			t.Errorf("%q in place of %q is good by the schema", c[1], c[0])
		}
	}
}

// TestSchemaHasEveryKey: each key of the table is in the schema.
func TestSchemaHasEveryKey(t *testing.T) {
	for title, make := range map[string]func(*hub.Kinds) ([]byte, error){lifecycle.FormModel: lifecycle.ModelSchema, lifecycle.FormReactions: lifecycle.ReactionSchema} {
		text, err := make(hub.Catalogue)
		if err != nil {
			t.Fatal(err)
		}
		var schema struct {
			Properties map[string]any `json:"properties"`
			Defs       map[string]struct {
				Properties map[string]any `json:"properties"`
			} `json:"$defs"`
		}
		if err := json.Unmarshal(text, &schema); err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		var walk func(form string, properties map[string]any)
		walk = func(form string, properties map[string]any) {
			if seen[form] {
				return
			}
			seen[form] = true
			for _, k := range lifecycle.Keys(form) {
				if properties[k.Name] == nil {
					t.Errorf("%s: %s.%s is not in the schema", title, form, k.Name)
				}
				if lifecycle.Keys(k.Of) != nil {
					walk(k.Of, schema.Defs[k.Of].Properties)
				}
			}
		}
		walk(title, schema.Properties)
		if len(seen) < 5 {
			t.Errorf("%s: only %d forms", title, len(seen))
		}
	}
}
