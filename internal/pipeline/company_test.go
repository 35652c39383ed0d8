package pipeline_test

import (
	"testing"

	"github.com/stagewire/stagewire/internal/hub"
)

// A company has stages of its own in models of companies, and none in those of customers.
func TestCompanies(t *testing.T) { onBoth(t, companies) }

func companies(t *testing.T, h *harness) {
	ctx := t.Context()
	h.pipeline.Use(h.publish(t, nil, `
model: account
of: company
stages: [{name: unknown}, {name: known}, {name: stale}]
decide:
  - {stage: stale, when: 'since("company.updated") >= days(30)'}
  - {stage: known, when: 'ever("company.created")'}
  - otherwise: unknown
`, `
model: person
stages: [{name: someone}, {name: buyer}]
decide:
  - {stage: buyer, when: 'ever("order.paid")'}
  - otherwise: someone
`))
	company := func(n int, kind string) hub.Event {
		ev := order(9, n, epoch.AddDate(0, 0, n))
		ev.ID, ev.Kind = hub.EventID("crm", kind, "acme"), kind
		ev.Connection, ev.Properties = "crm", map[string]any{"id": "acme", "name": "Acme"}
		ev.Identifiers = []hub.Identifier{{Kind: "crm_company", Value: "acme", Connection: "crm", Record: true}}
		return ev
	}
	h.apply(ctx, t, 1, []hub.Event{company(0, "company.created"), company(1, "company.updated"), order(1, 0, epoch)})
	standings, _ := h.tell(t)
	if len(standings) != 2 || standings["account 1 known by rule"] != 1 || standings["person 1 buyer by rule"] != 1 {
		t.Errorf("%v", standings)
	}
	h.horizon(ctx, t, epoch.AddDate(0, 0, 31))
	h.drainWakes(ctx, t)
	if standings, _ = h.tell(t); standings["account 1 stale by rule"] != 1 || len(standings) != 2 {
		t.Errorf("after a month of silence: %v", standings)
	}
}
