package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"time"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite" of the reading connections; the same library as the writer's
	"zombiezen.com/go/sqlite"

	"github.com/stagewire/stagewire/internal/hub"
)

const (
	// readers is how many connections read at once.
	readers = 4
	// writerCache is the writer's page cache in KiB: reading a page back costs as much as writing one. It takes up to twice that in memory: a
	// page with what SQLite notes beside it is a little more than a power of two, which is what the allocator gives.
	writerCache = 16 << 10
)

func (s *Store) openSQLite(ctx context.Context, o Options) error {
	path, err := filepath.Abs(filepath.Join(o.Dir, "stagewire.db"))
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	conn, err := openConn(path, writerCache, "NORMAL") // the writer does the fsync itself
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	// The writer's connection stays open while goose's comes and goes, so that the log is not rebuilt.
	setup, err := sql.Open("sqlite", dsn(path, url.Values{"_pragma": {"busy_timeout(10000)", "synchronous(FULL)"}}))
	if err == nil {
		err = shut(setup, migrate(ctx, setup, goose.DialectSQLite3, "sqlite"))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", path, err), conn.Close())
	}
	side, err := openConn(path, 1024, "FULL")
	if err != nil {
		return errors.Join(fmt.Errorf("open %s: %w", path, err), conn.Close())
	}
	db, err := sql.Open("sqlite", dsn(path, url.Values{
		"mode":    {"ro"},
		"_pragma": {"busy_timeout(5000)", "query_only(1)", "cache_size(-4000)", "temp_store(MEMORY)"},
	}))
	if err != nil {
		return errors.Join(err, conn.Close(), side.Close())
	}
	db.SetMaxOpenConns(readers)
	db.SetMaxIdleConns(readers)
	s.read = reader{db: db, fail: readError, kept: &statements{by: map[string]*sql.Stmt{}}}
	var page int64
	if err := one(ctx, s.read, "PRAGMA page_size", nil, &page); err != nil {
		return errors.Join(fmt.Errorf("open %s: %w", path, err), db.Close(), conn.Close(), side.Close())
	}
	s.db = newWriter(path, page, conn, side, s.now, s.log)
	return nil
}

func dsn(path string, query url.Values) string {
	return (&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: query.Encode()}).String()
}

// pageSize of a database that is made; one that exists keeps its own. Under load most of a page is new when it is written, and larger ones
// are fewer: with 4 KiB an event took a tenth to a fifth more processor. InnoDB has the same (innodb_page_size). The price is paid by a hub
// with little to do, whose commits are of a few rows each: some hundred KB go to the log for one webhook, where it was a third of that.
const pageSize = 16 << 10

// openConn opens a writing connection. With synchronous NORMAL a commit is in the log but not yet on disk, FULL waits for it.
func openConn(path string, cache int, synchronous string) (*sqlite.Conn, error) {
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite, sqlite.OpenCreate)
	if err != nil {
		return nil, err
	}
	conn.SetBusyTimeout(10 * time.Second)
	q := sqliteQuerier{conn: conn}
	for _, pragma := range []string{
		fmt.Sprintf("PRAGMA page_size = %d", pageSize), "PRAGMA journal_mode = WAL", "PRAGMA synchronous = " + synchronous, "PRAGMA wal_autocheckpoint = 0",
		"PRAGMA temp_store = MEMORY", fmt.Sprintf("PRAGMA cache_size = -%d", cache), fmt.Sprintf("PRAGMA journal_size_limit = %d", logCap),
	} {
		if err := each(context.Background(), &q, pragma, nil, func(func(...any) error) error { return nil }); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", pragma, err), conn.Close())
		}
	}
	return conn, nil
}

// readError gives the errors of the reading connections their kind.
func readError(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	// Reads are written here, not by users: what fails is the disk, the file, or a closed store.
	return fmt.Errorf("store: read: %w: %w", err, hub.ErrTransient)
}

// writeError gives the writer's errors their kind.
func writeError(err error) error {
	if err == nil {
		return nil
	}
	switch code := sqlite.ErrCode(err); code {
	case sqlite.ResultConstraintUnique, sqlite.ResultConstraintPrimaryKey, sqlite.ResultConstraintRowID:
		return fmt.Errorf("store: %w: %w", err, hub.ErrConflict)
	case sqlite.ResultConstraintNotNull, sqlite.ResultTooBig:
		return fmt.Errorf("store: %w: %w", err, hub.ErrInvalid)
	default:
		switch code.ToPrimary() {
		case sqlite.ResultFull, sqlite.ResultIOErr, sqlite.ResultBusy, sqlite.ResultLocked, sqlite.ResultNoMem, sqlite.ResultCantOpen, sqlite.ResultReadOnly:
			return fmt.Errorf("store: %w: %w", err, hub.ErrTransient)
		}
		return fmt.Errorf("store: %w", err)
	}
}

// sqliteQuerier is the querier over the writer's connection. Statements are prepared once and kept by the connection.
type sqliteQuerier struct {
	conn    *sqlite.Conn
	checked map[string]bool // statements whose placeholders are known to be in order
}

func (q *sqliteQuerier) locking() string  { return "" }
func (q *sqliteQuerier) skipping() string { return "" }

func (q *sqliteQuerier) bind(query string, args []any) (*sqlite.Stmt, error) {
	stmt, err := q.conn.Prepare(query)
	if err != nil {
		return nil, writeError(err)
	}
	if !q.checked[query] {
		if err := inOrder(stmt, len(args)); err != nil {
			return nil, fmt.Errorf("%w: %s", err, query)
		}
		if q.checked == nil {
			q.checked = map[string]bool{}
		}
		q.checked[query] = true
	}
	for i, arg := range args {
		n := i + 1
		switch arg := arg.(type) {
		case nil:
			stmt.BindNull(n)
		case string:
			if err := clean("text", arg); err != nil {
				return nil, err
			}
			stmt.BindText(n, arg)
		case int64:
			stmt.BindInt64(n, arg)
		case int:
			stmt.BindInt64(n, int64(arg))
		case bool:
			stmt.BindInt64(n, bit(arg))
		case []byte:
			if arg == nil {
				stmt.BindNull(n)
			} else {
				stmt.BindBytes(n, arg)
			}
		default:
			return nil, fmt.Errorf("store: argument %d of type %T", n, arg)
		}
	}
	return stmt, nil
}

// inOrder checks that placeholders appear first in the order of their numbers: SQLite numbers them by appearance, PostgreSQL as they say.
func inOrder(stmt *sqlite.Stmt, args int) error {
	if n := stmt.BindParamCount(); n != args {
		return fmt.Errorf("store: %d arguments for %d placeholders", args, n)
	}
	for i := 1; i <= args; i++ {
		if stmt.BindParamName(i) != "$"+strconv.Itoa(i) {
			return fmt.Errorf("store: %s stands where $%d should", stmt.BindParamName(i), i)
		}
	}
	return nil
}

func (q *sqliteQuerier) exec(_ context.Context, query string, args ...any) (int64, error) {
	stmt, err := q.bind(query, args)
	if err != nil {
		return 0, err
	}
	for {
		more, err := stmt.Step()
		if err != nil {
			return 0, writeError(err)
		}
		if !more {
			return int64(q.conn.Changes()), nil
		}
	}
}

func (q *sqliteQuerier) many(ctx context.Context, query string, lists [][]any) ([]int64, error) {
	changed := make([]int64, len(lists))
	for i, args := range lists {
		n, err := q.exec(ctx, query, args...)
		if err != nil {
			return nil, err
		}
		changed[i] = n
	}
	return changed, nil
}

func (q *sqliteQuerier) query(_ context.Context, query string, args ...any) (rows, error) {
	stmt, err := q.bind(query, args)
	if err != nil {
		return nil, err
	}
	return &sqliteRows{stmt: stmt}, nil
}

type sqliteRows struct {
	stmt *sqlite.Stmt
	err  error
}

func (r *sqliteRows) Next() bool {
	more, err := r.stmt.Step()
	r.err = writeError(err)
	return more && err == nil
}

func (r *sqliteRows) Err() error { return r.err }

func (r *sqliteRows) Close() error {
	if r.stmt == nil {
		return nil
	}
	err := r.stmt.Reset()
	r.stmt = nil
	return writeError(err)
}

func (r *sqliteRows) Scan(dest ...any) error {
	for i, d := range dest {
		switch d := d.(type) {
		case *string:
			*d = r.stmt.ColumnText(i)
		case *int64:
			*d = r.stmt.ColumnInt64(i)
		case *int:
			*d = int(r.stmt.ColumnInt64(i))
		case *bool:
			*d = r.stmt.ColumnInt64(i) != 0
		case *[]byte:
			*d = columnBytes(r.stmt, i)
		case *sql.NullInt64:
			d.Valid = !r.stmt.ColumnIsNull(i)
			d.Int64 = r.stmt.ColumnInt64(i)
		default:
			return fmt.Errorf("store: column %d into %T", i, d)
		}
	}
	return nil
}

// columnBytes copies a blob; NULL is nil.
func columnBytes(stmt *sqlite.Stmt, column int) []byte {
	if stmt.ColumnIsNull(column) {
		return nil
	}
	b := make([]byte, stmt.ColumnLen(column))
	stmt.ColumnBytes(column, b)
	return b
}
