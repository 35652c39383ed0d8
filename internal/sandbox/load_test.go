package sandbox

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
)

func TestLoad(t *testing.T) {
	r := newReceiver(t)
	r.answer = func(n int) (int, map[string]string) {
		if n%5 == 0 {
			return 503, nil
		}
		return 200, nil
	}
	b := newBench(t, func(c *Config) { c.Hub = r.url })
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	cfg := LoadConfig{Orders: 100, Customers: 10, Workers: 4, Start: start, Step: time.Minute, Also: []string{HubSpot, Zoho, Zendesk}}
	report, err := b.Load(context.Background(), cfg)
	if err != nil || len(report.Acknowledged) != 80 || len(report.Refused) != 20 {
		t.Fatalf("%v: %d acknowledged, %d refused", err, len(report.Acknowledged), len(report.Refused))
	}
	people := map[string]bool{}
	for _, got := range r.all() {
		if got.header.Get("X-Shopify-Hmac-Sha256") != signShopify("sandbox-shopify-secret", got.body) {
			t.Fatal("not signed")
		}
		var body map[string]any
		if err := json.Unmarshal(got.body, &body); err != nil {
			t.Fatal(err)
		}
		for _, p := range shape("", body, sample(t, "shopify/orders_paid.json")) {
			t.Error(p)
		}
		people[body["email"].(string)] = true
	}
	if len(people) != 10 {
		t.Errorf("%d customers", len(people))
	}
	for vendor, state := range b.State() {
		if n := len(state.Customers); n != 10 {
			t.Errorf("%s knows %d", vendor, n)
		}
	}
	if !b.Idle() {
		t.Error("somebody is told of people who were there before")
	}
	// The same seed repeats the same orders, and with Retry all are acknowledged in the end.
	cfg.Retry = time.Millisecond
	again, err := b.Load(context.Background(), cfg)
	if err != nil || len(again.Acknowledged) != 100 {
		t.Fatalf("%v: %d acknowledged", err, len(again.Acknowledged))
	}
	ids := func(list []LoadedOrder) (out []string) {
		for _, o := range list {
			out = append(out, o.WebhookID+o.Email+o.Amount+o.OccurredAt.String())
		}
		slices.Sort(out)
		return out
	}
	first := ids(append(report.Acknowledged, report.Refused...))
	if !slices.Equal(first, ids(again.Acknowledged)) {
		t.Error("the same seed sends other orders")
	}
}

func TestLoadEndsWithItsContext(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Hub = "http://127.0.0.1:1" })
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	report, err := b.Load(ctx, LoadConfig{Rate: 1000, Retry: 10 * time.Millisecond})
	if err != nil || len(report.Acknowledged) != 0 || len(report.Unknown) == 0 {
		t.Errorf("%v %+v", err, report)
	}
	if _, err := b.Load(ctx, LoadConfig{Vendor: Zoho}); err == nil || !strings.Contains(err.Error(), "sends no orders") {
		t.Errorf("%v", err)
	}
}
