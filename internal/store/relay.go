package store

import (
	"context"
	"database/sql"
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

// Unpublished returns outbox rows that are not published yet, the oldest first. It selects what has no position, never what is
// above the last one: on PostgreSQL a row with a smaller number may be committed later.
func (s *Store) Unpublished(ctx context.Context, limit int) ([]hub.FeedItem, error) {
	return s.outbox(ctx, "position IS NULL ORDER BY no LIMIT $1", limit)
}

// Published marks rows as published and gives each its position in the feed, in commit order. Rows that are published already keep theirs.
func (s *Store) Published(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	return s.write(ctx, func(ctx context.Context, q keeper) error {
		// The counter's row serialises two relays, so that positions become visible in their order.
		if _, err := q.exec(ctx, "INSERT INTO settings (key, value) VALUES ('feed.lock', '1') ON CONFLICT (key) DO UPDATE SET value = excluded.value"); err != nil {
			return err
		}
		rows, err := waiting(ctx, q, ids)
		if err != nil {
			return err
		}
		var last sql.NullInt64
		if err := one(ctx, q, "SELECT max(position) FROM outbox WHERE position IS NOT NULL", nil, &last); err != nil {
			return err
		}
		var floor string
		if err := one(ctx, q, "SELECT coalesce(max(value), '0') FROM settings WHERE key = 'feed.floor'", nil, &floor); err != nil {
			return err
		}
		position := max(last.Int64, parseInt(floor))
		now := micros(s.now())
		lists := make([][]any, len(rows))
		for i, no := range rows {
			position++
			lists[i] = []any{position, now, no}
		}
		_, err = q.many(ctx, "UPDATE outbox SET position = $1, published_at = $2 WHERE no = $3", lists)
		return err
	})
}

// waiting returns the row numbers of ids that are not published yet, ascending. Those are among the oldest waiting rows, so they are found
// by walking these; an index on the id would cost every event a page.
func waiting(ctx context.Context, q querier, ids []string) ([]int64, error) {
	wanted := make(map[string]bool, len(ids))
	for _, id := range ids {
		wanted[id] = true
	}
	var rows []int64
	last, page := int64(-1), len(ids)+64
	for {
		n := 0
		err := each(ctx, q, "SELECT no, id FROM outbox WHERE position IS NULL AND no > $1 ORDER BY no LIMIT $2", []any{last, page}, func(scan func(...any) error) error {
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

// RecentlyPublished returns the rows published no earlier than window before the newest published one, in feed order: what the
// relay publishes again at its start, because the derived stream may have lost the newest.
func (s *Store) RecentlyPublished(ctx context.Context, window time.Duration) ([]hub.FeedItem, error) {
	// published_at grows with position, so the walk back from the end stops early.
	return s.outbox(ctx, `position > coalesce((SELECT position FROM outbox WHERE position IS NOT NULL AND published_at <
		(SELECT published_at FROM outbox WHERE position IS NOT NULL ORDER BY position DESC LIMIT 1) - $1 ORDER BY position DESC LIMIT 1), 0)
		ORDER BY position`, window.Microseconds())
}

// Feed returns published rows after a position, in order, without the hub's own events. after 0 is the beginning.
func (s *Store) Feed(ctx context.Context, after int64, limit int) ([]hub.FeedItem, error) {
	return s.outbox(ctx, "position IS NOT NULL AND position > $1 AND kind <> '"+hub.OutboxOwn+"' ORDER BY position LIMIT $2", after, limit)
}
