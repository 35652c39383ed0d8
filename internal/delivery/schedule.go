package delivery

import (
	"time"
)

// Policy says when a failed delivery is tried again and when it is given up.
type Policy struct {
	// Steps are fixed delays after the first, second, … failed attempt; after the last step it is given up. Without Steps the
	// delay is exponential from Base, at most Cap, with full jitter.
	Steps     []time.Duration
	Base, Cap time.Duration
	// MaxAge gives up what is older, but never before Tries attempts: a delivery that waited behind an open breaker, was parked or
	// redriven has had no chance yet.
	MaxAge time.Duration
	Tries  int
}

// VendorPolicy is for updates, tasks and fetches at vendors.
func VendorPolicy() Policy {
	return Policy{Base: time.Second, Cap: 15 * time.Minute, MaxAge: 72 * time.Hour, Tries: 8}
}

// CallbackPolicy is the schedule that subscribers are promised (API.md, the callback contract).
func CallbackPolicy() Policy {
	return Policy{Steps: []time.Duration{
		5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
		10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
	}}
}

// Next returns when to try again after the given number of failed attempts (1 for the first), counted from now, for work that exists since
// created. after is what the other side asked for (Retry-After), 0 for nothing; the next try is never before it. random
// returns numbers in [0,1). It reports false when it is time to give up.
func Next(now, created time.Time, attempts int, policy Policy, after time.Duration, random func() float64) (time.Time, bool) {
	attempts = max(1, attempts)
	var delay time.Duration
	if len(policy.Steps) > 0 {
		if attempts > len(policy.Steps) {
			return time.Time{}, false
		}
		step := policy.Steps[attempts-1]
		delay = step + time.Duration(random()*float64(step)/10) // a crowd that failed together comes back spread out
	} else {
		if policy.MaxAge > 0 && attempts >= policy.Tries && now.Sub(created) >= policy.MaxAge {
			return time.Time{}, false
		}
		ceiling := policy.Cap
		if shift := attempts - 1; shift < 30 && policy.Base<<shift < policy.Cap {
			ceiling = policy.Base << shift
		}
		delay = max(time.Duration(random()*float64(ceiling)), policy.Base/10)
	}
	if after > delay {
		delay = after + time.Duration(random()*float64(min(after/10, 10*time.Second)))
	}
	return now.Add(delay), true
}
