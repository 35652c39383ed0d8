package rules

import (
	"testing"

	"github.com/stagewire/stagewire/internal/lifecycle"
	"github.com/stagewire/stagewire/internal/lifecycle/modeltest"
)

// TestTestsAreWorthSomething: the tests of every shipped model enter and leave each of its stages, decide by each of its rules,
// and none of them passes whatever becomes of the model.
func TestTestsAreWorthSomething(t *testing.T) {
	names, stages := outlines(t)
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, _ := Text(name)
			m, err := lifecycle.Compile("rules/"+name+".yaml", text, lifecycle.Env{Models: names, Stages: stages})
			if err != nil {
				t.Fatal(err)
			}
			for _, gap := range modeltest.Cover(m).Gaps(modeltest.LevelRules) {
				t.Errorf("line %d: %s", gap.Line, gap.What)
			}
			report, err := modeltest.Check(t.Context(), m, modeltest.Limits{Mutants: modeltest.DefaultLimits.Mutants})
			if err != nil {
				t.Fatal(err)
			}
			for _, idle := range report.CannotFail {
				t.Errorf("line %d: no change of the model makes the test fail: %s", idle.Line, idle.Name)
			}
			if report.Mutants < 10 {
				t.Errorf("only %d changes were tried", report.Mutants)
			}
		})
	}
}
