package pipeline

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/identity"
	"github.com/stagewire/stagewire/internal/lifecycle"
)

// mind is a person with her facts decoded and her stages in hand.
type mind struct {
	*identity.Person
	folds    []fold      // of the profiles that were looked at
	facts    *fact.Facts // union; nil when out of date
	deals    map[string]*fact.Facts
	stages   standings
	absorbed []string    // ids of who was merged into her in this transaction
	scorer   fact.Scorer // of the transaction
	named    bool        // rules ask for identifiers
}

// fold is a decoded profile.
type fold struct {
	id      string
	profile *fact.Profile
	touched bool // to be encoded
}

// place names a standing: a model, and the deal in it (hub.Subject.ID), "" for the person herself.
type place struct{ model, deal string }

// standing is where the person, or one of her deals, stands in one model.
type standing struct {
	lifecycle.State
	at      place
	kind    hub.SubjectKind // of whom; a row that became a company's keeps its old standings as a customer's
	version int
	dirty   bool
	entered time.Time // of a new one
	adopted bool
}

// standings are in order of place.
type standings []*standing

func (l standings) search(at place) (int, bool) {
	return slices.BinarySearchFunc(l, at, func(s *standing, at place) int {
		return cmp.Or(strings.Compare(s.at.model, at.model), strings.Compare(s.at.deal, at.deal))
	})
}

// of returns the standing at a place, nil without one.
func (l standings) of(at place) *standing {
	if i, ok := l.search(at); ok {
		return l[i]
	}
	return nil
}

// put adds a standing, or replaces the one at its place.
func (l *standings) put(s *standing) {
	i, ok := l.search(s.at)
	if !ok {
		*l = slices.Insert(*l, i, s)
	}
	(*l)[i] = s
}

func (g *goes) mind(person *identity.Person) *mind {
	if m := g.minds[person]; m != nil {
		return m
	}
	m := &mind{Person: person, scorer: g.scores.Scorer, named: g.program.needs.Has(expression.NeedsIdentifiers)}
	if n := len(person.Stages); n > 0 {
		block := make([]standing, n)
		m.stages = make(standings, 0, n)
		for i := range block {
			s, rec := &block[i], &person.Stages[i]
			s.at, s.kind, s.version = placeOf(rec.Model, rec.Subject), rec.Subject.Kind, rec.Version
			s.Stage, s.Since, s.By, s.DecidedAt, s.WakesAt, s.Path = rec.Stage, rec.Since, rec.By, rec.DecidedAt, rec.WakesAt, rec.Path
			m.stages.put(s)
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
	for _, f := range other.folds { // a profile is one person's at a time: the survivor has none of them yet
		m.folds = append(m.folds, f)
		if f.touched {
			m.Touch(f.id)
		}
	}
	for _, s := range other.stages {
		if m.stages.of(s.at) == nil {
			inherited := *s
			inherited.dirty = true
			m.stages.put(&inherited)
			m.Dirty = true
			if s.at.deal == "" {
				g.inherited[loser.ID] = append(g.inherited[loser.ID], s.at.model)
			}
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
	for _, s := range m.stages {
		s.DecidedAt = maxTime(s.DecidedAt, m.DecidedAt)
	}
	m.facts = nil
}

// fold returns the profile of that id, decoded. The pointer is valid until another one is decoded.
func (m *mind) fold(id string) (*fold, error) {
	for i := range m.folds {
		if m.folds[i].id == id {
			return &m.folds[i], nil
		}
	}
	rec := m.Profile(id)
	if rec == nil {
		return nil, fmt.Errorf("profile %s is not with customer %s: %w", id, m.ID, hub.ErrConflict)
	}
	p, err := fact.DecodeProfile(rec.Facts)
	if err != nil {
		return nil, fmt.Errorf("facts of profile %s: %w", id, err)
	}
	m.folds = append(m.folds, fold{id: id, profile: p})
	return &m.folds[len(m.folds)-1], nil
}

func (m *mind) put(profileID string, ev *hub.Event) error {
	f, err := m.fold(profileID)
	if err != nil {
		return err
	}
	f.profile.Put(ev)
	m.touch(f)
	return nil
}

func (m *mind) remove(profileID, eventID string) error {
	f, err := m.fold(profileID)
	if err != nil {
		return err
	}
	f.profile.Remove(eventID)
	m.touch(f)
	return nil
}

func (m *mind) touch(f *fold) {
	f.touched = true
	m.Touch(f.id)
	m.facts = nil
}

// all returns the union of the person's facts.
func (m *mind) all() (*fact.Facts, error) {
	if m.facts != nil {
		return m.facts, nil
	}
	var few [8]*fact.Profile
	profiles := few[:0]
	for i := range m.Profiles {
		f, err := m.fold(m.Profiles[i].ID)
		if err != nil {
			return nil, err
		}
		profiles = append(profiles, f.profile)
	}
	m.facts, m.deals = fact.Union(profiles...), nil
	known := fact.Known{Scores: m.scorer}
	if m.named {
		known.Identifiers = m.Identifiers()
	}
	m.facts.Know(known)
	return m.facts, nil
}

func (m *mind) encode() {
	for i := range m.folds {
		f := &m.folds[i]
		if !f.touched {
			continue
		}
		if rec := m.Profile(f.id); rec != nil {
			rec.Facts = f.profile.Encode()
		}
	}
}

// raise moves the customer's one counter.
func (m *mind) raise() {
	m.Sequence++
	m.Dirty = true
}

// subject returns whose standing a place is.
func (m *mind) subject(deal string) hub.Subject {
	if deal != "" {
		return hub.Subject{Kind: hub.SubjectDeal, ID: deal}
	}
	return hub.Subject{Kind: m.Kind, ID: m.ID}
}

func placeOf(model string, s hub.Subject) place {
	if s.Kind == hub.SubjectDeal {
		return place{model, s.ID}
	}
	return place{model, ""}
}

// stageNames returns the stages that a deal, or with "" the person, has in all models: a deal has its person's too. The map is valid
// until the next call.
func (g *goes) stageNames(m *mind, deal string) map[string]string {
	clear(g.names)
	for _, s := range m.stages {
		if s.at.deal == "" || s.at.deal == deal {
			g.names[s.at.model] = s.Stage
		}
	}
	return g.names
}

// about returns the facts as a deal sees them, or with "" the person's.
func (m *mind) about(deal string) (*fact.Facts, error) {
	whole, err := m.all()
	if err != nil || deal == "" {
		return whole, err
	}
	if view := m.deals[deal]; view != nil {
		return view, nil
	}
	connection, id, _ := m.subject(deal).Deal()
	view := whole.Deal(connection, id)
	if m.deals == nil {
		m.deals = map[string]*fact.Facts{}
	}
	m.deals[deal] = view
	return view, nil
}

// subjects returns who of the person's is staged by a model: herself (""), if the model is of her kind, or each of her deals, those
// that nothing tells of any more included, in a fixed order.
func (m *mind) subjects(model *ActiveModel) ([]string, error) {
	if model.Of != hub.SubjectDeal {
		if !m.is(model.Of) {
			return nil, nil
		}
		return []string{""}, nil
	}
	facts, err := m.all()
	if err != nil {
		return nil, err
	}
	deals := dealsOf(facts)
	known := len(deals)
	for _, s := range m.stages {
		if s.at.model == model.Name && s.at.deal != "" && !slices.Contains(deals, s.at.deal) {
			deals = append(deals, s.at.deal)
		}
	}
	slices.Sort(deals[known:])
	return deals, nil
}

func dealsOf(facts *fact.Facts) []string {
	var deals []string
	for _, o := range facts.Deals() {
		deals = append(deals, hub.DealSubject(o.Connection, o.ID).ID)
	}
	return deals
}

// is reports whether the person is of that kind; rows of old have none and are customers.
func (m *mind) is(of hub.SubjectKind) bool {
	return m.Kind == of || (m.Kind == "" && of == hub.SubjectCustomer)
}

// changedStages returns the standings to save.
func (g *goes) changedStages() []hub.StageRecord {
	changed := func(yield func(*mind, *standing) bool) {
		for _, m := range g.order {
			for _, s := range m.stages {
				if s.dirty && m.Dirty && m.MergedInto == "" && !yield(m, s) {
					return
				}
			}
		}
	}
	n := 0
	for range changed {
		n++
	}
	out := make([]hub.StageRecord, 0, n)
	for m, s := range changed {
		subject := m.subject(s.at.deal)
		subject.Kind = cmp.Or(s.kind, subject.Kind)
		out = append(out, hub.StageRecord{
			Subject: subject, CustomerID: m.ID, Model: s.at.model, Version: s.version, Stage: s.Stage,
			Since: s.Since, By: s.By, DecidedAt: s.DecidedAt, WakesAt: s.WakesAt, Path: s.Path, Entered: s.entered, Adopted: s.adopted,
		})
	}
	return out
}

// recognise makes a customer's row that of a company once the record of a company is seen: from then on she is staged by the models of
// companies and no more by those of customers.
func (g *goes) recognise(m *mind, ev *hub.Event) {
	if m.Kind == hub.SubjectCompany || !hub.TellsOfCompany(ev.Kind) {
		return
	}
	m.Kind, m.Dirty = hub.SubjectCompany, true
	for _, s := range m.stages {
		if s.at.deal == "" && !s.WakesAt.IsZero() {
			s.WakesAt, s.dirty = time.Time{}, true
		}
	}
}
