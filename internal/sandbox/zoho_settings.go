package sandbox

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/stagewire/stagewire/internal/hub"
)

// settings lists fields and creates custom ones, at most five a call; PATCH of one adds picklist values.
func (v *zoho) settings(r *request, rest []string) response {
	m := v.modules[r.query.Get("module")]
	if m == nil {
		return zohoError(http.StatusBadRequest, "INVALID_MODULE", "the module name given seems to be invalid", nil)
	}
	show := func(f *zohoField) map[string]any {
		out := map[string]any{
			"id": f.id, "api_name": f.name, "field_label": f.label, "data_type": f.typ, "custom_field": f.custom, "read_only": f.readOnly,
			"system_mandatory": f.mandatory, "length": f.maxLength, "unique": map[string]any{}, "pick_list_values": []any{},
		}
		if f.unique {
			out["unique"] = map[string]any{"case_sensitive": false}
		}
		values := []any{}
		for i, s := range f.values {
			values = append(values, map[string]any{"display_value": s, "actual_value": s, "sequence_number": i + 1, "type": "used"})
		}
		out["pick_list_values"] = values
		return out
	}
	if r.method == http.MethodGet {
		var list []any
		for _, name := range slices.Sorted(maps.Keys(m.fields)) {
			if f := m.fields[name]; len(rest) == 0 || f.id == rest[0] {
				list = append(list, show(f))
			}
		}
		if list == nil {
			return zohoNone
		}
		return answer(http.StatusOK, map[string]any{"fields": list})
	}
	var in struct {
		Fields []struct {
			ID        string         `json:"id"`
			Label     string         `json:"field_label"`
			Type      string         `json:"data_type"`
			Length    int            `json:"length"`
			Unique    map[string]any `json:"unique"`
			External  any            `json:"external"`
			Tooltip   any            `json:"tooltip"`
			PickLists []struct {
				ID      string `json:"id"`
				Display string `json:"display_value"`
				Actual  string `json:"actual_value"`
			} `json:"pick_list_values"`
		} `json:"fields"`
	}
	// Field specifications have dozens of members, most of which change nothing here: unknown ones pass.
	if err := json.Unmarshal(r.body, &in); err != nil || len(in.Fields) == 0 || len(in.Fields) > 5 {
		return zohoError(http.StatusBadRequest, "INVALID_DATA", fmt.Sprint("fields: 1 to 5 expected: ", err), map[string]any{"api_name": "fields", "json_path": "$.fields"})
	}
	var out []any
	for i, spec := range in.Fields {
		fail := func(code, field, message string) {
			out = append(out, map[string]any{"code": code, "status": "error", "message": message, "details": map[string]any{"api_name": field, "json_path": fmt.Sprintf("$.fields[%d].%s", i, field)}})
		}
		var values []string
		for _, p := range spec.PickLists {
			values = append(values, orText(p.Actual, p.Display))
		}
		switch r.method {
		case http.MethodPost:
			name := strings.ReplaceAll(strings.TrimSpace(spec.Label), " ", "_")
			switch {
			case name == "":
				fail("MANDATORY_NOT_FOUND", "field_label", "required field not found")
				continue
			case m.fields[name] != nil:
				fail("DUPLICATE_DATA", "field_label", "duplicate data")
				continue
			case !slices.Contains([]string{"text", "textarea", "picklist", "boolean", "date", "datetime", "double", "integer", "email", "phone"}, spec.Type):
				fail("INVALID_DATA", "data_type", "invalid data")
				continue
			case spec.Type == "picklist" && len(values) == 0:
				fail("MANDATORY_NOT_FOUND", "pick_list_values", "required field not found")
				continue
			}
			f := &zohoField{
				id: strconv.FormatInt(4411220000000090000+v.next("zoho/field"), 10), name: name, label: spec.Label, typ: spec.Type, values: values,
				unique: spec.Unique != nil || spec.External != nil, custom: true, maxLength: 255,
			}
			if spec.Length > 0 {
				f.maxLength = spec.Length
			}
			m.fields[name] = f
			out = append(out, map[string]any{"code": "SUCCESS", "status": "success", "message": "field created", "details": map[string]any{"id": f.id}})
		case http.MethodPatch:
			id := spec.ID
			if len(rest) == 1 {
				id = rest[0]
			}
			var f *zohoField
			for _, have := range m.fields {
				if have.id == id {
					f = have
				}
			}
			if f == nil {
				fail("INVALID_DATA", "id", "the id given seems to be invalid")
				continue
			}
			for _, value := range values {
				if !slices.Contains(f.values, value) {
					f.values = append(f.values, value)
				}
			}
			out = append(out, map[string]any{"code": "SUCCESS", "status": "success", "message": "field updated", "details": map[string]any{"id": f.id}})
		default:
			return zohoError(http.StatusMethodNotAllowed, "INVALID_REQUEST_METHOD", "The http request method type is not a valid one", nil)
		}
	}
	for _, item := range out {
		if item.(map[string]any)["status"] == "error" {
			return answer(http.StatusBadRequest, map[string]any{"fields": out})
		}
	}
	return answer(http.StatusOK, map[string]any{"fields": out})
}

// watch makes, lists and ends notification channels. An expiry that is missing or over a week away silently becomes one hour.
func (v *zoho) watch(r *request) response {
	switch r.method {
	case http.MethodGet:
		list := []any{}
		for _, id := range slices.Sorted(maps.Keys(v.channels)) {
			c := v.channels[id]
			for _, event := range c.events {
				list = append(list, map[string]any{"channel_id": c.id, "resource_name": strings.SplitN(event, ".", 2)[0], "channel_expiry": zohoTime(c.expiry), "token": c.token})
			}
		}
		if len(list) == 0 {
			return zohoNone
		}
		return answer(http.StatusOK, map[string]any{"watch": list, "info": map[string]any{"count": len(list), "page": 1, "per_page": 200, "more_records": false}})
	case http.MethodDelete:
		var out []any
		for _, id := range csv(r.query["channel_ids"]) {
			if v.channels[id] == nil {
				return zohoError(http.StatusBadRequest, "NOT_SUBSCRIBED", "actions-watch has not been subscribed for the given module", nil)
			}
			delete(v.channels, id)
			out = append(out, map[string]any{"code": "SUCCESS", "status": "success", "message": "Successfully un-subscribed for actions-watch", "details": map[string]any{"channel_id": id}})
		}
		return answer(http.StatusOK, map[string]any{"watch": out})
	}
	var in struct {
		Watch []struct {
			ChannelID string   `json:"channel_id"`
			Events    []string `json:"events"`
			Expiry    string   `json:"channel_expiry"`
			Token     string   `json:"token"`
			NotifyURL string   `json:"notify_url"`
			Values    bool     `json:"return_affected_field_values"`
			Related   *bool    `json:"notify_on_related_action"`
			Condition []any    `json:"notification_condition"`
		} `json:"watch"`
	}
	if err := json.Unmarshal(r.body, &in, json.RejectUnknownMembers(true)); err != nil || len(in.Watch) == 0 {
		return zohoError(http.StatusBadRequest, "INVALID_DATA", fmt.Sprint("watch: ", err), nil)
	}
	var out []any
	for i, spec := range in.Watch {
		bad := ""
		if spec.ChannelID == "" {
			bad = "channel_id"
		} else if len(spec.Events) == 0 {
			bad = "events"
		} else if spec.NotifyURL == "" {
			bad = "notify_url"
		} else if len(spec.Token) > 50 {
			bad = "token"
		}
		for _, event := range spec.Events {
			module, verb, _ := strings.Cut(event, ".")
			if v.modules[module] == nil || !slices.Contains([]string{"create", "edit", "delete", "all"}, verb) {
				bad = "events"
			}
		}
		if bad != "" {
			return zohoError(http.StatusBadRequest, "INVALID_DATA", "invalid data", map[string]any{"api_name": bad, "json_path": fmt.Sprintf("$.watch[%d].%s", i, bad)})
		}
		if r.method != http.MethodPost && v.channels[spec.ChannelID] == nil {
			return zohoError(http.StatusBadRequest, "NOT_SUBSCRIBED", "actions-watch has not been subscribed for the given module", nil)
		}
		expiry, err := time.Parse(time.RFC3339, spec.Expiry)
		if err != nil || expiry.After(r.wire.Add(7*24*time.Hour+time.Minute)) {
			expiry = r.wire.Add(time.Hour)
		}
		v.channels[spec.ChannelID] = &zohoChannel{id: spec.ChannelID, token: spec.Token, events: spec.Events, expiry: expiry, values: spec.Values}
		var events []any
		for _, event := range spec.Events {
			module, _, _ := strings.Cut(event, ".")
			events = append(events, map[string]any{
				"channel_expiry": zohoTime(expiry), "resource_uri": r.base + "/crm/v8/" + module, "resource_id": v.modules[module].channel,
				"resource_name": module, "channel_id": spec.ChannelID,
			})
		}
		out = append(out, map[string]any{"code": "SUCCESS", "status": "success", "message": "Successfully subscribed for actions-watch of the given module", "details": map[string]any{"events": events}})
	}
	return answer(http.StatusCreated, map[string]any{"watch": out})
}

// tags adds to or removes from a record's tags: named in the body, or in tag_names as older versions do.
func (v *zoho) tags(r *request, m *zohoModule, id string, add bool) response {
	var in struct {
		Tags []struct {
			Name  string `json:"name"`
			Color any    `json:"color_code"`
			ID    string `json:"id"`
		} `json:"tags"`
		Overwrite bool `json:"over_write"`
	}
	if len(r.body) > 0 {
		if err := json.Unmarshal(r.body, &in, json.RejectUnknownMembers(true)); err != nil {
			return zohoError(http.StatusBadRequest, "INVALID_DATA", "body: "+err.Error(), nil)
		}
	}
	names := csv(r.query["tag_names"])
	for _, t := range in.Tags {
		names = append(names, t.Name)
	}
	rec := m.records[id]
	if rec == nil || rec.deleted {
		return zohoError(http.StatusBadRequest, "INVALID_DATA", "the id given seems to be invalid", map[string]any{"id": id})
	}
	if len(names) == 0 || slices.Contains(names, "") {
		return zohoError(http.StatusBadRequest, "MANDATORY_NOT_FOUND", "required field not found", map[string]any{"api_name": "tags", "json_path": "$.tags"})
	}
	have := rec.tagNames()
	next := slices.DeleteFunc(slices.Clone(have), func(t string) bool { return !add && slices.Contains(names, t) || add && in.Overwrite })
	for _, name := range names {
		if len([]rune(name)) > 25 {
			return zohoError(http.StatusBadRequest, "INVALID_DATA", "invalid data", map[string]any{"maximum_length": 25, "api_name": "name", "json_path": "$.tags[0].name"})
		}
		if add && !slices.Contains(next, name) {
			next = append(next, name)
		}
	}
	if !slices.Equal(have, next) {
		list := []any{}
		for _, name := range next {
			list = append(list, map[string]any{"name": name, "id": strconv.FormatUint(4411220000009000000+hub.HashKey("tag", name)%1_000_000, 10), "color_code": nil})
		}
		v.set(m, rec, map[string]any{"Tag": list}, zohoApp, r.business)
		v.notify(m, "update", []zohoChange{{rec, []string{"Tag"}}}, r.business)
	}
	return answer(http.StatusOK, map[string]any{"data": []any{map[string]any{
		"code": "SUCCESS", "details": map[string]any{"id": id, "tags": notNil(next)},
		"message": "tags updated successfully", "status": "success",
	}}})
}

// tagNames are the names of the record's tags.
func (rec *zohoRecord) tagNames() []string {
	list, _ := rec.values["Tag"].([]any)
	out := []string{}
	for _, t := range list {
		tag, _ := t.(map[string]any)
		out = append(out, text(tag["name"]))
	}
	return out
}
