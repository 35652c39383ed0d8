package pipeline

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
)

// maxChain bounds how many wake-ups one go may chain; what is left comes due at once in the next.
const maxChain = 1000

// limits returns how far model may go: hold bounds every decision, horizon bounds wake-ups.
func (g *goes) limits(model *ActiveModel) (hold, horizon time.Time) {
	all := g.horizons[""]
	horizon = all.At
	for _, source := range model.Sources {
		h, ok := g.horizons[source]
		if !ok {
			return hold, time.Time{} // a connection nobody has computed yet holds all wake-ups
		}
		horizon = minTime(horizon, h.At)
		if !h.Hold.IsZero() && (hold.IsZero() || h.Hold.Before(hold)) {
			hold = h.Hold
		}
	}
	return hold, horizon
}

// round is one look at the models, in the order in which they read each other: who is due is decided, and whoever reads the stage of
// one that moved is decided after it, at the same instant.
type round struct {
	cause   hub.Cause
	instant time.Time // business instant of the cause, or
	latest  bool      // the latest instant that is safe: what came late is not decided in the past
	// due says who is decided whatever the others do. A standing that the subject does not have yet is nil.
	due func(model *ActiveModel, deal string, s *standing) bool
	// enter is called for a subject without a standing; nil leaves it without one.
	enter func(model *ActiveModel, deal string) (*standing, error)
	moved []string // models in which somebody moved or entered
}

// decideEvent chains what was due before the event, folds it, decides, and chains up to the horizon. A merge brings facts
// of other kinds than the event's own, so every model is decided then.
func (g *goes) decideEvent(ctx context.Context, m *mind, ev *hub.Event, profileID string, replaced, merged bool) error {
	at, sequence := ev.OccurredAt, m.Sequence
	late := replaced || at.Before(m.DecidedAt)
	if late {
		g.tally.late++
	}
	entered, err := g.enterAll(m, at)
	if err != nil {
		return err
	}
	if !late {
		if err := g.chain(m, func(model *ActiveModel) time.Time {
			hold, _ := g.limits(model)
			return bounded(at.Add(-hub.Resolution), hold)
		}); err != nil {
			return err
		}
	}
	if err := m.put(profileID, ev); err != nil {
		return err
	}
	facts, err := m.all()
	if err != nil {
		return err
	}
	g.refresh(m, facts, ev)
	cause := hub.Cause{Type: hub.CauseEvent, ID: ev.ID}
	if late {
		cause.Type = hub.CauseLate
	}
	err = g.round(m, round{
		cause: cause, instant: at, latest: late, moved: entered,
		due: func(model *ActiveModel, deal string, s *standing) bool {
			return merged || replaced || s.version != model.Version || model.touched(ev, deal)
		},
		enter: func(model *ActiveModel, deal string) (*standing, error) { return g.enter(m, model, deal, at, false) },
	})
	if err != nil {
		return err
	}
	if err := g.chainToHorizon(m); err != nil {
		return err
	}
	if at.After(m.DecidedAt) {
		m.DecidedAt = at
		m.Dirty = true
	}
	g.publishEvent(m, ev, sequence)
	return g.effects(ctx, m, ev)
}

// touched reports whether an event can change what the model says of a deal, or with "" of the person.
func (model *ActiveModel) touched(ev *hub.Event, deal string) bool {
	if deal != "" {
		return model.TouchesDeal(ev, deal)
	}
	return model.Touches(ev)
}

// round decides who is due, and whoever reads them.
func (g *goes) round(m *mind, r round) error {
	for i := range g.program.Models {
		model := &g.program.Models[i]
		subjects, err := m.subjects(model)
		if err != nil {
			return err
		}
		hold, horizon := g.limits(model)
		instant := r.instant
		if r.latest {
			instant = maxTime(m.DecidedAt, horizon)
		}
		reads := model.reads(r.moved)
		for _, deal := range subjects {
			s := m.stages.of(place{model.Name, deal})
			fresh := s == nil
			if fresh {
				if r.enter == nil {
					continue
				}
				if s, err = r.enter(model, deal); err != nil {
					return err
				}
				r.moved = noted(r.moved, model.Name)
			}
			if !fresh && !reads && !r.due(model, deal, s) {
				continue
			}
			moved, err := g.decide(m, model, deal, s, maxTime(bounded(instant, hold), s.DecidedAt), maxTime(instant, s.Since), r.cause)
			if err != nil {
				return err
			}
			if moved {
				r.moved = noted(r.moved, model.Name)
			}
		}
	}
	return nil
}

// reads reports whether the model reads the stage of one of those.
func (model *ActiveModel) reads(moved []string) bool {
	return len(moved) > 0 && slices.ContainsFunc(model.UsesModels(), func(name string) bool { return slices.Contains(moved, name) })
}

// noted returns names with name among them, once.
func noted(names []string, name string) []string {
	if slices.Contains(names, name) {
		return names
	}
	return append(names, name)
}

// decideLate decides anew at the horizon after facts changed in the past.
func (g *goes) decideLate(ctx context.Context, m *mind, ev *hub.Event, cause hub.Cause) error {
	err := g.round(m, round{
		cause: cause, latest: true,
		due: func(*ActiveModel, string, *standing) bool { return true },
	})
	if err != nil {
		return err
	}
	if err := g.chainToHorizon(m); err != nil {
		return err
	}
	return g.effects(ctx, m, ev)
}

// enterAll gives the person and her deals a standing in every model they have none in yet, and returns which those are.
func (g *goes) enterAll(m *mind, at time.Time) (entered []string, err error) {
	known := !m.DecidedAt.IsZero()
	for i := range g.program.Models {
		model := &g.program.Models[i]
		subjects, err := m.subjects(model)
		if err != nil {
			return nil, err
		}
		for _, deal := range subjects {
			if m.stages.of(place{model.Name, deal}) != nil {
				continue
			}
			if _, err := g.enter(m, model, deal, at, known); err != nil {
				return nil, err
			}
			entered = noted(entered, model.Name)
		}
	}
	return entered, nil
}

// enter gives somebody a first standing in a model: empty facts, just before the first event. Who was known before the model was
// published adopts the stage as of now instead, without a transition.
func (g *goes) enter(m *mind, model *ActiveModel, deal string, at time.Time, adopt bool) (*standing, error) {
	s := &standing{
		at: place{model.Name, deal}, State: model.Start(g.stageNames(m, deal), at.Add(-hub.Resolution)), version: model.Version, dirty: true,
	}
	m.stages.put(s)
	m.Dirty = true
	if adopt {
		facts, err := m.about(deal)
		if err != nil {
			return nil, err
		}
		state, errs := model.Decide(facts, g.stageNames(m, deal), s.State, maxTime(m.DecidedAt, at.Add(-hub.Resolution)))
		g.failed(model, m, errs)
		s.State, s.By, s.adopted = state, hub.ByInitial, true
	}
	s.entered = s.Since
	return s, nil
}

// decide takes one decision at instant; a move is recorded as of at, with its cause. It reports whether the stage is another.
func (g *goes) decide(m *mind, model *ActiveModel, deal string, s *standing, instant, at time.Time, cause hub.Cause) (moved bool, err error) {
	stages := g.stageNames(m, deal)
	if pinned, moved := g.pinned(m, model, deal, s, stages, instant); pinned {
		return moved, nil
	}
	facts, err := m.about(deal)
	if err != nil {
		return false, err
	}
	next, errs := model.Decide(facts, stages, s.State, instant)
	g.failed(model, m, errs)
	moved = next.Stage != s.Stage
	if !moved && next.WakesAt.Equal(s.WakesAt) && next.By == s.By && s.version == model.Version && samePath(next.Path, s.Path) {
		s.DecidedAt = next.DecidedAt // no need to write this alone
		g.tally.decision(model.Name, "stayed")
		return false, nil
	}
	before := s.State
	s.State, s.version, s.dirty = next, model.Version, true
	m.Dirty = true
	if !moved {
		g.tally.decision(model.Name, "stayed")
		return false, nil
	}
	g.tally.decision(model.Name, "moved")
	s.Since, s.By = at, hub.ByRule
	g.move(m, model, deal, before.Stage, next.Stage, at, next.Rule, cause, model.Why(facts, stages, before, next.Rule, instant))
	return true, nil
}

// chainToHorizon lets silence move the person on as far as each model may go.
func (g *goes) chainToHorizon(m *mind) error {
	return g.chain(m, func(model *ActiveModel) time.Time {
		_, horizon := g.limits(model)
		return horizon
	})
}

// chain lets silence move the person and her deals on, wake-up by wake-up, the earliest of all models first, each model through its
// until. Who reads a stage that moved is decided at the same instant.
func (g *goes) chain(m *mind, until func(*ActiveModel) time.Time) error {
	limits := make([]time.Time, len(g.program.Models))
	for i := range limits {
		limits[i] = until(&g.program.Models[i])
	}
	for range maxChain {
		first, next := -1, (*standing)(nil)
		for _, s := range m.stages { // of those at one instant the first model's, and of that one's the first deal's
			i, there := g.program.places[s.at.model]
			if !there || s.WakesAt.IsZero() || s.WakesAt.After(limits[i]) {
				continue
			}
			if of := g.program.Models[i].Of; of != hub.SubjectDeal && !m.is(of) {
				continue
			}
			if next != nil {
				if c := s.WakesAt.Compare(next.WakesAt); c > 0 || (c == 0 && i >= first) {
					continue
				}
			}
			first, next = i, s
		}
		if next == nil {
			return nil
		}
		if err := g.wakeUp(m, &g.program.Models[first], next.at.deal, next); err != nil {
			return err
		}
	}
	return nil
}

// wakeUp decides one standing at the instant it wakes at.
func (g *goes) wakeUp(m *mind, model *ActiveModel, deal string, s *standing) error {
	at := s.WakesAt
	cause := hub.Cause{Type: hub.CauseWake, ID: "wake/" + model.Name + "/" + strconv.FormatInt(at.UnixMilli(), 10)}
	s.WakesAt = time.Time{}
	s.dirty, m.Dirty = true, true
	moved, err := g.decide(m, model, deal, s, at, maxTime(at, s.Since), cause)
	if err != nil {
		return err
	}
	if at.After(m.DecidedAt) {
		m.DecidedAt = at
	}
	if !moved {
		return nil
	}
	return g.follow(m, model.Name, at, cause)
}

// follow decides whoever reads the stage of a model in which somebody has just moved.
func (g *goes) follow(m *mind, model string, at time.Time, cause hub.Cause) error {
	if !g.program.read[model] {
		return nil
	}
	return g.round(m, round{
		cause: cause, instant: at, moved: []string{model},
		due: func(*ActiveModel, string, *standing) bool { return false },
	})
}

func (g *goes) move(m *mind, model *ActiveModel, deal, from, to string, at time.Time, rule int, cause hub.Cause, why string) {
	m.raise()
	subject := m.subject(deal)
	g.moves = append(g.moves, hub.Transition{
		ID:      hub.DeriveID(hub.PrefixTransition, string(subject.Kind), subject.ID, model.Name, cause.Type, cause.ID, strconv.FormatInt(at.UnixMilli(), 10), to),
		Subject: subject, CustomerID: m.ID, Model: model.Name, Version: model.Version, From: from, To: to,
		At: at, DecidedAt: g.now, Sequence: m.Sequence, Cause: cause, Rule: rule, Why: why,
	})
}

func (g *goes) failed(model *ActiveModel, m *mind, errs []error) {
	for _, err := range errs {
		g.tally.decision(model.Name, outcomeError)
		g.p.Log.Warn("expression did not evaluate, counts as not holding", "model", model.Name, "customer_id", m.ID, "error", err)
	}
}

// refresh keeps the copies that lists and searches use.
func (g *goes) refresh(m *mind, facts *fact.Facts, ev *hub.Event) {
	if len(ev.Traits) == 0 && ev.Kind != "tag.added" && ev.Kind != "tag.removed" && m.Email != "" {
		return
	}
	name, email, tags := facts.Name(), facts.Email(), facts.Tags()
	if email == "" {
		email = m.Address(hub.IdentifierEmail)
	}
	if name != m.Name || email != m.Email || len(tags) != len(m.Tags) {
		m.Name, m.Email, m.Tags, m.Dirty = name, email, tags, true
	}
}

func bounded(t, hold time.Time) time.Time {
	if !hold.IsZero() && hold.Before(t) {
		return hold
	}
	return t
}

func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func maxTime(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func samePath(a, b []byte) bool { return string(a) == string(b) }
