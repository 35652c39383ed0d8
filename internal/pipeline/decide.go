package pipeline

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/identity"
	"github.com/stagewire/stagewire/internal/lifecycle"
)

// maxChain bounds how many wake-ups one go may chain; what is left comes due at once in the next.
const maxChain = 1000

// mind is a person with her facts decoded and her stages in hand.
type mind struct {
	*identity.Person
	profiles map[string]*fact.Profile
	touched  map[string]bool // profiles to encode
	facts    *fact.Facts     // union; nil when out of date
	stages   map[string]*standing
	moves    []hub.Transition // of the present go
	absorbed []string         // ids of who was merged into her in this transaction
	scorer   fact.Scorer      // of the transaction
}

// standing is where the person stands in one model.
type standing struct {
	lifecycle.State
	version int
	dirty   bool
	entered time.Time // of a new one
	adopted bool
}

func (g *goes) mind(person *identity.Person) *mind {
	if m := g.minds[person]; m != nil {
		return m
	}
	m := &mind{Person: person, profiles: map[string]*fact.Profile{}, touched: map[string]bool{}, stages: map[string]*standing{}, scorer: g.scores.Scorer}
	for _, rec := range person.Stages {
		m.stages[rec.Model] = &standing{
			State: lifecycle.State{
				Stage: rec.Stage, Since: rec.Since, By: rec.By, DecidedAt: rec.DecidedAt, WakesAt: rec.WakesAt, Path: rec.Path,
			},
			version: rec.Version,
		}
	}
	g.minds[person] = m
	g.order = append(g.order, m)
	return m
}

// absorb takes over what a merged person brought: her profiles are the survivor's already, her stages end, unless the survivor
// stands nowhere yet in that model: then she stands where the other did, and nothing that was told of her is told again.
func (g *goes) absorb(m *mind, loser *identity.Person) {
	other := g.mind(loser)
	maps.Copy(m.profiles, other.profiles)
	for id := range other.touched {
		m.touched[id] = true
		m.Touch(id)
	}
	for model, s := range other.stages {
		if m.stages[model] == nil {
			inherited := *s
			inherited.dirty = true
			m.stages[model], m.Dirty = &inherited, true
			g.inherited[loser.ID] = append(g.inherited[loser.ID], model)
		}
	}
	slices.Sort(g.inherited[loser.ID])
	m.absorbed = append(m.absorbed, loser.ID)
	// What she is owed since this transaction began is the survivor's; her fields are written anew, in the survivor's name.
	g.changes.Deliveries = slices.DeleteFunc(g.changes.Deliveries, func(d hub.Delivery) bool { return d.CustomerID == loser.ID && d.Slot != "" })
	for i := range g.changes.Deliveries {
		if d := &g.changes.Deliveries[i]; d.CustomerID == loser.ID {
			d.CustomerID = m.ID
		}
	}
	for model := range m.stages {
		m.stages[model].DecidedAt = maxTime(m.stages[model].DecidedAt, m.DecidedAt)
	}
	m.facts = nil
}

func (m *mind) profile(id string) (*fact.Profile, error) {
	if p := m.profiles[id]; p != nil {
		return p, nil
	}
	rec := m.Profile(id)
	if rec == nil {
		return nil, fmt.Errorf("profile %s is not with customer %s: %w", id, m.ID, hub.ErrConflict)
	}
	p, err := fact.DecodeProfile(rec.Facts)
	if err != nil {
		return nil, fmt.Errorf("facts of profile %s: %w", id, err)
	}
	m.profiles[id] = p
	return p, nil
}

func (m *mind) put(profileID string, ev *hub.Event) error {
	p, err := m.profile(profileID)
	if err != nil {
		return err
	}
	p.Put(ev)
	m.touch(profileID)
	return nil
}

func (m *mind) remove(profileID, eventID string) error {
	p, err := m.profile(profileID)
	if err != nil {
		return err
	}
	p.Remove(eventID)
	m.touch(profileID)
	return nil
}

func (m *mind) touch(profileID string) {
	m.touched[profileID] = true
	m.Touch(profileID)
	m.facts = nil
}

// all returns the union of the person's facts.
func (m *mind) all() (*fact.Facts, error) {
	if m.facts != nil {
		return m.facts, nil
	}
	profiles := make([]*fact.Profile, 0, len(m.Profiles))
	for i := range m.Profiles {
		p, err := m.profile(m.Profiles[i].ID)
		if err != nil {
			return nil, err
		}
		profiles = append(profiles, p)
	}
	m.facts = fact.Union(profiles...)
	m.facts.Know(fact.Known{Scores: m.scorer})
	return m.facts, nil
}

func (m *mind) encode() {
	for id := range m.touched {
		if rec := m.Profile(id); rec != nil {
			rec.Facts = m.profiles[id].Encode()
		}
	}
}

// raise moves the customer's one counter.
func (m *mind) raise() {
	m.Sequence++
	m.Dirty = true
}

func (m *mind) stageNames() map[string]string {
	names := make(map[string]string, len(m.stages))
	for model, s := range m.stages {
		names[model] = s.Stage
	}
	return names
}

func (m *mind) changedStages() []hub.StageRecord {
	var out []hub.StageRecord
	for model, s := range m.stages {
		if s.dirty {
			out = append(out, hub.StageRecord{
				Subject: hub.Subject{Kind: m.Kind, ID: m.ID}, CustomerID: m.ID, Model: model, Version: s.version, Stage: s.Stage,
				Since: s.Since, By: s.By, DecidedAt: s.DecidedAt, WakesAt: s.WakesAt, Path: s.Path, Entered: s.entered, Adopted: s.adopted,
			})
		}
	}
	return out
}

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

// decideEvent chains what was due before the event, folds it, decides, and chains up to the horizon. A merge brings facts
// of other kinds than the event's own, so every model is decided then.
func (g *goes) decideEvent(ctx context.Context, m *mind, ev *hub.Event, profileID string, replaced, merged bool) error {
	before, err := m.all()
	if err != nil {
		return err
	}
	at, sequence := ev.OccurredAt, m.Sequence
	late := replaced || at.Before(m.DecidedAt)
	if late {
		g.tally.late++
	}
	for i := range g.program.Models {
		model := &g.program.Models[i]
		s := m.stages[model.Name]
		if s == nil {
			if s, err = g.enterModel(m, model, before, at); err != nil {
				return err
			}
		}
		if !late {
			hold, _ := g.limits(model)
			g.chain(m, model, s, before, bounded(at.Add(-hub.Resolution), hold), "")
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
	for i := range g.program.Models {
		model := &g.program.Models[i]
		s := m.stages[model.Name]
		hold, horizon := g.limits(model)
		if merged || replaced || model.Touches(ev) || s.version != model.Version {
			instant := at
			if late {
				instant = maxTime(m.DecidedAt, horizon)
			}
			g.decide(m, model, s, facts, maxTime(bounded(instant, hold), s.DecidedAt), maxTime(instant, s.Since), cause)
		}
		g.chain(m, model, s, facts, horizon, "")
	}
	if at.After(m.DecidedAt) {
		m.DecidedAt = at
		m.Dirty = true
	}
	g.publishEvent(m, ev, sequence)
	return g.effects(ctx, m, facts, ev)
}

// decideLate decides anew at the horizon after facts changed in the past.
func (g *goes) decideLate(ctx context.Context, m *mind, ev *hub.Event, cause hub.Cause) error {
	facts, err := m.all()
	if err != nil {
		return err
	}
	for i := range g.program.Models {
		model := &g.program.Models[i]
		s := m.stages[model.Name]
		if s == nil {
			continue
		}
		hold, horizon := g.limits(model)
		instant := maxTime(m.DecidedAt, horizon)
		g.decide(m, model, s, facts, maxTime(bounded(instant, hold), s.DecidedAt), maxTime(instant, s.Since), cause)
		g.chain(m, model, s, facts, horizon, "")
	}
	return g.effects(ctx, m, facts, ev)
}

// enterModel gives a person her first standing in a model: empty facts, just before her first event. Somebody who was
// known before the model was published adopts her stage as of now instead, without a transition.
func (g *goes) enterModel(m *mind, model *ActiveModel, facts *fact.Facts, at time.Time) (*standing, error) {
	s := &standing{State: model.Initial(at.Add(-hub.Resolution)), version: model.Version, dirty: true}
	s.By = hub.ByInitial
	m.stages[model.Name] = s
	m.Dirty = true
	if !m.DecidedAt.IsZero() {
		state, errs := model.Decide(facts, m.stageNames(), s.State, maxTime(m.DecidedAt, at.Add(-hub.Resolution)))
		g.failed(model, m, errs)
		s.State, s.By, s.adopted = state, hub.ByInitial, true
	}
	s.entered = s.Since
	return s, nil
}

// decide takes one decision at instant; a move is recorded as of at, with its cause.
func (g *goes) decide(m *mind, model *ActiveModel, s *standing, facts *fact.Facts, instant, at time.Time, cause hub.Cause) {
	if g.pinned(m, model, s, instant) {
		return
	}
	next, errs := model.Decide(facts, m.stageNames(), s.State, instant)
	g.failed(model, m, errs)
	moved := next.Stage != s.Stage
	if !moved && next.WakesAt.Equal(s.WakesAt) && s.version == model.Version && samePath(next.Path, s.Path) {
		s.DecidedAt = next.DecidedAt // no need to write this alone
		g.tally.decision(model.Name, "stayed")
		return
	}
	before := s.State
	s.State, s.version, s.dirty = next, model.Version, true
	m.Dirty = true
	if !moved {
		g.tally.decision(model.Name, "stayed")
		return
	}
	g.tally.decision(model.Name, "moved")
	s.Since, s.By = at, hub.ByRule
	g.move(m, model, before.Stage, next.Stage, at, next.Rule, cause, model.Why(facts, m.stageNames(), before, next.Rule, instant))
}

// chain lets silence move the person on, wake-up by wake-up, through until.
func (g *goes) chain(m *mind, model *ActiveModel, s *standing, facts *fact.Facts, until time.Time, causeID string) {
	for range maxChain {
		if s.WakesAt.IsZero() || s.WakesAt.After(until) {
			return
		}
		at := s.WakesAt
		id := causeID
		if id == "" {
			id = "wake/" + model.Name + "/" + strconv.FormatInt(at.UnixMilli(), 10)
		}
		s.WakesAt = time.Time{}
		s.dirty, m.Dirty = true, true
		g.decide(m, model, s, facts, at, maxTime(at, s.Since), hub.Cause{Type: hub.CauseWake, ID: id})
		if at.After(m.DecidedAt) {
			m.DecidedAt = at
		}
	}
}

// pinned applies a person's decision where there is one; it wins over all rules until its date.
func (g *goes) pinned(m *mind, model *ActiveModel, s *standing, instant time.Time) bool {
	for _, pin := range m.Pins {
		if pin.Model != model.Name || (!pin.Until.IsZero() && !instant.Before(pin.Until)) {
			continue
		}
		if s.Stage != pin.Stage || !s.WakesAt.Equal(pin.Until) || s.By != hub.ByPin {
			from := s.Stage
			s.Stage, s.By, s.WakesAt, s.DecidedAt, s.dirty = pin.Stage, hub.ByPin, pin.Until, instant, true
			m.Dirty = true
			if from != pin.Stage {
				s.Since = maxTime(pin.At, s.Since)
				g.move(m, model, from, pin.Stage, s.Since, -1, hub.Cause{Type: hub.CausePin, ID: pin.Who}, pin.Why)
			}
		}
		return true
	}
	return false
}

func (g *goes) move(m *mind, model *ActiveModel, from, to string, at time.Time, rule int, cause hub.Cause, why string) {
	m.raise()
	subject := hub.Subject{Kind: m.Kind, ID: m.ID}
	m.moves = append(m.moves, hub.Transition{
		ID:      hub.DeriveID(hub.PrefixTransition, string(subject.Kind), subject.ID, model.Name, cause.Type, cause.ID, strconv.FormatInt(at.UnixMilli(), 10), to),
		Subject: subject, CustomerID: m.ID, Model: model.Name, Version: model.Version, From: from, To: to,
		At: at, DecidedAt: g.now, Sequence: m.Sequence, Cause: cause, Rule: rule, Why: why,
	})
}

func (g *goes) failed(model *ActiveModel, m *mind, errs []error) {
	for _, err := range errs {
		g.tally.decision(model.Name, "error")
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
		for _, id := range m.Identifiers() {
			if id.Kind == hub.IdentifierEmail {
				email = id.Value
				break
			}
		}
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
