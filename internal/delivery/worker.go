package delivery

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// Worker sends what is due at one destination. It claims in batches, sends concurrently, and records outcomes in batches
// while further attempts are under way.
type worker struct {
	*Dispatcher
	dest        *destination
	lease       time.Duration
	within      time.Duration // of one attempt
	batch       int
	concurrency int
	ordered     bool
	attempt     func(ctx context.Context, c *hub.Claimed) hub.Finished

	results chan hub.Finished
	freed   chan struct{} // outcomes were recorded

	mu       sync.Mutex
	inFlight int // claimed and not recorded yet
}

// work claims and sends until nothing is due at dest, it must be left alone, or ctx ends.
func (d *Dispatcher) work(ctx, attempts context.Context, dest *destination) {
	w := &worker{Dispatcher: d, dest: dest, freed: make(chan struct{}, 1)}
	if name, ok := strings.CutPrefix(dest.name, SubscriptionPrefix); ok {
		s, known := d.config.Subscription(name)
		w.lease, w.within = callbackLease, callbackAttempt
		w.batch, w.concurrency, w.ordered = d.config.Batch, d.config.Concurrency, s.Ordered
		w.attempt = func(ctx context.Context, c *hub.Claimed) hub.Finished { return d.callback(ctx, dest, c) }
		if known && d.disabled(ctx, dest, s) == "" && !d.verify(ctx, attempts, dest, s) {
			return
		}
	} else {
		w.lease, w.within = vendorLease, vendorAttempt
		w.batch, w.concurrency = d.config.VendorConcurrency, d.config.VendorConcurrency
		w.attempt = func(ctx context.Context, c *hub.Claimed) hub.Finished { return d.perform(ctx, dest, c) }
	}
	w.results = make(chan hub.Finished, w.batch)

	var finisher, senders sync.WaitGroup
	finisher.Go(func() { w.finish(ctx) })
	w.claim(ctx, attempts, &senders)
	senders.Wait()
	close(w.results)
	finisher.Wait()
}

// claim is the worker's loop.
func (w *worker) claim(ctx, attempts context.Context, senders *sync.WaitGroup) {
	errands := make(chan errand)
	defer close(errands)
	hands := 0
	for ctx.Err() == nil {
		wait, probe := w.dest.hold()
		inFlight := w.flying()
		if wait > 0 || (probe && inFlight > 0) {
			if inFlight == 0 {
				return
			}
			w.idle(ctx)
			continue
		}
		limit := w.batch
		if probe {
			limit = 1
		}
		claimedAt := w.now()
		claims, err := w.config.Store.Claim(ctx, w.dest.name, claimedAt, w.lease, limit, w.ordered)
		if err != nil {
			if ctx.Err() == nil {
				w.log.Error("deliveries cannot be claimed", "destination", w.dest.name, "error", err.Error())
				w.dest.rest(storeRest)
			}
			return
		}
		w.fly(len(claims))
		for i := range claims {
			e := errand{&claims[i], claimedAt, probe}
			if ctx.Err() != nil {
				w.results <- handBack(e.Claimed, w.now())
				continue
			}
			select {
			case errands <- e: // somebody is free
				continue
			default:
			}
			if hands < w.concurrency {
				hands++
				senders.Go(func() { w.send(attempts, e, errands) })
				continue
			}
			select {
			case errands <- e:
			case <-ctx.Done():
				w.results <- handBack(e.Claimed, w.now())
			}
		}
		if len(claims) < limit {
			if w.flying() == 0 && len(claims) == 0 {
				return
			}
			w.idle(ctx)
		}
	}
}

// errand is a claimed delivery on its way to who sends it.
type errand struct {
	*hub.Claimed
	claimedAt time.Time
	probe     bool
}

// send makes the attempt of e, then of others, until errands is closed: a goroutine for each would grow its stack each time.
func (w *worker) send(attempts context.Context, e errand, errands <-chan errand) {
	for more := true; more; e, more = <-errands {
		w.results <- w.one(attempts, e.Claimed, e.claimedAt, e.probe)
	}
}

// idle waits until outcomes were recorded, there may be new work, or ctx ends.
func (w *worker) idle(ctx context.Context) {
	select {
	case <-w.freed:
	case <-w.dest.poke:
	case <-ctx.Done():
	}
}

func (w *worker) fly(n int) {
	w.mu.Lock()
	w.inFlight += n
	w.mu.Unlock()
}

func (w *worker) flying() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.inFlight
}

// one makes one attempt and tells about it in one line.
func (w *worker) one(attempts context.Context, c *hub.Claimed, claimedAt time.Time, probe bool) hub.Finished {
	if wait, _ := w.dest.hold(); wait > 0 && !probe {
		return handBack(c, w.now().Add(wait)) // the breaker opened while this one waited for its turn
	}
	began := w.now()
	if began.Add(w.within).After(claimedAt.Add(w.lease)) {
		return handBack(c, c.DueAt) // the lease could run out before the attempt ends
	}
	ctx, cancel := context.WithTimeoutCause(attempts, w.within, errAttemptTimeout)
	defer cancel()
	done := w.recovered(ctx, c)
	if done.Attempt.At.IsZero() { // handed back or parked
		if done.State == hub.DeliveryParked {
			w.log.Warn("delivery parked", "delivery_id", c.ID, "destination", c.Destination, "action", c.Action, "error", done.Attempt.Error)
		}
		return done
	}
	took := w.now().Sub(began)
	done.Attempt.Duration = took
	if counter := w.dest.outcomes[done.Attempt.Outcome]; counter != nil {
		counter.Inc()
	}
	w.dest.duration.Observe(took.Seconds())
	level := slog.LevelInfo
	if done.State == hub.DeliveryDead || done.State == hub.DeliveryRetrying {
		level = slog.LevelWarn
	}
	w.log.LogAttrs(ctx, level, "delivery attempted",
		slog.String("delivery_id", c.ID), slog.String("destination", c.Destination), slog.String("action", c.Action),
		slog.Int("attempt", c.Attempts+1), slog.String("outcome", string(done.Attempt.Outcome)), slog.String("state", done.State),
		slog.Int("status", done.Attempt.Status), slog.Float64("duration_ms", float64(took.Microseconds())/1000),
		slog.String("error", done.Attempt.Error))
	return done
}

var errAttemptTimeout = fmt.Errorf("the attempt's time is up: %w", context.DeadlineExceeded)

// recovered keeps a fault in one manifest's code from taking the process down with every other destination.
func (w *worker) recovered(ctx context.Context, c *hub.Claimed) (done hub.Finished) {
	defer func() {
		if p := recover(); p != nil {
			w.log.Error("delivery panicked", "delivery_id", c.ID, "destination", c.Destination, "action", c.Action, "stack", string(debug.Stack()))
			done = w.settle(c, w.config.Vendor, hub.Result{Outcome: hub.Retry, Error: "internal fault, see the log"})
		}
	}()
	return w.attempt(ctx, c)
}

// handBack gives a claimed delivery back without an attempt.
func handBack(c *hub.Claimed, due time.Time) hub.Finished {
	state := hub.DeliveryDue
	if c.Attempts > 0 {
		state = hub.DeliveryRetrying
	}
	done := hub.Finished{DeliveryID: c.ID, Row: c.Row, Claim: c.Claim, State: state, DueAt: due, Uncertain: c.Uncertain}
	if c.Desired != nil {
		done.Generation = c.Desired.Generation
	}
	return done
}

// park sets a delivery aside until its destination returns.
func park(c *hub.Claimed, reason string) hub.Finished {
	done := handBack(c, c.DueAt)
	done.State, done.Attempt.Error = hub.DeliveryParked, reason
	return done
}

// settle turns an attempt's result into the delivery's next state.
func (d *Dispatcher) settle(c *hub.Claimed, policy Policy, result hub.Result) hub.Finished {
	now := d.now()
	done := hub.Finished{
		DeliveryID: c.ID, Row: c.Row, Claim: c.Claim, ExternalID: result.ExternalID,
		Attempt: hub.Attempt{At: now, Status: result.Status, Outcome: result.Outcome, Error: result.Error},
	}
	if c.Desired != nil {
		done.Generation = c.Desired.Generation
	}
	switch result.Outcome {
	case hub.Delivered:
		done.State = hub.DeliveryDelivered
		if c.Desired != nil {
			done.Written = c.Desired.Value
		}
	case hub.Skipped:
		done.State = hub.DeliverySkipped
	case hub.Refused:
		done.State = hub.DeliveryDead
	default:
		due, again := Next(now, c.CreatedAt, c.Attempts+1, policy, result.RetryAfter, d.config.Random)
		done.State, done.DueAt = hub.DeliveryRetrying, due
		done.Uncertain = result.Outcome == hub.Uncertain
		if !again {
			done.State, done.DueAt = hub.DeliveryDead, time.Time{}
			done.Attempt.Error = fmt.Sprintf("given up after %d attempts: %s", c.Attempts+1, result.Error)
		}
	}
	return done
}

// finish records outcomes as they come, many at once.
func (w *worker) finish(ctx context.Context) {
	batch := make([]hub.Finished, 0, maxBatch)
	for first := range w.results {
		batch = append(batch[:0], first)
	more:
		for len(batch) < maxBatch {
			select {
			case next, ok := <-w.results:
				if !ok {
					break more
				}
				batch = append(batch, next)
			default:
				break more
			}
		}
		w.record(ctx, batch)
		w.fly(-len(batch))
		select {
		case w.freed <- struct{}{}:
		default:
		}
	}
}

// record tries until the store took the outcomes. They are lost when it stays away while the process ends: the leases then run
// out, and what may have been sent is looked up.
func (w *worker) record(ctx context.Context, batch []hub.Finished) {
	pause := 50 * time.Millisecond
	var deadline time.Time
	for {
		err := w.config.Store.Finish(context.WithoutCancel(ctx), batch)
		if err == nil {
			return
		}
		w.log.Error("outcomes cannot be recorded, trying again", "destination", w.dest.name, "deliveries", len(batch), "error", err.Error())
		w.dest.rest(storeRest)
		if ctx.Err() != nil {
			if deadline.IsZero() {
				deadline = w.now().Add(finishWithin)
			}
			if w.now().After(deadline) {
				return
			}
		}
		timer := time.NewTimer(pause)
		<-timer.C
		pause = min(2*pause, 2*time.Second)
	}
}
