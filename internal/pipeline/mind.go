package pipeline

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
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
	profiles map[string]*fact.Profile
	touched  map[string]bool // profiles to encode
	facts    *fact.Facts     // union; nil when out of date
	deals    map[string]*fact.Facts
	stages   map[place]*standing
	moves    []hub.Transition // of the present go
	absorbed []string         // ids of who was merged into her in this transaction
	scorer   fact.Scorer      // of the transaction
	named    bool             // rules ask for identifiers
}

// place names a standing: a model, and the deal in it (hub.Subject.ID), "" for the person herself.
type place struct{ model, deal string }

// standing is where the person, or one of her deals, stands in one model.
type standing struct {
	lifecycle.State
	kind    hub.SubjectKind // of whom; a row that became a company's keeps its old standings as a customer's
	version int
	dirty   bool
	entered time.Time // of a new one
	adopted bool
}

func (g *goes) mind(person *identity.Person) *mind {
	if m := g.minds[person]; m != nil {
		return m
	}
	m := &mind{
		Person: person, profiles: map[string]*fact.Profile{}, touched: map[string]bool{}, stages: map[place]*standing{},
		scorer: g.scores.Scorer, named: g.program.needs.Has(expression.NeedsIdentifiers),
	}
	for _, rec := range person.Stages {
		m.stages[placeOf(rec.Model, rec.Subject)] = &standing{
			State: lifecycle.State{
				Stage: rec.Stage, Since: rec.Since, By: rec.By, DecidedAt: rec.DecidedAt, WakesAt: rec.WakesAt, Path: rec.Path,
			},
			kind: rec.Subject.Kind, version: rec.Version,
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
	for at, s := range other.stages {
		if m.stages[at] == nil {
			inherited := *s
			inherited.dirty = true
			m.stages[at], m.Dirty = &inherited, true
			if at.deal == "" {
				g.inherited[loser.ID] = append(g.inherited[loser.ID], at.model)
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
	m.facts, m.deals = fact.Union(profiles...), nil
	known := fact.Known{Scores: m.scorer}
	if m.named {
		known.Identifiers = m.Identifiers()
	}
	m.facts.Know(known)
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

// stageNames returns the stages that a deal, or with "" the person, has in all models: a deal has its person's too.
func (m *mind) stageNames(deal string) map[string]string {
	names := make(map[string]string, len(m.stages))
	for at, s := range m.stages {
		if at.deal == "" || at.deal == deal {
			names[at.model] = s.Stage
		}
	}
	return names
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
	for at := range m.stages {
		if at.model == model.Name && at.deal != "" && !slices.Contains(deals, at.deal) {
			deals = append(deals, at.deal)
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

func (m *mind) changedStages() []hub.StageRecord {
	var out []hub.StageRecord
	for at, s := range m.stages {
		if s.dirty {
			subject := m.subject(at.deal)
			subject.Kind = cmp.Or(s.kind, subject.Kind)
			out = append(out, hub.StageRecord{
				Subject: subject, CustomerID: m.ID, Model: at.model, Version: s.version, Stage: s.Stage,
				Since: s.Since, By: s.By, DecidedAt: s.DecidedAt, WakesAt: s.WakesAt, Path: s.Path, Entered: s.entered, Adopted: s.adopted,
			})
		}
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
	for at, s := range m.stages {
		if at.deal == "" && !s.WakesAt.IsZero() {
			s.WakesAt, s.dirty = time.Time{}, true
		}
	}
}
