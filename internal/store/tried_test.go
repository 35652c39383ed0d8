package store_test

import (
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// What was sent and not seen to end is remembered, durably and across values, until something is known to be written.
func TestTriedValuesOutliveACrash(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ada := person("ada")
		slot := hub.SlotID("shop", ada.ID, "tag:stage:${stage}")
		want := hub.Desired{Slot: slot, Destination: "shop", CustomerID: ada.ID, Field: "tag:stage:${stage}", Action: "add_tag", Mode: "always", Value: "stage:new", Generation: 1}
		d := delivery(ada, "dlv_1", "shop", t0)
		d.Slot, d.Action = slot, "add_tag"
		c := changes(ada)
		c.Desired, c.Deliveries = []hub.Desired{want}, []hub.Delivery{d}
		b.apply(t, c)

		now := t0
		send := func(value string, generation int64) hub.Claimed {
			t.Helper()
			want.Value, want.Generation = value, generation
			b.apply(t, &hub.Changes{Desired: []hub.Desired{want}})
			got := b.claim(t, "shop", now, 10, false)
			if len(got) != 1 || got[0].Desired == nil || got[0].Desired.Value != value {
				t.Fatalf("claimed %+v", got)
			}
			if err := b.Sending(t.Context(), []hub.Send{{DeliveryID: "dlv_1", Claim: got[0].Claim, SentAt: now, Slot: slot, Value: value}}); err != nil {
				t.Fatal(err)
			}
			now = now.Add(2 * lease)
			return got[0]
		}
		if first := send("stage:new", 1); len(first.Desired.Tried) != 0 {
			t.Errorf("tried before the first attempt: %v", first.Desired.Tried)
		}
		b.again(t)
		second := send("stage:active", 2)
		diff(t, "after one crash", []string{"stage:new"}, second.Desired.Tried)
		third := send("stage:active", 2)
		diff(t, "after two", []string{"stage:new", "stage:active"}, third.Desired.Tried)
		fourth := send("stage:loyal", 3)
		diff(t, "the same value twice is one", []string{"stage:new", "stage:active"}, fourth.Desired.Tried)
		b.finish(t, hub.Finished{
			DeliveryID: "dlv_1", Claim: fourth.Claim, State: hub.DeliveryDelivered, Attempt: hub.Attempt{At: now, Outcome: hub.Delivered},
			Written: "stage:loyal", Generation: 3,
		})

		next := d
		next.ID = "dlv_2"
		want.Value, want.Generation = "stage:lost", 4
		b.apply(t, &hub.Changes{Desired: []hub.Desired{want}, Deliveries: []hub.Delivery{next}})
		got := b.claim(t, "shop", now, 10, false)
		if len(got) != 1 || len(got[0].Desired.Tried) != 0 || got[0].Desired.Written != "stage:loyal" {
			t.Errorf("after a delivery: %+v", got)
		}
		if at := got[0].SentAt; !at.Equal(time.Time{}) {
			t.Errorf("sent at %v", at)
		}
	})
}
