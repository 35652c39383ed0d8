package delivery

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stagewire/stagewire/internal/hub"
)

// Status is how a destination does, for people.
type Status struct {
	Breaker   BreakerState
	Until     time.Time // nothing is sent before; zero where it may be
	Failures  int       // in a row
	LastError string    // of the newest failure since the last success
	LastOK    time.Time
	Disabled  string // why a subscription is switched off, "" where it is not
}

// destination is what one process remembers of a destination between claims. Its methods are safe for concurrent use.
type destination struct {
	name     string
	now      func() time.Time
	random   func() float64
	outcomes map[hub.Outcome]prometheus.Counter
	duration prometheus.Observer
	gauge    prometheus.Gauge // breaker: 0 closed, 1 half open, 2 open

	poke chan struct{} // there may be new work

	mu        sync.Mutex
	breaker   breaker
	quiet     time.Time // a limiter or the other side asked for quiet until then
	lastError string
	lastOK    time.Time
	// Of subscriptions, copies of what is in SQL, read again after memoryAge.
	readAt       time.Time
	verified     string // hash of the URL that answered the test
	disabled     string // hash of the URL, a blank, the reason
	failingSince time.Time
	warnedAt     time.Time
}

// hold returns how long nothing may be sent, and whether only a probe may go out after that.
func (d *destination) hold() (wait time.Duration, probe bool) {
	now := d.now()
	d.mu.Lock()
	defer d.mu.Unlock()
	state := d.breaker.state(now)
	until := d.quiet
	if state == BreakerOpen && d.breaker.until.After(until) {
		until = d.breaker.until
	}
	return max(0, until.Sub(now)), state != BreakerClosed
}

// rest keeps the destination quiet for at least wait.
func (d *destination) rest(wait time.Duration) {
	until := d.now().Add(wait)
	d.mu.Lock()
	defer d.mu.Unlock()
	if until.After(d.quiet) {
		d.quiet = until
	}
}

func (d *destination) succeeded() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.breaker.success()
	d.lastOK, d.lastError = d.now(), ""
	d.gauge.Set(0)
}

// failed counts a failure of the destination itself; it reports whether the breaker opened.
func (d *destination) failed(reason string, trip bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lastError = reason
	opened := d.breaker.failure(d.now(), trip, d.random)
	if opened {
		d.gauge.Set(2)
	}
	return opened
}

func (d *destination) status() Status {
	now := d.now()
	d.mu.Lock()
	defer d.mu.Unlock()
	s := Status{Breaker: d.breaker.state(now), Failures: d.breaker.failures, LastError: d.lastError, LastOK: d.lastOK, Disabled: d.disabled}
	if d.breaker.state(now) == BreakerOpen {
		s.Until = d.breaker.until
	}
	if d.quiet.After(now) && d.quiet.After(s.Until) {
		s.Until = d.quiet
	}
	switch s.Breaker {
	case BreakerClosed:
		d.gauge.Set(0)
	case BreakerHalfOpen:
		d.gauge.Set(1)
	case BreakerOpen:
		d.gauge.Set(2)
	}
	return s
}

// nudge says that there may be new work; it never blocks.
func (d *destination) nudge() {
	select {
	case d.poke <- struct{}{}:
	default:
	}
}

func defaultRandom() float64 { return rand.Float64() }
