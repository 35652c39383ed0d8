package lifecycle

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
)

// maxWakes bounds the wake-ups between two points of a test.
const maxWakes = 10_000

// Moment is one decision of a test, for those who watch it.
type Moment struct {
	Model         *Model // with the parameters of the test
	At            time.Time
	Before, After State
	Facts         *fact.Facts
	Stages        map[string]string // in other models; do not change it
	Cause         string            // the kind of the event, or one of the causes below
}

// Causes of a Moment that are no event.
const (
	CauseSilence = "silence"
	CauseOther   = "another model"
	CausePin     = "a person"
	CauseScores  = "scores"
)

// Taken is a move that a test came upon, and the sentence for it.
type Taken struct {
	Step

	Cause string
}

// With returns the model with params in place of those that Env.Params gave it, and without tests. The models it makes
// are kept. An error is what [Compile] says of it.
func (m *Model) With(params map[string]string) (*Model, error) {
	var key strings.Builder
	for _, name := range slices.Sorted(maps.Keys(params)) {
		fmt.Fprintf(&key, "%q=%q ", name, params[name])
	}
	if v, ok := m.variants.Load(key.String()); ok {
		return v.(*Model), nil
	}
	env := m.source
	env.Params = params
	v, err := compileModel(m.file, m.text, env, false)
	if err != nil {
		return nil, err
	}
	m.variants.Store(key.String(), v)
	return v, nil
}

// Source returns what the model was compiled from.
func (m *Model) Source() (file string, text []byte, env Env) { return m.file, m.text, m.source }

// runner walks one customer through a test.
type runner struct {
	m      *Model
	t      *Test
	watch  func(Moment)
	brief  bool // moves without sentences
	p      fact.Profile
	facts  *fact.Facts
	known  fact.Known
	stages map[string]string
	st     State
	pinned bool
	until  time.Time // of the pin
	moves  []Taken
	errs   []error
	tired  time.Time // where silence had more wake-ups than a test goes through
	// before is the state before the decision that brought the present stage, for its sentence.
	before State
	why    string // of the move into the present stage
}

// Run runs the test on a model, its own or a changed one of the same names.
func (t *Test) Run(m *Model) TestResult {
	r, _ := t.run(m, nil, false)
	return r
}

// Watch runs the test like Run and shows every decision to watch.
func (t *Test) Watch(m *Model, watch func(Moment)) TestResult {
	r, _ := t.run(m, watch, false)
	return r
}

// Fails runs the test on a changed model. It notices the change where what is decided is not as expected, or a named
// condition; it differs where the explanation is another one at least. With textual set the change is one to the text of a
// condition, which explanations repeat: then another explanation alone is no notice of it.
func (t *Test) Fails(m *Model, textual bool) (notices, differs bool) {
	r, _ := t.run(m, nil, true)
	notices = slices.ContainsFunc(r.Details, func(f Failure) bool { return !textual || !f.explains })
	return notices, len(r.Details) > 0
}

// Trace returns the moves of the test's customer through Until.
func (t *Test) Trace(m *Model) []Taken {
	_, moves := t.run(m, nil, true)
	return moves
}

func (t *Test) run(m *Model, watch func(Moment), brief bool) (TestResult, []Taken) {
	result := TestResult{Model: m.Name, File: m.file, Name: t.Name, Line: t.Line}
	// What a configuration overrides does not count: a test is about the model as it is written.
	if len(t.Params) > 0 || len(m.source.Params) > 0 {
		variant, err := m.With(t.Params)
		if err != nil {
			result.fail(Failure{Line: t.Line, What: "the parameters do not fit the model:", Expected: "a model that compiles", Got: err.Error()})
			return result, nil
		}
		m = variant
	}
	r := runner{m: m, t: t, watch: watch, brief: brief, facts: m.ofTest(fact.Union()), stages: map[string]string{}}
	r.st = m.Initial(t.Start.Add(-hub.Resolution))
	r.before = r.st
	initial := r.st.Stage
	points := r.points()
	r.know()
	for _, point := range points {
		r.advance(point.at.Add(-hub.Resolution))
		if point.expect == nil {
			point.do()
			continue
		}
		r.advance(point.at)
		for _, f := range r.check(point.expect) {
			result.fail(f)
		}
	}
	r.advance(t.Until)
	result.all(t.checkMoves(&r, initial))
	if !r.tired.IsZero() {
		result.fail(Failure{
			Line: t.Line, At: r.tired, What: "silence has had", Expected: "fewer: name an earlier time",
			Got: fmt.Sprintf("more than %d wake-ups since something happened", maxWakes),
		})
	}
	seen := map[string]bool{}
	for _, err := range r.errs {
		if text := err.Error(); !seen[text] {
			seen[text] = true
			line := t.Line
			if at, ok := errors.AsType[*ConditionError](err); ok {
				line = at.Line
			}
			result.fail(broken(line, err))
		}
	}
	return result, r.moves
}

func (r *TestResult) fail(f Failure) {
	r.Details = append(r.Details, f)
	r.Failures = append(r.Failures, f.String())
}

func (r *TestResult) all(failures []Failure) {
	for _, f := range failures {
		r.fail(f)
	}
}

// testPoint is one thing of a test: something that happens, or an expectation.
type testPoint struct {
	at     time.Time
	do     func()
	expect *Expectation
}

// points returns what happens, in order; of one instant first the stages of other models, then scores, pins, events and last what
// is expected.
func (r *runner) points() []testPoint {
	var out []testPoint
	for _, o := range r.t.Stages {
		if o.At.IsZero() {
			r.stages[o.Model] = o.Stage
			continue
		}
		out = append(out, testPoint{at: o.At, do: func() {
			r.stages = maps.Clone(r.stages) // who watches may have kept it
			r.stages[o.Model] = o.Stage
			r.decideOnce(o.At, CauseOther)
		}})
	}
	r.known.Identifiers = r.t.Identifiers
	for i := range r.t.Scores {
		sc := &r.t.Scores[i]
		if sc.At.IsZero() {
			r.known.Scores = &sc.Scores
			continue
		}
		out = append(out, testPoint{at: sc.At, do: func() {
			r.known.Scores = &sc.Scores
			r.know()
			r.decideOnce(sc.At, CauseScores)
		}})
	}
	for _, p := range r.t.Pins {
		out = append(out, testPoint{at: p.At, do: func() { r.pin(p) }})
	}
	for i := range r.t.Events {
		ev := &r.t.Events[i]
		out = append(out, testPoint{at: ev.Known, do: func() {
			r.p.Put(&ev.Event)
			r.know()
			r.decide(ev.Known, ev.Kind)
		}})
	}
	for i := range r.t.Expect {
		out = append(out, testPoint{at: r.t.Expect[i].At, expect: &r.t.Expect[i]})
	}
	slices.SortStableFunc(out, func(a, b testPoint) int {
		last := func(s testPoint) int {
			if s.expect != nil {
				return 1
			}
			return 0
		}
		return cmp.Or(a.at.Compare(b.at), cmp.Compare(last(a), last(b)))
	})
	return out
}

// know makes the facts anew: those that who watches has kept stay as they are.
func (r *runner) know() {
	r.facts = r.m.ofTest(fact.Union(&r.p))
	r.facts.Know(r.known)
}

// advance lets silence do what it does through until.
func (r *runner) advance(until time.Time) {
	for n := 0; !r.st.WakesAt.IsZero() && !r.st.WakesAt.After(until); n++ {
		if n == maxWakes {
			r.tired, r.st.WakesAt = r.st.WakesAt, time.Time{}
			return
		}
		at := r.st.WakesAt
		r.st.WakesAt = time.Time{}
		r.decide(at, CauseSilence)
	}
}

// decide takes a decision, unless a person has taken it.
func (r *runner) decide(at time.Time, cause string) {
	if r.pinned {
		if r.until.IsZero() || at.Before(r.until) {
			r.st.WakesAt = r.until
			return
		}
		r.pinned = false
	}
	before := r.st
	next, errs := r.m.Decide(r.facts, r.stages, before, at)
	r.errs = append(r.errs, errs...)
	r.st = next
	r.moved(before, at, cause)
}

// decideOnce is decide, but not before there is a customer.
func (r *runner) decideOnce(at time.Time, cause string) {
	if !at.Before(r.t.Start) {
		r.decide(at, cause)
	}
}

// pin applies a person's decision, or lets go of it.
func (r *runner) pin(p TestPin) {
	if p.Release {
		r.pinned = false
		r.decide(p.At, CausePin)
		return
	}
	before := r.st
	r.pinned, r.until = true, p.Until
	r.st = r.m.Place(r.stages, r.st, p.Stage, p.At)
	r.st.WakesAt = p.Until
	r.moved(before, p.At, CausePin)
}

func (r *runner) moved(before State, at time.Time, cause string) {
	if r.watch != nil {
		r.watch(Moment{Model: r.m, At: at, Before: before, After: r.st, Facts: r.facts, Stages: r.stages, Cause: cause})
	}
	if r.st.Stage == before.Stage {
		return
	}
	r.before, r.why = before, ""
	if r.explains() {
		r.why = r.m.Why(r.facts, r.stages, before, r.st.Rule, at)
	}
	r.moves = append(r.moves, Taken{Step{From: before.Stage, To: r.st.Stage, At: at, Rule: r.st.Rule, Why: r.why}, cause})
}

// explains reports whether anybody asks for sentences: they cost more than the decision.
func (r *runner) explains() bool {
	return !r.brief || slices.ContainsFunc(r.t.Expect, func(x Expectation) bool { return x.Because != nil }) ||
		slices.ContainsFunc(r.t.Moves, func(x ExpectedMove) bool { return x.Because != nil })
}

// check compares an expectation with where the customer stands.
func (r *runner) check(x *Expectation) []Failure {
	var out []Failure
	fail := func(f Failure) {
		f.Line, f.At = cmp.Or(f.Line, x.Line), x.At
		out = append(out, f)
	}
	if x.Stage != "" && r.st.Stage != x.Stage {
		f := Failure{What: "the stage is", Expected: x.Stage, Got: r.st.Stage}
		r.reason(&f, x.At, x.Stage)
		fail(f)
	}
	if x.Move {
		r.checkMove(x, fail)
	}
	if x.AsksWake && !r.st.WakesAt.Equal(x.Wakes) {
		fail(Failure{What: "the next wake-up is", Expected: instant(x.Wakes), Got: instant(r.st.WakesAt)})
	}
	if x.AsksNext {
		at, to := r.next()
		if to != x.NextTo && (x.NextTo != "" || x.NextAt.IsZero()) || !x.NextAt.IsZero() && !at.Equal(x.NextAt) {
			fail(Failure{What: "the next move by silence is", Expected: nextMove(x.NextAt, x.NextTo), Got: nextMove(at, to)})
		}
	}
	if len(x.Because) > 0 && !x.Move {
		now := r.m.ExplainMove(r.facts, r.stages, r.st, x.At).Why
		for _, text := range x.Because {
			if !strings.Contains(now, text) && !strings.Contains(r.why, text) {
				got := now
				if r.why != "" && r.why != now {
					got = strings.TrimSpace(now + " It was entered because of " + r.why)
				}
				fail(Failure{What: "the reason is", Expected: fmt.Sprintf("one with %q", text), Got: fmt.Sprintf("%q", got), explains: true})
			}
		}
	}
	if len(x.Nearest) > 0 {
		var changes []string
		for _, n := range r.m.Explain(r.facts, r.stages, r.st, x.At).Nearest {
			changes = append(changes, n.To+": "+n.Change)
		}
		for _, text := range x.Nearest {
			if !slices.ContainsFunc(changes, func(c string) bool { return strings.Contains(c, text) }) {
				fail(Failure{
					What: "the nearest changes are", Expected: fmt.Sprintf("one with %q", text), Got: cmp.Or(strings.Join(changes, "; "), "none"), explains: true,
				})
			}
		}
	}
	for _, c := range x.Clauses {
		found := r.clause(c.Text, x.At)
		if len(found) == 0 { // of a changed model: in its own, it was looked up when the test was read
			fail(Failure{Line: c.Line, What: c.Text + " is", Expected: fmt.Sprint(c.Is), Got: "no part of the model", explains: true})
		}
		for _, got := range found {
			if got.Result == nil || *got.Result != c.Is {
				text := "not to be evaluated"
				if got.Result != nil {
					text = fmt.Sprint(*got.Result)
				}
				if got.Value != "" {
					text += " (it is " + got.Value + ")"
				}
				fail(Failure{Line: c.Line, What: c.Text + " is", Expected: fmt.Sprint(c.Is), Got: text, explains: r.m.defines[c.Text] == nil})
				break
			}
		}
	}
	return out
}

// checkMove looks for a move at the very instant.
func (r *runner) checkMove(x *Expectation, fail func(Failure)) {
	want := arrow(x.From, x.To)
	got := "no move"
	for _, mv := range r.moves {
		if !mv.At.Equal(x.At) {
			continue
		}
		if (x.From != "" && mv.From != x.From) || (x.To != "" && mv.To != x.To) {
			got = arrow(mv.From, mv.To)
			continue
		}
		for _, text := range x.Because {
			if !strings.Contains(mv.Why, text) {
				fail(Failure{What: "the reason is", Expected: fmt.Sprintf("one with %q", text), Got: fmt.Sprintf("%q", mv.Why), explains: true})
			}
		}
		return
	}
	if got == "no move" {
		got = "no move, she is in " + r.st.Stage + " since " + instant(r.st.Since)
	}
	f := Failure{What: "the move is", Expected: want, Got: got}
	r.reason(&f, x.At, x.To)
	fail(f)
}

// checkMoves compares the whole walk.
func (t *Test) checkMoves(r *runner, initial string) []Failure {
	var out []Failure
	if t.Walk != nil {
		got := []string{initial}
		for _, mv := range r.moves {
			got = append(got, mv.To)
		}
		if !slices.Equal(got, t.Walk) {
			out = append(out, Failure{
				Line: t.line, What: "the walk is", Expected: strings.Join(t.Walk, " > "), Got: strings.Join(got, " > "), Because: t.astray(r, got),
			})
		}
	}
	if !t.AllMoves {
		return out
	}
	for i := range max(len(t.Moves), len(r.moves)) {
		switch {
		case i >= len(r.moves):
			return append(out, Failure{
				Line: t.Moves[i].Line, What: fmt.Sprintf("transition %d is", i+1), Expected: t.Moves[i].String(),
				Got: "missing: she stays in " + r.st.Stage, Because: t.ended(),
			})
		case i >= len(t.Moves):
			mv := r.moves[i]
			return append(out, Failure{Line: t.line, At: mv.At, What: fmt.Sprintf("transition %d is", i+1), Expected: "none", Got: arrow(mv.From, mv.To), Because: mv.Why})
		}
		x, mv := t.Moves[i], r.moves[i]
		if mv.To != x.To || x.From != "" && mv.From != x.From || !x.At.IsZero() && !mv.At.Equal(x.At) {
			return append(out, Failure{
				Line: x.Line, At: mv.At, What: fmt.Sprintf("transition %d is", i+1), Expected: x.String(), Got: arrow(mv.From, mv.To), Because: mv.Why,
			})
		}
		for _, text := range x.Because {
			if !strings.Contains(mv.Why, text) {
				out = append(out, Failure{
					Line: x.Line, At: mv.At, What: "the reason is", Expected: fmt.Sprintf("one with %q", text), Got: fmt.Sprintf("%q", mv.Why), explains: true,
				})
			}
		}
	}
	return out
}

// astray returns the sentence of the first move that the walk does not have.
func (t *Test) astray(r *runner, got []string) string {
	for i, mv := range r.moves {
		if i+1 >= len(t.Walk) || t.Walk[i+1] != got[i+1] {
			return fmt.Sprintf("at %s: %s", instant(mv.At), mv.Why)
		}
	}
	return t.ended()
}

// ended reminds of where the test stopped looking.
func (t *Test) ended() string {
	return "the test ends at " + instant(t.Until) + "; until: +90d looks further"
}

// String gives the move as a report shows it.
func (x ExpectedMove) String() string {
	text := arrow(x.From, x.To)
	if !x.At.IsZero() {
		text += " at " + instant(x.At)
	}
	return text
}

func arrow(from, to string) string {
	return cmp.Or(from, "any stage") + " > " + cmp.Or(to, "any stage")
}

func instant(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func nextMove(at time.Time, to string) string {
	switch {
	case at.IsZero() && to == "":
		return "none"
	case at.IsZero():
		return "to " + to
	case to == "":
		return "at " + instant(at)
	}
	return "to " + to + " at " + instant(at)
}

// next returns the next move that silence alone brings; zero for none.
func (r *runner) next() (time.Time, string) {
	st := r.st
	for range maxWakes {
		at := st.WakesAt
		if at.IsZero() {
			break
		}
		next, _ := r.m.Decide(r.facts, r.stages, st, at)
		if next.Stage != st.Stage {
			return at, next.Stage
		}
		st = next
	}
	return time.Time{}, ""
}

// reason tells why the customer is where she is, and what the rules say that lead to the stage that was expected.
func (r *runner) reason(f *Failure, at time.Time, expected string) {
	if r.brief {
		return
	}
	now := r.m.ExplainMove(r.facts, r.stages, r.st, at)
	if f.Because = now.Why; r.why != "" && r.st.Rule >= len(r.m.rules) {
		f.Because = r.why // more than that no rule holds
	}
	if won := r.st.Rule; won >= 0 && won < len(r.m.rules) {
		// In the state before the move: the rule may be closed in the stage that it led to.
		line := r.m.Asked(r.facts, r.stages, r.before, at)[won]
		f.Rule, f.Clauses = line.Line, line.Clauses
	}
	for i, line := range now.Rules[:len(r.m.rules)] {
		if line.Stage == expected && i != r.st.Rule {
			f.Instead = append(f.Instead, line)
		}
	}
}

// clause returns what the conditions' parts of that text come to, and the defined condition of that name.
func (r *runner) clause(text string, at time.Time) []ClauseExplanation {
	var found []ClauseExplanation
	var walk func(list []ClauseExplanation)
	walk = func(list []ClauseExplanation) {
		for _, c := range list {
			if plain(c.Text) == text {
				found = append(found, c)
			}
			walk(c.Clauses)
		}
	}
	for _, line := range r.m.Asked(r.facts, r.stages, r.st, at) {
		walk(line.Clauses)
	}
	if p := r.m.defines[text]; p != nil && p.Type.Base == expression.Bool {
		x := explainer{m: r.m, in: expression.Input{Facts: r.facts, At: at, Stages: r.stages, Stage: r.st.Stage, Since: r.st.Since}}
		c := ClauseExplanation{Text: text}
		c.Result, c.Error, _ = x.run(p)
		found = append(found, c)
	}
	return found
}
