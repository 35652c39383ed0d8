package hub

import (
	"slices"
	"strings"
	"time"
)

// CustomerRecord is one customer as SQL keeps it, with everything apply needs to decide. It is loaded and saved whole,
// under the customer's lock.
type CustomerRecord struct {
	ID   string
	Kind SubjectKind // customer or company
	// Sequence is the customer's one counter: raised for every applied event, transition, merge and pin.
	Sequence     int64
	FirstEventAt time.Time // business time of the earliest event; decides who survives a merge
	// DecidedAt is the business instant of the latest decision of any model; an event before it is late.
	DecidedAt  time.Time
	CreatedAt  time.Time // wire time
	UpdatedAt  time.Time // wire time
	MergedInto string    // the survivor's id, "" while this one lives
	// Name, Email and Tags are copies for lists and searches; the facts are the truth.
	Name, Email string
	Tags        []string
	Previous    Previous
	Profiles    []ProfileRecord
	Stages      []StageRecord
	Pins        []PinRecord
}

// Previous is, per subscription, the id of the callback last written for a customer, in order of subscription. It is small, and shared by
// whoever has copies of the customer: it is never changed in place.
type Previous []PreviousCallback

// PreviousCallback is the callback last written for one subscription.
type PreviousCallback struct{ Subscription, ID string }

// Of returns the id of the last callback for subscription, "" without one.
func (p Previous) Of(subscription string) string {
	if i, ok := p.search(subscription); ok {
		return p[i].ID
	}
	return ""
}

// With returns p with id as the last callback for subscription.
func (p Previous) With(subscription, id string) Previous {
	i, ok := p.search(subscription)
	rest := p[i:]
	if ok {
		rest = p[i+1:]
	}
	next := make(Previous, 0, i+1+len(rest))
	return append(append(append(next, p[:i]...), PreviousCallback{subscription, id}), rest...)
}

func (p Previous) search(subscription string) (int, bool) {
	return slices.BinarySearchFunc(p, subscription, func(c PreviousCallback, s string) int { return strings.Compare(c.Subscription, s) })
}

// ProfileRecord is one system's record of a person. Events belong to it; merging moves it, never them.
type ProfileRecord struct {
	ID          string
	CustomerID  string
	Connection  string
	Key         string // Event.ProfileKey
	Identifiers []Identifier
	// Facts is the fold of the profile's events, in the codec of package fact.
	Facts []byte
	// JoinedInto is the profile that took this one's place once the vendor's id became known, else "".
	JoinedInto string
}

// IdentifierRecord says which customer a strong identifier points at.
type IdentifierRecord struct {
	Identifier
	CustomerID string
	ProfileID  string // the profile that brought it first
}

// Values of StageRecord.By.
const (
	ByRule    = "rule"
	ByPin     = "pin"
	ByInitial = "initial"
)

// StageRecord is where a subject stands in one model.
type StageRecord struct {
	Subject    Subject
	CustomerID string // the customer whose lock guards it
	Model      string
	Version    int // the model version that decided
	Stage      string
	Since      time.Time // business instant of entering it
	By         string
	DecidedAt  time.Time // business instant of this model's latest decision
	WakesAt    time.Time // the next instant at which the decision can differ by silence alone; zero for never
	// Path is what a path-dependent model must remember (when stages were entered and left), in lifecycle's codec; nil for others.
	Path []byte
	// Entered is the business instant at which the subject came into the model, whichever stage that was. It is set where the record
	// is new; the store keeps it. Adopted says that the subject was known before the model was: how long it had been where it was
	// found cannot be told.
	Entered time.Time
	Adopted bool
}

// PinRecord is a person's decision that wins over all rules until released or its date.
type PinRecord struct {
	Subject Subject
	Model   string
	Stage   string
	Who     string
	Why     string
	At      time.Time
	Until   time.Time // zero: until released
}

// Cause is what made a transition.
type Cause struct {
	Type string `json:"type"` // event, wake, pin, publish, late, merge, unmerge, snapshot, adopt
	ID   string `json:"id"`
}

// Causes of a transition.
const (
	CauseEvent   = "event"
	CauseWake    = "wake"
	CausePin     = "pin"
	CausePublish = "publish"
	CauseLate    = "late"
	CauseMerge   = "merge"
	CauseAdopt   = "adopt"
	// CauseSnapshot is a new snapshot of what was calculated over all customers: "scores/<version>".
	CauseSnapshot = "snapshot"
)

// Transition is a recorded move of a subject from one stage to another.
type Transition struct {
	ID         string    `json:"id"` // derived: subject, model, cause, at
	Subject    Subject   `json:"subject"`
	CustomerID string    `json:"customer_id"`
	Model      string    `json:"model"`
	Version    int       `json:"version"`
	From       string    `json:"from"`
	To         string    `json:"to"`
	At         time.Time `json:"at"`         // business time
	DecidedAt  time.Time `json:"decided_at"` // wire time
	Sequence   int64     `json:"sequence"`
	Cause      Cause     `json:"cause"`
	Rule       int       `json:"rule"` // index in decide, -1 for pins
	// Passing marks a move that another one followed in the same go: recorded, but without reactions and callbacks.
	Passing bool `json:"passing,omitempty"`
	// Why is one plain sentence saying what held.
	Why string `json:"why,omitempty"`
}

// LedgerEntry is what the ledger knows of an event id.
type LedgerEntry struct {
	Version   Version
	ProfileID string
	Withdrawn bool
}

// LedgerRecord is an event on its way into the ledger and the event table.
type LedgerRecord struct {
	Event
	ProfileID  string
	CustomerID string // at that time
	KnownFrom  int64  // the customer's sequence; an older version of the same id gets it as known_until
}

// UnionIdentifiers returns the identifiers of all profiles without repeats: strong before weak, then in order of profile.
func UnionIdentifiers(profiles []ProfileRecord) []Identifier {
	var out []Identifier
	seen := map[IdentifierName]bool{}
	for _, weak := range [2]bool{false, true} {
		for i := range profiles {
			for _, id := range profiles[i].Identifiers {
				if name := id.Name(); id.Weak == weak && !seen[name] {
					seen[name] = true
					out = append(out, id)
				}
			}
		}
	}
	return out
}
