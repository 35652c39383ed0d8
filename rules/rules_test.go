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
			entered, left := map[string]bool{}, map[string]bool{}
			for i, r := range results {
				for _, f := range r.Failures {
					t.Errorf("%s: %s", r.Name, f)
				}
				before := ""
				for _, x := range m.Tests[i].Expect {
					if x.Stage != before {
						entered[x.Stage] = true
						left[before] = true
					}
					before = x.Stage
				}
			}
			for _, st := range m.Stages {
				if !entered[st.Name] || !left[st.Name] {
					t.Errorf("no test enters stage %[1]s, or none leaves it", st.Name)
				}
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

// TestTestsCanFail breaks each rule of each model in turn: some test must notice.
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
