package delivery

import (
	"context"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// Store is what delivery needs of SQL.
type Store interface {
	// Destinations returns the destinations that have a delivery due at or before now.
	Destinations(ctx context.Context, now time.Time) ([]string, error)
	// Claim takes up to limit due deliveries of destination, oldest due first, marks them sending, raises their claim and
	// gives back what is needed to send them. A claim whose lease ran out at or before now (its worker died) is given again,
	// with Uncertain set. For slots the desired row comes with it. With Ordered, a customer's callback is not given while an earlier one
	// of the same destination is neither delivered nor dead nor skipped.
	Claim(ctx context.Context, destination string, now time.Time, lease time.Duration, limit int, ordered bool) ([]hub.Claimed, error)
	// Sending journals what is about to be written, in the transaction that sets sent_at; it must commit before the request goes out.
	Sending(ctx context.Context, sends []hub.Send) error
	// Finish records outcomes and attempts. A delivery whose Claim is not the given one any more is left alone. A slot's delivered value
	// becomes Written; where the row's generation has moved on meanwhile, a new delivery for it is due at once.
	// Outcomes that end in the dead state also make a dead letter.
	Finish(ctx context.Context, done []hub.Finished) error
	// ClaimHydration takes up to limit due hydration rows of one (connection, object), oldest first.
	ClaimHydration(ctx context.Context, now time.Time, lease time.Duration, limit int) ([]hub.HydrationRecord, error)
	// Fetched stores the bytes fetched for each row, so that a replay can use them; before the events are published.
	Fetched(ctx context.Context, rows []hub.HydrationRecord, bodies [][]byte, at time.Time) error
	// FinishHydration removes rows that are done, reschedules those to retry, marks the dead ones (with a dead letter), and moves their webhooks on:
	// done when nothing of it waits any more, kinds and event ids added.
	FinishHydration(ctx context.Context, done []hub.Hydrated) error
	// Token returns the sealed OAuth token of connection; ErrNotFound when there is none.
	Token(ctx context.Context, connection string) ([]byte, error)
	// RefreshToken runs fn under the connection's row lock with the newest sealed token (nil for none) and saves what it returns
	// before anybody uses it: one refresh for all processes.
	RefreshToken(ctx context.Context, connection string, fn func(sealed []byte) ([]byte, error)) error
	// Recipient returns what may be rendered of a customer (merged ones are followed).
	Recipient(ctx context.Context, customerID string) (hub.Recipient, error)
}

// Publisher puts events onto EVENTS and returns once they are durable there.
type Publisher interface {
	PublishEvents(ctx context.Context, events []hub.Event) error
}
