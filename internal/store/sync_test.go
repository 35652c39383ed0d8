package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stagewire/stagewire/internal/hub"
)

// What could not be taken to the disk is not answered as written, and nothing is written after it: the next process reads the log anew.
func TestLogThatCannotBeSynced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := Open(t.Context(), Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	w, ok := s.db.(*writer)
	if !ok {
		t.Fatalf("%T", s.db)
	}
	w.path = filepath.Join(dir, "elsewhere", "stagewire.db") // its log cannot be opened; sync reads this after the first commit
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
	if s, err = Open(t.Context(), Options{Dir: dir}); err != nil {
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
