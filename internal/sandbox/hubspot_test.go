package sandbox

import (
	"fmt"
	"net/url"
	"slices"
	"testing"
	"time"
)

const hubAPI = "/hubspot/crm/v3"

func crmBench(t *testing.T) (*bench, string) {
	b := newBench(t)
	b.play(Step{Vendor: HubSpot, Do: "customer.created", Customer: "ada@example.com", Name: "Ada Example"})
	b.queued(HubSpot)
	return b, b.State()[HubSpot].Customers[0].ID
}

func props(pairs ...string) map[string]any {
	p := map[string]any{}
	for i := 0; i+1 < len(pairs); i += 2 {
		p[pairs[i]] = pairs[i+1]
	}
	return map[string]any{"properties": p}
}

func link(to string, typ int) []any {
	return []any{map[string]any{"to": map[string]any{"id": to}, "types": []any{map[string]any{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": typ}}}}
}

func reference(object string, b *bench) reply {
	return b.call("POST", hubAPI+"/properties/"+object, map[string]any{
		"name": "stagewire_ref", "label": "Stagewire reference", "type": "string", "fieldType": "text",
		"groupName": "taskinformation", "hasUniqueValue": true,
	})
}

func TestHubSpotIsStrict(t *testing.T) {
	b, id := crmBench(t)
	task := func(contact string, pairs ...string) map[string]any {
		m := props(append([]string{"hs_timestamp", "2026-11-25T09:00:00.000Z", "hs_task_subject", "Call Ada"}, pairs...)...)
		m["associations"] = link(contact, 204)
		return m
	}
	hundredOne := make([]any, 101)
	for i := range hundredOne {
		hundredOne[i] = map[string]any{"id": fmt.Sprint(i)}
	}
	for name, tc := range map[string]struct {
		method, path string
		body         any
		header       string
		status       int
		at           string
		want         any
	}{
		"by e-mail":                {"GET", "/objects/contacts/ada@example.com?idProperty=email&properties=email", nil, "", 200, "id", id},
		"nobody by e-mail":         {"GET", "/objects/contacts/no@example.com?idProperty=email", nil, "", 404, "category", "OBJECT_NOT_FOUND"},
		"by a plain property":      {"GET", "/objects/contacts/Ada?idProperty=firstname", nil, "", 400, "category", "VALIDATION_ERROR"},
		"no token":                 {"GET", "/objects/contacts/" + id, nil, "Authorization: ", 401, "category", "INVALID_AUTHENTICATION"},
		"a token that is not ours": {"GET", "/objects/contacts/" + id, nil, "Authorization: Bearer old", 401, "category", "EXPIRED_AUTHENTICATION"},
		"unknown property":         {"PATCH", "/objects/contacts/" + id, props("stagewire_stage", "x"), "", 400, "errors.0.code", "PROPERTY_DOESNT_EXIST"},
		"unknown option":           {"PATCH", "/objects/contacts/" + id, props("lifecyclestage", "vip"), "", 400, "errors.0.code", "INVALID_OPTION"},
		"read-only":                {"PATCH", "/objects/contacts/" + id, props("hs_object_id", "1"), "", 400, "errors.0.code", "READ_ONLY_VALUE"},
		"unknown member":           {"PATCH", "/objects/contacts/" + id, map[string]any{"property": map[string]any{}}, "", 400, "category", "VALIDATION_ERROR"},
		"form body":                {"PATCH", "/objects/contacts/" + id, url.Values{"a": {"b"}}, "", 415, "status", "error"},
		"contact twice":            {"POST", "/objects/contacts", props("email", "ada@example.com"), "", 409, "message", "Contact already exists. Existing ID: " + id},
		"no e-mail address":        {"POST", "/objects/contacts", props("email", "nonsense"), "", 400, "errors.0.code", "INVALID_EMAIL"},
		"task":                     {"POST", "/objects/tasks", task(id), "", 201, "properties.hs_task_status", "NOT_STARTED"},
		"task without due date":    {"POST", "/objects/tasks", props("hs_task_subject", "x"), "", 400, "errors.0.code", "REQUIRED_PROPERTY_MISSING"},
		"task of nobody":           {"POST", "/objects/tasks", task("1"), "", 400, "category", "VALIDATION_ERROR"},
		"task of a wrong status":   {"POST", "/objects/tasks", task(id, "hs_task_status", "OPEN"), "", 400, "errors.0.code", "INVALID_OPTION"},
		"task with a reference that was not provisioned": {"POST", "/objects/tasks", task(id, "stagewire_ref", "r"), "", 400, "errors.0.code", "PROPERTY_DOESNT_EXIST"},
		"association of a wrong type":                    {"POST", "/objects/tasks", map[string]any{"properties": props("hs_timestamp", "1764061200000")["properties"], "associations": link(id, 203)}, "", 400, "category", "VALIDATION_ERROR"},
		"note":                                           {"POST", "/objects/notes", map[string]any{"properties": props("hs_timestamp", "1764061200000", "hs_note_body", "n")["properties"], "associations": link(id, 202)}, "", 201, "properties.hs_timestamp", "2025-11-25T09:00:00.000Z"},
		"batch of too many":                              {"POST", "/objects/contacts/batch/read", map[string]any{"properties": []any{"email"}, "inputs": hundredOne}, "", 400, "category", "VALIDATION_ERROR"},
		"batch with an id twice":                         {"POST", "/objects/contacts/batch/read", map[string]any{"inputs": []any{map[string]any{"id": id}, map[string]any{"id": id}}}, "", 400, "category", "VALIDATION_ERROR"},
		"batch in part":                                  {"POST", "/objects/contacts/batch/read", map[string]any{"properties": []any{"email"}, "inputs": []any{map[string]any{"id": id}, map[string]any{"id": "1"}}}, "", 207, "numErrors", 1.0},
		"property of a wrong type":                       {"POST", "/properties/contacts", map[string]any{"name": "x", "label": "x", "groupName": "g", "type": "string", "fieldType": "number"}, "", 400, "category", "VALIDATION_ERROR"},
		"property without label":                         {"POST", "/properties/contacts", map[string]any{"name": "x", "groupName": "g", "type": "string", "fieldType": "text"}, "", 400, "category", "VALIDATION_ERROR"},
		"property twice":                                 {"POST", "/properties/contacts", map[string]any{"name": "email", "label": "x", "groupName": "g", "type": "string", "fieldType": "text"}, "", 409, "category", "OBJECT_ALREADY_EXISTS"},
		"property that is not":                           {"GET", "/properties/contacts/nope", nil, "", 404, "category", "OBJECT_NOT_FOUND"},
		"lifecycle stages":                               {"GET", "/properties/contacts/lifecyclestage", nil, "", 200, "options.8.value", "1001"},
		"object that is not":                             {"GET", "/objects/unicorns/1", nil, "", 400, "category", "VALIDATION_ERROR"},
	} {
		t.Run(name, func(t *testing.T) {
			var headers []string
			if tc.header != "" {
				headers = append(headers, tc.header)
			}
			got := b.call(tc.method, hubAPI+tc.path, tc.body, headers...)
			if got.status != tc.status || fmt.Sprint(got.at(tc.at)) != fmt.Sprint(tc.want) {
				t.Errorf("got %d %v, want %d %v\n%s", got.status, got.at(tc.at), tc.status, tc.want, got.text)
			}
		})
	}
}

// A stage moves forward only; backward is accepted and not applied, until the field is cleared.
func TestHubSpotStageMovesForwardOnly(t *testing.T) {
	b, id := crmBench(t)
	path := hubAPI + "/objects/contacts/" + id
	set := func(value string) string {
		got := b.call("PATCH", path, props("lifecyclestage", value))
		if got.status != 200 {
			t.Fatalf("%s: %d %s", value, got.status, got.text)
		}
		return fmt.Sprint(got.at("properties.lifecyclestage"))
	}
	for _, step := range [][2]string{{"customer", "customer"}, {"lead", "customer"}, {"1001", "1001"}, {"customer", "1001"}, {"", "<nil>"}, {"customer", "customer"}} {
		if got := set(step[0]); got != step[1] {
			t.Errorf("set %q: got %s, want %s", step[0], got, step[1])
		}
	}
	_, events := b.queued(HubSpot)
	var values []any
	for _, ev := range events {
		values = append(values, ev["propertyValue"])
		if ev["changeSource"] != "INTEGRATION" || ev["sourceId"] != "54321001" {
			t.Errorf("not marked as ours: %v", ev)
		}
	}
	if !slices.Equal(values, []any{"customer", "1001", "", "customer"}) {
		t.Errorf("echoes: %v", values)
	}
	b.Set(HubSpot, func(k *Knobs) { k.SourceID = "2931120" })
	set("1001")
	if _, events := b.queued(HubSpot); events[0]["sourceId"] != "2931120" {
		t.Errorf("%v", events[0])
	}
}

func TestHubSpotUniqueReference(t *testing.T) {
	b, id := crmBench(t)
	if got := reference("tasks", b); got.status != 201 {
		t.Fatalf("%d %s", got.status, got.text)
	}
	create := func() reply {
		body := props("hs_timestamp", "2026-11-25T09:00:00Z", "hs_task_subject", "Win back", "stagewire_ref", "dlv_1")
		body["associations"] = link(id, 204)
		return b.call("POST", hubAPI+"/objects/tasks", body)
	}
	lookup := func() reply { return b.call("GET", hubAPI+"/objects/tasks/dlv_1?idProperty=stagewire_ref", nil) }
	if got := lookup(); got.status != 404 {
		t.Errorf("before: %d", got.status)
	}
	first := create()
	if got := lookup(); got.status != 200 || got.at("id") != first.at("id") {
		t.Errorf("after: %d %s", got.status, got.text)
	}
	if got := create(); got.status != 400 || got.at("errors.0.code") != "CONFLICTING_UNIQUE_VALUE" {
		t.Errorf("again: %d %s", got.status, got.text)
	}
	tasks := b.State()[HubSpot].Tasks
	if len(tasks) != 1 || tasks[0].Fields["stagewire_ref"] != "dlv_1" || tasks[0].Customer != id {
		t.Errorf("%+v", tasks)
	}
	search := map[string]any{"filterGroups": []any{map[string]any{"filters": []any{map[string]any{"propertyName": "stagewire_ref", "operator": "EQ", "value": "dlv_1"}}}}, "limit": 1}
	if got := b.call("POST", hubAPI+"/objects/tasks/search", search); got.at("total") != 0.0 {
		t.Errorf("the index does not lag: %s", got.text)
	}
	b.wire.add(defaultSearchLag)
	if got := b.call("POST", hubAPI+"/objects/tasks/search", search); got.at("total") != 1.0 {
		t.Errorf("the index never sees it: %s", got.text)
	}
}

func TestHubSpotBatches(t *testing.T) {
	b, id := crmBench(t)
	upsert := func(inputs ...any) reply {
		return b.call("POST", hubAPI+"/objects/contacts/batch/upsert", map[string]any{"inputs": inputs})
	}
	input := func(email, trace string, pairs ...string) map[string]any {
		m := props(pairs...)
		m["id"], m["idProperty"], m["objectWriteTraceId"] = email, "email", trace
		return m
	}
	got := upsert(input("ada@example.com", "c1", "lifecyclestage", "customer"), input("new@example.com", "c2", "firstname", "New"), input("bad@example.com", "c3", "nope", "x"))
	if got.status != 207 || got.at("results.0.new") != false || got.at("results.0.id") != id || got.at("results.1.new") != true {
		t.Errorf("%d %s", got.status, got.text)
	}
	if got.at("errors.0.context.objectWriteTraceId.0") != "c3" || got.at("errors.0.category") != "VALIDATION_ERROR" {
		t.Errorf("%s", got.text)
	}
	// Without trace ids one bad input fails the whole create.
	before := len(b.State()[HubSpot].Customers)
	got = b.call("POST", hubAPI+"/objects/contacts/batch/create", map[string]any{"inputs": []any{props("email", "x@example.com"), props("nope", "x")}})
	if got.status != 400 || len(b.State()[HubSpot].Customers) != before {
		t.Errorf("%d %s", got.status, got.text)
	}
}

func TestHubSpotTokensAndLimits(t *testing.T) {
	b, id := crmBench(t)
	form := url.Values{"grant_type": {"refresh_token"}, "client_id": {"sandbox-crm"}, "client_secret": {"sandbox-hubspot-secret"}, "refresh_token": {"sandbox-hubspot-refresh"}}
	got := b.call("POST", "/hubspot/oauth/v1/token", form)
	token, _ := got.at("access_token").(string)
	if got.status != 200 || got.at("expires_in") != 1800.0 {
		t.Fatalf("%d %s", got.status, got.text)
	}
	use := func() reply {
		return b.call("GET", hubAPI+"/objects/contacts/"+id, nil, "Authorization: Bearer "+token)
	}
	if use().status != 200 {
		t.Error("fresh token refused")
	}
	b.wire.add(30 * time.Minute)
	if use().status != 401 {
		t.Error("expired token taken")
	}
	form.Set("refresh_token", "no")
	if got := b.call("POST", "/hubspot/oauth/v1/token", form); got.status != 400 || got.at("status") != "BAD_REFRESH_TOKEN" {
		t.Errorf("%d %s", got.status, got.text)
	}
	b.Set(HubSpot, func(k *Knobs) { k.Limit = 2 })
	b.call("GET", hubAPI+"/owners", nil)
	b.call("GET", hubAPI+"/owners", nil)
	if got := b.call("GET", hubAPI+"/owners", nil); got.status != 429 || got.at("policyName") != "TEN_SECONDLY_ROLLING" || got.header.Get("Retry-After") != "" {
		t.Errorf("%d %s", got.status, got.text)
	}
	b.wire.add(10 * time.Second)
	if got := b.call("GET", hubAPI+"/owners", nil); got.status != 200 {
		t.Errorf("after the interval: %d", got.status)
	}
	for i := range 6 {
		got := b.call("POST", hubAPI+"/objects/contacts/search", map[string]any{})
		if want := map[bool]int{true: 429, false: 200}[i == 5]; got.status != want {
			t.Errorf("search %d: %d %s", i, got.status, got.text)
		}
	}
}

// A person who moves a stage back does it on the vendor's screen, which tells both steps.
func TestHubSpotPersonsEdits(t *testing.T) {
	b, _ := crmBench(t)
	b.play(Step{Vendor: HubSpot, Do: "customer.updated", Customer: "ada@example.com", Field: "lifecyclestage", Value: "customer"},
		Step{Vendor: HubSpot, Do: "customer.updated", Customer: "ada@example.com", Field: "lifecyclestage", Value: "lead"})
	_, events := b.queued(HubSpot)
	var got []any
	for _, ev := range events {
		got = append(got, ev["propertyValue"], ev["changeSource"])
	}
	if !slices.Equal(got, []any{"customer", "CRM_UI", "", "CRM_UI", "lead", "CRM_UI"}) {
		t.Errorf("%v", got)
	}
}

func TestHubSpotAssociations(t *testing.T) {
	b, id := crmBench(t)
	b.play(Step{Vendor: HubSpot, Do: "deal.created", Customer: "ada@example.com", Object: "d", Amount: "1"})
	deal := b.State()[HubSpot].Deals[0].ID
	inputs := map[string]any{"inputs": []any{map[string]any{"id": deal}}}
	if got := b.call("POST", "/hubspot/crm/v4/associations/deals/contacts/batch/read", inputs); fmt.Sprintf("%.0f", got.at("results.0.to.0.toObjectId")) != id {
		t.Errorf("v4: %d %s", got.status, got.text)
	}
	if got := b.call("POST", "/hubspot/crm/v3/associations/deals/contacts/batch/read", inputs); got.at("results.0.to.0.id") != id {
		t.Errorf("v3: %d %s", got.status, got.text)
	}
	if got := b.call("GET", "/hubspot/crm/v4/objects/deals/"+deal+"/associations/contacts", nil); fmt.Sprintf("%.0f", got.at("results.0.toObjectId")) != id {
		t.Errorf("one: %d %s", got.status, got.text)
	}
	b.play(Step{Vendor: HubSpot, Do: "deal.deleted", Object: "d"})
	for query, want := range map[string]int{"": 404, "?archived=true&associations=contacts": 200} {
		if got := b.call("GET", hubAPI+"/objects/deals/"+deal+query, nil); got.status != want || want == 200 && got.at("associations.contacts.results.0.id") != id {
			t.Errorf("deleted%s: %d %s", query, got.status, got.text)
		}
	}
	if got := b.call("POST", "/hubspot/crm/v4/associations/deals/contacts/batch/read", map[string]any{"inputs": []any{map[string]any{"id": "1"}}}); got.status != 207 || got.at("numErrors") != 1.0 {
		t.Errorf("in part: %d %s", got.status, got.text)
	}
}
