package fact

import (
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// Known is what rules can read of a customer beside the events: what was calculated over all customers, and what
// identifies this one. It is given to facts by [Facts.Know]; what nobody gave is unknown.
type Known struct {
	// Scores tells the customer's scores: the newest snapshot of what was fitted to all customers, nil without one.
	Scores Scorer
	// Identifiers are the customer's, of all profiles. They are given only where a rule asks (expression.Needs).
	Identifiers []hub.Identifier
}

// Scorer derives a customer's scores from her facts and what was fitted to all customers. It is immutable.
type Scorer interface {
	// Scored looks at the facts once; what it returns holds for them at whatever instant.
	Scored(f *Facts) Scored
}

// Scored are what fitted models and quantiles say of one customer.
type Scored interface {
	// Score returns a score at an instant, false where it is unknown: too little data, or no order yet. Of one score it is
	// unknown at all instants or at none.
	Score(which Score, at time.Time) (float64, bool)
	// Currency is that of Value, "" where that is unknown.
	Currency() string
}

// Score is one of the scores.
type Score uint8

// The scores. Without another event all of them only fall as time passes, or stay.
const (
	// Active is the probability that the customer still buys, 0 to 1.
	Active Score = iota
	// ExpectedOrders is how many orders are expected within the next 365 days.
	ExpectedOrders
	// Value is what those orders are expected to be worth together, in Scored.Currency.
	Value
	// Recency, Frequency and Monetary are the fifths of all customers that this one is in, 1 (lowest) to 5 (best). They stay as time
	// passes.
	Recency
	Frequency
	Monetary
)

// Scores are scores that somebody states, for tests: they stay what they are, whatever the facts and the instant. A nil value is
// unknown.
type Scores struct {
	At                           time.Time // since when they hold
	Active, ExpectedOrders       *float64
	Value                        *hub.Money
	Recency, Frequency, Monetary *int
}

// Scored implements Scorer.
func (s *Scores) Scored(*Facts) Scored { return s }

// Score implements Scored.
func (s *Scores) Score(which Score, _ time.Time) (float64, bool) {
	number := func(v *float64) (float64, bool) {
		if v == nil {
			return 0, false
		}
		return *v, true
	}
	fifth := func(v *int) (float64, bool) {
		if v == nil {
			return 0, false
		}
		return float64(*v), true
	}
	switch which {
	case Active:
		return number(s.Active)
	case ExpectedOrders:
		return number(s.ExpectedOrders)
	case Value:
		if s.Value == nil {
			return 0, false
		}
		return s.Value.Amount.Float64()
	case Recency:
		return fifth(s.Recency)
	case Frequency:
		return fifth(s.Frequency)
	case Monetary:
		return fifth(s.Monetary)
	}
	return 0, false
}

// Currency implements Scored.
func (s *Scores) Currency() string {
	if s.Value == nil {
		return ""
	}
	return s.Value.Currency
}

// Know gives the facts what is known beside the events, for as long as they live.
func (f *Facts) Know(k Known) {
	f.known, f.scored = k, nil
	if f.of != nil {
		f.of.full.Know(k)
	}
}

// Known returns what [Facts.Know] gave.
func (f *Facts) Known() Known { return f.known }

// Score returns one of the customer's scores at an instant, false where it is unknown.
func (f *Facts) Score(which Score, at time.Time) (float64, bool) {
	if s := f.scores(); s != nil {
		return s.Score(which, at)
	}
	return 0, false
}

// ScoreCurrency returns the currency of the score Value, "" where that is unknown.
func (f *Facts) ScoreCurrency() string {
	if s := f.scores(); s != nil {
		return s.Currency()
	}
	return ""
}

func (f *Facts) scores() Scored {
	if f.scored == nil && f.known.Scores != nil {
		f.scored = f.known.Scores.Scored(f)
	}
	return f.scored
}
