package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/stagewire/stagewire/internal/lifecycle"
	"github.com/stagewire/stagewire/internal/lifecycle/modeltest"
)

// testReport prints what test finds; silent where it is printed as JSON. It keeps the first error of writing.
type testReport struct {
	out, errs io.Writer
	silent    bool
	err       error
}

func (r *testReport) printf(format string, args ...any) {
	if r.silent || r.err != nil {
		return
	}
	_, r.err = fmt.Fprintf(r.out, format, args...)
}

// note prints to where errors go: it is no result.
func (r *testReport) note(format string, args ...any) {
	if r.silent || r.err != nil {
		return
	}
	_, r.err = fmt.Fprintf(r.errs, format, args...)
}

func (r *testReport) test(t lifecycle.TestResult) {
	if len(t.Failures) == 0 {
		r.printf("ok      %s: %s\n", t.Model, t.Name)
		return
	}
	r.printf("FAILED  %s: %s (%s:%d)\n", t.Model, t.Name, t.File, t.Line)
	for _, f := range t.Details {
		r.failure(f)
	}
}

// failure shows what was expected and what came, the condition that won, and those that would have led where it was expected.
func (r *testReport) failure(f lifecycle.Failure) {
	at := ""
	if !f.At.IsZero() {
		at = " at " + f.At.Format(time.RFC3339Nano)
	}
	r.printf("        line %d:%s %s %s, expected %s\n", f.Line, at, f.What, f.Got, f.Expected)
	if f.Because != "" {
		r.printf("          %s\n", f.Because)
	}
	if f.Rule > 0 && len(f.Clauses) > 0 {
		r.printf("          the rule on line %d won:\n", f.Rule)
		r.clauses(f.Clauses, "            ")
	}
	for _, rule := range f.Instead {
		r.printf("          the rule for %s on line %d ", rule.Stage, rule.Line)
		holds := rule.Result != nil && *rule.Result
		switch {
		case rule.Closed != "":
			r.printf("is closed: %s\n", rule.Closed)
		case rule.Waits != nil:
			r.printf("holds, but waits for its %s until %s\n", rule.Waits.Option, rule.Waits.Until.Format(time.RFC3339Nano))
		case holds && rule.Reached:
			r.printf("holds, but the stage she is in holds her back\n")
		case holds:
			r.printf("holds, but one above it won\n")
		default:
			r.printf("does not hold:\n")
		}
		r.clauses(rule.Clauses, "            ")
	}
}

func (r *testReport) clauses(list []lifecycle.ClauseExplanation, indent string) {
	for _, c := range list {
		mark := "?   "
		if c.Result != nil {
			mark = map[bool]string{true: "yes ", false: "no  "}[*c.Result]
		}
		text := strings.Join(strings.Fields(c.Text), " ")
		if c.Op != "" {
			text = c.Op
		}
		if c.Value != "" {
			text += "   (" + c.Value + ")"
		}
		if c.Error != nil {
			text += "   " + *c.Error
		}
		r.printf("%s%s%s\n", indent, mark, text)
		r.clauses(c.Clauses, indent+"  ")
	}
}

func (r *testReport) connector(folder string, ok bool, said string) {
	if ok {
		r.printf("ok      %s\n", folder)
		return
	}
	if r.silent {
		if r.err == nil {
			_, r.err = io.WriteString(r.errs, said)
		}
		return
	}
	r.printf("%sFAILED  %s\n", said, folder)
}

func (r *testReport) summary(t tested) {
	models, failed := map[string]bool{}, 0
	for _, m := range t.Models {
		models[m.Model] = true
		if len(m.Failures) > 0 {
			failed++
		}
	}
	if len(t.Models) == 0 {
		return
	}
	state := "all passed"
	if failed > 0 {
		state = fmt.Sprintf("%d failed", failed)
	}
	r.printf("%s of %s: %s\n", plural(len(t.Models), "test"), plural(len(models), "model"), state)
}

// coverage reports what the tests saw; false where less than is required.
func (r *testReport) coverage(models []*lifecycle.Model, result *tested, f testFlags) bool {
	ok := true
	for _, m := range models {
		cover := modeltest.Cover(m)
		gaps := cover.Gaps(modeltest.LevelClauses)
		result.Coverage = append(result.Coverage, modelCoverage{cover, gaps})
		if f.coverage {
			r.covered(cover)
		}
		for _, gap := range gaps {
			required := f.require != "" && levelOf(gap.Level) <= levelOf(f.require)
			if required {
				ok = false
			}
			if f.coverage || required {
				mark := "        "
				if required {
					mark = "MISSING "
				}
				r.printf("%s%s:%d: %s\n", mark, cover.File, gap.Line, gap.What)
			}
		}
	}
	return ok
}

func levelOf(level string) int {
	for i, l := range modeltest.Levels {
		if l == level {
			return i
		}
	}
	return len(modeltest.Levels)
}

// covered prints the shares, and how each stage was entered and left.
func (r *testReport) covered(c *modeltest.Coverage) {
	var shares []string
	for i, what := range []string{"stages entered and left", "rules won", "conditions true and false"} {
		covered, of := c.Share(modeltest.Levels[i])
		shares = append(shares, fmt.Sprintf("%s %d of %d", what, covered, of))
	}
	r.printf("\ncoverage of %s: %s\n", c.Model, strings.Join(shares, ", "))
	width := 0
	for _, st := range c.Stages {
		width = max(width, len(st.Name))
	}
	for _, st := range c.Stages {
		entered := passages("from ", st.Entered)
		if st.Initial {
			entered = append([]string{"at the start"}, entered...)
		}
		left := passages("to ", st.Left)
		if st.Final {
			left = append(left, "by no rule")
		}
		r.printf("  %-*s  entered %s\n  %-*s  left %s\n", width, st.Name, ways(entered), width, "", ways(left))
	}
}

// ways joins what there is, "never" for nothing.
func ways(of []string) string {
	if len(of) == 0 {
		return "never"
	}
	return strings.Join(of, "; ")
}

// passages names the ways of going, each once with what brought it about.
func passages(way string, list []modeltest.Passage) []string {
	var stages []string
	causes := map[string][]string{}
	for _, p := range list {
		if causes[p.Stage] == nil {
			stages = append(stages, p.Stage)
		}
		causes[p.Stage] = append(causes[p.Stage], p.Cause)
	}
	out := make([]string, 0, len(stages))
	for _, stage := range stages {
		seen := map[string]bool{}
		var names []string
		for _, cause := range causes[stage] {
			if !seen[cause] {
				seen[cause] = true
				names = append(names, cause)
			}
		}
		out = append(out, way+stage+" by "+strings.Join(names, " or "))
	}
	return out
}

// mutation tries the tests on changed models; false where a test cannot fail, or a change survives that must not.
func (r *testReport) mutation(ctx context.Context, models []*lifecycle.Model, failing map[string]bool, result *tested, f testFlags) (bool, error) {
	ok := true
	for _, m := range models {
		if failing[m.Name] || len(m.Tests) == 0 {
			r.note("%s is not changed: its tests must pass first\n", m.Name)
			continue
		}
		report, err := modeltest.Check(ctx, m, modeltest.DefaultLimits)
		if err != nil {
			return false, err
		}
		result.Mutation = append(result.Mutation, report)
		tried := fmt.Sprintf("%d tried", report.Mutants)
		if limit := modeltest.DefaultLimits.Mutants; report.Possible > limit {
			tried += fmt.Sprintf(" of some %d", report.Possible)
		}
		r.printf("\nchanges of %s: %s, %d noticed, %d make no difference, %d unnoticed\n",
			m.Name, tried, report.Noticed, report.Equal, len(report.Survivors))
		for _, s := range report.Survivors {
			r.printf("unnoticed   %s:%d:%d: %s: %s\n", report.File, s.Line, s.Column, s.Path, s.What)
			if f.examples {
				for line := range strings.Lines(s.Example) {
					r.printf("  %s", line)
				}
			}
		}
		if len(report.Survivors) > 0 && !f.examples {
			r.printf("            --examples shows a test for each that would notice\n")
		}
		for _, t := range report.CannotFail {
			r.printf("CANNOT FAIL %s: %s (%s:%d): no change of the model makes it fail\n", m.Name, t.Name, report.File, t.Line)
		}
		ok = ok && len(report.CannotFail) == 0 && (!f.noSurvivors || len(report.Survivors) == 0)
	}
	return ok, nil
}
