package rules

import (
	"fmt"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/lifecycle"
)

// BenchmarkAll decides, with the facts at hand, one customer with two years of orders, visits and questions by all shipped models of customers.
func BenchmarkAll(b *testing.B) {
	var models []*lifecycle.Model
	var states []lifecycle.State
	start := time.Date(2026, 1, 1, 10, 0, 0, 0, time.UTC)
	for _, name := range Names() {
		text, _ := Text(name)
		m, err := lifecycle.Compile("rules/"+name+".yaml", text, lifecycle.Env{})
		if err != nil {
			b.Fatal(err)
		}
		if m.Of == hub.SubjectCustomer {
			models, states = append(models, m), append(states, m.Initial(start.Add(-hub.Resolution)))
		}
	}
	var p fact.Profile
	put := func(day int, kind string, properties map[string]any) {
		p.Put(&hub.Event{ID: fmt.Sprint(kind, day), Kind: kind, Connection: "shop", OccurredAt: start.AddDate(0, 0, day), Properties: properties})
	}
	for day := 0; day < 730; day += 60 {
		id := fmt.Sprint(day)
		put(day, "page.viewed", nil)
		put(day, "product.viewed", map[string]any{"product": "kettle"})
		put(day, "order.placed", map[string]any{"id": id})
		put(day, "order.paid", map[string]any{"id": id})
		put(day+3, "order.fulfilled", map[string]any{"id": id})
		put(day+5, "message.received", map[string]any{"channel": "email"})
	}
	at := start.AddDate(2, 0, 0)
	facts := fact.Union(&p)
	for i, m := range models {
		states[i], _ = m.Decide(facts, nil, states[i], at)
	}
	for b.Loop() {
		for i, m := range models {
			if _, errs := m.Decide(facts, nil, states[i], at); len(errs) > 0 {
				b.Fatal(errs)
			}
		}
	}
	b.ReportMetric(float64(len(models)), "models")
}
