package fact

import (
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// Known is what rules can read of a customer beside the events: what was calculated over all customers, and what
// identifies this one. It is given to facts by [Facts.Know]; what nobody gave is unknown.
type Known struct {
	// Scores is the customer's row of the newest snapshot of scores, nil without one.
	Scores *Scores
	// Identifiers are the customer's, of all profiles. They are given only where a rule asks (expression.Needs).
	Identifiers []hub.Identifier
}

// Scores are what fitted models and quantiles say of one customer, as of At. A nil value is unknown: too little data, or
// no order yet.
type Scores struct {
	At time.Time // of the snapshot, business time
	// Active is the probability that the customer still buys, 0 to 1.
	Active *float64
	// ExpectedOrders is how many orders are expected within the span that the snapshot looks ahead.
	ExpectedOrders *float64
	// Value is what those orders are expected to be worth together.
	Value *hub.Money
	// Recency, Frequency and Monetary are the fifths of all customers that this one is in, 1 (lowest) to 5 (best).
	Recency, Frequency, Monetary *int
}

// Know gives the facts what is known beside the events, for as long as they live.
func (f *Facts) Know(k Known) { f.known = k }

// Known returns what [Facts.Know] gave.
func (f *Facts) Known() Known { return f.known }

// Scores returns the customer's scores, nil without any.
func (f *Facts) Scores() *Scores { return f.known.Scores }
