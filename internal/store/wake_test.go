package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/store"
)

// sleeping is what the wake-ups of clc should be: by customer.
type sleeping map[string]time.Time

// due returns who wakes at or before until, by the instant of her wake-up.
func (s sleeping) due(until time.Time) (ids []string) {
	for id, wakes := range s {
		if !wakes.IsZero() && !wakes.After(until) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b string) int { return s[a].Compare(s[b]) })
	return ids
}

// instants shows when they wake: those of one instant may come in any order.
func (s sleeping) instants(ids []string) (list []string) {
	for _, id := range ids {
		list = append(list, s[id].Format(time.RFC3339Nano))
	}
	return list
}

// move saves another wake-up of a customer as a decision at decided does.
func (b *bench) move(ctx context.Context, tx hub.Tx, id string, decided, wakes time.Time) error {
	people, err := tx.LockCustomers(ctx, []string{id})
	if err != nil {
		return err
	}
	p := people[id]
	p.Stages[0].DecidedAt, p.Stages[0].WakesAt = decided, wakes
	return tx.Save(ctx, &hub.Changes{Customers: []*hub.CustomerRecord{p}, Stages: p.Stages[:1]})
}

// However wake-ups move, are rolled back, merged away or looked at, a poll finds the oldest of those who are due, and somebody where
// anybody is.
func TestDueIsWhatWakes(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		seed := rand.Uint64()
		random := rand.New(rand.NewPCG(seed, 5)) //nolint:gosec // a test's choices
		t.Logf("seed %d", seed)
		boom := errors.New("boom")
		want := sleeping{}
		var ids []string
		minute := func(n int) time.Time { return t0.Add(time.Duration(n) * time.Minute) }
		for i := range 24 {
			p := person(fmt.Sprint("p", i))
			p.Stages[0].WakesAt = minute(random.IntN(60))
			b.apply(t, changes(p))
			ids, want[p.ID] = append(ids, p.ID), p.Stages[0].WakesAt
		}
		poll := func(step int, until time.Time, limit int) []string {
			t.Helper()
			got, all := must(b.Due(t.Context(), "clc", until, limit))(t), want.due(until)
			if len(got) > limit || len(got) == 0 && len(all) > 0 || len(got) > len(all) {
				t.Fatalf("step %d: %d of %d due up to %v, at most %d", step, len(got), len(all), until, limit)
			}
			diff(t, fmt.Sprintf("step %d: the oldest", step), want.instants(all[:len(got)]), want.instants(got))
			if again := slices.Compact(slices.Sorted(slices.Values(got))); len(again) != len(got) {
				t.Errorf("step %d: named twice: %v", step, got)
			}
			if t.Failed() {
				t.FailNow()
			}
			return got
		}
		now := 0
		for step := range 400 {
			now += random.IntN(2)
			switch kind := random.IntN(20); {
			case kind < 12: // an event, or several in a transaction; one in five is rolled back
				fails := random.IntN(5) == 0
				moved := sleeping{}
				err := b.Apply(t.Context(), func(ctx context.Context, tx hub.Tx) error {
					clear(moved)
					for range 1 + random.IntN(3) {
						id, wakes := ids[random.IntN(len(ids))], minute(now+1+random.IntN(60))
						if random.IntN(8) == 0 {
							wakes = time.Time{}
						}
						if err := b.move(ctx, tx, id, minute(now), wakes); err != nil {
							return err
						}
						moved[id] = wakes
					}
					if fails {
						return boom
					}
					return nil
				})
				if errors.Is(err, boom) != fails || err != nil && !fails {
					t.Fatalf("step %d: %v", step, err)
				}
				for id, wakes := range moved {
					if !fails {
						want[id] = wakes
					}
				}
			case kind < 18: // a poll, of which some are decided
				for _, id := range poll(step, minute(now), 1+random.IntN(6)) {
					if random.IntN(3) == 0 {
						continue
					}
					wakes := want[id].Add(time.Duration(1+random.IntN(60)) * time.Minute)
					b.tx(t, func(ctx context.Context, tx hub.Tx) error { return b.move(ctx, tx, id, want[id], wakes) })
					want[id] = wakes
				}
			case kind == 18 && len(ids) > 8:
				into, from := ids[0], ids[len(ids)-1]
				b.tx(t, func(ctx context.Context, tx hub.Tx) error {
					people, err := tx.LockCustomers(ctx, []string{into, from})
					if err != nil {
						return err
					}
					gone := people[from]
					gone.MergedInto = into
					return tx.Save(ctx, &hub.Changes{
						Customers: []*hub.CustomerRecord{gone},
						Merges:    []hub.Merge{{From: from, Into: into, At: minute(now), DecidedAt: minute(now), Reason: "email", EventID: "evt_x", Sequence: int64(step)}},
					})
				})
				ids = ids[:len(ids)-1]
				delete(want, from)
			case kind == 19 && step%4 == 0:
				b.again(t)
			}
		}
		poll(400, minute(now+200), 1)
		poll(400, minute(now+200), 1000)
	})
}

// lookedAt returns the rows' wakes_at and looks_at as minutes after t0, -1 for none, read past the store.
func (b *bench) lookedAt(t *testing.T) (all [][2]int64) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(b.options.Dir, "stagewire.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), "SELECT coalesce((wakes_at - $1) / 60000000, -1), coalesce((looks_at - $1) / 60000000, -1) FROM stages ORDER BY no", t0.UnixMicro())
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var r [2]int64
		if err := rows.Scan(&r[0], &r[1]); err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// alone is a SQLite store of its own.
func alone(t *testing.T) *bench {
	t.Helper()
	c := &clock{now: t0}
	b := &bench{clock: c, dialect: "sqlite", options: store.Options{Dir: t.TempDir(), Now: c.Now}}
	b.reopen(t)
	return b
}

// A wake-up that moves later leaves the index as it is; the poll moves the row on when it comes to it.
func TestLaterWakesLeaveTheIndexAlone(t *testing.T) {
	t.Parallel()
	b := alone(t)
	ada := person("ada")
	ada.Stages[0].WakesAt = t0.Add(50 * time.Minute)
	b.apply(t, changes(ada))
	for _, step := range []struct {
		name                  string
		decided, wakes, looks int64 // minutes, -1 for never
	}{
		{"later", 1, 60, 50},
		{"later again", 2, 90, 50},
		{"earlier, but not than it is looked at", 3, 70, 50},
		{"earlier", 4, 40, 40},
		{"later once more", 5, 80, 40},
		{"as it was", 6, 80, 40},
		{"decided when it came due", 80, 120, 120},
		{"decided late", 130, 200, 200},
		{"never", 131, -1, -1},
		{"never still", 132, -1, -1},
		{"again", 133, 300, 300},
		{"later than that", 134, 400, 300},
	} {
		wakes := time.Time{}
		if step.wakes >= 0 {
			wakes = t0.Add(time.Duration(step.wakes) * time.Minute)
		}
		b.tx(t, func(ctx context.Context, tx hub.Tx) error {
			return b.move(ctx, tx, ada.ID, t0.Add(time.Duration(step.decided)*time.Minute), wakes)
		})
		diff(t, step.name, [][2]int64{{step.wakes, step.looks}}, b.lookedAt(t))
	}
	diff(t, "before it is looked at", []string(nil), must(b.Due(t.Context(), "clc", t0.Add(299*time.Minute), 10))(t))
	diff(t, "is left", [][2]int64{{400, 300}}, b.lookedAt(t))
	diff(t, "ahead", []string(nil), must(b.Due(t.Context(), "clc", t0.Add(399*time.Minute), 10))(t))
	diff(t, "is looked at when it wakes", [][2]int64{{400, 400}}, b.lookedAt(t))
	diff(t, "due", []string{ada.ID}, must(b.Due(t.Context(), "clc", t0.Add(400*time.Minute), 10))(t))
}

// Pages full of those who are not due, or not yet their turn, hide nobody; each of them is looked at once.
func TestNobodyHidesBehindThoseWhoAreNotDue(t *testing.T) {
	t.Parallel()
	b := alone(t)
	var people []*hub.CustomerRecord
	for i := range 12 {
		p := person(fmt.Sprint("p", i))
		p.Stages[0].WakesAt = t0.Add(time.Duration(i) * time.Minute)
		people = append(people, p)
	}
	b.apply(t, changes(people...))
	b.tx(t, func(ctx context.Context, tx hub.Tx) error {
		for i, p := range people[:10] { // the first is due last, and then nine who are not due
			wakes := t0.Add(time.Duration(100+i) * time.Minute)
			if i == 0 {
				wakes = t0.Add(30 * time.Minute)
			}
			if err := b.move(ctx, tx, p.ID, t0.Add(-time.Minute), wakes); err != nil {
				return err
			}
		}
		return nil
	})
	until := t0.Add(time.Hour)
	diff(t, "due", []string{people[10].ID, people[11].ID}, must(b.Due(t.Context(), "clc", until, 2))(t))
	for i, r := range b.lookedAt(t) {
		if r[0] != r[1] {
			t.Errorf("%d wakes at %d and is looked at %d", i, r[0], r[1])
		}
	}
	diff(t, "all", []string{people[10].ID, people[11].ID, people[0].ID}, must(b.Due(t.Context(), "clc", until, 100))(t))
}

// What cannot be moved on is an error, not another look at once.
func TestLooksThatCannotMove(t *testing.T) {
	t.Parallel()
	b := alone(t)
	ada, bob := person("ada"), person("bob")
	ada.Stages[0].WakesAt, bob.Stages[0].WakesAt = t0.Add(time.Minute), t0.Add(2*time.Minute)
	b.apply(t, changes(ada, bob))
	b.tx(t, func(ctx context.Context, tx hub.Tx) error { return b.move(ctx, tx, ada.ID, t0, t0.Add(time.Hour)) })
	b.exec(t, "CREATE TRIGGER full BEFORE UPDATE OF looks_at ON stages BEGIN SELECT RAISE(ABORT, 'no room'); END")
	if ids, err := b.Due(t.Context(), "clc", t0.Add(3*time.Minute), 1); err == nil {
		t.Errorf("due %v, and no error", ids)
	}
	b.exec(t, "DROP TRIGGER full")
	diff(t, "then", []string{bob.ID}, must(b.Due(t.Context(), "clc", t0.Add(3*time.Minute), 1))(t))
}

// The data of the release before is looked at as it was.
func TestLooksOfOlderData(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db, err := sql.Open("sqlite", filepath.Join(dir, "stagewire.db"))
	if err != nil {
		t.Fatal(err)
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, os.DirFS("migrations/sqlite"), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.UpTo(t.Context(), 7); err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), `INSERT INTO stages (customer_id, subject_kind, subject_id, model, version, stage, since, decided_by, decided_at, wakes_at)
		SELECT column1, 'customer', column1, 'clc', 1, 'new', $1, 'rule', $1, $1 + column2 * 60000000 FROM (VALUES ('cus_a', 20), ('cus_b', 10), ('cus_c', NULL))`, t0.UnixMicro()); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	b := &bench{clock: &clock{now: t0}, dialect: "sqlite", options: store.Options{Dir: dir}}
	b.reopen(t)
	diff(t, "looks", [][2]int64{{20, 20}, {10, 10}, {-1, -1}}, b.lookedAt(t))
	diff(t, "due", []string{"cus_b"}, must(b.Due(t.Context(), "clc", t0.Add(15*time.Minute), 10))(t))
}

// Whom nobody knows is no error: she may have been merged away meanwhile.
func TestWarm(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		for _, ids := range [][]string{nil, {"cus_1"}, {"cus_1", "cus_unknown", `"`}} {
			b.apply(t, &hub.Changes{Customers: []*hub.CustomerRecord{{ID: "cus_1", Kind: hub.SubjectCustomer, CreatedAt: t0, UpdatedAt: t0}}})
			if err := b.Warm(t.Context(), ids); err != nil {
				t.Errorf("%q: %v", ids, err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		if cancel(); b.dialect == "sqlite" && b.Warm(ctx, []string{"cus_1"}) == nil {
			t.Error("a context that has ended is no error")
		}
	})
}
