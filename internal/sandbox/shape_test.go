package sandbox

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/go-json-experiment/json"
)

// shape compares two bodies as JSON: the same members with the same types all the way down. null goes with everything, a list's
// shape is that of its first item, empty lists go with all lists.
func shape(path string, got, want any) []string {
	kind := func(v any) string { return fmt.Sprintf("%T", v) }
	if got == nil || want == nil {
		return nil
	}
	if kind(got) != kind(want) {
		return []string{fmt.Sprintf("%s: %s, the sample has %s", path, kind(got), kind(want))}
	}
	var out []string
	switch w := want.(type) {
	case map[string]any:
		g := got.(map[string]any)
		for _, k := range slices.Sorted(maps.Keys(w)) {
			if _, ok := g[k]; !ok {
				out = append(out, path+"."+k+": missing")
				continue
			}
			out = append(out, shape(path+"."+k, g[k], w[k])...)
		}
		for _, k := range slices.Sorted(maps.Keys(g)) {
			if _, ok := w[k]; !ok {
				out = append(out, path+"."+k+": not in the sample")
			}
		}
	case []any:
		if g := got.([]any); len(g) > 0 && len(w) > 0 {
			out = append(out, shape(path+"[0]", g[0], w[0])...)
		}
	}
	return out
}

func sample(t *testing.T, file string) any {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	if list, ok := v.([]any); ok { // HubSpot's are lists
		v = list[0]
		delete(v.(map[string]any), "attemptNumber") // put in when sent
	}
	return v
}

// Every kind of webhook that the sandbox sends has the shape of the vendor's sample.
func TestBodiesHaveTheSamplesShapes(t *testing.T) {
	for _, tc := range []struct {
		vendor string
		steps  []Step // the last one's webhook is compared
		topic  string
		sample string
	}{
		{Shopify, []Step{{Do: "customer.created", Name: "Ada Example", Phone: "+1"}}, "customers/create", "customers_create"},
		{Shopify, []Step{{Do: "customer.created", Name: "Ada Example"}, {Do: "customer.updated", Text: "VIP"}}, "customers/update", "customers_update"},
		{Shopify, []Step{{Do: "customer.created"}, {Do: "customer.deleted"}}, "customers/delete", "customers_delete"},
		{Shopify, []Step{{Do: "customer.created"}, {Do: "tag.added", Tags: []string{"vip"}}}, "customer.tags_added", "customer_tags_added"},
		{Shopify, []Step{{Do: "customer.created"}, {Do: "consent.changed"}}, "customers_email_marketing_consent/update", "customers_email_marketing_consent_update"},
		{Shopify, []Step{{Do: "customer.created"}, {Do: "customer.erased"}}, "customers/redact", "customers_redact"},
		{Shopify, []Step{{Do: "customer.created"}, {Do: "order.placed", Object: "o", Amount: "54.90"}}, "orders/create", "orders_create"},
		{Shopify, []Step{{Do: "customer.created"}, {Do: "order.placed", Object: "o", Amount: "54.90"}, {Do: "order.paid", Object: "o"}}, "orders/paid", "orders_paid"},
		{Shopify, []Step{{Do: "customer.created"}, {Do: "order.placed", Object: "o", Amount: "54.90"}, {Do: "order.fulfilled", Object: "o"}}, "orders/fulfilled", "orders_fulfilled"},
		{Shopify, []Step{{Do: "customer.created"}, {Do: "order.placed", Object: "o", Amount: "54.90"}, {Do: "order.cancelled", Object: "o"}}, "orders/cancelled", "orders_cancelled"},
		{Shopify, []Step{{Do: "customer.created"}, {Do: "order.placed", Object: "o", Amount: "54.90"}, {Do: "order.refunded", Object: "o", Amount: "10.00"}}, "refunds/create", "refunds_create"},
		{Shopify, []Step{{Do: "customer.created"}, {Do: "cart.updated", Object: "c", Amount: "1"}, {Do: "cart.updated", Object: "c"}}, "checkouts/update", "checkouts_update"},
		{Shopify, []Step{{Do: "shop.uninstalled"}}, "app/uninstalled", "app_uninstalled"},
		{Zendesk, []Step{{Do: "customer.created", Name: "Ada"}}, "user.created", "user.created"},
		{Zendesk, []Step{{Do: "customer.created", Name: "Ada"}, {Do: "tag.added", Tags: []string{"vip"}}}, "user.tags_changed", "user.tags_changed"},
		{Zendesk, []Step{{Do: "customer.created", Name: "Ada"}, {Do: "customer.deleted"}}, "user.deleted", "user.deleted"},
		{Zendesk, []Step{{Do: "customer.created", Name: "Ada"}, {Do: "customer.updated", Field: "lifecycle_stage", Value: "active"}}, "user.custom_field_changed", "user.custom_field_changed"},
		{Zendesk, []Step{{Do: "customer.created", Name: "Ada"}, {Do: "ticket.opened", Object: "t", Subject: "s", Text: "x"}}, "ticket.created", "ticket.created"},
		{Zendesk, []Step{{Do: "customer.created", Name: "Ada"}, {Do: "ticket.opened", Object: "t", Subject: "s", Text: "x"}, {Do: "ticket.solved", Object: "t"}}, "ticket.status_changed", "ticket.status_changed"},
		{Zendesk, []Step{{Do: "customer.created", Name: "Ada"}, {Do: "ticket.opened", Object: "t", Subject: "s", Text: "x"}, {Do: "ticket.commented", Object: "t", Text: "y"}}, "ticket.comment_added", "ticket.comment_added"},
		{Zendesk, []Step{{Do: "customer.created", Name: "Ada"}, {Do: "ticket.opened", Object: "t", Subject: "s", Text: "x"}, {Do: "ticket.tagged", Object: "t", Tags: []string{"vip"}}}, "ticket.tags_changed", "ticket.tags_changed"},
		{HubSpot, []Step{{Do: "customer.created", Name: "Ada"}}, "contact.creation", "contact.creation"},
		{HubSpot, []Step{{Do: "customer.created", Name: "Ada"}, {Do: "customer.updated", Field: "lifecyclestage", Value: "opportunity"}}, "contact.propertyChange", "contact.propertyChange"},
		{HubSpot, []Step{{Do: "customer.created", Name: "Ada"}, {Do: "customer.deleted"}}, "contact.deletion", "contact.deletion"},
		{HubSpot, []Step{{Do: "customer.created", Name: "Ada"}, {Do: "customer.erased"}}, "contact.privacyDeletion", "contact.privacyDeletion"},
		{HubSpot, []Step{{Do: "customer.created", Name: "Ada"}, {Do: "customer.created", Customer: "b@example.com"}, {Do: "customer.merged", Value: "b@example.com"}}, "contact.merge", "contact.merge"},
		{HubSpot, []Step{{Do: "customer.created", Name: "Ada"}, {Do: "deal.created", Object: "d", Amount: "1"}}, "deal.creation", "deal.creation"},
		{HubSpot, []Step{{Do: "customer.created", Name: "Ada"}, {Do: "deal.created", Object: "d", Amount: "1"}, {Do: "deal.won", Object: "d"}}, "deal.propertyChange", "deal.propertyChange"},
		{Zoho, []Step{{Do: "customer.created", Name: "Mei Tan"}}, "Contacts.insert", "notification.contact.insert"},
		{Zoho, []Step{{Do: "customer.created", Name: "Mei Tan"}, {Do: "customer.updated", Field: "Phone", Value: "1"}}, "Contacts.update", "notification.contact.update"},
		{Zoho, []Step{{Do: "customer.created", Name: "Mei Tan"}, {Do: "customer.deleted"}}, "Contacts.delete", "notification.contact.delete"},
		{Zoho, []Step{{Do: "lead.created", Name: "Mei Tan"}}, "Leads.insert", "notification.lead.insert"},
		{Zoho, []Step{{Do: "customer.created", Name: "Mei Tan"}, {Do: "deal.created", Object: "d", Amount: "1"}, {Do: "deal.won", Object: "d"}}, "Deals.update", "notification.deal.update"},
		{Zoho, []Step{{Do: "customer.created", Name: "Mei Tan"}, {Do: "task.created", Subject: "s"}, {Do: "task.completed"}}, "Tasks.update", "notification.task.update"},
	} {
		t.Run(tc.vendor+"/"+tc.topic, func(t *testing.T) {
			b := newBench(t)
			if tc.vendor == Zendesk {
				b.call("POST", "/zendesk/api/v2/user_fields", map[string]any{"user_field": map[string]any{"type": "text", "title": "lifecycle_stage", "key": "lifecycle_stage"}})
			}
			for i, step := range tc.steps {
				step.Vendor = tc.vendor
				if step.Customer == "" {
					step.Customer = "ada@example.com"
				}
				if tc.vendor == Zendesk && step.Do == "ticket.commented" {
					step.Customer = "" // an agent
				}
				if i == len(tc.steps)-1 {
					b.queued(tc.vendor)
				}
				b.play(step)
			}
			topics, bodies := b.queued(tc.vendor)
			at := slices.Index(topics, tc.topic)
			if at < 0 {
				t.Fatalf("no %s among %v", tc.topic, topics)
			}
			if tc.topic == "contact.deletion" && len(topics) != 1 {
				t.Errorf("a deletion sends %v", topics)
			}
			var got any = bodies[at]
			if tc.vendor == HubSpot { // its events are kept as Go values until they are sent
				var decoded any
				if err := json.Unmarshal(encode(got), &decoded); err != nil {
					t.Fatal(err)
				}
				got = decoded
			}
			want := sample(t, tc.vendor+"/"+tc.sample+".json")
			problems := shape("", got, want)
			if tc.vendor == Zoho { // member names are record ids there
				problems = slices.DeleteFunc(problems, func(p string) bool { return len(p) > 18 && p[:18] == ".affected_fields[0" })
			}
			if tc.topic == "Deals.update" {
				problems = slices.DeleteFunc(problems, func(p string) bool { return p == ".affected_values[0].values.Closing_Date: not in the sample" })
			}
			for _, p := range problems {
				t.Error(p)
			}
		})
	}
}

// What hydration reads has the shape of the recorded answers.
func TestHydrationHasTheSamplesShapes(t *testing.T) {
	b := newBench(t)
	b.play(Step{Vendor: HubSpot, Do: "customer.created", Customer: "mei.tan@example.com", Name: "Mei Tan", Phone: "+1 202-555-0143"},
		Step{Vendor: HubSpot, Do: "deal.created", Customer: "mei.tan@example.com", Object: "d", Subject: "40 seats", Amount: "4800.00"},
		Step{Vendor: HubSpot, Do: "deal.won", Object: "d"},
		Step{Vendor: Zoho, Do: "customer.created", Customer: "mei.tan@example.com", Name: "Mei Tan"},
		Step{Vendor: Zoho, Do: "deal.created", Customer: "mei.tan@example.com", Object: "d", Subject: "40 seats", Amount: "4800"})
	state := b.State()
	contact, deal := state[HubSpot].Customers[0].ID, state[HubSpot].Deals[0].ID
	zoho, zohoDeal := state[Zoho].Customers[0].ID, state[Zoho].Deals[0].ID
	b.call("POST", "/zoho/crm/v8/settings/fields?module=Contacts", map[string]any{"fields": []any{map[string]any{
		"field_label": "Lifecycle Stage", "data_type": "picklist",
		"pick_list_values": []any{map[string]any{"display_value": "Opportunity", "actual_value": "Opportunity"}},
	}}})
	for path, file := range map[string]string{
		"/hubspot/crm/v3/objects/contacts/" + contact + "?properties=email,phone,firstname,lastname,lifecyclestage,hs_email_optout&associations=deals":                                                                                "hubspot/hydrate/contact.json",
		"/hubspot/crm/v3/objects/deals/" + deal + "?properties=dealname,dealstage,pipeline,amount,deal_currency_code,closedate,hs_is_closed,hs_is_closed_won&associations=contacts":                                                   "hubspot/hydrate/deal.json",
		"/zoho/crm/v8/Contacts?ids=" + zoho + "&fields=Owner,Email,Phone,Mobile,First_Name,Last_Name,Full_Name,Lifecycle_Stage,Email_Opt_Out,Account_Name,Created_Time,Modified_Time,Modified_By,Unsubscribed_Mode,Unsubscribed_Time": "zoho-crm/hydrate/contact.json",
		"/zoho/crm/v8/Deals?ids=" + zohoDeal + "&fields=Owner,Deal_Name,Stage,Amount,Currency,Probability,Closing_Date,Contact_Name,Account_Name,Modified_Time,Modified_By":                                                           "zoho-crm/hydrate/deal.json",
	} {
		got := b.call("GET", path, nil)
		if got.status != 200 {
			t.Fatalf("%s: %d %s", path, got.status, got.text)
		}
		delete(got.body, "info")
		for _, p := range shape("", got.body, sample(t, file)) {
			t.Errorf("%s: %s", file, p)
		}
	}
}
