package score

import "time"

// week is the unit of time of the models.
const week = 7 * 24 * time.Hour

// Weeks returns a duration in weeks.
func Weeks(d time.Duration) float64 { return float64(d) / float64(week) }

// Order is one purchase: when, and for how much (in one currency).
type Order struct {
	At     time.Time
	Amount float64
}

// Summarise makes of a customer's orders, the earliest first, what the models read of her at the instant until: orders of one day (UTC) are
// one occasion, at the time of the first of them; orders after until do not count. It returns false where there is none.
func Summarise(orders []Order, until time.Time) (History, Spend, bool) {
	var h History
	var s Spend
	var first, last time.Time
	total := 0.0
	for _, o := range orders {
		if o.At.After(until) {
			break
		}
		switch {
		case first.IsZero():
			first, last = o.At, o.At
		case day(o.At) != day(last):
			last = o.At
			h.Repeats++
			total += o.Amount
		case h.Repeats > 0:
			total += o.Amount
		}
	}
	if first.IsZero() {
		return h, s, false
	}
	h.Last, h.Span = Weeks(last.Sub(first)), Weeks(until.Sub(first))
	if h.Repeats > 0 {
		s = Spend{Repeats: h.Repeats, Mean: total / float64(h.Repeats)}
	}
	return h, s, true
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
