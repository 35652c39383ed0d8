package app

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/server"
)

// A webhook that verifies and cannot be mapped is stored and becomes a dead letter. Once the manifest is mended it is replayed by
// hand: the manifest's number has risen, so the ledger takes the events; events that are no longer made are withdrawn.
func TestReplayAfterMendingTheManifest(t *testing.T) {
	t.Parallel()
	const manifest = "connectors/shopify/connector.yaml"
	const good = "kind: order.paid\n      id: '\"order/\" + string(item.id)'\n      at: [{record: item.updated_at}]"
	broken := strings.Replace(good, "item.updated_at", "item.name", 1)
	other := strings.Replace(good, "order.paid", "order.placed", 1)
	on(t, func(t *testing.T, s *site) {
		s.ownConnectors(t)
		s.edit(t, manifest, good, broken)
		r := s.start(t, nil)
		body := paid("1", "")
		id := r.accept(t, shopify("orders/paid", "e1", body))
		row := r.settled(t, id)
		if row.State != hub.WebhookDead || !strings.Contains(row.Reason, "shopify/connector.yaml:100: receive.events[12].at[0].record: is not a time") {
			t.Fatalf("%s, %s", row.State, row.Reason)
		}
		letters := func() []server.DeadLetter {
			return get[server.List[server.DeadLetter]](t, r, "GET", "/dead-letters", nil).Items
		}
		if dead := letters(); len(dead) != 1 || dead[0].Ref != id || dead[0].Of != "webhook" || dead[0].Reason != row.Reason || dead[0].Place != "shop" {
			t.Errorf("dead letters %+v", dead)
		}
		if shown := get[server.Webhook](t, r, "GET", "/webhooks/"+id, nil); string(shown.Body) != body || shown.State != hub.WebhookDead {
			t.Errorf("%s, %s", shown.State, shown.Body)
		}
		// By hand and too early: it says so, and the dead letter stays.
		if status, text := r.api(t, "POST", "/webhooks/"+id+"/replay", nil); status != http.StatusBadRequest || !strings.Contains(string(text), "is not a time") {
			t.Errorf("replay under the broken manifest: %d %s", status, text)
		}
		if len(letters()) != 1 {
			t.Errorf("dead letters %+v", letters())
		}

		type state struct {
			Kinds      []string
			Activation int64
			Stage      string
		}
		replay := func() (state, int64) {
			t.Helper()
			if shown := get[server.Webhook](t, r, "POST", "/webhooks/"+id+"/replay", nil); shown.State != hub.WebhookDone {
				t.Fatalf("after the replay it is %s, %s", shown.State, shown.Reason)
			}
			r.settled(t, id)
			customers, _, err := r.store.Customers(t.Context(), hub.CustomerQuery{Page: hub.Page{Limit: 10}})
			if err != nil || len(customers) != 1 {
				t.Fatalf("%d customers, %v", len(customers), err)
			}
			events, err := r.store.Events(t.Context(), customers[0].ID)
			if err != nil {
				t.Fatal(err)
			}
			var now state
			for _, ev := range events {
				now.Kinds, now.Activation = append(now.Kinds, ev.Kind), ev.Version.Activation
			}
			shown := get[server.Customer](t, r, "GET", "/customers/"+customers[0].ID, nil)
			now.Stage = shown.Stages["clc"].Stage
			for kind, f := range shown.Facts {
				if f.Count != 1 || !slices.Contains(now.Kinds, kind) {
					t.Errorf("facts %+v, events %v", shown.Facts, now.Kinds)
				}
			}
			return now, customers[0].Sequence
		}
		mend := func(from, to string) {
			t.Helper()
			s.edit(t, manifest, from, to)
			if err := r.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		expect := func(what string, want state) int64 {
			t.Helper()
			got, sequence := replay()
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
			return sequence
		}

		mend(broken, good)
		sequence := expect("mended", state{[]string{"order.paid"}, 2, "lost"}) // her order was in March, half a year of silence follows
		if dead := letters(); len(dead) != 0 {
			t.Errorf("dead letters %+v", dead)
		}
		if again := expect("replayed once more", state{[]string{"order.paid"}, 2, "lost"}); again != sequence {
			t.Errorf("a replay that makes the same events moved the customer from %d to %d", sequence, again)
		}
		mend(good, other)
		expect("another kind", state{[]string{"order.placed"}, 3, "prospect"})
		mend(other, good)
		expect("back to the old text", state{[]string{"order.paid"}, 4, "lost"})
		r.stillWorks(t, "after@example.com")
	})
}

const (
	mistakeConfig = `connectors_dir: connectors
reactions: [reactions]
fields: {plan: {type: text, from: crm.plan}}
write:
  shop: {field: lifecycle.stage, model: mine, values: {new: New, active: Active}}
subscriptions:
  - {name: erp, url: "https://erp.example.com/hooks", secret: "${file:secrets/shop}", kinds: [stage.entered], models: [mine]}
`
	mistakeModel = `model: mine
stages:
  - {name: new}
  - {name: active}
decide:
  - stage: active
    when: ever("order.paid") and spent("EUR", days(90)) > eur(10) and (fields.plan ?? "") == "pro"
  - otherwise: new
`
	mistakeReaction = `reactions:
  - name: call
    enter: mine.active
    if: count("order.paid") == 1 and (fields.plan ?? "") != ""
    do:
      - create_task: {via: crm, subject: Call}
`
	mistakeManifest = `name: pipely
settings: {client_secret: {secret: true, required: true, about: from the developer console}}
hosts: {api: '"https://api.pipely.example"'}
identifiers: {pipely_person: record}
receive:
  verify: {scheme: hmac, secrets: [client_secret], hash: sha256, encoding: base64, header: X-Pipely-Hmac}
  topic: item.type
  events:
    - on: deal
      kind: deal.won
      id: item.id
      identifiers: {pipely_person: item.person}
      properties: {id: item.id, amount: 'money(item.value, "EUR")'}
`
)

// A misspelt key, kind, field, stage or connection in any file is refused with its place and what was meant, before a start and
// on reload; a hub that runs goes on with what it had.
func TestMistakesAreRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.edit(t, "stagewire.yaml", "models: [clc]", "models: [mine.yaml]")
	s.ownConnectors(t)
	s.edit(t, "stagewire.yaml", "connectors_dir: connectors\n", mistakeConfig)
	s.write(t, "mine.yaml", mistakeModel)
	s.write(t, "reactions/calls.yaml", mistakeReaction)
	s.write(t, "connectors/pipely/connector.yaml", mistakeManifest)
	r := s.start(t, nil)
	program, config, setup := r.pipeline.Program(), r.current(), r.connectors()
	for _, c := range []struct{ file, old, new, place, says string }{
		{"stagewire.yaml", "write:", "wirte:", "stagewire.yaml:13:1: wirte", "did you mean write"},
		{"stagewire.yaml", "connector: zendesk", "connector: zendsk", "stagewire.yaml:8:21: connections.desk.connector", "did you mean zendesk"},
		{"stagewire.yaml", "app_id: 7", "ap_id: 7", "stagewire.yaml:7:29: connections.crm.ap_id", "did you mean \"app_id\""},
		{"stagewire.yaml", "{field: lifecycle", "{feild: lifecycle", "stagewire.yaml:14:10: write.shop.feild", "did you mean field"},
		{"stagewire.yaml", "  shop: {field", "  shopp: {field", "stagewire.yaml:14:10: write.shopp", "did you mean shop"},
		{"stagewire.yaml", "model: mine, values", "model: mien, values", "stagewire.yaml:14:41: write.shop.model", "did you mean mine"},
		{"stagewire.yaml", "active: Active", "actve: Active", "stagewire.yaml:14:73: write.shop.values.actve", "did you mean active"},
		{"stagewire.yaml", "kinds: [stage.entered]", "kinds: [stage.enterd]", "stagewire.yaml:16:95: subscriptions[0].kinds[0]", "did you mean stage.entered"},
		{"stagewire.yaml", "models: [mine]}", "models: [mien]}", "stagewire.yaml:16:120: subscriptions[0].models[0]", "did you mean mine"},
		{"stagewire.yaml", "from: crm.plan", "from: crn.plan", "stagewire.yaml:12:35: fields.plan.from", "did you mean crm"},
		{"stagewire.yaml", "mine.yaml", "mien.yaml", "stagewire.yaml:4:10: models[0]", "does not exist"},
		{"mine.yaml", "decide:", "decied:", "mine.yaml:5:1", "did you mean decide"},
		{"mine.yaml", "order.paid", "order.payed", "mine.yaml:7:16: decide[0].when", "did you mean order.paid"},
		{"mine.yaml", "stage: active", "stage: actve", "mine.yaml:6:12: decide[0].stage", "did you mean active"},
		{"mine.yaml", "otherwise: new", "otherwise: nwe", "mine.yaml:8:16: decide[1].otherwise", "did you mean new"},
		{"mine.yaml", "spent(", "spnet(", "mine.yaml:7:34: decide[0].when", "did you mean spent"},
		{"mine.yaml", "fields.plan", "fields.plna", "mine.yaml:7:79: decide[0].when", "did you mean plan"},
		{"reactions/calls.yaml", "enter: mine", "entre: mine", "calls.yaml:3:5: reactions[0]", "did you mean enter"},
		{"reactions/calls.yaml", "mine.active", "mine.actve", "calls.yaml:3:12: reactions[0].enter", "did you mean active"},
		{"reactions/calls.yaml", "mine.active", "mien.active", "calls.yaml:3:12: reactions[0].enter", "did you mean mine"},
		{"reactions/calls.yaml", "order.paid", "order.payed", "calls.yaml:4:15: reactions[0].if", "did you mean order.paid"},
		{"reactions/calls.yaml", "via: crm", "via: crn", "calls.yaml:6:28: reactions[0].do[0].create_task.via", "did you mean crm"},
		{"reactions/calls.yaml", "create_task", "create_tsk", "calls.yaml:6:9: reactions[0].do[0]", "did you mean create_task"},
		{"reactions/calls.yaml", "subject: Call", "subjcet: Call", "calls.yaml:6:33: reactions[0].do[0].create_task", "did you mean subject"},
		{"connectors/pipely/connector.yaml", "receive:", "recieve:", "connector.yaml:5:1: recieve", "did you mean \"receive\""},
		{"connectors/pipely/connector.yaml", "deal.won", "deal.wonn", "connector.yaml:10:13: receive.events[0].kind", "did you mean \"deal.won\""},
		{"connectors/pipely/connector.yaml", "amount:", "amuont:", "connector.yaml:13:33: receive.events[0].properties.amuont", "did you mean \"amount\""},
		{"connectors/pipely/connector.yaml", "{pipely_person: item", "{pipely_persn: item", "connector.yaml:12:21: receive.events[0].identifiers.pipely_persn", "did you mean \"pipely_person\""},
		{"connectors/pipely/connector.yaml", "[client_secret]", "[client_secrt]", "connector.yaml:6:35: receive.verify.secrets", "did you mean \"client_secret\""},
		{"connectors/pipely/connector.yaml", "id: item.id\n", "id: itm.id\n", "connector.yaml:11:11: receive.events[0].id", "did you mean \"item\""},
	} {
		s.edit(t, c.file, c.old, c.new)
		cfg, set, err := load(s.file)
		if err == nil {
			_, _, err = Compile(cfg, set)
		}
		again := r.Reload(t.Context())
		s.edit(t, c.file, c.new, c.old)
		for what, err := range map[string]error{"before a start": err, "on reload": again} {
			if err == nil {
				t.Errorf("%s: %s for %s is taken %s", c.file, c.new, c.old, what)
			} else if !strings.Contains(err.Error(), c.place) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %s for %s %s: want %s and %s, got\n%v", c.file, c.new, c.old, what, c.place, c.says, err)
			}
		}
		if r.pipeline.Program() != program || r.current() != config || r.connectors() != setup {
			t.Fatalf("%s: %s for %s: the hub does not go on with what it had", c.file, c.new, c.old)
		}
	}
	r.accept(t, shopify("orders/paid", "e1", paid("1", "")))
	if err := r.Reload(t.Context()); err != nil {
		t.Errorf("mended again: %v", err)
	}
}

// One data directory has one process.
func TestSecondProcessOnOneDataDirectory(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	r := s.start(t, nil)
	cfg, set, err := load(s.file)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	second, err := Open(t.Context(), Options{Config: cfg, Connectors: set, Load: load, Log: r.Log, Version: "test"})
	if err == nil {
		second.close()
		t.Fatal("a second hub opened the same data directory")
	}
	if !strings.Contains(err.Error(), cfg.DataDir) || time.Since(began) > 5*time.Second {
		t.Errorf("refused with %v after %s", err, time.Since(began))
	}
	r.stillWorks(t, "first@example.com")
	r.stop()
	s.start(t, nil).stillWorks(t, "second@example.com")
}
