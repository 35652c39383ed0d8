package pipeline_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/pipeline"
)

// onBoth runs a test with SQLite and, where there is a server, with PostgreSQL.
func onBoth(t *testing.T, test func(*testing.T, *harness)) {
	t.Run("sqlite", func(t *testing.T) { test(t, newHarness(t, "")) })
	t.Run("postgres", func(t *testing.T) {
		test(t, newHarness(t, postgres(t)("merge_"+strconv.FormatInt(time.Now().UnixNano(), 36))))
	})
}

// withWrites lets the harness keep a field of the CRM and of the shop true to clc.
func withWrites(h *harness) {
	program := *h.pipeline.Program()
	for _, connection := range []string{"crm", "shop"} {
		program.Writes = append(program.Writes, pipeline.Write{Connection: connection, Model: "clc", Field: "stage", Mode: "always"})
	}
	h.pipeline.Use(&program)
}

func shopOrder(n int, customer, email string, at time.Time) hub.Event {
	return hub.Event{
		ID: hub.EventID("shop", fmt.Sprint("order/", n), "order.paid"), Version: hub.Version{Activation: 1}, Kind: "order.paid", Connection: "shop",
		OccurredAt: at, ReceivedAt: at, Properties: map[string]any{"id": fmt.Sprint(n)},
		Identifiers: []hub.Identifier{{Kind: "shopify_customer", Connection: "shop", Value: customer, Record: true}, {Kind: hub.IdentifierEmail, Value: email}},
	}
}

func crmEvent(id, kind, email string, at time.Time, echo bool) hub.Event {
	ev := hub.Event{
		ID: hub.EventID("crm", id, kind), Version: hub.Version{Activation: 1}, Kind: kind, Connection: "crm", OccurredAt: at, ReceivedAt: at, Echo: echo,
		Properties: map[string]any{}, Identifiers: []hub.Identifier{{Kind: "hubspot_contact", Connection: "crm", Value: "9", Record: true}},
	}
	if email != "" {
		ev.Identifiers = append(ev.Identifiers, hub.Identifier{Kind: hub.IdentifierEmail, Value: email})
	}
	return ev
}

// A contact that is first known by her id alone, through a task of ours, and then turns out to be a customer: her stage is written
// there, and nothing that was told of her is told again, whoever of the two survives.
func TestMergeBringsARecord(t *testing.T) {
	for name, first := range map[string]time.Time{"the customer survives": epoch.Add(time.Hour), "the contact survives": epoch.Add(-time.Hour)} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, h *harness) { mergeBringsARecord(t, h, first) })
		})
	}
}

func mergeBringsARecord(t *testing.T, h *harness, first time.Time) {
	withWrites(h)
	ctx := t.Context()
	h.apply(ctx, t, 1, []hub.Event{shopOrder(1, "7", "ada@example.com", epoch), shopOrder(2, "7", "ada@example.com", epoch.Add(time.Minute))})
	h.apply(ctx, t, 2, []hub.Event{crmEvent("task/1", "task.created", "", first, true)})
	h.apply(ctx, t, 3, []hub.Event{crmEvent("contact/9", "customer.updated", "ada@example.com", epoch.Add(2*time.Hour), false)})

	list, _, err := h.store.Customers(ctx, hub.CustomerQuery{Page: hub.Page{Limit: 10}})
	if err != nil || len(list) != 1 {
		t.Fatalf("customers: %d, %v", len(list), err)
	}
	rec, err := h.store.Customer(ctx, list[0].ID)
	if err != nil || len(rec.Stages) != 1 || rec.Stages[0].Stage != "active" {
		t.Fatalf("stages %+v, %v", rec.Stages, err)
	}
	entries, _, err := h.store.Timeline(ctx, rec.ID, hub.Page{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	moves, written := 0, map[string]int{}
	for _, e := range entries {
		switch {
		case e.Transition != nil:
			moves++
		case e.Delivery != nil && e.Delivery.Action == "set_stage":
			written[e.Delivery.Destination]++
		}
	}
	if moves != 2 {
		t.Errorf("%d moves: new and active were told before the merge", moves)
	}
	if written["crm"] != 1 || written["shop"] != 1 {
		t.Errorf("written %v", written)
	}
	// Whoever survives, her way is the one the customer went, and there is no other.
	if diff := cmp.Diff([]hub.History{{Stays: []hub.Stay{
		{Stage: "prospect", Since: epoch.Add(-hub.Resolution)}, {Stage: "new", Since: epoch}, {Stage: "active", Since: epoch.Add(time.Minute)},
	}}}, h.histories(t, "clc")); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
}

// A merge is decided upon even if it is our own write coming back that shows it.
func TestMergeByAnEcho(t *testing.T) { onBoth(t, mergeByAnEcho) }

func mergeByAnEcho(t *testing.T, h *harness) {
	withWrites(h)
	ctx := t.Context()
	h.apply(ctx, t, 1, []hub.Event{shopOrder(1, "7", "ada@example.com", epoch), shopOrder(2, "8", "ada@example.org", epoch.Add(time.Minute))})
	echo := crmEvent("contact/9", "customer.updated", "ada@example.com", epoch.Add(time.Hour), true)
	echo.Identifiers = append(echo.Identifiers, hub.Identifier{Kind: hub.IdentifierEmail, Value: "ada@example.org"})
	h.apply(ctx, t, 2, []hub.Event{echo})
	list, _, err := h.store.Customers(ctx, hub.CustomerQuery{Page: hub.Page{Limit: 10}})
	if err != nil || len(list) != 1 {
		t.Fatalf("customers: %d, %v", len(list), err)
	}
	rec, err := h.store.Customer(ctx, list[0].ID)
	if err != nil || len(rec.Stages) != 1 || rec.Stages[0].Stage != "active" {
		t.Fatalf("two orders, stages %+v, %v", rec.Stages, err)
	}
	open, _, err := h.store.Deliveries(ctx, hub.DeliveryQuery{Page: hub.Page{Limit: 10}, Destination: "crm"})
	if err != nil || len(open) != 1 {
		t.Errorf("deliveries to crm: %+v, %v", open, err)
	}
}

func deskEvent(id, email string, at time.Time) hub.Event {
	ev := crmEvent(id, "ticket.opened", email, at, false)
	ev.ID, ev.Connection = hub.EventID("desk", id, "ticket.opened"), "desk"
	ev.Properties["id"] = id
	ev.Identifiers[0] = hub.Identifier{Kind: "zendesk_user", Connection: "desk", Value: "5", Record: true}
	return ev
}

// Somebody new takes over one customer and is taken over by another, all in one frame: nothing points at who is gone.
func TestMergeThroughSomebodyNew(t *testing.T) { onBoth(t, mergeThroughSomebodyNew) }

func mergeThroughSomebodyNew(t *testing.T, h *harness) {
	withWrites(h)
	ctx := t.Context()
	h.apply(ctx, t, 1, []hub.Event{shopOrder(1, "7", "ada@example.com", epoch.Add(time.Hour)), crmEvent("contact/9", "customer.updated", "ada@example.org", epoch.Add(-time.Hour), false)})
	h.apply(ctx, t, 2, []hub.Event{
		deskEvent("t1", "", epoch), deskEvent("t2", "ada@example.com", epoch.Add(time.Minute)), deskEvent("t3", "ada@example.org", epoch.Add(2*time.Minute)),
	})
	h.apply(ctx, t, 3, []hub.Event{shopOrder(2, "7", "ada@example.com", epoch.Add(2*time.Hour))})
	list, _, err := h.store.Customers(ctx, hub.CustomerQuery{Page: hub.Page{Limit: 10}})
	if err != nil || len(list) != 1 {
		t.Fatalf("customers: %d, %v", len(list), err)
	}
	events, err := h.store.Events(ctx, list[0].ID)
	if err != nil || len(events) != 6 {
		t.Errorf("%d events are hers, want 6; %v", len(events), err)
	}
	rec, err := h.store.Customer(ctx, list[0].ID)
	if err != nil || len(rec.Stages) != 1 || rec.Stages[0].Stage != "active" {
		t.Errorf("stages %+v, %v", rec.Stages, err)
	}
}

// What somebody is owed when she is merged away in the same frame is the survivor's: it would find no record otherwise.
func TestMergeInTheFrameOfADelivery(t *testing.T) { onBoth(t, mergeInTheFrameOfADelivery) }

func mergeInTheFrameOfADelivery(t *testing.T, h *harness) {
	withWrites(h)
	ctx := t.Context()
	h.apply(ctx, t, 1, []hub.Event{crmEvent("contact/9", "customer.updated", "ada@example.org", epoch.Add(-time.Hour), false)})
	link := crmEvent("contact/10", "customer.updated", "ada@example.org", epoch.Add(time.Hour), false)
	link.Identifiers = append(link.Identifiers, hub.Identifier{Kind: hub.IdentifierEmail, Value: "ada@example.com"})
	h.apply(ctx, t, 2, []hub.Event{shopOrder(1, "7", "ada@example.com", epoch), shopOrder(2, "7", "ada@example.com", epoch.Add(time.Minute)), link})
	list, _, err := h.store.Customers(ctx, hub.CustomerQuery{Page: hub.Page{Limit: 10}})
	if err != nil || len(list) != 1 {
		t.Fatalf("customers: %d, %v", len(list), err)
	}
	all, _, err := h.store.Deliveries(ctx, hub.DeliveryQuery{Page: hub.Page{Limit: 50}})
	if err != nil {
		t.Fatal(err)
	}
	written := map[string]int{}
	for _, d := range all {
		if d.CustomerID != list[0].ID {
			t.Errorf("%s to %s is owed to %s, who is gone", d.Action, d.Destination, d.CustomerID)
		}
		if d.Slot != "" && d.State == hub.DeliveryDue {
			written[d.Destination]++
			if want := hub.SlotID(d.Destination, list[0].ID, "stage"); d.Slot != want {
				t.Errorf("slot %s, want %s", d.Slot, want)
			}
		}
	}
	if written["shop"] != 1 || written["crm"] != 1 {
		t.Errorf("written %v", written)
	}
	claimed, err := h.store.Claim(ctx, "shop", time.Now().Add(time.Minute), time.Minute, 10, false)
	if err != nil || len(claimed) != 1 || claimed[0].Desired == nil || claimed[0].Desired.Value != "active" || len(claimed[0].Recipient.Identifiers) == 0 {
		t.Errorf("claimed %+v, %v", claimed, err)
	}
}
