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

// The outbox rows of SQLite are committed in the order in which they are inserted. So each has its position from the beginning, those without
// a subject need no relay, and what was published is known by one position: that of the last. The table relayed remembers it together with
// earlier ones, for the last hour and hardly more than one a minute.
const (
	lastRelayed  = "(SELECT coalesce(max(position), 0) FROM relayed)"
	relayedEvery = time.Minute
	relayedKept  = time.Hour
)

// waiting is the SQL condition of the outbox rows that wait for the relay: on SQLite those with a subject behind the last published one,
// on PostgreSQL all that have no position, which they get by Published.
func (s *Store) waiting() string {
	if s.numbered {
		return "subject <> '' AND position > " + lastRelayed
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
	order := "no"
	if s.numbered {
		order = "position" // whose index leads to the first that waits
	}
	return s.outbox(ctx, s.waiting()+" ORDER BY "+order+" LIMIT $1", limit)
}

// Published takes note that the rows are published: those that Unpublished returned, all of them or the first. Those that have no position
// in the feed yet get one, in commit order. Rows that are published already stay as they are.
func (s *Store) Published(ctx context.Context, rows []hub.FeedItem) error {
	if len(rows) == 0 {
		return nil
	}
	return s.write(ctx, func(ctx context.Context, q keeper) error {
		if s.numbered {
			return s.relayedThrough(ctx, q, rows[len(rows)-1].Position)
		}
		return s.place(ctx, q, rows)
	})
}

// relayedThrough notes that all rows up to position are published.
func (s *Store) relayedThrough(ctx context.Context, q keeper, position int64) error {
	now := s.now()
	var positions, times []int64 // the newest first
	err := each(ctx, q, "SELECT position, at FROM relayed ORDER BY position DESC LIMIT 2", nil, func(scan func(...any) error) error {
		var p, at int64
		err := scan(&p, &at)
		positions, times = append(positions, p), append(times, at)
		return err
	})
	switch {
	case err != nil:
		return err
	case len(positions) > 0 && position <= positions[0]:
		return nil
	case len(positions) == 2 && times[0]-times[1] < relayedEvery.Microseconds():
		_, err = q.exec(ctx, "UPDATE relayed SET position = $1, at = $2 WHERE position = $3", position, micros(now), positions[0])
		return err
	}
	if _, err := q.exec(ctx, "INSERT INTO relayed (position, at) VALUES ($1, $2)", position, micros(now)); err != nil {
		return err
	}
	_, err = q.exec(ctx, "DELETE FROM relayed WHERE position < (SELECT max(position) FROM relayed WHERE at < $1)", micros(now.Add(-relayedKept)))
	return err
}

// place gives rows their positions.
func (s *Store) place(ctx context.Context, q keeper, published []hub.FeedItem) error {
	// The counter's row serialises two relays, so that positions become visible in their order.
	if _, err := q.exec(ctx, "INSERT INTO settings (key, value) VALUES ('feed.lock', '1') ON CONFLICT (key) DO UPDATE SET value = excluded.value"); err != nil {
		return err
	}
	rows, err := s.waitingRows(ctx, q, published)
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

// waitingRows returns the row numbers of those among published that are not published yet, ascending. They are among the oldest waiting
// rows, so they are found by walking these; an index on the id would cost every event a page.
func (s *Store) waitingRows(ctx context.Context, q querier, published []hub.FeedItem) ([]int64, error) {
	wanted := make(map[string]bool, len(published))
	for i := range published {
		wanted[published[i].ID] = true
	}
	var rows []int64
	last, page := int64(-1), len(published)+64
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
		return s.outbox(ctx, "subject <> '' AND position <= "+lastRelayed+` AND position > coalesce(
			(SELECT max(position) FROM relayed WHERE at < (SELECT max(at) FROM relayed) - $1), 0) ORDER BY position`, window.Microseconds())
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
