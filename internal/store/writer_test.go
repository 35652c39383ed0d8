package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/store"
)

func TestFailingClosureHarmsNobody(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		// Many at once, so that on SQLite good and bad ones share commits.
		boom := errors.New("boom")
		var wait sync.WaitGroup
		for i := range 60 {
			wait.Go(func() {
				p := person(fmt.Sprintf("p%02d", i))
				err := b.Apply(t.Context(), func(ctx context.Context, tx hub.Tx) error {
					if err := tx.Save(ctx, changes(p)); err != nil {
						return err
					}
					if i%3 == 0 {
						return boom
					}
					return nil
				})
				if want := i%3 == 0; errors.Is(err, boom) != want || (err != nil && !want) {
					t.Errorf("%d: %v", i, err)
				}
			})
		}
		wait.Wait()
		b.again(t)
		for i := range 60 {
			_, err := b.Customer(t.Context(), person(fmt.Sprintf("p%02d", i)).ID)
			if want := i%3 == 0; errors.Is(err, hub.ErrNotFound) != want || (err != nil && !want) {
				t.Errorf("customer %d after the commit: %v", i, err)
			}
		}
	})
}

func TestConflictRepeatsFromTheStart(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		tries := 0
		b.tx(t, func(ctx context.Context, tx hub.Tx) error {
			tries++
			if err := tx.Save(ctx, changes(person(fmt.Sprintf("try%d", tries)))); err != nil {
				return err
			}
			if tries < 4 {
				return fmt.Errorf("merge reaches outside: %w", hub.ErrConflict)
			}
			return nil
		})
		if tries != 4 {
			t.Errorf("%d tries, want 4", tries)
		}
		all, _, err := b.Customers(t.Context(), hub.CustomerQuery{})
		if err != nil || len(all) != 1 || all[0].ID != person("try4").ID {
			t.Errorf("what failed tries wrote is there: %v %v", all, err)
		}
		tries = 0
		err = b.Apply(t.Context(), func(context.Context, hub.Tx) error { tries++; return hub.ErrConflict })
		if !errors.Is(err, hub.ErrConflict) || tries > 20 {
			t.Errorf("endless conflict: %v after %d", err, tries)
		}
	})
}

func TestUniqueViolationIsAConflict(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ada := person("ada")
		c := changes(ada)
		c.Ledger = []hub.LedgerRecord{order(ada, "1", t0)}
		b.apply(t, c)
		err := b.Apply(t.Context(), func(ctx context.Context, tx hub.Tx) error { return tx.Save(ctx, &hub.Changes{Ledger: c.Ledger}) })
		if !errors.Is(err, hub.ErrConflict) {
			t.Errorf("the same version twice: %v, want a conflict", err)
		}
		diff(t, "events", []hub.Event{c.Ledger[0].Event}, must(b.Events(t.Context(), ada.ID))(t))
		diff(t, "history", [][4]int64{{1, 0, 1, -1}}, b.history(t, c.Ledger[0].ID))
	})
}

func TestPanicBelongsToTheCaller(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		func() {
			defer func() {
				if p := recover(); p != "ouch" {
					t.Errorf("recovered %v", p)
				}
			}()
			_ = b.Apply(t.Context(), func(ctx context.Context, tx hub.Tx) error {
				if err := tx.Save(ctx, changes(person("ada"))); err != nil {
					return err
				}
				panic("ouch")
			})
		}()
		b.apply(t, changes(person("bob"))) // the writer goes on
		if _, err := b.Customer(t.Context(), person("ada").ID); !errors.Is(err, hub.ErrNotFound) {
			t.Errorf("what a panicking closure wrote is there: %v", err)
		}
	})
}

func TestBadText(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		for name, bad := range map[string]string{"NUL": "a\x00b", "not UTF-8": "a\xffb"} {
			for place, c := range map[string]*hub.Changes{
				"name":     {Customers: []*hub.CustomerRecord{{ID: "cus_1", Name: bad}}},
				"tag":      {Customers: []*hub.CustomerRecord{{ID: "cus_1", Tags: []string{bad}}}},
				"property": {Ledger: []hub.LedgerRecord{{Event: hub.Event{ID: "evt_1", Properties: map[string]any{"text": bad}}}}},
				"stage":    {Stages: []hub.StageRecord{{CustomerID: "cus_1", Stage: bad}}},
				"reason":   {Merges: []hub.Merge{{From: "a", Into: "b", Reason: bad}}},
			} {
				err := b.Apply(t.Context(), func(ctx context.Context, tx hub.Tx) error { return tx.Save(ctx, c) })
				if !errors.Is(err, hub.ErrInvalid) {
					t.Errorf("%s in %s: %v, want invalid", name, place, err)
				}
			}
			// What tells of an error is mended instead: losing it would be worse.
			b.apply(t, &hub.Changes{DeadLetters: []hub.DeadLetter{{ID: "ded_" + name, Of: "event", Ref: "evt_1", At: t0, Reason: "cannot map " + bad}}})
			if _, _, err := b.Customers(t.Context(), hub.CustomerQuery{Text: bad}); err != nil {
				t.Errorf("%s in a query: %v", name, err)
			}
			if _, err := b.Customer(t.Context(), bad); !errors.Is(err, hub.ErrNotFound) {
				t.Errorf("%s as an id: %v", name, err)
			}
		}
		err := b.Apply(t.Context(), func(ctx context.Context, tx hub.Tx) error {
			return tx.Save(ctx, &hub.Changes{Ledger: []hub.LedgerRecord{{Event: hub.Event{ID: "evt_1", Properties: map[string]any{"x": struct{}{}}}}}})
		})
		if !errors.Is(err, hub.ErrInvalid) {
			t.Errorf("a property of an unknown type: %v, want invalid", err)
		}
	})
}

func TestCancelledBeforeItsTurn(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := b.Apply(ctx, func(context.Context, hub.Tx) error { t.Error("ran"); return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("err = %v", err)
		}
	})
}

func TestClosed(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		var running atomic.Int64
		var wait sync.WaitGroup
		for range 8 {
			wait.Go(func() {
				for {
					if err := b.Apply(t.Context(), func(context.Context, hub.Tx) error { running.Add(1); return nil }); err != nil {
						if b.dialect == "sqlite" && !errors.Is(err, hub.ErrTransient) {
							t.Errorf("after close: %v", err)
						}
						return
					}
				}
			})
		}
		for running.Load() < 20 {
			if err := b.Ping(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		wait.Wait()
		if err := b.Close(); err != nil {
			t.Errorf("second close: %v", err)
		}
	})
}

func TestNewerSchemaRefuses(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		b.exec(t, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, "+map[string]string{"sqlite": "1", "postgres": "true"}[b.dialect]+")")
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		s, err := store.Open(t.Context(), b.options)
		if err == nil {
			_ = s.Close()
			t.Fatal("opened a schema from the future")
		}
		if !strings.Contains(err.Error(), "newer") || !strings.Contains(err.Error(), "99999") {
			t.Errorf("the reason does not say so: %v", err)
		}
	})
}

func TestTwoOpenAtOnce(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		if b.dialect == "sqlite" {
			t.Skip("one process has the data directory to itself: the lock file sees to it")
		}
		fresh := b.options
		fresh.URL = schemaOf(t, fresh.URL)
		var wait sync.WaitGroup
		for range 4 {
			wait.Go(func() {
				s, err := store.Open(t.Context(), fresh)
				if err != nil {
					t.Errorf("open: %v", err)
					return
				}
				_ = s.Close()
			})
		}
		wait.Wait()
	})
}

// Two processes that touch the same customers in opposite orders: both get through, nothing is lost.
func TestContention(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ada, bob := person("ada"), person("bob")
		b.apply(t, changes(ada, bob))
		const rounds = 25
		var wait sync.WaitGroup
		for worker := range 4 {
			wait.Go(func() {
				for i := range rounds {
					ids := []string{ada.ID, bob.ID}
					first := []hub.Identifier{email("ada@example.com"), email(fmt.Sprintf("n%d-%d@example.com", worker, i)), email(fmt.Sprintf("shared%d@example.com", i))}
					err := b.Apply(t.Context(), func(ctx context.Context, tx hub.Tx) error {
						if _, err := tx.LockIdentifiers(ctx, first); err != nil {
							return err
						}
						// One at a time and in the wrong order for half of them: deadlocks that must repeat.
						if worker%2 == 0 {
							ids[0], ids[1] = ids[1], ids[0]
						}
						for _, id := range ids {
							people, err := tx.LockCustomers(ctx, []string{id})
							if err != nil {
								return err
							}
							people[id].Sequence++
							if err := tx.Save(ctx, changes(people[id])); err != nil {
								return err
							}
						}
						return nil
					})
					if err != nil {
						t.Errorf("worker %d: %v", worker, err)
					}
				}
			})
		}
		wait.Wait()
		for _, p := range []*hub.CustomerRecord{ada, bob} {
			if got := must(b.Customer(t.Context(), p.ID))(t); got.Sequence != 7+4*rounds {
				t.Errorf("%s: sequence %d, want %d", p.Name, got.Sequence, 7+4*rounds)
			}
		}
	})
}

func TestReadsSeeTheLastCommit(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ada := person("ada")
		b.apply(t, changes(ada))
		for i := range 20 {
			ada.Sequence = int64(100 + i)
			b.apply(t, changes(ada))
			if got := must(b.Customer(t.Context(), ada.ID))(t); got.Sequence != ada.Sequence {
				t.Fatalf("sequence %d, want %d", got.Sequence, ada.Sequence)
			}
		}
	})
}

func TestLease(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		for i, step := range []struct {
			after  time.Duration
			holder string
			ttl    time.Duration
			want   bool
		}{
			{0, "a", time.Minute, true},
			{time.Second, "b", time.Minute, false},
			{30 * time.Second, "a", time.Minute, true},
			{89 * time.Second, "b", time.Minute, false},
			{90 * time.Second, "b", time.Minute, true},
			{91 * time.Second, "a", time.Minute, false},
			{92 * time.Second, "b", 0, true}, // given up
			{92 * time.Second, "a", time.Minute, true},
		} {
			b.clock.Set(t0.Add(step.after))
			got, err := b.Lease(t.Context(), "janitor", step.holder, step.ttl)
			if err != nil || got != step.want {
				t.Errorf("step %d: %v, %v; want %v", i, got, err, step.want)
			}
		}
	})
}
