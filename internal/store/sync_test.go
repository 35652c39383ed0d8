package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/stagewire/stagewire/internal/hub"
)

// openUnsynced opens a store whose log cannot be taken to the disk.
func openUnsynced(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	w, ok := s.db.(*writer)
	if !ok {
		t.Fatalf("%T", s.db)
	}
	w.path = filepath.Join(dir, "elsewhere", "stagewire.db") // its log cannot be opened; sync reads this after the first commit
	return s
}

// What could not be taken to the disk is not answered as written, and nothing is written after it: the next process reads the log anew.
func TestLogThatCannotBeSynced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openUnsynced(t, dir)
	set := func(value string) error {
		return s.write(t.Context(), func(ctx context.Context, q keeper) error {
			_, err := q.exec(ctx, "INSERT INTO settings (key, value) VALUES ($1, $2)", value, value)
			return err
		})
	}
	read := s.write(t.Context(), func(ctx context.Context, q keeper) error {
		var n int64
		return one(ctx, q, "SELECT count(*) FROM settings", nil, &n)
	})
	if read != nil {
		t.Errorf("a transaction that writes nothing needs no sync: %v", read)
	}
	if err := set("first"); !errors.Is(err, hub.ErrTransient) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the first write: %v", err)
	}
	if err := set("second"); !errors.Is(err, hub.ErrTransient) {
		t.Errorf("the second write: %v", err)
	}
	if err := s.db.settled(t.Context()); !errors.Is(err, hub.ErrTransient) {
		t.Errorf("what was committed is settled: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var second int64
	if err := one(t.Context(), s.read, "SELECT count(*) FROM settings WHERE key = $1", []any{"second"}, &second); err != nil || second != 0 {
		t.Errorf("the second write was made %d times, %v", second, err)
	}
	if err := set("third"); err != nil {
		t.Errorf("after the start: %v", err)
	}
}

// A callback that was committed and may be taken back by a power cut is not sent.
func TestNoClaimOfWhatIsNotOnDisk(t *testing.T) {
	t.Parallel()
	s := openUnsynced(t, t.TempDir())
	const erp = hub.SubscriptionPrefix + "erp"
	due := time.Unix(1, 0)
	err := s.Apply(t.Context(), func(ctx context.Context, tx hub.Tx) error {
		return tx.Save(ctx, &hub.Changes{Deliveries: []hub.Delivery{{ID: "dlv_1", Destination: erp, State: hub.DeliveryDue, DueAt: due, CreatedAt: due, Body: []byte("{}")}}})
	})
	if !errors.Is(err, hub.ErrTransient) {
		t.Errorf("written: %v", err)
	}
	if names, err := s.Destinations(t.Context(), due); err != nil || len(names) != 1 {
		t.Fatalf("it cannot be seen: %v, %v", names, err)
	}
	if got, err := s.Claim(t.Context(), erp, due, time.Minute, 1, false); !errors.Is(err, hub.ErrTransient) || len(got) != 0 {
		t.Errorf("claimed %v, %v", got, err)
	}
	if len(s.claims.byRow) != 0 {
		t.Errorf("still held: %v", s.claims.byRow)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// Who settles waits for the commits that began before, and for no others.
func TestSettledWaitsForTheDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &writer{quit: make(chan struct{})}
		w.synced.L = &w.disk
		w.begun.Store(2)
		w.onDisk = 1
		settled := false
		go func() {
			if err := w.settled(t.Context()); err != nil {
				t.Error(err)
			}
			settled = true
		}()
		synctest.Wait()
		if settled {
			t.Error("settled before the second commit is on disk")
		}
		w.begun.Add(1)
		w.disk.Lock()
		w.onDisk++
		w.synced.Broadcast()
		w.disk.Unlock()
		synctest.Wait()
		if !settled {
			t.Error("waits for a commit that began later")
		}
	})
}

// A new database has large pages; one that exists keeps its own, and its log is measured in them.
func TestPagesOfADatabase(t *testing.T) {
	for _, have := range []int64{0, 4096} {
		dir := t.TempDir()
		if have > 0 {
			conn, err := sqlite.OpenConn(filepath.Join(dir, "stagewire.db"), sqlite.OpenReadWrite, sqlite.OpenCreate)
			if err != nil {
				t.Fatal(err)
			}
			q := sqliteQuerier{conn: conn}
			for _, text := range []string{fmt.Sprintf("PRAGMA page_size = %d", have), "PRAGMA journal_mode = WAL", "CREATE TABLE old (n)"} {
				if err := each(t.Context(), &q, text, nil, func(func(...any) error) error { return nil }); err != nil {
					t.Fatal(err)
				}
			}
			if err := conn.Close(); err != nil {
				t.Fatal(err)
			}
		}
		s, err := Open(t.Context(), Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if got := s.db.(*writer).page; got != cmp.Or(have, pageSize) {
			t.Errorf("of a database with %d: %d", have, got)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
