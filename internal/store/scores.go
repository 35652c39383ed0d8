package store

import (
	"context"
	"errors"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// keepScores is how many snapshots are kept: a year of one a day.
const keepScores = 366

// SaveScores saves a snapshot of scores and returns its version: one more than the newest, or s.Version where that is not zero, which then
// replaces the snapshot of that version. Of very old ones the oldest is forgotten.
func (s *Store) SaveScores(ctx context.Context, snapshot hub.ScoresRecord) (int64, error) {
	version := snapshot.Version
	err := s.write(ctx, func(ctx context.Context, q keeper) error {
		version = snapshot.Version
		if version == 0 {
			if err := one(ctx, q, "SELECT coalesce(max(version), 0) + 1 FROM scores", nil, &version); err != nil {
				return err
			}
		} else if _, err := q.exec(ctx, "DELETE FROM scores WHERE version = $1", version); err != nil {
			return err
		}
		// Two processes that save at once collide on the version, which is a conflict: the second then makes the next.
		if _, err := q.exec(ctx, "INSERT INTO scores (version, at, saved_at, body) VALUES ($1, $2, $3, $4)",
			version, micros(snapshot.At), micros(snapshot.SavedAt), snapshot.Body); err != nil {
			return err
		}
		_, err := q.exec(ctx, "DELETE FROM scores WHERE version <= $1", version-keepScores)
		return err
	})
	return version, err
}

// Scores returns the newest snapshot of scores; hub.ErrNotFound where there is none.
func (s *Store) Scores(ctx context.Context) (hub.ScoresRecord, error) {
	return s.scores(ctx, "ORDER BY version DESC LIMIT 1")
}

// ScoresAt returns the snapshot of scores that decided at the wire time t; hub.ErrNotFound where there was none, or it is forgotten.
func (s *Store) ScoresAt(ctx context.Context, t time.Time) (hub.ScoresRecord, error) {
	return s.scores(ctx, "WHERE saved_at <= $1 ORDER BY version DESC LIMIT 1", micros(t))
}

func (s *Store) scores(ctx context.Context, where string, args ...any) (hub.ScoresRecord, error) {
	var r hub.ScoresRecord
	var when, saved int64
	err := one(ctx, s.read, "SELECT version, at, saved_at, body FROM scores "+where, args, &r.Version, &when, &saved, &r.Body)
	if errors.Is(err, hub.ErrNotFound) {
		return r, notFound("snapshot of scores", "newest")
	}
	r.At, r.SavedAt = at(when), at(saved)
	return r, err
}
