package store_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/store"
)

// t0 is when the tests' stories begin.
var t0 = time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)

// clock is the stores' wire time.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
}

// bench is one store under test and how to open the same data again.
type bench struct {
	*store.Store
	clock   *clock
	options store.Options
	dialect string
}

// again closes the store and opens its data anew, as a restart does.
func (b *bench) again(t *testing.T) {
	t.Helper()
	if err := b.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	b.reopen(t)
}

func (b *bench) reopen(t *testing.T) {
	t.Helper()
	s, err := store.Open(t.Context(), b.options)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	b.Store = s
	t.Cleanup(func() { _ = s.Close() })
}

// on runs a test on SQLite, and on PostgreSQL where STAGEWIRE_TEST_POSTGRES names a server; each in a database of its own.
func on(t *testing.T, test func(t *testing.T, b *bench)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		c := &clock{now: t0}
		b := &bench{clock: c, dialect: "sqlite", options: store.Options{Dir: t.TempDir(), Now: c.Now}}
		b.reopen(t)
		test(t, b)
	})
	t.Run("postgres", func(t *testing.T) {
		server := os.Getenv("STAGEWIRE_TEST_POSTGRES")
		if server == "" {
			t.Skip("STAGEWIRE_TEST_POSTGRES is not set: no PostgreSQL to test on")
		}
		t.Parallel()
		c := &clock{now: t0}
		b := &bench{clock: c, dialect: "postgres", options: store.Options{URL: schemaOf(t, server), Now: c.Now}}
		b.reopen(t)
		test(t, b)
	})
}

// schemaOf makes a schema for one test and returns the URL that leads into it.
func schemaOf(t testing.TB, server string) string {
	t.Helper()
	db, err := sql.Open("pgx", server)
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("t_%x", time.Now().UnixNano())
	if _, err := db.ExecContext(t.Context(), "CREATE SCHEMA "+name); err != nil {
		t.Fatalf("schema: %v", err)
	}
	t.Cleanup(func() {
		if _, err := db.ExecContext(context.Background(), "DROP SCHEMA "+name+" CASCADE"); err != nil {
			t.Errorf("drop schema: %v", err)
		}
		_ = db.Close()
	})
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("search_path", name)
	u.RawQuery = q.Encode()
	return u.String()
}

// apply saves changes in one transaction.
func (b *bench) apply(t *testing.T, c *hub.Changes) {
	t.Helper()
	b.tx(t, func(ctx context.Context, tx hub.Tx) error { return tx.Save(ctx, c) })
}

// tx runs fn in an apply transaction that must succeed.
func (b *bench) tx(t *testing.T, fn func(context.Context, hub.Tx) error) {
	t.Helper()
	if err := b.Apply(t.Context(), fn); err != nil {
		t.Fatalf("apply: %v", err)
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func email(value string) hub.Identifier {
	return hub.Identifier{Kind: hub.IdentifierEmail, Value: value}
}

func record(kind, value, connection string) hub.Identifier {
	return hub.Identifier{Kind: kind, Value: value, Connection: connection, Record: true}
}

// person returns a customer with one profile at shop and a stage of model clc, everything filled in.
func person(name string) *hub.CustomerRecord {
	profile := hub.DeriveID(hub.PrefixProfile, "shop", name)
	id := hub.DeriveID(hub.PrefixCustomer, profile)
	return &hub.CustomerRecord{
		ID: id, Kind: hub.SubjectCustomer, Sequence: 7, FirstEventAt: t0.Add(-time.Hour), DecidedAt: t0, CreatedAt: t0, UpdatedAt: t0.Add(time.Second),
		Name: strings.ToUpper(name[:1]) + name[1:], Email: name + "@example.com", Tags: []string{"vip", "größe \"L\""}, Previous: previous("erp", "stg_1"),
		Profiles: []hub.ProfileRecord{{
			ID: profile, CustomerID: id, Connection: "shop", Key: "shop_customer\x1fshop\x1f" + name, Facts: []byte{0, 1, 2, 0xff},
			Identifiers: []hub.Identifier{record("shop_customer", name, "shop"), email(name + "@example.com"), {Kind: "browser", Value: "b-" + name, Connection: "shop", Weak: true}},
		}},
		Stages: []hub.StageRecord{{
			Subject: hub.Subject{Kind: hub.SubjectCustomer, ID: id}, CustomerID: id, Model: "clc", Version: 3, Stage: "new", Since: t0, By: hub.ByRule,
			DecidedAt: t0, WakesAt: t0.Add(90 * 24 * time.Hour), Path: []byte(`{"left":1}`),
		}},
	}
}

// changes returns what saves the customers, their profiles, stages and strong identifiers.
func changes(people ...*hub.CustomerRecord) *hub.Changes {
	c := &hub.Changes{Customers: people}
	for _, p := range people {
		c.Profiles = append(c.Profiles, p.Profiles...)
		c.Stages = append(c.Stages, p.Stages...)
		for _, profile := range p.Profiles {
			for _, id := range profile.Identifiers {
				if !id.Weak {
					c.Identifiers = append(c.Identifiers, hub.IdentifierRecord{Identifier: id, CustomerID: p.ID, ProfileID: profile.ID})
				}
			}
		}
	}
	return c
}

// order returns an event of a customer's first profile.
func order(p *hub.CustomerRecord, number string, at time.Time) hub.LedgerRecord {
	return hub.LedgerRecord{
		Event: hub.Event{
			ID: hub.EventID("shop", number, "order.paid"), Version: hub.Version{Activation: 1}, Kind: "order.paid", Connection: "shop", OccurredAt: at,
			OccurredBy: hub.OccurredFact, ReceivedAt: at.Add(time.Second), Identifiers: p.Profiles[0].Identifiers, WebhookID: "whk_" + number,
			Properties: map[string]any{"id": number, "amount": money("54.90"), "items": 2.0, "closes_at": at, "products": []string{"a", "b"}, "completed": true},
			Traits:     []hub.Trait{{Name: "plan", Value: "pro", At: at}, {Name: "seats", Value: 4.5, At: at}, {Name: "tags", Value: []string{"x"}, At: at}, {Name: "gone", At: at}},
		},
		ProfileID: p.Profiles[0].ID, CustomerID: p.ID, KnownFrom: 1,
	}
}

func money(amount string) hub.Money {
	m, err := hub.ParseMoney(amount, "EUR")
	if err != nil {
		panic(err)
	}
	return m
}

// delivery returns a task that is due.
func delivery(p *hub.CustomerRecord, id, destination string, due time.Time) hub.Delivery {
	return hub.Delivery{
		ID: id, Destination: destination, Action: "create_task", CustomerID: p.ID, Subject: hub.Subject{Kind: hub.SubjectCustomer, ID: p.ID}, State: hub.DeliveryDue,
		DueAt: due, CreatedAt: t0, Params: map[string]any{"subject": "Call “her”", "days": int64(2), "at": t0, "list": []any{"a", 1.5, nil}, "deep": map[string]any{"$odd": "x", "wait": time.Hour}},
		Reference: "ref-" + id, Cause: hub.DeliveryCause{TransitionID: "stg_1", EventID: "evt_1", Reaction: "win back"},
	}
}

// history returns (activation, fetch_no, known_from, known_until or -1) of an event's versions, read past the store.
func (b *bench) history(t *testing.T, id string) (all [][4]int64) {
	t.Helper()
	driver, source := "pgx", b.options.URL
	if b.dialect == "sqlite" {
		driver, source = "sqlite", filepath.Join(b.options.Dir, "stagewire.db")
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), "SELECT activation, fetch_no, known_from, coalesce(known_until, -1) FROM events WHERE id = $1 ORDER BY no", id)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var r [4]int64
		if err := rows.Scan(&r[0], &r[1], &r[2], &r[3]); err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// exec runs a statement past the store.
func (b *bench) exec(t *testing.T, query string) {
	t.Helper()
	driver, source := "pgx", b.options.URL
	if b.dialect == "sqlite" {
		driver, source = "sqlite", filepath.Join(b.options.Dir, "stagewire.db")
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), query); err != nil {
		t.Fatal(err)
	}
}

// previous is a customer who was told of one callback.
func previous(subscription, id string) hub.Previous { return hub.Previous{}.With(subscription, id) }

// holding returns the identifiers by name.
func holding(list []hub.IdentifierRecord) map[hub.IdentifierName]hub.IdentifierRecord {
	all := map[hub.IdentifierName]hub.IdentifierRecord{}
	for _, r := range list {
		all[r.Name()] = r
	}
	return all
}
