package sandbox

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"
)

func deskBench(t *testing.T) (*bench, string) {
	b := newBench(t)
	b.call("POST", "/zendesk/api/v2/user_fields", map[string]any{"user_field": map[string]any{
		"type": "dropdown", "title": "Lifecycle stage", "key": "lifecycle_stage",
		"custom_field_options": []any{map[string]any{"name": "Active", "value": "active"}, map[string]any{"name": "Lost", "value": "lost"}},
	}})
	b.play(Step{Vendor: Zendesk, Do: "customer.created", Customer: "ada@example.com", Name: "Ada Example", Value: "cust_1001"})
	b.queued(Zendesk)
	return b, b.State()[Zendesk].Customers[0].ID
}

func TestZendeskIsStrict(t *testing.T) {
	b, id := deskBench(t)
	user := func(fields map[string]any) map[string]any { return map[string]any{"user": fields} }
	ticket := func(more map[string]any) map[string]any {
		m := map[string]any{"subject": "Call Ada", "comment": map[string]any{"body": "Please", "public": false}, "requester_id": id, "type": "task"}
		maps.Copy(m, more)
		return map[string]any{"ticket": m}
	}
	for name, tc := range map[string]struct {
		method, path string
		body         any
		header       string
		status       int
		at           string
		want         any
	}{
		"me":                        {"GET", "/users/me", nil, "", 200, "user.name", "Stagewire"},
		"wrong token":               {"GET", "/users/me", nil, "Authorization: Bearer no", 401, "error", "invalid_token"},
		"basic authentication":      {"GET", "/users/me", nil, "Authorization: Basic Zm9vOmJhcg==", 401, "error", "invalid_token"},
		"by external id at once":    {"GET", "/users/search.json?external_id=cust_1001", nil, "", 200, "users.0.email", "ada@example.com"},
		"search lags":               {"GET", "/users/search?query=email:ada@example.com", nil, "", 200, "count", 0.0},
		"stage written":             {"PUT", "/users/" + id, user(map[string]any{"user_fields": map[string]any{"lifecycle_stage": "active"}}), "", 200, "user.user_fields.lifecycle_stage", "active"},
		"stage that is no option":   {"PUT", "/users/" + id, user(map[string]any{"user_fields": map[string]any{"lifecycle_stage": "vip"}}), "", 422, "error", "RecordInvalid"},
		"field that does not exist": {"PUT", "/users/" + id, user(map[string]any{"user_fields": map[string]any{"nope": "x"}}), "", 200, "user.user_fields.nope", nil},
		"no user in the body":       {"PUT", "/users/" + id, map[string]any{"name": "x"}, "", 400, "error.title", "Invalid attribute"},
		"nobody":                    {"PUT", "/users/1", user(map[string]any{}), "", 404, "error", "RecordNotFound"},
		"not JSON":                  {"PUT", "/users/" + id, "{", "", 422, "error", "Unprocessable Entity"},
		"notes of the user":         {"PUT", "/users/" + id, user(map[string]any{"notes": "prefers calls"}), "", 200, "user.notes", "prefers calls"},
		"tags are added":            {"PUT", "/users/" + id + "/tags", map[string]any{"tags": []any{"VIP one"}}, "", 200, "tags.0", "vip_one"},
		"tags must be a list":       {"PUT", "/users/" + id + "/tags", map[string]any{"tags": "vip"}, "", 400, "error.title", "Invalid attribute"},
		"field key twice":           {"POST", "/user_fields", map[string]any{"user_field": map[string]any{"type": "text", "title": "x", "key": "lifecycle_stage"}}, "", 422, "details.key.0.error", "DuplicateValue"},
		"field without key":         {"POST", "/user_fields", map[string]any{"user_field": map[string]any{"type": "text", "title": "x"}}, "", 422, "details.key.0.error", "InvalidValue"},
		"ticket":                    {"POST", "/tickets", ticket(map[string]any{"due_at": "2026-03-05T09:00:00Z", "external_id": "ref-1"}), "", 201, "ticket.type", "task"},
		"ticket without comment":    {"POST", "/tickets", ticket(map[string]any{"comment": nil}), "", 422, "details.base.0.error", "BlankValue"},
		"ticket of a wrong type":    {"POST", "/tickets", ticket(map[string]any{"type": "todo"}), "", 422, "details.type.0.error", "InvalidValue"},
		"ticket of nobody":          {"POST", "/tickets", ticket(map[string]any{"requester_id": 1}), "", 422, "details.requester.0.error", "InvalidValue"},
		"ticket due some day":       {"POST", "/tickets", ticket(map[string]any{"due_at": "soon"}), "", 422, "details.due_at.0.error", "InvalidValue"},
		"ticket by external id":     {"GET", "/tickets?external_id=none", nil, "", 200, "count", 0.0},
		"no such endpoint":          {"GET", "/contacts", nil, "", 404, "error", "InvalidEndpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			var headers []string
			if tc.header != "" {
				headers = append(headers, tc.header)
			}
			got := b.call(tc.method, "/zendesk/api/v2"+tc.path, tc.body, headers...)
			if got.status != tc.status || fmt.Sprint(got.at(tc.at)) != fmt.Sprint(tc.want) {
				t.Errorf("got %d %v, want %d %v\n%s", got.status, got.at(tc.at), tc.status, tc.want, got.text)
			}
		})
	}
}

func TestZendeskTokens(t *testing.T) {
	b := newBench(t)
	ask := func(change map[string]any) reply {
		body := map[string]any{"grant_type": "client_credentials", "client_id": "sandbox-desk", "client_secret": "sandbox-zendesk-client", "scope": "users:write tickets:write"}
		maps.Copy(body, change)
		return b.call("POST", "/zendesk/oauth/tokens", body)
	}
	got := ask(nil)
	token, _ := got.at("access_token").(string)
	if got.status != 200 || token == "" {
		t.Fatalf("%d %s", got.status, got.text)
	}
	if got := ask(map[string]any{"client_secret": "no"}); got.status != 401 {
		t.Errorf("wrong secret: %d", got.status)
	}
	if got := ask(map[string]any{"grant_type": "password"}); got.status != 400 {
		t.Errorf("wrong grant: %d", got.status)
	}
	if got := b.call("GET", "/zendesk/api/v2/users/me", nil, "Authorization: Bearer "+token); got.status != 200 {
		t.Errorf("fresh: %d", got.status)
	}
	b.ExpireTokens(Zendesk)
	if got := b.call("GET", "/zendesk/api/v2/users/me", nil, "Authorization: Bearer "+token); got.status != 401 {
		t.Errorf("expired: %d", got.status)
	}
}

func TestZendeskIdempotencyKey(t *testing.T) {
	b, id := deskBench(t)
	body := map[string]any{"ticket": map[string]any{"subject": "Call Ada", "comment": map[string]any{"body": "Please", "public": false}, "requester_id": id, "external_id": "ref-7"}}
	first := b.call("POST", "/zendesk/api/v2/tickets", body, "Idempotency-Key: k1")
	second := b.call("POST", "/zendesk/api/v2/tickets", body, "Idempotency-Key: k1")
	if first.status != 201 || first.header.Get("x-idempotency-lookup") != "miss" || second.header.Get("x-idempotency-lookup") != "hit" || first.at("ticket.id") != second.at("ticket.id") {
		t.Errorf("%d %v / %d %v", first.status, first.header, second.status, second.header)
	}
	if got := b.call("POST", "/zendesk/api/v2/tickets", map[string]any{"ticket": map[string]any{"comment": map[string]any{"body": "other"}}}, "Idempotency-Key: k1"); got.status != 400 {
		t.Errorf("another body under the same key: %d", got.status)
	}
	if n := len(b.State()[Zendesk].Tickets); n != 1 {
		t.Errorf("%d tickets", n)
	}
	if got := b.call("GET", "/zendesk/api/v2/tickets?external_id=ref-7", nil); got.at("tickets.0.id") != first.at("ticket.id") {
		t.Errorf("lookup: %s", got.text)
	}
	b.wire.add(2 * time.Hour)
	if got := b.call("POST", "/zendesk/api/v2/tickets", body, "Idempotency-Key: k1"); got.header.Get("x-idempotency-lookup") != "miss" {
		t.Error("the key is kept for more than two hours")
	}
}

func TestZendeskLimitsAndConflicts(t *testing.T) {
	b, id := deskBench(t)
	created := b.call("POST", "/zendesk/api/v2/tickets", map[string]any{"ticket": map[string]any{"comment": map[string]any{"body": "x"}, "requester_id": id}})
	path := fmt.Sprintf("/zendesk/api/v2/tickets/%.0f", created.at("ticket.id"))
	update := map[string]any{"ticket": map[string]any{"comment": map[string]any{"body": "note", "public": false}, "safe_update": true, "updated_stamp": "2020-01-01T00:00:00Z"}}
	if got := b.call("PUT", path, update); got.status != 409 {
		t.Errorf("stale stamp: %d", got.status)
	}
	update["ticket"].(map[string]any)["updated_stamp"] = created.at("ticket.updated_at")
	if got := b.call("PUT", path, update); got.status != 200 {
		t.Errorf("fresh stamp: %d %s", got.status, got.text)
	}
	b.Set(Zendesk, func(k *Knobs) { k.Limit = 1 })
	got := b.call("GET", "/zendesk/api/v2/users/me", nil)
	if got.status != 429 || got.header.Get("Retry-After") != "60" {
		t.Errorf("%d %v", got.status, got.header)
	}
	b.wire.add(time.Minute)
	if got := b.call("GET", "/zendesk/api/v2/users/me", nil); got.status != 200 {
		t.Errorf("after the minute: %d", got.status)
	}
}

func TestZendeskWritesComeBackAsWebhooks(t *testing.T) {
	b, id := deskBench(t)
	b.call("PUT", "/zendesk/api/v2/users/"+id, map[string]any{"user": map[string]any{"user_fields": map[string]any{"lifecycle_stage": "active"}}})
	created := b.call("POST", "/zendesk/api/v2/tickets", map[string]any{"ticket": map[string]any{"comment": map[string]any{"body": "x", "public": false}, "requester_id": id}})
	b.call("PUT", fmt.Sprintf("/zendesk/api/v2/tickets/%.0f", created.at("ticket.id")), map[string]any{"ticket": map[string]any{"comment": map[string]any{"body": "y", "public": false}, "status": "solved", "tags": []any{"a"}}})
	topics, bodies := b.queued(Zendesk)
	want := []string{"user.custom_field_changed", "ticket.created", "ticket.comment_added", "ticket.status_changed", "ticket.tags_changed"}
	if !slices.Equal(topics, want) {
		t.Fatalf("got %v, want %v", topics, want)
	}
	if ev := bodies[0]["event"].(map[string]any); ev["current"] != "active" || ev["previous"] != nil {
		t.Errorf("%v", ev)
	}
	for i, body := range bodies[1:] {
		if actor := body["detail"].(map[string]any)["actor_id"]; actor != digits(zendeskIntegration) {
			t.Errorf("%s: actor %v", topics[i+1], actor)
		}
	}
}
