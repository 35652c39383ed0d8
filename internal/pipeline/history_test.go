package pipeline_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	compare "github.com/google/go-cmp/cmp"

	"github.com/stagewire/stagewire/internal/hub"
)

// histories returns everybody's way through a model, ordered by its beginning.
func (h *harness) histories(t *testing.T, model string) (all []hub.History) {
	t.Helper()
	if err := h.store.Histories(t.Context(), model, func(history *hub.History) {
		all = append(all, hub.History{Adopted: history.Adopted, Stays: slices.Clone(history.Stays)})
	}); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(all, func(a, b hub.History) int {
		return cmp.Or(a.Stays[0].Since.Compare(b.Stays[0].Since), cmp.Compare(a.Stays[0].Stage, b.Stays[0].Stage))
	})
	return all
}

// Who was known before a model is found by it where she stands, with or without a later move; who comes after it comes into it with her
// first event. A late event is decided when it becomes known, and the way before that stays.
func TestHistoriesSinceAPublish(t *testing.T) { onBoth(t, historiesSinceAPublish) }

func historiesSinceAPublish(t *testing.T, h *harness) {
	ctx := t.Context()
	h.pipeline.Use(h.publish(t, nil, fmt.Sprintf(spender, 3)))
	h.apply(ctx, t, 1, []hub.Event{order(1, 0, epoch), order(2, 0, epoch.Add(time.Hour)), order(2, 1, epoch.Add(2*time.Hour))})
	published := epoch.AddDate(0, 1, 0)
	h.horizon(ctx, t, published)
	h.pipeline.Use(h.publish(t, nil, fmt.Sprintf(spender, 3), buyer))
	h.decideAll(t, h.pipeline)

	later := published.AddDate(0, 1, 0)
	h.apply(ctx, t, 2, []hub.Event{order(2, 2, later), order(3, 0, later.Add(time.Hour)), order(4, 0, later.Add(2*time.Hour))})
	h.apply(ctx, t, 3, []hub.Event{order(4, 1, epoch), order(4, 2, epoch.Add(time.Minute))}) // late by two months

	before := func(at time.Time) time.Time { return at.Add(-hub.Resolution) }
	if diff := compare.Diff([]hub.History{
		{Stays: []hub.Stay{{Stage: "small", Since: before(epoch)}}},
		{Stays: []hub.Stay{{Stage: "small", Since: before(epoch.Add(time.Hour))}, {Stage: "big", Since: later}}},
		{Stays: []hub.Stay{{Stage: "small", Since: before(later.Add(time.Hour))}}},
		{Stays: []hub.Stay{{Stage: "small", Since: before(later.Add(2 * time.Hour))}, {Stage: "big", Since: later.Add(2 * time.Hour)}}},
	}, h.histories(t, "spender")); diff != "" {
		t.Errorf("spender (-want +got):\n%s", diff)
	}
	if diff := compare.Diff([]hub.History{
		{Adopted: true, Stays: []hub.Stay{{Stage: "somebody", Since: published}}},
		{Adopted: true, Stays: []hub.Stay{{Stage: "somebody", Since: published}}},
		{Stays: []hub.Stay{{Stage: "nobody", Since: before(later.Add(time.Hour))}, {Stage: "somebody", Since: later.Add(time.Hour)}}},
		{Stays: []hub.Stay{{Stage: "nobody", Since: before(later.Add(2 * time.Hour))}, {Stage: "somebody", Since: later.Add(2 * time.Hour)}}},
	}, h.histories(t, "buyer")); diff != "" {
		t.Errorf("buyer (-want +got):\n%s", diff)
	}
}
