package hub

import "time"

// Page asks for one page of a list: the newest first unless said otherwise.
type Page struct {
	Limit  int    // 1 to 200
	Cursor string // opaque; from the page before
}

// CustomerQuery filters customers; zero fields do not filter.
type CustomerQuery struct {
	Page
	Text       string // in name or e-mail
	Email      string
	Identifier string // "<kind>:<value>"
	Model      string
	Stage      string
	Tag        string
}

// DeliveryQuery filters deliveries.
type DeliveryQuery struct {
	Page
	State, Destination, CustomerID string
}

// WebhookQuery filters webhook rows.
type WebhookQuery struct {
	Page
	State, Connection string
}

// Entry is one row of a timeline: exactly one of the pointers is set, as Type says.
type Entry struct {
	At         time.Time
	Type       string // event, transition, delivery, merge, pin
	ID         string
	Event      *Event
	Transition *Transition
	Delivery   *Delivery
	Merge      *Merge
	Pin        *PinRecord
}

// States of a model version and of a model set.
const (
	ModelDraft   = "draft"
	ModelActive  = "active"
	ModelRetired = "retired"
)

// ModelVersion is one version of a model, draft or published.
type ModelVersion struct {
	Name    string
	Version int // raised when the model's hash changes
	State   string
	Text    string // the file as it was
	Hash    string // of the text and everything it compiles against
}

// ModelSet is everything that models and reactions compile against, as one unit that is published together.
type ModelSet struct {
	Number      int64 // grows with each draft
	State       string
	Hash        string
	Models      []ModelVersion
	Definition  []byte // the configuration they compile against, reactions included (JSON)
	CreatedAt   time.Time
	PublishedAt time.Time
}

// ConnectionStat is when a connection last worked.
type ConnectionStat struct {
	LastWebhookAt, LastDeliveryAt time.Time
	Webhooks                      int64
	Dead                          int64
}

// FeedItem is an outbox row and its place in the feed, 0 where it has none yet.
type FeedItem struct {
	Position int64
	OutboxRecord
}

// History is the way of one customer, company or deal through one model, in business time.
type History struct {
	// Adopted says that the model found its subject in the first of Stays: since when that one had been there is not known.
	Adopted bool
	Stays   []Stay // oldest first, at least one. No two after each other have the same stage; each but the first and the last took time
}

// Stay is a stage that was entered at Since. It ends where the next begins, and the last one goes on.
type Stay struct {
	Stage string
	Since time.Time
}
