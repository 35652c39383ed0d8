package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/hub"
)

// hydratePrefix begins the name of the memory of a connection's fetches: they have a breaker of their own.
const hydratePrefix = "hydrate:"

const (
	// hydrateClaim is how many rows are claimed at once; they are cut into the vendor's batches.
	hydrateClaim = 100
	// hydrateConcurrency is how many batches of one connection are fetched at once. Its limiter is shared with deliveries.
	hydrateConcurrency = 2
	// goneRetry is when rows of a connection that is gone are looked at again.
	goneRetry = time.Minute
)

// hydrate fetches what is due at one connection until nothing is, it must be left alone, or ctx ends. Rows that are handed back at
// the end keep their due_at, and so do rows that never got their turn: their lease runs out.
func (d *Dispatcher) hydrate(ctx, attempts context.Context, dest *destination, connection string) {
	var fetches sync.WaitGroup
	defer fetches.Wait()
	slots := make(chan struct{}, hydrateConcurrency)
	for ctx.Err() == nil {
		wait, probe := dest.hold()
		if wait > 0 {
			return
		}
		limit := hydrateClaim
		if probe {
			fetches.Wait()
			limit = 1
		}
		rows, err := d.config.Store.ClaimHydration(ctx, connection, d.now(), hydrateLease, limit)
		if err != nil {
			if ctx.Err() == nil {
				d.log.Error("fetches cannot be claimed", "connection", connection, "error", err.Error())
				dest.rest(storeRest)
			}
			return
		}
		if len(rows) == 0 {
			fetches.Wait() // a fetch may ask for more
			select {
			case <-dest.poke:
				continue
			default:
			}
			return
		}
		conn, con, ok := d.config.Connection(connection)
		if !ok {
			done := make([]hub.Hydrated, len(rows))
			for i, row := range rows {
				done[i] = hub.Hydrated{HydrationRecord: row, DueAt: d.now().Add(goneRetry), Error: "connection gone"}
			}
			d.recordHydrated(ctx, dest, done)
			continue
		}
		for part := range slices.Chunk(rows, max(1, con.FetchBatch(rows[0].Object))) {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				d.recordHydrated(ctx, dest, d.later(part, again{due: d.now()}))
				continue
			}
			fetches.Go(func() {
				defer func() { <-slots }()
				d.fetch(attempts, dest, conn, con, part, probe)
			})
		}
	}
}

// fetch gets one batch of rows, stores the bytes, publishes the events, and ends the rows, in this order: a crash at any line repeats
// the fetch, and the ledger drops what was published twice.
func (d *Dispatcher) fetch(attempts context.Context, dest *destination, conn *hub.Connection, con Connector, rows []hub.HydrationRecord, probe bool) {
	if wait, _ := dest.hold(); wait > 0 && !probe {
		d.recordHydrated(attempts, dest, d.later(rows, again{due: d.now().Add(wait)}))
		return
	}
	ctx, cancel := context.WithTimeoutCause(attempts, hydrateAttempt, errAttemptTimeout)
	defer cancel()
	began := d.now()
	trace := &trace{call: d.config.HydrateCall(conn, con)}
	fetched, err := d.get(ctx, trace, conn, con, rows)
	took := d.now().Sub(began)
	dest.duration.Observe(took.Seconds())
	var asked time.Duration
	if err == nil {
		asked, err = vendorTrouble(fetched)
	}
	level, outcome, text := slog.LevelInfo, hub.Delivered, ""
	trace.mu.Lock()
	wait, sent, refused := trace.wait, trace.sent, trace.refused
	trace.mu.Unlock()
	switch {
	case err == nil:
		dest.succeeded()
	case wait > 0 && sent == 0:
		dest.rest(wait)
		d.recordHydrated(attempts, dest, d.later(rows, again{due: d.now().Add(wait)}))
		return
	case asked > 0:
		level, outcome, text = slog.LevelWarn, hub.Retry, err.Error()
		dest.rest(min(asked, 15*time.Minute)) // it works, but wants less of us
	default:
		level, outcome, text = slog.LevelWarn, hub.Retry, err.Error()
		d.failed(dest, text, refused)
	}
	d.log.LogAttrs(ctx, level, "records fetched",
		slog.String("connection", conn.Name), slog.String("object", rows[0].Object), slog.Int("rows", len(rows)), slog.Int("attempt", rows[0].Attempts+1),
		slog.String("outcome", string(outcome)), slog.Float64("duration_ms", float64(took.Microseconds())/1000), slog.String("error", text))
	if fetched == nil {
		d.recordHydrated(attempts, dest, d.later(rows, again{cause: err, counted: true}))
		return
	}
	d.keep(attempts, dest, conn, con, fetched)
}

// get fetches rows, each id once: a contact that changed three times in a second is one request and three rows.
func (d *Dispatcher) get(ctx context.Context, t *trace, conn *hub.Connection, con Connector, rows []hub.HydrationRecord) (out []connector.Fetched, err error) {
	defer func() {
		if p := recover(); p != nil {
			d.log.Error("fetch panicked", "connection", conn.Name, "object", rows[0].Object, "stack", string(debug.Stack()))
			out, err = nil, fmt.Errorf("internal fault, see the log: %w", hub.ErrTransient)
		}
	}()
	unique := make([]hub.HydrationRecord, 0, len(rows))
	sharing := make(map[string][]hub.HydrationRecord, len(rows))
	for _, row := range rows {
		if _, ok := sharing[row.ID]; !ok {
			unique = append(unique, row)
		}
		sharing[row.ID] = append(sharing[row.ID], row)
	}
	got, err := con.Fetch(ctx, t.do, conn, unique)
	if err != nil {
		return nil, err
	}
	out = make([]connector.Fetched, 0, len(rows))
	for _, f := range got {
		for _, row := range sharing[f.Row.ID] {
			shared := f
			shared.Row = row
			out = append(out, shared)
		}
		delete(sharing, f.Row.ID)
	}
	for _, forgotten := range sharing {
		for _, row := range forgotten {
			out = append(out, connector.Fetched{Row: row, Err: fmt.Errorf("%s %s: not in the answer: %w", row.Object, row.ID, hub.ErrTransient)})
		}
	}
	return out, nil
}

// vendorTrouble returns an error that speaks of the vendor and not of one record, every row failed in a way that may pass, and
// how long the vendor wants to be left alone.
func vendorTrouble(fetched []connector.Fetched) (asked time.Duration, trouble error) {
	for _, f := range fetched {
		if f.Err == nil || errors.Is(f.Err, hub.ErrInvalid) || errors.Is(f.Err, hub.ErrNotFound) {
			return 0, nil
		}
		trouble, asked = f.Err, max(asked, f.RetryAfter)
	}
	return asked, trouble
}

// keep stores what was fetched, publishes the events made of it, and ends the rows.
func (d *Dispatcher) keep(ctx context.Context, dest *destination, conn *hub.Connection, con Connector, fetched []connector.Fetched) {
	ctx = context.WithoutCancel(ctx)
	now := d.now()
	activation := d.config.Activation(conn.Name)
	var (
		rows   []hub.HydrationRecord
		bodies [][]byte
		events []hub.Event
		done   []hub.Hydrated
		good   []hub.HydrationRecord
	)
	for _, f := range fetched {
		gone := f.Gone || errors.Is(f.Err, hub.ErrNotFound)
		if f.Err != nil && !gone {
			done = append(done, d.later([]hub.HydrationRecord{f.Row}, again{cause: f.Err, after: f.RetryAfter, counted: true})...)
			continue
		}
		if !gone {
			rows, bodies = append(rows, f.Row), append(bodies, f.Body)
		}
		// The fetch's number is 0: two notifications of one state make one event, and the ledger drops the second.
		made, err := con.FetchedEvents(f.Row, f.Body, gone, conn, 0)
		if err != nil {
			done = append(done, hub.Hydrated{HydrationRecord: f.Row, Dead: true, Error: err.Error()})
			d.metrics.hydrations.WithLabelValues(conn.Name, "dead").Inc()
			continue
		}
		end := hub.Hydrated{HydrationRecord: f.Row, Done: true, More: made.Hydrate}
		for i := range made.Events {
			ev := &made.Events[i]
			ev.Version.Activation = activation
			end.Kinds, end.EventIDs = append(end.Kinds, ev.Kind), append(end.EventIDs, ev.ID)
		}
		outcome := "fetched"
		if gone {
			outcome = "gone"
		}
		d.metrics.hydrations.WithLabelValues(conn.Name, outcome).Inc()
		events, done, good = append(events, made.Events...), append(done, end), append(good, f.Row)
	}
	trouble := func(err error, what string) {
		d.log.Error("fetched records", "trouble", what, "connection", conn.Name, "rows", len(fetched), "error", err.Error())
		dest.rest(storeRest)
		kept := slices.DeleteFunc(done, func(h hub.Hydrated) bool { return h.Done })
		d.recordHydrated(ctx, dest, append(kept, d.later(good, again{due: now.Add(storeRest)})...))
	}
	if len(rows) > 0 {
		if err := d.config.Store.Fetched(ctx, rows, bodies, now); err != nil {
			trouble(err, "fetched records cannot be stored")
			return
		}
	}
	if len(events) > 0 {
		err := d.config.Publisher.PublishEvents(ctx, events)
		if errors.Is(err, hub.ErrInvalid) && len(fetched) > 1 {
			// An event that got past the mapping cannot be written: its record alone must pay for it.
			for i := range fetched {
				d.keep(ctx, dest, conn, con, fetched[i:i+1])
			}
			return
		}
		if errors.Is(err, hub.ErrInvalid) {
			d.recordHydrated(ctx, dest, []hub.Hydrated{{HydrationRecord: fetched[0].Row, Dead: true, Error: err.Error()}})
			return
		}
		if err != nil {
			trouble(err, "events of fetched records cannot be published")
			return
		}
	}
	d.recordHydrated(ctx, dest, done)
	if slices.ContainsFunc(done, func(h hub.Hydrated) bool { return len(h.More) > 0 }) {
		dest.nudge()
	}
}

// again says why and when rows are tried again.
type again struct {
	cause error
	// counted: it was an attempt. The next one is due by the vendor's schedule and no sooner than after; what is too old or
	// can never succeed is dead.
	counted bool
	after   time.Duration
	due     time.Time // where not counted
}

// later reschedules rows.
func (d *Dispatcher) later(rows []hub.HydrationRecord, how again) []hub.Hydrated {
	now := d.now()
	out := make([]hub.Hydrated, 0, len(rows))
	for _, row := range rows {
		h := hub.Hydrated{HydrationRecord: row, DueAt: how.due}
		if how.cause != nil {
			h.Error = how.cause.Error()
		}
		if how.counted {
			h.Attempts++
			due, more := Next(now, row.ReceivedAt, h.Attempts, d.config.Vendor, how.after, d.config.Random)
			outcome := "retry"
			if h.DueAt = due; !more || errors.Is(how.cause, hub.ErrInvalid) {
				h.Dead, h.DueAt, outcome = true, time.Time{}, "dead"
			}
			d.metrics.hydrations.WithLabelValues(row.Connection, outcome).Inc()
		}
		out = append(out, h)
	}
	return out
}

// recordHydrated ends rows. Where the store fails their leases run out and they are fetched again.
func (d *Dispatcher) recordHydrated(ctx context.Context, dest *destination, done []hub.Hydrated) {
	if len(done) == 0 {
		return
	}
	if err := d.config.Store.FinishHydration(context.WithoutCancel(ctx), done); err != nil {
		d.log.Error("fetches cannot be ended", "destination", dest.name, "rows", len(done), "error", err.Error())
		dest.rest(storeRest)
	}
}
