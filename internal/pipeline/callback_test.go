package pipeline_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/pipeline"
)

// A receiver who puts a customer's callbacks in order of their sequence loses none: no two have the same, and each names the one before.
func TestCallbacksOfOneCustomerAreAChain(t *testing.T) {
	h := newHarness(t, "")
	program := *h.pipeline.Program()
	program.Subscriptions = []pipeline.Subscription{{Name: "erp", Kinds: []string{"stage.entered", "order.paid"}}}
	h.pipeline.Use(&program)
	var owed [][]string
	h.pipeline.Written = func(destinations []string, _ []hub.OutboxRecord) { owed = append(owed, destinations) }
	ctx := t.Context()
	for n := range 5 {
		order := string(rune('a' + n))
		h.apply(ctx, t, uint64(n+1), []hub.Event{{
			ID: hub.EventID("shop", order, "order.paid"), Version: hub.Version{Activation: 1}, Kind: "order.paid", Connection: "shop",
			OccurredAt: epoch.AddDate(0, 0, n), ReceivedAt: epoch.AddDate(0, 0, n), Properties: map[string]any{"id": order},
			Identifiers: []hub.Identifier{{Kind: "shopify_customer", Connection: "shop", Value: "7", Record: true}},
		}})
	}
	if each := []string{pipeline.CallbackDestination("erp")}; len(owed) != 5 || slices.ContainsFunc(owed, func(to []string) bool { return !slices.Equal(to, each) }) {
		t.Errorf("what is owed was told as %v", owed)
	}
	rows, _, err := h.store.Deliveries(ctx, hub.DeliveryQuery{Page: hub.Page{Limit: 50}})
	if err != nil {
		t.Fatal(err)
	}
	type callback struct {
		ID       string `json:"id"`
		Sequence string `json:"sequence"`
		Previous string `json:"previous"`
		Type     string `json:"type"`
	}
	var chain []callback
	for _, row := range rows {
		var one callback
		if err := json.Unmarshal(row.Body, &one); err != nil {
			t.Fatal(err)
		}
		chain = append(chain, one)
	}
	slices.SortFunc(chain, func(a, b callback) int { return strings.Compare(a.Sequence, b.Sequence) })
	var types []string
	previous, sequence := "", ""
	for _, one := range chain {
		if one.Sequence <= sequence || one.Previous != previous {
			t.Errorf("%+v follows %s with sequence %s", one, previous, sequence)
		}
		previous, sequence = one.ID, one.Sequence
		types = append(types, strings.TrimSuffix(strings.TrimPrefix(one.Type, "stagewire."), ".v1"))
	}
	want := "order.paid stage.entered order.paid stage.entered order.paid order.paid order.paid stage.entered"
	if got := strings.Join(types, " "); got != want {
		t.Errorf("told %s, want %s", got, want)
	}
}
