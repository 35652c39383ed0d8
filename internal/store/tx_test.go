package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/govalues/decimal"

	"github.com/stagewire/stagewire/internal/hub"
)

var exact = cmp.Comparer(func(a, b decimal.Decimal) bool { return a.Cmp(b) == 0 && a.Scale() == b.Scale() })

func diff(t *testing.T, what string, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got, exact); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func TestCustomerComesBackWhole(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ada, bob := person("ada"), person("bob")
		bob.Stages[0].WakesAt, bob.Stages[0].Path = time.Time{}, nil
		bob.Tags, bob.Previous, bob.DecidedAt = nil, nil, time.Time{}
		c := changes(ada, bob)
		pin := hub.PinRecord{Subject: hub.Subject{Kind: hub.SubjectCustomer, ID: ada.ID}, Model: "clc", Stage: "loyal", Who: "lena", Why: "knows her", At: t0, Until: t0.Add(time.Hour)}
		c.Pins = []hub.PinRecord{pin}
		b.apply(t, c)
		ada.Pins = []hub.PinRecord{pin}
		b.again(t)
		b.tx(t, func(ctx context.Context, tx hub.Tx) error {
			got, err := tx.LockCustomers(ctx, []string{bob.ID, ada.ID, "cus_unknown", ada.ID})
			if err != nil {
				return err
			}
			diff(t, "locked", map[string]*hub.CustomerRecord{ada.ID: ada, bob.ID: bob}, got)
			return nil
		})
		diff(t, "read", ada, must(b.Customer(t.Context(), ada.ID))(t))

		// A release is a pin without a stage.
		pin.Stage = ""
		b.apply(t, &hub.Changes{Pins: []hub.PinRecord{pin}})
		if got := must(b.Customer(t.Context(), ada.ID))(t); len(got.Pins) != 0 {
			t.Errorf("pin is still there: %v", got.Pins)
		}
	})
}

func TestSaveAfterLoad(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ada := person("ada")
		b.apply(t, changes(ada))
		for _, step := range []struct {
			name   string
			change func(c *hub.CustomerRecord)
		}{
			{"facts and counters", func(c *hub.CustomerRecord) {
				c.Sequence, c.Name, c.UpdatedAt = 8, "Ada L.", t0.Add(time.Minute)
				c.Profiles[0].Facts = []byte("more")
				c.Stages[0].DecidedAt, c.Stages[0].Version = t0.Add(time.Minute), 4
			}},
			{"wake-up", func(c *hub.CustomerRecord) { c.Stages[0].WakesAt = t0.Add(24 * time.Hour) }},
			{"no wake-up", func(c *hub.CustomerRecord) { c.Stages[0].WakesAt = time.Time{} }},
			{"stage", func(c *hub.CustomerRecord) {
				c.Stages[0].Stage, c.Stages[0].Since, c.Stages[0].WakesAt = "active", t0.Add(time.Hour), t0.Add(48*time.Hour)
			}},
			{"identifiers", func(c *hub.CustomerRecord) {
				c.Profiles[0].Identifiers = append(c.Profiles[0].Identifiers, hub.Identifier{Kind: hub.IdentifierPhone, Value: "+491234"})
			}},
			{"another profile and model", func(c *hub.CustomerRecord) {
				c.Profiles = append(c.Profiles, hub.ProfileRecord{ID: "prf_zzz", CustomerID: c.ID, Connection: "crm", Key: "k", Facts: []byte("f"), JoinedInto: c.Profiles[0].ID})
				c.Stages = append(c.Stages, hub.StageRecord{Subject: c.Stages[0].Subject, CustomerID: c.ID, Model: "rfm", Version: 1, Stage: "low", Since: t0, By: hub.ByInitial, DecidedAt: t0})
			}},
		} {
			var want *hub.CustomerRecord
			b.tx(t, func(ctx context.Context, tx hub.Tx) error {
				people, err := tx.LockCustomers(ctx, []string{ada.ID})
				if err != nil {
					return err
				}
				want = people[ada.ID]
				step.change(want)
				return tx.Save(ctx, changes(want))
			})
			diff(t, step.name, want, must(b.Customer(t.Context(), ada.ID))(t))
		}
	})
}

func TestLedgerVersions(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ada := person("ada")
		first := order(ada, "1001", t0)
		c := changes(ada)
		c.Ledger = []hub.LedgerRecord{first}
		b.apply(t, c)

		ledger := func() (known map[string]hub.LedgerEntry) {
			b.tx(t, func(ctx context.Context, tx hub.Tx) (err error) {
				known, err = tx.Ledger(ctx, []string{first.ID, "evt_unknown"})
				return err
			})
			return known
		}
		diff(t, "ledger", map[string]hub.LedgerEntry{first.ID: {Version: hub.Version{Activation: 1}, ProfileID: first.ProfileID}}, ledger())
		diff(t, "events", []hub.Event{first.Event}, must(b.Events(t.Context(), ada.ID))(t))

		// A newer mapping and a newer fetch in one frame, after a look into the ledger as apply does.
		second, third := order(ada, "1001", t0.Add(time.Minute)), order(ada, "1001", t0.Add(2*time.Minute))
		second.Version, second.KnownFrom = hub.Version{Activation: 2}, 8
		third.Version, third.KnownFrom = hub.Version{Activation: 2, Fetch: 1}, 9
		b.tx(t, func(ctx context.Context, tx hub.Tx) error {
			if _, err := tx.Ledger(ctx, []string{first.ID}); err != nil {
				return err
			}
			return tx.Save(ctx, &hub.Changes{Ledger: []hub.LedgerRecord{second, third}})
		})
		diff(t, "ledger after replacement", map[string]hub.LedgerEntry{first.ID: {Version: third.Version, ProfileID: first.ProfileID}}, ledger())
		diff(t, "events after replacement", []hub.Event{third.Event}, must(b.Events(t.Context(), ada.ID))(t))

		// A withdrawal, saved without a look.
		gone := hub.LedgerRecord{
			Event:     hub.Event{ID: first.ID, Version: hub.Version{Activation: 3}, Withdrawn: true, Kind: "order.paid", Connection: "shop"},
			ProfileID: first.ProfileID, CustomerID: ada.ID, KnownFrom: 10,
		}
		b.apply(t, &hub.Changes{Ledger: []hub.LedgerRecord{gone}})
		diff(t, "ledger after withdrawal", map[string]hub.LedgerEntry{first.ID: {Version: gone.Version, ProfileID: first.ProfileID, Withdrawn: true}}, ledger())
		if got := must(b.Events(t.Context(), ada.ID))(t); len(got) != 0 {
			t.Errorf("a withdrawn event is still known: %v", got)
		}
		diff(t, "history", [][4]int64{{1, 0, 1, 8}, {2, 0, 8, 9}, {2, 1, 9, 10}, {3, 0, 10, -1}}, b.history(t, first.ID))

		entries, _, err := b.Timeline(t.Context(), ada.ID, hub.Page{})
		if err != nil || len(entries) != 0 {
			t.Errorf("timeline of a withdrawn event: %v, %v", entries, err)
		}
	})
}

func TestEventBody(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ada := person("ada")
		full := order(ada, "1", t0)
		full.ClampedFrom = t0.Add(time.Hour)
		full.Echo = true
		full.Written = &hub.FieldChange{Object: "contact", ID: "7", Field: "lifecyclestage", Value: ""}
		full.Properties["text"] = "quotes \" and \\ and \u2028 and emoji 🙂 and control \u0001"
		full.Properties["$odd"] = "key"
		bare := hub.LedgerRecord{Event: hub.Event{ID: "evt_bare", Kind: "page.viewed", Connection: "web", OccurredAt: t0.Add(time.Millisecond)}, ProfileID: ada.Profiles[0].ID, CustomerID: ada.ID}
		c := changes(ada)
		c.Ledger = []hub.LedgerRecord{bare, full}
		b.apply(t, c)
		diff(t, "events", []hub.Event{full.Event, bare.Event}, must(b.Events(t.Context(), ada.ID))(t))
	})
}

func TestIdentifiersAndProfiles(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ada := person("ada")
		b.apply(t, changes(ada))
		other := record("shop_customer", "ada", "crm") // the same value issued by another system
		b.tx(t, func(ctx context.Context, tx hub.Tx) error {
			got, err := tx.LockIdentifiers(ctx, []hub.Identifier{email("ada@example.com"), email("new@example.com"), other, email("ada@example.com")})
			if err != nil {
				return err
			}
			want := email("ada@example.com")
			diff(t, "identifiers", map[hub.IdentifierName]hub.IdentifierRecord{want.Name(): {Identifier: want, CustomerID: ada.ID, ProfileID: ada.Profiles[0].ID}}, holding(got))
			owners, err := tx.ProfileOwners(ctx, []string{ada.Profiles[0].ID, "prf_unknown"})
			diff(t, "owners", map[string]string{ada.Profiles[0].ID: ada.ID}, owners)
			return err
		})
	})
}

func TestAdvance(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		for _, step := range []struct {
			cursor hub.Cursor
			want   bool
		}{
			{hub.Cursor{Incarnation: "a", Partition: 0, Seq: 5}, true},
			{hub.Cursor{Incarnation: "a", Partition: 0, Seq: 5}, false},
			{hub.Cursor{Incarnation: "a", Partition: 0, Seq: 4}, false},
			{hub.Cursor{Incarnation: "a", Partition: 1, Seq: 2}, true},
			{hub.Cursor{Incarnation: "b", Partition: 0, Seq: 1}, true},
			{hub.Cursor{Incarnation: "a", Partition: 0, Seq: 6}, true},
			{hub.Cursor{Incarnation: "a", Partition: 0, Seq: 8, After: 6}, true},
			{hub.Cursor{Incarnation: "a", Partition: 0, Seq: 8, After: 6}, false},
		} {
			b.tx(t, func(ctx context.Context, tx hub.Tx) error {
				got, err := tx.Advance(ctx, step.cursor)
				if got != step.want {
					t.Errorf("advance to %v: %v, want %v", step.cursor, got, step.want)
				}
				return err
			})
		}
		// A frame whose predecessor is missing is refused, on a partition that nothing was applied to as well.
		for _, early := range []hub.Cursor{{Incarnation: "a", Partition: 0, Seq: 10, After: 9}, {Incarnation: "c", Partition: 0, Seq: 2, After: 1}} {
			err := b.Apply(t.Context(), func(ctx context.Context, tx hub.Tx) error {
				_, err := tx.Advance(ctx, early)
				return err
			})
			if !errors.Is(err, hub.ErrTransient) {
				t.Errorf("advance to %v: %v", early, err)
			}
		}
		diff(t, "cursors", []hub.Cursor{{Incarnation: "a", Seq: 8}, {Incarnation: "a", Partition: 1, Seq: 2}, {Incarnation: "b", Seq: 1}}, must(b.Cursors(t.Context()))(t))
	})
}

// A frame that asks for the one before while that one is being committed is either applied or refused: never taken for applied.
func TestAdvanceBesideItsPredecessor(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		for p := range 100 {
			advance := func(seq, after uint64) (fresh bool, err error) {
				err = b.Apply(t.Context(), func(ctx context.Context, tx hub.Tx) error {
					fresh, err = tx.Advance(ctx, hub.Cursor{Incarnation: "a", Partition: p, Seq: seq, After: after})
					return err
				})
				return fresh, err
			}
			if p%2 == 0 { // else the predecessor is the first of its partition
				if _, err := advance(1, 0); err != nil {
					t.Fatal(err)
				}
			}
			first := make(chan error, 1)
			go func() {
				_, err := advance(2, 0)
				first <- err
			}()
			for {
				fresh, err := advance(3, 2)
				if err != nil && !errors.Is(err, hub.ErrTransient) {
					t.Fatal(err)
				}
				if err == nil && !fresh {
					t.Fatalf("partition %d: frame 3 is taken for applied", p)
				}
				if fresh {
					break
				}
			}
			if err := <-first; err != nil {
				t.Fatal(err)
			}
		}
	})
}
