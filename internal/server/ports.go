package server

import (
	"context"
	"time"

	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/hub"
)

// Log is the durable log that receive writes to.
type Log interface {
	// PublishWebhook returns once the webhook is on stable storage. It wraps hub.ErrBusy when the queue or the disk is full. After nil
	// the headers and the body are written over: it keeps neither. After an error they stay as they are.
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

// Receiver is what receive asks of a connector. *connector.Connector is one.
type Receiver interface {
	Accepts(method, contentType string) error
	Handshake(w *hub.Webhook, conn *hub.Connection, now time.Time) (*connector.Answer, error)
	Verify(w *hub.Webhook, conn *hub.Connection, now time.Time) error
	WebhookID(w *hub.Webhook) string
	Answer(w *hub.Webhook) connector.Answer
	Busy() connector.Answer
}

// Views answers what takes facts or compiled models. app implements it over fact and lifecycle, with the active set.
type Views interface {
	// Customer returns what the customer's facts say. rec may come from a list, without Profiles: then only Labels are filled.
	Customer(ctx context.Context, rec *hub.CustomerRecord) (CustomerView, error)
	// Explain returns why the customer is in her stage of a model, or was, in the shape of Explain. It wraps hub.ErrNotFound for an
	// unknown model or transition and for an instant before the customer was known, hub.ErrInvalid where the model must be named.
	Explain(ctx context.Context, rec *hub.CustomerRecord, q ExplainQuery) (*Explain, error)
	// Funnel counts what a model in use did to customers. It wraps hub.ErrNotFound for an unknown model and stage, hub.ErrInvalid for
	// a window that makes no sense.
	Funnel(ctx context.Context, model string, q FunnelQuery) (*Funnel, error)
	// Models returns the models of the active set, the newest draft, and the shipped ones that are not used, without counts.
	Models(ctx context.Context) ([]Model, error)
	// Scores returns the newest snapshot of scores, nil where nothing was fitted yet.
	Scores(ctx context.Context) (*Scores, error)
}

// ExplainQuery says what is to be explained.
type ExplainQuery struct {
	Model string    // may be empty where the customer has a stage in one only, and with Transition
	At    time.Time // zero: now
	// Transition is the id of a recorded move, explained as it was decided then; "last" means the newest of the model.
	Transition string
	// Deal says of a model of deals which one, as <connection>:<the vendor's id>; may be empty where there is one.
	Deal string
	// Label picks the label of a stage, by language, for whoever asks; nil: the English one.
	Label func(labels map[string]string, stage string) string
}

// Replayer runs a stored webhook through today's connectors.
type Replayer interface {
	// Replay returns the webhook's row afterwards. It wraps hub.ErrNotFound where the webhook or its bytes are gone.
	Replay(ctx context.Context, webhookID string) (hub.WebhookRecord, error)
}

// Publisher makes the newest draft the set that decides.
type Publisher interface {
	// Publish returns what it changed. It wraps hub.ErrConflict where nothing has changed, hub.ErrNotFound for a model that is not
	// in use, and Mistakes where something does not compile.
	Publish(ctx context.Context, model string) (Published, error)
}

// Pinner puts customers, companies and deals into stages by hand. *pipeline.Pipeline is one.
type Pinner interface {
	// Pin returns the pin as it is stored. It wraps hub.ErrNotFound for an unknown customer, model or deal and hub.ErrInvalid for
	// what makes no sense.
	Pin(ctx context.Context, customerID string, pin hub.PinRecord) (hub.PinRecord, error)
	// Unpin returns the pin that was released. It wraps hub.ErrNotFound where there is none.
	Unpin(ctx context.Context, customerID, model string, subject hub.Subject, who, why string) (hub.PinRecord, error)
}

// Provisioner makes the fields the hub needs at a vendor.
type Provisioner interface {
	// Provision returns what is there and what is missing, and with apply creates that. It wraps hub.ErrNotFound for an unknown
	// connection; what was found before another error comes with it.
	Provision(ctx context.Context, connection string, apply bool) ([]connector.Planned, error)
}

// Gate says what a bearer token may do. access.Tokens is one. It compares in constant time.
type Gate interface {
	Authorize(token, need string) (known, allowed bool)
}

// Check is one thing that readyz asks. Run returns nil when the thing works; it must end when ctx does.
type Check struct {
	Name string // nats, database, disk
	Run  func(ctx context.Context) error
}

// Setup is what a reload replaces, as one unit.
type Setup struct {
	PublicURL   string // without a slash at the end
	Connections []Connected
	Connectors  []ConnectorInfo
	Kinds       *hub.Kinds
}

// Connected is one connection with its connector.
type Connected struct {
	Connection *hub.Connection
	Receiver   Receiver
	Activation int64             // of the manifest; webhooks are stored with it
	Problems   []ConnectionIssue // what keeps the connection from working, beyond what statistics tell
}
