package lifecycle

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
)

// State is where a subject stands in a model. The caller keeps it.
type State struct {
	Stage     string
	Since     time.Time // business instant of entering it
	DecidedAt time.Time // business instant of the latest decision
	WakesAt   time.Time // the next instant at which the decision can differ by silence alone; zero for never
	By        string    // hub.ByRule, ByInitial; the caller sets ByPin
	Rule      int       // the line of decide that won: its index, otherwise included; -1 for pins
	// Path is what a path-dependent model must remember beside Stage and Since. Nil in this release.
	Path []byte
}

// Step is one move from stage to stage.
type Step struct {
	From, To string
	At       time.Time
	Rule     int
	Why      string
}

// ConditionError says that the condition of a rule failed at run time: it counted as not holding.
type ConditionError struct {
	Model        string
	Rule         int
	Line, Column int
	Err          error
}

func (e *ConditionError) Error() string {
	return fmt.Sprintf("model %s: decide[%d] (%d:%d): %s", e.Model, e.Rule, e.Line, e.Column, e.Err)
}

// Unwrap returns the cause.
func (e *ConditionError) Unwrap() error { return e.Err }

// Initial returns the stage that empty facts give, decided at at. The caller starts a customer there just before the
// first event.
func (m *Model) Initial(at time.Time) State {
	at = at.UTC().Truncate(hub.Resolution)
	st, _ := m.Decide(fact.Union(), nil, State{}, at)
	st.Since, st.By = at, hub.ByInitial
	return st
}

// Decide takes one decision at instant at: the first rule that holds wins. stages has the stage in each model that
// the conditions name. The result has Since at at where it moved, and WakesAt strictly after at. The errors are
// *ConditionError; each counted as not holding.
//
// Where the present stage is part of the question (a path-dependent model), the question is asked again from the
// stage moved to until the answer stays, so that deciding twice at one instant changes nothing. A model whose rules
// lead round in a circle stops before it enters a stage for the second time.
func (m *Model) Decide(f *fact.Facts, stages map[string]string, st State, at time.Time) (State, []error) {
	out, errs := m.decide(f, stages, st, at)
	if len(m.reasons) == 0 || out.Stage == st.Stage {
		return out, errs
	}
	visited := []string{st.Stage, out.Stage}
	for {
		again, failed := m.decide(f, stages, out, at)
		errs = append(errs, failed...)
		if again.Stage == out.Stage || slices.Contains(visited, again.Stage) {
			out.WakesAt = again.WakesAt
			return out, errs
		}
		visited = append(visited, again.Stage)
		out = again
	}
}

// decide asks once.
func (m *Model) decide(f *fact.Facts, stages map[string]string, st State, at time.Time) (State, []error) {
	s := expression.Begin(expression.Input{Facts: f, At: at, Stages: stages, Stage: st.Stage, Since: st.Since})
	defer s.End()
	present := m.stage[st.Stage] // nil before the first decision, and when a new version dropped the stage
	to, won := "", len(m.rules)
	var errs []error
	for i := range m.rules {
		r := &m.rules[i]
		if !r.open(st.Stage, present) {
			continue
		}
		holds, err := s.Bool(r.when)
		if err != nil {
			errs = append(errs, m.failed(i, err))
			continue
		}
		if holds {
			to, won = r.stage, i
			break
		}
	}
	if to == "" && (present == nil || !present.Terminal) {
		to = m.otherwise
	}
	if to == "" { // stay; before the first decision there is nowhere to stay but at the start
		if to = st.Stage; present == nil {
			to = m.Stages[0].Name
		}
	}
	next := s.Next()
	if present != nil && to != st.Stage && present.Dwell > 0 && !slices.Contains(present.YieldsTo, to) {
		if free := st.Since.Add(present.Dwell); at.Before(free) {
			to, won = st.Stage, st.Rule
			if next.IsZero() || free.Before(next) {
				next = free
			}
		}
	}
	out := State{Stage: to, Since: st.Since, DecidedAt: at, WakesAt: next, By: hub.ByRule, Rule: won, Path: st.Path}
	if to != st.Stage {
		out.Since = at
	} else if st.By == hub.ByInitial {
		out.By = hub.ByInitial
	}
	return out, errs
}

// open reports whether a rule is asked at all in the present stage.
func (r *rule) open(stage string, present *Stage) bool {
	if len(r.from) > 0 {
		return slices.Contains(r.from, stage)
	}
	return present == nil || !present.Terminal
}

func (m *Model) failed(rule int, err error) error {
	e := &ConditionError{Model: m.Name, Rule: rule, Line: m.rules[rule].line, Err: err}
	if at, ok := errors.AsType[*expression.RunError](err); ok {
		e.Line, e.Column = m.places[m.rules[rule].when].at(at.Offset)
	}
	return e
}

// Advance chains the wake-ups at or before until, at most max of them: with more left, the state's WakesAt is still at
// or before until. Steps are the moves, in order.
func (m *Model) Advance(f *fact.Facts, stages map[string]string, st State, until time.Time, max int) ([]Step, State, []error) {
	var steps []Step
	var errs []error
	for n := 0; n < max && !st.WakesAt.IsZero() && !st.WakesAt.After(until); n++ {
		at := st.WakesAt
		next, failed := m.Decide(f, stages, st, at)
		errs = append(errs, failed...)
		if next.Stage != st.Stage {
			steps = append(steps, Step{From: st.Stage, To: next.Stage, At: at, Rule: next.Rule, Why: m.Why(f, stages, st, next.Rule, at)})
		}
		st = next
	}
	return steps, st, errs
}
