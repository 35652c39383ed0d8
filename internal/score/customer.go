package score

import (
	"slices"
	"time"

	"github.com/stagewire/stagewire/internal/fact"
)

// OrdersOf returns a customer's paid orders that were neither cancelled nor fully refunded, less what was refunded of them.
func OrdersOf(f *fact.Facts) []Order {
	paid := f.Standing()
	out := make([]Order, len(paid))
	var refunded []*fact.Object // an order paid in parts is refunded once
	for i, e := range paid {
		out[i].At = e.At()
		amount, ok := e.Money("amount")
		if !ok {
			continue
		}
		out[i].Amount, _ = amount.Amount.Float64()
		out[i].Currency = amount.Currency
		if o := f.ObjectOf(e); o != nil && o.RefundedAmount.Currency == amount.Currency && !slices.Contains(refunded, o) {
			refunded = append(refunded, o)
			back, _ := o.RefundedAmount.Amount.Float64()
			out[i].Amount = max(0, out[i].Amount-back)
		}
	}
	return out
}

// Scored derives a customer's scores. It implements fact.Scorer.
func (s *Snapshot) Scored(f *fact.Facts) fact.Scored {
	orders := OrdersOf(f)
	if len(orders) == 0 {
		return &scored{}
	}
	summary, _ := Summarise(orders, orders[len(orders)-1].At)
	return &scored{snapshot: s, customer: summary}
}

// scored is one customer under a snapshot; the zero value is one without orders.
type scored struct {
	snapshot *Snapshot
	customer Summary
}

// Score implements fact.Scored.
func (s *scored) Score(which fact.Score, at time.Time) (float64, bool) {
	if s.snapshot == nil {
		return 0, false
	}
	c := s.customer
	switch which {
	case fact.Active:
		return s.snapshot.active(c, at)
	case fact.ExpectedOrders:
		return s.snapshot.orders(c, at)
	case fact.Value:
		return s.snapshot.value(c, at)
	case fact.Recency:
		return fifth(s.snapshot.Recency, millis(c.Last))
	case fact.Frequency:
		return fifth(s.snapshot.Frequency, float64(c.Orders))
	case fact.Monetary:
		return fifth(s.snapshot.Monetary[c.Currency], c.Total)
	}
	return 0, false
}

func fifth(f Fifths, v float64) (float64, bool) {
	n, ok := f.Of(v)
	return float64(n), ok
}

// Currency implements fact.Scored.
func (s *scored) Currency() string {
	if s.snapshot == nil || s.snapshot.Values[s.customer.Currency] == nil {
		return ""
	}
	return s.customer.Currency
}
