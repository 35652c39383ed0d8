package store

import (
	"context"
	"database/sql"
	"slices"
	"strconv"
	"strings"
	"time"
)

// pruneBatch is how many rows one transaction deletes, so that pruning never holds up the writer for long.
const pruneBatch = 1000

// prune runs a DELETE whose "LIMIT ?" is pruneBatch until it finds nothing more and returns how many rows went.
func (s *Store) prune(ctx context.Context, query string, args ...any) (int64, error) {
	var total int64
	for {
		var n int64
		err := s.write(ctx, func(ctx context.Context, q keeper) (err error) {
			n, err = q.exec(ctx, strings.Replace(query, "?", strconv.Itoa(pruneBatch), 1), slices.Clone(args)...)
			return err
		})
		total += n
		if err != nil || n == 0 {
			return total, err
		}
	}
}

// PruneAttempts deletes attempts before then. The newest attempt of each delivery stays in its row.
func (s *Store) PruneAttempts(ctx context.Context, before time.Time) (int64, error) {
	// Rows lie in the order of their making, so those to go are among the first ones. An attempt is entered when the next one is recorded;
	// one that was old by then may go some rounds later.
	return s.prune(ctx, "DELETE FROM attempts WHERE no IN (SELECT no FROM (SELECT no, at FROM attempts ORDER BY no LIMIT ?) old WHERE at < $1)", micros(before))
}

// PruneRejected deletes rejected requests before then, and all but the newest keep.
func (s *Store) PruneRejected(ctx context.Context, keep int, before time.Time) (int64, error) {
	old, err := s.prune(ctx, "DELETE FROM rejected WHERE no IN (SELECT no FROM rejected WHERE at < $1 ORDER BY no LIMIT ?)", micros(before))
	if err != nil {
		return old, err
	}
	over, err := s.prune(ctx, `DELETE FROM rejected WHERE no IN (SELECT no FROM rejected
		WHERE no <= coalesce((SELECT no FROM rejected ORDER BY no DESC LIMIT 1 OFFSET $1), 0) ORDER BY no LIMIT ?)`, keep)
	return old + over, err
}

// PruneFeed deletes published outbox rows that were published before then. Positions are never given twice.
func (s *Store) PruneFeed(ctx context.Context, before time.Time) (int64, error) {
	err := s.write(ctx, func(ctx context.Context, q keeper) error {
		// The next position must stay above the deleted ones.
		var last sql.NullInt64
		if err := one(ctx, q, "SELECT max(position) FROM outbox WHERE position IS NOT NULL", nil, &last); err != nil || !last.Valid {
			return err
		}
		_, err := q.exec(ctx, "INSERT INTO settings (key, value) VALUES ('feed.floor', $1) ON CONFLICT (key) DO UPDATE SET value = excluded.value", strconv.FormatInt(last.Int64, 10))
		return err
	})
	if err != nil {
		return 0, err
	}
	gone := "position IS NOT NULL"
	if s.numbered {
		gone += " AND (subject = '' OR position <= " + lastRelayed + ")"
	}
	return s.prune(ctx, "DELETE FROM outbox WHERE no IN (SELECT no FROM (SELECT no, published_at FROM outbox WHERE "+gone+` ORDER BY position LIMIT ?) old
		WHERE published_at < $1)`, micros(before))
}

// Pending is what still waits: for quiescence checks and metrics.
type Pending struct {
	DeliveriesDue  int64 // due at or before now
	DeliveriesOpen int64 // due, sending or retrying, whenever due
	Hydrations     int64 // not dead
	Outbox         int64 // not published
	Dead           int64 // dead letters
	OldestDue      time.Time
}

// Pending counts what waits at now.
func (s *Store) Pending(ctx context.Context, now time.Time) (Pending, error) {
	var p Pending
	var oldest sql.NullInt64
	others, args := s.claims.except(now, micros(now))
	err := one(ctx, s.read, `SELECT (SELECT count(*) FROM deliveries WHERE `+claimable+" AND due_at <= $1"+others+`),
		(SELECT min(due_at) FROM deliveries WHERE `+claimable+" AND due_at <= $1"+others+`),
		(SELECT count(*) FROM deliveries WHERE `+claimable+`),
		(SELECT count(*) FROM hydrations WHERE state <> 'dead'),
		(SELECT count(*) FROM outbox WHERE `+s.waiting()+`),
		(SELECT count(*) FROM dead_letters)`, args, &p.DeliveriesDue, &oldest, &p.DeliveriesOpen, &p.Hydrations, &p.Outbox, &p.Dead)
	if oldest.Valid {
		p.OldestDue = at(oldest.Int64)
	}
	return p, err
}

func parseInt(s string) int64 {
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}
