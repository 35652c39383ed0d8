package delivery

import (
	"context"
	"time"

	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/hub"
)

// Connector is what delivery needs of a vendor's compiled manifest.
type Connector interface {
	// Can reports whether the connector knows the action.
	Can(action string) bool
	// Perform does the action, in as many requests as it takes, and classifies the answer.
	Perform(ctx context.Context, call connector.Call, conn *hub.Connection, in connector.Task) hub.Result
	// Writes tells what Perform would write, for the echo journal.
	Writes(in connector.Task, conn *hub.Connection) []hub.FieldChange
	// CompletesWithin is how long a request may still take effect after it was sent.
	CompletesWithin() time.Duration
	// FetchBatch returns how many ids of object one request takes.
	FetchBatch(object string) int
	// Fetch gets rows of one object, at most FetchBatch of them.
	Fetch(ctx context.Context, call connector.Call, conn *hub.Connection, rows []hub.HydrationRecord) ([]connector.Fetched, error)
	// FetchedEvents makes events of what was fetched. It is pure.
	FetchedEvents(row hub.HydrationRecord, body []byte, gone bool, conn *hub.Connection, version int64) (connector.Normalized, error)
}
