package server

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"github.com/stagewire/stagewire/internal/funnel"
	"github.com/stagewire/stagewire/internal/hub"
)

type views struct{}

func (views) Customer(context.Context, *hub.CustomerRecord) (CustomerView, error) {
	return CustomerView{
		Traits: map[string]Trait{"plan": {Value: "pro", Connection: "crm", At: Time(wire)}},
		Facts:  map[string]KindFacts{"order.paid": {Count: 2, FirstAt: Time(wire), LastAt: Time(wire), Sum: []Money{{"80.00", "EUR"}}}},
		Labels: map[string]map[string]string{"clc": {"en": "Active", "zh": "活跃客户"}},
	}, nil
}

func (views) Explain(_ context.Context, _ *hub.CustomerRecord, q ExplainQuery) (*Explain, error) {
	if q.Model == "" && q.Transition == "" {
		return nil, fmt.Errorf("say which model: %w", hub.ErrInvalid)
	}
	if q.Model != "clc" && q.Transition == "" {
		return nil, fmt.Errorf("model %q: %w", q.Model, hub.ErrNotFound)
	}
	return &Explain{Model: "clc", At: Time(q.At), Transition: &Transition{ID: q.Transition}, Rules: []ExplainRule{{Stage: "active", Clauses: []Clause{{Text: "a"}}}}}, nil
}

func (views) Funnel(_ context.Context, model string, q FunnelQuery) (*Funnel, error) {
	if model != "clc" {
		return nil, fmt.Errorf("model %q is not in use: %w", model, hub.ErrNotFound)
	}
	stay, met := 3*24*time.Hour, false
	f := &Funnel{Model: model, Of: "customer", From: Time(q.From), To: Time(q.To), At: Time(wire)}
	f.Count(&funnel.Result{
		Stages:      []funnel.Stage{{Name: "new", Customers: 2, Before: 1, After: 2, Entered: 3, Left: 2, AtOnce: 1, MedianStay: &stay}, {Name: "old", Gone: true, Adopted: 1}},
		Flows:       []funnel.Flow{{From: "new", To: "old", Customers: 2, Moves: 2, AtOnce: 1, Share: 1, Median: &stay}},
		Conversions: []funnel.Conversion{{From: "new", To: "active", Customers: 3, Reached: 1, Share: 0.25}},
		Targets:     []funnel.Met{{Stage: "new", Target: funnel.Target{To: "active", Within: 60 * 24 * time.Hour, Share: 0.3}, Entered: 3, Waiting: 1, Judged: 2, Met: &met}},
		Matrix:      []funnel.Cell{{To: "new", Customers: 2}},
		Series:      []funnel.Point{{From: wire, To: wire.Add(time.Hour), Customers: []int{2, 0}, Entered: []int{3, 0}}},
		Every:       funnel.Day,
	}, q.Stage)
	return f, nil
}

func (views) Scores(context.Context) (*Scores, error) { return nil, nil }

func (views) Models(context.Context) ([]Model, error) {
	stages := []ModelStage{{Name: "new"}, {Name: "active"}}
	return []Model{
		{Name: "clc", State: hub.ModelDraft, Version: 2, Stages: []ModelStage{{Name: "new"}}, Text: "draft"},
		{Name: "clc", State: hub.ModelActive, Version: 1, Stages: stages, Text: "text"},
	}, nil
}

func (m *memory) StageCounts(context.Context, string) (map[string]int, error) {
	return map[string]int{"active": 12}, nil
}

func (m *memory) Customers(_ context.Context, q hub.CustomerQuery) ([]*hub.CustomerRecord, string, error) {
	m.query = q
	return m.customers, "", nil
}

func (m *memory) Customer(_ context.Context, id string) (*hub.CustomerRecord, error) {
	for _, c := range m.customers {
		if c.ID == id {
			return c, nil
		}
	}
	return nil, fmt.Errorf("customer %s: %w", id, hub.ErrNotFound)
}

func (m *memory) Timeline(context.Context, string, hub.Page) ([]hub.Entry, string, error) {
	amount, err := hub.ParseMoney("40.00", "EUR")
	if err != nil {
		return nil, "", err
	}
	return []hub.Entry{
		{At: wire, Type: "event", ID: "evt_1", Event: &hub.Event{ID: "evt_1", Kind: "order.paid", Connection: "shop", OccurredAt: wire, Properties: map[string]any{"amount": amount, "closes_at": wire, "coupons": []string{"a"}}}},
		{At: wire, Type: "transition", ID: "stg_1", Transition: &hub.Transition{ID: "stg_1", Model: "clc", From: "new", To: "active", At: wire}},
		{At: wire, Type: "delivery", ID: "dlv_1", Delivery: &hub.Delivery{ID: "dlv_1", Action: "create_task", Destination: "crm", State: hub.DeliveryDue}},
		{At: wire, Type: "merge", ID: "m", Merge: &hub.Merge{From: "cus_2", Into: "cus_1", Reason: "email"}},
		{At: wire, Type: "pin", ID: "p", Pin: &hub.PinRecord{Model: "clc", Stage: "active", Who: "ada"}},
	}, "n1", nil
}

func (m *memory) Deliveries(_ context.Context, q hub.DeliveryQuery) ([]hub.Delivery, string, error) {
	m.query = q
	return m.deliveries, "", nil
}

func (m *memory) Delivery(_ context.Context, id string) (hub.Delivery, []hub.Attempt, error) {
	d := hub.Delivery{ID: id, Action: "callback", State: hub.DeliveryDead, Attempts: 1, Body: []byte(`{"specversion":"1.0"}`)}
	a := hub.Attempt{At: wire, Status: 429, Outcome: hub.Retry, Error: "too many", Duration: 31 * time.Millisecond}
	d.Last = &a
	return d, []hub.Attempt{a}, nil
}

func (m *memory) Feed(_ context.Context, after int64, _ int) ([]hub.FeedItem, error) {
	if after >= 5 {
		return nil, nil
	}
	return []hub.FeedItem{{Position: 5, OutboxRecord: hub.OutboxRecord{Body: []byte(`{"id":"stg_1"}`)}}}, nil
}

func ada() *hub.CustomerRecord {
	id := hub.Identifier{Kind: "email", Value: "ada@example.com"}
	return &hub.CustomerRecord{
		ID: "cus_1", Kind: hub.SubjectCustomer, Name: "Ada", Tags: []string{"vip"}, CreatedAt: wire, UpdatedAt: wire.In(time.FixedZone("x", 3600)),
		Profiles: []hub.ProfileRecord{{Identifiers: []hub.Identifier{id, {Kind: "shopify_customer", Value: "7", Connection: "shop", Record: true}}}, {Identifiers: []hub.Identifier{id}}},
		Stages: []hub.StageRecord{
			{Subject: hub.Subject{Kind: hub.SubjectCustomer, ID: "cus_1"}, Model: "clc", Stage: "active", Since: wire, By: hub.ByRule, Version: 3},
			{Subject: hub.Subject{Kind: hub.SubjectDeal, ID: "d"}, Model: "deals", Stage: "open"},
		},
	}
}

// Shapes are compared as text: API.md fixes their names.
func TestShapes(t *testing.T) {
	r := start(t, func(o *Options) { o.Now = func() time.Time { return wire } })
	r.customers = []*hub.CustomerRecord{ada()}
	customer := `{"consent":{},"created_at":"2026-03-01T10:00:00Z","facts":{"order.paid":{"count":2,"first_at":"2026-03-01T10:00:00Z","last_at":"2026-03-01T10:00:00Z","sum":[{"amount":"80.00","currency":"EUR"}]}},"id":"cus_1","identifiers":[{"kind":"email","value":"ada@example.com"},{"kind":"shopify_customer","value":"7","connection":"shop"}],"kind":"customer","name":"Ada","stages":{"clc":{"stage":"active","label":"活跃客户","labels":{"en":"Active","zh":"活跃客户"},"since":"2026-03-01T10:00:00Z","by":"rule","version":3,"wakes_at":null}},"tags":["vip"],"traits":{"plan":{"value":"pro","connection":"crm","at":"2026-03-01T10:00:00Z"}},"updated_at":"2026-03-01T10:00:00Z"}`
	r.rows["whk_1"] = hub.WebhookRecord{ID: "whk_1", Connection: "crm", ReceivedAt: wire, State: hub.WebhookDone, Kinds: []string{"order.paid"}, EventIDs: []string{"evt_1"}, Position: hub.Position{Seq: 1}}
	r.webhooks = []hub.StoredWebhook{
		{Webhook: hub.Webhook{ID: "whk_1", Connection: "crm", Body: []byte("\x00{}"), Headers: []hub.Header{{Name: "X-A", Value: "1"}, {Name: "X-A", Value: "2"}, {Name: "X-Pipely-Hmac", Value: "s"}}}, Position: hub.Position{Seq: 1}},
		{Webhook: hub.Webhook{ID: "whk_2", Connection: "crm", ReceivedAt: wire, Body: []byte("q")}, Position: hub.Position{Seq: 2}},
	}
	done := `{"connection":"crm","event_ids":["evt_1"],"id":"whk_1","kinds":["order.paid"],"reason":"","received_at":"2026-03-01T10:00:00Z","state":"done"`
	queued := `{"connection":"crm","event_ids":[],"id":"whk_2","kinds":[],"reason":"","received_at":"2026-03-01T10:00:00Z","state":"queued"`
	for path, want := range map[string]string{
		"/customers/cus_1":                         customer,
		"/customers?email=ada@example.com&limit=3": `{"items":[` + customer + `],"next":null}`,
		"/customers/cus_1/timeline":                `{"items":[{"at":"2026-03-01T10:00:00Z","event":{"connection":"shop","id":"evt_1","identifiers":[],"kind":"order.paid","occurred_at":"2026-03-01T10:00:00Z","properties":{"amount":{"amount":"40.00","currency":"EUR"},"closes_at":"2026-03-01T10:00:00Z","coupons":["a"]},"received_at":null,"webhook_id":""},"id":"evt_1","summary":"order.paid 40.00 EUR from shop","type":"event"},{"at":"2026-03-01T10:00:00Z","id":"stg_1","summary":"clc: new to active","transition":{"at":"2026-03-01T10:00:00Z","cause":{"id":"","type":""},"customer_id":"","decided_at":null,"from":"new","id":"stg_1","model":"clc","passing":false,"rule":0,"sequence":0,"subject":{"id":"","kind":""},"to":"active","version":0,"why":""},"type":"transition"},{"at":"2026-03-01T10:00:00Z","delivery":{"action":"create_task","attempts":0,"cause":{},"created_at":null,"customer_id":"","destination":"crm","due_at":null,"id":"dlv_1","last":null,"params":{},"state":"due"},"id":"dlv_1","summary":"create_task to crm: due","type":"delivery"},{"at":"2026-03-01T10:00:00Z","id":"m","merge":{"at":null,"event_id":"","from":"cus_2","into":"cus_1","reason":"email","sequence":0},"summary":"cus_2 became part of cus_1, email","type":"merge"},{"at":"2026-03-01T10:00:00Z","id":"p","pin":{"at":null,"model":"clc","stage":"active","until":null,"who":"ada","why":""},"summary":"clc pinned to active by ada","type":"pin"}],"next":"n1"}`,
		"/models/clc":                              `{"failures":0,"labels":{},"name":"clc","of":"","path_dependent":false,"reads_scores":false,"stages":[{"name":"new","labels":{},"customers":0},{"name":"active","labels":{},"customers":12}],"state":"active","text":"text","version":1}`,
		"/webhooks/whk_1":                          `{"body":"` + base64.StdEncoding.EncodeToString([]byte("\x00{}")) + `",` + strings.Replace(done[1:], `"id":`, `"headers":{"X-A":"1, 2","X-Pipely-Hmac":"[masked]"},"id":`, 1) + `}`,
		"/webhooks/whk_2":                          `{"body":"cQ==",` + queued[1:] + `}`,
		"/webhooks":                                `{"items":[` + queued + `},` + done + `}],"next":"more"}`,
		"/webhooks?state=queued":                   `{"items":[` + queued + `}],"next":null}`,
		"/deliveries/dlv_9":                        `{"action":"callback","attempts":1,"body":{"specversion":"1.0"},"cause":{},"created_at":null,"customer_id":"","destination":"","due_at":null,"history":[{"at":"2026-03-01T10:00:00Z","status":429,"outcome":"retry","error":"too many","duration_ms":31}],"id":"dlv_9","last":{"at":"2026-03-01T10:00:00Z","status":429,"outcome":"retry","error":"too many","duration_ms":31},"params":{},"state":"dead"}`,
		"/deliveries?state=dead":                   `{"items":[],"next":null}`,
		"/feed?after=0":                            `{"items":[{"event":{"id":"stg_1"},"position":5}],"next":"5"}`,
		"/feed?after=5":                            `{"items":[],"next":"5"}`,
		"/connections":                             `{"items":[{"connector":"pipely","last_delivery_at":null,"last_webhook_at":"2026-03-01T09:00:00Z","name":"crm","problems":[],"receives":"/hooks/crm","state":"ok","webhooks":3}],"next":null}`,
		"/connectors":                              `{"items":[{"actions":[],"api_version":"","backfill":false,"category":"crm","events":[],"handshake":true,"hydrate":false,"name":"pipely","reconcile":false,"register":false,"title":"Pipely","verify":"hmac"}],"next":null}`,
		"/models/clc/funnel?from=2026-01-01&to=2026-01-31": `{"at":"2026-03-01T10:00:00Z","cohorts":[],"conversions":[{"customers":3,"from":"new","median":null,"reached":1,"share":0.25,"to":"active"}],"every":"day","flows":[{"at_once":1,"customers":2,"from":"new","median":"P3D","moves":2,"share":1,"to":"old"}],"from":"2026-01-01T00:00:00Z","matrix":[{"customers":2,"from":"","to":"new"}],"model":"clc","of":"customer","series":[{"customers":{"new":2,"old":0},"entered":{"new":3,"old":0},"from":"2026-03-01T10:00:00Z","to":"2026-03-01T11:00:00Z"}],"stages":[{"adopted":0,"after":2,"at_once":1,"before":1,"customers":2,"entered":3,"left":2,"median_age":null,"median_stay":"P3D","name":"new"},{"adopted":1,"after":0,"at_once":0,"before":0,"customers":0,"entered":0,"gone":true,"left":0,"median_age":null,"median_stay":null,"name":"old"}],"targets":[{"actual":0,"entered":3,"judged":2,"met":false,"reached":0,"share":0.3,"stage":"new","to":"active","waiting":1,"within":"P60D"}],"to":"2026-02-01T00:00:00Z"}`,
		"/version": `{"version":"test"}`,
	} {
		resp, got := do(t, "GET", r.url+base+path, nil, "Authorization", "Bearer op")
		if resp.StatusCode != 200 {
			t.Errorf("%s: %d %s", path, resp.StatusCode, got)
			continue
		}
		if diff := cmp.Diff(canonical(t, want), canonical(t, got)); diff != "" {
			t.Errorf("%s: %s\n%s", path, diff, got)
		}
	}
}

func canonical(t *testing.T, text string) string {
	t.Helper()
	v := jsontext.Value(text)
	if err := v.Canonicalize(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if err := v.Indent(); err != nil {
		t.Fatal(err)
	}
	return string(v)
}

func TestBadRequests(t *testing.T) {
	r := start(t, nil)
	r.customers = []*hub.CustomerRecord{ada()}
	for path, want := range map[string]string{ // status and part of the detail
		"GET /customers?stat=x":                                                 "400 unknown query parameter",
		"GET /customers?limit=201":                                              "400 limit",
		"GET /customers?identifier=email":                                       "400 <kind>:<value>",
		"GET /customers?stage=lost":                                             "400 stage needs model",
		"GET /customers/none":                                                   "404 customer none",
		"GET /customers/cus_1/explain?model=x":                                  "404 model",
		"GET /customers/cus_1/explain":                                          "400 say which model",
		"GET /customers/cus_1/explain?at=monday":                                "400 2026-03-01T10:00:00Z",
		"GET /customers/cus_1/explain?transition=stg_1&at=2026-03-01T10:00:00Z": "400 a transition has its own instant",
		"GET /models/none":                                                      "404 model",
		"GET /webhooks/none":                                                    "404 webhook",
		"GET /webhooks?state=lost":                                              "400 state",
		"GET /models/cls/funnel":                                                "404 not in use",
		"GET /models/clc/funnel?from=monday":                                    "400 neither a date such as 2026-03-01 nor a time",
		"GET /models/clc/funnel?cohort=moon":                                    "400 none of day, week, month, quarter, year",
		"GET /models/clc/funnel?from=2026-02-01&to=2026-01-01":                  "400 lies after to",
		"GET /models/clc/funnel?from=2026-02-01&at=2026-01-01":                  "400 lies after at",
		"GET /models/clc/funnel?to=2026-02-01&at=2026-01-01":                    "400 nothing after that is seen",
		"GET /models/clc/funnel?form=2026-02-01":                                "400 known: from, to, at, cohort, every, stage",
		"GET /deliveries?state=lost":                                            "400 state",
		"GET /feed?after=x":                                                     "400 after",
		"GET /events/catalogue/order.payed":                                     "404 kind",
		"GET /nothing":                                                          "404 nothing is here",
		"DELETE /customers":                                                     "405 takes GET",
		"POST /deliveries/redrive":                                              "400 body is not",
		"POST /webhooks/whk_1/replay":                                           "501 does not normalize",
	} {
		method, path, _ := strings.Cut(path, " ")
		resp, text := do(t, method, r.url+base+path, nil, "Authorization", "Bearer op")
		status, detail, _ := strings.Cut(want, " ")
		if fmt.Sprint(resp.StatusCode) != status || !strings.Contains(text, detail[:min(len(detail), 12)]) || resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s: %d %s", method, path, resp.StatusCode, text)
		}
	}
}

func TestExplain(t *testing.T) {
	r := start(t, nil)
	r.customers = []*hub.CustomerRecord{ada()}
	var got Explain
	if status := r.get(t, base+"/customers/cus_1/explain?model=clc&at=2026-03-01T11:00:00%2B01:00", &got); status != 200 || got.At == nil || !got.At.Equal(wire) || len(got.Rules) != 1 {
		t.Errorf("%d %+v", status, got)
	}
	if status := r.get(t, base+"/customers/cus_1/explain?transition=stg_1", &got); status != 200 || got.Transition == nil || got.Transition.ID != "stg_1" {
		t.Errorf("%d %+v", status, got)
	}
}

func TestRedriveTellsTheWorkers(t *testing.T) {
	told := 0
	r := start(t, func(o *Options) { o.Redriven = func() { told++ } })
	resp, text := do(t, "POST", r.url+base+"/deliveries/redrive", []byte(`{"destination":"crm"}`), "Authorization", "Bearer op")
	if resp.StatusCode != 200 || text != `{"redriven":2}` || told != 1 || !cmp.Equal(r.redriven, []string{"crm"}) {
		t.Errorf("%d %s, told %d, %v", resp.StatusCode, text, told, r.redriven)
	}
	for _, body := range []string{`{}`, `{"destinations":"crm"}`, `[]`} {
		if resp, _ := do(t, "POST", r.url+base+"/deliveries/redrive", []byte(body), "Authorization", "Bearer op"); resp.StatusCode != 400 {
			t.Errorf("%s: %d", body, resp.StatusCode)
		}
	}
}

func TestConnectionStates(t *testing.T) {
	c := Connected{Connection: &hub.Connection{Name: "crm", Mode: "webhook"}}
	for want, in := range map[string]struct {
		stat   hub.ConnectionStat
		issues []ConnectionIssue
	}{
		connectionOK:            {stat: hub.ConnectionStat{LastWebhookAt: wire}},
		connectionSilent:        {},
		connectionFailing:       {stat: hub.ConnectionStat{Dead: 1}},
		connectionMisconfigured: {stat: hub.ConnectionStat{Dead: 1}, issues: []ConnectionIssue{{"a", "b"}}},
	} {
		c.Problems = in.issues
		if got := connectionShape(c, in.stat, "https://h", wire); got.State != want || (want != connectionOK) != (len(got.Problems) > 0) {
			t.Errorf("want %s, got %+v", want, got)
		}
	}
}

func TestKindSchemas(t *testing.T) {
	r := start(t, nil)
	var kind struct {
		ID         string                    `json:"$id"`
		Properties map[string]jsontext.Value `json:"properties"`
	}
	if r.get(t, base+"/events/catalogue/stage.entered.v1", &kind); kind.ID != "https://hub.example.com/in/api/v1/events/catalogue/stage.entered.v1" || kind.Properties["from"] == nil {
		t.Errorf("%+v", kind)
	}
	var all List[KindInfo]
	if r.get(t, base+"/events/catalogue", &all); len(all.Items) != len(hub.Catalogue.All()) {
		t.Errorf("%d kinds", len(all.Items))
	}
}
