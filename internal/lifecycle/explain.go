package lifecycle

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/fact"
)

// Explanation says why a subject is in its stage and what would move it (the shape of API.md). Version is the
// caller's to fill in.
type Explanation struct {
	Model   string            `json:"model"`
	Version int               `json:"version"`
	Stage   string            `json:"stage"`
	Since   time.Time         `json:"since"`
	At      time.Time         `json:"at"`
	Path    []string          `json:"path_dependent,omitempty"` // by what
	Rules   []RuleExplanation `json:"rules"`
	Next    NextExplanation   `json:"next"`
}

// RuleExplanation is one line of decide. Reached is false below the rule that won and for rules that the present
// stage closes; Result is null where the condition failed.
type RuleExplanation struct {
	Stage   string              `json:"stage"`
	When    string              `json:"when"`
	Line    int                 `json:"line"`
	Reached bool                `json:"reached"`
	Result  *bool               `json:"result"`
	Error   *string             `json:"error"`
	Clauses []ClauseExplanation `json:"clauses"`
}

// ClauseExplanation is one part of a condition: what stands between and, or, not. Value is what the left side of a
// comparison came to.
type ClauseExplanation struct {
	Text    string              `json:"text"`
	Line    int                 `json:"line"`
	Column  int                 `json:"column"`
	Op      string              `json:"op,omitempty"` // and, or, not over Clauses
	Value   string              `json:"value"`
	Result  *bool               `json:"result"`
	Error   *string             `json:"error,omitempty"`
	Facts   []FactExplanation   `json:"facts"`
	FlipsAt *time.Time          `json:"flips_at"`
	Clauses []ClauseExplanation `json:"clauses"`
}

// FactExplanation names events that a clause looked at: their kind, how many there are, and the newest.
type FactExplanation struct {
	Name     string   `json:"name"`
	Value    string   `json:"value"`
	EventIDs []string `json:"event_ids"`
}

// NextExplanation is the next move that silence alone will bring.
type NextExplanation struct {
	At *time.Time `json:"at"`
	To *string    `json:"to"`
}

// newestEvents is how many event ids a clause shows per kind.
const newestEvents = 5

// Explain tells, for the state st and the facts as they are, what every rule says at instant at.
func (m *Model) Explain(f *fact.Facts, stages map[string]string, st State, at time.Time) Explanation {
	at = at.UTC()
	e := Explanation{Model: m.Name, Stage: st.Stage, Since: st.Since, At: at, Path: m.reasons, Rules: []RuleExplanation{}}
	x := explainer{m: m, in: expression.Input{Facts: f, At: at, Stages: stages, Stage: st.Stage, Since: st.Since}}
	won := false
	for i := range m.rules {
		r := &m.rules[i]
		open := r.open(st.Stage, m.stage[st.Stage])
		line := RuleExplanation{Stage: r.stage, When: strings.TrimSpace(r.when.Text), Line: r.line, Reached: open && !won}
		line.Result, line.Error, _ = x.run(r.when)
		line.Clauses = x.clauses(r.when)
		won = won || open && line.Result != nil && *line.Result
		e.Rules = append(e.Rules, line)
	}
	yes := true
	e.Rules = append(e.Rules, RuleExplanation{
		Stage: m.otherwise, When: "otherwise", Line: m.line, Reached: !won, Result: &yes, Clauses: []ClauseExplanation{},
	})
	now, _ := m.Decide(f, stages, st, at)
	for range 100 {
		if now.WakesAt.IsZero() {
			break
		}
		wakes := now.WakesAt
		next, _ := m.Decide(f, stages, now, wakes)
		if next.Stage != now.Stage {
			e.Next = NextExplanation{At: &wakes, To: &next.Stage}
			break
		}
		now = next
	}
	return e
}

// explainer evaluates conditions and their parts at one instant.
type explainer struct {
	m  *Model
	in expression.Input
}

func (x explainer) run(p *expression.Program) (result *bool, failed *string, flips *time.Time) {
	s := expression.Begin(x.in)
	defer s.End()
	b, err := s.Bool(p)
	if next := s.Next(); !next.IsZero() {
		flips = &next
	}
	if err != nil {
		text := err.Error()
		return nil, &text, flips
	}
	return &b, nil, flips
}

func (x explainer) clauses(p *expression.Program) []ClauseExplanation {
	out := []ClauseExplanation{}
	for _, c := range p.Clauses() {
		out = append(out, x.clause(c, x.m.places[p]))
	}
	return out
}

func (x explainer) clause(c *expression.Clause, at place) ClauseExplanation {
	e := ClauseExplanation{Text: c.Text, Op: c.Op, Facts: []FactExplanation{}, Clauses: []ClauseExplanation{}}
	if at.at != nil {
		e.Line, e.Column = at.at(c.Offset)
	}
	if p := c.Program(); p != nil {
		e.Result, e.Error, e.FlipsAt = x.run(p)
	}
	for _, part := range c.Clauses {
		e.Clauses = append(e.Clauses, x.clause(part, at))
	}
	if c.Define != nil {
		e.Clauses = x.clauses(c.Define)
	}
	if c.Op != "" {
		return e
	}
	if v := x.m.values.of(c, x.m.env); v != nil {
		s := expression.Begin(x.in)
		e.Value = s.Describe(v)
		s.End()
	}
	if c.Define == nil {
		for _, kind := range c.Kinds() {
			entries := x.in.Facts.Kind(kind)
			if len(entries) == 0 {
				continue
			}
			shown := FactExplanation{Name: kind, Value: fmt.Sprint(len(entries))}
			for i := len(entries) - 1; i >= max(0, len(entries)-newestEvents); i-- {
				shown.EventIDs = append(shown.EventIDs, entries[i].ID)
			}
			e.Facts = append(e.Facts, shown)
		}
	}
	return e
}

// valueCache keeps the programs of clauses' left sides: explanations are asked for again and again.
type valueCache struct{ m sync.Map }

func (v *valueCache) of(c *expression.Clause, env *expression.Env) *expression.Program {
	if p, ok := v.m.Load(c); ok {
		return p.(*expression.Program)
	}
	var p *expression.Program
	if c.Left != "" {
		p, _ = expression.CompileValue(c.Left, env)
	}
	v.m.Store(c, p)
	return p
}

// Why says in one plain sentence why the rule of that index won at instant at, given the state before and the stages in
// other models.
func (m *Model) Why(f *fact.Facts, stages map[string]string, st State, rule int, at time.Time) string {
	if rule < 0 || rule > len(m.rules) {
		return "Set by hand."
	}
	if rule == len(m.rules) {
		if m.otherwise == "" {
			return "No rule holds, so the stage stays."
		}
		return fmt.Sprintf("%s: no other rule holds.", m.otherwise)
	}
	r := &m.rules[rule]
	x := explainer{m: m, in: expression.Input{Facts: f, At: at, Stages: stages, Stage: st.Stage, Since: st.Since}}
	var parts []string
	for _, c := range x.clauses(r.when) {
		parts = append(parts, reasons(c)...)
	}
	if len(parts) == 0 {
		return fmt.Sprintf("%s: %s.", r.stage, strings.Join(strings.Fields(r.when.Text), " "))
	}
	return fmt.Sprintf("%s: %s.", r.stage, strings.Join(parts, " and "))
}

// reasons returns the leaves that made a clause true, each with what its left side came to.
func reasons(c ClauseExplanation) []string {
	text := strings.Join(strings.Fields(c.Text), " ")
	if c.Value != "" {
		text += " (it is " + c.Value + ")"
	}
	switch c.Op {
	case "and":
		var out []string
		for _, part := range c.Clauses {
			out = append(out, reasons(part)...)
		}
		return out
	case "or":
		for _, part := range c.Clauses {
			if part.Result != nil && *part.Result {
				return reasons(part)
			}
		}
	}
	return []string{text}
}
