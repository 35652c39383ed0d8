package store

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// What one customer does comes in bursts: an order is created, paid and changed, and her record with it. The writer therefore keeps
// the customers it has just worked on as their rows are, so that the next event of one finds her without a statement. Nobody else
// writes to SQLite (the data directory is locked), so what is kept can only be wrong after a rollback: then all of it is forgotten.
const (
	recentBytes = 12 << 20  // of customers in one generation, about
	recentNames = 16 << 10  // profiles, and identifiers, in one generation
	recentLarge = 256 << 10 // a customer of more is read anew each time
)

// recent is what the writer remembers of rows. It may forget anything at any time.
type recent struct {
	people      generations[string, *known]
	owners      generations[string, string] // customers by profile
	identifiers generations[hub.IdentifierName, pointer]
}

func newRecent() recent {
	return recent{
		people:      generations[string, *known]{limit: recentBytes},
		owners:      generations[string, string]{limit: recentNames},
		identifiers: generations[hub.IdentifierName, pointer]{limit: recentNames},
	}
}

// pointer is what an identifier's row says beside its name.
type pointer struct {
	customer, profile string
	weak, record      bool
}

func pointerOf(r *hub.IdentifierRecord) pointer {
	return pointer{r.CustomerID, r.ProfileID, r.Weak, r.Record}
}

// of returns the row of that name.
func (p pointer) of(name hub.IdentifierName) hub.IdentifierRecord {
	id := hub.Identifier{Kind: name.Kind, Value: name.Value, Connection: name.Connection, Weak: p.weak, Record: p.record}
	return hub.IdentifierRecord{Identifier: id, CustomerID: p.customer, ProfileID: p.profile}
}

// known is a living customer as her rows are. It belongs to the writer: who asks gets a copy.
type known struct {
	record   hub.CustomerRecord
	no       int64   // of her row
	profiles []int64 // the rows of record.Profiles
	stages   []int64 // and of record.Stages
}

// copy returns the customer for somebody who will change her. What is shared is never changed in place (hub.Tx): facts, paths, tags,
// the callbacks before and the identifiers, which can only be appended to.
func (k *known) copy() *hub.CustomerRecord {
	c := k.record
	c.Profiles, c.Stages, c.Pins = slices.Clone(c.Profiles), slices.Clone(c.Stages), slices.Clone(c.Pins)
	return &c
}

// bytes is about what the customer takes in memory.
func (k *known) bytes() int {
	n := 768 + 96*len(k.record.Previous)
	for i := range k.record.Profiles {
		p := &k.record.Profiles[i]
		n += 256 + len(p.Facts) + 128*len(p.Identifiers)
	}
	for i := range k.record.Stages {
		n += 256 + len(k.record.Stages[i].Path)
	}
	return n
}

func (r *recent) forget() {
	r.people.clear()
	r.owners.clear()
	r.identifiers.clear()
}

// drop forgets one customer and every name of hers.
func (r *recent) drop(customer string) {
	r.people.drop(customer)
	r.owners.dropIf(func(owner string) bool { return owner == customer })
	r.identifiers.dropIf(func(p pointer) bool { return p.customer == customer })
}

func (r *recent) keep(k *known) {
	if n := k.bytes(); n <= recentLarge {
		r.people.put(k.record.ID, k, n)
	} else {
		r.people.drop(k.record.ID)
	}
}

// forget drops what the writer keeps of rows, after a rollback.
func (t *sqliteTx) forget() {
	t.late.forget()
	t.recent.forget()
	t.feed.forget()
}

// lend hands out a customer that is kept, nil where she is not.
func (t *sqliteTx) lend(id string) *hub.CustomerRecord {
	k, ok := t.recent.people.get(id)
	if !ok {
		return nil
	}
	t.people[id] = k.no
	for i, no := range k.profiles {
		t.profiles[k.record.Profiles[i].ID] = owned{no, id}
	}
	for i, no := range k.stages {
		s := &k.record.Stages[i]
		t.stages[stageKey{id, s.Subject, s.Model}] = standing{no, s.WakesAt}
	}
	return k.copy()
}

// keep remembers a customer that was read with all that belongs to her.
func (t *sqliteTx) keep(c *hub.CustomerRecord) {
	k := &known{record: *c, no: t.people[c.ID]}
	for i := range c.Profiles {
		p := &c.Profiles[i]
		p.Identifiers = slices.Clip(p.Identifiers)
		k.profiles = append(k.profiles, t.profiles[p.ID].no)
	}
	for i := range c.Stages {
		k.stages = append(k.stages, t.stages[stageKey{c.ID, c.Stages[i].Subject, c.Stages[i].Model}].no)
	}
	k.record = *k.copy()
	t.recent.keep(k)
}

// remember does to the customers that are kept what Save did to their rows.
func (t *sqliteTx) remember(c *hub.Changes) {
	if len(c.Pins) > 0 { // a decision of a person's: seldom
		t.recent.forget()
		return
	}
	changed := make(map[string]*known, len(c.Customers))
	find := func(id string) *known {
		if k := changed[id]; k != nil {
			return k
		}
		k, _ := t.recent.people.get(id)
		changed[id] = k
		return k
	}
	for _, r := range c.Customers {
		k := find(r.ID)
		if no, made := t.made[r.ID]; k == nil && made {
			k = &known{no: no, record: hub.CustomerRecord{ID: r.ID, CreatedAt: kept(r.CreatedAt)}}
			changed[r.ID] = k
		}
		if k != nil {
			k.row(r)
		}
	}
	for i := range c.Profiles {
		p := &c.Profiles[i]
		if k := find(p.CustomerID); k != nil && !k.profile(p, t.profiles[p.ID].no) {
			changed[p.CustomerID] = nil
			t.recent.people.drop(p.CustomerID)
		}
		t.recent.owners.put(p.ID, p.CustomerID, 1)
	}
	for i := range c.Stages {
		s := &c.Stages[i]
		if k := find(s.CustomerID); k != nil && !k.stage(s, t.stages[stageKey{s.CustomerID, s.Subject, s.Model}].no) {
			changed[s.CustomerID] = nil
			t.recent.people.drop(s.CustomerID)
		}
	}
	for i := range c.Identifiers {
		r := &c.Identifiers[i]
		if r.CustomerID == "" {
			t.recent.identifiers.drop(r.Name())
			continue
		}
		t.recent.identifiers.put(r.Name(), pointerOf(r), 1)
	}
	for _, k := range changed {
		switch {
		case k == nil:
		case k.record.MergedInto != "":
			t.recent.drop(k.record.ID)
		default:
			t.recent.keep(k)
		}
	}
	for i := range c.Merges {
		t.recent.drop(c.Merges[i].From)
		t.recent.drop(c.Merges[i].Into)
	}
}

// row takes over what is saved of a customer's own row.
func (k *known) row(r *hub.CustomerRecord) {
	c := &k.record
	c.Kind, c.Sequence, c.Name, c.Email, c.MergedInto = r.Kind, r.Sequence, r.Name, r.Email, r.MergedInto
	c.FirstEventAt, c.DecidedAt, c.UpdatedAt = kept(r.FirstEventAt), kept(r.DecidedAt), kept(r.UpdatedAt)
	c.Tags, c.Previous = nil, nil
	if len(r.Tags) > 0 {
		c.Tags = r.Tags
	}
	if len(r.Previous) > 0 {
		c.Previous = r.Previous
	}
}

// profile takes over a saved profile of that row, 0 for unknown. It reports whether the customer is whole.
func (k *known) profile(r *hub.ProfileRecord, no int64) bool {
	p := *r
	p.Identifiers = nil
	if len(r.Identifiers) > 0 {
		p.Identifiers = slices.Clip(r.Identifiers)
	}
	if p.Facts == nil {
		p.Facts = []byte{}
	}
	i, there := slices.BinarySearchFunc(k.record.Profiles, p.ID, func(have hub.ProfileRecord, id string) int { return strings.Compare(have.ID, id) })
	if there {
		have := &k.record.Profiles[i]
		have.Identifiers, have.Facts, have.JoinedInto = p.Identifiers, p.Facts, p.JoinedInto
		return true
	}
	k.record.Profiles, k.profiles = slices.Insert(k.record.Profiles, i, p), slices.Insert(k.profiles, i, no)
	return no != 0
}

// stage takes over a saved stage of that row, 0 for unknown. It reports whether the customer is whole.
func (k *known) stage(r *hub.StageRecord, no int64) bool {
	s := hub.StageRecord{
		Subject: r.Subject, CustomerID: r.CustomerID, Model: r.Model, Version: r.Version, Stage: r.Stage, Since: kept(r.Since), By: r.By,
		DecidedAt: kept(r.DecidedAt), Path: r.Path,
	}
	if !r.WakesAt.IsZero() {
		s.WakesAt = kept(r.WakesAt)
	}
	i, there := slices.BinarySearchFunc(k.record.Stages, s, byStage)
	if there {
		k.record.Stages[i] = s
		return true
	}
	k.record.Stages, k.stages = slices.Insert(k.record.Stages, i, s), slices.Insert(k.stages, i, no)
	return no != 0
}

// byStage orders the stages of one customer.
func byStage(a, b hub.StageRecord) int {
	return cmp.Or(strings.Compare(string(a.Subject.Kind), string(b.Subject.Kind)), strings.Compare(a.Subject.ID, b.Subject.ID), strings.Compare(a.Model, b.Model))
}

// kept is a time as it comes back from the database.
func kept(t time.Time) time.Time { return at(micros(t)) }

// generations is a map that forgets what was not asked for lately. It has two halves: when the present one is full it becomes
// the former one, and what is asked for there moves back.
type generations[K comparable, V any] struct {
	limit           int // weight of one half
	weight          int // of present
	present, former map[K]weighed[V]
}

type weighed[V any] struct {
	value  V
	weight int
}

func (g *generations[K, V]) get(key K) (V, bool) {
	w, ok := g.present[key]
	if !ok {
		if w, ok = g.former[key]; ok {
			g.put(key, w.value, w.weight)
		}
	}
	return w.value, ok
}

func (g *generations[K, V]) put(key K, value V, weight int) {
	if g.present == nil {
		g.present = map[K]weighed[V]{}
	}
	g.weight += weight - g.present[key].weight
	g.present[key] = weighed[V]{value, weight}
	delete(g.former, key)
	if g.weight >= g.limit {
		g.present, g.former, g.weight = nil, g.present, 0
	}
}

func (g *generations[K, V]) drop(key K) {
	g.weight -= g.present[key].weight
	delete(g.present, key)
	delete(g.former, key)
}

func (g *generations[K, V]) dropIf(goes func(V) bool) {
	for key, w := range g.present {
		if goes(w.value) {
			g.drop(key)
		}
	}
	maps.DeleteFunc(g.former, func(_ K, w weighed[V]) bool { return goes(w.value) })
}

func (g *generations[K, V]) clear() { g.present, g.former, g.weight = nil, nil, 0 }
