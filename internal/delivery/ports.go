package delivery

import (
	"context"
	"net/http"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// Store is what delivery needs of SQL.
type Store interface {
	// Destinations returns the destinations that have a delivery due at or before now. A delivery whose lease ran out
	// counts as due; parked and held ones do not.
	Destinations(ctx context.Context, now time.Time) ([]string, error)
	// Claim takes up to limit due deliveries of destination, oldest due first, marks them sending, raises their claim and
	// gives back what is needed to send them. A claim whose lease ran out at or before now (its worker died) is given again,
	// with Uncertain set; that of a callback may be given again at once when the process died. For slots the desired row comes with it. With Ordered, a customer's callback is not given while an earlier one
	// of the same destination is neither delivered nor dead nor skipped. Claiming does not change Attempts.
	Claim(ctx context.Context, destination string, now time.Time, lease time.Duration, limit int, ordered bool) ([]hub.Claimed, error)
	// Sending journals what is about to be written, in the transaction that sets sent_at; it must commit before the request goes out.
	// Where a delivery's Claim is not the given one any more it wraps ErrConflict, and nothing is sent.
	// Callbacks are sent without it: their stable id makes a second one harmless.
	Sending(ctx context.Context, sends []hub.Send) error
	// Finish records outcomes and attempts. A delivery whose Claim is not the given one any more is left alone. A slot's delivered value
	// becomes Written; where the row's generation has moved on past Finished.Generation meanwhile, a new delivery for it is due at once,
	// whatever the outcome was. Outcomes that end in the dead state also make a dead letter. It raises Attempts by one, except that a
	// Finished whose Attempt.At is zero hands the delivery back: only State, DueAt and Uncertain change, nothing is recorded or counted.
	Finish(ctx context.Context, done []hub.Finished) error
	// Parked returns the destinations that have parked deliveries.
	Parked(ctx context.Context) ([]string, error)
	// Unpark makes the parked deliveries of destination due at now.
	Unpark(ctx context.Context, destination string, now time.Time) error
	// Backlog returns how many deliveries are due at or before now (retries included) and the oldest due_at among them, zero for none.
	Backlog(ctx context.Context, now time.Time) (due int, oldest time.Time, err error)
	// HydrationConnections returns the connections that have a hydration row due at or before now, or one whose lease ran out.
	HydrationConnections(ctx context.Context, now time.Time) ([]string, error)
	// ClaimHydration takes up to limit due hydration rows of connection, all of one object, oldest first. Claiming does not change Attempts.
	ClaimHydration(ctx context.Context, connection string, now time.Time, lease time.Duration, limit int) ([]hub.HydrationRecord, error)
	// Fetched stores the bytes fetched for each row, so that a replay can use them; before the events are published.
	Fetched(ctx context.Context, rows []hub.HydrationRecord, bodies [][]byte, at time.Time) error
	// FinishHydration removes rows that are done, reschedules those to retry (saving Attempts as given), marks the dead ones (with a dead
	// letter), adds the rows of More, and moves their webhooks on: done when nothing of it waits any more, kinds and event ids added.
	// A row whose Claim is not the given one any more is left alone.
	FinishHydration(ctx context.Context, done []hub.Hydrated) error
	// Setting returns a small durable value by key, "" where there is none. Delivery keeps "subscription.<what>:<name>" there.
	Setting(ctx context.Context, key string) (string, error)
	// SaveSetting saves a small durable value; "" removes it.
	SaveSetting(ctx context.Context, key, value string) error
}

// Publisher puts events onto EVENTS and returns once they are durable there.
type Publisher interface {
	PublishEvents(ctx context.Context, events []hub.Event) error
}

// Poster sends one callback. It follows no redirect and reads no more than 64 KiB of the answer. An error means that no
// complete answer came; it never holds the path or query of the URL. retryAfter is zero where the answer names none.
type Poster interface {
	Post(ctx context.Context, url string, header http.Header, body []byte, allowPrivate bool) (status int, retryAfter time.Duration, err error)
}
