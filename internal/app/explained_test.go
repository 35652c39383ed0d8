package app

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/server"
)

// Every move that the hub has recorded is explained by what it has stored: over events in disorder, late ones, cancelled
// orders and merged customers, models that remember their path and one that reads the other's stage. Explained again, the line that
// decided decides.
func TestEveryMoveIsExplained(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, s *site) {
		s.edit(t, "stagewire.yaml", "models: [clc]", "models: [clc, care.yaml]")
		s.write(t, "care.yaml", `model: care
stages: [{name: calm}, {name: keen, dwell: 3d}, {name: quiet}, {name: back}]
decide:
  - stage: back
    cooldown: 40d
    from: [quiet]
    when: within("order.paid", days(2))
  - stage: quiet
    after: 10d
    when: since("order.paid") >= days(50) or stages.clc == "prospect"
  - stage: keen
    when: count("order.paid", days(60)) >= 2
  - otherwise: calm
`)
		r := s.start(t, nil)
		const seed = 20260304
		t.Logf("seed %d", seed)
		g := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a fixed sequence
		begin := time.Now().UTC().AddDate(-1, -3, 0).Truncate(time.Second)
		sent := 0
		day := 0
		for i := range 90 {
			// Mostly as time goes, now and then from long ago.
			day += g.IntN(4)
			on := day
			if g.IntN(5) == 0 {
				on = g.IntN(day + 1)
			}
			at := begin.AddDate(0, 0, on).Format(time.RFC3339)
			customer := g.IntN(8)
			email := fmt.Sprintf("c%d@example.com", customer)
			if day > 40 && customer < 2 {
				email = "c0@example.com" // two turn out to be one
			}
			id := fmt.Sprint(5000 + i)
			body := fmt.Sprintf(`{"id": %s, "name": "#1", "email": %q, "total_price": "54.90", "currency": "EUR", "financial_status": "paid",
				"created_at": %q, "updated_at": %q, "customer": {"id": %d}, "line_items": []}`, id, email, at, at, 70+customer)
			r.settled(t, r.accept(t, shopify("orders/paid", "p"+id, body)))
			if sent++; g.IntN(5) == 0 {
				gone := begin.AddDate(0, 0, on+g.IntN(3)).Format(time.RFC3339)
				body = fmt.Sprintf(`{"id": %s, "name": "#1", "email": %q, "total_price": "54.90", "currency": "EUR", "cancelled_at": %q, "updated_at": %q, "customer": {"id": %d}, "line_items": []}`,
					id, email, gone, gone, 70+customer)
				r.settled(t, r.accept(t, shopify("orders/cancelled", "c"+id, body)))
				sent++
			}
		}
		moves := func() (all []server.Transition) {
			t.Helper()
			for cursor := ""; ; {
				page := get[server.List[server.Transition]](t, r, "GET", "/transitions?limit=200&cursor="+url.QueryEscape(cursor), nil)
				all = append(all, page.Items...)
				if page.Next == nil {
					return all
				}
				cursor = *page.Next
			}
		}
		last, same := 0, 0
		eventually(t, "all is decided", func() bool {
			pending := get[server.List[server.Webhook]](t, r, "GET", "/webhooks?state=queued", nil)
			n := len(moves())
			if len(pending.Items) > 0 || n != last {
				same = 0
			}
			last = n
			same++
			return same > 3
		})
		causes := map[string]int{}
		for _, m := range moves() {
			causes[m.Cause.Type]++
			why := get[server.Explain](t, r, "GET", "/customers/"+m.CustomerID+"/explain?transition="+m.ID, nil)
			won := -1
			for i, rule := range why.Rules {
				if rule.Won {
					won = i
				}
			}
			if why.Note != "" || why.Stage != m.From || why.Transition == nil || why.Transition.To != m.To || won < 0 || why.Rules[won].Stage != m.To {
				t.Errorf("%s %s of %s: %s to %s by rule %d at %s (%s): explained by %d from %s: %s", m.ID, m.Model, m.CustomerID, m.From, m.To, m.Rule, m.At, m.Cause.Type, won, why.Stage, why.Note)
			}
		}
		if causes[hub.CauseEvent] == 0 || causes[hub.CauseWake] == 0 || causes[hub.CauseLate] == 0 {
			t.Errorf("the story is too plain: %v", causes)
		}
		t.Logf("%d webhooks, moves by cause: %v", sent, causes)
	})
}
