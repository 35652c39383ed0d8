package rules_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stagewire/stagewire/internal/lifecycle"
	"github.com/stagewire/stagewire/internal/lifecycle/modeltest"
	"github.com/stagewire/stagewire/internal/lint"
	"github.com/stagewire/stagewire/rules"
)

// recipes is how many the cookbook has at the least; the manual says "more than thirty".
const recipes = 31

// cookbook reads the recipes by file name, and what models know of each other: the shipped ones and the cookbook's.
func cookbook(t *testing.T) (files map[string][]byte, env lifecycle.Env) {
	t.Helper()
	env.Stages = map[string][]string{}
	for _, shipped := range rules.Names() {
		text, _ := rules.Text(shipped)
		name, stages := lifecycle.Outline(text)
		env.Models, env.Stages[name] = append(env.Models, name), stages
	}
	paths, err := filepath.Glob("cookbook/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	files = map[string][]byte{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Base(path)
		files[file] = text
		name, stages := lifecycle.Outline(text)
		if number, rest, _ := strings.Cut(file, "-"); len(number) != 2 || rest != name+".yaml" {
			t.Errorf("%s holds model %q: a file is named by a number of two digits and its model", file, name)
		}
		if env.Stages[name] != nil {
			t.Errorf("%s: there is another model %s", file, name)
		}
		env.Models, env.Stages[name] = append(env.Models, name), stages
	}
	if len(files) < recipes {
		t.Errorf("%d recipes, the cookbook has %d at the least", len(files), recipes)
	}
	return files, env
}

// TestCookbook compiles and lints every recipe as `stagewire check --strict` does, and runs its tests: they pass, enter every stage, and
// each of them notices some change to the model.
func TestCookbook(t *testing.T) {
	files, env := cookbook(t)
	for file, text := range files {
		t.Run(strings.TrimSuffix(file, ".yaml"), func(t *testing.T) {
			t.Parallel()
			m, err := lifecycle.Compile("cookbook/"+file, text, env)
			if err != nil {
				t.Fatal(err)
			}
			if m.Labels["en"] == "" {
				t.Error("the model has no label in English")
			}
			for _, st := range m.Stages {
				if st.Asks == "" || st.Labels["en"] == "" {
					t.Errorf("stage %s has no label in English or asks nothing", st.Name)
				}
			}
			for _, f := range lint.Check(m, text, lint.Options{Stages: env.Stages}) {
				t.Errorf("line %d: %s", f.Line, f.Message)
			}
			results := lifecycle.RunTests(m)
			if len(results) == 0 {
				t.Error("the recipe has no tests")
			}
			for _, r := range results {
				for _, f := range r.Failures {
					t.Errorf("%s: %s", r.Name, f)
				}
			}
			for _, gap := range modeltest.Cover(m).Gaps(modeltest.LevelClauses) {
				t.Errorf("line %d: %s", gap.Line, gap.What)
			}
			if t.Failed() || testing.Short() {
				return
			}
			report, err := modeltest.Check(t.Context(), m, modeltest.DefaultLimits)
			if err != nil {
				t.Fatal(err)
			}
			for _, test := range report.CannotFail {
				t.Errorf("line %d: test %q cannot fail", test.Line, test.Name)
			}
			for _, s := range report.Survivors {
				t.Errorf("line %d: no test notices: %s: %s", s.Line, s.Path, s.What)
			}
		})
	}
}

// TestCookbookIsListed compares the list with the files: each recipe is there once, with a question and with words of its own file.
func TestCookbookIsListed(t *testing.T) {
	files, _ := cookbook(t)
	list, err := os.ReadFile("cookbook/README.md")
	if err != nil {
		t.Fatal(err)
	}
	// - Question? [NN-name](NN-name.yaml)
	//   `condition` with `option`
	entry := regexp.MustCompile("(?m)^- ([^\\[\n]+) \\[([^]\n]+)\\]\\(([^)\n]+)\\)\n((?:  .*\n)+)")
	quoted := regexp.MustCompile("`([^`]+)`")
	var listed []string
	for _, e := range entry.FindAllStringSubmatch(string(list), -1) {
		question, title, file, said := e[1], e[2], e[3], e[4]
		listed = append(listed, file)
		text, ok := files[file]
		if !ok {
			t.Errorf("the list names %s, which is not there", file)
			continue
		}
		if title+".yaml" != file || !strings.HasSuffix(question, "?") {
			t.Errorf("%s: the line is not of the form `- Question? [name](name.yaml)`", file)
		}
		conditions := quoted.FindAllStringSubmatch(said, -1)
		if len(conditions) == 0 {
			t.Errorf("%s: the list shows no condition", file)
		}
		for _, c := range conditions {
			// A comment may speak of a condition; the model must have it.
			if !strings.Contains(regexp.MustCompile(`(?m)(^|\s)# .*$`).ReplaceAllString(string(text), ""), c[1]) {
				t.Errorf("%s does not say %s", file, c[1])
			}
		}
	}
	if lines := strings.Count(string(list), "\n- "); lines != len(listed) {
		t.Errorf("%d of %d lines of the list are of the form `- Question? [name](name.yaml)` with a condition below", len(listed), lines)
	}
	for file := range files {
		if n := len(slices.DeleteFunc(slices.Clone(listed), func(f string) bool { return f != file })); n != 1 {
			t.Errorf("%s is listed %d times", file, n)
		}
	}
}

// TestCookbookIsNotShipped holds recipes apart from the models that a configuration can name without a file.
func TestCookbookIsNotShipped(t *testing.T) {
	files, _ := cookbook(t)
	for file, text := range files {
		name, _ := lifecycle.Outline(text)
		if _, shipped := rules.Text(name); shipped {
			t.Errorf("%s is shipped as %s", file, name)
		}
	}
}
