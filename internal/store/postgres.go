package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/stagewire/stagewire/internal/hub"
)

const (
	// writeConns is enough for the partitions one process applies at once beside its claims and outcomes.
	writeConns = 16
	// migrateLock is the advisory lock under which one process at a time migrates ("stgw").
	migrateLock = 0x73746777
)

func (s *Store) openPostgres(ctx context.Context, o Options) error {
	config, err := pgxpool.ParseConfig(o.URL)
	if err != nil {
		// pgx masks the password in its own message, but not what it cannot parse.
		return fmt.Errorf("database.url is not a PostgreSQL URL: %w", hub.ErrInvalid)
	}
	if !strings.Contains(o.URL, "pool_max_conns") {
		config.MaxConns = writeConns
	}
	read := stdlib.OpenDB(*config.ConnConfig)
	read.SetMaxOpenConns(2 * readers)
	read.SetMaxIdleConns(2 * readers)
	if err := migrateLocked(ctx, config.ConnConfig, o); err != nil {
		return shut(read, fmt.Errorf("database %s: %w", config.ConnConfig.Database, postgresError(err)))
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return shut(read, postgresError(err))
	}
	s.read = reader{db: read, fail: postgresError}
	s.db = &postgres{pool: pool, now: s.now}
	return nil
}

// migrateLocked migrates under an advisory lock: processes that start together wait for the first.
func migrateLocked(ctx context.Context, config *pgx.ConnConfig, o Options) (err error) {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	// The lock goes with the connection.
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1, hashtext(current_schema()))", migrateLock); err != nil {
		return err
	}
	setup := stdlib.OpenDB(*config)
	return shut(setup, migrate(ctx, setup, goose.DialectPostgres, "postgres"))
}

// postgres runs transactions, READ COMMITTED, on a pool.
type postgres struct {
	pool *pgxpool.Pool
	now  func() time.Time
}

func (p *postgres) close() error {
	p.pool.Close()
	return nil
}

// settled has nothing to wait for: a commit is durable when it is seen.
func (p *postgres) settled(context.Context) error { return nil }

func (p *postgres) apply(ctx context.Context, fn func(context.Context, hub.Tx) error) error {
	return p.transact(ctx, func(tx pgx.Tx) error {
		return fn(ctx, &postgresTx{postgresQuerier: postgresQuerier{tx: tx}, now: p.now})
	})
}

func (p *postgres) write(ctx context.Context, fn func(context.Context, keeper) error) error {
	return p.transact(ctx, func(tx pgx.Tx) error { return fn(ctx, &postgresQuerier{tx: tx}) })
}

// transact runs fn in a transaction, again after a conflict, a little later each time.
func (p *postgres) transact(ctx context.Context, fn func(pgx.Tx) error) error {
	for try := 1; ; try++ {
		err := postgresError(pgx.BeginTxFunc(ctx, p.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, fn))
		if !errors.Is(err, hub.ErrConflict) || try == maxRepeats {
			return err
		}
		pause := time.NewTimer(rand.N(time.Duration(try) * 5 * time.Millisecond))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return err
		}
	}
}

// postgresError gives errors of the server and the network their kind; others are returned as they are.
func postgresError(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if server, ok := errors.AsType[*pgconn.PgError](err); ok {
		kind := error(nil)
		switch {
		case errors.Is(err, hub.ErrConflict), errors.Is(err, hub.ErrInvalid), errors.Is(err, hub.ErrTransient):
			return err
		case server.Code == "23505", server.Code == "40001", server.Code == "40P01":
			kind = hub.ErrConflict
		case server.Code == "22021", server.Code == "22P05", server.Code == "23502":
			kind = hub.ErrInvalid
		case strings.HasPrefix(server.Code, "08"), strings.HasPrefix(server.Code, "53"), strings.HasPrefix(server.Code, "57"), strings.HasPrefix(server.Code, "58"):
			kind = hub.ErrTransient
		}
		// The detail of a server's error holds values of the row; its message does not.
		if kind == nil {
			return fmt.Errorf("store: %s (%s)", server.Message, server.Code)
		}
		return fmt.Errorf("store: %s (%s): %w", server.Message, server.Code, kind)
	}
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) || pgconn.SafeToRetry(err) || errors.Is(err, pgx.ErrTxClosed) || lost(err) {
		if errors.Is(err, hub.ErrTransient) {
			return err
		}
		return fmt.Errorf("store: %w: %w", err, hub.ErrTransient)
	}
	return err
}

type postgresQuerier struct{ tx pgx.Tx }

func (q *postgresQuerier) locking() string  { return " FOR UPDATE" }
func (q *postgresQuerier) skipping() string { return " FOR UPDATE SKIP LOCKED" }

func (q *postgresQuerier) rowsOf(ctx context.Context, kind int64, ids []string) (map[string]int64, error) {
	return rowsByID(ctx, q, kind, ids)
}

func (q *postgresQuerier) addDelivery(ctx context.Context, args []any) (bool, error) {
	n, err := q.exec(ctx, withMoments(insertDelivery, "created_at", momentDelivery), args...)
	return n > 0, err
}

func (q *postgresQuerier) addWebhooks(ctx context.Context, rows []newWebhook) error {
	lists := make([][]any, len(rows))
	for i, w := range rows {
		lists[i] = []any{
			w.ID, w.Connection, micros(w.ReceivedAt), w.State, printable(w.Reason), w.kinds, w.events,
			w.Position.Incarnation, int64(w.Position.Seq), w.Position.Index, w.Activation,
		}
	}
	_, err := q.many(ctx, insertWebhook, lists)
	return err
}

func (q *postgresQuerier) catchUp() error { return nil }

// numbers turns the booleans among args into 0 and 1, and refuses text that PostgreSQL would.
func numbers(args []any) ([]any, error) {
	for i := range args {
		switch v := args[i].(type) {
		case bool:
			args[i] = bit(v)
		case string:
			if err := clean("text", v); err != nil {
				return nil, err
			}
		}
	}
	return args, nil
}

func (q *postgresQuerier) exec(ctx context.Context, query string, args ...any) (int64, error) {
	args, err := numbers(args)
	if err != nil {
		return 0, err
	}
	tag, err := q.tx.Exec(ctx, query, args...)
	return tag.RowsAffected(), postgresError(err)
}

func (q *postgresQuerier) query(ctx context.Context, query string, args ...any) (rows, error) {
	args, err := numbers(args)
	if err != nil {
		return nil, err
	}
	result, err := q.tx.Query(ctx, query, args...)
	if err != nil {
		return nil, postgresError(err)
	}
	return postgresRows{result}, nil
}

func (q *postgresQuerier) many(ctx context.Context, query string, lists [][]any) ([]int64, error) {
	if len(lists) == 0 {
		return nil, nil
	}
	batch := &pgx.Batch{}
	for _, args := range lists {
		args, err := numbers(args)
		if err != nil {
			return nil, err
		}
		batch.Queue(query, args...)
	}
	return q.send(ctx, batch)
}

// send runs a batch in one round trip.
func (q *postgresQuerier) send(ctx context.Context, batch *pgx.Batch) (changed []int64, err error) {
	if batch.Len() == 0 {
		return nil, nil
	}
	results := q.tx.SendBatch(ctx, batch)
	defer func() { err = postgresError(errors.Join(err, results.Close())) }()
	changed = make([]int64, batch.Len())
	for i := range changed {
		tag, err := results.Exec()
		if err != nil {
			return nil, err
		}
		changed[i] = tag.RowsAffected()
	}
	return changed, nil
}

// postgresRows scans 0 and 1 into booleans.
type postgresRows struct{ pgx.Rows }

func (r postgresRows) Err() error { return postgresError(r.Rows.Err()) }

func (r postgresRows) Close() error {
	r.Rows.Close()
	return postgresError(r.Rows.Err())
}

func (r postgresRows) Scan(dest ...any) error {
	var bits []int64
	for i := range dest {
		if _, ok := dest[i].(*bool); ok {
			if bits == nil {
				bits = make([]int64, len(dest))
			}
		}
	}
	if bits == nil {
		return postgresError(r.Rows.Scan(dest...))
	}
	targets := make([]any, len(dest))
	for i := range dest {
		targets[i] = dest[i]
		if _, ok := dest[i].(*bool); ok {
			targets[i] = &bits[i]
		}
	}
	if err := r.Rows.Scan(targets...); err != nil {
		return postgresError(err)
	}
	for i := range dest {
		if b, ok := dest[i].(*bool); ok {
			*b = bits[i] != 0
		}
	}
	return nil
}
