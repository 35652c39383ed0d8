package store_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// After a publish everybody is found who stands in another version of a model or not in it at all, and nobody else.
func TestStale(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		if ids, next, err := b.Stale(ctx, map[string]int{"clc": 3}, "", 10); err != nil || len(ids) != 0 || next != "" {
			t.Errorf("empty: %v %q %v", ids, next, err)
		}
		people := map[string]*hub.CustomerRecord{}
		add := func(name string, change func(*hub.CustomerRecord)) {
			p := person(name)
			second := p.Stages[0]
			second.Model, second.Version = "rfm", 1
			p.Stages = append(p.Stages, second)
			if change != nil {
				change(p)
			}
			people[name] = p
		}
		add("right", nil)
		add("old", func(p *hub.CustomerRecord) { p.Stages[0].Version = 2 })
		add("newer", func(p *hub.CustomerRecord) { p.Stages[0].Version = 4 })
		add("lacks one", func(p *hub.CustomerRecord) { p.Stages = p.Stages[:1] })
		add("lacks all", func(p *hub.CustomerRecord) { p.Stages = nil })
		add("of a deal", func(p *hub.CustomerRecord) {
			p.Stages[1].Subject = hub.Subject{Kind: hub.SubjectDeal, ID: "deal_1"} // is not hers
		})
		add("merged", func(p *hub.CustomerRecord) { p.Stages, p.MergedInto = nil, people["right"].ID })
		add("never decided", func(p *hub.CustomerRecord) { p.Stages, p.DecidedAt = nil, time.Time{} })
		for i := range 40 { // more than a page
			add(fmt.Sprintf("right too %d", i), nil)
		}
		var records []*hub.CustomerRecord
		names := map[string]string{}
		for name, p := range people {
			records = append(records, p)
			names[p.ID] = name
		}
		b.apply(t, changes(records...))
		b.again(t)

		all := func(models map[string]int, limit int) []string {
			t.Helper()
			var found []string
			after, pages := "", 0
			for {
				ids, next, err := b.Stale(ctx, models, after, limit)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.IsSorted(ids) || (len(ids) > 0 && ids[0] <= after) || len(ids) > limit {
					t.Errorf("after %s: %v", after, ids)
				}
				for _, id := range ids {
					found = append(found, names[id])
				}
				if pages++; next == "" {
					break
				}
				after = next
			}
			if want := 46/limit + 1; pages != want {
				t.Errorf("%d pages of %d, want %d", pages, limit, want)
			}
			slices.Sort(found)
			return found
		}
		both := map[string]int{"clc": 3, "rfm": 1}
		want := []string{"lacks all", "lacks one", "newer", "of a deal", "old"}
		diff(t, "both models", want, all(both, 7))
		diff(t, "in one page", want, all(both, 1000))
		diff(t, "one model", []string{"lacks all", "newer", "old"}, all(map[string]int{"clc": 3}, 7))
		if everybody := all(nil, 7); len(everybody) != 46 || slices.Contains(everybody, "merged") || slices.Contains(everybody, "never decided") {
			t.Errorf("without models: %v", everybody)
		}
		if n := must(b.Decided(ctx))(t); n != 46 {
			t.Errorf("%d are decided, want 46", n)
		}
	})
}
