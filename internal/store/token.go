package store

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"

	"github.com/jackc/pgx/v5"

	"github.com/stagewire/stagewire/internal/hub"
)

// RefreshToken runs fn under the connection's lock with the newest sealed token (nil for none) and saves what it returns before
// anybody else reads it: one refresh for all processes. fn may take its time; nothing but this connection's token waits.
func (s *Store) RefreshToken(ctx context.Context, connection string, fn func(sealed []byte) ([]byte, error)) error {
	return s.db.exclusive(ctx, connection, func(old []byte) ([]byte, error) {
		if len(old) == 0 {
			old = nil
		}
		return fn(old)
	}, micros(s.now()))
}

const saveToken = "INSERT INTO tokens (connection, sealed, updated_at) VALUES ($1, $2, $3) ON CONFLICT (connection) DO UPDATE SET sealed = excluded.sealed, updated_at = excluded.updated_at"

// exclusive locks within the process: nobody else has the database. The writer is not held while fn asks the vendor.
func (w *writer) exclusive(ctx context.Context, connection string, fn func([]byte) ([]byte, error), now int64) error {
	release, err := w.tokens.lock(ctx, connection)
	if err != nil {
		return err
	}
	defer release()
	var old []byte
	err = w.write(ctx, func(ctx context.Context, q keeper) error {
		return one(ctx, q, "SELECT sealed FROM tokens WHERE connection = $1", []any{connection}, &old)
	})
	if err != nil && !errors.Is(err, hub.ErrNotFound) {
		return err
	}
	sealed, err := fn(old)
	if err != nil {
		return err
	}
	// The vendor may have made the old token worthless: the new one is saved even when the caller has gone away.
	ctx = context.WithoutCancel(ctx)
	return w.write(ctx, func(ctx context.Context, q keeper) error {
		_, err := q.exec(ctx, saveToken, connection, sealed, now)
		return err
	})
}

// exclusive locks the row for all processes.
func (p *postgres) exclusive(ctx context.Context, connection string, fn func([]byte) ([]byte, error), now int64) error {
	if _, err := p.pool.Exec(ctx, "INSERT INTO tokens (connection, sealed, updated_at) VALUES ($1, '', 0) ON CONFLICT DO NOTHING", connection); err != nil {
		return postgresError(err)
	}
	var own error // fn's error keeps its kind: it is not one of the database
	err := pgx.BeginTxFunc(ctx, p.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		var old []byte
		if err := tx.QueryRow(ctx, "SELECT sealed FROM tokens WHERE connection = $1 FOR UPDATE", connection).Scan(&old); err != nil {
			return err
		}
		sealed, err := fn(old)
		if err != nil {
			own = err
			return err
		}
		_, err = tx.Exec(context.WithoutCancel(ctx), saveToken, connection, sealed, now)
		return err
	})
	if own != nil {
		return own
	}
	return postgresError(err)
}

// keyLocks are mutexes by name that can be waited for with a context.
type keyLocks struct {
	mu    sync.Mutex
	locks map[string]chan struct{}
}

func (k *keyLocks) lock(ctx context.Context, key string) (release func(), err error) {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = map[string]chan struct{}{}
	}
	l := k.locks[key]
	if l == nil {
		l = make(chan struct{}, 1)
		k.locks[key] = l
	}
	k.mu.Unlock()
	select {
	case l <- struct{}{}:
		return func() { <-l }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// lost reports whether an error means that the connection to the server broke.
func lost(err error) bool {
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNREFUSED)
}
