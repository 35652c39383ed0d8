package sandbox

import (
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

func (v *zendesk) reads(r *request) bool { return r.method == http.MethodGet }

func zenError(status int, code, description string) response {
	return answer(status, map[string]any{"error": code, "description": description})
}

var zenNotFound = zenError(http.StatusNotFound, "RecordNotFound", "Not found")

// zenInvalid is a 422: field → what is wrong with it.
func zenInvalid(field, code, description string) response {
	return answer(http.StatusUnprocessableEntity, map[string]any{
		"error": "RecordInvalid", "description": "Record validation errors",
		"details": map[string]any{field: []any{map[string]any{"description": description, "error": code}}},
	})
}

// zenParameter is a 400 for a body of the wrong shape.
func zenParameter(message string) response {
	return answer(http.StatusBadRequest, map[string]any{"error": map[string]any{"title": "Invalid attribute", "message": message}})
}

func (v *zendesk) serve(r *request) response {
	if r.path == "/oauth/tokens" {
		return v.token(r)
	}
	path, ok := strings.CutPrefix(strings.TrimSuffix(r.path, ".json"), "/api/v2/")
	if !ok {
		return zenError(http.StatusNotFound, "InvalidEndpoint", "Not found")
	}
	if !v.tokenValid(Zendesk, r.bearer("Bearer"), r.wire) {
		return answer(http.StatusUnauthorized, map[string]any{"error": "invalid_token", "error_description": "The access token provided is expired, revoked, malformed or invalid for other reasons."}).
			with("WWW-Authenticate", `Bearer realm="", error="invalid_token"`)
	}
	limit := v.limit(Zendesk, 400)
	left, wait, ok := v.allow("zendesk", limit, time.Minute, r.wire)
	if !ok {
		seconds := strconv.Itoa(int(math.Ceil(wait.Seconds())))
		return zenError(http.StatusTooManyRequests, "APIRateLimitExceeded", "Number of allowed API requests per minute exceeded").
			with("Retry-After", seconds).with("X-Rate-Limit", strconv.Itoa(limit)).with("X-Rate-Limit-Remaining", "0")
	}
	var body map[string]any
	if r.method == http.MethodPost || r.method == http.MethodPut || r.method == http.MethodDelete && len(r.body) > 0 {
		if kind, _, _ := strings.Cut(r.header.Get("Content-Type"), ";"); strings.TrimSpace(kind) != "application/json" {
			return zenError(http.StatusUnsupportedMediaType, "UnsupportedMediaType", "Content-Type must be application/json")
		}
		if json.Unmarshal(r.body, &body) != nil {
			return zenError(http.StatusUnprocessableEntity, "Unprocessable Entity", "Server could not parse JSON")
		}
	}
	return v.route(r, strings.Split(path, "/"), body).with("X-Rate-Limit", strconv.Itoa(limit)).with("X-Rate-Limit-Remaining", strconv.Itoa(left))
}

func (v *zendesk) token(r *request) response {
	form, ok := formOrJSON(r)
	account := v.cfg.Accounts[Zendesk]
	switch {
	case r.method != http.MethodPost || !ok:
		return answer(http.StatusBadRequest, map[string]any{"error": "invalid_request", "error_description": "The request is missing a required parameter"})
	case form["grant_type"] != "client_credentials":
		return answer(http.StatusBadRequest, map[string]any{"error": "unsupported_grant_type", "error_description": "The authorization grant type is not supported"})
	case form["client_id"] != account["client_id"] || form["client_secret"] != account["client_secret"]:
		return answer(http.StatusUnauthorized, map[string]any{"error": "invalid_client", "error_description": "Client authentication failed"})
	case form["scope"] == "":
		return answer(http.StatusBadRequest, map[string]any{"error": "invalid_scope", "error_description": "The requested scope is invalid, unknown, or malformed."})
	}
	token, expires := v.issue(Zendesk, "zen_", 2*time.Hour, r.wire)
	return answer(http.StatusOK, map[string]any{"access_token": token, "token_type": "bearer", "scope": form["scope"], "expires_in": expires})
}

func (v *zendesk) route(r *request, p []string, body map[string]any) response {
	id := int64(0)
	if len(p) > 1 {
		id, _ = strconv.ParseInt(p[1], 10, 64)
	}
	switch where := r.method + " " + p[0]; {
	case where == "GET users" && len(p) == 2 && p[1] == "me":
		return answer(http.StatusOK, map[string]any{"user": v.userJSON(v.users[zendeskIntegration])})
	case where == "GET users" && len(p) == 2 && p[1] == "search":
		return v.searchUsers(r)
	case where == "GET users" && len(p) == 2 && p[1] == "show_many":
		return v.showMany(r, "users")
	case where == "POST users" && len(p) == 1:
		return v.createUser(body, r, false)
	case where == "POST users" && len(p) == 2 && p[1] == "create_or_update":
		return v.createUser(body, r, true)
	case p[0] == "users" && id != 0:
		u := v.users[id]
		if u == nil {
			return zenNotFound
		}
		return v.userRoute(r, p[2:], u, body)
	case where == "GET user_fields" && len(p) == 1:
		list := []any{}
		for _, key := range slices.Sorted(maps.Keys(v.fields)) {
			list = append(list, v.fields[key].json())
		}
		return answer(http.StatusOK, map[string]any{"user_fields": list, "count": len(list), "next_page": nil, "previous_page": nil})
	case where == "GET user_fields" && len(p) == 2:
		for _, f := range v.fields {
			if f.id == id {
				return answer(http.StatusOK, map[string]any{"user_field": f.json()})
			}
		}
		return zenNotFound
	case where == "POST user_fields" && len(p) == 1:
		return v.createField(body, r)
	case where == "GET tickets" && len(p) == 1:
		return v.listTickets(r)
	case where == "GET tickets" && len(p) == 2 && p[1] == "show_many":
		return v.showMany(r, "tickets")
	case where == "POST tickets" && len(p) == 1:
		return v.createTicket(body, r)
	case p[0] == "tickets" && id != 0:
		t := v.tickets[id]
		if t == nil {
			return zenNotFound
		}
		return v.ticketRoute(r, p[2:], t, body)
	}
	return zenError(http.StatusNotFound, "InvalidEndpoint", "Not found")
}

func (v *zendesk) userRoute(r *request, p []string, u *zenUser, body map[string]any) response {
	switch {
	case r.method == http.MethodGet && len(p) == 0:
		return answer(http.StatusOK, map[string]any{"user": v.userJSON(u)})
	case u.deleted:
		return zenNotFound
	case r.method == http.MethodPut && len(p) == 0:
		in, ok := body["user"].(map[string]any)
		if !ok {
			return zenParameter("You passed an invalid value for the user attribute. Invalid type. Expected hash")
		}
		if res := v.updateUser(u, in, r); res != nil {
			return *res
		}
		return answer(http.StatusOK, map[string]any{"user": v.userJSON(u)})
	case len(p) == 1 && p[0] == "tags":
		if r.method == http.MethodGet {
			return answer(http.StatusOK, map[string]any{"tags": notNil(u.tags)})
		}
		tags, ok := texts(body["tags"])
		if !ok {
			return zenParameter("You passed an invalid value for the tags attribute. Invalid type. Expected array")
		}
		switch r.method {
		case http.MethodPut:
			v.setTags(u, append(slices.Clone(u.tags), tags...), r.business)
		case http.MethodPost:
			v.setTags(u, tags, r.business)
		case http.MethodDelete:
			v.setTags(u, slices.DeleteFunc(slices.Clone(u.tags), func(t string) bool { return slices.Contains(tags, t) }), r.business)
		}
		return answer(http.StatusOK, map[string]any{"tags": notNil(u.tags)})
	case r.method == http.MethodGet && len(p) == 2 && p[0] == "tickets" && p[1] == "requested":
		return v.ticketList(func(t *zenTicket) bool { return t.requester == u.id })
	}
	return zenError(http.StatusNotFound, "InvalidEndpoint", "Not found")
}

func texts(v any) ([]string, bool) {
	list, ok := v.([]any)
	if !ok {
		return nil, false
	}
	var out []string
	for _, item := range list {
		s, ok := item.(string)
		if !ok {
			return nil, false
		}
		out = append(out, strings.ReplaceAll(strings.ToLower(s), " ", "_"))
	}
	return out, true
}

// updateUser applies what was sent. Keys of user_fields that do not exist are ignored, as Zendesk does; a dropdown
// takes only its options.
func (v *zendesk) updateUser(u *zenUser, in map[string]any, r *request) *response {
	fields := map[string]any{}
	if raw, sent := in["user_fields"]; sent {
		var ok bool
		if fields, ok = raw.(map[string]any); !ok {
			res := zenParameter("You passed an invalid value for the user_fields attribute. Invalid type. Expected hash")
			return &res
		}
	}
	for key, value := range fields {
		f := v.fields[key]
		if f == nil || value == nil {
			continue
		}
		s, isText := value.(string)
		_, isBool := value.(bool)
		switch {
		case f.typ == "dropdown" && (!isText || s != "" && !slices.Contains(f.options, s)):
			res := zenInvalid(key, "InvalidValue", f.title+": "+s+" is not a valid option")
			return &res
		case f.typ == "checkbox" && !isBool, f.typ != "checkbox" && !isText:
			res := zenInvalid(key, "InvalidValue", f.title+": is of the wrong type")
			return &res
		}
	}
	for _, key := range []string{"name", "email", "phone", "external_id", "notes", "details"} {
		if raw, sent := in[key]; sent && raw != nil {
			if _, ok := raw.(string); !ok {
				res := zenParameter("You passed an invalid value for the " + key + " attribute. Invalid type. Expected string")
				return &res
			}
		}
	}
	if email := text(in["email"]); email != "" && !strings.EqualFold(email, u.email) {
		if other := v.find(email); other != nil {
			res := zenInvalid("email", "DuplicateValue", "Email: "+email+" is already being used by another user")
			return &res
		}
		if !strings.Contains(email, "@") {
			res := zenInvalid("email", "InvalidValue", "Email: "+email+" is not properly formatted")
			return &res
		}
		u.email, u.updated = email, r.business
		v.emitUser("user.identity_changed", u, map[string]any{}, r.business)
	}
	if name := text(in["name"]); name != "" && name != u.name {
		previous := u.name
		u.name, u.updated = name, r.business
		v.emitUser("user.name_changed", u, map[string]any{"current": name, "previous": previous}, r.business)
	}
	if external, ok := in["external_id"].(string); ok && external != u.external {
		previous := u.external
		u.external, u.updated = external, r.business
		v.emitUser("user.external_id_changed", u, map[string]any{"current": external, "previous": previous}, r.business)
	}
	if phone, ok := in["phone"].(string); ok {
		u.phone = phone
	}
	if notes, ok := in["notes"].(string); ok && notes != u.notes {
		previous := u.notes
		u.notes, u.updated = notes, r.business
		v.emitUser("user.notes_changed", u, map[string]any{"current": notes, "previous": previous}, r.business)
	}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		if f := v.fields[key]; f != nil {
			value := fields[key]
			if value == "" {
				value = nil
			}
			v.setField(u, f, value, r.business)
		}
	}
	if tags, ok := texts(in["tags"]); ok {
		v.setTags(u, tags, r.business)
	}
	v.index(u)
	return nil
}

func (v *zendesk) createUser(body map[string]any, r *request, update bool) response {
	in, ok := body["user"].(map[string]any)
	if !ok {
		return zenParameter("Parameter user is required")
	}
	email, external := text(in["email"]), text(in["external_id"])
	var have *zenUser
	for _, u := range v.users {
		if !u.deleted && (external != "" && u.external == external || email != "" && strings.EqualFold(u.email, email)) {
			have = u
		}
	}
	if have != nil {
		if !update {
			return zenInvalid("email", "DuplicateValue", "Email: "+email+" is already being used by another user")
		}
		if res := v.updateUser(have, in, r); res != nil {
			return *res
		}
		return answer(http.StatusOK, map[string]any{"user": v.userJSON(have)})
	}
	if text(in["name"]) == "" {
		return zenInvalid("name", "BlankValue", "Name: is too short (minimum one character)")
	}
	u := v.newUser(text(in["name"]), email, text(in["phone"]), external, r.business)
	if res := v.updateUser(u, in, r); res != nil {
		return *res
	}
	return answer(http.StatusCreated, map[string]any{"user": v.userJSON(u)})
}

func (v *zendesk) userJSON(u *zenUser) map[string]any {
	fields := map[string]any{}
	for key := range v.fields {
		fields[key] = u.fields[key]
	}
	return map[string]any{
		"id": u.id, "name": u.name, "email": textOrNil(u.email), "phone": textOrNil(u.phone), "external_id": textOrNil(u.external), "role": u.role, "notes": textOrNil(u.notes),
		"active": !u.deleted, "verified": true, "tags": notNil(u.tags), "user_fields": fields, "created_at": zenTime(u.created), "updated_at": zenTime(u.updated),
		"locale": "en-US", "time_zone": "UTC", "organization_id": nil, "suspended": false, "shared": false,
	}
}

// searchUsers is exact and consistent for external_id, and lags for query=.
func (v *zendesk) searchUsers(r *request) response {
	users := []any{}
	if external := r.query.Get("external_id"); external != "" {
		for _, id := range slices.Sorted(maps.Keys(v.users)) {
			if u := v.users[id]; u.external == external && !u.deleted {
				users = append(users, v.userJSON(u))
			}
		}
		return answer(http.StatusOK, map[string]any{"users": users, "count": len(users), "next_page": nil, "previous_page": nil})
	}
	query := r.query.Get("query")
	if query == "" {
		return zenParameter("You must provide a query or external_id")
	}
	key, want, typed := strings.Cut(strings.ToLower(query), ":")
	want = strings.Trim(want, `"`)
	for _, id := range v.searchable.find(r.wire, v.knobs[Zendesk].searchLag(), func(f map[string]string) bool {
		if typed {
			return f[key] == want
		}
		return f["email"] == key || strings.Contains(f["name"], key)
	}) {
		n, _ := strconv.ParseInt(id, 10, 64)
		if u := v.users[n]; u != nil && !u.deleted {
			users = append(users, v.userJSON(u))
		}
	}
	return answer(http.StatusOK, map[string]any{"users": users, "count": len(users), "next_page": nil, "previous_page": nil})
}

func (v *zendesk) showMany(r *request, what string) response {
	ids := strings.Split(r.query.Get("ids"), ",")
	if len(ids) > 100 {
		return zenParameter("ids: too many, at most 100")
	}
	list := []any{}
	for _, text := range ids {
		id, _ := strconv.ParseInt(text, 10, 64)
		if u := v.users[id]; what == "users" && u != nil {
			list = append(list, v.userJSON(u))
		}
		if t := v.tickets[id]; what == "tickets" && t != nil {
			list = append(list, t.json())
		}
	}
	return answer(http.StatusOK, map[string]any{what: list, "count": len(list), "next_page": nil, "previous_page": nil})
}

func (f *zenField) json() map[string]any {
	out := map[string]any{"id": f.id, "key": f.key, "title": f.title, "type": f.typ, "active": true, "system": false, "created_at": zenTime(f.created), "updated_at": zenTime(f.updated)}
	if f.typ == "dropdown" {
		options := []any{}
		for i, o := range f.options {
			options = append(options, map[string]any{"id": f.id + int64(i) + 1, "name": o, "raw_name": o, "value": o})
		}
		out["custom_field_options"] = options
	}
	return out
}

func (v *zendesk) createField(body map[string]any, r *request) response {
	in, ok := body["user_field"].(map[string]any)
	if !ok {
		return zenParameter("Parameter user_field is required")
	}
	f := &zenField{key: text(in["key"]), title: text(in["title"]), typ: text(in["type"]), created: r.business, updated: r.business}
	switch {
	case f.title == "":
		return zenInvalid("title", "BlankValue", "Title: cannot be blank")
	case f.key == "" || strings.ContainsFunc(f.key, func(c rune) bool {
		return c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z')
	}):
		return zenInvalid("key", "InvalidValue", "Key: may only contain letters, numbers and underscores")
	case !slices.Contains([]string{"text", "textarea", "dropdown", "checkbox", "date", "integer", "decimal", "regexp"}, f.typ):
		return zenInvalid("type", "InvalidValue", "Type: "+f.typ+" is not supported")
	case v.fields[f.key] != nil:
		return zenInvalid("key", "DuplicateValue", "Key: "+f.key+" has already been taken")
	}
	if f.typ == "dropdown" {
		options, _ := in["custom_field_options"].([]any)
		for _, raw := range options {
			option, _ := raw.(map[string]any)
			value := text(option["value"])
			if value == "" || text(option["name"]) == "" {
				return zenInvalid("custom_field_options", "BlankValue", "Custom field options: name and value cannot be blank")
			}
			f.options = append(f.options, value)
		}
		if len(f.options) == 0 {
			return zenInvalid("custom_field_options", "BlankValue", "Custom field options: cannot be blank")
		}
	}
	f.id = 14501257 + 100*v.next("zendesk/field")
	v.fields[f.key] = f
	return answer(http.StatusCreated, map[string]any{"user_field": f.json()})
}
