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
	// Path is what a path-dependent model must remember beside Stage and Since, in a format of its own; nil for all others.
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

// Initial returns the stage that empty facts give, decided at at, where no other model is known. The caller starts a customer there
// just before the first event.
func (m *Model) Initial(at time.Time) State { return m.Start(nil, at) }

// Start is Initial with the stages that the subject has in other models.
func (m *Model) Start(stages map[string]string, at time.Time) State {
	at = at.UTC().Truncate(hub.Resolution)
	nothing := fact.Union()
	if m.Of == hub.SubjectDeal {
		nothing = nothing.Deal("", "")
	}
	st, _ := m.Decide(nothing, stages, State{}, at)
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
	d := decision{m: m, facts: f, stages: stages, at: millis(at)}
	var errs []error
	if m.remembers() {
		var err error
		if d.mem, err = m.recall(st.Path); err != nil {
			errs = append(errs, &ConditionError{Model: m.Name, Rule: -1, Line: 1, Column: 1, Err: err})
		}
	}
	out, failed := d.decide(st)
	errs = append(errs, failed...)
	if len(m.reasons) > 0 && out.Stage != st.Stage {
		visited := []string{st.Stage, out.Stage}
		for {
			again, failed := d.decide(out)
			errs = append(errs, failed...)
			if again.Stage == out.Stage || slices.Contains(visited, again.Stage) {
				out.WakesAt = again.WakesAt
				break
			}
			visited = append(visited, again.Stage)
			out = again
		}
	}
	if m.remembers() {
		if st.Stage != "" && out.Stage != st.Stage {
			d.mem.leave(m, st.Stage, d.at)
		}
		d.mem.note(m, out, stages, d.at)
		out.Path = d.mem.encode(m)
	} else {
		out.Path = nil
	}
	return out, errs
}

// decide asks once.
func (d *decision) decide(st State) (State, []error) {
	m, at := d.m, time.UnixMilli(d.at).UTC()
	s := expression.Begin(expression.Input{Facts: d.facts, At: at, Stages: d.stages, Stage: st.Stage, Since: st.Since})
	defer s.End()
	present := m.stage[st.Stage] // nil before the first decision, and when a new version dropped the stage
	to, won := "", len(m.rules)
	var errs []error
	var freed time.Time // when the first of the rules that wait for after or cooldown is free
	for i := range m.rules {
		r := &m.rules[i]
		if !r.open(st.Stage, present) {
			continue
		}
		holds, err := s.Bool(r.when)
		if err == nil && holds && (r.after > 0 || r.cooldown > 0) {
			var until int64
			if holds, until, err = d.free(i, st); until != 0 {
				freed = earlier(freed, time.UnixMilli(until).UTC())
			}
		}
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
	next := earlier(s.Next(), freed)
	if present != nil && to != st.Stage && present.Dwell > 0 && !slices.Contains(present.YieldsTo, to) {
		if free := st.Since.Add(present.Dwell); at.Before(free) {
			to, won = st.Stage, st.Rule
			next = earlier(next, free)
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

// earlier returns the earlier of two instants of which zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

// open reports whether a rule is asked at all in the present stage.
func (r *rule) open(stage string, present *Stage) bool {
	if len(r.from) > 0 {
		return slices.Contains(r.from, stage)
	}
	return present == nil || !present.Terminal
}

func (m *Model) failed(rule int, err error) error {
	e := &ConditionError{Model: m.Name, Rule: rule, Line: m.rules[rule].line, Column: 1, Err: err}
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
