package connectors_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stagewire/stagewire/internal/client"
	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/sandbox"
)

// account is a CRM played by the sandbox, with the connector and the client that real connections use: what the manifest believes of
// its vendor is held against somebody else's reading of the same documentation.
type account struct {
	testing.TB
	box  *sandbox.Sandbox
	name string
	c    *connector.Connector
	conn *hub.Connection
	call connector.Call

	mu    sync.Mutex
	hooks []*hub.Webhook
	kinds []string // of the events heard
	heard []hub.Event
}

const hubURL = "https://hub.example.com"

// tokenStore keeps tokens in memory.
type tokenStore struct {
	mu     sync.Mutex
	sealed map[string][]byte
}

func (s *tokenStore) Token(_ context.Context, connection string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.sealed[connection]; t != nil {
		return t, nil
	}
	return nil, hub.ErrNotFound
}

func (s *tokenStore) RefreshToken(_ context.Context, connection string, fn func([]byte) ([]byte, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := fn(s.sealed[connection])
	if err == nil {
		s.sealed[connection] = t
	}
	return err
}

// RoundTrip is the hub's side of the sandbox's webhooks: they are kept.
func (a *account) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	w := &hub.Webhook{Connection: a.conn.Name, ReceivedAt: time.Now(), Method: r.Method, URL: r.URL.String(), Body: body, Activation: 1}
	for name, values := range r.Header {
		w.Headers = append(w.Headers, hub.Header{Name: name, Value: values[0]})
	}
	w.ID = a.c.WebhookID(w)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hooks = append(a.hooks, w)
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(nil)), Request: r}, nil
}

// server answers requests by a handler, without a socket: so all of it runs in a bubble, on a clock of its own.
type server struct{ http.Handler }

func (s server) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	defer func() {
		if recover() == http.ErrAbortHandler { //nolint:errorlint // a panic's value
			resp, err = nil, io.ErrUnexpectedEOF
		}
	}()
	in := r.Clone(r.Context())
	if in.Body == nil {
		in.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, in)
	return w.Result(), nil
}

func open(t *testing.T, vendor string, settings map[string]string) *account {
	t.Helper()
	c, ok := load(t).Get(vendor)
	if !ok {
		t.Fatalf("no connector %s", vendor)
	}
	a := &account{TB: t, name: vendor, c: c}
	a.conn = &hub.Connection{Name: "crm", Connector: vendor, Settings: map[string]string{}, Secrets: map[string][]hub.Secret{}, AllowPrivate: true}
	a.box = sandbox.New(sandbox.Config{Hub: hubURL, Transport: a, Seed: 1})
	for key, value := range a.box.Account(vendor) {
		if c.Settings()[key].Secret {
			a.conn.Secrets[key] = []hub.Secret{hub.NewSecret(value)}
		} else {
			a.conn.Settings[key] = value
		}
	}
	maps.Copy(a.conn.Settings, settings)
	a.conn.BaseURL = "http://127.0.0.1" + sandbox.Prefix(vendor)
	if problems := c.CheckConnection(a.conn); len(problems) > 0 {
		t.Fatal(problems)
	}
	sealer, err := client.NewSealer(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	cl := client.New(client.Config{Tokens: &tokenStore{sealed: map[string][]byte{}}, Sealer: sealer, Transport: server{a.box.Handler()}})
	t.Cleanup(cl.Close)
	a.call = cl.For(a.conn, c)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = a.box.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	a.provision()
	return a
}

// provision makes the fields the connector needs, and finds them the second time.
func (a *account) provision() {
	a.Helper()
	for _, want := range []string{connector.PlannedMissing, connector.PlannedCreated, connector.PlannedExists} {
		plan, err := a.c.Provision(context.Background(), a.call, a.conn, want != connector.PlannedMissing)
		if err != nil || len(plan) == 0 {
			a.Fatalf("provision: %v %v", plan, err)
		}
		for _, p := range plan {
			if p.Detail != "" && p.State == connector.PlannedExists && want != connector.PlannedExists {
				continue // there from the beginning, only looked at
			}
			if p.State != want {
				a.Fatalf("provision %s: %s %s, want %s", p.Name, p.State, p.Error, want)
			}
		}
	}
}

func (a *account) play(step sandbox.Step) {
	a.Helper()
	step.Vendor = a.name
	if err := a.box.Play(context.Background(), step); err != nil {
		a.Fatal(err)
	}
}

// listen waits until every webhook has come, and turns them into events as the pipeline does: verify, map, fetch.
func (a *account) listen() {
	a.Helper()
	time.Sleep(2 * time.Second) // in the bubble: what is due goes out, and no two steps share a second
	synctest.Wait()
	if !a.box.Idle() {
		a.Fatal("webhooks are still under way")
	}
	a.mu.Lock()
	hooks := a.hooks
	a.hooks = nil
	a.mu.Unlock()
	for _, w := range hooks {
		if err := a.c.Accepts(w.Method, w.Header("Content-Type")); err != nil {
			a.Fatal(err)
		}
		if err := a.c.Verify(w, a.conn, w.ReceivedAt); err != nil {
			a.Fatal(err)
		}
		n, err := a.c.Normalize(w, a.conn)
		if err != nil {
			a.Fatal(err)
		}
		a.take(n)
		for queue := n.Hydrate; len(queue) > 0; {
			rows := queue[:1]
			queue = queue[1:]
			for len(queue) > 0 && queue[0].Object == rows[0].Object && len(rows) < a.c.FetchBatch(rows[0].Object) {
				rows, queue = append(slices.Clone(rows), queue[0]), queue[1:]
			}
			fetched, err := a.c.Fetch(context.Background(), a.call, a.conn, rows)
			if err != nil {
				a.Fatal(err)
			}
			for _, f := range fetched {
				if f.Err != nil {
					a.Fatal(f.Err)
				}
				n, err := a.c.FetchedEvents(f.Row, f.Body, f.Gone, a.conn, 1)
				if err != nil {
					a.Fatal(err)
				}
				a.take(n)
				queue = append(queue, n.Hydrate...)
			}
		}
	}
}

func (a *account) take(n connector.Normalized) {
	for i := range n.Events {
		ev := n.Events[i]
		known := slices.ContainsFunc(a.heard, func(o hub.Event) bool { return o.ID == ev.ID })
		if known {
			continue
		}
		a.heard = append(a.heard, ev)
		kind := ev.Kind
		if ev.Echo {
			kind += " (echo)"
		}
		a.kinds = append(a.kinds, kind)
	}
}

// hears plays steps and checks the kinds of the events that come of them, in any order.
func (a *account) hears(want ...string) {
	a.Helper()
	a.kinds = nil
	a.listen()
	slices.Sort(a.kinds)
	slices.Sort(want)
	if d := cmp.Diff(want, a.kinds); d != "" {
		a.Errorf("events (-want +got):\n%s", d)
	}
}

func (a *account) perform(task connector.Task) hub.Result {
	a.Helper()
	if task.Recipient.Identifiers == nil {
		task.Recipient.Identifiers = []hub.Identifier{{Kind: "email", Value: "mei@example.com"}}
	}
	return a.c.Perform(context.Background(), a.call, a.conn, task)
}

func (a *account) want(r hub.Result, outcome hub.Outcome) {
	a.Helper()
	if r.Outcome != outcome {
		a.Errorf("outcome %s (status %d, %s), want %s", r.Outcome, r.Status, r.Error, outcome)
	}
}

func (a *account) field(name string) string {
	a.Helper()
	for _, c := range a.box.State()[a.name].Customers {
		if c.Email == "mei@example.com" && !c.Deleted {
			return c.Fields[name]
		}
	}
	a.Fatal("no such customer")
	return ""
}

func stage(field, value, previous, mode string) connector.Task {
	return connector.Task{Action: hub.Action{Name: "set_stage", Params: map[string]any{"field": field, "value": value}}, Previous: previous, Mode: mode}
}

func task(reference string) connector.Task {
	return connector.Task{
		Action:    hub.Action{Name: "create_task", Params: map[string]any{"subject": "Win back Mei", "note": "no order for 180 days", "due": map[string]any{"business_days": 2}}},
		Reference: reference, Business: time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC),
	}
}

// taskOnce creates a task although the answer is lost: what is uncertain is looked up, and there is one task in the end.
func (a *account) taskOnce(vendor string) {
	a.Helper()
	lose := func(p float64) { a.box.Set(vendor, func(k *sandbox.Knobs) { k.LoseAnswers = p }) }
	lose(1)
	in := task("dlv_1")
	a.want(a.perform(in), hub.Uncertain)
	in.Lookup = true
	lose(0)
	r := a.perform(in)
	a.want(r, hub.Delivered)
	// A careless second try without looking is caught by the unique field.
	in.Lookup = false
	if again := a.perform(in); again.Outcome == hub.Delivered && again.ExternalID != r.ExternalID {
		a.Errorf("a second task %s beside %s", again.ExternalID, r.ExternalID)
	} else if again.Outcome != hub.Delivered && again.Outcome != hub.Uncertain {
		a.Errorf("the second try: %+v", again)
	}
	// One that never arrived is looked up, not found, and made.
	never := task("dlv_2")
	never.Lookup = true
	a.want(a.perform(never), hub.Delivered)
	tasks := a.box.State()[vendor].Tasks
	if len(tasks) != 2 || tasks[0].ID != r.ExternalID || tasks[0].Customer == "" || tasks[0].Due == "" {
		a.Errorf("tasks %+v, want two, the first %s", tasks, r.ExternalID)
	}
}

func TestHubSpotAgainstSandbox(t *testing.T) { synctest.Test(t, hubspotAgainstSandbox) }

func hubspotAgainstSandbox(t *testing.T) {
	a := open(t, sandbox.HubSpot, nil)
	a.play(sandbox.Step{Do: "customer.created", Customer: "mei@example.com", Name: "Mei Tan", Phone: "+1 202-555-0143"})
	a.hears("customer.created")
	if ids := a.heard[0].Identifiers; len(ids) != 3 {
		t.Errorf("identifiers %+v", ids)
	}
	a.play(sandbox.Step{Do: "customer.updated", Customer: "mei@example.com", Field: "lastname", Value: "Tan-Li"})
	a.play(sandbox.Step{Do: "consent.changed", Customer: "mei@example.com", Value: "unsubscribed"})
	a.hears("customer.updated", "consent.changed")
	a.play(sandbox.Step{Do: "deal.created", Customer: "mei@example.com", Object: "d1", Subject: "40 seats", Amount: "4800"})
	a.hears("deal.created", "customer.updated") // the person is fetched with her deal
	a.play(sandbox.Step{Do: "deal.won", Customer: "mei@example.com", Object: "d1"})
	a.hears("deal.stage_changed", "deal.won")

	// Forward, our own change coming back, then back: cleared first, both steps told.
	a.want(a.perform(stage("lifecyclestage", "customer", "", "if_ours")), hub.Delivered)
	a.hears("stage.set (echo)")
	r := a.perform(stage("lifecyclestage", "lead", "customer", "if_ours"))
	a.want(r, hub.Delivered)
	if r.Values["lifecyclestage"] != "lead" || a.field("lifecyclestage") != "lead" {
		t.Errorf("values %v, field %q", r.Values, a.field("lifecyclestage"))
	}
	a.hears("stage.set (echo)", "stage.set (echo)")
	// Changed by hand: not ours to write.
	a.play(sandbox.Step{Do: "customer.updated", Customer: "mei@example.com", Field: "lifecyclestage", Value: "opportunity"})
	a.hears("stage.set")
	a.want(a.perform(stage("lifecyclestage", "customer", "lead", "if_ours")), hub.Skipped)
	a.want(a.perform(stage("lifecyclestage", "customer", "lead", "if_empty")), hub.Skipped)
	a.want(a.perform(stage("lifecyclestage", "no such stage", "", "always")), hub.Refused)
	if got := a.field("lifecyclestage"); got != "opportunity" {
		t.Errorf("lifecyclestage %q", got)
	}

	a.taskOnce(sandbox.HubSpot)
	a.hears("task.created (echo)", "task.created (echo)")
	a.play(sandbox.Step{Do: "task.completed", Customer: "mei@example.com"})
	a.hears("task.completed")
	if ev := a.heard[len(a.heard)-1]; a.heard[len(a.heard)-2].Properties["reference"] != "dlv_1" && ev.Properties["reference"] != "dlv_1" {
		t.Errorf("the task's reference is not told: %+v", ev.Properties)
	}
	note := connector.Task{Action: hub.Action{Name: "create_note", Params: map[string]any{"text": "moved to lead"}}, Reference: "dlv_3", Business: time.Now()}
	a.want(a.perform(note), hub.Delivered)
	if notes := a.box.State()[sandbox.HubSpot].Notes; len(notes) != 1 || notes[0].Customer == "" {
		t.Errorf("notes %+v", notes)
	}

	a.play(sandbox.Step{Do: "deal.deleted", Customer: "mei@example.com", Object: "d1"})
	a.hears("deal.deleted")
	if ids := a.heard[len(a.heard)-1].Identifiers; len(ids) != 1 {
		t.Errorf("whose deal it was: %+v", ids)
	}

	a.mergedAway()
	a.unmarked(stage("lifecyclestage", "evangelist", "", "always"))
	a.limited(sandbox.HubSpot)
}

// mergedAway writes to a customer whose record was merged into a new one: the old id is gone, the address still finds her.
func (a *account) mergedAway() {
	a.Helper()
	a.play(sandbox.Step{Do: "customer.created", Customer: "m.tan@example.com", Name: "M Tan"})
	a.hears("customer.created")
	var old string
	for _, id := range a.heard[0].Identifiers {
		if id.Record {
			old = id.Value
		}
	}
	a.play(sandbox.Step{Do: "customer.merged", Customer: "mei@example.com", Value: "m.tan@example.com"})
	a.hears("customer.merged", "customer.updated")
	in := stage("lifecyclestage", "customer", "", "always")
	in.Recipient.Identifiers = []hub.Identifier{{Kind: "hubspot_contact", Connection: "crm", Value: old, Record: true}, {Kind: "email", Value: "mei@example.com"}}
	a.want(a.perform(in), hub.Delivered)
	if got := a.field("lifecyclestage"); got != "customer" {
		a.Errorf("the merged record's lifecyclestage is %q", got)
	}
	a.hears("stage.set (echo)")
	nobody := stage("lifecyclestage", "customer", "", "always")
	nobody.Recipient.Identifiers = []hub.Identifier{{Kind: "email", Value: "nobody@example.com"}}
	a.want(a.perform(nobody), hub.Skipped)
}

// unmarked checks that our write is known by its value where the vendor's mark is missing.
func (a *account) unmarked(in connector.Task) {
	a.Helper()
	a.box.Set(a.name, func(k *sandbox.Knobs) { k.SourceID = "2931120" })
	for _, c := range a.box.State()[a.name].Customers {
		if c.Email == "mei@example.com" && !c.Deleted {
			in.Recipient.Identifiers = []hub.Identifier{{Kind: "hubspot_contact", Connection: "crm", Value: c.ID, Record: true}}
		}
	}
	journal := a.c.Writes(in, a.conn)
	a.want(a.perform(in), hub.Delivered)
	before := len(a.heard)
	a.hears("stage.set")
	for _, ev := range a.heard[before:] {
		if ev.Written == nil || !slices.Contains(journal, *ev.Written) {
			a.Errorf("%+v is not in the journal %+v", ev.Written, journal)
		}
	}
}

// limited checks that a vendor that wants quiet is tried again, and that an expired token is renewed by itself.
func (a *account) limited(vendor string) {
	a.Helper()
	a.box.ExpireTokens(vendor)
	a.want(a.perform(stage(a.stageField(), a.field(a.stageField()), "", "always")), hub.Delivered)
	a.box.Set(vendor, func(k *sandbox.Knobs) { k.Outage = true })
	a.want(a.perform(stage(a.stageField(), "lead", "", "always")), hub.Retry)
	a.box.Set(vendor, func(k *sandbox.Knobs) { k.Outage = false; k.Limit = 1 })
	var r hub.Result
	for range 3 {
		r = a.perform(stage(a.stageField(), a.field(a.stageField()), "", "always"))
	}
	a.want(r, hub.Retry)
	a.box.Set(vendor, func(k *sandbox.Knobs) { k.Limit = 0 })
}

func (a *account) stageField() string {
	if a.name == sandbox.Zoho {
		return "Lifecycle_Stage"
	}
	return "lifecyclestage"
}

func TestZohoAgainstSandbox(t *testing.T) { synctest.Test(t, zohoAgainstSandbox) }

func zohoAgainstSandbox(t *testing.T) {
	a := open(t, sandbox.Zoho, map[string]string{"integration_user": "4411220000000411099"})
	a.play(sandbox.Step{Do: "customer.created", Customer: "mei@example.com", Name: "Mei Tan", Phone: "+1 202-555-0143"})
	a.hears("customer.created")
	a.play(sandbox.Step{Do: "customer.updated", Customer: "mei@example.com", Field: "Phone", Value: "+1 202-555-0144"})
	a.play(sandbox.Step{Do: "consent.changed", Customer: "mei@example.com", Value: "unsubscribed"})
	a.hears("customer.updated", "consent.changed")
	a.play(sandbox.Step{Do: "deal.created", Customer: "mei@example.com", Object: "d1", Subject: "40 seats", Amount: "4800"})
	a.hears("deal.created", "customer.updated")
	a.play(sandbox.Step{Do: "deal.won", Customer: "mei@example.com", Object: "d1"})
	a.hears("deal.stage_changed", "deal.updated", "deal.won") // its closing date changed too
	a.play(sandbox.Step{Do: "lead.created", Customer: "bo@example.com", Name: "Bo Li"})
	a.hears("lead.created")

	a.want(a.perform(stage("Lifecycle_Stage", "Active", "", "if_ours")), hub.Delivered)
	a.want(a.perform(stage("Lifecycle_Stage", "Loyal", "Active", "if_ours")), hub.Delivered)
	if got := a.field("Lifecycle_Stage"); got != "Loyal" {
		t.Errorf("stage %q", got)
	}
	a.kinds = nil
	a.listen()
	for _, kind := range a.kinds {
		if kind != "stage.set (echo)" {
			t.Errorf("our own write came back as %s", kind)
		}
	}
	a.play(sandbox.Step{Do: "customer.updated", Customer: "mei@example.com", Field: "Lifecycle_Stage", Value: "Prospect"})
	a.hears("stage.set")
	a.want(a.perform(stage("Lifecycle_Stage", "Active", "Loyal", "if_ours")), hub.Skipped)
	// Partial success: HTTP may say what it likes, the record's own status counts.
	r := a.perform(stage("Lifecycle_Stage", "No such stage", "", "always"))
	a.want(r, hub.Refused)
	if !strings.Contains(r.Error, "INVALID_DATA") {
		t.Errorf("error %q", r.Error)
	}
	lead := stage("Lifecycle_Stage", "New", "", "always")
	lead.Recipient.Identifiers = []hub.Identifier{{Kind: "email", Value: "bo@example.com"}}
	a.want(a.perform(lead), hub.Delivered)
	nobody := stage("Lifecycle_Stage", "New", "", "always")
	nobody.Recipient.Identifiers = []hub.Identifier{{Kind: "zoho_contact", Connection: "crm", Value: "4411220000003999990", Record: true}, {Kind: "email", Value: "nobody@example.com"}}
	a.want(a.perform(nobody), hub.Skipped)
	a.listen()

	a.taskOnce(sandbox.Zoho)
	a.hears("task.created (echo)", "task.created (echo)")
	forLead := task("dlv_9")
	forLead.Recipient.Identifiers = lead.Recipient.Identifiers
	a.want(a.perform(forLead), hub.Delivered)
	note := connector.Task{Action: hub.Action{Name: "create_note", Params: map[string]any{"text": "moved"}}, Reference: "dlv_3", Business: time.Now()}
	a.want(a.perform(note), hub.Delivered)
	if notes := a.box.State()[sandbox.Zoho].Notes; len(notes) != 1 || notes[0].Customer == "" {
		t.Errorf("notes %+v", notes)
	}
	a.listen()
	a.play(sandbox.Step{Do: "task.completed", Customer: "mei@example.com"})
	a.hears("task.completed")
	a.play(sandbox.Step{Do: "lead.converted", Customer: "bo@example.com"})
	a.hears("customer.created", "lead.converted")
	tag := connector.Task{Action: hub.Action{Name: "add_tag", Params: map[string]any{"tag": "stage:new"}}}
	a.want(a.perform(tag), hub.Delivered)
	tag.Action.Params["tag"], tag.Previous = "stage:loyal", "stage:new"
	a.want(a.perform(tag), hub.Delivered)
	for _, c := range a.box.State()[sandbox.Zoho].Customers {
		if c.Email == "mei@example.com" && !slices.Equal(c.Tags, []string{"stage:loyal"}) {
			t.Errorf("tags %v", c.Tags)
		}
	}
	a.listen()
	a.limited(sandbox.Zoho)
}

// TestHydrationOutage checks that a vendor whose reads fail is asked again, record by record, and nothing is lost.
func TestHydrationOutage(t *testing.T) {
	for _, vendor := range []string{sandbox.HubSpot, sandbox.Zoho} {
		t.Run(vendor, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { hydrationOutage(t, vendor) }) })
	}
}

func hydrationOutage(t *testing.T, vendor string) {
	a := open(t, vendor, nil)
	a.play(sandbox.Step{Do: "customer.created", Customer: "mei@example.com", Name: "Mei Tan"})
	object := "contact"
	id := a.box.State()[vendor].Customers[0].ID
	a.box.Set(vendor, func(k *sandbox.Knobs) { k.Hydration = true })
	rows := []hub.HydrationRecord{{Connection: "crm", Object: object, ID: id, ReceivedAt: time.Now(), Context: []byte(`{"topic":"contact.creation"}`)}}
	fetched, err := a.c.Fetch(context.Background(), a.call, a.conn, rows)
	if err != nil || !errors.Is(fetched[0].Err, hub.ErrTransient) {
		t.Fatal(fmt.Sprint(err, fetched[0].Err))
	}
	a.box.Set(vendor, func(k *sandbox.Knobs) { k.Hydration = false })
	fetched, err = a.c.Fetch(context.Background(), a.call, a.conn, rows)
	if err != nil || fetched[0].Err != nil || fetched[0].Gone {
		t.Fatalf("%v %+v", err, fetched[0])
	}
}
