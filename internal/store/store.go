package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// Options says where the data lies.
type Options struct {
	// URL is postgres://…; "" keeps the data in SQLite.
	URL string
	// Dir is where SQLite's files lie (stagewire.db and its log). It must exist.
	Dir string
	Log *slog.Logger     // nil discards
	Now func() time.Time // wire time; nil is time.Now
}

// Store is the hub's SQL. Its methods may be called from many goroutines. Their errors wrap hub.ErrTransient where the database
// cannot be reached or is full, hub.ErrNotFound and hub.ErrInvalid as they say.
type Store struct {
	db   database
	read reader
	now  func() time.Time
	log  *slog.Logger
	// late: moments are entered late (SQLite), see sqlite_late.go.
	late bool
	// claims are those of callbacks (SQLite); nil where every claim is written.
	claims *claims
	// numbered: outbox rows have their position from the beginning (SQLite), see relay.go.
	numbered bool
	// lazy: wake-ups are found by looks_at (SQLite), see wake.go.
	lazy bool
	// counting is held by who reads histories.
	counting chan struct{}

	closing sync.Once
	closed  error
}

// Open opens the database, brings its schema up to date, and starts its writer, which Close ends. It refuses a schema that
// a newer release has made.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Store{now: o.Now, log: o.Log, counting: make(chan struct{}, 1)}
	var err error
	if o.URL == "" {
		s.late, s.numbered, s.lazy = true, true, true
		s.claims = newClaims(o.Dir)
		err = s.openSQLite(ctx, o)
	} else {
		err = s.openPostgres(ctx, o)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Close waits for what is being written, then closes. Later calls of other methods fail with hub.ErrTransient.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.closed = errors.Join(s.read.db.Close(), s.claims.close(), s.db.close())
	})
	return s.closed
}

// Apply runs fn in one transaction, which commits when fn returns nil. A conflict repeats fn from the start, at most ten
// times. On SQLite fn runs on the writer's goroutine: it must not wait for anything but tx.
func (s *Store) Apply(ctx context.Context, fn func(context.Context, hub.Tx) error) error {
	return s.db.apply(ctx, fn)
}

// write runs fn in one transaction of its own; conflicts repeat it.
func (s *Store) write(ctx context.Context, fn func(context.Context, keeper) error) error {
	return s.db.write(ctx, fn)
}

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	var n int64
	return one(ctx, s.read, "SELECT 1", nil, &n)
}

// maxRepeats bounds how often a conflicting transaction is run.
const maxRepeats = 10

var errClosed = fmt.Errorf("store: closed: %w", hub.ErrTransient)

// shut closes what a failed Open has opened.
func shut(db *sql.DB, err error) error {
	if db != nil {
		_ = db.Close()
	}
	return err
}
