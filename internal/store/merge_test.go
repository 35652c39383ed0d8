package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

func TestMerge(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		ada, bob, eve := person("ada"), person("bob"), person("eve")
		subject := func(p *hub.CustomerRecord) hub.Subject { return hub.Subject{Kind: hub.SubjectCustomer, ID: p.ID} }
		row := func(p *hub.CustomerRecord, destination, field, value string) hub.Desired {
			return hub.Desired{Slot: hub.SlotID(destination, p.ID, field), Destination: destination, CustomerID: p.ID, Field: field, Action: "set_fields", Value: value, Generation: 1}
		}
		slotted := func(id string, d hub.Desired, p *hub.CustomerRecord) hub.Delivery {
			out := delivery(p, id, d.Destination, t0)
			out.Slot = d.Slot
			return out
		}
		c := changes(ada, bob, eve)
		both, both2, single := row(ada, "crm", "stage", "a"), row(bob, "crm", "stage", "b"), row(bob, "desk", "stage", "b")
		c.Desired = []hub.Desired{both, both2, single}
		c.Deliveries = []hub.Delivery{slotted("dlv_a", both, ada), slotted("dlv_b", both2, bob), slotted("dlv_s", single, bob), delivery(bob, "dlv_task", "crm", t0)}
		c.Pins = []hub.PinRecord{
			{Subject: subject(ada), Model: "clc", Stage: "old", At: t0},
			{Subject: subject(bob), Model: "clc", Stage: "newer", At: t0.Add(time.Hour)},
			{Subject: subject(ada), Model: "rfm", Stage: "stays", At: t0.Add(time.Hour)},
			{Subject: subject(bob), Model: "rfm", Stage: "loses", At: t0},
		}
		c.Ledger = []hub.LedgerRecord{order(ada, "1", t0), order(bob, "2", t0.Add(time.Minute)), order(eve, "3", t0.Add(2*time.Minute))}
		c.Transitions = []hub.Transition{{ID: "stg_b", Subject: subject(bob), CustomerID: bob.ID, Model: "clc", From: "new", To: "active", At: t0, DecidedAt: t0, Sequence: 3, Cause: hub.Cause{Type: hub.CauseEvent, ID: "evt"}, Why: "bought"}}
		b.apply(t, c)

		// Eve into bob, then bob into ada: what was eve's is ada's.
		for i, step := range [][2]*hub.CustomerRecord{{eve, bob}, {bob, ada}} {
			b.tx(t, func(ctx context.Context, tx hub.Tx) error {
				people, err := tx.LockCustomers(ctx, []string{step[0].ID, step[1].ID})
				if err != nil {
					return err
				}
				from, into := people[step[0].ID], people[step[1].ID]
				merge := hub.Merge{From: from.ID, Into: into.ID, At: t0.Add(time.Duration(i) * time.Hour), DecidedAt: t0, Reason: "email x@example.com", EventID: "evt_x", Sequence: into.Sequence + 1}
				into.Sequence++
				from.MergedInto = into.ID
				save := &hub.Changes{Customers: []*hub.CustomerRecord{from, into}, Merges: []hub.Merge{merge}}
				for _, p := range from.Profiles {
					p.CustomerID = into.ID
					save.Profiles = append(save.Profiles, p)
				}
				return tx.Save(ctx, save)
			})
		}
		for _, id := range []string{ada.ID, bob.ID, eve.ID} {
			got := must(b.Customer(ctx, id))(t)
			if got.ID != ada.ID || len(got.Profiles) != 3 {
				t.Errorf("%s leads to %s with %d profiles", id, got.ID, len(got.Profiles))
			}
			pins := map[string]string{}
			for _, p := range got.Pins {
				pins[p.Model] = p.Stage
			}
			diff(t, "the later pins", map[string]string{"clc": "newer", "rfm": "stays"}, pins)
		}
		b.tx(t, func(ctx context.Context, tx hub.Tx) error {
			people, err := tx.LockCustomers(ctx, []string{eve.ID, ada.ID})
			if err != nil {
				return err
			}
			if people[eve.ID] == nil || people[eve.ID] != people[ada.ID] || len(people) != 2 {
				t.Errorf("locked: %v", people)
			}
			known, err := tx.LockIdentifiers(ctx, []hub.Identifier{email("eve@example.com"), email("bob@example.com")})
			if err != nil {
				return err
			}
			for _, r := range known {
				if r.CustomerID != ada.ID {
					t.Errorf("%q points at %s", r.Name(), r.CustomerID)
				}
			}
			owners, err := tx.ProfileOwners(ctx, []string{eve.Profiles[0].ID})
			diff(t, "owners", map[string]string{eve.Profiles[0].ID: ada.ID}, owners)
			if err != nil {
				return err
			}
			// The survivor's own row stays; the other moved to her slot.
			slots, err := tx.Desired(ctx, []string{both.Slot, both2.Slot, single.Slot, hub.SlotID("desk", ada.ID, "stage")})
			if err != nil {
				return err
			}
			moved := single
			moved.Slot, moved.CustomerID = hub.SlotID("desk", ada.ID, "stage"), ada.ID
			for slot, d := range slots {
				d.UpdatedAt = time.Time{}
				slots[slot] = d
			}
			diff(t, "desired", map[string]hub.Desired{both.Slot: both, moved.Slot: moved}, slots)
			return nil
		})
		states := map[string]string{}
		for _, id := range []string{"dlv_a", "dlv_b", "dlv_s", "dlv_task"} {
			d := b.state(t, id)
			states[id] = d.State
			if d.CustomerID != ada.ID {
				t.Errorf("%s belongs to %s", id, d.CustomerID)
			}
		}
		diff(t, "deliveries", map[string]string{"dlv_a": "due", "dlv_b": "superseded", "dlv_s": "due", "dlv_task": "due"}, states)
		if got := b.claim(t, "desk", t0, 1, false); len(got) != 1 || got[0].Desired == nil || got[0].Desired.CustomerID != ada.ID || len(got[0].Recipient.Identifiers) != 9 {
			t.Errorf("claimed after the merge: %+v", got)
		}

		diff(t, "wakes", []string{ada.ID}, must(b.Due(ctx, "clc", t0.Add(1000*24*time.Hour), 10))(t))
		if counts := must(b.StageCounts(ctx, "clc"))(t); counts["new"] != 1 {
			t.Errorf("stage counts hold merged customers: %v", counts)
		}
		events := must(b.Events(ctx, bob.ID))(t)
		if len(events) != 3 || events[2].ID != c.Ledger[2].ID {
			t.Errorf("events: %v", events)
		}
		entries, _, err := b.Timeline(ctx, ada.ID, hub.Page{Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		count := map[string]int{}
		for _, e := range entries {
			count[e.Type]++
		}
		diff(t, "timeline", map[string]int{"event": 3, "transition": 1, "delivery": 4, "merge": 2, "pin": 2}, count)
		all, _, err := b.Customers(ctx, hub.CustomerQuery{})
		if err != nil || len(all) != 1 {
			t.Errorf("living customers: %v %v", all, err)
		}
		recipient := must(b.Recipient(ctx, eve.ID))(t)
		if recipient.CustomerID != ada.ID || len(recipient.Identifiers) != 9 {
			t.Errorf("recipient: %+v", recipient)
		}
	})
}
