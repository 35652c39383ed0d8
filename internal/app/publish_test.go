package app

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/server"
)

const ladder = `model: ladder
stages:
  - {name: low}
  - {name: high}
decide:
  - stage: high
    when: count("order.paid") >= 2
  - otherwise: low
`

// The author's loop: edit, look at the draft, publish, and everybody is decided, without a restart and across one.
func TestPublish(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, s *site) {
		s.edit(t, "stagewire.yaml", "models: [clc]", "models: [clc, ladder.yaml]")
		s.configure(t, "reactions: [reactions]\nsubscriptions:\n  - {name: erp, url: \"http://127.0.0.1:9/\", secret: \"${file:secrets/shop}\", kinds: [stage.entered], models: [ladder], allow_private_addresses: true}\n")
		s.write(t, "reactions/none.yaml", "reactions: []\n")
		s.write(t, "ladder.yaml", ladder)
		r := s.start(t, nil)
		const people = 300 // more than a page
		for i := range people {
			id := fmt.Sprint(1000 + i)
			r.accept(t, shopify("orders/paid", "e"+id, paid(id, fmt.Sprintf(`"customer": {"id": %s}, "email": "c%s@example.com"`, id, id))))
		}
		standing := func(model string) map[string]int {
			t.Helper()
			counts, err := r.store.StageCounts(t.Context(), model)
			if err != nil {
				t.Fatal(err)
			}
			return counts
		}
		eventually(t, "everybody is low", func() bool { return standing("ladder")["low"] == people })

		if status, text := r.api(t, "POST", "/models/ladder/publish", nil); status != http.StatusConflict || !strings.Contains(string(text), "nothing has changed since set 1 was published") {
			t.Errorf("nothing to publish: %d %s", status, text)
		}
		if status, text := r.api(t, "POST", "/models/laddr/publish", nil); status != http.StatusNotFound {
			t.Errorf("unknown model: %d %s", status, text)
		}
		s.write(t, "ladder.yaml", strings.Replace(ladder, "order.paid", "order.payed", 1))
		status, text := r.api(t, "POST", "/models/ladder/publish", nil)
		problem := decoded[server.Problem](t, string(text))
		if status != http.StatusBadRequest || len(problem.Errors) != 1 || problem.Errors[0].Line != 7 || !strings.Contains(problem.Errors[0].Suggestion, "order.paid") || !strings.HasSuffix(problem.Errors[0].File, "ladder.yaml") {
			t.Errorf("a mistake: %d %s", status, text)
		}

		// One order is enough now, and there is a third model.
		s.write(t, "ladder.yaml", strings.Replace(ladder, ">= 2", ">= 1", 1))
		s.write(t, "second.yaml", strings.Replace(ladder, "model: ladder", "model: second", 1))
		s.edit(t, "stagewire.yaml", "ladder.yaml]", "ladder.yaml, second.yaml]")
		if err := r.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		var drafts []string
		for _, m := range get[server.ModelList](t, r, "GET", "/models", nil).Items {
			if m.State != "shipped" {
				drafts = append(drafts, fmt.Sprintf("%s %d %s", m.Name, m.Version, m.State))
			}
		}
		if diff := cmp.Diff([]string{"clc 1 active", "ladder 1 active", "ladder 2 draft", "second 1 draft"}, drafts); diff != "" {
			t.Errorf("models (-want +got):\n%s", diff)
		}
		if counts := standing("ladder"); counts["low"] != people {
			t.Errorf("before the publish the draft decides: %v", counts)
		}
		published := get[server.Published](t, r, "POST", "/models/second/publish", nil)
		want := server.Published{Set: 2, Customers: people, Models: []server.PublishedModel{
			{Name: "clc", Change: "unchanged", From: 1, Version: 1}, {Name: "ladder", Change: "changed", From: 1, Version: 2}, {Name: "second", Change: "new", Version: 1},
		}}
		if diff := cmp.Diff(want, published); diff != "" {
			t.Errorf("published (-want +got):\n%s", diff)
		}
		// Killed at once: the next process goes on.
		r.stop()
		r = s.start(t, nil)
		eventually(t, "everybody is high", func() bool { return standing("ladder")["high"] == people })
		eventually(t, "everybody is in the new model", func() bool { return standing("second")["low"] == people })
		transitions, cursor := map[string]int{}, ""
		for {
			page, next, err := r.store.Transitions(t.Context(), hub.Page{Limit: 200, Cursor: cursor})
			if err != nil {
				t.Fatal(err)
			}
			for _, tr := range page {
				if tr.Model != "clc" {
					transitions[fmt.Sprintf("%s %d %s→%s %s", tr.Model, tr.Version, tr.From, tr.To, tr.Cause.Type)]++
				}
			}
			if cursor = next; cursor == "" {
				break
			}
		}
		if diff := cmp.Diff(map[string]int{"ladder 2 low→high publish": people}, transitions); diff != "" {
			t.Errorf("transitions (-want +got):\n%s", diff)
		}
		pending, err := r.store.Pending(t.Context(), time.Now())
		if err != nil || pending.DeliveriesOpen != people {
			t.Errorf("%d callbacks are owed, %v", pending.DeliveriesOpen, err)
		}
		r.stillWorks(t, "after@example.com")

		// A reaction alone moves nobody, and says so.
		s.write(t, "reactions/none.yaml", "reactions: [{name: call, enter: ladder.high, do: [{create_task: {via: crm, subject: Call}}]}]\n")
		published = get[server.Published](t, r, "POST", "/models/clc/publish", nil)
		if !published.Reactions || published.Write || published.Customers != 0 || published.DecidesAnew() {
			t.Errorf("a reaction alone: %+v", published)
		}
		// A model that is gone is said to be gone.
		s.edit(t, "stagewire.yaml", "ladder.yaml, second.yaml]", "ladder.yaml]")
		if err := r.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		published = get[server.Published](t, r, "POST", "/models/clc/publish", nil)
		if last := published.Models[len(published.Models)-1]; last != (server.PublishedModel{Name: "second", Change: "removed", From: 1}) {
			t.Errorf("a model that is gone: %+v", published)
		}
		r.stillWorks(t, "later@example.com")
	})
}
