package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// TestLedgerOfManyEvents: whatever is indexed and whatever is not yet, the ledger knows each event once and a history holds all of it, in order; also
// after a rollback, and after the store was opened again.
func TestLedgerOfManyEvents(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		many, few := 4500, 30 // more than wait to be indexed on SQLite, and less
		if b.dialect != "sqlite" {
			many = 300 // nothing waits there
		}
		ada := person("ada")
		b.apply(t, changes(ada))
		n := 0
		save := func(count int, fail error) {
			t.Helper()
			c := &hub.Changes{}
			for range count {
				when := t0.Add(time.Duration(n*7919%100_000) * time.Second)
				c.Ledger = append(c.Ledger, order(ada, fmt.Sprint(n), when))
				c.Transitions = append(c.Transitions, hub.Transition{
					ID: fmt.Sprintf("stg_%d", n), Subject: ada.Stages[0].Subject, CustomerID: ada.ID, Model: "clc", Version: 1, From: "new", To: "active", At: when, DecidedAt: when,
				})
				n++
			}
			err := b.Apply(t.Context(), func(ctx context.Context, tx hub.Tx) error {
				if err := tx.Save(ctx, c); err != nil {
					return err
				}
				return fail
			})
			if !errors.Is(err, fail) {
				t.Fatal(err)
			}
			if fail != nil {
				n -= count
			}
		}
		check := func(when string) {
			t.Helper()
			ids := make([]string, n+1)
			for i := range ids {
				ids[i] = hub.EventID("shop", fmt.Sprint(i), "order.paid")
			}
			b.tx(t, func(ctx context.Context, tx hub.Tx) error {
				known, err := tx.Ledger(ctx, ids)
				if _, there := known[ids[n]]; err == nil && (len(known) != n || there) {
					t.Errorf("%s: the ledger knows %d of %d events", when, len(known), n)
				}
				return err
			})
			events := must(b.Events(t.Context(), ada.ID))(t)
			if len(events) != n {
				t.Errorf("%s: %d of %d events", when, len(events), n)
			}
			seen, last := map[string]bool{}, t0.AddDate(1, 0, 0)
			for page := (hub.Page{Limit: 100}); ; {
				entries, next, err := b.Timeline(t.Context(), ada.ID, page)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range entries {
					if seen[e.ID] || e.At.After(last) {
						t.Fatalf("%s: %s at %v comes twice or late", when, e.ID, e.At)
					}
					seen[e.ID], last = true, e.At
				}
				if page.Cursor = next; next == "" || len(seen) > 600 {
					break
				}
			}
			if want := min(2*n, 700); len(seen) != want {
				t.Errorf("%s: %d entries of a timeline of %d, want %d", when, len(seen), 2*n, want)
			}
		}
		save(few, nil)
		check("a few")
		save(few, errStopped)
		check("a few were undone")
		b.again(t)
		check("opened again")
		save(many, nil)
		check("many")
		save(few, nil)
		check("many and a few")
		b.again(t)

		// The same version twice is refused whether it is indexed or not.
		for _, number := range []string{"0", fmt.Sprint(n - 1)} {
			err := b.Apply(t.Context(), func(ctx context.Context, tx hub.Tx) error {
				return tx.Save(ctx, &hub.Changes{Ledger: []hub.LedgerRecord{order(ada, number, t0)}})
			})
			if !errors.Is(err, hub.ErrConflict) {
				t.Errorf("event %s saved twice: %v", number, err)
			}
		}
		// A merge moves all of it.
		bob := person("bob")
		b.apply(t, changes(bob))
		save(few, nil)
		b.apply(t, &hub.Changes{Merges: []hub.Merge{{From: ada.ID, Into: bob.ID, At: t0, DecidedAt: t0}}})
		if events := must(b.Events(t.Context(), bob.ID))(t); len(events) != n {
			t.Errorf("the survivor has %d of %d events", len(events), n)
		}
	})
}

var errStopped = errors.New("stopped")

// TestLoadedIsWhatIsStored: whatever was saved, undone and merged before, loading for a transaction gives what reading gives.
func TestLoadedIsWhatIsStored(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		random := rand.New(rand.NewPCG(7, 7)) //nolint:gosec // a fixed sequence
		var ids []string
		people := map[string]*hub.CustomerRecord{}
		for i := range 6 {
			p := person(fmt.Sprintf("p%d", i))
			ids, people[p.ID] = append(ids, p.ID), p
			b.apply(t, changes(p))
		}
		for step := range 120 {
			id := ids[random.IntN(len(ids))]
			what := random.IntN(9)
			var loaded, keep *hub.CustomerRecord
			err := b.Apply(t.Context(), func(ctx context.Context, tx hub.Tx) error {
				found, err := tx.LockCustomers(ctx, []string{id})
				if err != nil {
					return err
				}
				loaded = found[id]
				record := *loaded // what was loaded, before it is worked on
				record.Stages, record.Profiles = append([]hub.StageRecord(nil), loaded.Stages...), append([]hub.ProfileRecord(nil), loaded.Profiles...)
				keep = &record
				var marks []hub.Identifier
				for _, p := range loaded.Profiles {
					for _, identifier := range p.Identifiers {
						if !identifier.Weak {
							marks = append(marks, identifier)
						}
					}
				}
				known, err := tx.LockIdentifiers(ctx, marks)
				if err != nil {
					return err
				}
				holders := holding(known)
				for _, mark := range marks {
					if r, ok := holders[mark.Name()]; !ok || r.CustomerID != loaded.ID {
						t.Errorf("step %d: %s is %q's, want %q", step, mark.Key(), r.CustomerID, loaded.ID)
					}
				}
				for _, p := range loaded.Profiles {
					owners, err := tx.ProfileOwners(ctx, []string{p.ID, "prf_nobody"})
					if err != nil || len(owners) != 1 || owners[p.ID] != loaded.ID {
						t.Errorf("step %d: profile %s is %v's, want %s: %v", step, p.ID, owners, loaded.ID, err)
					}
				}
				if what == 8 {
					return nil
				}
				loaded.Sequence, loaded.UpdatedAt = loaded.Sequence+1, t0.Add(time.Duration(step)*time.Second+123)
				c := &hub.Changes{Customers: []*hub.CustomerRecord{loaded}}
				stage, profile := &loaded.Stages[0], &loaded.Profiles[0]
				switch what {
				case 0:
					stage.Stage, stage.WakesAt = fmt.Sprint("s", step), t0.Add(time.Duration(step)*time.Hour+77)
				case 1:
					stage.WakesAt, stage.Path, loaded.Tags, loaded.Previous = time.Time{}, nil, nil, nil
				case 2:
					profile.Facts = fmt.Append(nil, "facts ", step)
					loaded.Tags, loaded.Previous = []string{"t"}, previous("erp", fmt.Sprint(step))
				case 3:
					added := hub.Identifier{Kind: hub.IdentifierPhone, Value: fmt.Sprint("+49", step)}
					profile.Identifiers = append(profile.Identifiers, added)
					c.Identifiers = []hub.IdentifierRecord{{Identifier: added, CustomerID: loaded.ID, ProfileID: profile.ID}}
				case 4:
					loaded.Profiles = append(loaded.Profiles, hub.ProfileRecord{ID: fmt.Sprint("prf_", step), CustomerID: loaded.ID, Connection: "crm", Key: "k", Facts: []byte("f")})
				case 5:
					loaded.Stages = append(loaded.Stages, hub.StageRecord{
						Subject: stage.Subject, CustomerID: loaded.ID, Model: fmt.Sprint("m", step), Version: 1, Stage: "low", Since: t0, By: hub.ByInitial, DecidedAt: t0,
					})
				case 6:
					c.Pins = []hub.PinRecord{{Subject: stage.Subject, Model: "clc", Stage: fmt.Sprint("pin", step), Who: "lena", At: t0}}
				}
				c.Profiles, c.Stages = append(c.Profiles, loaded.Profiles...), append(c.Stages, loaded.Stages...)
				if what == 7 {
					profile.Key, stage.Stage, loaded.Previous = "undone", "undone", previous("erp", "undone")
					return errors.Join(tx.Save(ctx, c), errStopped)
				}
				return tx.Save(ctx, c)
			})
			if err != nil && !errors.Is(err, errStopped) {
				t.Fatal(err)
			}
			b.tx(t, func(ctx context.Context, tx hub.Tx) error {
				found, err := tx.LockCustomers(ctx, []string{id})
				if err == nil {
					diff(t, fmt.Sprintf("step %d (%d)", step, what), must(b.Customer(ctx, id))(t), found[id])
				}
				return err
			})
			if what == 8 {
				diff(t, "untouched", keep, loaded)
			}
			if t.Failed() {
				return
			}
			if step == 60 || step == 80 { // the loser's id gives the survivor from now on
				b.apply(t, &hub.Changes{Merges: []hub.Merge{{From: ids[len(ids)-1], Into: ids[0], At: t0, DecidedAt: t0}}})
				ids = ids[:len(ids)-1]
			}
		}
	})
}
