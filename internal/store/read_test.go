package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

func names(people []*hub.CustomerRecord) (list []string) {
	for _, p := range people {
		list = append(list, p.Name)
	}
	return list
}

func TestCustomers(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ada, bob, eve := person("ada"), person("bob"), person("eve")
		bob.Stages[0].Stage, bob.Tags, eve.Name = "active", nil, "100% _Eve_"
		b.apply(t, changes(ada))
		b.apply(t, changes(bob))
		b.apply(t, changes(eve))
		for _, c := range []struct {
			name  string
			query hub.CustomerQuery
			want  []string
		}{
			{"all, the newest first", hub.CustomerQuery{}, []string{"100% _Eve_", "Bob", "Ada"}},
			{"name", hub.CustomerQuery{Text: "aD"}, []string{"Ada"}},
			{"part of the address", hub.CustomerQuery{Text: "bob@EXAMPLE"}, []string{"Bob"}},
			{"no wildcards", hub.CustomerQuery{Text: "0% _e"}, []string{"100% _Eve_"}},
			{"no wildcards, none", hub.CustomerQuery{Text: "a_a"}, nil},
			{"email", hub.CustomerQuery{Email: " Ada@Example.com"}, []string{"Ada"}},
			{"email, none", hub.CustomerQuery{Email: "x@example.com"}, nil},
			{"identifier of any connection", hub.CustomerQuery{Identifier: "shop_customer:bob"}, []string{"Bob"}},
			{"identifier and email that disagree", hub.CustomerQuery{Identifier: "shop_customer:bob", Email: "ada@example.com"}, nil},
			{"stage", hub.CustomerQuery{Model: "clc", Stage: "active"}, []string{"Bob"}},
			{"model", hub.CustomerQuery{Model: "clc"}, []string{"100% _Eve_", "Bob", "Ada"}},
			{"tag", hub.CustomerQuery{Tag: `größe "L"`}, []string{"100% _Eve_", "Ada"}},
			{"part of a tag", hub.CustomerQuery{Tag: "vi"}, nil},
		} {
			got, next, err := b.Customers(t.Context(), c.query)
			if err != nil || next != "" {
				t.Errorf("%s: next %q, %v", c.name, next, err)
			}
			diff(t, c.name, c.want, names(got))
		}
		got, _, _ := b.Customers(t.Context(), hub.CustomerQuery{Email: "ada@example.com"})
		diff(t, "whole", []*hub.CustomerRecord{ada}, got)
		if _, _, err := b.Customers(t.Context(), hub.CustomerQuery{Identifier: "nonsense"}); !errors.Is(err, hub.ErrInvalid) {
			t.Errorf("err = %v", err)
		}
		diff(t, "counts", map[string]int{"new": 2, "active": 1}, must(b.StageCounts(t.Context(), "clc"))(t))
	})
}

// pages walks a list to its end and returns how many rows each page held.
func pages(t *testing.T, list func(hub.Page) (int, string, error)) (sizes []int) {
	t.Helper()
	p := hub.Page{Limit: 3}
	for range 20 {
		n, next, err := list(p)
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, n)
		if next == "" {
			return sizes
		}
		p.Cursor = next
	}
	t.Fatal("the pages do not end")
	return nil
}

func TestPaging(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		ada := person("ada")
		c := changes(ada)
		var rejected []hub.Rejected
		var webhooks []hub.WebhookRecord
		for i := range 7 {
			c.Customers = append(c.Customers, person(fmt.Sprintf("p%d", i)))
			c.Deliveries = append(c.Deliveries, delivery(ada, fmt.Sprintf("dlv_%d", i), "crm", t0))
			c.Ledger = append(c.Ledger, order(ada, fmt.Sprint(i), t0)) // all in one instant
			c.Transitions = append(c.Transitions, hub.Transition{ID: fmt.Sprintf("stg_%d", i), CustomerID: ada.ID, Model: "clc", At: t0, DecidedAt: t0, Sequence: int64(i), Passing: i%2 == 0, Rule: -1})
			c.DeadLetters = append(c.DeadLetters, hub.DeadLetter{ID: fmt.Sprintf("ded_%d", i), Of: "event", Ref: "evt", At: t0, Reason: "r", Place: "p", Attempts: 1})
			rejected = append(rejected, hub.Rejected{ID: fmt.Sprintf("rej_%d", i), Connection: "shop", At: t0, Reason: hub.RejectedSignature, Detail: "d", Headers: []hub.Header{{Name: "X", Value: "y"}}, Size: 9})
			webhooks = append(webhooks, hub.WebhookRecord{ID: fmt.Sprintf("whk_%d", i), Connection: "shop", ReceivedAt: t0, State: hub.WebhookDone, Position: hub.Position{Incarnation: "i", Seq: 1 << 40, Index: i}, Activation: 2})
		}
		b.apply(t, c)
		if err := b.SaveRejected(ctx, rejected); err != nil {
			t.Fatal(err)
		}
		must(b.SaveWebhooks(ctx, webhooks, nil, nil))(t)

		var seen []string
		lists := map[string]func(p hub.Page) (int, string, error){
			"deliveries": func(p hub.Page) (int, string, error) {
				all, next, err := b.Deliveries(ctx, hub.DeliveryQuery{Page: p, State: "due", Destination: "crm", CustomerID: ada.ID})
				return len(all), next, err
			},
			"webhooks": func(p hub.Page) (int, string, error) {
				all, next, err := b.ListWebhooks(ctx, hub.WebhookQuery{Page: p, State: hub.WebhookDone, Connection: "shop"})
				for _, w := range all {
					diff(t, "webhook", webhooks[w.Position.Index], w)
				}
				return len(all), next, err
			},
			"rejected": func(p hub.Page) (int, string, error) {
				all, next, err := b.ListRejected(ctx, p)
				for _, r := range all {
					diff(t, "rejected", rejected[slices.IndexFunc(rejected, func(o hub.Rejected) bool { return o.ID == r.ID })], r)
				}
				return len(all), next, err
			},
			"transitions": func(p hub.Page) (int, string, error) {
				all, next, err := b.Transitions(ctx, p)
				for _, r := range all {
					diff(t, "transition", c.Transitions[r.Sequence], r)
				}
				return len(all), next, err
			},
			"dead letters": func(p hub.Page) (int, string, error) {
				all, next, err := b.DeadLetters(ctx, p)
				return len(all), next, err
			},
		}
		for name, list := range lists {
			diff(t, name, []int{3, 3, 1}, pages(t, list))
		}
		diff(t, "customers", []int{3, 3, 2}, pages(t, func(p hub.Page) (int, string, error) {
			all, next, err := b.Customers(ctx, hub.CustomerQuery{Page: p})
			return len(all), next, err
		}))
		diff(t, "timeline", []int{3, 3, 3, 3, 3, 3, 3}, pages(t, func(p hub.Page) (int, string, error) {
			all, next, err := b.Timeline(ctx, ada.ID, p)
			for _, e := range all {
				seen = append(seen, e.Type+e.ID)
			}
			return len(all), next, err
		}))
		slices.Sort(seen)
		if len(slices.Compact(seen)) != 21 {
			t.Errorf("the timeline repeats or lacks entries: %v", seen)
		}
		for _, cursor := range []string{"!", "bm9uc2Vuc2U", "MQ"} {
			if _, _, err := b.Timeline(ctx, ada.ID, hub.Page{Cursor: cursor}); !errors.Is(err, hub.ErrInvalid) {
				t.Errorf("cursor %q: %v", cursor, err)
			}
		}
		if _, _, err := b.ListRejected(ctx, hub.Page{Cursor: "eA"}); !errors.Is(err, hub.ErrInvalid) {
			t.Errorf("err = %v", err)
		}
	})
}

func TestTimelineSkipsReplacedVersions(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ada := person("ada")
		b.apply(t, changes(ada))
		for version := range 10 {
			r := order(ada, "1", t0.Add(time.Duration(version)*time.Minute))
			r.Version.Activation = int64(version + 1)
			b.apply(t, &hub.Changes{Ledger: []hub.LedgerRecord{r}})
		}
		b.apply(t, &hub.Changes{Ledger: []hub.LedgerRecord{order(ada, "0", t0.Add(-time.Hour))}})
		got, next, err := b.Timeline(t.Context(), ada.ID, hub.Page{Limit: 1})
		if err != nil || len(got) != 1 || got[0].Event.Version.Activation != 10 || next == "" {
			t.Fatalf("first page: %+v %q %v", got, next, err)
		}
		got, next, err = b.Timeline(t.Context(), ada.ID, hub.Page{Limit: 1, Cursor: next})
		if err != nil || len(got) != 1 || !got[0].At.Equal(t0.Add(-time.Hour)) || next != "" {
			t.Errorf("second page: %+v %q %v", got, next, err)
		}
	})
}

func TestWebhookRows(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		w := hub.WebhookRecord{ID: "whk_1", Connection: "shop", ReceivedAt: t0, State: hub.WebhookDone, Kinds: []string{"order.paid"}, EventIDs: []string{"evt_1"}, Position: hub.Position{Incarnation: "i", Seq: 4, Index: 2}, Activation: 1}
		save := func(w hub.WebhookRecord, want int) {
			t.Helper()
			if n := must(b.SaveWebhooks(ctx, []hub.WebhookRecord{w}, nil, nil))(t); n != want {
				t.Errorf("existing: %d, want %d", n, want)
			}
		}
		save(w, 0)
		again := w
		again.State, again.ReceivedAt, again.Position.Seq = hub.WebhookHydrating, t0.Add(time.Hour), 9
		save(again, 1)
		diff(t, "a redelivery does not move it back", w, must(b.Webhook(ctx, "whk_1"))(t))
		again.Activation, again.State, again.Reason = 2, hub.WebhookDead, "no such field"
		save(again, 1)
		want := again
		want.ReceivedAt = t0
		diff(t, "a new mapping does", map[string]hub.WebhookRecord{"whk_1": want}, must(b.Webhooks(ctx, []string{"whk_1", "whk_unknown"}))(t))
		if _, err := b.Webhook(ctx, "whk_unknown"); !errors.Is(err, hub.ErrNotFound) {
			t.Errorf("err = %v", err)
		}
		n := must(b.SaveWebhooks(ctx, []hub.WebhookRecord{{ID: "whk_2", Connection: "shop", ReceivedAt: t0.Add(time.Second), State: hub.WebhookDone}, {ID: "whk_3", Connection: "crm", ReceivedAt: t0, State: hub.WebhookIgnored}}, nil,
			[]hub.DeadLetter{{ID: "ded_1", Of: "webhook", Ref: "whk_1", At: t0}}))(t)
		if n != 0 {
			t.Errorf("existing: %d", n)
		}
		diff(t, "stats", map[string]hub.ConnectionStat{"shop": {LastWebhookAt: t0.Add(time.Second), Webhooks: 2, Dead: 1}, "crm": {LastWebhookAt: t0, Webhooks: 1}}, must(b.ConnectionStats(ctx))(t))
	})
}

func TestWakes(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		diff(t, "empty", []string(nil), must(b.Due(ctx, "clc", t0.AddDate(100, 0, 0), 10))(t))
		var people []*hub.CustomerRecord
		for i := range 5 {
			p := person(fmt.Sprintf("p%d", i))
			p.Stages[0].WakesAt = t0.Add(time.Duration(5-i) * time.Hour)
			other := p.Stages[0]
			other.Model, other.WakesAt = "rfm", t0.Add(time.Minute)
			if i == 0 {
				p.Stages = append(p.Stages, other)
			}
			people = append(people, p)
		}
		b.apply(t, changes(people...))
		diff(t, "due, the oldest first", []string{people[4].ID, people[3].ID}, must(b.Due(ctx, "clc", t0.Add(2*time.Hour), 10))(t))
		diff(t, "at most", []string{people[4].ID}, must(b.Due(ctx, "clc", t0.Add(9*time.Hour), 1))(t))
		diff(t, "of the other model", []string{people[0].ID}, must(b.Due(ctx, "rfm", t0.Add(time.Minute), 10))(t))
		diff(t, "not yet", []string(nil), must(b.Due(ctx, "rfm", t0.Add(time.Minute-time.Microsecond), 10))(t))
	})
}

func TestHorizonsAndGaps(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		save := func(rows ...hub.Horizon) {
			t.Helper()
			if err := b.SaveHorizons(ctx, rows); err != nil {
				t.Fatal(err)
			}
		}
		save(hub.Horizon{Connection: "shop", At: t0.Add(time.Hour), ComputedAt: t0}, hub.Horizon{Connection: "crm", At: t0, Hold: t0.Add(-time.Hour), ComputedAt: t0})
		save(hub.Horizon{Connection: "shop", At: t0, Hold: t0.Add(-time.Minute), ComputedAt: t0.Add(time.Second)}) // never back
		b.tx(t, func(ctx context.Context, tx hub.Tx) error {
			got, err := tx.Horizons(ctx)
			diff(t, "horizons", map[string]hub.Horizon{
				"shop": {Connection: "shop", At: t0.Add(time.Hour), Hold: t0.Add(-time.Minute), ComputedAt: t0.Add(time.Second)},
				"crm":  {Connection: "crm", At: t0, Hold: t0.Add(-time.Hour), ComputedAt: t0},
			}, got)
			return err
		})

		open := func(start time.Time) {
			t.Helper()
			if err := b.OpenGap(ctx, "shop", start); err != nil {
				t.Fatal(err)
			}
		}
		gaps := func() map[string]time.Time { return must(b.OpenGaps(ctx))(t) }
		closeAt := func(opened time.Time) {
			t.Helper()
			if err := b.CloseGaps(ctx, "shop", opened); err != nil {
				t.Fatal(err)
			}
		}
		open(t0)
		b.clock.Set(t0.Add(time.Minute))
		open(t0.Add(30 * time.Second))
		diff(t, "the oldest", map[string]time.Time{"shop": t0}, gaps())
		closeAt(t0) // a reconcile that began before the second gap
		diff(t, "the second is still open", map[string]time.Time{"shop": t0.Add(30 * time.Second)}, gaps())
		b.clock.Set(t0.Add(2 * time.Minute))
		open(t0.Add(30 * time.Second)) // trouble again since then
		closeAt(t0.Add(time.Minute))
		diff(t, "opened again meanwhile", map[string]time.Time{"shop": t0.Add(30 * time.Second)}, gaps())
		closeAt(t0.Add(2 * time.Minute))
		diff(t, "closed", map[string]time.Time{}, gaps())
	})
}

func TestModelSets(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		if _, err := b.ActiveSet(ctx); !errors.Is(err, hub.ErrNotFound) {
			t.Errorf("active of none: %v", err)
		}
		set := func(hash string, models ...hub.ModelVersion) hub.ModelSet {
			return hub.ModelSet{Hash: hash, Models: models, Definition: []byte(`{"write":{}}`)}
		}
		clc1, clc2, rfm := hub.ModelVersion{Name: "clc", Text: "model: clc", Hash: "c1"}, hub.ModelVersion{Name: "clc", Text: "model: clc2", Hash: "c2"}, hub.ModelVersion{Name: "rfm", Text: "model: rfm", Hash: "r1"}
		first := must(b.SaveDraft(ctx, set("h1", clc1, rfm)))(t)
		if first.Number != 1 || first.State != hub.ModelDraft || first.Models[0].Version != 1 || first.Models[1].Version != 1 || !first.CreatedAt.Equal(t0) {
			t.Errorf("first: %+v", first)
		}
		diff(t, "the same again", first, must(b.SaveDraft(ctx, set("h1", clc1, rfm)))(t))
		second := must(b.SaveDraft(ctx, set("h2", clc2, rfm)))(t)
		if second.Number != 2 || second.Models[0].Version != 2 || second.Models[1].Version != 1 {
			t.Errorf("second: %+v", second)
		}
		third := must(b.SaveDraft(ctx, set("h1", clc1, rfm)))(t) // back to the old text
		if third.Number != 3 || third.Models[0].Version != 3 {
			t.Errorf("third: %+v", third)
		}
		drafts := must(b.Drafts(ctx))(t)
		diff(t, "drafts", []hub.ModelSet{third, second, first}, drafts)

		if err := b.Publish(ctx, 99, t0); !errors.Is(err, hub.ErrNotFound) {
			t.Errorf("publish of an unknown number: %v", err)
		}
		for _, number := range []int64{1, 2, 2} {
			if err := b.Publish(ctx, number, t0.Add(time.Duration(number)*time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
		b.again(t)
		active := must(b.ActiveSet(ctx))(t)
		second.State, second.PublishedAt = hub.ModelActive, t0.Add(2*time.Hour)
		for i := range second.Models {
			second.Models[i].State = hub.ModelActive
		}
		diff(t, "active", second, active)
		diff(t, "drafts newer than the active one", []hub.ModelSet{third}, must(b.Drafts(ctx))(t))
		if models := must(b.Models(ctx))(t); len(models) != 4 {
			t.Errorf("models: %+v", models)
		}
		b.tx(t, func(ctx context.Context, tx hub.Tx) error {
			n, scores, err := tx.ActiveVersion(ctx)
			if n != 2 || scores != 0 {
				t.Errorf("active version %d, scores %d", n, scores)
			}
			return err
		})

		// Publishes and drafts of several processes at once: one is active, numbers are never given twice.
		errs := make(chan error)
		for i := range 8 {
			go func() {
				d, err := b.SaveDraft(ctx, set(fmt.Sprint("p", i), clc1))
				if err == nil {
					err = b.Publish(ctx, d.Number, t0)
				}
				errs <- err
			}()
		}
		for range 8 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if got := must(b.ActiveSet(ctx))(t); got.Number < 4 {
			t.Errorf("active: %d", got.Number)
		}
	})
}

func TestActivations(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		for i, step := range []struct {
			connector, hash string
			want            int64
		}{{"shopify", "a", 1}, {"shopify", "a", 1}, {"zendesk", "a", 1}, {"shopify", "b", 2}, {"shopify", "a", 3}, {"shopify", "a", 3}} {
			if got := must(b.Activate(t.Context(), step.connector, step.hash))(t); got != step.want {
				t.Errorf("step %d: %d, want %d", i, got, step.want)
			}
		}
	})
}

func TestSettings(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		for _, value := range []string{"32", "1"} {
			if got := must(b.FixSetting(ctx, "partitions", value))(t); got != "32" {
				t.Errorf("fixed: %q", got)
			}
		}
		for _, value := range []string{"a", "b", ""} {
			if err := b.SaveSetting(ctx, "k", value); err != nil {
				t.Fatal(err)
			}
			if got := must(b.Setting(ctx, "k"))(t); got != value {
				t.Errorf("setting: %q, want %q", got, value)
			}
		}
	})
}

func TestPrune(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		var rejected []hub.Rejected
		for i := range 10 {
			rejected = append(rejected, hub.Rejected{ID: fmt.Sprintf("rej_%d", i), At: t0.Add(time.Duration(i) * time.Hour)})
		}
		if err := b.SaveRejected(ctx, rejected); err != nil {
			t.Fatal(err)
		}
		if n := must(b.PruneRejected(ctx, 5, t0.Add(2*time.Hour)))(t); n != 5 {
			t.Errorf("pruned %d: two are old and three too many", n)
		}
		left, _, _ := b.ListRejected(ctx, hub.Page{})
		if len(left) != 5 || left[0].ID != "rej_9" {
			t.Errorf("left: %v", left)
		}
		ada := person("ada")
		c := changes(ada)
		c.Deliveries = []hub.Delivery{delivery(ada, "dlv_1", "crm", t0)}
		b.apply(t, c)
		for i := range 4 {
			now := t0.Add(time.Duration(i) * time.Hour)
			b.claim(t, "crm", now, 1, false)
			b.finish(t, hub.Finished{DeliveryID: "dlv_1", Claim: int64(i + 1), State: hub.DeliveryRetrying, DueAt: now, Attempt: hub.Attempt{At: now, Outcome: hub.Retry}})
		}
		if n := must(b.PruneAttempts(ctx, t0.Add(2*time.Hour)))(t); n != 2 {
			t.Errorf("pruned %d attempts", n)
		}
		d, attempts, err := b.Delivery(ctx, "dlv_1")
		if err != nil || len(attempts) != 2 || d.Attempts != 4 || d.Last == nil {
			t.Errorf("left: %+v %v %v", d, attempts, err)
		}
	})
}
