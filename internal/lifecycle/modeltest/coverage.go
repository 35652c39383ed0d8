package modeltest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/lifecycle"
)

// Coverage is what the tests of a model saw of it.
type Coverage struct {
	Model   string           `json:"model"`
	File    string           `json:"file"`
	Tests   int              `json:"tests"`
	Stages  []StageCoverage  `json:"stages"`
	Rules   []RuleCoverage   `json:"rules"`
	Clauses []ClauseCoverage `json:"clauses"`
}

// StageCoverage tells how a stage was entered and left. Initial is set where tests began in it, Final where the model
// itself lets nobody out.
type StageCoverage struct {
	Name    string    `json:"name"`
	Line    int       `json:"line"`
	Initial bool      `json:"initial,omitempty"`
	Final   bool      `json:"final,omitempty"`
	Entered []Passage `json:"entered"`
	Left    []Passage `json:"left"`
}

// Passage is a way into or out of a stage, and what brought it about: the kind of an event, or silence, another model,
// scores, a person.
type Passage struct {
	Stage string `json:"stage"`          // where from, or where to
	Rule  int    `json:"rule,omitempty"` // its line; 0 for a person
	Cause string `json:"cause"`
	Times int    `json:"times"`
}

// RuleCoverage tells how often a line of decide decided.
type RuleCoverage struct {
	Stage string `json:"stage"` // "" for stay
	When  string `json:"when"`
	Line  int    `json:"line"`
	Won   int    `json:"won"`
}

// ClauseCoverage tells what a part of a condition came to, where its rule was asked.
type ClauseCoverage struct {
	Text   string `json:"text"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
	True   int    `json:"true"`
	False  int    `json:"false"`
}

// Levels of coverage that can be demanded, each with those before it.
const (
	LevelStages  = "stages"  // every stage is entered and left
	LevelRules   = "rules"   // every line of decide wins
	LevelClauses = "clauses" // every part of a condition is true and false
)

// Levels lists them.
var Levels = []string{LevelStages, LevelRules, LevelClauses}

// Gap is something that no test covers.
type Gap struct {
	Level string `json:"level"`
	Line  int    `json:"line"`
	What  string `json:"what"`
}

// Cover runs the model's tests and tells what they saw.
func Cover(m *lifecycle.Model) *Coverage {
	file, text, _ := m.Source()
	c := &Coverage{Model: m.Name, File: file, Tests: len(m.Tests)}
	lines := stageLines(text)
	for _, st := range m.Stages {
		c.Stages = append(c.Stages, StageCoverage{Name: st.Name, Line: lines[st.Name], Final: final(m, st), Entered: []Passage{}, Left: []Passage{}})
	}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	initial := m.Initial(start)
	for _, line := range m.Asked(fact.Union(), nil, initial, start) {
		c.Rules = append(c.Rules, RuleCoverage{Stage: line.Stage, When: strings.Join(strings.Fields(line.When), " "), Line: line.Line})
		c.clauses(line.Clauses, false)
	}
	for i := range m.Tests {
		t := &m.Tests[i]
		if st := c.stage(m.Initial(t.Start.Add(-hub.Resolution)).Stage); st != nil {
			st.Initial = true
		}
		t.Watch(m, c.watch)
	}
	slices.SortFunc(c.Clauses, func(a, b ClauseCoverage) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return c
}

// final reports whether no rule leads out of a stage.
func final(m *lifecycle.Model, st lifecycle.Stage) bool {
	return st.Terminal && !slices.ContainsFunc(m.Rules(), func(r lifecycle.Rule) bool { return slices.Contains(r.From, st.Name) && r.Stage != st.Name })
}

func stageLines(text []byte) map[string]int {
	lines := map[string]int{}
	var doc yaml.Node
	if yaml.Unmarshal(text, &doc) != nil || len(doc.Content) == 0 {
		return lines
	}
	if n := child(doc.Content[0], "stages"); n != nil {
		for _, item := range n.Content {
			if name := child(item, "name"); name != nil {
				lines[name.Value] = name.Line
			}
		}
	}
	return lines
}

func (c *Coverage) stage(name string) *StageCoverage {
	for i := range c.Stages {
		if c.Stages[i].Name == name {
			return &c.Stages[i]
		}
	}
	return nil
}

func (c *Coverage) watch(w lifecycle.Moment) {
	rule := 0
	if w.After.Rule >= 0 && w.After.Rule < len(c.Rules) {
		rule = c.Rules[w.After.Rule].Line
		if w.After.By != hub.ByPin {
			c.Rules[w.After.Rule].Won++
		}
	}
	if w.Before.Stage != w.After.Stage {
		if st := c.stage(w.After.Stage); st != nil {
			st.Entered = pass(st.Entered, Passage{Stage: w.Before.Stage, Rule: rule, Cause: w.Cause})
		}
		if st := c.stage(w.Before.Stage); st != nil {
			st.Left = pass(st.Left, Passage{Stage: w.After.Stage, Rule: rule, Cause: w.Cause})
		}
	}
	if w.After.By == hub.ByPin {
		return
	}
	for _, line := range w.Model.Asked(w.Facts, w.Stages, w.Before, w.At) {
		if line.Reached {
			c.clauses(line.Clauses, true)
		}
	}
}

func pass(list []Passage, p Passage) []Passage {
	for i := range list {
		if q := &list[i]; q.Stage == p.Stage && q.Rule == p.Rule && q.Cause == p.Cause {
			q.Times++
			return list
		}
	}
	p.Times = 1
	return append(list, p)
}

// clauses counts the leaves of conditions; those of a defined condition stand where it is defined.
func (c *Coverage) clauses(list []lifecycle.ClauseExplanation, count bool) {
	for _, e := range list {
		if len(e.Clauses) > 0 {
			c.clauses(e.Clauses, count)
			continue
		}
		at := slices.IndexFunc(c.Clauses, func(x ClauseCoverage) bool { return x.Line == e.Line && x.Column == e.Column })
		if at < 0 {
			at = len(c.Clauses)
			c.Clauses = append(c.Clauses, ClauseCoverage{Text: strings.Join(strings.Fields(e.Text), " "), Line: e.Line, Column: e.Column})
		}
		if !count || e.Result == nil {
			continue
		}
		if *e.Result {
			c.Clauses[at].True++
		} else {
			c.Clauses[at].False++
		}
	}
}

// Gaps returns what is not covered, up to a level and by line.
func (c *Coverage) Gaps(level string) []Gap {
	var out []Gap
	for _, st := range c.Stages {
		byRule := slices.ContainsFunc(c.Rules, func(r RuleCoverage) bool { return r.Stage == st.Name })
		into := slices.ContainsFunc(st.Entered, func(p Passage) bool { return p.Rule > 0 || !byRule })
		if !into && !st.Initial {
			what := "no test enters stage " + st.Name
			if len(st.Entered) > 0 {
				what += " by a rule, only by hand"
			}
			out = append(out, Gap{LevelStages, st.Line, what})
		}
		if len(st.Left) == 0 && !st.Final {
			out = append(out, Gap{LevelStages, st.Line, "no test leaves stage " + st.Name})
		}
	}
	if level != LevelStages {
		for _, r := range c.Rules {
			if r.Won == 0 {
				out = append(out, Gap{LevelRules, r.Line, fmt.Sprintf("no test is decided by the rule for %s: %s", cmp.Or(r.Stage, "stay"), r.When)})
			}
		}
	}
	if level == LevelClauses {
		for _, cl := range c.Clauses {
			if cl.Text == "true" || cl.Text == "false" {
				continue
			}
			if cl.True == 0 {
				out = append(out, Gap{LevelClauses, cl.Line, "never true: " + cl.Text})
			}
			if cl.False == 0 {
				out = append(out, Gap{LevelClauses, cl.Line, "never false: " + cl.Text})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Gap) int { return cmp.Compare(a.Line, b.Line) })
	return out
}

// Share returns how much of a level alone is covered: of how many things, each counted once for every side that it has.
func (c *Coverage) Share(level string) (covered, of int) {
	switch level {
	case LevelStages:
		for _, st := range c.Stages {
			if of++; !st.Final {
				of++
			}
		}
	case LevelRules:
		of = len(c.Rules)
	case LevelClauses:
		for _, cl := range c.Clauses {
			if cl.Text != "true" && cl.Text != "false" {
				of += 2
			}
		}
	}
	for _, g := range c.Gaps(level) {
		if g.Level == level {
			covered--
		}
	}
	return of + covered, of
}
