package delivery

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/hub"
)

const urlSecret = "hook-token-9f"

// vendor is a fake connector whose record of tasks is what would stand in the vendor's own system.
type vendor struct {
	mu      sync.Mutex
	perform func(ctx context.Context, call connector.Call, in connector.Task) hub.Result
	fetch   func(ctx context.Context, call connector.Call, rows []hub.HydrationRecord) ([]connector.Fetched, error)
	events  func(row hub.HydrationRecord, body []byte, gone bool) (connector.Normalized, error)
	tasks   map[string]int // by reference
	tried   []connector.Task
	at      []time.Time
	batch   int
}

func (v *vendor) Can(action string) bool         { return action != "teleport" }
func (v *vendor) CompletesWithin() time.Duration { return time.Minute }
func (v *vendor) FetchBatch(string) int          { return v.batch }

func (v *vendor) Perform(ctx context.Context, call connector.Call, _ *hub.Connection, in connector.Task) hub.Result {
	v.mu.Lock()
	v.tried, v.at = append(v.tried, in), append(v.at, time.Now())
	perform := v.perform
	v.mu.Unlock()
	if perform == nil {
		return hub.Result{Outcome: hub.Delivered, Status: 200}
	}
	return perform(ctx, call, in)
}

func (v *vendor) Writes(in connector.Task, _ *hub.Connection) []hub.FieldChange {
	if in.Action.Name != "set_stage" {
		return nil
	}
	return []hub.FieldChange{{Object: "contact", ID: "7", Field: fmt.Sprint(in.Action.Params["field"]), Value: fmt.Sprint(in.Action.Params["value"])}}
}

func (v *vendor) Fetch(ctx context.Context, call connector.Call, _ *hub.Connection, rows []hub.HydrationRecord) ([]connector.Fetched, error) {
	return v.fetch(ctx, call, rows)
}

func (v *vendor) FetchedEvents(row hub.HydrationRecord, body []byte, gone bool, _ *hub.Connection, _ int64) (connector.Normalized, error) {
	return v.events(row, body, gone)
}

func (v *vendor) attempts() []connector.Task {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]connector.Task(nil), v.tried...)
}

// receiver is a subscriber.
type receiver struct {
	mu     sync.Mutex
	answer func(id string, n int) (int, time.Duration, error) // n counts the requests with that id
	got    []received
	seen   map[string]int
}

type received struct {
	url, id, body string
	header        http.Header
	at            time.Time
}

func (r *receiver) Post(_ context.Context, url string, header http.Header, body []byte, _ bool) (int, time.Duration, error) {
	id := header.Get("Webhook-Id")
	r.mu.Lock()
	if r.seen == nil {
		r.seen = map[string]int{}
	}
	r.seen[id]++
	n, answer := r.seen[id], r.answer
	r.got = append(r.got, received{url, id, string(body), header, time.Now()})
	r.mu.Unlock()
	if answer == nil {
		return 200, 0, nil
	}
	return answer(id, n)
}

func (r *receiver) live() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []received
	for _, g := range r.got {
		if !strings.HasPrefix(g.id, "tst_") {
			out = append(out, g)
		}
	}
	return out
}

type published struct {
	mu     sync.Mutex
	events []hub.Event
	fail   error
}

func (p *published) PublishEvents(_ context.Context, events []hub.Event) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fail != nil {
		return p.fail
	}
	for i := range events {
		if strings.HasPrefix(events[i].ID, "evt_unwritable") {
			return fmt.Errorf("event %s: a number is not finite: %w", events[i].ID, hub.ErrInvalid)
		}
	}
	p.events = append(p.events, events...)
	return nil
}

// bench is a dispatcher in a bubble with everything around it.
type bench struct {
	*Dispatcher
	t         *testing.T
	store     *memory
	receiver  *receiver
	published *published
	log       *bytes.Buffer
	calls     func(ctx context.Context, req connector.Request) (connector.Response, error)

	mu            sync.Mutex
	connections   map[string]Connector
	subscriptions map[string]Subscription
	stop          func()
}

func start(t *testing.T, change func(*bench, *Config)) *bench {
	t.Helper()
	b := &bench{
		t: t, store: newMemory(time.Now), receiver: &receiver{}, published: &published{}, log: &bytes.Buffer{},
		connections: map[string]Connector{}, subscriptions: map[string]Subscription{},
	}
	b.calls = func(context.Context, connector.Request) (connector.Response, error) {
		return connector.Response{Status: 200}, nil
	}
	call := func(*hub.Connection, Connector) connector.Call { return b.calls }
	config := Config{
		Store: b.store, Publisher: b.published, Poster: b.receiver, Call: call, HydrateCall: call,
		Connection: func(name string) (*hub.Connection, Connector, bool) {
			b.mu.Lock()
			defer b.mu.Unlock()
			con, ok := b.connections[name]
			return &hub.Connection{Name: name, Connector: "fake"}, con, ok
		},
		Subscription: func(name string) (Subscription, bool) {
			b.mu.Lock()
			defer b.mu.Unlock()
			s, ok := b.subscriptions[name]
			return s, ok
		},
		Activation: func(string) int64 { return 4 }, Source: "stagewire/acme", PublicURL: "https://hub.example.com/",
		Random: func() float64 { return 0.5 }, Log: slog.New(slog.NewJSONHandler(b.log, nil)),
	}
	if change != nil {
		change(b, &config)
	}
	b.Dispatcher = New(config)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		if err := b.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
		close(ended)
	}()
	b.stop = func() { cancel(); <-ended }
	t.Cleanup(b.stop)
	return b
}

// rarely is for tests of days: the store is not asked five times a second.
func rarely(_ *bench, c *Config) { c.Poll = 20 * time.Second }

func (b *bench) subscribe(s Subscription) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.URL == "" {
		s.URL = "https://" + s.Name + ".example.com/" + urlSecret
	}
	if s.Secrets == nil {
		s.Secrets = []hub.Secret{hub.NewSecret("whsec_dGVzdC1zZWNyZXQtc3RhbmRhcmQtd2ViaG9va3MhISE=")}
	}
	b.subscriptions[s.Name] = s
}

func (b *bench) connect(name string, v *vendor) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if v == nil {
		delete(b.connections, name)
		return
	}
	b.connections[name] = v
}

func (b *bench) states(want string, ids ...string) {
	b.t.Helper()
	for _, id := range ids {
		if got := b.store.get(id); got.State != want {
			b.t.Errorf("%s is %s after %d attempts (last %+v), want %s", id, got.State, got.Attempts, b.store.attempts[id], want)
		}
	}
}

func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func event(id string) []byte {
	return fmt.Appendf(nil, `{"specversion":"1.0","data":{"id":"inner"},"id":%q,"type":"stagewire.stage.entered.v1"}`, id)
}

func callbackTo(subscription, id, customer string) hub.Claimed {
	return hub.Claimed{Delivery: hub.Delivery{ID: id, Destination: SubscriptionPrefix + subscription, Action: "callback", CustomerID: customer, Body: event("stg_" + id)}}
}

func task(destination, id string) hub.Claimed {
	return hub.Claimed{Delivery: hub.Delivery{ID: id, Destination: destination, Action: "create_task", CustomerID: "cus_1", Reference: id, Params: map[string]any{"subject": "Win back"}}}
}

func field(destination, id, value string) hub.Claimed {
	return hub.Claimed{
		Delivery: hub.Delivery{ID: id, Destination: destination, Action: "set_stage", Slot: "slot-" + id, Params: map[string]any{"field": "lifecyclestage"}},
		Desired:  &hub.Desired{Slot: "slot-" + id, Field: "lifecyclestage", Action: "set_stage", Mode: "if_ours", Value: value, Generation: 1},
	}
}

func TestDelivers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, v := start(t, nil), &vendor{}
		b.connect("crm", v)
		b.store.add(task("crm", "dlv_1"), task("crm", "dlv_2"))
		b.Wake()
		synctest.Wait()
		b.states(hub.DeliveryDelivered, "dlv_1", "dlv_2")
		if n := len(b.store.sends); n != 2 {
			t.Errorf("%d journalled before sending", n)
		}
		line := b.log.String()
		for _, want := range []string{`"delivery_id":"dlv_1"`, `"destination":"crm"`, `"action":"create_task"`, `"attempt":1`, `"outcome":"delivered"`, `"status":200`, `"duration_ms":`, `"error":""`} {
			if !strings.Contains(line, want) {
				t.Errorf("log line misses %s: %s", want, line)
			}
		}
		// Found by the poll as well, without being woken.
		b.store.add(task("crm", "dlv_3"))
		settle(250 * time.Millisecond)
		b.states(hub.DeliveryDelivered, "dlv_3")
	})
}

func TestOutcomes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, v := start(t, nil), &vendor{}
		b.connect("crm", v)
		v.perform = func(_ context.Context, _ connector.Call, in connector.Task) hub.Result {
			switch in.Reference {
			case "refused":
				return hub.Result{Outcome: hub.Refused, Status: 400, Error: "no such field"}
			case "skipped":
				return hub.Result{Outcome: hub.Skipped, Status: 404, Error: "no record there"}
			case "retry":
				return hub.Result{Outcome: hub.Retry, Status: 409, Error: "busy record", RetryAfter: time.Hour}
			case "nothing":
				return hub.Result{}
			case "panics":
				panic("manifest fault")
			}
			return hub.Result{Outcome: hub.Delivered, Status: 201, ExternalID: "T-1"}
		}
		teleport := task("crm", "teleport")
		teleport.Action = "teleport"
		b.store.add(task("crm", "fine"), task("crm", "refused"), task("crm", "skipped"), task("crm", "retry"), task("crm", "nothing"), task("crm", "panics"), teleport)
		b.Wake()
		synctest.Wait()
		b.states(hub.DeliveryDelivered, "fine")
		b.states(hub.DeliveryDead, "refused", "nothing", "teleport")
		b.states(hub.DeliverySkipped, "skipped")
		b.states(hub.DeliveryRetrying, "retry", "panics")
		if got := b.store.get("fine").ExternalID; got != "T-1" {
			t.Errorf("external id %q", got)
		}
		if due := b.store.get("retry").DueAt; due.Before(time.Now().Add(time.Hour)) {
			t.Errorf("asked for an hour, due %s", time.Until(due))
		}
	})
}

// A worker that dies after sending leaves a delivery that is looked up, no sooner than the vendor's time after sending, and the task
// exists once. What the dead worker says later counts for nothing.
func TestCrashAfterSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &vendor{tasks: map[string]int{}}
		b := start(t, nil)
		v.perform = func(_ context.Context, _ connector.Call, in connector.Task) hub.Result {
			v.mu.Lock()
			defer v.mu.Unlock()
			if in.Lookup && v.tasks[in.Reference] > 0 {
				return hub.Result{Outcome: hub.Delivered, Status: 200, ExternalID: "found"}
			}
			v.tasks[in.Reference]++
			return hub.Result{Outcome: hub.Delivered, Status: 201, ExternalID: "made"}
		}
		// The other process: claimed, journalled, sent, and gone.
		b.store.add(task("crm", "sent"), task("crm", "unsent"))
		died, err := b.store.Claim(t.Context(), "crm", time.Now(), 3*time.Minute, 2, false)
		if err != nil || len(died) != 2 {
			t.Fatal(died, err)
		}
		settle(150 * time.Second)
		sentAt := time.Now()
		_ = b.store.Sending(t.Context(), []hub.Send{{DeliveryID: "sent", Claim: died[0].Claim, SentAt: sentAt}})
		v.tasks["sent"] = 1
		b.connect("crm", v)

		settle(20 * time.Second)
		if n := len(v.attempts()); n != 0 {
			t.Fatalf("%d attempts before the lease ran out", n)
		}
		settle(11 * time.Second)
		b.states(hub.DeliveryDelivered, "unsent") // never sent: nothing to look up
		if in := v.attempts(); len(in) != 1 || in[0].Lookup {
			t.Fatalf("attempts %+v", in)
		}
		b.states(hub.DeliveryDue, "sent")
		if due := b.store.get("sent"); due.DueAt != sentAt.Add(time.Minute) || due.Attempts != 0 || !due.Uncertain {
			t.Fatalf("uncertain delivery: %+v", due.Delivery)
		}
		_ = b.store.Finish(t.Context(), []hub.Finished{{DeliveryID: "sent", Claim: died[0].Claim, State: hub.DeliveryDead}})
		settle(time.Minute)
		b.states(hub.DeliveryDelivered, "sent")
		if in := v.attempts(); len(in) != 2 || !in[1].Lookup || v.at[1].Before(sentAt.Add(time.Minute)) {
			t.Fatalf("attempts %+v at %v", in, v.at)
		}
		if v.tasks["sent"] != 1 || b.store.get("sent").ExternalID != "found" {
			t.Errorf("task exists %d times", v.tasks["sent"])
		}
	})
}

// A request that may have arrived makes the outcome uncertain, whatever the manifest makes of it; a failing look-up leaves it so.
func TestLostAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, v := start(t, nil), &vendor{tasks: map[string]int{}}
		b.connect("crm", v)
		lookups := 0
		b.calls = func(_ context.Context, req connector.Request) (connector.Response, error) {
			if req.Method == http.MethodPost {
				v.tasks["dlv"]++ // it arrived
				return connector.Response{}, fmt.Errorf("connection closed: %w", hub.ErrTransient)
			}
			if lookups++; lookups < 3 {
				return connector.Response{Status: 503}, nil
			}
			return connector.Response{Status: 200}, nil
		}
		v.perform = func(ctx context.Context, call connector.Call, in connector.Task) hub.Result {
			if in.Lookup {
				resp, _ := call(ctx, connector.Request{Method: "GET"})
				if resp.Status != 200 {
					return hub.Result{Outcome: hub.Retry, Status: resp.Status}
				}
				return hub.Result{Outcome: hub.Delivered, Status: 200}
			}
			_, err := call(ctx, connector.Request{Method: "POST"})
			return hub.Result{Outcome: hub.Retry, Error: err.Error()}
		}
		b.store.add(task("crm", "dlv"))
		b.Wake()
		settle(5 * time.Minute)
		b.states(hub.DeliveryDelivered, "dlv")
		if v.tasks["dlv"] != 1 {
			t.Errorf("sent %d times", v.tasks["dlv"])
		}
		for i := 1; i < len(v.at); i++ {
			if gap := v.at[i].Sub(v.at[i-1]); gap < time.Minute || !v.tried[i].Lookup {
				t.Errorf("attempt %d after %s, look-up %t", i+1, gap, v.tried[i].Lookup)
			}
		}
		if got := b.store.attempts["dlv"][0].Outcome; got != hub.Uncertain {
			t.Errorf("first outcome %s", got)
		}
	})
}

type notSent struct{ wait time.Duration }

func (notSent) Error() string               { return "limited" }
func (notSent) Unwrap() []error             { return []error{hub.ErrBusy, connector.ErrNotSent} }
func (n notSent) RetryAfter() time.Duration { return n.wait }

// The connection's limiter costs no attempt, only time.
func TestThrottledByLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, v := start(t, nil), &vendor{}
		b.connect("crm", v)
		free := time.Now().Add(40 * time.Second)
		b.calls = func(context.Context, connector.Request) (connector.Response, error) {
			if wait := time.Until(free); wait > 0 {
				return connector.Response{}, notSent{wait}
			}
			return connector.Response{Status: 200}, nil
		}
		v.perform = func(ctx context.Context, call connector.Call, _ connector.Task) hub.Result {
			if _, err := call(ctx, connector.Request{Method: "POST"}); err != nil {
				return hub.Result{Outcome: hub.Retry, Error: err.Error()}
			}
			return hub.Result{Outcome: hub.Delivered, Status: 200}
		}
		b.store.add(task("crm", "a"), task("crm", "b"), task("crm", "c"), task("crm", "d"), task("crm", "e"), task("crm", "f"))
		b.Wake()
		settle(39 * time.Second)
		if n := len(v.attempts()); n > 4 {
			t.Errorf("asked %d times while the limiter wanted quiet", n)
		}
		settle(2 * time.Second)
		b.states(hub.DeliveryDelivered, "a", "b", "c", "d", "e", "f")
		if n := b.store.get("a").Attempts; n != 1 {
			t.Errorf("%d attempts counted", n)
		}
	})
}

// An outage opens the breaker; while it is open nothing is sent and no attempts are used up; other destinations do not notice.
func TestSickDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, sick, fine, hanging := start(t, rarely), &vendor{}, &vendor{}, &vendor{}
		recovers := time.Now().Add(2 * time.Hour)
		sick.perform = func(context.Context, connector.Call, connector.Task) hub.Result {
			if time.Now().Before(recovers) {
				return hub.Result{Outcome: hub.Retry, Status: 503, Error: "status 503"}
			}
			return hub.Result{Outcome: hub.Delivered, Status: 200}
		}
		hanging.perform = func(ctx context.Context, _ connector.Call, _ connector.Task) hub.Result {
			<-ctx.Done()
			return hub.Result{Outcome: hub.Uncertain, Error: "timed out"}
		}
		b.connect("sick", sick)
		b.connect("fine", fine)
		b.connect("hanging", hanging)
		var ids []string
		for i := range 200 {
			id := fmt.Sprint("sick", i)
			ids = append(ids, id)
			b.store.add(task("sick", id), task("hanging", fmt.Sprint("hanging", i)))
		}
		settle(time.Minute)
		if s, ok := b.Status("sick"); !ok || s.Breaker != BreakerOpen || s.LastError != "status 503" || s.Until.IsZero() {
			t.Errorf("status %+v", s)
		}
		before := len(sick.attempts())
		if before > 20 {
			t.Errorf("%d attempts within the first minute of an outage", before)
		}
		began := time.Now()
		b.store.add(task("fine", "fine"))
		b.Wake()
		synctest.Wait()
		b.states(hub.DeliveryDelivered, "fine")
		if time.Since(began) > 0 {
			t.Errorf("a healthy destination waited %s", time.Since(began))
		}
		settle(time.Until(recovers))
		if n := len(sick.attempts()); n > 60 {
			t.Errorf("%d attempts in two hours of outage", n)
		}
		settle(20 * time.Minute)
		b.states(hub.DeliveryDelivered, ids...)
		if s, _ := b.Status("sick"); s.Breaker != BreakerClosed || s.LastError != "" {
			t.Errorf("after recovery %+v", s)
		}
	})
}

// Refused credentials lose nothing: the breaker opens at once and everything is delivered when somebody has mended them.
func TestRefusedCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, v := start(t, rarely), &vendor{}
		b.connect("crm", v)
		var mended atomic.Bool
		v.perform = func(context.Context, connector.Call, connector.Task) hub.Result {
			if !mended.Load() {
				return hub.Result{Outcome: hub.Refused, Status: 401, Error: "status 401"}
			}
			return hub.Result{Outcome: hub.Delivered, Status: 200}
		}
		var ids []string
		for i := range 50 {
			ids = append(ids, fmt.Sprint("dlv", i))
			b.store.add(task("crm", ids[i]))
		}
		settle(time.Hour)
		if n := len(v.attempts()); n > 30 {
			t.Errorf("%d attempts with refused credentials in an hour", n)
		}
		mended.Store(true)
		settle(30 * time.Minute)
		b.states(hub.DeliveryDelivered, ids...)
	})
}

func TestGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, v := start(t, rarely), &vendor{}
		b.connect("crm", v)
		v.perform = func(context.Context, connector.Call, connector.Task) hub.Result {
			return hub.Result{Outcome: hub.Retry, Status: 409, Error: "locked"}
		}
		b.store.add(task("crm", "dlv"))
		settle(71 * time.Hour)
		b.states(hub.DeliveryRetrying, "dlv")
		settle(2 * time.Hour)
		b.states(hub.DeliveryDead, "dlv")
		if all := b.store.attempts["dlv"]; !strings.Contains(all[len(all)-1].Error, "given up after") {
			t.Errorf("last error %q", all[len(all)-1].Error)
		}
	})
}

func TestDesiredState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, v := start(t, nil), &vendor{}
		equal, rewritten, gone, never, tag := field("crm", "equal", "loyal"), field("crm", "rewritten", "loyal"), field("crm", "gone", "x"), field("crm", "never", "x"), field("crm", "tag", "stage:lost")
		equal.Desired.Written, equal.Desired.WrittenGeneration = "loyal", 1
		rewritten.Desired.Written, rewritten.Desired.WrittenGeneration, rewritten.Attempts = "loyal", 1, 1 // an attempt failed after it may have left something else
		gone.Desired = nil
		never.Desired.Mode = "never"
		tag.Desired.Field, tag.Desired.Action, tag.Desired.Written, tag.Params = "tag:stage:${stage}", "add_tag", "stage:active", map[string]any{"field": "tag:stage:${stage}"}
		// The value changes while it is being written.
		changing := field("crm", "changing", "active")
		release := make(chan struct{})
		v.perform = func(_ context.Context, _ connector.Call, in connector.Task) hub.Result {
			if in.Action.Params["value"] == "active" {
				<-release
			}
			return hub.Result{Outcome: hub.Delivered, Status: 200}
		}
		b.connect("crm", v)
		b.store.add(equal, rewritten, gone, never, tag, changing)
		b.Wake()
		synctest.Wait()
		b.states(hub.DeliverySkipped, "equal", "gone", "never")
		b.states(hub.DeliveryDelivered, "rewritten", "tag")
		b.store.mu.Lock()
		row := b.store.deliveries["changing"].Desired
		row.Value, row.Generation = "lost", 2
		row.Value, row.Generation = "loyal", 3
		b.store.mu.Unlock()
		close(release)
		settle(time.Second)
		b.states(hub.DeliveryDelivered, "changing")
		var values []string
		for _, in := range v.attempts() {
			if in.Action.Params["field"] != nil && in.Previous != "loyal" {
				values = append(values, fmt.Sprint(in.Action.Params["value"], " after ", in.Previous, " ", in.Mode))
			}
			if in.Action.Name == "add_tag" && (in.Action.Params["tag"] != "stage:lost" || in.Previous != "stage:active" || in.Action.Params["field"] != nil) {
				t.Errorf("tag: %+v", in)
			}
		}
		if got := strings.Join(values, ", "); got != "active after  if_ours, loyal after active if_ours" {
			t.Errorf("wrote %s", got)
		}
		if row.Written != "loyal" || row.WrittenGeneration != 3 {
			t.Errorf("row %+v", row)
		}
		// Journalled for the echo before it was sent.
		last := b.store.sends[len(b.store.sends)-1]
		if len(last.Writes) != 1 || last.Writes[0].Connection != "crm" || last.Writes[0].Value != "loyal" || last.Writes[0].SentAt != last.SentAt {
			t.Errorf("journal %+v", last)
		}
	})
}

// Nothing is sent that is not journalled.
func TestStoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, v := start(t, nil), &vendor{}
		b.connect("crm", v)
		down := fmt.Errorf("database is down: %w", hub.ErrTransient)
		v.perform = func(context.Context, connector.Call, connector.Task) hub.Result {
			b.store.failing(down) // between sending and recording
			return hub.Result{Outcome: hub.Delivered, Status: 200}
		}
		b.store.add(task("crm", "a"))
		b.Wake()
		settle(30 * time.Second)
		if n := len(v.attempts()); n != 1 {
			t.Errorf("%d attempts", n)
		}
		v.mu.Lock()
		v.perform = nil
		v.mu.Unlock()
		b.store.failing(nil)
		settle(5 * time.Second)
		b.states(hub.DeliveryDelivered, "a") // the outcome was kept
		if n := len(v.attempts()); n != 1 {
			t.Errorf("%d attempts, the first outcome was lost", n)
		}
	})
}

func TestConnectionGoneAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, v := start(t, nil), &vendor{}
		b.store.add(task("crm", "a"), task("crm", "b"))
		settle(time.Minute)
		b.states(hub.DeliveryParked, "a", "b")
		if n := b.store.get("a").Attempts; n != 0 {
			t.Errorf("%d attempts counted", n)
		}
		b.connect("crm", v)
		b.Reloaded()
		synctest.Wait()
		b.states(hub.DeliveryDelivered, "a", "b")
		b.connect("crm", nil)
		b.store.add(task("crm", "c"))
		settle(time.Second)
		b.states(hub.DeliveryParked, "c")
		b.connect("crm", v)
		settle(15 * time.Second) // noticed without being told
		b.states(hub.DeliveryDelivered, "c")
	})
}

// asking counts how often the store is asked for destinations.
type asking struct {
	*memory
	asked int
}

func (a *asking) Destinations(ctx context.Context, now time.Time) ([]string, error) {
	a.asked++
	return a.memory.Destinations(ctx, now)
}

// Where it is told what became due, delivery does not ask for it: neither when it starts a worker nor while one runs.
func TestOwed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store *asking
		b, v := start(t, func(b *bench, c *Config) {
			store = &asking{memory: b.store}
			c.Store, c.Poll = store, time.Hour
		}), &vendor{}
		v.perform = func(context.Context, connector.Call, connector.Task) hub.Result {
			time.Sleep(10 * time.Second)
			return hub.Result{Outcome: hub.Delivered, Status: 200}
		}
		b.connect("crm", v)
		b.subscribe(Subscription{Name: "erp", Paused: true})
		synctest.Wait()
		before := store.asked
		b.store.add(task("crm", "dlv_1"), callbackTo("erp", "dlv_p", "cus_1"))
		b.Owed([]string{"crm", SubscriptionPrefix + "erp"})
		settle(5 * time.Second)
		b.store.add(task("crm", "dlv_2"))
		b.Owed([]string{"crm"})
		settle(6 * time.Second)
		b.states(hub.DeliveryDelivered, "dlv_1")
		b.states(hub.DeliverySending, "dlv_2")
		b.states(hub.DeliveryDue, "dlv_p")
		settle(5 * time.Second)
		b.states(hub.DeliveryDelivered, "dlv_2")
		b.store.add(task("crm", "dlv_3"))
		b.Owed([]string{"crm"}) // the worker has ended
		settle(11 * time.Second)
		b.states(hub.DeliveryDelivered, "dlv_3")
		if store.asked != before {
			t.Errorf("asked %d times", store.asked-before)
		}
		b.store.add(task("crm", "dlv_4")) // nobody tells
		settle(2 * time.Hour)
		b.states(hub.DeliveryDelivered, "dlv_4")
	})
}

// At the end attempts under way finish, those that do not within the grace are cut, and what was only claimed is handed back.
func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, quick, stuck := start(t, nil), &vendor{}, &vendor{}
		quick.perform = func(context.Context, connector.Call, connector.Task) hub.Result {
			time.Sleep(3 * time.Second)
			return hub.Result{Outcome: hub.Delivered, Status: 200}
		}
		stuck.perform = func(ctx context.Context, _ connector.Call, _ connector.Task) hub.Result {
			<-ctx.Done()
			return hub.Result{Outcome: hub.Uncertain, Error: "cancelled"}
		}
		b.connect("quick", quick)
		b.connect("stuck", stuck)
		b.subscribe(Subscription{Name: "erp"})
		b.receiver.answer = func(string, int) (int, time.Duration, error) { time.Sleep(2 * time.Second); return 200, 0, nil }
		b.store.settings[settingVerified+"erp"] = hashURL(b.subscriptions["erp"].URL)
		b.store.add(task("quick", "quick"), task("stuck", "stuck"))
		for i := range 3 {
			b.store.add(callbackTo("erp", fmt.Sprint("cb", i), fmt.Sprint("cus", i)))
		}
		b.Wake()
		synctest.Wait()
		began := time.Now()
		b.stop()
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("ended after %s", took)
		}
		b.states(hub.DeliveryDelivered, "quick", "cb0")
		if got := b.store.get("stuck"); got.State != hub.DeliveryRetrying || !got.Uncertain {
			t.Errorf("stuck: %+v", got.Delivery)
		}
		for id, k := range b.store.deliveries {
			if k.State == hub.DeliverySending {
				t.Errorf("%s is left sending", id)
			}
		}
	})
}

// What was claimed and not begun is due at once for whoever comes next, not when a lease would have run out.
func TestHandedBackIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, func(_ *bench, c *Config) { c.Concurrency = 1 })
		b.subscribe(Subscription{Name: "erp"})
		b.receiver.answer = func(string, int) (int, time.Duration, error) { time.Sleep(2 * time.Second); return 200, 0, nil }
		b.store.settings[settingVerified+"erp"] = hashURL(b.subscriptions["erp"].URL)
		for i := range 3 {
			b.store.add(callbackTo("erp", fmt.Sprint("cb", i), fmt.Sprint("cus", i)))
		}
		b.Wake()
		synctest.Wait()
		b.stop()
		b.states(hub.DeliveryDelivered, "cb0")
		b.states(hub.DeliveryDue, "cb1", "cb2")
		for _, id := range []string{"cb1", "cb2"} {
			if d := b.store.get(id); d.DueAt.After(time.Now()) {
				t.Errorf("%s is due at %v, it is %v", id, d.DueAt, time.Now())
			}
		}
	})
}
