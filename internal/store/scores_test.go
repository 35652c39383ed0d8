package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// Snapshots of scores: versions only grow, the newest decides, one can be replaced in place, and what decided at an instant is found.
func TestScores(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		if _, err := b.Scores(t.Context()); !errors.Is(err, hub.ErrNotFound) {
			t.Errorf("no scores yet: %v", err)
		}
		record := func(n int) hub.ScoresRecord {
			day := time.Duration(n) * 24 * time.Hour
			return hub.ScoresRecord{At: t0.Add(day), SavedAt: t0.Add(day + time.Minute), Body: fmt.Appendf(nil, `{"n":%d}`, n)}
		}
		for n := 1; n <= 3; n++ {
			if v := must(b.SaveScores(t.Context(), record(n)))(t); v != int64(n) {
				t.Errorf("version %d, want %d", v, n)
			}
		}
		replaced := record(4)
		replaced.Version = 3
		if v := must(b.SaveScores(t.Context(), replaced))(t); v != 3 {
			t.Errorf("version %d after replacing 3", v)
		}
		b.again(t)
		diff(t, "newest", replaced, must(b.Scores(t.Context()))(t))
		b.tx(t, func(ctx context.Context, tx hub.Tx) error {
			_, scores, err := tx.ActiveVersion(ctx)
			if scores != 3 {
				t.Errorf("scores %d are in force, want 3", scores)
			}
			return err
		})
		want := record(2)
		want.Version = 2
		diff(t, "at an instant", want, must(b.ScoresAt(t.Context(), t0.Add(3*24*time.Hour)))(t))
		if _, err := b.ScoresAt(t.Context(), t0); !errors.Is(err, hub.ErrNotFound) {
			t.Errorf("before the first: %v", err)
		}

		// Two processes that save at once make two versions.
		errs := make(chan error)
		for n := range 6 {
			go func() { _, err := b.SaveScores(t.Context(), record(10+n)); errs <- err }()
		}
		for range 6 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if newest := must(b.Scores(t.Context()))(t); newest.Version != 9 {
			t.Errorf("version %d after six more", newest.Version)
		}
		last := record(600)
		last.Version = 600
		must(b.SaveScores(t.Context(), last))(t)
		if _, err := b.ScoresAt(t.Context(), t0.Add(300*24*time.Hour)); !errors.Is(err, hub.ErrNotFound) {
			t.Errorf("one that is forgotten: %v", err)
		}
	})
}
