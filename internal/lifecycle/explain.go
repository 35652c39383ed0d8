package lifecycle

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
)

// Explanation says why a subject is in its stage and what would move it (the shape of API.md). Version is the
// caller's to fill in.
type Explanation struct {
	Model   string            `json:"model"`
	Version int               `json:"version"`
	Stage   string            `json:"stage"`
	Label   string            `json:"label"` // of the stage, for people; its name where it has none
	Since   time.Time         `json:"since"`
	By      string            `json:"by,omitempty"`
	At      time.Time         `json:"at"`
	Why     string            `json:"why"`                      // in one sentence
	Path    []string          `json:"path_dependent,omitempty"` // by what
	Rules   []RuleExplanation `json:"rules"`
	Next    NextExplanation   `json:"next"`
	Nearest []Nearest         `json:"nearest"`
	// Held is set while the stage's dwell keeps the subject from going where the rules lead.
	Held *HeldExplanation `json:"held,omitempty"`
}

// HeldExplanation says where the rules lead once the dwell has passed.
type HeldExplanation struct {
	To    string    `json:"to"`
	Until time.Time `json:"until"`
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
	Won     bool                `json:"won"`              // this line decides
	Closed  string              `json:"closed,omitempty"` // why the line is not asked in this stage, though none above it holds
	Waits   *WaitExplanation    `json:"waits,omitempty"`
	Clauses []ClauseExplanation `json:"clauses"`
}

// WaitExplanation says that a condition holds, and until when after or cooldown keeps its rule from winning.
type WaitExplanation struct {
	Option string    `json:"option"`
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until"`
}

// ClauseExplanation is one part of a condition: what stands between and, or, not. Value is what the left side of a
// comparison came to.
type ClauseExplanation struct {
	Text    string              `json:"text"`
	Line    int                 `json:"line"`
	Column  int                 `json:"column"`
	Op      string              `json:"op,omitempty"`     // and, or, not over Clauses
	Value   string              `json:"value"`            // "" where the clause does not compare
	Needed  string              `json:"needed,omitempty"` // what the value is compared with: "at least 180 days"
	Result  *bool               `json:"result"`
	Error   *string             `json:"error,omitempty"`
	Facts   []FactExplanation   `json:"facts"`
	FlipsAt *time.Time          `json:"flips_at"` // when it will flip though nothing happens; null for never
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

// Explain tells, for the state st and the facts as they are, what every rule says at instant at, and what would change it.
func (m *Model) Explain(f *fact.Facts, stages map[string]string, st State, at time.Time) Explanation {
	e := m.explain(f, stages, st, at)
	if st.By != hub.ByPin {
		e.Nearest = m.nearest(f, stages, st, e.At)
		return e
	}
	// While a person's decision holds nothing else moves the subject.
	if free, _ := m.Decide(f, stages, st, e.At); free.Stage != st.Stage {
		e.Nearest = append(e.Nearest, Nearest{Change: "the pin is released", To: free.Stage, At: e.At, Events: []hub.Event{}, Release: true})
	}
	return e
}

// ExplainMove tells how the decision looked that led from the state st to another stage: what Explain does, without looking for
// what else would have changed it.
func (m *Model) ExplainMove(f *fact.Facts, stages map[string]string, st State, at time.Time) Explanation {
	return m.explain(f, stages, st, at)
}

func (m *Model) explain(f *fact.Facts, stages map[string]string, st State, at time.Time) Explanation {
	at = at.UTC().Truncate(hub.Resolution)
	e := Explanation{
		Model: m.Name, Stage: st.Stage, Label: st.Stage, Since: st.Since, By: st.By, At: at, Path: m.reasons,
		Rules: m.Asked(f, stages, st, at), Nearest: []Nearest{},
	}
	if stage := m.stage[st.Stage]; stage != nil {
		e.Label = stage.Label("en")
	}
	if st.By == hub.ByPin {
		e.Why = fmt.Sprintf("%s: set by a person.", m.called(st.Stage))
		if until := st.WakesAt; until.After(at) {
			next, _ := m.Decide(f, stages, st, until)
			e.Next = NextExplanation{At: &until, To: &next.Stage}
			e.Why = fmt.Sprintf("%s: set by a person until %s.", m.called(st.Stage), until.UTC().Format(time.DateOnly))
		}
		return e
	}
	won := slices.IndexFunc(e.Rules, func(r RuleExplanation) bool { return r.Won })
	e.Why = m.Why(f, stages, st, won, at)
	if e.Rules[won].Closed != "" {
		e.Why = m.called(st.Stage) + ": the stage is terminal, and no rule leads out of it."
	}
	now, _ := m.Decide(f, stages, st, at)
	if present := m.stage[st.Stage]; present != nil && present.Dwell > 0 && now.Stage == st.Stage {
		if free, to := st.Since.Add(present.Dwell), e.Rules[won].Stage; to != "" && to != st.Stage && at.Before(free) {
			e.Held = &HeldExplanation{To: to, Until: free}
			e.Why = fmt.Sprintf("%s: held by its dwell until %s; then %s", m.called(st.Stage), free.Format(time.DateOnly), e.Why)
		}
	}
	for range maxFlips {
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

// Asked tells what each line of decide says in state st at instant at, as [Model.Explain] does, without looking ahead.
func (m *Model) Asked(f *fact.Facts, stages map[string]string, st State, at time.Time) []RuleExplanation {
	x := explainer{m: m, in: expression.Input{Facts: f, At: at, Stages: stages, Stage: st.Stage, Since: st.Since}}
	won := false
	waiting := map[int]Waiting{} // rules that hold but wait for their after or cooldown
	for _, w := range m.Waiting(f, stages, st, at) {
		waiting[w.Rule] = w
	}
	present := m.stage[st.Stage]
	out := make([]RuleExplanation, 0, len(m.rules)+1)
	for i := range m.rules {
		r := &m.rules[i]
		open := r.open(st.Stage, present)
		line := RuleExplanation{Stage: r.stage, When: strings.TrimSpace(r.when.Text), Line: r.line, Reached: open && !won}
		line.Result, line.Error, _ = x.run(r.when)
		line.Clauses = x.clauses(r.when)
		if w, ok := waiting[i]; ok && line.Reached {
			line.Waits = &WaitExplanation{Option: w.Option, Since: w.Since, Until: w.Until}
		}
		if !open && !won {
			line.Closed = "the present stage is terminal"
			if len(r.from) > 0 {
				line.Closed = "only from " + strings.Join(r.from, ", ")
			}
		}
		line.Won = line.Reached && line.Waits == nil && line.Result != nil && *line.Result
		won = won || line.Won
		out = append(out, line)
	}
	yes := true
	last := RuleExplanation{Stage: m.otherwise, When: "otherwise", Line: m.line, Reached: !won, Result: &yes, Won: !won, Clauses: []ClauseExplanation{}}
	if last.Stage == "" || !won && present != nil && present.Terminal {
		last.Stage = st.Stage
		if last.When = "otherwise: stay"; m.otherwise != "" {
			last.Closed = "the present stage is terminal"
		}
	}
	return append(out, last)
}

// explainer evaluates conditions and their parts at one instant.
type explainer struct {
	m  *Model
	in expression.Input
}

// run evaluates a condition and tells when silence alone will flip it.
func (x explainer) run(p *expression.Program) (result *bool, failed *string, flips *time.Time) {
	ask := func(at time.Time) (bool, time.Time, error) {
		in := x.in
		in.At = at
		s := expression.Begin(in)
		defer s.End()
		b, err := s.Bool(p)
		return b, s.Next(), err
	}
	now, next, err := ask(x.in.At)
	for range maxFlips {
		if next.IsZero() {
			break
		}
		at := next
		var then bool
		var thenErr error
		if then, next, thenErr = ask(at); then != now || (thenErr == nil) != (err == nil) {
			flips = &at
			break
		}
	}
	if err != nil {
		text := err.Error()
		return nil, &text, flips
	}
	return &now, nil, flips
}

// maxFlips bounds the instants that are looked at for one at which a clause flips: most flip at the first.
const maxFlips = 100

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
	s := expression.Begin(x.in)
	defer s.End()
	e.Value, e.Needed = s.Found(c), s.Needed(c)
	if c.Define == nil {
		e.Facts = x.facts(s, c)
	}
	return e
}

// facts names what a clause looked at, with the newest events behind it.
func (x explainer) facts(s *expression.Session, c *expression.Clause) []FactExplanation {
	looks, out := c.Looks(), []FactExplanation{}
	f := x.in.Facts
	entries := func(name, value string, list []*fact.Entry) {
		shown := FactExplanation{Name: name, Value: value, EventIDs: []string{}}
		for i := len(list) - 1; i >= max(0, len(list)-newestEvents); i-- {
			shown.EventIDs = append(shown.EventIDs, list[i].ID)
		}
		out = append(out, shown)
	}
	within := func(d time.Duration) string {
		if d == 0 {
			return ""
		}
		return " within " + expression.FormatDuration(d)
	}
	for _, l := range looks.Lists {
		if l.Object == "" {
			list := s.Entries(l)
			entries(l.Name+within(l.Window), strconv.Itoa(len(list)), list)
			continue
		}
		objects, all := s.Objects(l), f.Objects(l.Object)
		value := strconv.Itoa(len(all))
		if l.Predicate {
			value = fmt.Sprintf("%d of %d", len(objects), len(all))
		}
		var behind []*fact.Entry
		for _, o := range objects {
			behind = append(behind, o.Entries()...)
		}
		slices.SortStableFunc(behind, func(a, b *fact.Entry) int { return cmp.Compare(a.Millis(), b.Millis()) })
		entries(l.Name, value, behind)
	}
	for _, survey := range looks.Surveys {
		shown := FactExplanation{Name: survey.Name + within(survey.Window), Value: "never given", EventIDs: []string{}}
		for _, e := range slices.Backward(f.Kind("survey.answered")) {
			metric, _ := e.Text("metric")
			score, ok := e.Number("score")
			if metric != survey.Name || !ok {
				continue
			}
			if survey.Window == 0 || x.in.At.Sub(e.At()) < survey.Window {
				shown.Value, shown.EventIDs = expression.Format(score), []string{e.ID}
			} else {
				shown.Value = "none since " + e.At().Format(time.DateOnly)
			}
			break
		}
		out = append(out, shown)
	}
	for _, spent := range looks.Spent {
		var list []*fact.Entry
		for _, e := range f.Kind("order.paid") {
			if m, ok := e.Money("amount"); ok && m.Currency == spent.Name && (spent.Window == 0 || x.in.At.Sub(e.At()) < spent.Window) {
				list = append(list, e)
			}
		}
		entries("order.paid in "+spent.Name+within(spent.Window), strconv.Itoa(len(list)), list)
	}
	traits := f.Traits()
	for _, name := range looks.Traits {
		shown := FactExplanation{Name: name, Value: "not known", EventIDs: []string{}}
		if t, ok := traits[name]; ok {
			shown.Value, shown.EventIDs = expression.Format(t.Value), []string{t.EventID()}
		} else if name == "name" && f.Name() != "" {
			shown.Value = f.Name()
		}
		out = append(out, shown)
	}
	for _, channel := range looks.Consents {
		shown := FactExplanation{Name: "consent for " + channel, Value: "not known", EventIDs: []string{}}
		for _, e := range slices.Backward(f.Kind("consent.changed")) {
			if of, _ := e.Text("channel"); of == channel {
				shown.Value, _ = e.Text("state")
				shown.EventIDs = []string{e.ID}
				break
			}
		}
		out = append(out, shown)
	}
	for _, name := range looks.Channels {
		c := f.Channel(name)
		var parts []string
		for _, flag := range []struct {
			is   bool
			what string
		}{{c.Following, "following"}, {c.Consent != "", "consent " + c.Consent}, {c.Reachable, "reachable"}, {!c.Reachable, "not reachable"}} {
			if flag.is {
				parts = append(parts, flag.what)
			}
		}
		out = append(out, FactExplanation{Name: name, Value: strings.Join(parts, ", "), EventIDs: []string{}})
	}
	for _, name := range looks.Scores {
		shown := FactExplanation{Name: name, Value: "not known", EventIDs: []string{}}
		if v := s.Score(name); v != "" {
			shown.Value = v
		}
		out = append(out, shown)
	}
	if looks.Tags {
		out = append(out, FactExplanation{Name: "tags", Value: strings.Join(f.Tags(), ", "), EventIDs: []string{}})
	}
	for _, model := range looks.Models {
		out = append(out, FactExplanation{Name: "stage in " + model, Value: x.in.Stages[model], EventIDs: []string{}})
	}
	if looks.Stage && !x.in.Since.IsZero() {
		out = append(out, FactExplanation{Name: "stage", Value: x.in.Stage + " since " + x.in.Since.UTC().Format(time.RFC3339), EventIDs: []string{}})
	}
	return out
}
