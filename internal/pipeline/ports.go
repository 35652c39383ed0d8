package pipeline

import (
	"context"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// Store is what the pipeline needs of SQL.
type Store interface {
	// Apply runs fn in one transaction that commits when fn returns nil. A conflict repeats fn from the start, so
	// fn must start from nothing each time. On SQLite several calls share one commit (a savepoint each).
	Apply(ctx context.Context, fn func(context.Context, hub.Tx) error) error
	// SaveWebhooks writes the rows of normalized webhooks and their hydration rows and dead letters in one transaction. A row that
	// exists keeps its received_at and takes the new state, kinds, event ids, position and activation, except that a redelivery never
	// moves a row back from done. It returns how many rows existed already (redeliveries).
	SaveWebhooks(ctx context.Context, rows []hub.WebhookRecord, hydrations []hub.HydrationRecord, dead []hub.DeadLetter) (existing int, err error)
	// Webhooks returns the rows of those ids; unknown ids are absent.
	Webhooks(ctx context.Context, ids []string) (map[string]hub.WebhookRecord, error)
	// Due returns customers with a wake-up of model at or before until, oldest first: up to limit, none only where there are none.
	Due(ctx context.Context, model string, until time.Time, limit int) ([]string, error)
	// Warm brings into memory what a transaction on customers who have been silent for long will read.
	Warm(ctx context.Context, customers []string) error
	// OldestHydration returns, per connection, the received_at of the oldest hydration row that is not dead.
	OldestHydration(ctx context.Context) (map[string]time.Time, error)
	// SaveHorizons publishes the rows; none of them ever moves At back.
	SaveHorizons(ctx context.Context, rows []hub.Horizon) error
	// OpenGaps returns, per connection, the start of its oldest open intake gap.
	OpenGaps(ctx context.Context) (map[string]time.Time, error)
	// OpenGap records that connection may have missed webhooks since start; an older open one stays.
	OpenGap(ctx context.Context, connection string, start time.Time) error
	// CloseGaps closes gaps of connection that were opened at or before opened (wire time).
	CloseGaps(ctx context.Context, connection string, opened time.Time) error
	// Stale looks at up to limit customers who have ever been decided, in order of id after the id after, and returns those whose
	// stage in one of the models (name → version) has another version or is missing; with no models, all of them. next is the id to
	// go on after, "" at the end.
	Stale(ctx context.Context, models map[string]int, after string, limit int) (ids []string, next string, err error)
	// Setting returns a small durable value, "" where there is none; SaveSetting saves one.
	Setting(ctx context.Context, key string) (string, error)
	SaveSetting(ctx context.Context, key, value string) error
	// Lease takes or renews the named singleton duty for holder until now+ttl; false means somebody else has it. A ttl of zero gives it up.
	Lease(ctx context.Context, name, holder string, ttl time.Duration) (bool, error)
}

// Publisher puts events onto EVENTS. It returns once all of them are durable there.
type Publisher interface {
	PublishEvents(ctx context.Context, events []hub.Event) error
}

// Backlog tells what waits in the streams.
type Backlog interface {
	// Oldest returns the received_at of the oldest webhook or event that waits in WEBHOOKS or EVENTS, zero when none does.
	// It reads WEBHOOKS before EVENTS, so that a record on its way from one to the other is never missed.
	Oldest(ctx context.Context) (time.Time, error)
}
