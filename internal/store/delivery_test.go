package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

const lease = time.Minute

func (b *bench) claim(t *testing.T, destination string, now time.Time, limit int, ordered bool) []hub.Claimed {
	t.Helper()
	return must(b.Claim(t.Context(), destination, now, lease, limit, ordered))(t)
}

func ids(claimed []hub.Claimed) []string {
	var list []string
	for i := range claimed {
		list = append(list, claimed[i].ID)
	}
	return list
}

func (b *bench) finish(t *testing.T, done ...hub.Finished) {
	t.Helper()
	if err := b.Finish(t.Context(), done); err != nil {
		t.Fatalf("finish: %v", err)
	}
}

func (b *bench) state(t *testing.T, id string) hub.Delivery {
	t.Helper()
	d, _, err := b.Delivery(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDeliveryLife(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ada := person("ada")
		c := changes(ada)
		c.Deliveries = []hub.Delivery{
			delivery(ada, "dlv_2", "crm", t0.Add(2*time.Second)), delivery(ada, "dlv_1", "crm", t0.Add(time.Second)),
			delivery(ada, "dlv_3", "crm", t0.Add(time.Hour)), delivery(ada, "dlv_4", "shop", t0),
		}
		b.apply(t, c)
		b.apply(t, &hub.Changes{Deliveries: c.Deliveries[:1]}) // the same cause again makes no second one
		diff(t, "saved", c.Deliveries[1], b.state(t, "dlv_1"))

		ctx := t.Context()
		diff(t, "destinations at t0", []string{"shop"}, must(b.Destinations(ctx, t0))(t))
		now := t0.Add(3 * time.Second)
		diff(t, "destinations", []string{"crm", "shop"}, must(b.Destinations(ctx, now))(t))
		due, oldest, err := b.Backlog(ctx, now)
		if err != nil || due != 3 || !oldest.Equal(t0) {
			t.Errorf("backlog %d since %v, %v", due, oldest, err)
		}

		got := b.claim(t, "crm", now, 10, false)
		diff(t, "claimed, the oldest due first", []string{"dlv_1", "dlv_2"}, ids(got))
		want := c.Deliveries[1]
		want.State, want.Claim, want.DueAt = hub.DeliverySending, 1, now.Add(lease)
		if want.Row = got[0].Row; want.Row == 0 {
			t.Error("a claim without its place")
		}
		diff(t, "claim", hub.Claimed{Delivery: want, Recipient: hub.Recipient{CustomerID: ada.ID, Identifiers: hub.UnionIdentifiers(ada.Profiles)}}, got[0])
		if more := b.claim(t, "crm", now, 10, false); len(more) != 0 {
			t.Errorf("claimed twice: %v", ids(more))
		}
		if err := b.Sending(ctx, []hub.Send{{DeliveryID: "dlv_1", Claim: 1, SentAt: now}, {DeliveryID: "dlv_2", Claim: 1, SentAt: now}}); err != nil {
			t.Fatal(err)
		}
		attempt := hub.Attempt{At: now, Status: 429, Outcome: hub.Retry, Error: "slow \x00down", Duration: 31 * time.Millisecond}
		b.finish(t,
			hub.Finished{DeliveryID: "dlv_1", Claim: 1, State: hub.DeliveryRetrying, DueAt: now.Add(time.Minute), Attempt: attempt},
			hub.Finished{DeliveryID: "dlv_2", Claim: 1, State: hub.DeliveryDelivered, DueAt: now, Attempt: hub.Attempt{At: now, Status: 201, Outcome: hub.Delivered}, ExternalID: "t-9"})
		attempt.Error = "slow \uFFFDdown"
		d, attempts, err := b.Delivery(ctx, "dlv_1")
		if err != nil {
			t.Fatal(err)
		}
		diff(t, "attempts", []hub.Attempt{attempt}, attempts)
		want.State, want.DueAt, want.Attempts, want.SentAt, want.Last, want.Row = hub.DeliveryRetrying, now.Add(time.Minute), 1, now, &attempt, 0
		diff(t, "retrying", want, d)
		if d := b.state(t, "dlv_2"); d.State != hub.DeliveryDelivered || d.ExternalID != "t-9" {
			t.Errorf("delivered: %+v", d)
		}
		stats := must(b.ConnectionStats(ctx))(t)
		if !stats["crm"].LastDeliveryAt.Equal(now) {
			t.Errorf("last delivery of crm: %v", stats["crm"])
		}

		// The retry is refused: a dead letter, then a redrive.
		now = now.Add(time.Minute)
		got = b.claim(t, "crm", now, 10, false)
		diff(t, "the retry", []string{"dlv_1"}, ids(got))
		b.finish(t, hub.Finished{DeliveryID: "dlv_1", Claim: 2, State: hub.DeliveryDead, Attempt: hub.Attempt{At: now, Status: 400, Outcome: hub.Refused, Error: "no such owner"}})
		letters, _, err := b.DeadLetters(ctx, hub.Page{})
		if err != nil || len(letters) != 1 {
			t.Fatalf("dead letters: %v, %v", letters, err)
		}
		letters[0].ID = ""
		diff(t, "dead letter", hub.DeadLetter{Of: "delivery", Ref: "dlv_1", At: now, Reason: "no such owner", Place: "crm", Attempts: 2}, letters[0])
		if n := must(b.Redrive(ctx, "shop", nil, now))(t); n != 0 {
			t.Errorf("redrove %d of another destination", n)
		}
		if n := must(b.Redrive(ctx, "", []string{"dlv_1", "dlv_2"}, now))(t); n != 1 {
			t.Errorf("redrove %d, want 1", n)
		}
		if d := b.state(t, "dlv_1"); d.State != hub.DeliveryDue || d.Attempts != 0 || !d.DueAt.Equal(now) {
			t.Errorf("redriven: %+v", d)
		}
		if letters, _, _ := b.DeadLetters(ctx, hub.Page{}); len(letters) != 0 {
			t.Errorf("the letter stays after a redrive: %v", letters)
		}
		pending := must(b.Pending(ctx, now))(t)
		if pending.DeliveriesDue != 2 || pending.DeliveriesOpen != 3 || pending.Dead != 0 || !pending.OldestDue.Equal(t0) {
			t.Errorf("pending: %+v", pending)
		}
	})
}

func TestClaimsAreFenced(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ada := person("ada")
		c := changes(ada)
		c.Deliveries = []hub.Delivery{delivery(ada, "dlv_1", "crm", t0)}
		b.apply(t, c)
		first := b.claim(t, "crm", t0, 1, false)
		b.again(t) // the worker dies here, with the process
		if early := b.claim(t, "crm", t0.Add(lease-time.Millisecond), 1, false); len(early) != 0 {
			t.Fatal("given again before the lease ran out")
		}
		second := b.claim(t, "crm", t0.Add(lease), 1, false)
		if len(second) != 1 || !second[0].Uncertain || second[0].Claim != first[0].Claim+1 {
			t.Fatalf("second claim: %+v", second)
		}
		// The first worker was only slow: nothing it says counts any more.
		late := hub.Finished{DeliveryID: "dlv_1", Claim: first[0].Claim, State: hub.DeliveryDelivered, Attempt: hub.Attempt{At: t0, Outcome: hub.Delivered}}
		if err := b.Sending(t.Context(), []hub.Send{{DeliveryID: "dlv_1", Claim: first[0].Claim, SentAt: t0}}); !errors.Is(err, hub.ErrConflict) {
			t.Errorf("sending with an old claim: %v, want a conflict", err)
		}
		b.finish(t, late)
		d, attempts, err := b.Delivery(t.Context(), "dlv_1")
		if err != nil || d.State != hub.DeliverySending || len(attempts) != 0 || !d.SentAt.IsZero() {
			t.Errorf("an old claim changed it: %+v %v %v", d, attempts, err)
		}
		// Handing back counts nothing.
		b.finish(t, hub.Finished{DeliveryID: "dlv_1", Claim: second[0].Claim, State: hub.DeliveryDue, DueAt: t0.Add(time.Hour), Uncertain: true})
		d, attempts, err = b.Delivery(t.Context(), "dlv_1")
		if err != nil || d.State != hub.DeliveryDue || d.Attempts != 0 || d.Last != nil || !d.Uncertain || len(attempts) != 0 {
			t.Errorf("handed back: %+v %v %v", d, attempts, err)
		}
	})
}

func TestConcurrentClaims(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ada := person("ada")
		c := changes(ada)
		for i := range 200 {
			c.Deliveries = append(c.Deliveries, delivery(ada, fmt.Sprintf("dlv_%03d", i), "crm", t0))
		}
		b.apply(t, c)
		results := make(chan []hub.Claimed)
		for range 8 {
			go func() {
				var mine []hub.Claimed
				for {
					some, err := b.Claim(t.Context(), "crm", t0, lease, 7, false)
					if err != nil {
						t.Error(err)
					}
					if len(some) == 0 {
						break
					}
					mine = append(mine, some...)
				}
				results <- mine
			}()
		}
		var all []string
		for range 8 {
			all = append(all, ids(<-results)...)
		}
		slices.Sort(all)
		if len(all) != 200 || len(slices.Compact(all)) != 200 {
			t.Errorf("%d claims of 200 deliveries, %d different", len(all), len(slices.Compact(all)))
		}
	})
}

func TestOrderedCallbacks(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ada, bob := person("ada"), person("bob")
		c := changes(ada, bob)
		for i, p := range []*hub.CustomerRecord{ada, ada, bob} {
			d := delivery(p, fmt.Sprintf("dlv_%d", i), "subscription:erp", t0)
			d.Action, d.Body, d.Params = "callback", []byte(`{"id":"stg_1"}`), nil
			c.Deliveries = append(c.Deliveries, d)
		}
		b.apply(t, c)
		got := b.claim(t, "subscription:erp", t0, 10, true)
		diff(t, "first of each customer", []string{"dlv_0", "dlv_2"}, ids(got))
		if string(got[0].Body) != `{"id":"stg_1"}` {
			t.Errorf("body %q", got[0].Body)
		}
		b.finish(t, hub.Finished{DeliveryID: "dlv_0", Claim: 1, State: hub.DeliveryRetrying, DueAt: t0.Add(time.Hour), Attempt: hub.Attempt{At: t0, Outcome: hub.Retry}},
			hub.Finished{DeliveryID: "dlv_2", Claim: 1, State: hub.DeliveryDelivered, Attempt: hub.Attempt{At: t0, Outcome: hub.Delivered}})
		diff(t, "while the earlier waits", []string(nil), ids(b.claim(t, "subscription:erp", t0, 10, true)))
		got = b.claim(t, "subscription:erp", t0.Add(time.Hour), 1, true)
		diff(t, "the earlier again", []string{"dlv_0"}, ids(got))
		b.finish(t, hub.Finished{DeliveryID: "dlv_0", Claim: 2, State: hub.DeliveryDead, Attempt: hub.Attempt{At: t0, Outcome: hub.Refused}})
		diff(t, "after it died", []string{"dlv_1"}, ids(b.claim(t, "subscription:erp", t0, 10, true)))
	})
}

func TestParked(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ada := person("ada")
		c := changes(ada)
		c.Deliveries = []hub.Delivery{delivery(ada, "dlv_1", "crm", t0), delivery(ada, "dlv_2", "crm", t0)}
		c.Deliveries[1].State = hub.DeliveryHeld
		b.apply(t, c)
		ctx := t.Context()
		got := b.claim(t, "crm", t0, 10, false)
		diff(t, "held ones wait for a person", []string{"dlv_1"}, ids(got))
		b.finish(t, hub.Finished{DeliveryID: "dlv_1", Claim: 1, State: hub.DeliveryParked, DueAt: t0})
		diff(t, "parked", []string{"crm"}, must(b.Parked(ctx))(t))
		diff(t, "not due", []string(nil), must(b.Destinations(ctx, t0.Add(time.Hour)))(t))
		if err := b.Unpark(ctx, "crm", t0.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		diff(t, "due again", []string{"dlv_1"}, ids(b.claim(t, "crm", t0.Add(time.Hour), 10, false)))
	})
}

func TestSlots(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ada := person("ada")
		slot := hub.SlotID("crm", ada.ID, "lifecyclestage")
		want := hub.Desired{Slot: slot, Destination: "crm", CustomerID: ada.ID, Field: "lifecyclestage", Action: "set_stage", Mode: "if_ours", Value: "lead", Generation: 1, UpdatedAt: t0}
		d := delivery(ada, "dlv_1", "crm", t0)
		d.Slot, d.Action = slot, "set_stage"
		c := changes(ada)
		c.Desired, c.Deliveries = []hub.Desired{want}, []hub.Delivery{d}
		b.apply(t, c)

		// A change before it is sent: one open delivery, and the newest value is claimed.
		want.Value, want.Generation = "customer", 2
		next := d
		next.ID = "dlv_2"
		b.tx(t, func(ctx context.Context, tx hub.Tx) error {
			rows, err := tx.Desired(ctx, []string{slot, "slt_unknown"})
			if err != nil {
				return err
			}
			if len(rows) != 1 || rows[slot].Generation != 1 {
				t.Errorf("desired: %v", rows)
			}
			return tx.Save(ctx, &hub.Changes{Desired: []hub.Desired{want}, Deliveries: []hub.Delivery{next}})
		})
		got := b.claim(t, "crm", t0, 10, false)
		diff(t, "claimed", []string{"dlv_1"}, ids(got))
		diff(t, "with the newest value", &want, got[0].Desired)

		// A change while it is being sent: nothing new until it is finished, then at once.
		want.Value, want.Generation = "evangelist", 3
		next.ID = "dlv_3"
		b.apply(t, &hub.Changes{Desired: []hub.Desired{want}, Deliveries: []hub.Delivery{next}})
		diff(t, "one at a time", []string(nil), ids(b.claim(t, "crm", t0, 10, false)))
		b.finish(t, hub.Finished{DeliveryID: "dlv_1", Claim: 1, State: hub.DeliveryDelivered, Attempt: hub.Attempt{At: t0, Outcome: hub.Delivered}, Written: "customer", Generation: 2})
		got = b.claim(t, "crm", t0, 10, false)
		if len(got) != 1 || got[0].ID != hub.DeriveID(hub.PrefixDelivery, slot, "3") || got[0].Slot != slot || got[0].Action != "set_stage" {
			t.Fatalf("the next delivery: %+v", got)
		}
		want.Written, want.WrittenGeneration = "customer", 2
		diff(t, "desired now", &want, got[0].Desired)
		b.finish(t, hub.Finished{DeliveryID: got[0].ID, Claim: 1, State: hub.DeliverySkipped, Attempt: hub.Attempt{At: t0, Outcome: hub.Skipped, Error: "no record"}, Generation: 3})
		diff(t, "quiet", []string(nil), ids(b.claim(t, "crm", t0.Add(time.Hour), 10, false)))

		// An old writer does not take Written back.
		stale := want
		stale.Written, stale.WrittenGeneration = "", 0
		b.apply(t, &hub.Changes{Desired: []hub.Desired{stale}})

		// The customer becomes known there: what was skipped is due again; elsewhere nothing happens.
		b.apply(t, &hub.Changes{Woken: []hub.Woken{{CustomerID: ada.ID, Destination: "shop"}}})
		diff(t, "woken elsewhere", []string(nil), ids(b.claim(t, "crm", t0.Add(time.Hour), 10, false)))
		b.apply(t, &hub.Changes{Woken: []hub.Woken{{CustomerID: ada.ID, Destination: "crm"}, {CustomerID: ada.ID, Destination: "crm"}}})
		got = b.claim(t, "crm", t0.Add(time.Hour), 10, false)
		if len(got) != 1 {
			t.Fatalf("woken: %v", ids(got))
		}
		diff(t, "desired after waking", &want, got[0].Desired)
		b.finish(t, hub.Finished{DeliveryID: got[0].ID, Claim: got[0].Claim, State: hub.DeliveryDelivered, Attempt: hub.Attempt{At: t0, Outcome: hub.Delivered}, Written: "evangelist", Generation: 3})
		b.apply(t, &hub.Changes{Woken: []hub.Woken{{CustomerID: ada.ID, Destination: "crm"}}})
		diff(t, "all written", []string(nil), ids(b.claim(t, "crm", t0.Add(2*time.Hour), 10, false)))
	})
}

func TestSlotThatDiesMovesOn(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ada := person("ada")
		slot := hub.SlotID("crm", ada.ID, "f")
		row := hub.Desired{Slot: slot, Destination: "crm", CustomerID: ada.ID, Field: "f", Action: "set_fields", Value: "1", Generation: 1}
		d := delivery(ada, "dlv_1", "crm", t0)
		d.Slot = slot
		c := changes(ada)
		c.Desired, c.Deliveries = []hub.Desired{row}, []hub.Delivery{d}
		b.apply(t, c)
		b.claim(t, "crm", t0, 1, false)
		row.Value, row.Generation = "2", 2
		b.apply(t, &hub.Changes{Desired: []hub.Desired{row}})
		b.finish(t, hub.Finished{DeliveryID: "dlv_1", Claim: 1, State: hub.DeliveryDead, Attempt: hub.Attempt{At: t0, Outcome: hub.Refused}, Generation: 1})
		if n := must(b.Redrive(t.Context(), "crm", nil, t0))(t); n != 0 {
			t.Errorf("redrove a slot's dead delivery beside its open one")
		}
		got := b.claim(t, "crm", t0, 10, false)
		if len(got) != 1 || got[0].Desired == nil || got[0].Desired.Value != "2" {
			t.Errorf("the newer value is not on its way: %+v", got)
		}
	})
}

func TestOpenKeys(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ada := person("ada")
		open, done := delivery(ada, "dlv_1", "crm", t0), delivery(ada, "dlv_2", "desk", t0)
		open.Key, done.Key = "win-back", "hello"
		c := changes(ada)
		c.Deliveries = []hub.Delivery{open, done, delivery(ada, "dlv_3", "crm", t0)}
		b.apply(t, c)
		b.claim(t, "desk", t0, 1, false)
		b.finish(t, hub.Finished{DeliveryID: "dlv_2", Claim: 1, State: hub.DeliveryDelivered, ExternalID: "77", Attempt: hub.Attempt{At: t0, Outcome: hub.Delivered}})
		check := func(what string, want map[string]bool) {
			t.Helper()
			b.tx(t, func(ctx context.Context, tx hub.Tx) error {
				got, err := tx.OpenKeys(ctx, ada.ID, []string{"win-back", "hello", "other", ""})
				diff(t, what, want, got)
				return err
			})
		}
		check("open keys: one to do, one created", map[string]bool{"win-back": true, "hello": true})
		b.apply(t, &hub.Changes{Closed: []hub.Closed{{CustomerID: ada.ID, Destination: "crm", ExternalID: "77"}}})
		check("a task of another system is done", map[string]bool{"win-back": true, "hello": true})
		b.apply(t, &hub.Changes{Closed: []hub.Closed{{CustomerID: ada.ID, Destination: "desk", ExternalID: "77"}}})
		check("the created one is done", map[string]bool{"win-back": true})
		b.apply(t, &hub.Changes{Closed: []hub.Closed{{Reference: "dlv_1"}}})
		check("both are done", map[string]bool{})
	})
}

func TestEcho(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ada := person("ada")
		c := changes(ada)
		c.Deliveries = []hub.Delivery{delivery(ada, "dlv_1", "crm", t0)}
		b.apply(t, c)
		b.claim(t, "crm", t0, 1, false)
		change := hub.FieldChange{Object: "contact", ID: "7", Field: "lifecyclestage", Value: "lead"}
		other := change
		other.Value = ""
		write := func(f hub.FieldChange, at time.Time) hub.Written {
			return hub.Written{Connection: "crm", FieldChange: f, SentAt: at}
		}
		// The clearing step, the value, and the value once more in the same instant.
		if err := b.Sending(t.Context(), []hub.Send{{DeliveryID: "dlv_1", Claim: 1, SentAt: t0, Writes: []hub.Written{write(other, t0), write(change, t0), write(change, t0)}}}); err != nil {
			t.Fatal(err)
		}
		consume := func(connection string, f hub.FieldChange, at time.Time) (got bool) {
			b.tx(t, func(ctx context.Context, tx hub.Tx) (err error) {
				got, err = tx.ConsumeEcho(ctx, connection, f, at)
				return err
			})
			return got
		}
		wrong := change
		wrong.ID = "8"
		for i, step := range []struct {
			connection string
			change     hub.FieldChange
			at         time.Time
			want       bool
		}{
			{"crm", wrong, t0, false},
			{"shop", change, t0, false},
			{"crm", change, t0.Add(-31 * time.Second), false}, // sent more than 30 s after it
			{"crm", change, t0.Add(24 * time.Hour), false},    // expired
			{"crm", change, t0.Add(-30 * time.Second), true},
			{"crm", change, t0.Add(time.Hour), true},
			{"crm", change, t0.Add(time.Hour), false}, // consumed
			{"crm", other, t0, true},
		} {
			if got := consume(step.connection, step.change, step.at); got != step.want {
				t.Errorf("step %d: %v, want %v", i, got, step.want)
			}
		}
		// A failed apply gives it back.
		if err := b.Sending(t.Context(), []hub.Send{{DeliveryID: "dlv_1", Claim: 1, SentAt: t0, Writes: []hub.Written{write(change, t0)}}}); err != nil {
			t.Fatal(err)
		}
		_ = b.Apply(t.Context(), func(ctx context.Context, tx hub.Tx) error {
			if ok, err := tx.ConsumeEcho(ctx, "crm", change, t0); err != nil || !ok {
				t.Errorf("consume: %v %v", ok, err)
			}
			return errors.New("undo")
		})
		if !consume("crm", change, t0) {
			t.Error("an undone consumption counts")
		}
	})
}

func TestHydration(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		row := func(object, id, webhook string, item int, due time.Duration) hub.HydrationRecord {
			return hub.HydrationRecord{Connection: "crm", Object: object, ID: id, WebhookID: webhook, Item: item, ReceivedAt: t0, DueAt: t0.Add(due), Context: []byte(`{"kind":"x"}`), State: "due"}
		}
		hydrating := hub.WebhookRecord{ID: "whk_1", Connection: "crm", ReceivedAt: t0, State: hub.WebhookHydrating, Kinds: []string{"a"}, EventIDs: []string{"evt_1"}}
		dying := hub.WebhookRecord{ID: "whk_2", Connection: "crm", ReceivedAt: t0, State: hub.WebhookHydrating}
		rows := []hub.HydrationRecord{row("contact", "7", "whk_1", 0, 0), row("deal", "9", "whk_1", 1, time.Second), row("contact", "8", "whk_2", 0, 0)}
		must(b.SaveWebhooks(ctx, []hub.WebhookRecord{hydrating, dying}, rows, nil))(t)
		must(b.SaveWebhooks(ctx, []hub.WebhookRecord{hydrating}, rows[:2], nil))(t) // a redelivery adds nothing

		diff(t, "oldest", map[string]time.Time{"crm": t0}, must(b.OldestHydration(ctx))(t))
		diff(t, "connections before", []string(nil), must(b.HydrationConnections(ctx, t0.Add(-time.Second)))(t))
		diff(t, "connections", []string{"crm"}, must(b.HydrationConnections(ctx, t0))(t))
		now := t0.Add(2 * time.Second)
		got := must(b.ClaimHydration(ctx, "crm", now, lease, 10))(t)
		want := rows[0]
		want.State, want.Claim, want.DueAt = "fetching", 1, now.Add(lease)
		if len(got) != 2 {
			t.Fatalf("claimed %d rows, want the 2 contacts: %+v", len(got), got)
		}
		diff(t, "claimed", want, got[0])
		deals := must(b.ClaimHydration(ctx, "crm", now, lease, 10))(t)
		if len(deals) != 1 || deals[0].Object != "deal" {
			t.Fatalf("then the deal: %+v", deals)
		}
		if more := must(b.ClaimHydration(ctx, "crm", now, lease, 10))(t); len(more) != 0 {
			t.Errorf("claimed twice: %+v", more)
		}
		if again := must(b.ClaimHydration(ctx, "crm", now.Add(lease), lease, 1))(t); len(again) != 1 || again[0].Claim != 2 {
			t.Errorf("after the lease: %+v", again)
		} else {
			got[0] = again[0]
		}

		if err := b.Fetched(ctx, got[:1], [][]byte{[]byte(`{"id":7}`)}, now); err != nil {
			t.Fatal(err)
		}
		_, bodies, err := b.FetchedBodies(ctx, "whk_1")
		if err != nil || len(bodies) != 1 || string(bodies[0]) != `{"id":7}` {
			t.Errorf("fetched: %q, %v", bodies, err)
		}

		finish := func(done ...hub.Hydrated) {
			t.Helper()
			if err := b.FinishHydration(ctx, done); err != nil {
				t.Fatal(err)
			}
		}
		stale := got[0]
		stale.Claim = 1
		finish(hub.Hydrated{HydrationRecord: stale, Done: true, Kinds: []string{"never"}})
		finish(hub.Hydrated{HydrationRecord: got[0], Done: true, Kinds: []string{"b", "a"}, EventIDs: []string{"evt_2"}, More: []hub.HydrationRecord{row("company", "1", "whk_1", 0, 0)}})
		w := must(b.Webhook(ctx, "whk_1"))(t)
		hydrating.Kinds, hydrating.EventIDs = []string{"a", "b"}, []string{"evt_1", "evt_2"}
		diff(t, "still hydrating", hydrating, w)

		deals[0].Attempts = 3
		finish(hub.Hydrated{HydrationRecord: deals[0], DueAt: now.Add(time.Hour), Error: "503"})
		company := must(b.ClaimHydration(ctx, "crm", now, lease, 1))(t)
		if len(company) != 1 || company[0].Object != "company" {
			t.Fatalf("what the record asked for: %+v", company)
		}
		finish(hub.Hydrated{HydrationRecord: company[0], Done: true})
		deals = must(b.ClaimHydration(ctx, "crm", now.Add(time.Hour), lease, 10))(t)
		i := slices.IndexFunc(deals, func(h hub.HydrationRecord) bool { return h.Object == "deal" })
		if i < 0 {
			deals = must(b.ClaimHydration(ctx, "crm", now.Add(time.Hour), lease, 10))(t)
			i = 0
		}
		if deals[i].Attempts != 3 || deals[i].Error != "503" {
			t.Errorf("the retry: %+v", deals[i])
		}
		finish(hub.Hydrated{HydrationRecord: deals[i], Done: true})
		if w := must(b.Webhook(ctx, "whk_1"))(t); w.State != hub.WebhookDone {
			t.Errorf("state %q, want done", w.State)
		}

		// The last contact dies: its webhook with it, until it is replayed.
		last := got[1]
		claimed := must(b.ClaimHydration(ctx, "crm", now.Add(3*time.Hour), lease, 10))(t)
		last.Claim = claimed[0].Claim
		last.Attempts = 9
		finish(hub.Hydrated{HydrationRecord: last, Dead: true, Error: "gone wrong"})
		if w := must(b.Webhook(ctx, "whk_2"))(t); w.State != hub.WebhookDead || w.Reason == "" {
			t.Errorf("dead: %+v", w)
		}
		letters, _, _ := b.DeadLetters(ctx, hub.Page{})
		if len(letters) != 1 || letters[0].Ref != "whk_2" || !strings.Contains(letters[0].Place, "contact") || letters[0].Attempts != 9 {
			t.Errorf("dead letters: %+v", letters)
		}
		diff(t, "dead work holds nothing", map[string]time.Time{}, must(b.OldestHydration(ctx))(t))
		stats := must(b.ConnectionStats(ctx))(t)
		if s := stats["crm"]; s.Webhooks != 2 || s.Dead == 0 || !s.LastWebhookAt.Equal(t0) {
			t.Errorf("stats: %+v", s)
		}
		must(b.SaveWebhooks(ctx, []hub.WebhookRecord{dying}, rows[2:], nil))(t)
		if letters, _, _ := b.DeadLetters(ctx, hub.Page{}); len(letters) != 0 {
			t.Errorf("letters after a replay: %+v", letters)
		}
		if again := must(b.ClaimHydration(ctx, "crm", now, lease, 10))(t); len(again) != 1 || again[0].ID != "8" {
			t.Errorf("the replay fetches again: %+v", again)
		}
	})
}

func TestTokens(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		if _, err := b.Token(ctx, "crm"); !errors.Is(err, hub.ErrNotFound) {
			t.Errorf("no token: %v", err)
		}
		var inside, most int
		errs := make(chan error)
		for range 5 {
			go func() {
				errs <- b.RefreshToken(ctx, "crm", func(old []byte) ([]byte, error) {
					inside++ // guarded by the lock that is tested: -race sees it too
					most = max(most, inside)
					defer func() { inside-- }()
					return append(slices.Clone(old), 'x'), nil
				})
			}()
		}
		for range 5 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if most != 1 {
			t.Errorf("%d refreshes at once", most)
		}
		if got := must(b.Token(ctx, "crm"))(t); string(got) != "xxxxx" {
			t.Errorf("token %q: a refresh did not see the one before", got)
		}
		refused := errors.New("refused")
		if err := b.RefreshToken(ctx, "crm", func([]byte) ([]byte, error) { return nil, refused }); !errors.Is(err, refused) {
			t.Errorf("err = %v", err)
		}
		if err := b.RefreshToken(ctx, "new", func(old []byte) ([]byte, error) {
			if old != nil {
				t.Errorf("a first refresh got %q", old)
			}
			return nil, refused
		}); !errors.Is(err, refused) {
			t.Errorf("err = %v", err)
		}
		if _, err := b.Token(ctx, "new"); !errors.Is(err, hub.ErrNotFound) {
			t.Errorf("after a refused first refresh: %v", err)
		}
	})
}
