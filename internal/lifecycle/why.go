package lifecycle

import (
	"fmt"
	"strings"
	"time"

	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/fact"
)

// Why says in one plain sentence why the rule of that index won at instant at, given the state before and the stages in
// other models: "Lost customer: last order.paid 180 days ago (2026-01-01), at least 180 days needed." It is what
// ${explanation} stands for.
func (m *Model) Why(f *fact.Facts, stages map[string]string, st State, rule int, at time.Time) string {
	switch {
	case rule < 0 || rule > len(m.rules):
		return "Set by hand."
	case rule == len(m.rules) && m.otherwise == "":
		return fmt.Sprintf("%s: no rule holds, so the stage stays as it was.", m.called(st.Stage))
	case rule == len(m.rules):
		return fmt.Sprintf("%s: no other rule holds.", m.called(m.otherwise))
	}
	r := &m.rules[rule]
	x := explainer{m: m, in: expression.Input{Facts: f, At: at, Stages: stages, Stage: st.Stage, Since: st.Since}}
	s := expression.Begin(x.in)
	defer s.End()
	var parts []string
	for _, c := range r.when.Clauses() {
		parts = append(parts, because(s, c, true)...)
	}
	if len(parts) == 0 {
		parts = []string{strings.Join(strings.Fields(r.when.Text), " ")}
	}
	if len(r.from) > 0 {
		parts = append(parts, "coming from "+m.called(st.Stage))
	}
	return fmt.Sprintf("%s: %s.", m.called(r.stage), strings.Join(parts, "; "))
}

// called is what a sentence calls a stage: its English label, else its name.
func (m *Model) called(stage string) string {
	if s := m.stage[stage]; s != nil {
		return s.Label("en")
	}
	return stage
}

// maxReasons bounds how many parts of a condition one sentence tells.
const maxReasons = 6

// because tells the leaves that made a clause hold, or not hold.
func because(s *expression.Session, c *expression.Clause, holds bool) []string {
	switch c.Op {
	case "not":
		return because(s, c.Clauses[0], !holds)
	case "and", "or":
		if (c.Op == "and") == holds { // all of them are needed
			var out []string
			for _, part := range c.Clauses {
				if out = append(out, because(s, part, holds)...); len(out) > maxReasons {
					break
				}
			}
			return out[:min(len(out), maxReasons)]
		}
		for _, part := range c.Clauses { // the first is enough
			if p := part.Program(); p != nil {
				if b, err := s.Bool(p); err == nil && b == holds {
					return because(s, part, holds)
				}
			}
		}
		return nil
	}
	if c.Define != nil {
		var out []string
		for _, part := range c.Define.Clauses() {
			out = append(out, because(s, part, holds)...)
		}
		if len(out) > 0 {
			return out
		}
	}
	return []string{s.Say(c, holds)}
}
