package hub

import (
	"strconv"
	"strings"
	"time"
)

// Resolution of business time.
const Resolution = time.Millisecond

// MaxAhead is how far an OccurredAt may lie after ReceivedAt before it is clamped to it.
const MaxAhead = 5 * time.Minute

// Values of Event.OccurredBy: which source of the time was taken, best first.
const (
	OccurredFact     = "fact"     // the fact's own time
	OccurredRecord   = "record"   // the record's updated time
	OccurredSender   = "sender"   // the sender's time, in body or header
	OccurredReceived = "received" // ours
)

// Version orders two makings of one event: the manifest's activation first, then the number of the fetch.
// The ledger drops what is the same or older and lets newer replace.
type Version struct {
	Activation int64 `json:"activation"`
	Fetch      int64 `json:"fetch,omitempty"`
}

// After reports whether v replaces o.
func (v Version) After(o Version) bool {
	if v.Activation != o.Activation {
		return v.Activation > o.Activation
	}
	return v.Fetch > o.Fetch
}

// Event is one fact about a customer, in the words of the catalogue, whatever vendor told it.
type Event struct {
	ID          string // derived: connection, vendor's id, kind; stable across redelivery
	Version     Version
	Kind        string // object.past_verb
	Connection  string
	OccurredAt  time.Time // business time, the vendor's, whole milliseconds
	OccurredBy  string
	ClampedFrom time.Time // what the vendor said where it lay too far ahead; else zero
	ReceivedAt  time.Time // wire time
	Identifiers []Identifier
	// Properties has the names and types of the catalogue: string, float64, bool, time.Time, Money, []string.
	// An object's id is the property "id".
	Properties map[string]any
	Traits     []Trait
	WebhookID  string
	// Withdrawn marks a record that takes an event back: a replay no longer makes it. Only ID, Version,
	// Connection, Kind, Identifiers, ReceivedAt and WebhookID count then.
	Withdrawn bool
	// Written names the field whose outside change this event reports, so that our own write coming
	// back can be recognised in the echo journal. Nil for most events.
	Written *FieldChange
	// Echo is set where the vendor's own mark says that we caused this event.
	Echo bool
}

// FieldChange is one field of one vendor's record and the value it was seen to have.
type FieldChange struct {
	Object string `json:"object"` // e.g. "contact"
	ID     string `json:"id"`     // the vendor's id of the record
	Field  string `json:"field"`
	Value  string `json:"value"`
}

// Trait is a current attribute of a customer as one connection knows it. The latest At wins, ties by event id.
type Trait struct {
	Name  string    `json:"name"`
	Value any       `json:"value"` // string, float64, bool or []string; nil clears it
	At    time.Time `json:"at"`
}

// Kinds of identifiers that are the same in every system. Others belong to one connection.
const (
	IdentifierEmail = "email" // normalised: trimmed, lower case
	IdentifierPhone = "phone" // E.164
)

// Identifier points at a customer. Connection is "" for kinds that mean the same everywhere (email, phone),
// else the connection that issued it.
type Identifier struct {
	Kind       string `json:"kind"`
	Value      string `json:"value"`
	Connection string `json:"connection,omitempty"`
	// Weak identifiers only belong to a customer (a browser's client id); strong ones merge.
	Weak bool `json:"weak,omitempty"`
	// Record marks the vendor's own id of the person's record at Connection: it names the profile.
	Record bool `json:"record,omitempty"`
}

// IdentifierName is what an identifier is recognised by. It can be the key of a map.
type IdentifierName struct{ Kind, Connection, Value string }

// Name returns what the identifier is recognised by.
func (i Identifier) Name() IdentifierName { return IdentifierName{i.Kind, i.Connection, i.Value} }

// Compare orders names by kind, connection and value.
func (n IdentifierName) Compare(m IdentifierName) int {
	if c := strings.Compare(n.Kind, m.Kind); c != 0 {
		return c
	}
	if c := strings.Compare(n.Connection, m.Connection); c != 0 {
		return c
	}
	return strings.Compare(n.Value, m.Value)
}

// Key returns the identifier's name as one string, for SQL and derived ids.
func (i Identifier) Key() string { return i.Kind + "\x1f" + i.Connection + "\x1f" + i.Value }

// ProfileKey returns what the event's profile is called: the vendor's own id of the person's record, else the
// strongest identifier. It is "" for an event that names nobody.
func (e *Event) ProfileKey() string {
	best := -1
	for i := range e.Identifiers {
		id := &e.Identifiers[i]
		if best < 0 || identifierStrength(id) > identifierStrength(&e.Identifiers[best]) {
			best = i
		}
	}
	if best < 0 {
		return ""
	}
	return e.Identifiers[best].Key()
}

func identifierStrength(i *Identifier) int {
	switch {
	case i.Record:
		return 5
	case i.Weak:
		return 0
	case i.Kind == IdentifierEmail:
		return 4
	case i.Kind == IdentifierPhone:
		return 3
	default:
		return 2
	}
}

// ProfileID returns the id of the profile the event belongs to, or "" where it names nobody.
func (e *Event) ProfileID() string {
	key := e.ProfileKey()
	if key == "" {
		return ""
	}
	return DeriveID(PrefixProfile, e.Connection, key)
}

// Partition returns which of n EVENTS partitions the event goes to.
func (e *Event) Partition(n int) int {
	if n <= 1 {
		return 0
	}
	return int(HashKey(e.Connection, e.ProfileKey()) % uint64(n))
}

// EventID derives an event's id. vendorID identifies the fact at the vendor, so that a second delivery and a
// second notification of it make the same event.
func EventID(connection, vendorID, kind string) string {
	return DeriveID(PrefixEvent, connection, vendorID, kind)
}

// FetchedID is the vendor id of a fact that was derived from fetched state: two notifications of one state make one event.
func FetchedID(object, id string, at time.Time) string {
	return object + "/" + id + "@" + strconv.FormatInt(at.UnixMilli(), 10)
}

// EventFrame is one message of EVENTS, or several in a row: the unit of a SQL transaction.
type EventFrame struct {
	Incarnation string
	Partition   int
	Seq         uint64
	// First is the sequence of the first message it was made of: what waits while a transaction runs is applied together. It
	// equals Seq for one message alone.
	First uint64
	// After, where it is not 0, is the frame that must be applied before: it may still be on its way.
	After  uint64
	Oldest time.Time // the oldest received_at in it
	Events []Event
	// Written, if set, is called when the transaction that applies the frame lacks nothing but its commit. It must not block.
	Written func()
}
