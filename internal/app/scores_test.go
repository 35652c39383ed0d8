package app

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/server"
)

const atRisk = `model: risk
stages: [{name: steady}, {name: fading}]
decide:
  - stage: fading
    when: (score.active ?? 1) < 0.3
  - otherwise: steady
`

// Scores are unknown, are fitted to the hub's own orders when asked, move customers, and are in use after a restart.
func TestScoresOfTheHubsOwnOrders(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, s *site) {
		s.write(t, "risk.yaml", atRisk)
		s.edit(t, "stagewire.yaml", "models: [clc]", "models: [risk.yaml]")
		r := s.start(t, nil)
		const seed, people = 5, 220
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 6))
		sent := 0
		for i := range people {
			at := time.Now().Add(-time.Duration(200+random.IntN(100)) * 24 * time.Hour)
			rate, leave := random.ExpFloat64()/3, 1-math.Sqrt(random.Float64()) // orders a week; the probability that one is the last
			for n := 0; n < 12 && at.Before(time.Now()); n++ {
				id, stamp := fmt.Sprintf("%d%02d", 1000+i, n), at.UTC().Format(time.RFC3339)
				r.accept(t, shopify("orders/paid", "e"+id, paid(id, fmt.Sprintf(`"processed_at": %q, "created_at": %q, "updated_at": %q, "customer": {"id": %d}, "email": "c%d@example.com", "total_price": "%d.00"`,
					stamp, stamp, stamp, 1000+i, i, 10+random.IntN(60)))))
				sent++
				if n > 0 && random.Float64() < leave {
					break
				}
				at = at.Add(time.Duration(random.ExpFloat64() / rate * float64(7*24*time.Hour)))
			}
		}
		standing := func() map[string]int {
			counts, err := r.store.StageCounts(t.Context(), "risk")
			if err != nil {
				t.Fatal(err)
			}
			return counts
		}
		eventually(t, "all orders are in", func() bool {
			pending, err := r.store.Pending(t.Context(), time.Now())
			return err == nil && pending.DeliveriesOpen == 0 && standing()["steady"] == people
		})
		if page := get[server.ModelList](t, r, "GET", "/models", nil); page.Scores != nil || !page.Items[0].ReadsScores {
			t.Errorf("before the first fit: %+v", page.Scores)
		}
		fitted := get[server.Scores](t, r, "POST", "/scores/refit", nil)
		if fitted.Version != 1 || fitted.Customers != people || fitted.BGNBD == nil || fitted.RFM == nil || fitted.Goodness == nil {
			t.Fatalf("%d orders of %d customers give %+v", sent, people, fitted)
		}
		eventually(t, "customers who stay away are fading", func() bool { return standing()["fading"] > people/10 })
		list, _, err := r.store.Transitions(t.Context(), hub.Page{})
		if err != nil || len(list) == 0 || list[0].Cause != (hub.Cause{Type: hub.CauseSnapshot, ID: "scores/1"}) {
			t.Fatalf("%+v, %v", list, err)
		}
		e := get[server.Explain](t, r, "GET", "/customers/"+list[0].CustomerID+"/explain?model=risk", nil)
		if e.Stage != "fading" || !e.Rules[0].Result || !strings.HasPrefix(fmt.Sprint(e.Rules[0].Clauses[0].Value), "0.") {
			t.Errorf("explained as %+v", e)
		}
		if again := get[server.Scores](t, r, "POST", "/scores/refit", nil); again.Version != 2 {
			t.Errorf("the second fit has version %d", again.Version)
		}
		if due, err := r.refitDue(t.Context(), time.Now()); due || err != nil {
			t.Errorf("a refit is due right after one: %v %v", due, err)
		}
		if due, err := r.refitDue(t.Context(), time.Now().Add(25*time.Hour)); !due || err != nil {
			t.Errorf("a refit is not due after a day: %v %v", due, err)
		}
		r.stop()
		r = s.start(t, nil)
		if v := r.pipeline.ScoresVersion(); v != 2 {
			t.Errorf("after a restart scores %d are in use", v)
		}
	})
}
