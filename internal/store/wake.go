package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
)

// Wake-ups are found by an index. On SQLite it holds looks_at in place of wakes_at, an instant that is never later:
//
//   - Save leaves looks_at alone where a wake-up that was still ahead moves later, which is what most events do: the row is
//     written without its index (sqlite_save.go). A wake-up that moves before it takes it along.
//   - Due finds rows by looks_at. One whose wake-up lies further ahead, or is gone since a merge, is not due: it gets its wake-up as its
//     looks_at. That is right for every row at every time, so it needs no care about what was saved meanwhile, and a crash before it
//     only means that it is done by the next poll. A row is moved once for any number of events.
//
// On PostgreSQL, where the release before may go on working beside this one and knows nothing of looks_at, the index holds wakes_at.

// sleeper is a row as the index of wake-ups finds it.
type sleeper struct {
	customer string
	no       int64 // of the row
	looks    int64
	wakes    sql.NullInt64
}

const (
	lazySleepers  = "SELECT customer_id, no, looks_at, wakes_at FROM stages WHERE model = $1 AND looks_at IS NOT NULL AND looks_at <= $2 ORDER BY looks_at, no LIMIT $3"
	exactSleepers = "SELECT customer_id, 0, wakes_at, wakes_at FROM stages WHERE model = $1 AND wakes_at IS NOT NULL AND wakes_at <= $2 ORDER BY wakes_at, customer_id LIMIT $3"
)

// Due returns customers with a wake-up of model at or before until, oldest first: up to limit, none only where there are none. Of those who
// come due at the same instant any may be first. One with several wake-ups may be named more than once.
func (s *Store) Due(ctx context.Context, model string, until time.Time, limit int) ([]string, error) {
	query := exactSleepers
	if s.lazy {
		query = lazySleepers
	}
	for {
		var page []sleeper
		err := each(ctx, s.read, query, []any{model, micros(until), limit}, func(scan func(...any) error) error {
			var w sleeper
			err := scan(&w.customer, &w.no, &w.looks, &w.wakes)
			page = append(page, w)
			return err
		})
		if err != nil {
			return nil, err
		}
		reach, full := micros(until), len(page) > 0 && len(page) == limit
		if full {
			reach = page[limit-1].looks // those behind this page wake no earlier than that: up to it the page knows the oldest
		}
		ids, ahead := awake(page, reach)
		if err := s.lookLater(ctx, ahead); err != nil {
			return nil, err
		}
		// A full page of which nobody is due was moved behind its end: the next one holds others, until all rows were looked at once.
		if len(ids) > 0 || !full {
			return ids, nil
		}
	}
}

// warming reads the rows of customers, given as a JSON list of ids, and the pages that lead there.
var warming = []string{
	"SELECT count(c.sequence) FROM json_each($1) ids JOIN customers c ON c.id = ids.value",
	"SELECT count(p.joined_into) FROM json_each($1) ids JOIN profiles p ON p.customer_id = ids.value",
	"SELECT count(s.stage) FROM json_each($1) ids JOIN stages s ON s.customer_id = ids.value",
}

// Warm reads what a transaction on the customers will ask for, so that SQLite's one writer does not wait for the disk, page by page, where
// several connections can at once. PostgreSQL's transactions run side by side anyway.
func (s *Store) Warm(ctx context.Context, customers []string) error {
	if !s.lazy {
		return nil
	}
	ids, err := json.Marshal(customers)
	if err != nil {
		return fmt.Errorf("ids of customers: %w", err)
	}
	for _, query := range warming {
		var n int64
		if err := one(ctx, s.read, query, []any{string(ids)}, &n); err != nil {
			return err
		}
	}
	return nil
}

// awake returns who of a page wakes at or before reach, oldest first, and the numbers of the rows that do not.
func awake(page []sleeper, reach int64) (ids []string, ahead []int64) {
	slices.SortStableFunc(page, func(a, b sleeper) int { return cmp.Compare(a.wakes.Int64, b.wakes.Int64) })
	for i := range page {
		switch w := &page[i]; {
		case !w.wakes.Valid || w.wakes.Int64 > reach:
			ahead = append(ahead, w.no)
		case len(ids) == 0 || ids[len(ids)-1] != w.customer:
			ids = append(ids, w.customer)
		}
	}
	return ids, ahead
}

// lookLater makes rows be looked at when they wake.
func (s *Store) lookLater(ctx context.Context, rows []int64) error {
	if len(rows) == 0 {
		return nil
	}
	return s.write(ctx, func(ctx context.Context, q keeper) error {
		return inNumbers(rows, func(args []any, in string) error {
			_, err := q.exec(ctx, "UPDATE stages SET looks_at = wakes_at WHERE no IN "+in, args...)
			return err
		})
	})
}
