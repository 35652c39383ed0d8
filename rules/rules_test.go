package rules

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/lifecycle"
)

// outlines returns what models check each other against.
func outlines(t *testing.T) (names []string, stages map[string][]string) {
	t.Helper()
	stages = map[string][]string{}
	for _, file := range Names() {
		text, _ := Text(file)
		name, list := lifecycle.Outline(text)
		if name != file {
			t.Errorf("%s.yaml holds model %q: file and model have one name", file, name)
		}
		names = append(names, name)
		stages[name] = list
	}
	return names, stages
}

func TestModels(t *testing.T) {
	names, stages := outlines(t)
	if len(names) == 0 {
		t.Fatal("no models")
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			text, _ := Text(name)
			m, err := lifecycle.Compile("rules/"+name+".yaml", text, lifecycle.Env{Models: names, Stages: stages})
			if err != nil {
				t.Fatal(err)
			}
			results := lifecycle.RunTests(m)
			if len(results) == 0 {
				t.Error("the model has no tests")
			}
			expected := map[string]bool{}
			for i, r := range results {
				for _, f := range r.Failures {
					t.Errorf("%s: %s", r.Name, f)
				}
				for _, x := range m.Tests[i].Expect {
					expected[x.Stage] = true
				}
			}
			for _, st := range m.Stages {
				if !expected[st.Name] {
					t.Errorf("no test expects stage %s", st.Name)
				}
				if st.Asks == "" || st.Labels["en"] == "" {
					t.Errorf("stage %s has no label in English or asks nothing", st.Name)
				}
			}
		})
	}
}

// TestTestsCanFail breaks each rule of clc in turn: some test must notice.
func TestTestsCanFail(t *testing.T) {
	for _, name := range Names() {
		text, _ := Text(name)
		whens := regexp.MustCompile(`(?m)^    when: .*$`).FindAllIndex(text, -1)
		if len(whens) == 0 {
			t.Errorf("%s: no rules found", name)
		}
		for _, at := range whens {
			for _, always := range []string{"    when: true", "    when: false"} {
				broken := slices.Concat(text[:at[0]], []byte(always), text[at[1]:])
				m, err := lifecycle.Compile(name, broken, lifecycle.Env{})
				if err != nil {
					t.Fatal(err)
				}
				failed := false
				for _, r := range lifecycle.RunTests(m) {
					failed = failed || len(r.Failures) > 0
				}
				if !failed {
					t.Errorf("%s: no test fails with %q in place of %q", name, always[4:], text[at[0]+4:at[1]])
				}
			}
		}
	}
}

// TestManual compiles every model and expression that the manual shows.
func TestManual(t *testing.T) {
	manual, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	models := 0
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(manual, -1) {
		if !regexp.MustCompile(`(?m)^model:`).Match(block[1]) {
			continue
		}
		models++
		m, err := lifecycle.Compile("README.md", block[1], lifecycle.Env{})
		if err != nil {
			t.Errorf("%v\nin\n%s", err, block[1])
			continue
		}
		for _, r := range lifecycle.RunTests(m) {
			for _, f := range r.Failures {
				t.Errorf("%s: %s", r.Name, f)
			}
		}
	}
	if models == 0 {
		t.Error("the manual shows no model")
	}
}

var update = flag.Bool("update", false, "rewrite generated parts of README.md")

// TestManualReference keeps the table of functions equal to their definitions, whose examples a test compiles.
func TestManualReference(t *testing.T) {
	manual, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("| function | meaning | example |\n|---|---|---|\n")
	for _, f := range expression.Functions() {
		fmt.Fprintf(&b, "| `%s` | %s | `%s` |\n", f.Signature, f.Doc, f.Example)
	}
	table := regexp.MustCompile(`(?s)(<!-- functions: [^\n]*-->\n).*(<!-- end -->)`)
	want := table.ReplaceAll(manual, []byte("${1}"+strings.ReplaceAll(b.String(), "$", "$$")+"${2}"))
	if string(want) == string(manual) {
		return
	}
	if !*update {
		t.Fatal("the table of functions is out of date: go test ./rules -update")
	}
	if err := os.WriteFile("README.md", want, 0o644); err != nil {
		t.Fatal(err)
	}
}
