package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/store"
)

// published is an outbox row that has a subject.
func published(id string) hub.OutboxRecord {
	return hub.OutboxRecord{ID: id, Kind: hub.OutboxTransition, Subject: "stages.clc.new", CustomerID: "cus_1", Body: []byte("{}"), CreatedAt: t0}
}

// fact is an outbox row that is published nowhere.
func fact(id string) hub.OutboxRecord {
	return hub.OutboxRecord{ID: id, Kind: hub.OutboxEvent, CustomerID: "cus_1", Body: []byte("{}"), CreatedAt: t0}
}

// places shows rows as position:id.
func places(t *testing.T) func(items []hub.FeedItem, err error) []string {
	return func(items []hub.FeedItem, err error) (list []string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range items {
			list = append(list, fmt.Sprintf("%d:%s", f.Position, f.ID))
		}
		return list
	}
}

// relayed shows the ids of rows with a subject.
func relayed(t *testing.T) func(items []hub.FeedItem, err error) []string {
	return func(items []hub.FeedItem, err error) (list []string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range items {
			if f.Subject != "" {
				list = append(list, f.ID)
			}
		}
		return list
	}
}

// publish says that rows are published.
func (b *bench) publish(t *testing.T, rows ...hub.FeedItem) {
	t.Helper()
	if err := b.Published(t.Context(), rows); err != nil {
		t.Fatal(err)
	}
}

// row stands for one that Unpublished returned before.
func row(id string) hub.FeedItem { return hub.FeedItem{OutboxRecord: hub.OutboxRecord{ID: id}} }

// relay does what the relay does, limit rows at a time, and returns the ids of what it published.
func (b *bench) relay(t *testing.T, limit int) (told []string) {
	t.Helper()
	for {
		rows, err := b.Unpublished(t.Context(), limit)
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) == 0 {
			return told
		}
		told = append(told, relayed(t)(rows, nil)...)
		b.publish(t, rows...)
	}
}

func idsOf(rows []hub.FeedItem) (list []string) {
	for i := range rows {
		list = append(list, rows[i].ID)
	}
	return list
}

func TestRelay(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		var all []hub.OutboxRecord
		for i := range 10 {
			all = append(all, published(fmt.Sprintf("stg_%d", 9-i)))
		}
		b.apply(t, &hub.Changes{Outbox: all[:6]})
		b.apply(t, &hub.Changes{Outbox: all[6:]})
		items := must(b.Unpublished(ctx, 3))(t)
		diff(t, "first", []string{"stg_9", "stg_8", "stg_7"}, idsOf(items))
		diff(t, "whole", all[0], items[0].OutboxRecord)
		if pending := must(b.Pending(ctx, t0))(t); pending.Outbox != 10 {
			t.Errorf("pending: %+v", pending)
		}
		b.publish(t, items[:2]...)
		b.clock.Set(t0.Add(time.Hour))
		b.publish(t, must(b.Unpublished(ctx, 1))(t)...)
		b.publish(t, items[:1]...) // again
		diff(t, "then", []string{"stg_6", "stg_5", "stg_4"}, idsOf(must(b.Unpublished(ctx, 3))(t)))
		diff(t, "recent", []string{"stg_7"}, idsOf(must(b.RecentlyPublished(ctx, time.Hour-time.Second))(t)))
		diff(t, "all recent", []string{"stg_9", "stg_8", "stg_7"}, idsOf(must(b.RecentlyPublished(ctx, time.Hour))(t)))
		if pending := must(b.Pending(ctx, t0))(t); pending.Outbox != 7 {
			t.Errorf("pending: %+v", pending)
		}
		diff(t, "feed", []string{"1:stg_9", "2:stg_8", "3:stg_7"}, places(t)(b.Feed(ctx, 0, 3)))
		diff(t, "feed after", []string{"2:stg_8"}, places(t)(b.Feed(ctx, 1, 1)))
		first, atOnce := "0:stg_6", int64(2)
		if b.dialect == "sqlite" { // all are in the feed, and have their places, from the beginning
			first, atOnce = "4:stg_6", 3
		}
		diff(t, "waiting", []string{first}, places(t)(b.Unpublished(ctx, 1)))

		if n := must(b.PruneFeed(ctx, t0.Add(time.Minute)))(t); n != atOnce {
			t.Errorf("pruned %d", n)
		}
		if n := must(b.PruneFeed(ctx, t0.Add(2*time.Hour)))(t); n != 3-atOnce {
			t.Errorf("pruned %d", n)
		}
		diff(t, "pruning leaves what waits", []string{"stg_6", "stg_5", "stg_4"}, idsOf(must(b.Unpublished(ctx, 3))(t)))
		b.again(t)
		b.publish(t, must(b.Unpublished(ctx, 1))(t)...)
		diff(t, "positions are never given twice", []string{"4:stg_6"}, places(t)(b.Feed(ctx, 0, 1)))
		diff(t, "left", []string{"stg_5", "stg_4", "stg_3"}, idsOf(must(b.Unpublished(ctx, 3))(t)))
	})
}

// Where a row may become visible after one with a higher number, what was passed over is not forgotten.
func TestRelayOutOfOrder(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		if b.dialect == "sqlite" {
			t.Skip("rows of SQLite are committed in their order")
		}
		ctx := t.Context()
		b.apply(t, &hub.Changes{Outbox: []hub.OutboxRecord{published("stg_1"), published("stg_2"), published("stg_3"), published("stg_4")}})
		b.publish(t, row("stg_2"), row("stg_1")) // in whatever order they are named
		b.publish(t, row("stg_1"), row("stg_4"), row("stg_unknown"))
		diff(t, "waits", []string{"stg_3"}, idsOf(must(b.Unpublished(ctx, 3))(t)))
		diff(t, "feed", []string{"1:stg_1", "2:stg_2", "3:stg_4"}, places(t)(b.Feed(ctx, 0, 10)))
		b.publish(t, row("stg_3"))
		diff(t, "then", []string{"4:stg_3"}, places(t)(b.Feed(ctx, 3, 10)))
	})
}

// What readers of the feed see is the same whatever waits for the relay: everything but the hub's own events, once, in order.
func TestFeed(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		own := published("evt_own")
		own.Kind, own.Subject = hub.OutboxOwn, "events.own"
		b.apply(t, &hub.Changes{Outbox: []hub.OutboxRecord{fact("evt_1"), published("stg_1"), own}})
		b.apply(t, &hub.Changes{Outbox: []hub.OutboxRecord{fact("evt_2"), fact("evt_3"), published("stg_2"), published("stg_3")}})
		diff(t, "published", []string{"stg_1", "evt_own", "stg_2", "stg_3"}, b.relay(t, 2))
		want := []string{"1:evt_1", "2:stg_1", "4:evt_2", "5:evt_3", "6:stg_2", "7:stg_3"}
		diff(t, "feed", want, places(t)(b.Feed(ctx, 0, 10)))
		if pending := must(b.Pending(ctx, t0))(t); pending.Outbox != 0 {
			t.Errorf("pending: %+v", pending)
		}
		b.again(t)
		diff(t, "feed, opened again", want, places(t)(b.Feed(ctx, 0, 10)))
		b.apply(t, &hub.Changes{Outbox: []hub.OutboxRecord{fact("evt_4"), published("stg_4")}})
		b.relay(t, 10)
		diff(t, "goes on", []string{"8:evt_4", "9:stg_4"}, places(t)(b.Feed(ctx, 7, 10)))

		// The newest rows go too. What comes then is after them, for this process and for the next.
		for i, next := range []string{"evt_5", "evt_6"} {
			if n := must(b.PruneFeed(ctx, t0.Add(time.Hour)))(t); n == 0 {
				t.Error("nothing pruned")
			}
			diff(t, "pruned", []string(nil), places(t)(b.Feed(ctx, 0, 10)))
			if i == 1 {
				b.again(t)
			}
			b.apply(t, &hub.Changes{Outbox: []hub.OutboxRecord{fact(next)}})
			b.relay(t, 10)
			diff(t, "after pruning", []string{fmt.Sprintf("%d:%s", 10+i, next)}, places(t)(b.Feed(ctx, 0, 10)))
		}
	})
}

// What is published nowhere needs no relay where its place is known at once, and is in the feed without it.
func TestRelayed(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		sqlite := b.dialect == "sqlite"
		facts := []hub.OutboxRecord{fact("evt_1"), fact("evt_2")}
		for name, c := range map[string]struct {
			rows []hub.OutboxRecord
			want bool
		}{"nothing": {}, "facts": {facts, !sqlite}, "a transition": {[]hub.OutboxRecord{fact("evt_3"), published("stg_1")}, true}} {
			if got := b.Relayed(c.rows); got != c.want {
				t.Errorf("%s: %v, want %v", name, got, c.want)
			}
		}
		b.apply(t, &hub.Changes{Outbox: facts})
		waiting := idsOf(must(b.Unpublished(t.Context(), 10))(t))
		pending := must(b.Pending(t.Context(), t0))(t).Outbox
		if sqlite {
			if len(waiting) != 0 || pending != 0 {
				t.Errorf("waits: %v, %d", waiting, pending)
			}
			diff(t, "feed", []string{"1:evt_1", "2:evt_2"}, places(t)(b.Feed(t.Context(), 0, 10)))
		} else if len(waiting) != 2 || pending != 2 {
			t.Errorf("waits: %v, %d", waiting, pending)
		}
	})
}

// What the relay publishes again goes by when rows were published, however long they had waited for it and whatever lies between them.
func TestRecentlyPublished(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		if rows := must(b.RecentlyPublished(ctx, time.Hour))(t); len(rows) != 0 {
			t.Errorf("of nothing: %v", rows)
		}
		at := func(after time.Duration, rows ...hub.OutboxRecord) {
			t.Helper()
			b.clock.Set(t0.Add(after))
			b.apply(t, &hub.Changes{Outbox: rows})
		}
		at(0, published("stg_1"), fact("evt_1"))
		if rows := must(b.RecentlyPublished(ctx, 100*365*24*time.Hour))(t); len(relayed(t)(rows, nil)) != 0 {
			t.Errorf("before the relay: %v", rows)
		}
		b.relay(t, 10)
		// The log is away for an hour.
		at(time.Hour, published("stg_2"), fact("evt_2"))
		at(90*time.Minute, fact("evt_3"), published("stg_3"), fact("evt_4"))
		diff(t, "nothing new", []string{"stg_1"}, relayed(t)(b.RecentlyPublished(ctx, 10*time.Minute)))
		b.clock.Set(t0.Add(2 * time.Hour))
		b.relay(t, 10)
		at(2*time.Hour+5*time.Minute, fact("evt_5"), published("stg_4"))
		b.relay(t, 10)
		at(2*time.Hour+6*time.Minute, published("stg_5")) // waits
		for window, want := range map[time.Duration][]string{
			time.Minute:      {"stg_4"},
			5 * time.Minute:  {"stg_2", "stg_3", "stg_4"},
			10 * time.Minute: {"stg_2", "stg_3", "stg_4"},
			3 * time.Hour:    {"stg_1", "stg_2", "stg_3", "stg_4"},
		} {
			diff(t, window.String(), want, relayed(t)(b.RecentlyPublished(ctx, window)))
		}
	})
}

// A row that waits for the relay is not pruned, however old it is and however many younger ones go, and holds none of these up.
func TestPruneFeedLeavesWhatWaits(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		b.apply(t, &hub.Changes{Outbox: []hub.OutboxRecord{published("stg_1")}})
		var facts []hub.OutboxRecord
		for i := range 1500 { // more than one transaction deletes
			facts = append(facts, fact(fmt.Sprintf("evt_%d", i)))
		}
		b.apply(t, &hub.Changes{Outbox: facts})
		var rest []hub.FeedItem
		for i := range facts {
			rest = append(rest, row(facts[i].ID))
		}
		if b.dialect != "sqlite" { // facts are in the feed from the beginning
			b.publish(t, rest...)
		}
		if n := must(b.PruneFeed(ctx, t0.Add(time.Hour)))(t); n != 1500 {
			t.Errorf("pruned %d", n)
		}
		diff(t, "waits", []string{"stg_1"}, idsOf(must(b.Unpublished(ctx, 10))(t)))
		b.publish(t, must(b.Unpublished(ctx, 10))(t)...)
		if feed := must(b.Feed(ctx, 0, 10))(t); len(feed) != 1 || feed[0].ID != "stg_1" {
			t.Errorf("feed %v", feed)
		}
	})
}

// Places that were given in a transaction, or in a part of one, that was rolled back are given to the next: nobody has seen them, and
// the feed has neither a gap nor a row twice.
func TestPlacesAfterRollback(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, err := store.Open(t.Context(), store.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		save := func(fail error, ids ...string) error {
			return s.Apply(t.Context(), func(ctx context.Context, tx hub.Tx) error {
				c := &hub.Changes{}
				for _, id := range ids {
					c.Outbox = append(c.Outbox, fact(id), published("of "+id))
				}
				return errors.Join(tx.Save(ctx, c), fail)
			})
		}
		check := func(when string, err, want error) {
			t.Helper()
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", when, err, want)
			}
		}
		check("alone", save(nil, "a"), nil)
		check("undone alone", save(errStopped, "b", "c"), errStopped)
		check("after it", save(nil, "d"), nil)
		// While the first runs, the others come to wait for the writer, in this order: it takes them into the first one's transaction.
		came := make(chan error, 3)
		check("first", s.Apply(t.Context(), func(ctx context.Context, tx hub.Tx) error {
			for _, next := range []struct {
				fail error
				id   string
			}{{errStopped, "f"}, {nil, "g"}, {errStopped, "h"}} {
				go func() { came <- save(next.fail, next.id) }()
				synctest.Wait()
			}
			return tx.Save(ctx, &hub.Changes{Outbox: []hub.OutboxRecord{fact("e")}})
		}), nil)
		failed := 0
		for range cap(came) {
			if err := <-came; errors.Is(err, errStopped) {
				failed++
			} else if err != nil {
				t.Error(err)
			}
		}
		if failed != 2 {
			t.Errorf("%d failed", failed)
		}
		check("conflicts", save(hub.ErrConflict, "i"), hub.ErrConflict)
		check("last", save(nil, "j"), nil)
		want := []string{"1:a", "2:of a", "3:d", "4:of d", "5:e", "6:g", "7:of g", "8:j", "9:of j"}
		diff(t, "feed", want, places(t)(s.Feed(t.Context(), 0, 20)))
		diff(t, "for the relay", []string{"2:of a", "4:of d", "7:of g", "9:of j"}, places(t)(s.Unpublished(t.Context(), 20)))
	})
}

// A data directory whose outbox rows got their places from the relay is taken over: what waited is in the feed after what was published, in
// its order, and what has a subject still waits for the relay.
func TestFormerOutbox(t *testing.T) {
	for name, c := range map[string]struct {
		rows  string // (no, id, kind, subject, position, published_at), …
		floor string
		feed  []string
		wait  []string
		next  string
		old   int64    // how many were published before
		again []string // what the relay publishes again at its start
	}{
		"nothing": {next: "1:evt_next"},
		"all published": {
			rows: "(1, 'stg_1', 'transition', 'stages.clc.new', 1, 500), (2, 'evt_2', 'event', '', 2, 500)",
			feed: []string{"1:stg_1", "2:evt_2"}, next: "3:evt_next", old: 2, again: []string{"stg_1"},
		},
		"some wait": {
			rows: `(1, 'stg_1', 'transition', 'stages.clc.new', 3, 500), (2, 'evt_2', 'event', '', 4, 500),
				(7, 'evt_7', 'event', '', NULL, 0), (5, 'stg_5', 'transition', 'stages.clc.new', NULL, 0), (6, 'evt_6', 'own', 'events.own', NULL, 0)`, floor: "('feed.floor', '2')",
			feed: []string{"3:stg_1", "4:evt_2", "5:stg_5", "7:evt_7"}, wait: []string{"5:stg_5", "6:evt_6"}, next: "8:evt_next", old: 2,
			again: []string{"stg_1"},
		},
		"some long ago": { // 600 s and 1 µs before the last, 600 s before it
			rows: `(1, 'stg_1', 'transition', 'stages.clc.new', 1, 500), (2, 'stg_2', 'transition', 'stages.clc.new', 2, 501), (3, 'evt_3', 'event', '', 3, 600000600),
				(4, 'stg_4', 'transition', 'stages.clc.new', 4, 600000501), (5, 'stg_5', 'transition', 'stages.clc.new', NULL, 0)`,
			feed: []string{"1:stg_1", "2:stg_2", "3:evt_3", "4:stg_4", "5:stg_5"}, wait: []string{"5:stg_5"}, next: "6:evt_next", old: 1,
			again: []string{"stg_2", "stg_4"},
		},
		"the newest are pruned": {
			rows: "(1, 'stg_1', 'transition', 'stages.clc.new', 8, 500), (2, 'evt_2', 'event', '', NULL, 0)", floor: "('feed.floor', '12')",
			feed: []string{"8:stg_1", "13:evt_2"}, next: "14:evt_next", old: 1, again: []string{"stg_1"},
		},
		"all are pruned": {floor: "('feed.floor', '12')", next: "13:evt_next"},
	} {
		t.Run(name, func(t *testing.T) {
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
			if _, err := provider.UpTo(t.Context(), 5); err != nil {
				t.Fatal(err)
			}
			if c.rows != "" {
				if _, err := db.ExecContext(t.Context(), `INSERT INTO outbox (no, id, kind, subject, position, published_at, customer_id, body, created_at)
					SELECT column1, column2, column3, column4, column5, column6, 'cus_1', '{}', 400 FROM (VALUES `+c.rows+")"); err != nil {
					t.Fatal(err)
				}
			}
			if c.floor != "" {
				if _, err := db.ExecContext(t.Context(), "INSERT INTO settings (key, value) VALUES "+c.floor); err != nil {
					t.Fatal(err)
				}
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}

			clock := &clock{now: t0}
			b := &bench{clock: clock, dialect: "sqlite", options: store.Options{Dir: dir, Now: clock.Now}}
			b.reopen(t)
			diff(t, "feed", c.feed, places(t)(b.Feed(t.Context(), 0, 10)))
			diff(t, "waiting", c.wait, places(t)(b.Unpublished(t.Context(), 10)))
			diff(t, "again", c.again, relayed(t)(b.RecentlyPublished(t.Context(), 10*time.Minute)))
			b.relay(t, 1)
			if pending := must(b.Pending(t.Context(), t0))(t); pending.Outbox != 0 {
				t.Errorf("pending: %+v", pending)
			}
			b.apply(t, &hub.Changes{Outbox: []hub.OutboxRecord{fact("evt_next")}})
			diff(t, "then", append(c.feed, c.next), places(t)(b.Feed(t.Context(), 0, 10)))
			// What waited was not published when it was written: it is kept as long as what is published now.
			if n := must(b.PruneFeed(t.Context(), time.UnixMicro(501)))(t); n != c.old {
				t.Errorf("pruned %d", n)
			}
			if _, err := b.PruneFeed(t.Context(), time.Now().AddDate(100, 0, 0)); err != nil {
				t.Fatal(err)
			}
			diff(t, "all pruned", []string(nil), places(t)(b.Feed(t.Context(), 0, 10)))
		})
	}
}
