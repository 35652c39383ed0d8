package lifecycle

import (
	"fmt"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
)

// busy is a customer with a year of orders, visits and tickets.
func busy(b *testing.B) *fact.Facts {
	b.Helper()
	var p fact.Profile
	for i := range 60 {
		kind, properties := []string{"page.viewed", "order.paid", "email.opened", "ticket.opened", "ticket.solved"}[i%5], map[string]any{"id": fmt.Sprint(i / 5)}
		if kind == "order.paid" {
			amount, err := hub.ParseMoney("40", "EUR")
			if err != nil {
				b.Fatal(err)
			}
			properties["amount"] = amount
		}
		p.Put(&hub.Event{ID: fmt.Sprintf("evt_%03d", i), Kind: kind, Connection: "shop", OccurredAt: day(i * 6).Add(time.Hour), Properties: properties})
	}
	return fact.Union(&p)
}

// decides runs one decision after another over facts that are at hand.
func decides(b *testing.B, m *Model) {
	b.Helper()
	f := busy(b)
	at := day(361)
	st, errs := m.Decide(f, nil, m.Initial(day(0)), at)
	if len(errs) > 0 {
		b.Fatal(errs)
	}
	b.ReportAllocs()
	for b.Loop() {
		st, _ = m.Decide(f, nil, st, at)
	}
	b.ReportMetric(float64(len(m.rules)), "rules")
}

// BenchmarkDecideFiveRules is the floor of one model of five rules: 3 us when facts are at hand.
func BenchmarkDecideFiveRules(b *testing.B) {
	m, err := Compile("m.yaml", []byte(`
model: five
stages: [{name: lost}, {name: angry}, {name: vip}, {name: loyal}, {name: active}, {name: new}]
decide:
  - stage: lost
    when: since("order.paid") >= days(180) or never("order.paid")
  - stage: angry
    when: any(tickets, .open and .type == "complaint" and .open_for >= hours(48))
  - stage: vip
    when: spent("EUR", days(365)) >= eur(5000)
  - stage: loyal
    when: count("order.paid", days(365)) >= 20 and (nps() ?? 10) >= 7
  - stage: active
    when: count("order.paid", .age <= days(90) and .amount >= eur(100)) >= 2
  - otherwise: new
`), Env{})
	if err != nil {
		b.Fatal(err)
	}
	decides(b, m)
}

// BenchmarkDecideByTheClock has a model that asks for hours, days and business time.
func BenchmarkDecideByTheClock(b *testing.B) {
	m, err := Compile("m.yaml", []byte(`
model: clock
zone: Europe/Berlin
stages: [{name: waits}, {name: late}, {name: quiet}, {name: fine}]
decide:
  - stage: late
    when: any(tickets, .open and .open_for >= business_hours(16))
  - stage: waits
    when: any(tickets, .open and .open_for >= business_hours(8)) and hour() >= 9 and hour() < 17
  - stage: quiet
    when: since("page.viewed") >= business_hours(80) and weekday() not in ["sat", "sun"]
  - otherwise: fine
`), Env{})
	if err != nil {
		b.Fatal(err)
	}
	decides(b, m)
}
