package score

import (
	"slices"
	"strings"
	"time"
)

// week is the unit of time of the models.
const week = 7 * 24 * time.Hour

// Weeks returns a duration in weeks.
func Weeks(d time.Duration) float64 { return float64(d) / float64(week) }

// Order is one purchase.
type Order struct {
	At     time.Time
	Amount float64
	// Currency is "" where there is no amount, or where all amounts are of one currency.
	Currency string
}

// Summary is what the models read of a customer's orders.
type Summary struct {
	First, Last time.Time // occasions
	Repeats     int       // occasions after the first
	Orders      int
	// Currency is that of most of her orders with an amount, of the latest where several are equally frequent.
	Currency string
	// Spend is that at her repeat occasions, and Total that of all orders, in Currency.
	Spend Spend
	Total float64
}

// Summarise makes a summary of a customer's orders, the earliest first, up to the instant until; those after it do not count. Orders of
// one day (UTC) are one occasion, at the time of the first of them. It returns false where there is none.
func Summarise(orders []Order, until time.Time) (Summary, bool) {
	for len(orders) > 0 && orders[len(orders)-1].At.After(until) {
		orders = orders[:len(orders)-1]
	}
	if len(orders) == 0 {
		return Summary{}, false
	}
	s := Summary{First: orders[0].At, Last: orders[0].At, Orders: len(orders), Currency: mainCurrency(orders)}
	total, paid := 0.0, int64(0) // at repeat occasions; the day of the latest of them that was paid in the currency
	for _, o := range orders {
		if day(o.At) != day(s.Last) {
			s.Last = o.At
			s.Repeats++
		}
		if o.Currency != s.Currency {
			continue
		}
		s.Total += o.Amount
		if s.Repeats == 0 {
			continue
		}
		total += o.Amount
		if d := day(o.At); s.Spend.Repeats == 0 || d != paid {
			s.Spend.Repeats++
			paid = d
		}
	}
	if s.Spend.Repeats > 0 {
		s.Spend.Mean = total / float64(s.Spend.Repeats)
	}
	return s, true
}

// History returns the customer's history up to at, which is no earlier than her last occasion.
func (s Summary) History(at time.Time) History {
	if at.Before(s.Last) {
		at = s.Last
	}
	return History{Repeats: s.Repeats, Last: Weeks(s.Last.Sub(s.First)), Span: Weeks(at.Sub(s.First))}
}

// mainCurrency returns the currency of most orders, of the latest where several are equally frequent.
func mainCurrency(orders []Order) string {
	type count struct {
		currency string
		n        int
	}
	var counts []count
	best := count{}
	for _, o := range slices.Backward(orders) {
		currency := o.Currency
		if currency == "" {
			continue
		}
		at := -1
		for j := range counts {
			if counts[j].currency == currency {
				at = j
			}
		}
		if at < 0 {
			at = len(counts)
			counts = append(counts, count{currency: strings.Clone(currency)})
		}
		counts[at].n++
	}
	for _, c := range counts { // in the order of their latest orders
		if c.n > best.n {
			best = c
		}
	}
	return best.currency
}

// occasions counts the purchase occasions after from.
func occasions(orders []Order, from time.Time) int {
	n, last := 0, day(from)
	for _, o := range orders {
		if d := day(o.At); o.At.After(from) && d != last {
			n++
			last = d
		}
	}
	return n
}

// day numbers the days of the calendar in UTC.
func day(t time.Time) int64 {
	s := t.Unix()
	d := s / 86400
	if s%86400 < 0 {
		d--
	}
	return d
}
