package hub

import "time"

// Action is what a reaction wants done at a connection, in the one vocabulary for all vendors
// (LANGUAGE.md, "Actions"): set_stage, set_fields, add_tag, create_task, ….
type Action struct {
	Name   string         `json:"name"`
	Params map[string]any `json:"params"` // literal values, expressions already evaluated
}

// Recipient is what a connector may know of a customer when it renders an action.
type Recipient struct {
	CustomerID  string
	Identifiers []Identifier
	Traits      map[string]any
}

// Identifier returns the value of the first identifier of kind that belongs to connection or to all, or "".
func (r Recipient) Identifier(kind, connection string) string {
	for _, id := range r.Identifiers {
		if id.Kind == kind && (id.Connection == "" || id.Connection == connection) {
			return id.Value
		}
	}
	return ""
}

// Outcome is what became of one attempt.
type Outcome string

// The outcomes of an attempt.
const (
	Delivered Outcome = "delivered"
	Retry     Outcome = "retry"     // try again, by the schedule or RetryAfter
	Refused   Outcome = "refused"   // never try again: a dead letter
	Uncertain Outcome = "uncertain" // sent, answer unknown: look up by the unique reference first
	Skipped   Outcome = "skipped"   // nothing to do: no record there, equal already, not ours
)

// Result is an outcome with its circumstances.
type Result struct {
	Outcome    Outcome
	Status     int           // HTTP status of the last answer, 0 where there was none
	Error      string        // for a person; never holds a secret or a vendor's personal data
	RetryAfter time.Duration // 0: by the schedule
	// ExternalID is the vendor's id of what was created or found.
	ExternalID string
	// Values are field values read back from the answer, to notice a write that was accepted but not applied.
	Values map[string]string
}
