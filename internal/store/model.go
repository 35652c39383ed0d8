package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// loadSets returns sets that a WHERE clause names, the newest first, with their models.
func loadSets(ctx context.Context, q querier, where string, args ...any) ([]hub.ModelSet, error) {
	var sets []hub.ModelSet
	err := each(ctx, q, "SELECT number, state, hash, definition, created_at, published_at FROM model_sets "+where, args, func(scan func(...any) error) error {
		var m hub.ModelSet
		var created, published int64
		err := scan(&m.Number, &m.State, &m.Hash, &m.Definition, &created, &published)
		m.CreatedAt, m.PublishedAt = at(created), at(published)
		sets = append(sets, m)
		return err
	})
	if err != nil {
		return nil, err
	}
	for i := range sets {
		m := &sets[i]
		err := each(ctx, q, "SELECT name, version, body, hash FROM models WHERE set_number = $1 ORDER BY place", []any{m.Number}, func(scan func(...any) error) error {
			v := hub.ModelVersion{State: m.State}
			err := scan(&v.Name, &v.Version, &v.Text, &v.Hash)
			m.Models = append(m.Models, v)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return sets, nil
}

// ActiveSet returns the published set of models; hub.ErrNotFound when there is none.
func (s *Store) ActiveSet(ctx context.Context) (hub.ModelSet, error) {
	sets, err := loadSets(ctx, s.read, "WHERE state = 'active'")
	if err != nil {
		return hub.ModelSet{}, err
	}
	if len(sets) == 0 {
		return hub.ModelSet{}, fmt.Errorf("active set of models: %w", hub.ErrNotFound)
	}
	return sets[0], nil
}

// Drafts returns the sets that were never published and are newer than the active one, the newest first.
func (s *Store) Drafts(ctx context.Context) ([]hub.ModelSet, error) {
	return loadSets(ctx, s.read, "WHERE state = 'draft' AND number > (SELECT coalesce(max(number), 0) FROM model_sets WHERE state = 'active') ORDER BY number DESC")
}

// SaveDraft stores what the files say as a draft and returns it with its number and model versions: a model's version is the
// newest one of that name, plus one where the hash differs. Where the newest set has the same hash, that one is returned.
func (s *Store) SaveDraft(ctx context.Context, set hub.ModelSet) (hub.ModelSet, error) {
	var saved hub.ModelSet
	err := s.write(ctx, func(ctx context.Context, q keeper) error {
		newest, err := loadSets(ctx, q, "ORDER BY number DESC LIMIT 1")
		if err != nil {
			return err
		}
		saved = set
		saved.Number = 1
		if len(newest) > 0 {
			if newest[0].Hash == set.Hash {
				saved = newest[0]
				return nil
			}
			saved.Number = newest[0].Number + 1
		}
		saved.State, saved.CreatedAt, saved.PublishedAt = hub.ModelDraft, at(micros(s.now())), time.Time{}
		saved.Models = slices.Clone(set.Models)
		definition := saved.Definition
		if definition == nil {
			definition = []byte{}
		}
		// Two processes that start together collide on the number, which is a conflict: the second then finds the first's set.
		if _, err := q.exec(ctx, "INSERT INTO model_sets (number, state, hash, definition, created_at, published_at) VALUES ($1, 'draft', $2, $3, $4, $5)",
			saved.Number, saved.Hash, definition, micros(saved.CreatedAt), micros(time.Time{})); err != nil {
			return err
		}
		for i := range saved.Models {
			m := &saved.Models[i]
			if m.Version, err = nextVersion(ctx, q, m); err != nil {
				return err
			}
			m.State = hub.ModelDraft
			if _, err := q.exec(ctx, "INSERT INTO models (set_number, place, name, version, body, hash) VALUES ($1, $2, $3, $4, $5, $6)",
				saved.Number, i, m.Name, m.Version, m.Text, m.Hash); err != nil {
				return err
			}
		}
		return nil
	})
	return saved, err
}

// nextVersion returns the version of a model with this hash: the newest version if that has it, else one more.
func nextVersion(ctx context.Context, q querier, m *hub.ModelVersion) (int, error) {
	var version int
	var hash string
	err := one(ctx, q, "SELECT version, hash FROM models WHERE name = $1 ORDER BY set_number DESC LIMIT 1", []any{m.Name}, &version, &hash)
	switch {
	case errors.Is(err, hub.ErrNotFound):
		return 1, nil
	case err != nil:
		return 0, err
	case hash == m.Hash:
		return version, nil
	default:
		// Versions only grow, also when an old text comes back.
		err := one(ctx, q, "SELECT max(version) FROM models WHERE name = $1", []any{m.Name}, &version)
		return version + 1, err
	}
}

// Publish makes the set of that number the active one and retires the former. Publishing the active set again changes nothing. Of two
// publishes at once the later one wins. It wraps hub.ErrNotFound for an unknown number.
func (s *Store) Publish(ctx context.Context, number int64, now time.Time) error {
	return s.write(ctx, func(ctx context.Context, q keeper) error {
		var state string
		err := one(ctx, q, "SELECT state FROM model_sets WHERE number = $1"+q.locking(), []any{number}, &state)
		if errors.Is(err, hub.ErrNotFound) {
			return notFound("set of models", strconv.FormatInt(number, 10))
		}
		if err != nil || state == hub.ModelActive {
			return err
		}
		if _, err := q.exec(ctx, "UPDATE model_sets SET state = 'retired' WHERE state = 'active'"); err != nil {
			return err
		}
		// On PostgreSQL two publishes meet at the unique index of the active set: the second repeats.
		_, err = q.exec(ctx, "UPDATE model_sets SET state = 'active', published_at = $1 WHERE number = $2", micros(now), number)
		return err
	})
}

// Models returns the models of the active set and, where there is one, of the newest draft.
func (s *Store) Models(ctx context.Context) ([]hub.ModelVersion, error) {
	active, err := s.ActiveSet(ctx)
	if err != nil && !errors.Is(err, hub.ErrNotFound) {
		return nil, err
	}
	all := active.Models
	drafts, err := s.Drafts(ctx)
	if err != nil {
		return nil, err
	}
	if len(drafts) > 0 {
		all = append(all, drafts[0].Models...)
	}
	return all, nil
}

// Activate returns the number of the connector's manifest as it is now. It grows whenever the hash changes, back to an old one too.
func (s *Store) Activate(ctx context.Context, connector, hash string) (int64, error) {
	var number int64
	err := s.write(ctx, func(ctx context.Context, q keeper) error {
		var newest string
		err := one(ctx, q, "SELECT number, hash FROM activations WHERE connector = $1 ORDER BY number DESC LIMIT 1", []any{connector}, &number, &newest)
		if errors.Is(err, hub.ErrNotFound) {
			number = 0
		} else if err != nil || newest == hash {
			return err
		}
		number++
		_, err = q.exec(ctx, "INSERT INTO activations (connector, number, hash, at) VALUES ($1, $2, $3, $4)", connector, number, hash, micros(s.now()))
		return err
	})
	return number, err
}
