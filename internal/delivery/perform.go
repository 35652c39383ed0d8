package delivery

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/hub"
)

// tagField begins the Field of desired state that is a tag standing for a stage.
const tagField = "tag:"

// perform makes one attempt of a delivery to a connection.
func (d *Dispatcher) perform(ctx context.Context, dest *destination, c *hub.Claimed) hub.Finished {
	conn, con, ok := d.config.Connection(c.Destination)
	if !ok {
		return park(c, "connection gone")
	}
	task, settled := taskOf(c)
	if settled != nil {
		return d.settle(c, d.config.Vendor, *settled)
	}
	if !con.Can(task.Action.Name) {
		return d.settle(c, d.config.Vendor, hub.Result{
			Outcome: hub.Refused,
			Error:   fmt.Sprintf("connector %s cannot %s", conn.Connector, task.Action.Name),
		})
	}
	now := d.now()
	if c.Uncertain && !c.SentAt.IsZero() {
		if ready := c.SentAt.Add(con.CompletesWithin()); now.Before(ready) {
			return handBack(c, ready)
		}
		task.Lookup = true
	}
	task.Business = d.config.Business()

	send := hub.Send{DeliveryID: c.ID, Claim: c.Claim, SentAt: now, Slot: c.Slot}
	if c.Desired != nil {
		send.Value = c.Desired.Value
	}
	passes := passesOf(task, c.Desired)
	for _, pass := range passes {
		for _, change := range con.Writes(pass, conn) {
			written := hub.Written{Connection: conn.Name, FieldChange: change, SentAt: now}
			if !slices.Contains(send.Writes, written) {
				send.Writes = append(send.Writes, written)
			}
		}
	}
	if err := d.config.Store.Sending(ctx, []hub.Send{send}); err != nil {
		d.log.Error("sending cannot be recorded, so nothing is sent", "delivery_id", c.ID, "destination", c.Destination, "error", err.Error())
		if !errors.Is(err, hub.ErrConflict) { // somebody else has it by now
			dest.rest(storeRest)
		}
		return handBack(c, now.Add(storeRest))
	}
	trace := &trace{call: d.config.Call(conn, con)}
	var result hub.Result
	for _, pass := range passes {
		before := result
		if result = con.Perform(ctx, trace.do, conn, pass); result.Outcome == hub.Skipped && before.Outcome == hub.Delivered {
			result = before
		}
		if result.Outcome != hub.Delivered && result.Outcome != hub.Skipped {
			break
		}
	}
	return d.judge(dest, c, task, con, trace, result)
}

// taskOf makes the connector's task. For a slot the value is the desired one of this moment, whatever it was when the delivery was
// written. A result instead means that there is nothing to send.
func taskOf(c *hub.Claimed) (connector.Task, *hub.Result) {
	task := connector.Task{Action: hub.Action{Name: c.Action, Params: c.Params}, Recipient: c.Recipient, Reference: c.Reference}
	if c.Slot == "" {
		return task, nil
	}
	want := c.Desired
	switch {
	case want == nil:
		return task, &hub.Result{Outcome: hub.Skipped, Error: "nothing is wanted there any more"}
	case want.Mode == "never":
		return task, &hub.Result{Outcome: hub.Skipped, Error: "the field is not ours to write (mode never)"}
	case want.WrittenGeneration > 0 && want.Written == want.Value && c.Attempts == 0 && !c.Uncertain && len(want.Tried) == 0:
		// An earlier attempt, finished or not, may have left another value there: then it is written again.
		return task, &hub.Result{Outcome: hub.Skipped, Error: "written already"}
	}
	params := make(map[string]any, len(c.Params)+3)
	maps.Copy(params, c.Params)
	params["value"] = want.Value
	if strings.HasPrefix(want.Field, tagField) {
		params["tag"] = want.Value
		delete(params, "field") // it holds the tag's pattern there
	} else {
		params["field"] = want.Field
	}
	if want.Action != "" {
		task.Action.Name = want.Action
	}
	task.Action.Params, task.Previous, task.Tried, task.Mode = params, want.Written, want.Tried, want.Mode
	return task, nil
}

// passesOf returns the task once for each value it takes the place of. A field has one value, but a tag that an attempt of unknown
// outcome added lies beside the others until it is removed.
func passesOf(task connector.Task, want *hub.Desired) []connector.Task {
	passes := []connector.Task{task}
	if want == nil || !strings.HasPrefix(want.Field, tagField) {
		return passes
	}
	for _, value := range want.Tried {
		if value == want.Value || value == want.Written {
			continue
		}
		pass := task
		pass.Previous = value
		passes = append(passes, pass)
	}
	return passes
}

// trace watches the requests of one attempt, because what may have reached the vendor decides what is safe to do next, whatever
// the manifest makes of the error.
type trace struct {
	call connector.Call

	mu      sync.Mutex
	sent    int           // requests that got an answer or may have reached the vendor
	unknown bool          // a request that may write got no answer
	refused bool          // our credentials were refused
	wait    time.Duration // the limiter wanted quiet
}

func (t *trace) do(ctx context.Context, req connector.Request) (connector.Response, error) {
	resp, err := t.call(ctx, req)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		t.sent++
		t.refused = t.refused || resp.Status == http.StatusUnauthorized
		return resp, nil
	}
	if errors.Is(err, connector.ErrNotSent) {
		var limited interface{ RetryAfter() time.Duration }
		if errors.As(err, &limited) {
			t.wait = max(t.wait, limited.RetryAfter())
		}
	} else {
		t.sent++
		t.unknown = t.unknown || (req.Method != http.MethodGet && req.Method != http.MethodHead && req.Method != "")
	}
	t.refused = t.refused || errors.Is(err, hub.ErrUnauthenticated)
	return resp, err
}

// judge turns what the connector made of the answers into the delivery's next state, and tells the breaker.
func (d *Dispatcher) judge(dest *destination, c *hub.Claimed, task connector.Task, con Connector, t *trace, result hub.Result) hub.Finished {
	t.mu.Lock()
	defer t.mu.Unlock()
	if result.Outcome == "" {
		result.Outcome, result.Error = hub.Refused, "the connector gave no outcome"
	}
	if t.wait > 0 && t.sent == 0 && result.Outcome != hub.Delivered && result.Outcome != hub.Skipped {
		dest.rest(t.wait)
		return handBack(c, d.now().Add(t.wait))
	}
	refused := t.refused || result.Status == http.StatusUnauthorized
	if result.Outcome == hub.Refused && refused {
		// Somebody mends the credentials; what is owed meanwhile must not be lost.
		result.Outcome = hub.Retry
	}
	if result.Outcome == hub.Retry && t.unknown {
		// Of a field write too: the lost request may still be carried out, and must not overtake the next one.
		result.Outcome = hub.Uncertain
	}
	switch {
	case result.Outcome == hub.Retry && throttled(result):
		// Not a failure of the destination. A result says it where no header does (Shopify's throttleStatus).
		if result.RetryAfter > 0 {
			rest := min(result.RetryAfter, 15*time.Minute)
			dest.rest(rest)
			if d.config.Pause != nil {
				d.config.Pause(c.Destination, rest)
			}
		}
	case refused && result.Outcome == hub.Retry:
		d.failed(dest, result.Error, true)
	case (result.Outcome == hub.Retry || result.Outcome == hub.Uncertain) && (result.Status == 0 || result.Status >= 500):
		d.failed(dest, result.Error, false)
	default:
		dest.succeeded()
	}
	done := d.settle(c, d.config.Vendor, result)
	if done.State == hub.DeliveryRetrying && (done.Uncertain || task.Lookup) {
		// While an earlier attempt is in doubt, a failed look-up leaves it so.
		done.Uncertain = true
		if ready := d.now().Add(con.CompletesWithin()); done.DueAt.Before(ready) {
			done.DueAt = ready
		}
	}
	return done
}

// failed counts a failure of the destination and tells about an opening breaker.
func (d *Dispatcher) failed(dest *destination, reason string, trip bool) {
	if dest.failed(reason, trip) {
		s := dest.status()
		d.log.Warn("breaker opened", "destination", dest.name, "until", s.Until, "failures", s.Failures, "error", reason)
	}
}

// throttled reports that the vendor works but wants less of us: 429, 503 with a time, or a time inside a success.
func throttled(r hub.Result) bool {
	return r.Status == http.StatusTooManyRequests || (r.RetryAfter > 0 && (r.Status == http.StatusServiceUnavailable || r.Status/100 == 2))
}
