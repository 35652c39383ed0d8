package yamlfault

import (
	"testing"

	"gopkg.in/yaml.v3"
)

func TestExplain(t *testing.T) {
	for text, want := range map[string]Fault{
		"a:\n\t- b\n":                    {2, 1, "a tab stands here", "indent with spaces"},
		"a:\n  - {b: c\nd: e\n":          {2, 5, "this { is not closed", "write the } that belongs to it"},
		"a: [b, c\nd: e\n":               {1, 4, "this [ is not closed", "write the ] that belongs to it"},
		"a: \"b\nc: d\n":                 {1, 4, "a quote is opened here and not closed", "write the quote that belongs to it"},
		"a: b: c\n":                      {1, 5, "there is a second colon on this line", "put the text that holds it in quotes"},
		"a\nb: c\n":                      {1, 2, "a colon is missing after a", "write a:"},
		"a: @b\n":                        {1, 4, "a value cannot begin with @", "put it in quotes"},
		"a:\n  - b: 1\n - c: 2\n":        {3, 2, "this line is indented unlike those above it", "indent what belongs together by the same number of spaces"},
		"a:\n  when: \"x\" in [\"x\"]\n": {2, 9, "the text in quotes ends before the line does", "put single quotes around the whole value: '\"a\" == \"b\"'"},
		"a:\n  - {when: any(x, .y in [\"z\"])}\n": {2, 5, "YAML cuts the condition at its first comma", BlockStyle},
	} {
		var doc yaml.Node
		err := yaml.Unmarshal([]byte(text), &doc)
		if err == nil {
			t.Errorf("%q is read", text)
			continue
		}
		if got := Explain(text, err); got != want {
			t.Errorf("%q: %v\n got %+v\nwant %+v", text, err, got, want)
		}
	}
}

func FuzzExplain(f *testing.F) {
	f.Add("a:\n\t- b\n")
	f.Add("a: \"b\n")
	f.Fuzz(func(t *testing.T, text string) {
		var doc yaml.Node
		defer func() { _ = recover() }() // the library's own
		if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
			if got := Explain(text, err); got.Message == "" || got.Line < 0 || got.Column < 1 {
				t.Errorf("%q: %+v", text, got)
			}
		}
	})
}
