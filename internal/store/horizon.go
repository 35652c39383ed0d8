package store

import (
	"context"
	"errors"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// Stale looks at up to limit customers who have ever been decided, in order of id after the id after, and returns those of them
// whose stage in one of the models has another version than is given here, or who have no stage in it; with no models, all of them. next
// is the id to go on after, "" when these were the last. Looking at a page costs the same however few of it are stale.
func (s *Store) Stale(ctx context.Context, models map[string]int, after string, limit int) (ids []string, next string, err error) {
	var page []string
	err = each(ctx, s.read, "SELECT id FROM customers WHERE id > $1 AND merged_into = '' AND decided_at <> $2 ORDER BY id LIMIT $3",
		[]any{after, micros(time.Time{}), limit}, func(scan func(...any) error) error {
			var id string
			err := scan(&id)
			page = append(page, id)
			return err
		})
	if err != nil || len(page) == 0 {
		return nil, "", err
	}
	if len(page) == limit {
		next = page[len(page)-1]
	}
	if len(models) == 0 {
		return page, next, nil
	}
	right := make(map[string]int, len(page)) // in how many of the models her version is the right one
	err = inLists(page, func(args []any, in string) error {
		return each(ctx, s.read, "SELECT customer_id, model, version FROM stages WHERE subject_id = customer_id AND customer_id IN "+in, args, func(scan func(...any) error) error {
			var id, model string
			var version int
			err := scan(&id, &model, &version)
			if want, ok := models[model]; ok && want == version {
				right[id]++
			}
			return err
		})
	})
	if err != nil {
		return nil, "", err
	}
	for _, id := range page {
		if right[id] < len(models) {
			ids = append(ids, id)
		}
	}
	return ids, next, nil
}

// Decided returns how many living customers have ever been decided: those whom a publish decides again.
func (s *Store) Decided(ctx context.Context) (int, error) {
	var n int
	err := one(ctx, s.read, "SELECT count(*) FROM customers WHERE merged_into = '' AND decided_at <> $1", []any{micros(time.Time{})}, &n)
	return n, err
}

// SaveHorizons publishes the rows; none of them ever moves At back.
func (s *Store) SaveHorizons(ctx context.Context, rows []hub.Horizon) error {
	lists := make([][]any, len(rows))
	for i := range rows {
		lists[i] = []any{rows[i].Connection, micros(rows[i].At), micros(rows[i].Hold), micros(rows[i].ComputedAt)}
	}
	return s.write(ctx, func(ctx context.Context, q keeper) error {
		_, err := q.many(ctx, `INSERT INTO horizons (connection, at, hold, computed_at) VALUES ($1, $2, $3, $4)
			ON CONFLICT (connection) DO UPDATE SET at = CASE WHEN horizons.at > excluded.at THEN horizons.at ELSE excluded.at END,
			hold = excluded.hold, computed_at = excluded.computed_at`, lists)
		return err
	})
}

// OpenGaps returns, per connection, the start of its oldest open intake gap.
func (s *Store) OpenGaps(ctx context.Context) (map[string]time.Time, error) {
	return s.times(ctx, "SELECT connection, min(start) FROM gaps GROUP BY connection")
}

// times runs a query of (name, time) rows.
func (s *Store) times(ctx context.Context, query string) (map[string]time.Time, error) {
	found := map[string]time.Time{}
	err := each(ctx, s.read, query, nil, func(scan func(...any) error) error {
		var name string
		var when int64
		err := scan(&name, &when)
		found[name] = at(when)
		return err
	})
	return found, err
}

// OpenGap records that connection may have missed webhooks since start; an older open one stays.
func (s *Store) OpenGap(ctx context.Context, connection string, start time.Time) error {
	return s.write(ctx, func(ctx context.Context, q keeper) error {
		_, err := q.exec(ctx, `INSERT INTO gaps (connection, start, opened_at) VALUES ($1, $2, $3)
			ON CONFLICT (connection, start) DO UPDATE SET opened_at = excluded.opened_at`, connection, micros(start), micros(s.now()))
		return err
	})
}

// CloseGaps closes gaps of connection that were opened at or before opened (wire time).
func (s *Store) CloseGaps(ctx context.Context, connection string, opened time.Time) error {
	return s.write(ctx, func(ctx context.Context, q keeper) error {
		_, err := q.exec(ctx, "DELETE FROM gaps WHERE connection = $1 AND opened_at <= $2", connection, micros(opened))
		return err
	})
}

// Lease takes or renews the named singleton duty for holder until now+ttl; false means somebody else has it. A ttl of zero or less gives it up.
func (s *Store) Lease(ctx context.Context, name, holder string, ttl time.Duration) (bool, error) {
	var held bool
	err := s.write(ctx, func(ctx context.Context, q keeper) error {
		now := s.now()
		n, err := q.exec(ctx, `INSERT INTO leases (name, holder, until) VALUES ($1, $2, $3)
			ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until WHERE leases.holder = excluded.holder OR leases.until <= $4`,
			name, holder, micros(now.Add(ttl)), micros(now))
		held = n > 0
		return err
	})
	return held, err
}

// Cursors returns how far each partition has been applied.
func (s *Store) Cursors(ctx context.Context) ([]hub.Cursor, error) {
	var all []hub.Cursor
	err := each(ctx, s.read, "SELECT incarnation, partition_no, seq FROM cursors ORDER BY incarnation, partition_no", nil, func(scan func(...any) error) error {
		var c hub.Cursor
		var seq int64
		err := scan(&c.Incarnation, &c.Partition, &seq)
		c.Seq = uint64(seq)
		all = append(all, c)
		return err
	})
	return all, err
}

// Setting returns a small durable value by key, "" where there is none.
func (s *Store) Setting(ctx context.Context, key string) (string, error) {
	var value string
	err := one(ctx, s.read, "SELECT value FROM settings WHERE key = $1", []any{key}, &value)
	if errors.Is(err, hub.ErrNotFound) {
		return "", nil
	}
	return value, err
}

// SaveSetting saves a small durable value; "" removes it.
func (s *Store) SaveSetting(ctx context.Context, key, value string) error {
	return s.write(ctx, func(ctx context.Context, q keeper) error {
		if value == "" {
			_, err := q.exec(ctx, "DELETE FROM settings WHERE key = $1", key)
			return err
		}
		_, err := q.exec(ctx, "INSERT INTO settings (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value", key, value)
		return err
	})
}

// FixSetting stores value if the key is absent and returns what is stored: for what is fixed at install.
func (s *Store) FixSetting(ctx context.Context, key, value string) (string, error) {
	var stored string
	err := s.write(ctx, func(ctx context.Context, q keeper) error {
		if _, err := q.exec(ctx, "INSERT INTO settings (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING", key, value); err != nil {
			return err
		}
		return one(ctx, q, "SELECT value FROM settings WHERE key = $1", []any{key}, &stored)
	})
	return stored, err
}
