package lifecycle

import (
	"slices"
	"strings"
	"testing"
)

// TestForms holds the table of keys against itself: what it refers to is there, every key is documented, and the loader knows
// each key of it where it stands.
func TestForms(t *testing.T) {
	for form := range forms {
		names := keysOf(form)
		for i, k := range Keys(form) {
			if k.Doc == "" || k.Takes == "" {
				t.Errorf("%s.%s has no documentation or takes nothing", form, k.Name)
			}
			if slices.Contains(names[:i], k.Name) {
				t.Errorf("%s.%s is there twice", form, k.Name)
			}
			if nested := k.Of; nested != "" && nested != formParam && nested != formCondition && Keys(nested) == nil {
				t.Errorf("%s.%s is of form %q, which there is not", form, k.Name, nested)
			}
		}
	}
	for name := range actions {
		for _, k := range Keys(name) {
			if k.Doc == "" {
				t.Errorf("%s.%s has no documentation", name, k.Name)
			}
		}
		if actionDocs[name] == "" {
			t.Errorf("action %s has no documentation", name)
		}
	}
	for _, form := range []string{FormModel, FormStage, FormRule, FormTest} {
		path := map[string]string{FormModel: "", FormStage: "stages:\n  - ", FormRule: "decide:\n  - ", FormTest: "tests:\n  - "}[form]
		for _, k := range Keys(form) {
			if _, err := Compile("m.yaml", []byte(path+k.Name+": x\n"), Env{}); err == nil || strings.Contains(err.Error(), "unknown key") {
				t.Errorf("%s.%s: %v", form, k.Name, err)
			}
		}
	}
}
