// Package identity finds the customer an event belongs to, makes new ones and merges those that turn out to be one person.
// It works on customers that were loaded under lock and never touches SQL by itself beyond that.
//
// # Design
//
// A strong identifier (an e-mail address, a phone number, the vendor's id of a person's record) points at one customer; an
// event that carries two of them says that they are the same person. The customers are thus the connected components
// of "was seen together", which is why the order of events does not matter: whatever came first, the components end up the same.
// Only the customer's id depends on the order, and the survivor rule (earliest first event, then smaller id) makes even that
// the same in most orders. Weak identifiers name a profile but never merge.
package identity

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// MaxProfiles bounds how many profiles one customer may gather by merging. An address shared by hundreds of records
// (info@, a marketplace's relay) is no person; an event that would go beyond stays with its own profile's customer.
const MaxProfiles = 200

// Person is a customer in work.
type Person struct {
	*hub.CustomerRecord
	// Created is set for a customer that the current transaction makes.
	Created bool
	// Dirty is set when the row must be saved.
	Dirty bool
	// changed holds the ids of profiles to save: one, as a rule.
	changed []string
}

// Profile returns the person's profile of that id, or nil. The pointer is valid until the next profile is added.
func (p *Person) Profile(id string) *hub.ProfileRecord {
	for i := range p.Profiles {
		if p.Profiles[i].ID == id {
			return &p.Profiles[i]
		}
	}
	return nil
}

// Touch marks the profile of that id, and the person, to be saved.
func (p *Person) Touch(profileID string) {
	p.Dirty = true
	if !slices.Contains(p.changed, profileID) {
		p.changed = append(p.changed, profileID)
	}
}

// AppendChanged appends the profiles to save.
func (p *Person) AppendChanged(list []hub.ProfileRecord) []hub.ProfileRecord {
	for i := range p.Profiles {
		if slices.Contains(p.changed, p.Profiles[i].ID) {
			list = append(list, p.Profiles[i])
		}
	}
	return list
}

// Identifiers returns the union of the person's profiles' identifiers, strong ones first.
func (p *Person) Identifiers() []hub.Identifier { return hub.UnionIdentifiers(p.Profiles) }

// Address returns the first of Identifiers that is of that kind, "" without one.
func (p *Person) Address(kind string) string {
	for _, weak := range [2]bool{false, true} {
		for i := range p.Profiles {
			for j := range p.Profiles[i].Identifiers {
				if id := &p.Profiles[i].Identifiers[j]; id.Kind == kind && id.Weak == weak {
					return id.Value
				}
			}
		}
	}
	return ""
}

// HasRecord reports whether the person has a record of its own at connection.
func (p *Person) HasRecord(connection string) bool {
	for i := range p.Profiles {
		if p.Profiles[i].Connection != connection {
			continue
		}
		for _, id := range p.Profiles[i].Identifiers {
			if id.Record {
				return true
			}
		}
	}
	return false
}

// People are all customers that one transaction works on.
type People struct {
	holders   holders
	byProfile map[string]*Person
	profiles  map[string]string // by event id, of the events that were loaded
	all       []*Person         // living ones and those merged away
	fresh     []hub.IdentifierRecord
	merges    []hub.Merge
}

// holders are who has the identifiers, in order of byValue. All names that a transaction asks for are known as it begins: a sorted list of
// them takes a fraction of what a map would.
type holders []holder

type holder struct {
	name   hub.IdentifierName
	person *Person // nil for nobody yet
}

func (h holders) search(name hub.IdentifierName) (int, bool) {
	return slices.BinarySearchFunc(h, name, func(have holder, name hub.IdentifierName) int { return byValue(have.name, name) })
}

// byValue is the order of holders. It begins with what differs: most pairs have values of their own.
func byValue(a, b hub.IdentifierName) int {
	if c := strings.Compare(a.Value, b.Value); c != 0 {
		return c
	}
	return a.Compare(b)
}

// of returns who holds the identifier, or nil.
func (h holders) of(name hub.IdentifierName) *Person {
	if i, ok := h.search(name); ok {
		return h[i].person
	}
	return nil
}

// give makes person the holder of the identifier.
func (h *holders) give(name hub.IdentifierName, person *Person) {
	i, ok := h.search(name)
	if !ok {
		*h = slices.Insert(*h, i, holder{name: name})
	}
	(*h)[i].person = person
}

// move gives to another all that one holds.
func (h holders) move(from, to *Person) {
	for i := range h {
		if h[i].person == from {
			h[i].person = to
		}
	}
}

// Resolved is what resolving an event came to.
type Resolved struct {
	Person  *Person
	Profile string
	// Absorbed are persons that the event merged into Person.
	Absorbed []*Person
	// NewRecord is set when the event made the first record of the person at its connection known.
	NewRecord bool
	// Refused names an identifier that was not followed because the merge would be too large.
	Refused string
}

// Load locks the identifiers of the events, then the customers they point at, and returns them. alsoProfiles names
// profiles that are touched without being named by an event's identifiers (an older version's profile).
func Load(ctx context.Context, tx hub.Tx, events []*hub.Event, alsoProfiles []string) (*People, error) {
	strong := make([]hub.Identifier, 0, 2*len(events))
	profileIDs := make([]string, 0, len(events)+len(alsoProfiles))
	profiles := make(map[string]string, len(events))
	profileIDs = append(profileIDs, alsoProfiles...)
	for _, ev := range events {
		for _, id := range ev.Identifiers {
			if !id.Weak {
				strong = append(strong, id)
			}
		}
		id := ev.ProfileID()
		if profiles[ev.ID] = id; id != "" {
			profileIDs = append(profileIDs, id)
		}
	}
	slices.SortFunc(strong, func(a, b hub.Identifier) int { return byValue(a.Name(), b.Name()) }) // of one name any will do
	strong = slices.CompactFunc(strong, func(a, b hub.Identifier) bool { return a.Name() == b.Name() })
	slices.Sort(profileIDs)
	profileIDs = slices.Compact(profileIDs)
	people := &People{holders: make(holders, len(strong)), byProfile: make(map[string]*Person, len(profileIDs)), profiles: profiles}
	for i := range strong {
		people.holders[i].name = strong[i].Name()
	}
	known, err := tx.LockIdentifiers(ctx, strong)
	if err != nil {
		return nil, fmt.Errorf("lock identifiers: %w", err)
	}
	owners, err := tx.ProfileOwners(ctx, profileIDs)
	if err != nil {
		return nil, fmt.Errorf("profile owners: %w", err)
	}
	if len(known)+len(owners) == 0 {
		return people, nil
	}
	ids := make([]string, 0, len(known)+len(owners))
	for i := range known {
		ids = append(ids, known[i].CustomerID)
	}
	for _, id := range owners {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	records, err := tx.LockCustomers(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("lock customers: %w", err)
	}
	byRecord := make(map[string]*Person, len(records))
	person := func(id string) (*Person, error) {
		rec := records[id]
		if rec == nil {
			return nil, fmt.Errorf("customer %s is pointed at but does not exist: %w", id, hub.ErrConflict)
		}
		p := byRecord[rec.ID]
		if p == nil {
			p = people.add(rec)
			byRecord[rec.ID] = p
		}
		return p, nil
	}
	for _, id := range ids { // in order of id, so that every run works in the same order
		if _, err := person(id); err != nil {
			return nil, err
		}
	}
	for i := range known {
		holder, err := person(known[i].CustomerID)
		if err != nil {
			return nil, err
		}
		people.holders.give(known[i].Name(), holder)
	}
	for profile, id := range owners {
		if people.byProfile[profile], err = person(id); err != nil {
			return nil, err
		}
	}
	return people, nil
}

func (p *People) add(rec *hub.CustomerRecord) *Person {
	person := &Person{CustomerRecord: rec}
	p.all = append(p.all, person)
	for i := range rec.Profiles {
		p.byProfile[rec.Profiles[i].ID] = person
	}
	return person
}

// Adopt adds customers that were locked without an event (wake-ups).
func Adopt(records map[string]*hub.CustomerRecord) *People {
	people := &People{byProfile: map[string]*Person{}}
	ids := make([]string, 0, len(records))
	seen := make(map[string]*hub.CustomerRecord, len(records))
	for _, rec := range records {
		if seen[rec.ID] == nil {
			seen[rec.ID] = rec
			ids = append(ids, rec.ID)
		}
	}
	slices.Sort(ids)
	for _, id := range ids {
		people.add(seen[id])
	}
	return people
}

// All returns everyone in work, those merged away included, in a fixed order.
func (p *People) All() []*Person { return p.all }

// OfProfile returns the person who has the profile, or nil.
func (p *People) OfProfile(id string) *Person { return p.byProfile[id] }

// Of returns the person an event belongs to: the one its profile or its strong identifiers point at, all of them merged
// where they are several, a new one where there is none. It returns nil for an event that names nobody. now is wire time.
func (p *People) Of(ev *hub.Event, now time.Time) *Resolved {
	profile, loaded := p.profiles[ev.ID]
	if !loaded {
		profile = ev.ProfileID()
	}
	if profile == "" {
		return nil
	}
	res := &Resolved{Profile: profile}
	var fewFound [2]*Person
	var fewVia [2]string
	found, via := fewFound[:0], fewVia[:0]
	look := func(person *Person, reason string) {
		if person != nil && !slices.Contains(found, person) {
			found = append(found, person)
			via = append(via, reason)
		}
	}
	look(p.byProfile[res.Profile], "profile")
	for _, id := range ev.Identifiers {
		if owner := p.holders.of(id.Name()); !id.Weak && owner != nil && related(ev, found, owner) {
			look(owner, id.Kind)
		}
	}
	if len(found) == 0 {
		rec := &hub.CustomerRecord{
			ID: hub.DeriveID(hub.PrefixCustomer, res.Profile), Kind: hub.SubjectCustomer,
			FirstEventAt: ev.OccurredAt, CreatedAt: now, UpdatedAt: now,
		}
		person := p.add(rec)
		person.Created, person.Dirty = true, true
		found = append(found, person)
	}
	res.Person = found[0]
	for i, other := range found[1:] {
		if len(res.Person.Profiles)+len(other.Profiles) > MaxProfiles {
			res.Refused = via[i+1]
			continue
		}
		survivor, loser := res.Person, other
		if loser.FirstEventAt.Before(survivor.FirstEventAt) ||
			(loser.FirstEventAt.Equal(survivor.FirstEventAt) && loser.ID < survivor.ID) {
			survivor, loser = loser, survivor
		}
		p.merge(survivor, loser, ev, via[i+1], now)
		res.Absorbed = append(res.Absorbed, loser)
		res.Person = survivor
	}
	res.Absorbed = slices.DeleteFunc(res.Absorbed, func(a *Person) bool { return a == res.Person })
	p.belong(res, ev)
	return res
}

// related reports whether an event can belong to the owner of one of its identifiers. A company and a person are never one: an
// address that both give stays with whoever gave it first.
func related(ev *hub.Event, found []*Person, owner *Person) bool {
	company := owner.Kind == hub.SubjectCompany
	if len(found) > 0 {
		return company == (found[0].Kind == hub.SubjectCompany)
	}
	return company || !hub.TellsOfCompany(ev.Kind)
}

// belong makes sure that the profile exists, holds the event's identifiers, and that the strong ones point at the person.
func (p *People) belong(res *Resolved, ev *hub.Event) {
	person := res.Person
	profile := person.Profile(res.Profile)
	if profile == nil {
		hadRecord := person.HasRecord(ev.Connection)
		person.Profiles = append(person.Profiles, hub.ProfileRecord{
			ID: res.Profile, CustomerID: person.ID, Connection: ev.Connection, Key: ev.ProfileKey(),
		})
		profile = &person.Profiles[len(person.Profiles)-1]
		p.byProfile[res.Profile] = person
		person.Touch(res.Profile)
		record := slices.ContainsFunc(ev.Identifiers, func(id hub.Identifier) bool { return id.Record })
		res.NewRecord = record && !hadRecord
		if record {
			person.join(res.Profile, ev)
			profile = person.Profile(res.Profile)
		}
	}
	for _, id := range ev.Identifiers {
		if !slices.ContainsFunc(profile.Identifiers, func(have hub.Identifier) bool { return have.Name() == id.Name() }) {
			profile.Identifiers = append(profile.Identifiers, id)
			slices.SortFunc(profile.Identifiers, func(a, b hub.Identifier) int { return a.Name().Compare(b.Name()) })
			person.Touch(res.Profile)
		}
		if id.Weak {
			continue
		}
		if name := id.Name(); p.holders.of(name) == nil {
			p.holders.give(name, person)
			p.fresh = append(p.fresh, hub.IdentifierRecord{Identifier: id, ProfileID: res.Profile})
		}
	}
}

// join marks profiles of the same system that were named by an address only, as taken over by the one that has the
// vendor's own id. Their events stay where they are; an unmerge treats both as one.
func (p *Person) join(recordProfile string, ev *hub.Event) {
	for i := range p.Profiles {
		other := &p.Profiles[i]
		if other.ID == recordProfile || other.Connection != ev.Connection || other.JoinedInto != "" {
			continue
		}
		if slices.ContainsFunc(other.Identifiers, func(id hub.Identifier) bool { return id.Record }) {
			continue
		}
		for _, id := range ev.Identifiers {
			if id.Key() == other.Key {
				other.JoinedInto = recordProfile
				p.Touch(other.ID)
			}
		}
	}
}

// Identifiers returns the identifiers to save: new ones, pointing at whoever holds them in the end.
func (p *People) Identifiers() []hub.IdentifierRecord {
	for i := range p.fresh {
		p.fresh[i].CustomerID = p.holders.of(p.fresh[i].Name()).ID
	}
	return p.fresh
}
