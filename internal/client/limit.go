package client

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/hub"
)

// Priority orders who of a connection's callers gets the next request: what a person or a customer waits for goes first.
type Priority int

// Priorities, most urgent first.
const (
	Deliver Priority = iota
	Hydrate
	Reconcile
	priorities
)

// defaultPause is how long a connection is left alone after a 429 that does not say.
const defaultPause = time.Second

// limiter gives out a connection's requests: never more than the manifest allows, most urgent first, and none while
// the vendor asked for quiet. It is shared by everybody who calls that connection in this process.
type limiter struct {
	now func() time.Time

	mu      sync.Mutex
	limit   connector.Limit
	tokens  *rate.Limiter
	quiet   time.Time // no request before this
	active  int
	waiting [priorities][]*waiter
}

type waiter struct{ turn chan struct{} }

func newLimiter(limit connector.Limit, now func() time.Time) *limiter {
	l := &limiter{now: now}
	l.set(limit)
	return l
}

// set changes the limit, as a reload does; a pause goes on.
func (l *limiter) set(limit connector.Limit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tokens != nil && l.limit == limit {
		return
	}
	l.limit = limit
	every, burst := spread(limit)
	l.tokens = rate.NewLimiter(every, burst)
	l.wakeFirst()
}

// spread turns "n per window" into a token bucket that never lets more than n through in any window: a bucket of a fifth
// of n, filled by the rest. A bucket of n would let 2n through in one window right after a rest.
func spread(limit connector.Limit) (rate.Limit, int) {
	if limit.Requests <= 0 || limit.Per <= 0 {
		return rate.Inf, 1
	}
	burst := max(1, limit.Requests/5)
	fill := max(1, limit.Requests-burst)
	return rate.Limit(float64(fill) / limit.Per.Seconds()), burst
}

// take waits for its turn, at most patience. On success the caller must call give. A wait that would be longer returns at once
// with the time to wait and ok false; so does a context that ends, with wait 0.
func (l *limiter) take(ctx context.Context, p Priority, patience time.Duration) (wait time.Duration, ok bool) {
	me := &waiter{turn: make(chan struct{}, 1)}
	l.mu.Lock()
	l.waiting[p] = append(l.waiting[p], me)
	for {
		var timer *time.Timer
		var fire <-chan time.Time
		if l.first() == me {
			delay, blocked := l.delay()
			switch {
			case !blocked && delay <= 0:
				l.active++
				l.leave(p, me)
				l.mu.Unlock()
				return 0, true
			case !blocked && delay > patience:
				l.leave(p, me)
				l.mu.Unlock()
				return delay, false
			case !blocked:
				timer = time.NewTimer(delay)
				fire = timer.C
			}
		}
		l.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-fire:
		case <-me.turn:
		}
		if timer != nil {
			timer.Stop()
		}
		l.mu.Lock()
		if ctx.Err() != nil {
			l.leave(p, me)
			l.mu.Unlock()
			return 0, false
		}
	}
}

// give ends what take began.
func (l *limiter) give() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.active--
	l.wakeFirst()
}

// pause keeps everybody away until the given time. A shorter pause never ends a longer one.
func (l *limiter) pause(until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if until.After(l.quiet) {
		l.quiet = until
		l.wakeFirst() // so that it learns that its wait grew
	}
}

// observe corrects the limiter by what an answer says.
func (l *limiter) observe(status int, header http.Header) {
	now := l.now()
	l.mu.Lock()
	limit := l.limit
	l.mu.Unlock()
	after := RetryAfter(header, now)
	switch {
	case status == http.StatusTooManyRequests:
		if after == 0 {
			after = max(defaultPause, min(limit.Per, time.Minute))
		}
		l.pause(now.Add(after))
	case status == http.StatusServiceUnavailable && after > 0:
		l.pause(now.Add(after))
	case limit.Remaining != "" && limit.Per > 0:
		if left, err := strconv.Atoi(strings.TrimSpace(header.Get(limit.Remaining))); err == nil && left <= 0 {
			l.pause(now.Add(min(limit.Per, time.Minute)))
		}
	}
}

// delay returns how long the first waiter must wait; blocked means until somebody gives. It takes a token when it returns 0, false.
func (l *limiter) delay() (wait time.Duration, blocked bool) {
	now := l.now()
	if d := l.quiet.Sub(now); d > 0 {
		return d, false
	}
	if l.limit.Concurrent > 0 && l.active >= l.limit.Concurrent {
		return 0, true
	}
	r := l.tokens.ReserveN(now, 1)
	d := r.DelayFrom(now)
	if d > 0 {
		r.CancelAt(now)
	}
	return d, false
}

func (l *limiter) first() *waiter {
	for _, queue := range l.waiting {
		if len(queue) > 0 {
			return queue[0]
		}
	}
	return nil
}

func (l *limiter) wakeFirst() {
	if w := l.first(); w != nil {
		select {
		case w.turn <- struct{}{}:
		default:
		}
	}
}

// leave takes w out of its queue and lets the next one look.
func (l *limiter) leave(p Priority, w *waiter) {
	queue := l.waiting[p]
	for i, other := range queue {
		if other == w {
			l.waiting[p] = append(queue[:i:i], queue[i+1:]...)
			break
		}
	}
	l.wakeFirst()
}

func throttled(method, host string, wait time.Duration) *Error {
	return &Error{
		Method: method, Host: host, kind: hub.ErrBusy, unsent: true, wait: wait,
		reason: fmt.Sprintf("the connection's limiter asks to wait %s", wait.Round(time.Millisecond)),
	}
}
