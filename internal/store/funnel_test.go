package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/funnel"
	"github.com/stagewire/stagewire/internal/hub"
)

var funnelModel = funnel.Model{Name: "clc", Stages: []funnel.ModelStage{
	{Name: "prospect"},
	{Name: "new", Target: &funnel.Target{To: "active", Within: 60 * day, Share: 0.3}},
	{Name: "active", Target: &funnel.Target{To: "loyal", Within: 20 * day, Share: 0.05}},
	{Name: "loyal"},
	{Name: "lost", Target: &funnel.Target{To: "never", Within: day, Share: 1}},
}}

const day = 24 * time.Hour

// story is a random past of a model: what was saved, in order, and what a naive count must know of it.
type story struct {
	random  *rand.Rand
	now     time.Time
	people  []*storied
	changes []*hub.Changes
}

// storied is one subject: her transitions in the order of their making, those she took over included.
type storied struct {
	stage   hub.StageRecord
	moves   []hub.Transition
	entered time.Time
	gone    bool // merged away
}

func (s *story) move(p *storied, to string, at time.Time) *hub.Transition {
	id := p.stage.Subject.ID
	p.moves = append(p.moves, hub.Transition{
		ID: hub.DeriveID(hub.PrefixTransition, id, fmt.Sprint(len(p.moves))), Subject: p.stage.Subject, CustomerID: p.stage.CustomerID, Model: "clc", Version: 1,
		From: p.stage.Stage, To: to, At: at, DecidedAt: t0, Sequence: int64(len(p.moves)), Cause: hub.Cause{Type: hub.CauseEvent, ID: "evt"},
		Passing: s.random.IntN(4) == 0, Why: "it held",
	})
	p.stage.Stage, p.stage.Since, p.stage.By = to, at, hub.ByRule
	return &p.moves[len(p.moves)-1]
}

// wander makes moves from p's present stage on. Some take no time, some come back, some lead through a stage the model has no more.
func (s *story) wander(p *storied, most int) {
	stages := []string{"prospect", "new", "active", "loyal", "lost", "retired"}
	at := p.stage.Since
	if !p.stage.Adopted && len(p.moves) == 0 && s.random.IntN(2) == 0 {
		at = at.Add(hub.Resolution) // her first event moves her on
	}
	for range s.random.IntN(most) {
		to := stages[s.random.IntN(len(stages))]
		switch s.random.IntN(5) {
		case 0: // at the same instant
		case 1:
			at = at.Add(time.Duration(s.random.IntN(40)) * day)
		default:
			at = at.Add(time.Duration(s.random.Int64N(int64(30*day)/1e6)) * time.Millisecond)
		}
		if to == p.stage.Stage || at.After(s.now) {
			continue
		}
		s.move(p, to, at)
	}
}

func newStory(seed uint64) *story {
	s := &story{random: rand.New(rand.NewPCG(seed, 7)), now: t0.Add(400 * day)}
	for i := range 60 {
		customer := person(fmt.Sprintf("c%d-%d", seed, i))
		began := t0.Add(time.Duration(s.random.IntN(300*24)) * time.Hour)
		if s.random.IntN(3) == 0 {
			began = began.Truncate(day) // what vendors who know only days send
		}
		customer.FirstEventAt = began
		p := &storied{entered: began.Add(-hub.Resolution)}
		subject := hub.Subject{Kind: hub.SubjectCustomer, ID: customer.ID}
		if s.random.IntN(6) == 0 {
			subject = hub.Subject{Kind: hub.SubjectDeal, ID: "deal-" + customer.ID}
		}
		p.stage = hub.StageRecord{
			Subject: subject, CustomerID: customer.ID, Model: "clc", Version: 1, Stage: "prospect", Since: p.entered, By: hub.ByInitial, DecidedAt: t0, Entered: p.entered,
		}
		switch s.random.IntN(8) {
		case 0: // the model found her
			p.stage.Adopted, p.stage.Stage = true, []string{"active", "lost"}[s.random.IntN(2)]
		case 1: // an old row, which does not say since when
			p.stage.Entered = time.Time{}
		}
		customer.Stages = nil
		s.wander(p, 12)
		if p.stage.Entered.IsZero() && len(p.moves) > 0 {
			p.entered = p.moves[0].At
		}
		other := p.stage // in a model of its own
		other.Model = "noise"
		c := changes(customer)
		c.Stages, c.Transitions = []hub.StageRecord{p.stage, other}, p.moves
		for _, m := range p.moves {
			m.Model, m.ID = "noise", m.ID+"n"
			c.Transitions = append(c.Transitions, m)
		}
		if i%10 == 9 && subject.Kind == hub.SubjectCustomer && s.people[i-1].stage.Subject.Kind == hub.SubjectCustomer && !s.people[i-1].gone {
			s.changes = append(s.changes, s.merge(s.people[i-1], p, customer, c)...)
		} else {
			s.changes = append(s.changes, c)
		}
		s.people = append(s.people, p)
	}
	return s
}

// merge makes p and the one before her one customer. Half of the survivors stood nowhere in the model and go on where the other stood.
func (s *story) merge(loser, p *storied, customer *hub.CustomerRecord, c *hub.Changes) []*hub.Changes {
	loser.gone = true
	m := hub.Merge{From: loser.stage.Subject.ID, Into: customer.ID, At: s.now, DecidedAt: t0, Reason: "email", EventID: "evt", Sequence: 99}
	absorbed := *customer
	absorbed.ID, absorbed.MergedInto, absorbed.Profiles = m.From, m.Into, nil
	union := &hub.Changes{Customers: []*hub.CustomerRecord{&absorbed}, Merges: []hub.Merge{m}}
	if s.random.IntN(2) == 0 {
		return []*hub.Changes{c, union}
	}
	union.Merges[0].Inherited = []string{"clc"}
	own := p.stage
	p.stage, p.moves, p.entered = loser.stage, nil, loser.entered
	p.stage.Subject, p.stage.CustomerID, p.stage.Entered = own.Subject, own.CustomerID, time.Time{} // the store knows
	union.Stages = []hub.StageRecord{p.stage}
	later := s.move(p, "lost", s.now)
	if loser.stage.Stage == "lost" {
		later.To, p.stage.Stage = "new", "new"
	}
	after := p.stage
	c.Stages, c.Transitions = nil, nil
	moves := slices.Clone(p.moves)
	p.moves = append(slices.Clone(loser.moves), p.moves...)
	if len(loser.moves) == 0 {
		p.entered = loser.entered
	}
	return []*hub.Changes{c, union, {Stages: []hub.StageRecord{after}, Transitions: moves}}
}

// past is the naive history of one subject: a stay for every instant after which she stood elsewhere than before it.
func (p *storied) past() (stays []hub.Stay) {
	if len(p.moves) == 0 {
		return []hub.Stay{{Stage: p.stage.Stage, Since: p.entered}}
	}
	stays = []hub.Stay{{Stage: p.moves[0].From, Since: p.entered}}
	for _, m := range p.moves {
		at, stage := m.At, ""
		for _, other := range p.moves {
			if !other.At.After(at) {
				stage = other.To
			}
		}
		if stage != stays[len(stays)-1].Stage {
			stays = append(stays, hub.Stay{Stage: stage, Since: at})
		}
	}
	return stays
}

// TestFunnel holds every number of a funnel against one that is counted naively, over random pasts.
func TestFunnel(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		for round := range 4 {
			seed := rand.Uint64()
			s := newStory(seed)
			for _, c := range s.changes {
				for i := range c.Stages {
					c.Stages[i].Model = fmt.Sprint(c.Stages[i].Model, round)
				}
				for i := range c.Transitions {
					c.Transitions[i].Model = fmt.Sprint(c.Transitions[i].Model, round)
				}
				for i := range c.Merges {
					for j := range c.Merges[i].Inherited {
						c.Merges[i].Inherited[j] = fmt.Sprint(c.Merges[i].Inherited[j], round)
					}
				}
				b.apply(t, c)
			}
			for range 12 {
				q := s.query()
				count, err := funnel.New(funnelModel, q)
				if err != nil {
					t.Fatalf("seed %d: %+v: %v", seed, q, err)
				}
				if err := b.Histories(t.Context(), fmt.Sprint("clc", round), count.Add); err != nil {
					t.Fatal(err)
				}
				got, err := count.Result()
				if err != nil {
					t.Fatalf("seed %d: %+v: %v", seed, q, err)
				}
				diff(t, fmt.Sprintf("seed %d: %+v", seed, q), s.count(q), got)
				if t.Failed() {
					return
				}
			}
		}
	})
}

func (s *story) query() funnel.Query {
	q := funnel.Query{At: s.now, Cohort: funnel.Month, Every: funnel.Week}
	if s.random.IntN(2) == 0 {
		q.At = t0.Add(time.Duration(s.random.IntN(400*24)) * time.Hour)
	}
	q.To = q.At.Add(hub.Resolution)
	if s.random.IntN(2) == 0 {
		q.To = q.At.Add(-time.Duration(s.random.IntN(2400)) * time.Hour)
	}
	if s.random.IntN(4) > 0 {
		q.From = q.To.Add(-time.Duration(1+s.random.IntN(4800)) * time.Hour)
	}
	if s.random.IntN(3) == 0 {
		q.Every, q.Cohort = funnel.Month, funnel.Quarter
	}
	return q
}

// Nobody's history is empty, and reading it does not keep the writer waiting.
func TestHistoriesBesideTheWriter(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		s := newStory(1)
		for _, c := range s.changes {
			b.apply(t, c)
		}
		living := 0
		for _, p := range s.people {
			if !p.gone {
				living++
			}
		}
		n, wrote := 0, make(chan error, 1)
		err := b.Histories(t.Context(), "clc", func(h *hub.History) {
			if n++; n == 1 {
				go func() {
					wrote <- b.Apply(t.Context(), func(ctx context.Context, tx hub.Tx) error { return tx.Save(ctx, changes(person("beside"))) })
				}()
				if err := <-wrote; err != nil {
					t.Error(err)
				}
			}
			if len(h.Stays) == 0 {
				t.Error("a history without a stay")
			}
		})
		if err != nil || n != living {
			t.Errorf("%d histories of %d: %v", n, living, err)
		}
	})
}

// Who has to wait for others too long is told so.
func TestHistoriesOneAtATime(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		b.apply(t, changes(person("ada")))
		err := b.Histories(t.Context(), "clc", func(*hub.History) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			if err := b.Histories(ctx, "clc", func(*hub.History) {}); !errors.Is(err, hub.ErrBusy) {
				t.Errorf("the second: %v", err)
			}
		})
		if err != nil {
			t.Error(err)
		}
		if err := b.Histories(t.Context(), "clc", func(*hub.History) {}); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

// A deal of a merged customer is the survivor's, and counts once, with all its past.
func TestDealsGoOnAfterAMerge(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ada, eve := person("ada"), person("eve")
		deal := hub.Subject{Kind: hub.SubjectDeal, ID: "crm/7"}
		row := hub.StageRecord{Subject: deal, CustomerID: ada.ID, Model: "deals", Version: 1, Stage: "won", Since: t0.Add(day), By: hub.ByRule, DecidedAt: t0, Entered: t0}
		move := hub.Transition{ID: "stg_1", Subject: deal, CustomerID: ada.ID, Model: "deals", Version: 1, From: "open", To: "won", At: t0.Add(day), DecidedAt: t0, Sequence: 1}
		c := changes(ada, eve)
		c.Stages, c.Transitions = []hub.StageRecord{row}, []hub.Transition{move}
		b.apply(t, c)
		copied := row
		copied.CustomerID, copied.Entered = eve.ID, time.Time{}
		ada.MergedInto, ada.Profiles = eve.ID, nil
		b.apply(t, &hub.Changes{
			Customers: []*hub.CustomerRecord{ada}, Stages: []hub.StageRecord{copied},
			Merges: []hub.Merge{{From: ada.ID, Into: eve.ID, At: t0.Add(2 * day), DecidedAt: t0, Reason: "email", EventID: "evt", Sequence: 9}},
		})
		var got []hub.History
		if err := b.Histories(t.Context(), "deals", func(h *hub.History) { got = append(got, hub.History{Adopted: h.Adopted, Stays: slices.Clone(h.Stays)}) }); err != nil {
			t.Fatal(err)
		}
		diff(t, "history", []hub.History{{Stays: []hub.Stay{{Stage: "open", Since: t0}, {Stage: "won", Since: t0.Add(day)}}}}, got)
		db := b.direct(t)
		diff(t, "counts", []string{"deals deal won 1"}, texts(t, db, "SELECT * FROM stagewire_stage_counts WHERE model = 'deals'"))
		diff(t, "transitions", []string{eve.ID + " crm/7 open won"}, texts(t, db, "SELECT customer_id, subject_id, from_stage, to_stage FROM stagewire_transitions"))
		diff(t, "stays", []string{eve.ID + " open 86400", eve.ID + " won -"}, texts(t, db, "SELECT customer_id, stage, seconds FROM stagewire_stays WHERE model = 'deals' ORDER BY entered_at"))
	})
}
