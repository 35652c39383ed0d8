package rules

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/lifecycle"
	"github.com/stagewire/stagewire/internal/lifecycle/modeltest"
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
			for _, r := range results {
				for _, f := range r.Failures {
					t.Errorf("%s: %s", r.Name, f)
				}
			}
			for _, st := range m.Stages {
				if st.Asks == "" || st.Labels["en"] == "" {
					t.Errorf("stage %s has no label in English or asks nothing", st.Name)
				}
			}
		})
	}
}

// TestSeeds holds the models of the texts that the product is built on to their own words: stages in their order, by the label in the
// language of the text and in English.
func TestSeeds(t *testing.T) {
	for _, seed := range []struct{ model, language, stages string }{
		{"guide", "zh-Hant", "認知階段 Awareness, 考慮階段 Consideration, 購買階段 Purchase, 保留階段 Retention, 宣傳階段 Advocacy"},
		{"relationship", "zh", "接触期 Contact, 考察期 Examination, 形成期 Formation, 稳定期 Stability, 传播期 Spreading"},
		{"activation", "zh", "休眠阶段 Dormant, 二次激活 Reactivated, 流失 Lost"},
		{"seed", "zh", "种子客户 Seed customer"},
		{"journey", "zh", "潜在客户 Prospect, 认知阶段 Awareness, 兴趣阶段 Interest, 购买阶段 Purchase, 使用阶段 Use, 再次购买阶段 Repurchase, 流失阶段 Being lost, 流失客户 Lost customer"},
		{"management", "zh", "客户获取 Acquisition, 客户发展 Development, 客户保持 Retention, 客户衰退 Decline, 客户挽回 Win-back, 终止服务 Service ended"},
		{"decline", "zh", "不满 Dissatisfied, 冷漠 Indifferent, 抱怨 Complaining, 终止购买 Stopped buying"},
		{"nordic", "nb", "Bevissthet Awareness, Engasjement; valgfritt Engagement (optional), Evaluering Evaluation, Kjøp Purchase, Produkt- og supportopplevelse Product and support experience, Bonding / binding Bonding"},
		{"clc", "zh", "潜在客户 Prospect, 新客户 New customer, 活跃客户 Active customer, 忠诚客户 Loyal customer, 流失客户 Lost customer"},
		{"clm", "zh", "潜在客户开发 Prospect development, 客户转化 Conversion, 客户维护 Maintenance, 客户忠诚度提升 Loyalty growth, 客户挽回 Win-back"},
	} {
		text, ok := Text(seed.model)
		if !ok {
			t.Errorf("there is no model %s", seed.model)
			continue
		}
		m, err := lifecycle.Compile("rules/"+seed.model+".yaml", text, lifecycle.Env{})
		if err != nil {
			t.Fatal(err)
		}
		if m.Labels["en"] == "" || m.Labels[seed.language] == "" {
			t.Errorf("%s: the model has no label in English or %s", seed.model, seed.language)
		}
		var got []string
		for _, st := range m.Stages {
			got = append(got, strings.ReplaceAll(st.Labels[seed.language], ",", ";")+" "+st.Labels["en"])
		}
		// What a model has beside the text's own stages stands before or after them, never between.
		if all := ", " + strings.Join(got, ", ") + ","; !strings.Contains(all, ", "+seed.stages+",") {
			t.Errorf("%s has the stages\n%s\nnot in this order\n%s", seed.model, strings.Join(got, ", "), seed.stages)
		}
		if own := strings.Count(seed.stages, ",") + 1; len(got) > own+2 {
			t.Errorf("%s has %d stages, the text has %d", seed.model, len(got), own)
		}
	}
}

// TestTestsCanFail asks of every model's tests that they see all of it, and of every small change to it that some test notices.
func TestTestsCanFail(t *testing.T) {
	if testing.Short() {
		t.Skip("tries more than a thousand changes")
	}
	names, stages := outlines(t)
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, _ := Text(name)
			m, err := lifecycle.Compile("rules/"+name+".yaml", text, lifecycle.Env{Models: names, Stages: stages})
			if err != nil {
				t.Fatal(err)
			}
			for _, gap := range modeltest.Cover(m).Gaps(modeltest.LevelClauses) {
				t.Errorf("line %d: %s", gap.Line, gap.What)
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
			if report.Mutants < 20 {
				t.Errorf("only %d changes were tried", report.Mutants)
			}
		})
	}
}

// TestSideBySide lets every shipped model decide on one customer: none minds the others, and each has a place for her at any time.
func TestSideBySide(t *testing.T) {
	names, stages := outlines(t)
	var p fact.Profile
	start := time.Date(2026, 1, 1, 10, 0, 0, 0, time.UTC)
	for i, kind := range hub.Catalogue.Of("any") {
		p.Put(&hub.Event{ID: fmt.Sprint(i), Kind: kind, Connection: "shop", OccurredAt: start.AddDate(0, 0, i), Properties: map[string]any{"id": fmt.Sprint(i)}})
	}
	facts := fact.Union(&p)
	for _, name := range names {
		text, _ := Text(name)
		m, err := lifecycle.Compile("rules/"+name+".yaml", text, lifecycle.Env{Models: names, Stages: stages})
		if err != nil {
			t.Fatal(err)
		}
		if m.Of != hub.SubjectCustomer {
			continue
		}
		st := m.Initial(start.Add(-hub.Resolution))
		passed := map[string]bool{st.Stage: true}
		for day := range 1000 {
			at := start.AddDate(0, 0, day)
			var errs []error
			if st, errs = m.Decide(facts.AsOf(at), nil, st, at); len(errs) > 0 {
				t.Fatalf("%s on day %d: %v", name, day, errs)
			}
			if m.Stage(st.Stage) == nil {
				t.Fatalf("%s on day %d: stage %q is none of its stages", name, day, st.Stage)
			}
			passed[st.Stage] = true
		}
		if len(passed) < 2 && name != "rfm" { // whose scores are another customer's doing too
			t.Errorf("%s: a customer to whom everything happens stays %s", name, st.Stage)
		}
	}
}

// TestManual compiles every model and expression that the manual shows.
func TestManual(t *testing.T) {
	manual, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	names, stages := outlines(t)
	models := 0
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(manual, -1) {
		if !regexp.MustCompile(`(?m)^model:`).Match(block[1]) {
			continue
		}
		models++
		m, err := lifecycle.Compile("README.md", block[1], lifecycle.Env{Models: names, Stages: stages})
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
