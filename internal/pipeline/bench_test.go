package pipeline_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/govalues/decimal"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/pipeline"
)

// BenchmarkApply is what one event costs from its frame to the commit, on SQLite: orders of customers who order four times each, told to
// one subscription. Frames hold 64 events, and 64 customers are at it at a time.
func BenchmarkApply(b *testing.B) {
	for _, told := range []string{"stage.entered", "order.paid"} {
		b.Run(told, func(b *testing.B) {
			h := newHarness(b, "")
			program := *h.pipeline.Program()
			program.Subscriptions = []pipeline.Subscription{{Name: "erp", Kinds: []string{told}}}
			h.pipeline.Use(&program)
			const frame, times = 64, 4
			b.ReportAllocs()
			for from := 0; from < b.N; from += frame {
				b.StopTimer()
				events := make([]hub.Event, min(frame, b.N-from))
				for i := range events {
					events[i] = boughtOrder(from+i, (from+i)/(frame*times)*frame+i)
				}
				b.StartTimer()
				h.apply(b.Context(), b, uint64(from/frame+1), events)
			}
		})
	}
}

// boughtOrder is an order as a shop tells of it: identifiers, properties and traits.
func boughtOrder(number, customer int) hub.Event {
	id, at := fmt.Sprint(1000000+number), epoch.Add(time.Duration(number)*time.Second)
	traits := []hub.Trait{{Name: "first_name", Value: "Ada", At: at}, {Name: "last_name", Value: fmt.Sprint("Example ", customer), At: at}, {Name: "country", Value: "DE", At: at}}
	return hub.Event{
		ID: hub.EventID("shop", id, "order.paid"), Version: hub.Version{Activation: 1}, Kind: "order.paid", Connection: "shop",
		OccurredAt: at, OccurredBy: hub.OccurredFact, ReceivedAt: at.Add(time.Second), WebhookID: hub.DeriveID(hub.PrefixWebhook, id), Traits: traits,
		Identifiers: []hub.Identifier{
			{Kind: "shop_person", Connection: "shop", Value: fmt.Sprint(500000 + customer), Record: true},
			{Kind: hub.IdentifierEmail, Value: fmt.Sprintf("c%d@example.com", customer)},
		},
		Properties: map[string]any{
			"id": id, "number": "#" + id, "amount": hub.Money{Amount: decimal.MustNew(5490, 2), Currency: "EUR"}, "items": 2.0, "source": "web", "test": false,
		},
	}
}
