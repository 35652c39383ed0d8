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
)

func (v *zoho) reads(r *request) bool {
	return r.method == http.MethodGet && strings.HasPrefix(r.path, "/crm/") || strings.HasSuffix(r.path, "/coql")
}

func zohoError(status int, code, message string, details map[string]any) response {
	if details == nil {
		details = map[string]any{}
	}
	return answer(status, map[string]any{"code": code, "details": details, "message": message, "status": "error"})
}

var zohoNone = response{status: http.StatusNoContent}

// serve answers the token endpoint and CRM API v8. Older versions are served alike; later ones do not exist.
func (v *zoho) serve(r *request) response {
	if r.path == "/oauth/v2/token" {
		return v.token(r)
	}
	p := strings.Split(strings.Trim(r.path, "/"), "/")
	if len(p) < 3 || p[0] != "crm" || !slices.Contains([]string{"v2", "v2.1", "v3", "v4", "v5", "v6", "v7", "v8"}, p[1]) {
		return zohoError(http.StatusNotFound, "INVALID_URL_PATTERN", "Please check if the URL trying to access is a correct one", nil)
	}
	if !v.tokenValid(Zoho, r.bearer("Zoho-oauthtoken"), r.wire) {
		if r.header.Get("Authorization") == "" {
			return zohoError(http.StatusUnauthorized, "AUTHENTICATION_FAILURE", "Authentication failed", nil)
		}
		return zohoError(http.StatusUnauthorized, "INVALID_TOKEN", "invalid oauth token", nil)
	}
	// Zoho limits calls at the same time, and credits a day; calls here take no time, so the knob counts them per second.
	if _, _, ok := v.allow("zoho", v.limit(Zoho, 1000), time.Second, r.wire); !ok {
		return zohoError(http.StatusTooManyRequests, "TOO_MANY_REQUESTS", "You have exceeded the maximum number of concurrent requests", nil)
	}
	return v.route(r, p[2:])
}

// token refreshes; its errors come with HTTP 200.
func (v *zoho) token(r *request) response {
	form, ok := formOrJSON(r)
	for k := range r.query { // Zoho takes the parameters in the query as well
		if form == nil {
			form, ok = map[string]string{}, true
		}
		form[k] = r.query.Get(k)
	}
	account := v.cfg.Accounts[Zoho]
	code := ""
	switch {
	case r.method != http.MethodPost || !ok || form["grant_type"] != "refresh_token":
		code = "unsupported_grant_type"
	case form["client_id"] != account["client_id"]:
		code = "invalid_client"
	case form["client_secret"] != account["client_secret"]:
		code = "invalid_client_secret"
	case form["refresh_token"] == "" || form["refresh_token"] != account["refresh_token"]:
		code = "invalid_code"
	}
	if code != "" {
		return answer(http.StatusOK, map[string]any{"error": code})
	}
	if v.knobs[Zoho].TokenLife == 0 { // with tokens of seconds the limit would only be in the way
		if _, _, ok := v.allow("zoho/token", 10, 10*time.Minute, r.wire); !ok {
			return answer(http.StatusBadRequest, map[string]any{"error": "Access Denied", "error_description": "You have made too many requests continuously. Please try again after some time.", "status": "failure"})
		}
	}
	token, expires := v.issue(Zoho, "1000.", time.Hour, r.wire)
	return answer(http.StatusOK, map[string]any{"access_token": token, "api_domain": r.base, "token_type": "Bearer", "expires_in": expires, "scope": "ZohoCRM.modules.ALL"})
}

func (v *zoho) route(r *request, p []string) response {
	switch {
	case p[0] == "coql" && r.method == http.MethodPost:
		return v.coql(r)
	case p[0] == "users" && r.method == http.MethodGet:
		if r.query.Get("type") == "CurrentUser" {
			return answer(http.StatusOK, map[string]any{"users": []any{zohoUser(zohoApp)}})
		}
		return answer(http.StatusOK, map[string]any{"users": []any{zohoUser(zohoAna), zohoUser(zohoApp)}, "info": map[string]any{"count": 2, "page": 1, "per_page": 200, "more_records": false}})
	case p[0] == "settings" && len(p) >= 2 && p[1] == "fields":
		return v.settings(r, p[2:])
	case p[0] == "settings" && len(p) == 2 && p[1] == "pipeline":
		maps := []any{}
		for i, stage := range v.modules["Deals"].fields["Stage"].values {
			forecast := map[string]string{"Closed Won": "Closed Won", "Closed Lost": "Closed Lost"}[stage]
			maps = append(maps, map[string]any{"display_value": stage, "actual_value": stage, "sequence_number": i + 1, "forecast_type": orText(forecast, "Open")})
		}
		return answer(http.StatusOK, map[string]any{"pipeline": []any{map[string]any{"display_value": "Standard", "default": true, "maps": maps}}})
	case p[0] == "actions" && len(p) == 2 && p[1] == "watch":
		return v.watch(r)
	}
	m := v.modules[p[0]]
	if m == nil {
		return zohoError(http.StatusBadRequest, "INVALID_MODULE", "the module name given seems to be invalid", nil)
	}
	switch {
	case len(p) == 1 && r.method == http.MethodGet:
		return v.list(r, m)
	case len(p) == 1 && r.method == http.MethodPost:
		return v.write(r, m, "insert", "", nil)
	case len(p) == 1 && r.method == http.MethodPut:
		return v.write(r, m, "update", "", nil)
	case len(p) == 1 && r.method == http.MethodDelete:
		return v.remove(r, m)
	case len(p) == 2 && p[1] == "upsert" && r.method == http.MethodPost:
		return v.write(r, m, "upsert", "", nil)
	case len(p) == 2 && p[1] == "search" && r.method == http.MethodGet:
		return v.search(r, m)
	case len(p) == 2 && r.method == http.MethodGet:
		rec := v.byID(r, m, p[1])
		if rec == nil {
			return zohoNone
		}
		return answer(http.StatusOK, map[string]any{"data": []any{rec.json(m, nil)}})
	case len(p) == 2 && r.method == http.MethodPut:
		rec := v.byID(r, m, p[1])
		if rec == nil {
			return zohoError(http.StatusBadRequest, "INVALID_DATA", "the id given seems to be invalid", map[string]any{"id": p[1]})
		}
		return v.write(r, m, "update", rec.id, nil)
	case len(p) == 4 && p[2] == "actions" && (p[3] == "add_tags" || p[3] == "remove_tags") && r.method == http.MethodPost:
		return v.tags(r, m, p[1], p[3] == "add_tags")
	case len(p) == 3 && p[2] == "Notes":
		rec := m.records[p[1]]
		if rec == nil || rec.deleted {
			return zohoError(http.StatusBadRequest, "INVALID_DATA", "the related id given seems to be invalid", map[string]any{"id": p[1]})
		}
		if r.method == http.MethodPost {
			return v.write(r, v.modules["Notes"], "insert", "", map[string]any{"id": rec.id, "module": map[string]any{"api_name": m.name}})
		}
		notes := []any{}
		for _, id := range v.modules["Notes"].order {
			n := v.modules["Notes"].records[id]
			if parent, _ := n.values["Parent_Id"].(map[string]any); parent["id"] == rec.id && !n.deleted {
				notes = append(notes, n.json(v.modules["Notes"], nil))
			}
		}
		return zohoPage(notes)
	}
	return zohoError(http.StatusNotFound, "INVALID_URL_PATTERN", "Please check if the URL trying to access is a correct one", nil)
}

func zohoUser(p zohoPerson) map[string]any {
	first, last := splitName(p.name)
	return map[string]any{"id": p.id, "full_name": p.name, "first_name": first, "last_name": last, "email": p.email, "status": "active", "type__s": "Regular User"}
}

func zohoPage(data []any) response {
	if len(data) == 0 {
		return zohoNone
	}
	return answer(http.StatusOK, map[string]any{"data": data, "info": map[string]any{"per_page": 200, "count": len(data), "page": 1, "more_records": false}})
}

// byID finds a record by id, or by the external field that X-EXTERNAL names ("Contacts.My_Field").
func (v *zoho) byID(r *request, m *zohoModule, id string) *zohoRecord {
	if external := r.header.Get("X-EXTERNAL"); external != "" {
		_, field, _ := strings.Cut(external, ".")
		for _, key := range m.order {
			if rec := m.records[key]; !rec.deleted && m.fields[field] != nil && m.fields[field].unique && text(rec.values[field]) == id {
				return rec
			}
		}
		return nil
	}
	rec := m.records[id]
	if rec == nil || rec.deleted {
		return nil
	}
	return rec
}

// json is a record as the API shows it; fields nil means all.
func (rec *zohoRecord) json(m *zohoModule, fields []string) map[string]any {
	all := map[string]any{
		"Owner": zohoAna.json(), "Created_Time": zohoTime(rec.created), "Modified_Time": zohoTime(rec.modified), "Created_By": rec.createdBy.json(),
		"Modified_By": rec.changed.json(), "id": rec.id,
	}
	if fields == nil {
		fields = slices.Collect(maps.Keys(m.fields))
	}
	out := map[string]any{"id": rec.id}
	for _, name := range fields {
		f := m.fields[name]
		if f == nil {
			continue // unknown names are left out in silence
		}
		if value, ok := rec.values[name]; ok {
			out[name] = value
		} else if value, ok := all[name]; ok {
			out[name] = value
		} else {
			out[name] = nil
		}
	}
	return out
}

func (v *zoho) list(r *request, m *zohoModule) response {
	fields := csv(r.query["fields"])
	if len(fields) == 0 {
		return zohoError(http.StatusBadRequest, "REQUIRED_PARAM_MISSING", "One of the expected parameter is missing", map[string]any{"param_name": "fields"})
	}
	if len(fields) > 50 {
		return zohoError(http.StatusBadRequest, "LIMIT_EXCEEDED", "fields: at most 50", nil)
	}
	var since time.Time
	if header := r.header.Get("If-Modified-Since"); header != "" {
		at, err := time.Parse(time.RFC3339, header)
		if err != nil {
			return zohoError(http.StatusBadRequest, "INVALID_DATA", "If-Modified-Since is not a date", nil)
		}
		since = at
	}
	ids := csv(r.query["ids"])
	if len(ids) > 100 {
		return zohoError(http.StatusBadRequest, "LIMIT_EXCEEDED", "ids: at most 100", nil)
	}
	var found []*zohoRecord
	for _, id := range m.order {
		rec := m.records[id]
		switch r.query.Get("converted") { // leads alone: "true", "both"; default those that are not
		case "true":
			if !rec.converted {
				continue
			}
		case "both":
		default:
			if rec.converted {
				continue
			}
		}
		if !rec.deleted && (len(ids) == 0 || slices.Contains(ids, id)) && rec.modified.After(since) {
			found = append(found, rec)
		}
	}
	per, err := strconv.Atoi(orText(r.query.Get("per_page"), "200"))
	if err != nil || per < 1 || per > 200 {
		return zohoError(http.StatusBadRequest, "INVALID_DATA", "per_page must be 1 to 200", nil)
	}
	page, _ := strconv.Atoi(orText(r.query.Get("page"), "1"))
	start := min(max(page-1, 0)*per, len(found))
	end := min(start+per, len(found))
	if start == end {
		if !since.IsZero() {
			return response{status: http.StatusNotModified}
		}
		return zohoNone
	}
	data := []any{}
	for _, rec := range found[start:end] {
		data = append(data, rec.json(m, fields))
	}
	return answer(http.StatusOK, map[string]any{"data": data, "info": map[string]any{"per_page": per, "count": len(data), "page": page, "more_records": end < len(found)}})
}

// search sees writes after the lag.
func (v *zoho) search(r *request, m *zohoModule) response {
	field, want := "", ""
	for param, name := range map[string]string{"email": "Email", "phone": "Phone"} {
		if q := r.query.Get(param); q != "" {
			field, want = name, q
		}
	}
	if criteria := strings.Trim(r.query.Get("criteria"), "()"); criteria != "" {
		parts := strings.SplitN(criteria, ":", 3)
		if len(parts) != 3 || parts[1] != "equals" || m.fields[parts[0]] == nil {
			return zohoError(http.StatusBadRequest, "INVALID_QUERY", "Invalid query formed", nil)
		}
		field, want = parts[0], parts[2]
	}
	if field == "" {
		return zohoError(http.StatusBadRequest, "INVALID_REQUEST", "the criteria, email, phone or word is missing", nil)
	}
	data := []any{}
	for _, id := range m.searchable.find(r.wire, v.knobs[Zoho].searchLag(), func(f map[string]string) bool { return strings.EqualFold(f[field], want) }) {
		if rec := m.records[id]; !rec.deleted {
			data = append(data, rec.json(m, nil))
		}
	}
	return zohoPage(data)
}

func (v *zoho) remove(r *request, m *zohoModule) response {
	var out []any
	var changes []zohoChange
	for _, id := range csv(r.query["ids"]) {
		rec := m.records[id]
		if rec == nil || rec.deleted {
			out = append(out, map[string]any{"code": "INVALID_DATA", "details": map[string]any{"id": id}, "message": "the id given seems to be invalid", "status": "error"})
			continue
		}
		rec.deleted, rec.modified, rec.changed = true, r.business, zohoApp
		v.settle(m, rec)
		changes = append(changes, zohoChange{rec: rec})
		out = append(out, map[string]any{"code": "SUCCESS", "details": map[string]any{"id": id}, "message": "record deleted", "status": "success"})
	}
	if out == nil {
		return zohoError(http.StatusBadRequest, "REQUIRED_PARAM_MISSING", "One of the expected parameter is missing", map[string]any{"param_name": "ids"})
	}
	v.notify(m, "delete", changes, r.business)
	return answer(http.StatusOK, map[string]any{"data": out})
}

// write inserts, updates or upserts up to 100 records; each item has its own result, in request order.
func (v *zoho) write(r *request, m *zohoModule, verb, id string, parent map[string]any) response {
	var in struct {
		Data       []map[string]any `json:"data"`
		Trigger    []string         `json:"trigger"`
		Duplicates []string         `json:"duplicate_check_fields"`
		Features   []any            `json:"apply_feature_execution"`
		Skip       []any            `json:"skip_feature_execution"`
	}
	if err := json.Unmarshal(r.body, &in, json.RejectUnknownMembers(true)); err != nil {
		return zohoError(http.StatusBadRequest, "INVALID_DATA", "body: "+err.Error(), nil)
	}
	if len(in.Data) == 0 {
		return zohoError(http.StatusBadRequest, "MANDATORY_NOT_FOUND", "required field not found", map[string]any{"api_name": "data", "json_path": "$.data"})
	}
	if len(in.Data) > 100 {
		return zohoError(http.StatusBadRequest, "INVALID_DATA", "invalid data", map[string]any{"maximum_length": 100, "api_name": "data", "json_path": "$.data"})
	}
	var items []any
	var inserted, updated []zohoChange
	failed := 0
	for i, raw := range in.Data {
		if id != "" {
			raw["id"] = id
		}
		if parent != nil {
			raw["Parent_Id"] = parent
		}
		rec, changed, fresh, bad := v.item(m, verb, i, raw, in.Duplicates, r.business)
		if bad != nil {
			failed++
			items = append(items, bad)
			continue
		}
		item := map[string]any{"code": "SUCCESS", "status": "success", "message": "record updated", "details": map[string]any{
			"id": rec.id, "Modified_Time": zohoTime(rec.modified),
			"Modified_By": rec.changed.json(), "Created_Time": zohoTime(rec.created), "Created_By": rec.createdBy.json(),
		}}
		if fresh {
			item["message"] = "record added"
			inserted = append(inserted, zohoChange{rec: rec})
		} else if len(changed) > 0 {
			updated = append(updated, zohoChange{rec, changed})
		}
		if verb == "upsert" {
			item["action"], item["duplicate_field"] = "update", nil
			if fresh {
				item["action"] = "insert"
			} else if len(in.Duplicates) > 0 {
				item["duplicate_field"] = in.Duplicates[0]
			}
		}
		items = append(items, item)
	}
	// trigger:[] silences workflow rules; whether watch notifications stay silent too is not documented, so they are sent.
	v.notify(m, "insert", inserted, r.business)
	v.notify(m, "update", updated, r.business)
	status := http.StatusOK
	if verb == "insert" {
		status = http.StatusCreated
	}
	switch {
	case failed == len(items) && len(items) == 1:
		status = http.StatusBadRequest
		if verb == "insert" {
			status = http.StatusAccepted // Zoho's own oddity: a single failed insert is a 202
		}
	case failed > 0:
		status = http.StatusMultiStatus
	}
	return answer(status, map[string]any{"data": items})
}

// item applies one record of a write.
func (v *zoho) item(m *zohoModule, verb string, i int, raw map[string]any, duplicates []string, at time.Time) (rec *zohoRecord, changed []string, fresh bool, bad map[string]any) {
	fail := func(code, field, message string, more map[string]any) map[string]any {
		details := map[string]any{"api_name": field, "json_path": fmt.Sprintf("$.data[%d].%s", i, field)}
		maps.Copy(details, more)
		return map[string]any{"code": code, "details": details, "message": message, "status": "error"}
	}
	id, _ := raw["id"].(string)
	delete(raw, "id")
	switch verb {
	case "update":
		rec = m.records[id]
		if id == "" {
			return nil, nil, false, fail("MANDATORY_NOT_FOUND", "id", "required field not found", nil)
		}
		if rec == nil || rec.deleted {
			return nil, nil, false, fail("INVALID_DATA", "id", "the id given seems to be invalid", nil)
		}
	case "upsert":
		if len(duplicates) == 0 && (m.name == "Contacts" || m.name == "Leads") {
			duplicates = []string{"Email"}
		}
		for _, field := range duplicates {
			for _, key := range m.order {
				if other := m.records[key]; rec == nil && !other.deleted && text(raw[field]) != "" && strings.EqualFold(text(other.values[field]), text(raw[field])) {
					rec = other
				}
			}
		}
	}
	values := map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		f := m.fields[name]
		if f == nil || f.readOnly { // ignored in silence, as Zoho does
			continue
		}
		value, why := v.check(f, raw, raw[name])
		if why != nil {
			return nil, nil, false, fail("INVALID_DATA", name, "invalid data", why)
		}
		if f.unique && value != nil {
			for _, key := range m.order {
				if other := m.records[key]; other != rec && !other.deleted && text(other.values[name]) == value {
					return nil, nil, false, fail("DUPLICATE_DATA", name, "duplicate data", map[string]any{"id": other.id})
				}
			}
		}
		values[name] = value
	}
	if rec == nil {
		for _, name := range slices.Sorted(maps.Keys(m.fields)) {
			if m.fields[name].mandatory && (values[name] == nil || values[name] == "") {
				return nil, nil, false, fail("MANDATORY_NOT_FOUND", name, "required field not found", nil)
			}
		}
		return v.new(m, values, zohoApp, at), nil, true, nil
	}
	return rec, v.set(m, rec, values, zohoApp, at), false, nil
}

// check validates one value; why holds the details of INVALID_DATA.
func (v *zoho) check(f *zohoField, raw map[string]any, value any) (any, map[string]any) {
	if value == nil {
		return nil, nil
	}
	wrong := func(kind string) (any, map[string]any) { return nil, map[string]any{"expected_data_type": kind} }
	s, isText := value.(string)
	switch f.typ {
	case "boolean":
		if _, ok := value.(bool); !ok {
			return wrong("boolean")
		}
		return value, nil
	case "double":
		if _, ok := value.(float64); !ok {
			return wrong("double")
		}
		return value, nil
	case "lookup", "ownerlookup", "parent":
		object, _ := value.(map[string]any)
		id := text(object["id"])
		if id == "" {
			return wrong("jsonobject")
		}
		module := f.lookup
		switch {
		case f.typ == "ownerlookup":
			if id != zohoAna.id && id != zohoApp.id {
				return nil, map[string]any{"id": id}
			}
			return value, nil
		case f.typ == "parent":
			of, _ := object["module"].(map[string]any)
			module = text(of["api_name"])
		case module == "":
			module = text(raw["$se_module"]) // What_Id says nothing without it
		}
		m := v.modules[module]
		if m == nil || m.records[id] == nil || m.records[id].deleted {
			return nil, map[string]any{"id": id}
		}
		rec := m.records[id]
		name := text(rec.values["Full_Name"]) + text(rec.values["Deal_Name"])
		return map[string]any{"id": id, "name": name}, nil
	}
	if !isText {
		return wrong("text")
	}
	switch {
	case f.typ == "picklist" && !slices.Contains(f.values, s):
		return nil, map[string]any{"expected_data_type": "picklist", "actual_value": s}
	case f.typ == "email" && s != "" && (!strings.Contains(s, "@") || strings.ContainsAny(s, " ,")):
		return wrong("email")
	case f.typ == "date":
		if _, err := time.Parse(time.DateOnly, s); err != nil {
			return wrong("date")
		}
	case f.typ == "datetime":
		if _, err := time.Parse(time.RFC3339, s); err != nil {
			return wrong("datetime")
		}
	case len([]rune(s)) > f.maxLength:
		return nil, map[string]any{"maximum_length": f.maxLength}
	}
	return s, nil
}
