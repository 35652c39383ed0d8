package server

import (
	"context"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// Log is the durable log that receive writes to.
type Log interface {
	// PublishWebhook returns once the webhook is on stable storage. It wraps hub.ErrBusy when the queue or the disk is full.
	PublishWebhook(ctx context.Context, w hub.Webhook) (hub.Position, error)
	// ReadWebhook reads one webhook back, byte for byte.
	ReadWebhook(ctx context.Context, at hub.Position) (hub.Webhook, error)
	// Queued returns webhooks that are stored but not normalized yet, newest last, at most limit.
	Queued(ctx context.Context, limit int) ([]hub.StoredWebhook, error)
}

// Reader is what the API reads of SQL. Lists return the cursor of the next page, "" at the end. Reads last at most a second.
type Reader interface {
	Customers(ctx context.Context, q hub.CustomerQuery) ([]*hub.CustomerRecord, string, error)
	Customer(ctx context.Context, id string) (*hub.CustomerRecord, error) // follows merges; ErrNotFound
	Timeline(ctx context.Context, customerID string, p hub.Page) ([]hub.Entry, string, error)
	Events(ctx context.Context, customerID string) ([]hub.Event, error) // all that are known, by occurred_at and id
	ListWebhooks(ctx context.Context, q hub.WebhookQuery) ([]hub.WebhookRecord, string, error)
	Webhook(ctx context.Context, id string) (hub.WebhookRecord, error)
	ListRejected(ctx context.Context, p hub.Page) ([]hub.Rejected, string, error)
	Deliveries(ctx context.Context, q hub.DeliveryQuery) ([]hub.Delivery, string, error)
	Delivery(ctx context.Context, id string) (hub.Delivery, []hub.Attempt, error)
	DeadLetters(ctx context.Context, p hub.Page) ([]hub.DeadLetter, string, error)
	// Redrive makes dead deliveries due again, with their attempts counted anew; it returns how many.
	Redrive(ctx context.Context, destination string, ids []string, now time.Time) (int, error)
	StageCounts(ctx context.Context, model string) (map[string]int, error)
	Models(ctx context.Context) ([]hub.ModelVersion, error) // of the active set and the newest draft
	ConnectionStats(ctx context.Context) (map[string]hub.ConnectionStat, error)
	Transitions(ctx context.Context, p hub.Page) ([]hub.Transition, string, error)
	Feed(ctx context.Context, after int64, limit int) ([]hub.FeedItem, error)
	Ping(ctx context.Context) error
	// SaveRejected appends to the bounded log of refused requests.
	SaveRejected(ctx context.Context, rows []hub.Rejected) error
}
