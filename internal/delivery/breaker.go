package delivery

import "time"

// BreakerState is how a destination's breaker stands.
type BreakerState string

// The states of a breaker.
const (
	BreakerClosed   BreakerState = "closed"
	BreakerOpen     BreakerState = "open"      // nothing is sent
	BreakerHalfOpen BreakerState = "half_open" // one delivery at a time tries whether it works again
)

// breaker keeps a destination that fails from being asked more often than is needed to notice that it works again. It opens after
// threshold failures in a row; each opening that ends in a failed probe is twice as long as the one before. Not safe for concurrent use.
type breaker struct {
	threshold int
	base, cap time.Duration
	failures  int // in a row
	openings  int // in a row
	until     time.Time
}

// state returns how the breaker stands at now.
func (b *breaker) state(now time.Time) BreakerState {
	switch {
	case b.openings == 0:
		return BreakerClosed
	case now.Before(b.until):
		return BreakerOpen
	}
	return BreakerHalfOpen
}

// success closes the breaker.
func (b *breaker) success() { b.failures, b.openings, b.until = 0, 0, time.Time{} }

// failure counts one. With trip it opens at once: a refused credential does not get better by asking threshold times. Failures of
// attempts that were under way when it opened change nothing. It reports whether this one opened it.
func (b *breaker) failure(now time.Time, trip bool, random func() float64) bool {
	b.failures++
	if b.state(now) == BreakerOpen || (b.openings == 0 && b.failures < b.threshold && !trip) {
		return false
	}
	length := b.cap
	if b.openings < 30 && b.base<<b.openings < b.cap {
		length = b.base << b.openings
	}
	b.openings++
	b.until = now.Add(length/2 + time.Duration(random()*float64(length)/2))
	return true
}
