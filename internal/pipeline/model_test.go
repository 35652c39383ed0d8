package pipeline_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/pipeline"
)

// decisions counts what was decided in a model, whatever came of it.
func decisions(t *testing.T, registry *prometheus.Registry, model string) (n float64) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "stagewire_decisions_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			for _, label := range m.GetLabel() {
				if label.GetName() == "model" && label.GetValue() == model {
					n += m.GetCounter().GetValue()
				}
			}
		}
	}
	return n
}

// A model that no event of the frame touches, and whose wake-up is not due, is not run.
func TestModelsThatAreNotTouchedAreNotRun(t *testing.T) {
	h := newHarness(t, "")
	h.pipeline.Use(h.publish(t, nil, sleeper, `
model: asking
stages: [{name: quiet}, {name: open}]
decide:
  - {stage: open, when: 'count("ticket.opened", days(10)) >= 1'}
  - otherwise: quiet
`))
	ctx := t.Context()
	run := func(want ...float64) {
		t.Helper()
		if got := []float64{decisions(t, h.registry, "buying"), decisions(t, h.registry, "asking")}; !slices.Equal(got, want) {
			t.Errorf("decided %v times, want %v", got, want)
		}
	}
	h.apply(ctx, t, 1, []hub.Event{order(1, 0, epoch)})
	run(1, 0)
	ticket := order(1, 1, epoch.AddDate(0, 0, 1))
	ticket.ID, ticket.Kind = hub.EventID("shop", "t", "ticket.opened"), "ticket.opened"
	h.apply(ctx, t, 2, []hub.Event{ticket})
	run(1, 1)
	h.horizon(ctx, t, epoch.AddDate(0, 0, 20)) // the ticket grows old; nobody has been silent for long enough
	h.drainWakes(ctx, t)
	run(1, 2)
	h.horizon(ctx, t, epoch.AddDate(0, 0, 40))
	h.drainWakes(ctx, t)
	run(2, 2)
}

// A condition that fails counts as not holding, is counted for its model, and stops nothing.
func TestFailingConditionsAreCounted(t *testing.T) {
	h := newHarness(t, "")
	h.pipeline.Use(h.publish(t, nil, `
model: rich
stages: [{name: poor}, {name: wealthy}]
decide:
  - {stage: wealthy, when: 'any("order.paid", .amount >= eur(5))'}
  - otherwise: poor
`))
	dollars, err := hub.ParseMoney("9", "USD")
	if err != nil {
		t.Fatal(err)
	}
	first, second := order(1, 0, epoch), order(2, 0, epoch)
	first.Properties["amount"] = dollars
	h.apply(t.Context(), t, 1, []hub.Event{first, second})
	if got := h.pipeline.Counts().Failed["rich"]; got != 1 {
		t.Errorf("%d failures", got)
	}
	if standings, _ := h.tell(t); standings["rich 1 poor by initial"] != 2 {
		t.Errorf("%v", standings)
	}
}

// A pin ends at its date by itself, and both its setting and what follows are told.
func TestPinEnds(t *testing.T) { onBoth(t, pinEnds) }

func pinEnds(t *testing.T, h *harness) {
	ctx := t.Context()
	program := *h.pipeline.Program()
	program.Subscriptions = []pipeline.Subscription{{Name: "erp", Kinds: []string{"pin.set", "pin.released", "stage.entered"}}}
	h.pipeline.Use(&program)
	h.horizon(ctx, t, epoch)
	first := order(1, 0, epoch)
	h.apply(ctx, t, 1, []hub.Event{first})
	id := hub.DeriveID(hub.PrefixCustomer, first.ProfileID())
	until := epoch.AddDate(0, 0, 5)
	if _, err := h.pipeline.Pin(ctx, id, hub.PinRecord{Model: "clc", Stage: "loyal", Who: "lena", Why: "an old friend", Until: until}); err != nil {
		t.Fatal(err)
	}
	h.apply(ctx, t, 2, []hub.Event{order(1, 1, epoch.AddDate(0, 0, 1))}) // two orders make others active
	if standings, _ := h.tell(t); standings["clc 1 loyal by pin"] != 1 {
		t.Errorf("while it holds: %v", standings)
	}
	h.horizon(ctx, t, until.Add(-hub.Resolution))
	h.drainWakes(ctx, t)
	if standings, _ := h.tell(t); standings["clc 1 loyal by pin"] != 1 {
		t.Errorf("just before its end: %v", standings)
	}
	h.horizon(ctx, t, until)
	h.drainWakes(ctx, t)
	if standings, _ := h.tell(t); standings["clc 1 active by rule"] != 1 {
		t.Errorf("afterwards: %v", standings)
	}
	rows, _, err := h.store.Deliveries(ctx, hub.DeliveryQuery{Page: hub.Page{Limit: 50}})
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]int{}
	for _, row := range rows {
		var one struct {
			Type string `json:"type"`
			Data struct {
				To  string `json:"to"`
				Who string `json:"who"`
			} `json:"data"`
		}
		if err := json.Unmarshal(row.Body, &one); err != nil {
			t.Fatal(err)
		}
		told[strings.TrimSuffix(strings.TrimPrefix(one.Type, "stagewire."), ".v1")+" "+one.Data.To+one.Data.Who]++
	}
	for _, want := range []string{"stage.entered new", "pin.set lena", "stage.entered loyal", "stage.entered active"} {
		if told[want] != 1 {
			t.Errorf("%q was told %d times: %v", want, told[want], told)
		}
	}
}
