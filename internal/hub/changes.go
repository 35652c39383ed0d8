package hub

import (
	"context"
	"time"
)

// Cursor is how far a partition of EVENTS has been applied. It lives in SQL, in the transaction of the apply itself.
type Cursor struct {
	Incarnation string
	Partition   int
	Seq         uint64
	After       uint64 // where not 0: the cursor must stand there at least, else the frame before is missing
}

// Changes is all that one apply transaction writes.
type Changes struct {
	Ledger      []LedgerRecord
	Identifiers []IdentifierRecord
	Customers   []*CustomerRecord // rows, with all Profiles and Stages that Dirty names
	Profiles    []ProfileRecord
	Stages      []StageRecord
	Transitions []Transition
	Desired     []Desired
	Deliveries  []Delivery
	Outbox      []OutboxRecord
	DeadLetters []DeadLetter
	Pins        []PinRecord
	// Merges moves whatever still points at the first customer to the second: identifiers, profiles, deliveries, desired state.
	Merges []Merge
	// Closed names tasks and tickets of ours that were completed at the vendor: their keys are free again.
	Closed []Closed
	// Woken names customers that got a new record at a connection: their skipped desired state there is due again.
	Woken []Woken
}

// Merge says that From was merged into Into, when and why.
type Merge struct {
	From, Into string
	At         time.Time // business time
	DecidedAt  time.Time // wire time
	Reason     string    // the identifier they share
	EventID    string
	Sequence   int64 // of Into
	// Inherited are the models in which Into stood nowhere yet and now stands where From stood: From's way there is Into's.
	Inherited []string
}

// Closed is a task or ticket that is done at the vendor. It is known by our reference, which is the delivery's id, or by the
// vendor's id of it.
type Closed struct{ CustomerID, Destination, Reference, ExternalID string }

// Sharing is what a customer has of one sort: addresses, devices, e-mail addresses or phone numbers. Only their hashes are kept.
type Sharing struct {
	CustomerID, Mention string // Mention as in ParseMention: how own events reach the customer
	Absorbed            []string
	What                string
	Values              []string
}

// Shared is a customer with how many others have the same, counted up to ten.
type Shared struct {
	CustomerID, Mention string
	Others              int
}

// Woken is a customer that became known at a destination.
type Woken struct{ CustomerID, Destination string }

// Tx is one apply transaction. Locks are taken in one order everywhere: cursor, identifiers, customers, desired state, deliveries.
// Any method may wrap ErrConflict: the whole transaction is then repeated.
type Tx interface {
	// Advance moves the partition's cursor to c.Seq. It reports false where that was applied already.
	Advance(ctx context.Context, c Cursor) (bool, error)
	// Ledger returns what is known of the event ids; unknown ids are absent.
	Ledger(ctx context.Context, ids []string) (map[string]LedgerEntry, error)
	// LockIdentifiers locks the strong identifiers (creating rows where there are none) and returns those that point at a customer, in no
	// order.
	LockIdentifiers(ctx context.Context, ids []Identifier) ([]IdentifierRecord, error)
	// ProfileOwners returns the living customer of each profile id that exists.
	ProfileOwners(ctx context.Context, profileIDs []string) (map[string]string, error)
	// LockCustomers locks and loads customers in order of id. A merged one is followed to its survivor. Whoever gets them may change them,
	// and their profiles and stages, but no tags, identifiers, facts or paths in place: those are shared with the store.
	LockCustomers(ctx context.Context, ids []string) (map[string]*CustomerRecord, error)
	// Desired returns rows of desired state by slot, locked.
	Desired(ctx context.Context, slots []string) (map[string]Desired, error)
	// OpenKeys reports which delivery keys (destination, customer, key) have a task that is not done: not created yet, or created and not closed since (Changes.Closed).
	OpenKeys(ctx context.Context, customerID string, keys []string) (map[string]bool, error)
	// Share replaces what a customer has of one sort and returns whose answer to shared() that may change, the customer's own included.
	Share(ctx context.Context, s Sharing) ([]Shared, error)
	// ConsumeEcho reports which of the changes are our own writes coming back and marks those consumed.
	// A write matches when object, id, field and value are the same, was sent no later than 30 s after at, and has not
	// been consumed by an earlier webhook; entries expire 24 h after sending.
	ConsumeEcho(ctx context.Context, connection string, change FieldChange, at time.Time) (bool, error)
	// Horizons returns the newest published horizon rows, by connection.
	Horizons(ctx context.Context) (map[string]Horizon, error)
	// ActiveVersion returns the number of the published set of models and reactions, and the version of the newest snapshot of
	// scores, 0 for none.
	ActiveVersion(ctx context.Context) (set, scores int64, err error)
	// Save writes everything. Event versions that are replaced get known_until. What c holds is the store's from then on.
	Save(ctx context.Context, c *Changes) error
}
