package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// seen is what a transaction is told of people.
type seen struct {
	People      map[string]*hub.CustomerRecord
	Owners      map[string]string
	Identifiers map[hub.IdentifierName]hub.IdentifierRecord
}

// look reads everybody as apply does.
func (b *bench) look(t *testing.T, ids, profiles []string, names []hub.Identifier) (s seen) {
	t.Helper()
	b.tx(t, func(ctx context.Context, tx hub.Tx) (err error) {
		if s.People, err = tx.LockCustomers(ctx, ids); err != nil {
			return err
		}
		if s.Owners, err = tx.ProfileOwners(ctx, profiles); err != nil {
			return err
		}
		known, err := tx.LockIdentifiers(ctx, names)
		s.Identifiers = holding(known)
		return err
	})
	return s
}

// Whatever transactions did, failed ones and merges included, the next one is told what is in the database.
func TestWhatIsRememberedIsWhatIsStored(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		seed := rand.Uint64()
		random := rand.New(rand.NewPCG(seed, 3)) //nolint:gosec // a test's choices
		t.Logf("seed %d", seed)
		boom := errors.New("boom")
		var ids, profiles []string
		var names []hub.Identifier
		add := func(p *hub.CustomerRecord) {
			ids = append(ids, p.ID)
			for i := range p.Profiles {
				profiles = append(profiles, p.Profiles[i].ID)
				names = append(names, p.Profiles[i].Identifiers[:2]...)
			}
		}
		now := func(step int) time.Time { return t0.Add(time.Duration(step)*time.Minute + 123456789) } // finer than the database keeps
		for step := range 120 {
			fails := random.IntN(6) == 0
			made := random.IntN(5) == 0 || len(ids) < 2
			fresh := person(fmt.Sprintf("p%d", step))
			fresh.CreatedAt = now(step)
			one, other := 0, 0
			if !made {
				one, other = random.IntN(len(ids)), random.IntN(len(ids))
			}
			kind := random.IntN(8)
			err := b.Apply(t.Context(), func(ctx context.Context, tx hub.Tx) error {
				c := changes(fresh)
				if !made {
					people, err := tx.LockCustomers(ctx, []string{ids[one], ids[other]})
					if err != nil {
						return err
					}
					c = altered(kind, step, now(step), people[ids[one]], people[ids[other]])
				}
				if err := tx.Save(ctx, c); err != nil {
					return err
				}
				if fails {
					return boom
				}
				return nil
			})
			if errors.Is(err, boom) != fails || err != nil && !fails {
				t.Fatalf("step %d: %v", step, err)
			}
			if made && !fails {
				add(fresh)
			}
			if len(ids) == 0 {
				continue
			}
			profiles = append(profiles, fmt.Sprintf("prf_%d", step))
			names = append(names, email(fmt.Sprintf("more%d@example.com", step)))
			for id, got := range b.look(t, ids, profiles, names).People {
				diff(t, fmt.Sprintf("step %d, kind %d: %s", step, kind, id), must(b.Customer(t.Context(), id))(t), got)
			}
			if t.Failed() {
				t.FailNow()
			}
		}
		before := b.look(t, ids, profiles, names)
		b.again(t)
		diff(t, "after a restart", b.look(t, ids, profiles, names), before)
	})
}

// altered is one of the things that happen to a customer, or to two.
func altered(kind, step int, now time.Time, p, other *hub.CustomerRecord) *hub.Changes {
	p.Sequence++
	p.UpdatedAt, p.DecidedAt = now, now
	c := &hub.Changes{Customers: []*hub.CustomerRecord{p}}
	switch kind {
	case 0:
		p.Profiles[0].Facts, p.Tags, p.Previous = fmt.Append(nil, "facts ", step), []string{"a", fmt.Sprint(step)}, previous("erp", fmt.Sprint(step))
		c.Profiles = p.Profiles[:1]
	case 1:
		id := email(fmt.Sprintf("more%d@example.com", step))
		p.Profiles[0].Identifiers = append(p.Profiles[0].Identifiers, id)
		c.Profiles = p.Profiles[:1]
		c.Identifiers = []hub.IdentifierRecord{{Identifier: id, CustomerID: p.ID, ProfileID: p.Profiles[0].ID}}
	case 2:
		c.Profiles = []hub.ProfileRecord{{ID: fmt.Sprintf("prf_%d", step), CustomerID: p.ID, Connection: "crm", Key: "k", Facts: []byte("f"), JoinedInto: p.Profiles[0].ID}}
	case 3:
		p.Stages[0].Stage, p.Stages[0].Since, p.Stages[0].WakesAt, p.Stages[0].Path = fmt.Sprint("s", step), now, time.Time{}, nil
		c.Stages = p.Stages[:1]
	case 4:
		c.Stages = []hub.StageRecord{{
			Subject: p.Stages[0].Subject, CustomerID: p.ID, Model: fmt.Sprint("m", step), Version: 1, Stage: "low", Since: now, By: hub.ByInitial,
			DecidedAt: now, WakesAt: now.Add(time.Hour), Entered: now,
		}}
	case 5:
		c.Pins = []hub.PinRecord{{Subject: p.Stages[0].Subject, Model: "clc", Stage: "vip", Who: "lena", At: now.Truncate(time.Microsecond)}}
	case 6:
		p.Tags, p.Previous, p.Name = nil, nil, ""
	default:
		if other.ID == p.ID {
			break
		}
		other.MergedInto = p.ID
		c.Customers = append(c.Customers, other)
		for _, profile := range slices.Clone(other.Profiles) {
			profile.CustomerID = p.ID
			c.Profiles = append(c.Profiles, profile)
		}
		c.Merges = []hub.Merge{{From: other.ID, Into: p.ID, At: now, DecidedAt: now, Reason: "email", EventID: "evt_x", Sequence: p.Sequence}}
	}
	return c
}
