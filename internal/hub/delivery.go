package hub

import "time"

// States of a delivery.
const (
	DeliveryHeld       = "held"       // waits for a person or for the effect budget
	DeliveryDue        = "due"        // waits for its time or a worker
	DeliverySending    = "sending"    // claimed by a worker
	DeliveryRetrying   = "retrying"   // failed, will be tried again
	DeliveryDelivered  = "delivered"  // done
	DeliveryDead       = "dead"       // given up; redrive puts it back
	DeliverySuperseded = "superseded" // overtaken by events before it was sent
	DeliverySkipped    = "skipped"    // nothing to do
	DeliveryParked     = "parked"     // its connection is gone; resumes when it returns
)

// SubscriptionPrefix begins the destination of a subscription's callbacks; its name follows.
const SubscriptionPrefix = "subscription:"

// Delivery is one action owed to one destination, or one callback owed to one subscription.
type Delivery struct {
	ID          string // derived: cause, reaction, step, destination
	Destination string // the name of a connection, or SubscriptionPrefix and the name of a subscription
	Action      string // an action's name, or "callback"
	CustomerID  string
	Subject     Subject
	State       string
	DueAt       time.Time // wire time
	Attempts    int
	CreatedAt   time.Time // wire time
	// Slot ties the delivery to a row of desired state; "" for queue rows. The value to write is read from there
	// when the delivery is claimed. At most one delivery of a slot is open.
	Slot string
	// Key is the reaction's key: at most one open task per customer and key. "" where the action has none.
	Key    string
	Params map[string]any // of the action
	// Body is a callback's frozen body; nil otherwise.
	Body []byte
	// Reference is what the vendor record is marked with, so that it can be looked up before a second create.
	Reference string
	// SentAt is when the newest attempt was sent: wire time, zero before the first. An attempt found sending
	// after a crash is looked up no sooner than the vendor's completes_within after it.
	SentAt     time.Time
	Uncertain  bool // the newest attempt's outcome is unknown
	ExternalID string
	Cause      DeliveryCause
	Last       *Attempt
	// Claim fences a worker whose lease ran out: finishing with an older claim changes nothing.
	Claim int64
	// Row is where the store keeps it; 0 where it was not asked for.
	Row int64
}

// DeliveryCause is what a delivery goes back to.
type DeliveryCause struct {
	TransitionID string `json:"transition_id,omitempty"`
	EventID      string `json:"event_id,omitempty"`
	WebhookID    string `json:"webhook_id,omitempty"`
	Reaction     string `json:"reaction,omitempty"`
	Connection   string `json:"connection,omitempty"` // of the webhook that set it off, for counting per vendor
}

// Attempt is one HTTP try (or the try that never got so far).
type Attempt struct {
	At       time.Time     `json:"at"`
	Status   int           `json:"status"`
	Outcome  Outcome       `json:"outcome"`
	Error    string        `json:"error,omitempty"`
	Duration time.Duration `json:"-"`
}

// Desired is one row of desired state: a field of a customer's record at a destination is to have a value.
type Desired struct {
	Slot        string // derived: destination, customer, field
	Destination string
	CustomerID  string
	Field       string // "lifecyclestage", or "tag:<prefix>" for a tag that stands for a stage
	Action      string // set_stage, set_fields, add_tag
	Mode        string // always, if_empty, if_ours, never
	Value       string
	Generation  int64 // raised whenever Value changes
	// Written is the value last written by us at WrittenGeneration; "" and 0 when never.
	Written           string
	WrittenGeneration int64
	// Tried are other values sent since, by attempts that were not seen to end: any of them may be there too.
	Tried     []string
	UpdatedAt time.Time
}

// Outbox kinds.
const (
	OutboxTransition = "transition"
	OutboxEvent      = "event"
	OutboxOwn        = "own" // an own event (Kind.Own) on its way to EVENTS: not told to anybody
)

// OutboxRecord is a fact somebody can be told. It gets a place in the feed, and the relay publishes it where it has a subject.
type OutboxRecord struct {
	ID         string // of the transition or event
	Kind       string // an Outbox kind
	Subject    string // NATS subject it is published to: stages.<model>.<stage>, or events.<partition> for internal events; "" for none
	CustomerID string
	Body       []byte // one structured CloudEvent
	CreatedAt  time.Time
}

// HydrationRecord is an id that must be fetched before its facts are known.
type HydrationRecord struct {
	Connection string
	Object     string // contact, deal, ticket, order: a name of the manifest's hydrate section
	ID         string // the vendor's id
	WebhookID  string
	Item       int // index of the item in the webhook
	ReceivedAt time.Time
	DueAt      time.Time
	Attempts   int
	// Context is what the webhook said beside the id, as the manifest wants it back with the record (JSON).
	Context []byte
	State   string // due, fetching, dead; done rows are deleted
	Error   string
	Claim   int64
}

// DeadLetter is a webhook, event or delivery that will not be tried again by itself.
type DeadLetter struct {
	ID       string    `json:"id"`
	Of       string    `json:"of"` // webhook, event, delivery
	Ref      string    `json:"ref"`
	At       time.Time `json:"at"`
	Reason   string    `json:"reason"`
	Place    string    `json:"place"`
	Attempts int       `json:"attempts"`
}

// Written is a journalled write of ours, waiting for the webhook it will cause.
type Written struct {
	Connection string
	FieldChange
	SentAt time.Time
}

// Horizon is, for one connection, the business time up to which wake-ups may fire (DESIGN 6).
type Horizon struct {
	Connection string
	At         time.Time
	// Hold is what waits on something outside: the start of an open intake gap, the oldest waiting hydration.
	// Zero when nothing does. Even an event's own decision goes no further in silence than Hold.
	Hold       time.Time
	ComputedAt time.Time // wire time
}

// Claimed is a delivery in a worker's hand.
type Claimed struct {
	Delivery
	Desired   *Desired // for slots
	Recipient Recipient
}

// Send is an attempt about to go out.
type Send struct {
	DeliveryID string
	Claim      int64
	SentAt     time.Time
	Writes     []Written
	// Slot is the row of desired state whose Value is about to be written; "" for deliveries without one.
	Slot, Value string
}

// Finished is an attempt's end.
type Finished struct {
	DeliveryID string
	Row        int64 // that of the claimed delivery; 0 has it looked up
	Claim      int64
	State      string // the delivery's next state
	DueAt      time.Time
	Attempt    Attempt
	ExternalID string
	// Written is the value a slot's attempt wrote at Generation.
	Written    string
	Generation int64
	Uncertain  bool
}

// Hydrated is the end of one fetch.
type Hydrated struct {
	HydrationRecord
	Done     bool
	Dead     bool
	DueAt    time.Time // of the next try, where neither
	Error    string
	Kinds    []string
	EventIDs []string
	// More is what the fetched record says must be fetched as well; these rows are added as this one ends.
	More []HydrationRecord
}
