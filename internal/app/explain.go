package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/stagewire/stagewire/internal/config"
	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/lifecycle"
	"github.com/stagewire/stagewire/internal/server"
)

// maxSilence bounds the wake-ups that are chained for an instant to come.
const maxSilence = 10_000

// Explain tells why the customer is in her stage, or was, clause by clause.
func (v views) Explain(ctx context.Context, rec *hub.CustomerRecord, q server.ExplainQuery) (*server.Explain, error) {
	if q.Transition != "" {
		return v.explainMove(ctx, rec, q)
	}
	v.mu.RLock()
	compiled := v.compiled
	v.mu.RUnlock()
	name, err := whichModel(rec, compiled, q.Model)
	if err != nil {
		return nil, err
	}
	st, err := whichStage(rec, name, q.Deal)
	if err != nil {
		return nil, err
	}
	now := v.Clock.Business()
	if !q.At.IsZero() && q.At.Before(now) {
		return v.explainPast(ctx, rec, st, q)
	}
	m := modelOf(compiled.models, name)
	facts, err := factsOf(rec)
	if err != nil {
		return nil, err
	}
	scoredBy(facts, v.pipeline.Scorer())
	facts = seenBy(facts, st.Subject)
	state := lifecycle.State{Stage: st.Stage, Since: st.Since, DecidedAt: st.DecidedAt, WakesAt: st.WakesAt, By: st.By, Path: st.Path}
	stages := stagesOf(rec, st.Subject)
	at := now
	if q.At.After(now) { // what silence brings
		at = q.At
		if _, state, _ = m.Advance(facts, stages, state, at, maxSilence); state.Stage != st.Stage {
			stages[name] = state.Stage
		}
	}
	out := explained(m, m.Explain(facts, stages, state, at), st.Version, q)
	out.Subject = st.Subject
	pinned(out, rec, at)
	return out, nil
}

// whichStage finds the standing that is asked about. Before anybody stood in the model there is none.
func whichStage(rec *hub.CustomerRecord, model, deal string) (*hub.StageRecord, error) {
	var found []*hub.StageRecord
	var deals []string
	for i := range rec.Stages {
		st := &rec.Stages[i]
		if st.Model != model || deal != "" && st.Subject.ID != deal && !strings.HasSuffix(st.Subject.ID, ":"+deal) {
			continue
		}
		found = append(found, st)
		if st.Subject.Kind == hub.SubjectDeal {
			deals = append(deals, st.Subject.ID)
		}
	}
	switch {
	case len(found) == 0 && deal != "":
		return nil, fmt.Errorf("customer %s has no deal %s in model %s: %w", rec.ID, deal, model, hub.ErrNotFound)
	case len(found) == 0:
		return nil, fmt.Errorf("customer %s has no stage in model %s yet: %w", rec.ID, model, hub.ErrNotFound)
	case len(deals) > 1:
		return nil, fmt.Errorf("say which deal: %s stand in model %s: %w", strings.Join(deals, ", "), model, hub.ErrInvalid)
	}
	return found[0], nil
}

// scoredBy gives the facts what was fitted to all customers.
func scoredBy(facts *fact.Facts, scorer fact.Scorer) {
	known := facts.Known()
	known.Scores = scorer
	facts.Know(known)
}

// scoredThen gives the facts the snapshot of scores that decided at the wire time then, where the model reads any.
func (v views) scoredThen(ctx context.Context, m *lifecycle.Model, facts *fact.Facts, then time.Time) error {
	if !m.Needs().Has(expression.NeedsScores) {
		return nil
	}
	record, err := v.store.ScoresAt(ctx, then)
	if errors.Is(err, hub.ErrNotFound) {
		return nil // unknown, as it was then, or forgotten
	}
	if err != nil {
		return err
	}
	snapshot, err := readSnapshot(record)
	if err != nil {
		return err
	}
	scoredBy(facts, snapshot)
	return nil
}

// seenBy are the facts as the subject sees them.
func seenBy(facts *fact.Facts, subject hub.Subject) *fact.Facts {
	if connection, id, ok := strings.Cut(subject.ID, ":"); ok && subject.Kind == hub.SubjectDeal {
		return facts.Deal(connection, id)
	}
	return facts
}

// stands reports whether a stage of the one subject is seen by the other: the customer's are by her deals.
func stands(of, seen hub.Subject) bool { return of == seen || of.Kind != hub.SubjectDeal }

// whichModel finds the model that is asked about.
func whichModel(rec *hub.CustomerRecord, compiled *compiled, name string) (string, error) {
	var names, used []string
	for _, m := range compiled.models {
		used = append(used, m.Name)
	}
	for _, st := range rec.Stages {
		if slices.Contains(used, st.Model) {
			names = append(names, st.Model)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	switch {
	case name != "" && !slices.Contains(used, name):
		suggestion := config.Nearest(name, used)
		if suggestion == "" {
			suggestion = "in use: " + strings.Join(used, ", ")
		}
		return "", fmt.Errorf("model %q is not in use (%s): %w", name, suggestion, hub.ErrNotFound)
	case name != "":
		return name, nil
	case len(names) == 1:
		return names[0], nil
	case len(names) == 0:
		return "", fmt.Errorf("customer %s has no stage in any model yet: %w", rec.ID, hub.ErrNotFound)
	}
	return "", fmt.Errorf("say which model: the customer has stages in %s: %w", strings.Join(names, ", "), hub.ErrInvalid)
}

func modelOf(models []*lifecycle.Model, name string) *lifecycle.Model {
	for _, m := range models {
		if m.Name == name {
			return m
		}
	}
	return nil
}

func stagesOf(rec *hub.CustomerRecord, subject hub.Subject) map[string]string {
	stages := map[string]string{}
	for i := range rec.Stages {
		if st := &rec.Stages[i]; stands(st.Subject, subject) {
			stages[st.Model] = st.Stage
		}
	}
	return stages
}

// pinned tells who holds the customer in the stage.
func pinned(out *server.Explain, rec *hub.CustomerRecord, at time.Time) {
	for _, p := range rec.Pins {
		if p.Model != out.Model || p.Subject != out.Subject || out.By != hub.ByPin || p.At.After(at) || !p.Until.IsZero() && !at.Before(p.Until) {
			continue
		}
		out.Pin = &server.Pin{Model: p.Model, Stage: p.Stage, Who: p.Who, Why: p.Why, At: server.Time(p.At), Until: server.Time(p.Until)}
		out.Why = strings.TrimSuffix(out.Why, ".") + " (" + p.Who
		if p.Why != "" {
			out.Why += ": " + p.Why
		}
		out.Why += ")."
		return
	}
}

// past is a customer's history and what is needed to ask it.
type past struct {
	hub.Past
	rec    *hub.CustomerRecord
	clock  func(wire time.Time) time.Time
	folded map[string]bool // events that are in the facts now; an echo never is
}

func (v views) past(ctx context.Context, rec *hub.CustomerRecord) (*past, error) {
	h, err := v.store.Past(ctx, rec.ID)
	if err != nil {
		return nil, err
	}
	facts, err := factsOf(rec)
	if err != nil {
		return nil, err
	}
	p := &past{Past: h, rec: rec, clock: v.Clock.At, folded: map[string]bool{}}
	for _, e := range facts.Entries() {
		p.folded[e.ID] = true
	}
	versions := map[string]int{}
	for i := range h.Events {
		versions[h.Events[i].ID]++
	}
	for id, n := range versions {
		if n > 1 { // replaced or withdrawn since
			p.folded[id] = true
		}
	}
	return p, nil
}

// lineage returns the customer of that id and all who were merged into her by a merge that counts.
func (p *past) lineage(id string, counts func(*hub.Merge) bool) map[string]bool {
	of := map[string]bool{id: true}
	for i := len(p.Merges) - 1; i >= 0; i-- { // whoever was merged into one who was merged later comes before
		m := &p.Merges[i]
		if of[m.Into] && (m.Into != id || counts(m)) {
			of[m.From] = true
		}
	}
	return of
}

// facts folds the newest of the versions that were known.
func (p *past) facts(known func(*hub.KnownEvent) bool) *fact.Facts {
	var profile fact.Profile
	latest := map[string]*hub.KnownEvent{}
	for i := range p.Events {
		if ev := &p.Events[i]; p.folded[ev.ID] && known(ev) {
			latest[ev.ID] = ev
		}
	}
	var told []hub.ProfileRecord // their identifiers alone
	for i := range p.Events {
		ev := &p.Events[i]
		if latest[ev.ID] == ev && !ev.Withdrawn {
			profile.Put(&ev.Event)
			told = append(told, hub.ProfileRecord{Identifiers: ev.Identifiers})
		}
	}
	facts := fact.Union(&profile)
	facts.Know(fact.Known{Identifiers: hub.UnionIdentifiers(told)})
	return facts
}

// knownAt returns the business instant from which on each event counted, as they lie in Events: when it happened, or, for one that
// came late, when it came.
func (p *past) knownAt() []time.Time {
	out := make([]time.Time, len(p.Events))
	decided := map[string]time.Time{} // by customer
	moves := map[string][]*hub.Transition{}
	for i := range p.Transitions {
		t := &p.Transitions[i]
		moves[t.CustomerID] = append(moves[t.CustomerID], t)
	}
	for _, i := range p.byCustomer() {
		ev := &p.Events[i]
		of := moves[ev.CustomerID]
		for len(of) > 0 && of[0].Sequence < ev.KnownFrom {
			decided[ev.CustomerID] = later(decided[ev.CustomerID], of[0].At)
			of = of[1:]
		}
		moves[ev.CustomerID] = of
		before := decided[ev.CustomerID]
		out[i] = ev.OccurredAt
		if ev.OccurredAt.Before(before) || ev.Withdrawn {
			out[i] = later(before, p.clock(ev.ReceivedAt))
		}
		decided[ev.CustomerID] = later(before, ev.OccurredAt)
	}
	return out
}

// byCustomer returns the places of the events in the order in which each customer's became known.
func (p *past) byCustomer() []int {
	order := make([]int, len(p.Events))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		x, y := &p.Events[a], &p.Events[b]
		return cmp.Or(cmp.Compare(x.CustomerID, y.CustomerID), cmp.Compare(x.KnownFrom, y.KnownFrom))
	})
	return order
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// before returns where a subject stood in all models after those of its moves that count: what the model remembers of them.
func (p *past) before(m *lifecycle.Model, subject hub.Subject, counts func(*hub.Transition) bool) (lifecycle.State, map[string]string) {
	stages := stagesOf(p.rec, subject) // a model without a move has been where it is
	seen := map[string]bool{}
	var moves []lifecycle.Move
	for i := range p.Transitions {
		t := &p.Transitions[i]
		if !stands(t.Subject, subject) {
			continue
		}
		if !seen[t.Model] {
			seen[t.Model], stages[t.Model] = true, t.From
		}
		if counts(t) {
			by := hub.ByRule
			if t.Cause.Type == hub.CausePin {
				by = hub.ByPin
			}
			moves = append(moves, lifecycle.Move{Model: t.Model, From: t.From, To: t.To, At: t.At, By: by})
		}
	}
	first := p.rec.FirstEventAt.Add(-hub.Resolution)
	st := lifecycle.State{Stage: stages[m.Name], Since: first, DecidedAt: first, By: hub.ByInitial}
	for i := range p.rec.Stages {
		if s := &p.rec.Stages[i]; s.Model == m.Name && s.Subject == subject && !seen[m.Name] {
			st.Since = s.Since
		}
	}
	return m.Recollect(st, stages, moves)
}

// compiledSet compiles the models of a published set.
func compiledSet(set hub.ModelSet) ([]*lifecycle.Model, error) {
	var def definition
	if err := json.Unmarshal(set.Definition, &def); err != nil {
		return nil, fmt.Errorf("model set %d: %w", set.Number, err)
	}
	def.Reactions = nil
	models, _, err := def.compile(nil)
	if err != nil {
		return nil, fmt.Errorf("the model set %d that was published then does not compile any more: %w", set.Number, err)
	}
	return models, nil
}

func versionOf(set hub.ModelSet, name string) int {
	for _, v := range set.Models {
		if v.Name == name {
			return v.Version
		}
	}
	return 0
}

// explainPast tells how things stood at an instant that is over: with what was known then, by the version in force then.
func (v views) explainPast(ctx context.Context, rec *hub.CustomerRecord, st *hub.StageRecord, q server.ExplainQuery) (*server.Explain, error) {
	name, at := st.Model, q.At
	p, err := v.past(ctx, rec)
	if err != nil {
		return nil, err
	}
	known := p.knownAt()
	whose := p.lineage(rec.ID, func(m *hub.Merge) bool { return !m.At.After(at) })
	place := map[*hub.KnownEvent]time.Time{}
	first := time.Time{}
	for i := range p.Events {
		ev := &p.Events[i]
		place[ev] = known[i]
		if whose[ev.CustomerID] && p.folded[ev.ID] && (first.IsZero() || known[i].Before(first)) {
			first = known[i]
		}
	}
	if first.IsZero() || at.Before(first) {
		return nil, fmt.Errorf("at %s nothing was known of customer %s: the first event is of %s: %w", at.UTC().Format(time.RFC3339), rec.ID, first.UTC().Format(time.RFC3339), hub.ErrNotFound)
	}
	facts := p.facts(func(ev *hub.KnownEvent) bool { return whose[ev.CustomerID] && !place[ev].After(at) }).AsOf(at)
	set, err := v.store.PublishedSet(ctx, at)
	if err != nil {
		return nil, err
	}
	models, err := compiledSet(set)
	if err != nil {
		return nil, err
	}
	m := modelOf(models, name)
	if m == nil {
		return nil, fmt.Errorf("model %q was not in use at %s: %w", name, at.UTC().Format(time.RFC3339), hub.ErrNotFound)
	}
	if err := v.scoredThen(ctx, m, facts, at); err != nil {
		return nil, err
	}
	facts = seenBy(facts, st.Subject)
	state, stages := p.before(m, st.Subject, func(t *hub.Transition) bool { return !t.At.After(at) })
	for i := range rec.Pins { // one that is over is known by its transition alone
		if pin := &rec.Pins[i]; pin.Model == name && pin.Subject == st.Subject && state.By == hub.ByPin && !pin.At.After(at) {
			state.WakesAt = pin.Until
		}
	}
	out := explained(m, m.Explain(facts, stages, state, at), versionOf(set, name), q)
	out.Subject = st.Subject
	pinned(out, rec, at)
	return out, nil
}

// explainMove tells a recorded move as it was decided: with what was known then, by that version of the model.
func (v views) explainMove(ctx context.Context, rec *hub.CustomerRecord, q server.ExplainQuery) (*server.Explain, error) {
	p, err := v.past(ctx, rec)
	if err != nil {
		return nil, err
	}
	t, err := p.transition(q)
	if err != nil {
		return nil, err
	}
	set, err := v.store.SetWith(ctx, t.Model, t.Version, t.DecidedAt)
	if err != nil {
		return nil, err
	}
	models, err := compiledSet(set)
	if err != nil {
		return nil, err
	}
	m := modelOf(models, t.Model)
	if m == nil {
		return nil, fmt.Errorf("model %q is not in set %d: %w", t.Model, set.Number, hub.ErrNotFound)
	}
	facts := p.facts(p.knownBy(t))
	if err := v.scoredThen(ctx, m, facts, t.DecidedAt); err != nil {
		return nil, err
	}
	facts = seenBy(facts, t.Subject)
	state, stages := p.before(m, t.Subject, func(o *hub.Transition) bool { return o.CustomerID == t.CustomerID && o.Sequence < t.Sequence })
	state.Stage = t.From // recorded: what a merge brought along is not among the moves
	e := m.ExplainMove(facts, stages, state, t.At)
	out := explained(m, e, t.Version, q)
	out.Subject = t.Subject
	shape := server.TransitionShape(t)
	out.Transition = &shape
	won := slices.IndexFunc(e.Rules, func(r lifecycle.RuleExplanation) bool { return r.Won })
	if t.Rule >= 0 && won >= 0 && e.Rules[won].Stage != t.To {
		out.Note = fmt.Sprintf("recorded was a move to %s by line %d of decide; what is found again leads to %s", t.To, t.Rule+1, e.Rules[won].Stage)
	}
	if t.Why != "" {
		out.Why = t.Why
	}
	return out, nil
}

// knownBy tells which events were known when a move was decided.
func (p *past) knownBy(t *hub.Transition) func(*hub.KnownEvent) bool {
	whose := p.lineage(t.CustomerID, func(m *hub.Merge) bool { return m.Sequence <= t.Sequence })
	return func(ev *hub.KnownEvent) bool {
		switch {
		case !whose[ev.CustomerID] || ev.CustomerID == t.CustomerID && ev.KnownFrom > t.Sequence:
			return false
		case t.Cause.Type == hub.CauseWake: // what was due before an event was decided before it
			return !ev.OccurredAt.After(t.At)
		}
		return true
	}
}

// transition finds the move that is asked about; the error names some there are.
func (p *past) transition(q server.ExplainQuery) (*hub.Transition, error) {
	var some []string
	for i := range p.Transitions {
		t := &p.Transitions[len(p.Transitions)-1-i]
		if q.Model != "" && t.Model != q.Model {
			continue
		}
		if t.ID == q.Transition || q.Transition == "last" {
			return t, nil
		}
		if len(some) < 5 {
			some = append(some, fmt.Sprintf("%s (%s: %s to %s, %s)", t.ID, t.Model, t.From, t.To, t.At.UTC().Format(time.RFC3339)))
		}
	}
	what := "customer " + p.rec.ID + " has no transition " + q.Transition
	if q.Transition == "last" {
		what = "customer " + p.rec.ID + " has no transition"
	}
	if q.Model != "" {
		what += " in model " + q.Model
	}
	if len(some) == 0 {
		return nil, fmt.Errorf("%s: %w", what, hub.ErrNotFound)
	}
	return nil, fmt.Errorf("%s; the newest are %s: %w", what, strings.Join(some, ", "), hub.ErrNotFound)
}

// explained gives an explanation the shape of the API.
func explained(m *lifecycle.Model, e lifecycle.Explanation, version int, q server.ExplainQuery) *server.Explain {
	label := func(stage string) string {
		s := m.Stage(stage)
		switch {
		case s == nil:
			return stage
		case q.Label == nil:
			return s.Label("en")
		}
		return q.Label(s.Labels, stage)
	}
	out := &server.Explain{
		Model: e.Model, Version: version, Stage: e.Stage, Label: label(e.Stage), Since: server.Time(e.Since), By: e.By, At: server.Time(e.At), Why: e.Why,
		PathDependent: append([]string{}, e.Path...), Rules: []server.ExplainRule{}, Next: server.ExplainNext{At: e.Next.At, To: e.Next.To}, Nearest: []server.Nearest{},
	}
	if e.Held != nil {
		out.Held = &server.ExplainHeld{To: e.Held.To, Until: server.Time(e.Held.Until)}
	}
	for _, r := range e.Rules {
		line := server.ExplainRule{
			Stage: r.Stage, When: r.When, Line: r.Line, Reached: r.Reached, Result: r.Result != nil && *r.Result, Error: r.Error,
			Won: r.Won, Closed: r.Closed, Clauses: clauses(r.Clauses),
		}
		if r.Waits != nil {
			line.Waits = &server.ExplainWait{Option: r.Waits.Option, Since: server.Time(r.Waits.Since), Until: server.Time(r.Waits.Until)}
		}
		out.Rules = append(out.Rules, line)
	}
	for _, n := range e.Nearest {
		near := server.Nearest{Change: n.Change, To: n.To, Label: label(n.To), At: server.Time(n.At), Before: n.Before, Events: []server.NearestEvent{}, Stages: maps.Clone(n.Stages), Release: n.Release}
		for _, ev := range n.Events {
			shown := server.NearestEvent{Kind: ev.Kind, Properties: server.Properties(ev.Properties)}
			if ev.Connection != lifecycle.NowhereYet {
				shown.Connection = ev.Connection
			}
			for _, t := range ev.Traits {
				if shown.Traits == nil {
					shown.Traits = map[string]any{}
				}
				shown.Traits[t.Name] = t.Value
			}
			near.Events = append(near.Events, shown)
		}
		out.Nearest = append(out.Nearest, near)
	}
	return out
}

func clauses(list []lifecycle.ClauseExplanation) []server.Clause {
	out := []server.Clause{}
	for _, c := range list {
		facts := []server.ClauseFact{}
		for _, f := range c.Facts {
			facts = append(facts, server.ClauseFact{Name: f.Name, Value: f.Value, EventIDs: f.EventIDs})
		}
		shape := server.Clause{
			Text: c.Text, Line: c.Line, Column: c.Column, Op: c.Op, Needed: c.Needed, Result: c.Result, Error: c.Error, Facts: facts, FlipsAt: c.FlipsAt, Clauses: clauses(c.Clauses),
		}
		if c.Value != "" {
			shape.Value = c.Value
		}
		out = append(out, shape)
	}
	return out
}
