package connector_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"github.com/stagewire/stagewire/connectors"
	"github.com/stagewire/stagewire/internal/connector"
	"github.com/stagewire/stagewire/internal/connector/connectortest"
	"github.com/stagewire/stagewire/internal/hub"
)

func shipped(t testing.TB, name string) *connector.Connector {
	t.Helper()
	set, err := connector.Load(connectors.FS, hub.Catalogue)
	if err != nil {
		t.Fatal(err)
	}
	c, ok := set.Get(name)
	if !ok {
		t.Fatalf("no connector %s", name)
	}
	return c
}

var received = time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)

// tiny is a manifest that maps the whole body to one event; the tests add what they need.
const tiny = `
name: tiny
settings: {secret: {secret: true}}
hosts: {api: '"https://tiny.example"'}
identifiers: {tiny_person: record}
receive:
  verify: {scheme: token, header: X-Token, secrets: [secret]}
  items: body.items ?? body
  id: item.id
  at: [{fact: item.at}]
  events:
    - kind: order.placed
      identifiers: {tiny_person: item.person, email: item.email, phone: item.phone}
      properties: {id: item.id, amount: 'money(item.amount, item.currency)', items: item.count, products: item.products, status: item.status}
      traits: {name: item.name}
`

func parse(t testing.TB, manifest string) *connector.Connector {
	t.Helper()
	c, err := connector.Parse("tiny/connector.yaml", []byte(manifest), hub.Catalogue)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func connection() *hub.Connection {
	return &hub.Connection{Name: "shop", Connector: "tiny", Settings: map[string]string{}, Secrets: map[string][]hub.Secret{"secret": {hub.NewSecret("s3cret-s3cret")}}}
}

func webhook(body string) *hub.Webhook {
	return &hub.Webhook{
		ID: "whk_1", Connection: "shop", ReceivedAt: received, Method: "POST", URL: "https://hub.example.com/hooks/shop", Activation: 7,
		Headers: []hub.Header{{Name: "Content-Type", Value: "application/json"}}, Body: []byte(body),
	}
}

func TestNormalizeValues(t *testing.T) {
	c := parse(t, tiny)
	long := strings.Repeat("ü", 600_000) // 1.2 MB
	for _, tc := range []struct {
		name, body string
		check      func(t *testing.T, e hub.Event)
	}{
		{"big id keeps its digits", `{"id": 98765432109876543210987}`, func(t *testing.T, e hub.Event) {
			if e.Properties["id"] != "98765432109876543210987" {
				t.Errorf("id %v", e.Properties["id"])
			}
		}},
		{"int64 is exact", `{"id": 9223372036854775807}`, func(t *testing.T, e hub.Event) {
			if e.Properties["id"] != "9223372036854775807" {
				t.Errorf("id %v", e.Properties["id"])
			}
		}},
		{"the last of doubled names wins", `{"id": 1, "status": "a", "status": "b"}`, func(t *testing.T, e hub.Event) {
			if e.Properties["status"] != "b" {
				t.Errorf("status %v", e.Properties["status"])
			}
		}},
		{"NUL and bad UTF-8 are replaced", "{\"id\": 1, \"status\": \"a\\u0000b\xff\\ud800c\"}", func(t *testing.T, e hub.Event) {
			if e.Properties["status"] != "a\uFFFDb\uFFFD\uFFFDc" {
				t.Errorf("status %q", e.Properties["status"])
			}
		}},
		{"a megabyte is cut at a character", `{"id": 1, "status": "` + long + `"}`, func(t *testing.T, e hub.Event) {
			if s := e.Properties["status"].(string); len(s) != 4096 || strings.ContainsRune(s, '\uFFFD') {
				t.Errorf("%d bytes", len(s))
			}
		}},
		{"times are cut to milliseconds in UTC", `{"id": 1, "at": "2026-03-02T04:30:00.123999-05:00"}`, func(t *testing.T, e hub.Event) {
			if want := time.Date(2026, 3, 2, 9, 30, 0, 123e6, time.UTC); e.OccurredAt != want || e.OccurredBy != hub.OccurredFact {
				t.Errorf("%v by %s", e.OccurredAt, e.OccurredBy)
			}
		}},
		{"a time ahead is clamped", `{"id": 1, "at": "2026-03-02T10:05:00.001Z"}`, func(t *testing.T, e hub.Event) {
			if e.OccurredAt != received || !e.ClampedFrom.Equal(received.Add(5*time.Minute+time.Millisecond)) {
				t.Errorf("%v from %v", e.OccurredAt, e.ClampedFrom)
			}
		}},
		{"five minutes ahead is not", `{"id": 1, "at": 1772445900000}`, func(t *testing.T, e hub.Event) {
			if e.OccurredAt != received.Add(5*time.Minute) || !e.ClampedFrom.IsZero() {
				t.Errorf("%v from %v", e.OccurredAt, e.ClampedFrom)
			}
		}},
		{"no time is ours", `{"id": 1}`, func(t *testing.T, e hub.Event) {
			if e.OccurredAt != received || e.OccurredBy != hub.OccurredReceived {
				t.Errorf("%v by %s", e.OccurredAt, e.OccurredBy)
			}
		}},
		{"identifiers are normalised", `{"id": 1, "email": "  Ada@Example.COM ", "phone": "+1 (202) 555-0143", "person": 12345678}`, func(t *testing.T, e hub.Event) {
			want := []hub.Identifier{{Kind: "tiny_person", Value: "12345678", Connection: "shop", Record: true}, {Kind: "email", Value: "ada@example.com"}, {Kind: "phone", Value: "+12025550143"}}
			if d := cmp.Diff(want, e.Identifiers); d != "" {
				t.Error(d)
			}
		}},
		{"what is none is dropped", `{"id": 1, "email": "nobody", "phone": "call me", "person": ""}`, func(t *testing.T, e hub.Event) {
			if len(e.Identifiers) != 0 {
				t.Errorf("%v", e.Identifiers)
			}
		}},
		{"a national number without a country is dropped", `{"id": 1, "phone": "030 123456"}`, func(t *testing.T, e hub.Event) {
			if len(e.Identifiers) != 0 {
				t.Errorf("%v", e.Identifiers)
			}
		}},
		{"money is exact", `{"id": 1, "amount": 4800.10, "currency": "eur"}`, func(t *testing.T, e hub.Event) {
			if got := e.Properties["amount"].(hub.Money).String(); got != "4800.1 EUR" {
				t.Error(got)
			}
		}},
		{"money beyond float64 is exact", `{"id": 1, "amount": 12345678901234567.89, "currency": "EUR"}`, func(t *testing.T, e hub.Event) {
			if got := e.Properties["amount"].(hub.Money).String(); got != "12345678901234567.89 EUR" {
				t.Error(got)
			}
		}},
		{"empty clears a trait, missing says nothing", `{"id": 1, "name": ""}`, func(t *testing.T, e hub.Event) {
			if len(e.Traits) != 1 || e.Traits[0].Value != nil {
				t.Errorf("%v", e.Traits)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n, err := c.Normalize(webhook(tc.body), connection())
			if err != nil {
				t.Fatal(err)
			}
			if len(n.Events) != 1 {
				t.Fatalf("%d events", len(n.Events))
			}
			if e := n.Events[0]; e.Version.Activation != 7 || e.WebhookID != "whk_1" || e.Connection != "shop" {
				t.Errorf("%+v", e)
			}
			tc.check(t, n.Events[0])
		})
	}
}

func TestNormalizeRefuses(t *testing.T) {
	c := parse(t, tiny)
	deep := strings.Repeat(`{"id":`, 65) + "1" + strings.Repeat("}", 65)
	for name, tc := range map[string]struct{ body, want string }{
		"deep nesting":    {deep, "nested deeper than 64"},
		"not JSON":        {`{"id": 1`, "it ends early"},
		"text behind":     {`{"id": 1} x`, "text follows"},
		"two bodies":      {`{"id": 1}{"id": 2}`, "text follows"},
		"no id":           {`{"status": "x"}`, "tiny/connector.yaml:9: receive.id: order.placed has no id"},
		"a bad time":      {`{"id": 1, "at": "yesterday"}`, "receive.at[0].fact: is not a time"},
		"a bad amount":    {`{"id": 1, "amount": "much", "currency": "EUR"}`, "receive.events[0].properties.amount"},
		"a number's type": {`{"id": 1, "count": "many"}`, "receive.events[0].properties.items: is not a number"},
		"an object as id": {`{"id": {}}`, "is not text"},
		"too many values": {`[` + strings.Repeat("1,", 200_001) + `1]`, "more than 200000 values"},
		"too many items":  {`{"items":[` + strings.Repeat(`{"id":1},`, 10_000) + `{"id":1}]}`, "10001 items"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.Normalize(webhook(tc.body), connection())
			if !errors.Is(err, hub.ErrInvalid) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if err != nil && (strings.Contains(err.Error(), "yesterday") || strings.Contains(err.Error(), "much")) {
				t.Errorf("the error quotes what was sent: %v", err)
			}
		})
	}
}

func TestNormalizeBadItemsDoNotCostTheOthers(t *testing.T) {
	c := parse(t, tiny)
	n, err := c.Normalize(webhook(`{"items":[{"id":1},{"id":null},{"id":3}]}`), connection())
	if !errors.Is(err, hub.ErrInvalid) || len(n.Events) != 2 {
		t.Errorf("%d events, %v", len(n.Events), err)
	}
}

func TestNormalizeManyItems(t *testing.T) {
	c := parse(t, tiny)
	var b strings.Builder
	b.WriteString(`{"items":[`)
	for i := range 10_000 {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"id":%d}`, i)
	}
	b.WriteString(`]}`)
	n, err := c.Normalize(webhook(b.String()), connection())
	if err != nil || len(n.Events) != 10_000 {
		t.Errorf("%d events, %v", len(n.Events), err)
	}
}

func TestManifestProblems(t *testing.T) {
	for name, tc := range map[string]struct{ from, to, want string }{
		"unknown key":        {"receive:\n", "recieve: {}\nreceive:\n", `6:1: recieve: unknown key "recieve" (did you mean "receive"?)`},
		"unknown variable":   {"id: item.id", "id: itm.id", `9:7: receive.id: unknown name itm (did you mean "item"?)`},
		"column in quotes":   {"money(item.amount, item.currency)", "money(item.amount, itm.currency)", `14:61: receive.events[0].properties.amount: unknown name itm (did you mean "item"?)`},
		"unknown kind":       {"order.placed", "order.plcaed", `unknown kind "order.plcaed" (did you mean "order.placed"?)`},
		"unknown property":   {"products:", "prodcts:", `order.placed has no property "prodcts" (did you mean "products"?)`},
		"unknown identifier": {"{tiny_person: item.person", "{tiny_persn: item.person", `unknown kind of identifier "tiny_persn" (did you mean "tiny_person"?)`},
		"unknown setting":    {"id: item.id", "id: settings.secrt", `unknown setting "secrt" (did you mean "secret"?)`},
		"unknown secret":     {"secrets: [secret]", "secrets: [sceret]", `"sceret" is not a secret of settings (did you mean "secret"?)`},
		"unknown scheme":     {"scheme: token", "scheme: tokn", `(did you mean "token"?)`},
		"unknown function":   {"money(item", "mony(item", `unknown name mony (did you mean "money"?)`},
		"now":                {"fact: item.at", "fact: now()", "now"},
		"type of a property": {"items: item.count", "items: 'item.count == 1'", "order.placed.items is number, the expression gives bool"},
		"condition untyped":  {"kind: order.placed", "when: item.ok\n      kind: order.placed", "expected bool"},
		"no object id":       {"{id: item.id, amount", "{amount", "order.placed needs the property id"},
		"given twice":        {"name: tiny\n", "name: tiny\nname: tiny\n", "3:1: name: is given twice"},
		"anchors":            {"items: body.items", "items: &x body.items", ""},
		"no verification":    {"  verify: {scheme: token, header: X-Token, secrets: [secret]}\n", "", "webhooks must be verified"},
		"no events' id":      {"  id: item.id\n", "", "an event needs an id"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(tiny, tc.from, tc.to, 1)
			if text == tiny {
				t.Fatal("the case changes nothing")
			}
			_, err := connector.Parse("tiny/connector.yaml", []byte(text), hub.Catalogue)
			if tc.want == "" {
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v\nwant %q", err, tc.want)
			}
			var p connector.Problem
			if !errors.As(err, &p) || p.File != "tiny/connector.yaml" || p.Line < 1 || p.Column < 1 {
				t.Errorf("no place: %+v", p)
			}
		})
	}
}

func TestCheckConnection(t *testing.T) {
	c := shipped(t, "zendesk")
	conn := &hub.Connection{
		Name: "desk", Settings: map[string]string{"subdomian": "acme", "client_id": "x"},
		Secrets: map[string][]hub.Secret{"webhook_secret": {hub.NewSecret("dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ==")}},
	}
	var got []string
	for _, p := range c.CheckConnection(conn) {
		got = append(got, p.Path+": "+p.Suggestion)
	}
	want := []string{`connections.desk.subdomian: did you mean "subdomain"?`, "connections.desk.subdomain: ", "connections.desk.webhook_secret: ", "connections.desk.client_secret: "}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestPublicTestSecretIsRefused(t *testing.T) {
	// The signature of the vendor's Test button, over its public secret.
	c := shipped(t, "zendesk")
	secret := "dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ=="
	conn := &hub.Connection{Name: "desk", Secrets: map[string][]hub.Secret{"webhook_secret": {hub.NewSecret(secret)}}}
	w := webhook(`{}`)
	w.Headers = append(w.Headers, hub.Header{Name: "X-Zendesk-Webhook-Signature-Timestamp", Value: received.Format(time.RFC3339)},
		hub.Header{Name: "X-Zendesk-Webhook-Signature", Value: "JzLNzhaozF6tMh4CDxI4ofI1uMBgJBIBcd6cWcI9Blo="})
	if err := c.Verify(w, conn, received); !errors.Is(err, hub.ErrUnauthenticated) {
		t.Errorf("got %v", err)
	}
}

func TestShopifyHeaderSets(t *testing.T) {
	c := shipped(t, "shopify")
	k := connectortest.Open(t, c, "../../connectors/shopify", "../../connectors/shopify/testdata/orders_create")
	w := k.Webhook(t)
	first, err := c.Normalize(w, k.Connection)
	if err != nil {
		t.Fatal(err)
	}
	for i := range w.Headers {
		w.Headers[i].Name = strings.ToLower(strings.TrimPrefix(w.Headers[i].Name, "X-"))
	}
	if err := c.Verify(w, k.Connection, received); err != nil {
		t.Error(err)
	}
	second, err := c.Normalize(w, k.Connection)
	if err != nil || first.Events[0].ID != second.Events[0].ID {
		t.Errorf("%v", err)
	}
	// The admin's own key beside the app's secret.
	both := *k.Connection
	both.Secrets = map[string][]hub.Secret{"client_secret": {hub.NewSecret("other")}, "webhook_secret": k.Connection.Secrets["client_secret"]}
	if err := c.Verify(w, &both, received); err != nil {
		t.Error(err)
	}
}

func TestAccepts(t *testing.T) {
	c := shipped(t, "shopify")
	for _, tc := range []struct {
		method, content string
		want            error
	}{
		{"POST", "application/json", nil},
		{"POST", "application/json; charset=UTF-8", nil},
		{"POST", "", nil},
		{"GET", "application/json", connector.ErrMethod},
		{"POST", "text/plain", connector.ErrContentType},
		{"POST", "application/x-www-form-urlencoded", connector.ErrContentType},
	} {
		if err := c.Accepts(tc.method, tc.content); !errors.Is(err, tc.want) || tc.want != nil && !errors.Is(err, hub.ErrInvalid) {
			t.Errorf("%s %q: %v", tc.method, tc.content, err)
		}
	}
}

func TestHandshake(t *testing.T) {
	c := parse(t, strings.Replace(tiny, "  items:", "  handshake: {methods: [POST], when: 'body.type == \"ping\"', answer: {content_type: text/plain, body: '${body.challenge}'}}\n  items:", 1))
	a, err := c.Handshake(webhook(`{"type":"ping","challenge":"abc"}`), connection(), received)
	if err != nil || a == nil || a.Status != 200 || string(a.Body) != "abc" {
		t.Errorf("%+v %v", a, err)
	}
	if a, err := c.Handshake(webhook(`{"type":"order"}`), connection(), received); a != nil || err != nil {
		t.Errorf("%+v %v", a, err)
	}
	if a, err := c.Handshake(webhook(`[`), connection(), received); a != nil || err != nil {
		t.Errorf("%+v %v", a, err)
	}
}

func TestAuth(t *testing.T) {
	c := shipped(t, "shopify")
	o, ok := c.Auth().For(&hub.Connection{Settings: map[string]string{"client_id": "a"}, Secrets: map[string][]hub.Secret{"client_secret": {hub.NewSecret("b")}}})
	if !ok || o.Scheme != connector.AuthClientCredentials || o.TokenPath != "/admin/oauth/access_token" {
		t.Errorf("%+v %v", o, ok)
	}
	if _, ok := c.Auth().For(&hub.Connection{}); ok {
		t.Error("nothing to authenticate with, yet an option")
	}
	base, err := c.BaseURL("", &hub.Connection{Settings: map[string]string{"shop": "acme.myshopify.com"}})
	if err != nil || base != "https://acme.myshopify.com" {
		t.Errorf("%q %v", base, err)
	}
	if base, _ := c.BaseURL("", &hub.Connection{BaseURL: "http://127.0.0.1:1/shopify/"}); base != "http://127.0.0.1:1/shopify" {
		t.Errorf("%q", base)
	}
	if l := shipped(t, "zendesk").Limit(); l.Requests != 200 || l.Per != time.Minute {
		t.Errorf("%+v", l)
	}
}

func FuzzNormalize(f *testing.F) {
	c := shipped(f, "shopify")
	files, _ := filepath.Glob("../../connectors/shopify/testdata/*/webhook.http")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		w, err := connectortest.ParseWebhook(text)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(w.Header("X-Shopify-Topic"), w.Body)
	}
	f.Add("orders/create", []byte(`{"id":1e400,"a":[[[{}]]],"b":"\ud800\u0000"}`))
	conn := &hub.Connection{Name: "shop"}
	f.Fuzz(func(t *testing.T, topic string, body []byte) {
		w := &hub.Webhook{ID: "whk_1", Connection: "shop", ReceivedAt: received, Method: "POST", Headers: []hub.Header{{Name: "X-Shopify-Topic", Value: topic}, {Name: "X-Shopify-Event-Id", Value: "e"}}, Body: body}
		n, err := c.Normalize(w, conn)
		if err != nil && !errors.Is(err, hub.ErrInvalid) {
			t.Fatalf("%v does not wrap ErrInvalid", err)
		}
		again, _ := c.Normalize(w, conn)
		if d := cmp.Diff(string(connectortest.Encode(t, n)), string(connectortest.Encode(t, again))); d != "" {
			t.Fatalf("not repeatable: %s", d)
		}
		for i := range n.Events {
			e := &n.Events[i]
			if text := fmt.Sprint(e); strings.ContainsRune(text, 0) || strings.ToValidUTF8(text, "") != text {
				t.Fatalf("event holds NUL or invalid UTF-8: %q", text)
			}
			if e.OccurredAt.After(received.Add(hub.MaxAhead)) {
				t.Fatalf("occurred at %v", e.OccurredAt)
			}
		}
	})
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(tiny))
	// The vendors' own are too long to try many of: their forms in small.
	f.Add([]byte(tiny + `
hydrate:
  order: {batch: 2, requests: [{path: '/o?ids=${join(ids, ",")}'}], records: body.data, key: item.id, events: [{kind: order.updated, properties: {id: id}}]}
auth: {options: [{scheme: bearer, secret: secret}]}
limits: {requests: 80/2s}
actions:
  record: tiny_person
  add_tag: {writes: [{object: '"p"', id: record, field: '"tag"', value: tag}], steps: [{path: '/p/${record}', body: {t: ['${tag}'], n: 1.5, z: null}}], check: status == 200}
provision: [{name: x, check: {path: /f, exists: body.ok == true}, create: {path: /f, body: {}}}]
`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := connector.Parse("x/connector.yaml", text, hub.Catalogue)
		if err != nil {
			return
		}
		_, _ = c.Normalize(webhook(`{"id":1}`), connection())
		_ = c.Verify(webhook(`{}`), connection(), received)
	})
}

func BenchmarkNormalize(b *testing.B) {
	for _, name := range []string{
		"shopify/orders_create", "shopify/customers_create", "shopify/customer_tags_added",
		"hubspot/contact_propertyChange", "hubspot/deal_propertyChange", "zoho-crm/notification_contact_update", "zoho-crm/workflow_deal_won",
	} {
		vendor, folder, _ := strings.Cut(name, "/")
		c := shipped(b, vendor)
		k := connectortest.Open(b, c, "../../connectors/"+vendor, "../../connectors/"+vendor+"/testdata/"+folder)
		w := k.Webhook(b)
		if compact := jsontext.Value(w.Body); compact.Compact() == nil { // the samples are printed for people, vendors send no spaces
			w.Body = compact
		}
		b.Run(fmt.Sprintf("%s_%dB", folder, len(w.Body)), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Normalize(w, k.Connection); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	c := shipped(b, "shopify")
	k := connectortest.Open(b, c, "../../connectors/shopify", "../../connectors/shopify/testdata/orders_create")
	w := k.Webhook(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Verify(w, k.Connection, received); err != nil {
			b.Fatal(err)
		}
	}
}
