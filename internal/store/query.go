package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/stagewire/stagewire/internal/hub"
)

// rows is a result to walk through; Close may be called twice.
type rows interface {
	Next() bool
	Scan(dest ...any) error
	Err() error
	Close() error
}

// querier runs statements inside a transaction. Arguments are string, []byte, int, int64, bool (kept as 0 and 1) and nil;
// destinations are *string, *[]byte, *int, *int64, *bool and *sql.NullInt64.
type querier interface {
	exec(ctx context.Context, query string, args ...any) (changed int64, err error)
	query(ctx context.Context, query string, args ...any) (rows, error)
	// many runs one statement for each list of arguments, in one round trip, and returns how many rows each changed.
	many(ctx context.Context, query string, lists [][]any) ([]int64, error)
	// locking is what a SELECT ends with to lock its rows: "" on SQLite.
	locking() string
	// skipping is locking, but leaves out rows that somebody else has locked.
	skipping() string
}

// keeper is the querier of a writing transaction. It also knows where rows lie by their ids, which SQLite's tables of deliveries and
// webhooks do not say themselves (sqlite_late.go).
type keeper interface {
	querier
	// rowsOf returns the row numbers of those ids that the table of that kind has.
	rowsOf(ctx context.Context, kind int64, ids []string) (map[string]int64, error)
	// addDelivery inserts a delivery and its moment unless its id, or an open one of its slot, is there. The arguments are those of
	// insertDelivery.
	addDelivery(ctx context.Context, args []any) (added bool, err error)
	// addWebhooks inserts webhooks that are not there.
	addWebhooks(ctx context.Context, rows []newWebhook) error
	// catchUp makes moments complete.
	catchUp() error
}

// database is one of the two: how transactions are run on it.
type database interface {
	apply(ctx context.Context, fn func(context.Context, hub.Tx) error) error
	write(ctx context.Context, fn func(context.Context, keeper) error) error
	// exclusive runs fn under a connection's lock with its sealed token and saves what it returns.
	exclusive(ctx context.Context, connection string, fn func(sealed []byte) ([]byte, error), now int64) error
	// settled waits until everything committed so far is on stable storage.
	settled(ctx context.Context) error
	close() error
}

// each calls scan for every row of a query.
func each(ctx context.Context, q querier, query string, args []any, scan func(scan func(...any) error) error) error {
	r, err := q.query(ctx, query, args...)
	if err != nil {
		return err
	}
	defer r.Close()
	for r.Next() {
		if err := scan(r.Scan); err != nil {
			return err
		}
	}
	if err := r.Err(); err != nil {
		return err
	}
	return r.Close()
}

// one scans the only row of a query and wraps hub.ErrNotFound where there is none.
func one(ctx context.Context, q querier, query string, args []any, dest ...any) error {
	found := false
	err := each(ctx, q, query, args, func(scan func(...any) error) error {
		found = true
		return scan(dest...)
	})
	if err == nil && !found {
		return hub.ErrNotFound
	}
	return err
}

// reader is the querier over the reading connections; it never writes.
type reader struct {
	db   *sql.DB
	fail func(error) error
	kept *statements // nil where the driver keeps them itself
}

// statements keeps what was prepared: SQLite takes longer to plan a small query than to run it, and an idle hub asks the same few
// again and again. Lists of many lengths make many texts: the first maxKept are kept.
type statements struct {
	mu sync.Mutex
	by map[string]*sql.Stmt
}

const maxKept = 128

// of returns the statement of a query, nil where it is not to be kept.
func (s *statements) of(ctx context.Context, db *sql.DB, query string) (*sql.Stmt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if stmt := s.by[query]; stmt != nil || len(s.by) >= maxKept {
		return stmt, nil
	}
	stmt, err := db.PrepareContext(ctx, query) //nolint:sqlclosecheck // closed with db
	if err == nil {
		s.by[query] = stmt
	}
	return stmt, err
}

func (r reader) exec(context.Context, string, ...any) (int64, error) {
	return 0, errors.New("store: a reader does not write")
}

func (r reader) many(context.Context, string, [][]any) ([]int64, error) {
	return nil, errors.New("store: a reader does not write")
}

func (r reader) query(ctx context.Context, query string, args ...any) (rows, error) {
	for i := range args {
		if b, ok := args[i].(bool); ok {
			args[i] = bit(b)
		}
	}
	var stmt *sql.Stmt
	var err error
	if r.kept != nil {
		stmt, err = r.kept.of(ctx, r.db, query)
	}
	var result *sql.Rows
	switch {
	case err != nil:
	case stmt != nil:
		result, err = stmt.QueryContext(ctx, args...) //nolint:rowserrcheck // each and one, the only callers, check it
	default:
		result, err = r.db.QueryContext(ctx, query, args...) //nolint:rowserrcheck // the same
	}
	if err != nil {
		return nil, r.fail(err)
	}
	return &readRows{Rows: result, fail: r.fail}, nil
}

func (r reader) locking() string  { return "" }
func (r reader) skipping() string { return "" }

type readRows struct {
	*sql.Rows
	fail func(error) error
}

func (r *readRows) Err() error { return r.fail(r.Rows.Err()) }

// placeholders returns "$from, …" for n arguments.
func placeholders(from, n int) string {
	buf := make([]byte, 0, 5*n)
	for i := range n {
		if i > 0 {
			buf = append(buf, ", "...)
		}
		buf = fmt.Appendf(buf, "$%d", from+i)
	}
	return string(buf)
}

// texts makes arguments of strings.
func texts(list []string) []any {
	args := make([]any, len(list))
	for i := range list {
		args[i] = list[i]
	}
	return args
}

// chunks calls fn with at most size of list at a time.
func chunks[T any](list []T, size int, fn func([]T) error) error {
	for len(list) > 0 {
		n := min(size, len(list))
		if err := fn(list[:n]); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// tableOf is the table whose rows a kind of place is about.
func tableOf(kind int64) string {
	switch kind {
	case momentEvent:
		return "events"
	case momentDelivery:
		return "deliveries"
	default:
		return "webhooks"
	}
}

// rowsByID is rowsOf where the table has an index on its ids.
func rowsByID(ctx context.Context, q querier, kind int64, ids []string) (map[string]int64, error) {
	found := make(map[string]int64, len(ids))
	err := inLists(ids, func(args []any, in string) error {
		return each(ctx, q, "SELECT id, no FROM "+tableOf(kind)+" WHERE id IN "+in, args, func(scan func(...any) error) error {
			return scanPlace(scan, found)
		})
	})
	return found, err
}

func scanPlace(scan func(...any) error, found map[string]int64) error {
	var id string
	var no int64
	err := scan(&id, &no)
	found[id] = no
	return err
}

// inPlaces is inLists for the row numbers of places, ascending.
func inPlaces(places map[string]int64, fn func(args []any, in string) error) error {
	return inNumbers(slices.Collect(maps.Values(places)), fn)
}

func inNumbers(numbers []int64, fn func(args []any, in string) error) error {
	slices.Sort(numbers)
	return chunks(slices.Compact(numbers), 256, func(some []int64) error {
		args := make([]any, 0, len(some))
		for _, no := range some {
			args = append(args, no)
		}
		return fn(filled(args))
	})
}

// filled repeats the last argument up to one of few sizes, so that few statements are ever prepared.
func filled(args []any) ([]any, string) {
	size := 1
	for size < len(args) {
		size *= 4
	}
	for len(args) < size {
		args = append(args, args[len(args)-1])
	}
	return args, "(" + placeholders(1, size) + ")"
}

// rowsOf returns the row numbers of those ids, for reading.
func (s *Store) rowsOf(ctx context.Context, kind int64, ids []string) (map[string]int64, error) {
	for i := range ids {
		ids[i] = printable(ids[i])
	}
	if s.late {
		return rowsByHash(ctx, s.read, kind, ids)
	}
	return rowsByID(ctx, s.read, kind, ids)
}
