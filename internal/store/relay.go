package store

import (
	"context"
	"database/sql"
	"slices"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

const outboxColumns = "coalesce(position, 0), id, kind, subject, customer_id, body, created_at"

// outbox reads rows of the feed, which must not be told before they are on disk.
func (s *Store) outbox(ctx context.Context, tail string, args ...any) ([]hub.FeedItem, error) {
	var items []hub.FeedItem
	err := each(ctx, s.read, "SELECT "+outboxColumns+" FROM outbox WHERE "+tail, args, func(scan func(...any) error) error {
		var f hub.FeedItem
		var created int64
		err := scan(&f.Position, &f.ID, &f.Kind, &f.Subject, &f.CustomerID, &f.Body, &created)
		f.CreatedAt = at(created)
		items = append(items, f)
		return err
	})
	if err == nil && len(items) > 0 {
		err = s.db.settled(ctx)
	}
	return items, err
}

// waiting is the SQL condition of the outbox rows that wait for the relay. On SQLite, where rows are committed in the order in which
// they are inserted, each has its position from the beginning, and one without a subject counts as published from the beginning: only
// those with a subject wait. On PostgreSQL all do, and get their positions by Published.
func (s *Store) waiting() string {
	if s.numbered {
		return "subject <> '' AND published_at = 0"
	}
	return "position IS NULL"
}

// Relayed reports whether one of the rows, which were just saved, waits for the relay.
func (s *Store) Relayed(rows []hub.OutboxRecord) bool {
	if s.numbered {
		return slices.ContainsFunc(rows, func(r hub.OutboxRecord) bool { return r.Subject != "" })
	}
	return len(rows) > 0
}

// Unpublished returns the outbox rows that wait for the relay, the oldest first. All rows with a subject that are not published are
// among them. Position is 0 where a row has none yet. It selects what is not marked, never what is above the last one: on PostgreSQL
// a row with a smaller number may be committed later.
func (s *Store) Unpublished(ctx context.Context, limit int) ([]hub.FeedItem, error) {
	return s.outbox(ctx, s.waiting()+" ORDER BY no LIMIT $1", limit)
}

// Published marks rows that Unpublished returned as published. Those that have no position in the feed yet get one, in commit order.
// Rows that are published already stay as they are.
func (s *Store) Published(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	return s.write(ctx, func(ctx context.Context, q keeper) error {
		if s.numbered {
			return s.mark(ctx, q, ids)
		}
		return s.place(ctx, q, ids)
	})
}

// mark sets when rows that have their positions were published.
func (s *Store) mark(ctx context.Context, q keeper, ids []string) error {
	rows, err := s.waitingRows(ctx, q, ids)
	if err != nil {
		return err
	}
	now := micros(s.now())
	lists := make([][]any, len(rows))
	for i, no := range rows {
		lists[i] = []any{now, no}
	}
	_, err = q.many(ctx, "UPDATE outbox SET published_at = $1 WHERE no = $2", lists)
	return err
}

// place gives rows their positions.
func (s *Store) place(ctx context.Context, q keeper, ids []string) error {
	// The counter's row serialises two relays, so that positions become visible in their order.
	if _, err := q.exec(ctx, "INSERT INTO settings (key, value) VALUES ('feed.lock', '1') ON CONFLICT (key) DO UPDATE SET value = excluded.value"); err != nil {
		return err
	}
	rows, err := s.waitingRows(ctx, q, ids)
	if err != nil {
		return err
	}
	position, err := lastPosition(ctx, q)
	if err != nil {
		return err
	}
	now := micros(s.now())
	lists := make([][]any, len(rows))
	for i, no := range rows {
		position++
		lists[i] = []any{position, now, no}
	}
	_, err = q.many(ctx, "UPDATE outbox SET position = $1, published_at = $2 WHERE no = $3", lists)
	return err
}

// lastPosition returns the highest position that was ever given, 0 for none: that of the last row, or what PruneFeed noted before it
// deleted rows.
func lastPosition(ctx context.Context, q querier) (int64, error) {
	var last sql.NullInt64
	if err := one(ctx, q, "SELECT max(position) FROM outbox WHERE position IS NOT NULL", nil, &last); err != nil {
		return 0, err
	}
	var floor string
	if err := one(ctx, q, "SELECT coalesce(max(value), '0') FROM settings WHERE key = 'feed.floor'", nil, &floor); err != nil {
		return 0, err
	}
	return max(last.Int64, parseInt(floor)), nil
}

// waitingRows returns the row numbers of ids that are not published yet, ascending. Those are among the oldest waiting rows, so they are
// found by walking these; an index on the id would cost every event a page.
func (s *Store) waitingRows(ctx context.Context, q querier, ids []string) ([]int64, error) {
	wanted := make(map[string]bool, len(ids))
	for _, id := range ids {
		wanted[id] = true
	}
	var rows []int64
	last, page := int64(-1), len(ids)+64
	for {
		n := 0
		err := each(ctx, q, "SELECT no, id FROM outbox WHERE "+s.waiting()+" AND no > $1 ORDER BY no LIMIT $2", []any{last, page}, func(scan func(...any) error) error {
			var id string
			if err := scan(&last, &id); err != nil {
				return err
			}
			n++
			if wanted[id] {
				rows = append(rows, last)
			}
			return nil
		})
		if err != nil || n < page || len(rows) >= len(wanted) {
			return rows, err
		}
	}
}

// RecentlyPublished returns, in feed order, at least the rows with a subject that were published no earlier than window before the
// newest published row: what the relay publishes again at its start, because the derived stream may have lost the newest.
func (s *Store) RecentlyPublished(ctx context.Context, window time.Duration) ([]hub.FeedItem, error) {
	if s.numbered {
		// published_at does not grow with position here: a row may have waited for the relay while others, without a subject, came after it.
		return s.outbox(ctx, "subject <> '' AND published_at > 0 AND published_at >= (SELECT max(published_at) FROM outbox WHERE subject <> '') - $1 ORDER BY position",
			window.Microseconds())
	}
	// published_at grows with position, so the walk back from the end stops early.
	return s.outbox(ctx, `position > coalesce((SELECT position FROM outbox WHERE position IS NOT NULL AND published_at <
		(SELECT published_at FROM outbox WHERE position IS NOT NULL ORDER BY position DESC LIMIT 1) - $1 ORDER BY position DESC LIMIT 1), 0)
		ORDER BY position`, window.Microseconds())
}

// Feed returns the rows that have a position above after, in order, without the hub's own events; after 0 is the beginning. Positions
// only grow, and none is given twice.
func (s *Store) Feed(ctx context.Context, after int64, limit int) ([]hub.FeedItem, error) {
	return s.outbox(ctx, "position IS NOT NULL AND position > $1 AND kind <> '"+hub.OutboxOwn+"' ORDER BY position LIMIT $2", after, limit)
}
