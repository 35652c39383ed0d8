package server

import (
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stagewire/stagewire/internal/hub"
)

// The shapes of API.md. Times are RFC 3339 in UTC; a time that is not known is null.

// List is one page of a list.
type List[T any] struct {
	Items []T     `json:"items"`
	Next  *string `json:"next"` // cursor of the next page
}

// Money is an exact amount.
type Money struct {
	Amount   string `json:"amount"`
	Currency string `json:"currency"`
}

// Identifier points at a customer.
type Identifier struct {
	Kind       string `json:"kind"`
	Value      string `json:"value"`
	Connection string `json:"connection,omitempty"`
}

// Trait is a current attribute and who says so.
type Trait struct {
	Value      any        `json:"value"`
	Connection string     `json:"connection"`
	At         *time.Time `json:"at"`
}

// Stage is where a customer stands in one model.
type Stage struct {
	Stage   string            `json:"stage"`
	Label   string            `json:"label"`  // in the reader's language, else in the model's own
	Labels  map[string]string `json:"labels"` // all of them, by language
	Since   *time.Time        `json:"since"`
	By      string            `json:"by"`
	Version int               `json:"version"`
	WakesAt *time.Time        `json:"wakes_at"`
	Pin     *StagePin         `json:"pin,omitempty"` // the person's decision that holds it
}

// StagePin is the pin that holds a stage.
type StagePin struct {
	Who   string     `json:"who"`
	Why   string     `json:"why"`
	At    *time.Time `json:"at"`
	Until *time.Time `json:"until"`
}

// Deal is one deal of a customer, where a model stages deals.
type Deal struct {
	ID     string           `json:"id"` // <connection>:<the vendor's id>
	Name   string           `json:"name"`
	Open   bool             `json:"open"`
	Stages map[string]Stage `json:"stages"`
}

// KindFacts sums up a customer's events of one kind.
type KindFacts struct {
	Count   int        `json:"count"`
	FirstAt *time.Time `json:"first_at"`
	LastAt  *time.Time `json:"last_at"`
	Sum     []Money    `json:"sum"` // one per currency
}

// CustomerView is what the facts of a customer say. Values of traits are string, float64, bool or []string.
type CustomerView struct {
	Traits  map[string]Trait
	Consent map[string]string            // by channel
	Facts   map[string]KindFacts         // by kind
	Labels  map[string]map[string]string // of the present stage, by model and language
	// Deals are those that stand in a model; of their stages only Labels is filled.
	Deals []Deal
}

// Customer is one customer.
type Customer struct {
	ID          string               `json:"id"`
	Kind        string               `json:"kind"` // customer or company
	Name        string               `json:"name"`
	Identifiers []Identifier         `json:"identifiers"`
	Traits      map[string]Trait     `json:"traits"`
	Tags        []string             `json:"tags"`
	Consent     map[string]string    `json:"consent"`
	Stages      map[string]Stage     `json:"stages"`
	Deals       []Deal               `json:"deals,omitempty"`
	Facts       map[string]KindFacts `json:"facts"`
	CreatedAt   *time.Time           `json:"created_at"`
	UpdatedAt   *time.Time           `json:"updated_at"`
}

// Event is one fact.
type Event struct {
	ID          string         `json:"id"`
	Kind        string         `json:"kind"`
	Connection  string         `json:"connection"`
	OccurredAt  *time.Time     `json:"occurred_at"`
	ReceivedAt  *time.Time     `json:"received_at"`
	Identifiers []Identifier   `json:"identifiers"`
	Properties  map[string]any `json:"properties"`
	WebhookID   string         `json:"webhook_id"`
}

// Transition is a recorded move.
type Transition struct {
	ID         string      `json:"id"`
	Subject    hub.Subject `json:"subject"`
	CustomerID string      `json:"customer_id"`
	Model      string      `json:"model"`
	Version    int         `json:"version"`
	From       string      `json:"from"`
	To         string      `json:"to"`
	At         *time.Time  `json:"at"`
	DecidedAt  *time.Time  `json:"decided_at"`
	Sequence   int64       `json:"sequence"`
	Cause      hub.Cause   `json:"cause"`
	Rule       int         `json:"rule"`
	Passing    bool        `json:"passing"`
	Why        string      `json:"why"`
}

// Merge says that a customer became part of another.
type Merge struct {
	From     string     `json:"from"`
	Into     string     `json:"into"`
	At       *time.Time `json:"at"`
	Reason   string     `json:"reason"`
	EventID  string     `json:"event_id"`
	Sequence int64      `json:"sequence"`
}

// PinRequest is what a person decides. Until is left out where it is to hold until it is released.
type PinRequest struct {
	Stage string     `json:"stage"`
	Who   string     `json:"who"`
	Why   string     `json:"why"`
	Until *time.Time `json:"until,omitempty"`
}

// Pin is a person's decision about a stage.
type Pin struct {
	Subject *hub.Subject `json:"subject,omitempty"` // where it is not the customer's own stage
	Model   string       `json:"model"`
	Stage   string       `json:"stage"`
	Who     string       `json:"who"`
	Why     string       `json:"why"`
	At      *time.Time   `json:"at"`
	Until   *time.Time   `json:"until"`
}

// Entry is one row of a timeline: the member named like Type is set.
type Entry struct {
	At         *time.Time  `json:"at"`
	Type       string      `json:"type"`
	ID         string      `json:"id"`
	Summary    string      `json:"summary"`
	Event      *Event      `json:"event,omitempty"`
	Transition *Transition `json:"transition,omitempty"`
	Delivery   *Delivery   `json:"delivery,omitempty"`
	Merge      *Merge      `json:"merge,omitempty"`
	Pin        *Pin        `json:"pin,omitempty"`
}

// Attempt is one try of a delivery.
type Attempt struct {
	At         *time.Time `json:"at"`
	Status     int        `json:"status"`
	Outcome    string     `json:"outcome"`
	Error      string     `json:"error"`
	DurationMS float64    `json:"duration_ms"`
}

// Delivery is one action or callback owed.
type Delivery struct {
	ID          string            `json:"id"`
	Action      string            `json:"action"`
	Destination string            `json:"destination"`
	CustomerID  string            `json:"customer_id"`
	State       string            `json:"state"`
	DueAt       *time.Time        `json:"due_at"`
	CreatedAt   *time.Time        `json:"created_at"`
	Attempts    int               `json:"attempts"`
	Last        *Attempt          `json:"last"`
	Cause       hub.DeliveryCause `json:"cause"`
	Params      map[string]any    `json:"params"`
	ExternalID  string            `json:"external_id,omitempty"`
	Reference   string            `json:"reference,omitempty"`
	Body        jsontext.Value    `json:"body,omitempty"`    // of a callback
	History     []Attempt         `json:"history,omitempty"` // of one delivery, oldest first
}

// Webhook is one webhook. Headers and Body come with one alone.
type Webhook struct {
	ID         string            `json:"id"`
	Connection string            `json:"connection"`
	ReceivedAt *time.Time        `json:"received_at"`
	State      string            `json:"state"`
	Reason     string            `json:"reason"`
	Kinds      []string          `json:"kinds"`
	EventIDs   []string          `json:"event_ids"`
	Headers    map[string]string `json:"headers,omitempty"`
	Body       []byte            `json:"body,omitempty"`  // base64
	Purged     bool              `json:"purged,omitzero"` // its bytes are past retention
}

// Rejected is a refused request.
type Rejected struct {
	ID         string            `json:"id"`
	Connection string            `json:"connection"`
	At         *time.Time        `json:"at"`
	Reason     string            `json:"reason"`
	Detail     string            `json:"detail"`
	Headers    map[string]string `json:"headers"`
	Size       int               `json:"size"`
}

// ConnectionIssue is something wrong with a connection and what mends it.
type ConnectionIssue struct {
	Message string `json:"message"`
	Mend    string `json:"mend"`
}

// Connection is one configured account.
type Connection struct {
	Name           string            `json:"name"`
	Connector      string            `json:"connector"`
	Receives       string            `json:"receives"`
	State          string            `json:"state"` // ok, silent, failing, misconfigured
	LastWebhookAt  *time.Time        `json:"last_webhook_at"`
	LastDeliveryAt *time.Time        `json:"last_delivery_at"`
	Webhooks       int64             `json:"webhooks"`
	Problems       []ConnectionIssue `json:"problems"`
}

// ConnectorInfo is one row of the matrix of vendors.
type ConnectorInfo struct {
	Name       string   `json:"name"`
	Title      string   `json:"title"`
	Category   string   `json:"category"`
	Events     []string `json:"events"`
	Actions    []string `json:"actions"`
	Handshake  bool     `json:"handshake"`
	Verify     string   `json:"verify"`
	Hydrate    bool     `json:"hydrate"`
	Register   bool     `json:"register"`
	Reconcile  bool     `json:"reconcile"`
	Backfill   bool     `json:"backfill"`
	APIVersion string   `json:"api_version"`
}

// DeadLetter is what will not be tried again by itself.
type DeadLetter struct {
	ID       string     `json:"id"`
	Of       string     `json:"of"`
	Ref      string     `json:"ref"`
	At       *time.Time `json:"at"`
	Reason   string     `json:"reason"`
	Place    string     `json:"place"`
	Attempts int        `json:"attempts"`
}

// Model is one model.
type Model struct {
	Name          string `json:"name"`
	Version       int    `json:"version"`
	State         string `json:"state"`
	Of            string `json:"of"`
	PathDependent bool   `json:"path_dependent"`
	ReadsScores   bool   `json:"reads_scores"`
	// Failures are the times, since the hub started, that a condition failed to evaluate and counted as not holding.
	Failures int               `json:"failures"`
	Labels   map[string]string `json:"labels"`
	Stages   []ModelStage      `json:"stages"`
	Text     string            `json:"text,omitempty"` // of one model
}

// ModelStage is one stage of a model.
type ModelStage struct {
	Name      string            `json:"name"`
	Labels    map[string]string `json:"labels"`
	Asks      string            `json:"asks,omitempty"`
	Customers int               `json:"customers"`
}

// Published says what a publish changed. Models, reactions and what is written of stages are published together, as one set.
type Published struct {
	Set       int64            `json:"set"`
	Models    []PublishedModel `json:"models"`
	Reactions bool             `json:"reactions_changed"`
	Write     bool             `json:"write_changed"`
	Customers int              `json:"customers"` // will be decided under the set, in the background
}

// PublishedModel is one model's part in it.
type PublishedModel struct {
	Name    string `json:"name"`
	Change  string `json:"change"`  // new, changed, removed, unchanged
	From    int    `json:"from"`    // the version before; 0 for a new model
	Version int    `json:"version"` // 0 for a removed one
}

// DecidesAnew reports whether customers must be decided because of it: reactions alone act on what happens from now on.
func (p *Published) DecidesAnew() bool {
	return p.Write || slices.ContainsFunc(p.Models, func(m PublishedModel) bool { return m.Change == "new" || m.Change == "changed" })
}

// Provisioned is what the hub needs at one connection's vendor and how it stands there.
type Provisioned struct {
	Connection string    `json:"connection"`
	Applied    bool      `json:"applied"`
	Items      []Planned `json:"items"`
	Error      string    `json:"error,omitempty"` // why the rest could not be looked at
}

// Planned is one thing the hub needs there.
type Planned struct {
	Name   string `json:"name"`
	State  string `json:"state"` // exists, missing, created, failed
	Error  string `json:"error,omitempty"`
	Detail string `json:"detail,omitempty"`
}

// Explain says why a customer is in a stage, or was, clause by clause.
type Explain struct {
	Model   string      `json:"model"`
	Subject hub.Subject `json:"subject"` // whose stage it is
	Version int         `json:"version"`
	Stage   string      `json:"stage"` // of a transition: the stage it left
	Label   string      `json:"label"`
	Since   *time.Time  `json:"since"`
	By      string      `json:"by"`
	At      *time.Time  `json:"at"`
	Why     string      `json:"why"` // in one sentence
	// PathDependent names what makes decisions depend on the way to the present stage.
	PathDependent []string      `json:"path_dependent"`
	Rules         []ExplainRule `json:"rules"`
	Next          ExplainNext   `json:"next"`
	Nearest       []Nearest     `json:"nearest"`
	Held          *ExplainHeld  `json:"held"` // while dwell keeps the customer in the stage
	Pin           *Pin          `json:"pin"`  // while a person's decision holds
	Transition    *Transition   `json:"transition"`
	// Note says where what was recorded and what is found again differ.
	Note string `json:"note,omitempty"`
}

// ExplainHeld says where the rules lead once the dwell has passed.
type ExplainHeld struct {
	To    string     `json:"to"`
	Until *time.Time `json:"until"`
}

// ExplainRule is one line of decide.
type ExplainRule struct {
	Stage   string       `json:"stage"`
	When    string       `json:"when"`
	Line    int          `json:"line"`
	Reached bool         `json:"reached"`
	Result  bool         `json:"result"`
	Error   *string      `json:"error"`
	Won     bool         `json:"won"`
	Closed  string       `json:"closed,omitempty"` // why the line is not asked in this stage
	Waits   *ExplainWait `json:"waits,omitempty"`
	Clauses []Clause     `json:"clauses"`
}

// ExplainWait says that after or cooldown keeps a rule that holds from winning.
type ExplainWait struct {
	Option string     `json:"option"`
	Since  *time.Time `json:"since"`
	Until  *time.Time `json:"until"`
}

// Clause is one part of a condition. Value is what the side of a comparison that depends on the facts came to, null where it
// does not compare.
type Clause struct {
	Text    string       `json:"text"`
	Line    int          `json:"line"`
	Column  int          `json:"column"`
	Op      string       `json:"op,omitempty"` // and, or, not over Clauses
	Value   any          `json:"value"`
	Needed  string       `json:"needed,omitempty"`
	Result  *bool        `json:"result"`
	Error   *string      `json:"error"`
	Facts   []ClauseFact `json:"facts"`
	FlipsAt *time.Time   `json:"flips_at"`
	Clauses []Clause     `json:"clauses"`
}

// ClauseFact is a value a clause read, and the events behind it.
type ClauseFact struct {
	Name     string   `json:"name"`
	Value    any      `json:"value"`
	EventIDs []string `json:"event_ids"`
}

// ExplainNext is what silence alone will change.
type ExplainNext struct {
	At *time.Time `json:"at"`
	To *string    `json:"to"`
}

// Nearest is a small change that leads elsewhere: Events at the explanation's instant, Stages in other models, then silence up
// to At. It was tried before it is told.
type Nearest struct {
	Change string            `json:"change"`
	To     string            `json:"to"`
	Label  string            `json:"label"` // of the stage it leads to
	At     *time.Time        `json:"at"`
	Before *time.Time        `json:"before"` // the events have to happen before; null for no end that was found
	Events []NearestEvent    `json:"events"`
	Stages map[string]string `json:"stages,omitempty"`
	// Release is set where a pin would have to be released.
	Release bool `json:"release,omitempty"`
}

// NearestEvent is one event of a change, with what of it matters.
type NearestEvent struct {
	Kind       string         `json:"kind"`
	Connection string         `json:"connection,omitempty"` // of an object that is there already
	Properties map[string]any `json:"properties,omitempty"`
	Traits     map[string]any `json:"traits,omitempty"`
}

// FeedItem is one entry of the feed.
type FeedItem struct {
	Position int64          `json:"position"`
	Event    jsontext.Value `json:"event"` // one structured CloudEvent
}

// Time returns t in UTC, or nil where it is zero: the form times have in all shapes.
func Time(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func identifiers(list []hub.Identifier) []Identifier {
	out := make([]Identifier, len(list))
	for i, id := range list {
		out[i] = Identifier{id.Kind, id.Value, id.Connection}
	}
	return out
}

// property gives a property's value the form it has in JSON.
func property(v any) any {
	switch v := v.(type) {
	case hub.Money:
		return Money{v.Amount.String(), v.Currency}
	case time.Time:
		return v.UTC()
	default:
		return v
	}
}

// Properties gives the values of an event's properties the form they have in JSON.
func Properties(in map[string]any) map[string]any {
	out := make(map[string]any, len(in))
	for name, v := range in {
		out[name] = property(v)
	}
	return out
}

func eventShape(e *hub.Event) Event {
	properties := Properties(e.Properties)
	return Event{
		ID: e.ID, Kind: e.Kind, Connection: e.Connection, OccurredAt: Time(e.OccurredAt), ReceivedAt: Time(e.ReceivedAt),
		Identifiers: identifiers(e.Identifiers), Properties: properties, WebhookID: e.WebhookID,
	}
}

// TransitionShape is a transition as the API tells it.
func TransitionShape(t *hub.Transition) Transition { return transitionShape(t) }

func transitionShape(t *hub.Transition) Transition {
	return Transition{
		ID: t.ID, Subject: t.Subject, CustomerID: t.CustomerID, Model: t.Model, Version: t.Version, From: t.From, To: t.To,
		At: Time(t.At), DecidedAt: Time(t.DecidedAt), Sequence: t.Sequence, Cause: t.Cause, Rule: t.Rule, Passing: t.Passing, Why: t.Why,
	}
}

func attemptShape(a *hub.Attempt) Attempt {
	return Attempt{
		At: Time(a.At), Status: a.Status, Outcome: string(a.Outcome), Error: a.Error,
		DurationMS: float64(a.Duration.Microseconds()) / 1000,
	}
}

func deliveryShape(d *hub.Delivery) Delivery {
	out := Delivery{
		ID: d.ID, Action: d.Action, Destination: d.Destination, CustomerID: d.CustomerID, State: d.State, DueAt: Time(d.DueAt),
		CreatedAt: Time(d.CreatedAt), Attempts: d.Attempts, Cause: d.Cause, Params: map[string]any{}, ExternalID: d.ExternalID, Reference: d.Reference,
	}
	for name, v := range d.Params {
		out.Params[name] = property(v)
	}
	if d.Last != nil {
		last := attemptShape(d.Last)
		out.Last = &last
	}
	return out
}

func webhookShape(w *hub.WebhookRecord) Webhook {
	return Webhook{
		ID: w.ID, Connection: w.Connection, ReceivedAt: Time(w.ReceivedAt), State: w.State, Reason: w.Reason,
		Kinds: w.Kinds, EventIDs: w.EventIDs,
	}
}

func deadLetterShape(d *hub.DeadLetter) DeadLetter {
	return DeadLetter{d.ID, d.Of, d.Ref, Time(d.At), d.Reason, d.Place, d.Attempts}
}

// entryShape adds the one line that a timeline shows.
func entryShape(e *hub.Entry) Entry {
	out := Entry{At: Time(e.At), Type: e.Type, ID: e.ID}
	switch {
	case e.Event != nil:
		shape := eventShape(e.Event)
		out.Event = &shape
		out.Summary = e.Event.Kind
		if m, ok := e.Event.Properties["amount"].(hub.Money); ok {
			out.Summary += " " + m.String()
		}
		out.Summary += " from " + e.Event.Connection
	case e.Transition != nil:
		shape := transitionShape(e.Transition)
		out.Transition = &shape
		out.Summary = fmt.Sprintf("%s: %s to %s", shape.Model, shape.From, shape.To)
		if shape.Why != "" {
			out.Summary += ", " + shape.Why
		}
	case e.Delivery != nil:
		shape := deliveryShape(e.Delivery)
		out.Delivery = &shape
		out.Summary = fmt.Sprintf("%s to %s: %s", shape.Action, shape.Destination, shape.State)
	case e.Merge != nil:
		m := e.Merge
		out.Merge = &Merge{m.From, m.Into, Time(m.At), m.Reason, m.EventID, m.Sequence}
		out.Summary = fmt.Sprintf("%s became part of %s, %s", m.From, m.Into, m.Reason)
	case e.Pin != nil:
		p := e.Pin
		shape := pinShape(p)
		out.Pin = &shape
		out.Summary = fmt.Sprintf("%s pinned to %s by %s", p.Model, p.Stage, p.Who)
		if p.Why != "" {
			out.Summary += ", " + p.Why
		}
	}
	return out
}
