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

func (v *hubspot) reads(r *request) bool {
	return strings.HasPrefix(r.path, "/crm/v") && !strings.Contains(r.path, "/properties/") && (r.method == http.MethodGet || strings.HasSuffix(r.path, "/batch/read") || strings.HasSuffix(r.path, "/search"))
}

// hubProblem is one entry of an error's list.
type hubProblem struct {
	Message string         `json:"message"`
	Code    string         `json:"code,omitempty"`
	Context map[string]any `json:"context,omitempty"`
}

func (v *hubspot) fail(status int, category, message string, problems ...hubProblem) response {
	body := map[string]any{"status": "error", "message": message, "category": category, "correlationId": uuid("correlation", strconv.FormatInt(v.next("hubspot/correlation"), 10))}
	if len(problems) > 0 {
		body["errors"] = problems
	}
	return answer(status, body)
}

func (v *hubspot) invalid(message string) response {
	return v.fail(http.StatusBadRequest, "VALIDATION_ERROR", message)
}

func (v *hubspot) serve(r *request) response {
	switch r.path {
	case "/oauth/v1/token", "/oauth/2026-03/token":
		return v.token(r)
	}
	if !v.tokenValid(HubSpot, r.bearer("Bearer"), r.wire) {
		category := "INVALID_AUTHENTICATION"
		if r.bearer("Bearer") != "" {
			category = "EXPIRED_AUTHENTICATION"
		}
		return v.fail(http.StatusUnauthorized, category, "The OAuth token used to make this call expired or is not valid.")
	}
	path, ok := strings.CutPrefix(r.path, "/crm/v3/")
	if !ok && !strings.HasPrefix(r.path, "/crm/v4/") {
		return answer(http.StatusNotFound, map[string]any{"status": "error", "message": "No route matches " + r.path})
	}
	if strings.HasSuffix(path, "/search") {
		if _, _, ok := v.allow("hubspot/search", 5, time.Second, r.wire); !ok {
			return v.limited("SECONDLY", "You have reached your secondly limit.")
		}
		return v.route(r, path) // search replies carry no limit headers
	}
	limit := v.limit(HubSpot, 190)
	left, _, ok := v.allow("hubspot", limit, 10*time.Second, r.wire)
	headers := func(res response) response {
		return res.with("X-HubSpot-RateLimit-Max", strconv.Itoa(limit)).with("X-HubSpot-RateLimit-Remaining", strconv.Itoa(left)).with("X-HubSpot-RateLimit-Interval-Milliseconds", "10000")
	}
	if !ok {
		return headers(v.limited("TEN_SECONDLY_ROLLING", "You have reached your ten_secondly_rolling limit."))
	}
	if res, ok := v.associations(r, strings.Split(strings.TrimPrefix(r.path, "/crm/"), "/")); ok {
		return headers(res)
	}
	return headers(v.route(r, path))
}

// limited is HubSpot's 429, which promises no Retry-After.
func (v *hubspot) limited(policy, message string) response {
	return answer(http.StatusTooManyRequests, map[string]any{
		"status": "error", "message": message, "errorType": "RATE_LIMIT", "policyName": policy,
		"correlationId": uuid("correlation", strconv.FormatInt(v.next("hubspot/correlation"), 10)),
	})
}

func (v *hubspot) token(r *request) response {
	form, ok := formOrJSON(r)
	account := v.cfg.Accounts[HubSpot]
	bad := func(code, message string) response {
		return answer(http.StatusBadRequest, map[string]any{"status": code, "message": message, "correlationId": uuid("correlation", strconv.FormatInt(v.next("hubspot/correlation"), 10))})
	}
	switch {
	case r.method != http.MethodPost || !ok || !strings.HasPrefix(r.header.Get("Content-Type"), "application/x-www-form-urlencoded"):
		return bad("BAD_REQUEST", "missing or unknown grant_type")
	case form["grant_type"] != "refresh_token":
		return bad("BAD_GRANT_TYPE", "missing or unknown grant_type: "+form["grant_type"])
	case form["client_id"] != account["client_id"] || form["client_secret"] != account["client_secret"]:
		return bad("BAD_CLIENT_ID", "missing or unknown client id or secret")
	case form["refresh_token"] == "" || form["refresh_token"] != account["refresh_token"]:
		return bad("BAD_REFRESH_TOKEN", "missing or invalid refresh token")
	}
	token, expires := v.issue(HubSpot, "hs_", 30*time.Minute, r.wire)
	return answer(http.StatusOK, map[string]any{"token_type": "bearer", "access_token": token, "refresh_token": account["refresh_token"], "expires_in": expires})
}

// decode reads a body and refuses unknown members.
func decode(r *request, into any) error {
	return json.Unmarshal(r.body, into, json.RejectUnknownMembers(true))
}

func (v *hubspot) route(r *request, path string) response {
	p := strings.Split(path, "/")
	notFound := answer(http.StatusNotFound, map[string]any{"status": "error", "message": "No route matches /crm/v3/" + path})
	if r.method == http.MethodPost || r.method == http.MethodPatch {
		if kind, _, _ := strings.Cut(r.header.Get("Content-Type"), ";"); strings.TrimSpace(kind) != "application/json" {
			return v.fail(http.StatusUnsupportedMediaType, "VALIDATION_ERROR", "Unsupported media type")
		}
	}
	if p[0] == "owners" && r.method == http.MethodGet {
		owners := []any{map[string]any{"id": "64492917", "email": "lena@example.com", "firstName": "Lena", "lastName": "Retention", "userId": 4400012, "archived": false}}
		if email := r.query.Get("email"); email != "" && email != "lena@example.com" {
			owners = []any{}
		}
		return answer(http.StatusOK, map[string]any{"results": owners})
	}
	if len(p) < 2 {
		return notFound
	}
	t := v.typeOf(p[1])
	if t == nil {
		return v.fail(http.StatusBadRequest, "VALIDATION_ERROR", "Unable to infer object type from: "+p[1])
	}
	switch p[0] {
	case "properties":
		return v.properties(r, t, p[2:])
	case "objects":
		return v.objects(r, t, p[2:], notFound)
	}
	return notFound
}

func (p *hubProperty) json() map[string]any {
	options := []any{}
	for i, o := range p.options {
		options = append(options, map[string]any{"label": o.label, "value": o.value, "displayOrder": i, "hidden": false})
	}
	return map[string]any{
		"name": p.name, "label": p.label, "type": p.typ, "fieldType": orText(p.fieldType, "text"), "groupName": orText(p.group, "information"), "options": options,
		"hasUniqueValue": p.unique, "hubspotDefined": p.builtin, "archived": false, "modificationMetadata": map[string]any{"readOnlyValue": p.readOnly},
	}
}

// properties lists, reads and creates property definitions.
func (v *hubspot) properties(r *request, t *hubType, rest []string) response {
	switch {
	case r.method == http.MethodGet && len(rest) == 0:
		list := []any{}
		for _, name := range slices.Sorted(maps.Keys(t.properties)) {
			list = append(list, t.properties[name].json())
		}
		return answer(http.StatusOK, map[string]any{"results": list})
	case r.method == http.MethodGet && len(rest) == 1:
		p := t.properties[rest[0]]
		if p == nil {
			return v.fail(http.StatusNotFound, "OBJECT_NOT_FOUND", "Property "+rest[0]+" does not exist")
		}
		return answer(http.StatusOK, p.json())
	case r.method != http.MethodPost || len(rest) != 0:
		return answer(http.StatusMethodNotAllowed, map[string]any{"status": "error", "message": "Method not allowed"})
	}
	var in struct {
		Name           string `json:"name"`
		Label          string `json:"label"`
		Type           string `json:"type"`
		FieldType      string `json:"fieldType"`
		GroupName      string `json:"groupName"`
		Description    string `json:"description"`
		HasUniqueValue bool   `json:"hasUniqueValue"`
		FormField      bool   `json:"formField"`
		Hidden         bool   `json:"hidden"`
		DisplayOrder   int    `json:"displayOrder"`
		Sensitivity    string `json:"dataSensitivity"`
		External       bool   `json:"externalOptions"`
		Currency       any    `json:"currencyPropertyName"`
		Options        []struct {
			Label        string `json:"label"`
			Value        string `json:"value"`
			DisplayOrder int    `json:"displayOrder"`
			Hidden       bool   `json:"hidden"`
			Description  string `json:"description"`
		} `json:"options"`
	}
	if err := decode(r, &in); err != nil {
		return v.invalid("Invalid input JSON: " + err.Error())
	}
	fieldTypes := map[string][]string{
		"string": {"text", "textarea", "file", "html", "phonenumber"}, "number": {"number"}, "datetime": {"date"}, "date": {"date"},
		"enumeration": {"select", "radio", "checkbox", "booleancheckbox"}, "bool": {"booleancheckbox"},
	}
	switch {
	case in.Name == "" || in.Label == "" || in.GroupName == "":
		return v.invalid("Invalid input: name, label and groupName are required")
	case in.Name != strings.ToLower(in.Name) || strings.ContainsAny(in.Name, " -."):
		return v.fail(http.StatusBadRequest, "VALIDATION_ERROR", "Property name must be lower case letters, digits and underscores", hubProblem{Message: in.Name, Code: "INVALID_PROPERTY_NAME"})
	case !slices.Contains(fieldTypes[in.Type], in.FieldType):
		return v.invalid(fmt.Sprintf("Property type %q does not go with field type %q", in.Type, in.FieldType))
	case in.Type == "enumeration" && len(in.Options) == 0:
		return v.invalid("Enumeration properties need options")
	case t.properties[in.Name] != nil:
		return v.fail(http.StatusConflict, "OBJECT_ALREADY_EXISTS", "Property with name \""+in.Name+"\" already exists")
	}
	p := &hubProperty{name: in.Name, label: in.Label, typ: in.Type, fieldType: in.FieldType, group: in.GroupName, unique: in.HasUniqueValue}
	for _, o := range in.Options {
		p.options = append(p.options, hubOption{o.Value, o.Label})
	}
	t.properties[in.Name] = p
	return answer(http.StatusCreated, p.json())
}

// hubInput is what creates, updates and upserts take, singly or as an item of a batch.
type hubInput struct {
	ID           string            `json:"id"`
	IDProperty   string            `json:"idProperty"`
	Trace        string            `json:"objectWriteTraceId"`
	Properties   map[string]any    `json:"properties"`
	Associations []hubAssociations `json:"associations"`
}

type hubAssociations struct {
	To struct {
		ID string `json:"id"`
	} `json:"to"`
	Types []struct {
		Category string `json:"associationCategory"`
		TypeID   int    `json:"associationTypeId"`
	} `json:"types"`
}

func (v *hubspot) objects(r *request, t *hubType, rest []string, notFound response) response {
	switch {
	case r.method == http.MethodPost && len(rest) == 0:
		var in hubInput
		if err := decode(r, &in); err != nil || in.ID != "" {
			return v.invalid(fmt.Sprint("Invalid input JSON: ", err))
		}
		rec, res := v.createInput(t, in, r.business)
		if res != nil {
			return *res
		}
		return answer(http.StatusCreated, v.json(t, rec, nil, nil))
	case r.method == http.MethodPost && len(rest) == 1 && rest[0] == "search":
		return v.search(r, t)
	case r.method == http.MethodPost && len(rest) == 2 && rest[0] == "batch":
		return v.batch(r, t, rest[1], notFound)
	case r.method == http.MethodGet && len(rest) == 0:
		return v.list(r, t)
	case len(rest) != 1:
		return notFound
	}
	rec, res := v.lookup(t, rest[0], r.query.Get("idProperty"))
	if r.method == http.MethodGet && r.query.Get("archived") == "true" { // the deleted ones, and only those
		if n, err := strconv.ParseInt(rest[0], 10, 64); err == nil && t.records[n] != nil && t.records[n].archived && !t.records[n].gone {
			rec, res = t.records[n], nil
		} else if res == nil {
			return v.fail(http.StatusNotFound, "OBJECT_NOT_FOUND", "No archived object of that id")
		}
	}
	if res != nil {
		return *res
	}
	switch r.method {
	case http.MethodGet:
		properties := csv(r.query["properties"])
		if properties == nil {
			properties = defaultProperties[t.name]
		}
		return answer(http.StatusOK, v.json(t, rec, properties, csv(r.query["associations"])))
	case http.MethodPatch:
		var in struct {
			Properties map[string]any `json:"properties"`
		}
		if err := decode(r, &in); err != nil {
			return v.invalid("Invalid input JSON: " + err.Error())
		}
		props, problem := v.validate(t, in.Properties, rec)
		if problem != nil {
			return *problem
		}
		v.write(t, rec, props, v.app(), r.business, true)
		return answer(http.StatusOK, v.json(t, rec, nil, nil))
	case http.MethodDelete:
		v.archive(t, rec, v.app(), r.business)
		return response{status: http.StatusNoContent}
	}
	return answer(http.StatusMethodNotAllowed, map[string]any{"status": "error", "message": "Method not allowed"})
}

func csv(values []string) []string {
	var out []string
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			if part = strings.TrimSpace(part); part != "" {
				out = append(out, part)
			}
		}
	}
	return out
}

// lookup finds a record by id or by a unique property; both are consistent.
func (v *hubspot) lookup(t *hubType, id, by string) (*hubRecord, *response) {
	missing := answer(http.StatusNotFound, map[string]any{
		"status": "error", "message": "Object not found.  objectId are usually numeric.", "category": "OBJECT_NOT_FOUND",
		"correlationId": uuid("correlation", id),
	})
	if by == "" || by == "hs_object_id" {
		n, err := strconv.ParseInt(id, 10, 64)
		rec := t.records[n]
		if err != nil || rec == nil || rec.archived {
			return nil, &missing
		}
		return rec, nil
	}
	p := t.properties[by]
	if p == nil || !p.unique {
		res := v.invalid("The property " + by + " is not a unique property of " + t.name)
		return nil, &res
	}
	for _, rec := range t.records {
		if !rec.archived && rec.props[by] != "" && strings.EqualFold(rec.props[by], id) {
			return rec, nil
		}
	}
	return nil, &missing
}

// validate checks properties against their definitions and turns them into text.
func (v *hubspot) validate(t *hubType, in map[string]any, rec *hubRecord) (map[string]string, *response) {
	out := map[string]string{}
	var problems []hubProblem
	add := func(name, code, message string) {
		problems = append(problems, hubProblem{Message: message, Code: code, Context: map[string]any{"propertyName": []any{name}}})
	}
	for _, name := range slices.Sorted(maps.Keys(in)) {
		p := t.properties[name]
		if p == nil {
			add(name, "PROPERTY_DOESNT_EXIST", fmt.Sprintf("Property %q does not exist", name))
			continue
		}
		var value string
		switch raw := in[name].(type) {
		case nil:
		case string:
			value = raw
		case bool:
			value = strconv.FormatBool(raw)
		case float64:
			value = strconv.FormatFloat(raw, 'f', -1, 64)
		default:
			add(name, "INVALID_TYPE", fmt.Sprintf("Property %q must be a string", name))
			continue
		}
		switch {
		case p.readOnly:
			add(name, "READ_ONLY_VALUE", fmt.Sprintf("%q is a read only property; its value cannot be set.", name))
			continue
		case value == "":
		case len(p.options) > 0 && !slices.ContainsFunc(p.options, func(o hubOption) bool { return o.value == value }):
			add(name, "INVALID_OPTION", fmt.Sprintf("%s was not one of the allowed options for %s", value, name))
			continue
		case p.typ == "number":
			if _, err := strconv.ParseFloat(value, 64); err != nil {
				add(name, "INVALID_NUMBER", value+" was not a valid number")
				continue
			}
		case p.typ == "datetime" || p.typ == "date":
			_, ms := strconv.ParseInt(value, 10, 64)
			_, iso := time.Parse(time.RFC3339, value)
			_, day := time.Parse(time.DateOnly, value)
			if ms != nil && iso != nil && (p.typ != "date" || day != nil) {
				add(name, "INVALID_DATE", value+" was not a valid date")
				continue
			}
		case name == "email" && !strings.Contains(value, "@"):
			add(name, "INVALID_EMAIL", "Email address "+value+" is invalid")
			continue
		case p.unique:
			if other, _ := v.lookup(t, value, name); other != nil && other != rec {
				if name == "email" {
					res := v.fail(http.StatusConflict, "CONFLICT", "Contact already exists. Existing ID: "+strconv.FormatInt(other.id, 10))
					return nil, &res
				}
				add(name, "CONFLICTING_UNIQUE_VALUE", fmt.Sprintf("%s already has a record with value %s for %s", t.name, value, name))
				continue
			}
		}
		out[name] = value
	}
	if len(problems) > 0 {
		res := v.fail(http.StatusBadRequest, "VALIDATION_ERROR", "Property values were not valid: "+string(encode(problems)), problems...)
		return nil, &res
	}
	return out, nil
}

// associationTypes are HubSpot's own types: (from, to) → id.
var associationTypes = map[[2]string]int{
	{"tasks", "contacts"}: 204, {"tasks", "deals"}: 216, {"tasks", "companies"}: 192, {"notes", "contacts"}: 202, {"notes", "deals"}: 214, {"notes", "companies"}: 190,
	{"contacts", "tasks"}: 203, {"contacts", "notes"}: 201, {"deals", "contacts"}: 3, {"contacts", "deals"}: 4,
}

func (v *hubspot) createInput(t *hubType, in hubInput, at time.Time) (*hubRecord, *response) {
	props, problem := v.validate(t, in.Properties, nil)
	if problem != nil {
		return nil, problem
	}
	fail := func(message string) (*hubRecord, *response) {
		res := v.invalid(message)
		return nil, &res
	}
	switch t.name {
	case "tasks", "notes":
		if props["hs_timestamp"] == "" {
			res := v.fail(http.StatusBadRequest, "VALIDATION_ERROR", "Error creating "+singular[t.name]+". Some required properties were not set.",
				hubProblem{Message: "hs_timestamp", Code: "REQUIRED_PROPERTY_MISSING", Context: map[string]any{"properties": []any{"hs_timestamp"}}})
			return nil, &res
		}
		if t.name == "tasks" && props["hs_task_status"] == "" {
			props["hs_task_status"] = "NOT_STARTED"
		}
	case "deals":
		if props["dealstage"] == "" {
			return fail("Property dealstage is required")
		}
	}
	type link struct {
		to  *hubType
		rec *hubRecord
	}
	var links []link
	for _, a := range in.Associations {
		if len(a.Types) == 0 {
			return fail("associations[].types must not be empty")
		}
		for _, typ := range a.Types {
			var to *hubType
			for pair, id := range associationTypes {
				if pair[0] == t.name && id == typ.TypeID && typ.Category == "HUBSPOT_DEFINED" {
					to = v.types[pair[1]]
				}
			}
			if to == nil {
				return fail(fmt.Sprintf("association type %s/%d does not exist for %s", typ.Category, typ.TypeID, t.name))
			}
			rec, _ := v.lookup(to, a.To.ID, "")
			if rec == nil {
				return fail(fmt.Sprintf("%s %s to associate with does not exist", singular[to.name], a.To.ID))
			}
			links = append(links, link{to, rec})
		}
	}
	rec := v.create(t, props, v.app(), at)
	for _, l := range links {
		v.associate(t, rec, l.to, l.rec)
	}
	return rec, nil
}

// defaultProperties are shown where a read names none.
var defaultProperties = map[string][]string{
	"contacts": {"email", "firstname", "lastname"}, "companies": {"name", "domain"}, "deals": {"amount", "closedate", "dealname", "dealstage", "pipeline"},
	"tickets": {"subject", "content"}, "tasks": {}, "notes": {},
}

// json is a record as the API shows it. properties nil means all that are set, as after a write.
func (v *hubspot) json(t *hubType, rec *hubRecord, properties, associations []string) map[string]any {
	props := map[string]any{}
	if properties == nil {
		for name, value := range rec.props {
			props[name] = textOrNil(value)
		}
	}
	always := []string{"createdate", "hs_object_id", "hs_lastmodifieddate"}
	if t.name == "contacts" {
		always[2] = "lastmodifieddate"
	}
	for _, name := range append(slices.Clone(properties), always...) {
		if t.properties[name] != nil { // unknown names are left out in silence
			props[name] = textOrNil(rec.props[name])
		}
	}
	out := map[string]any{"id": strconv.FormatInt(rec.id, 10), "properties": props, "createdAt": hubTime(rec.created), "updatedAt": hubTime(rec.updated), "archived": rec.archived}
	links := map[string]any{}
	for _, name := range associations {
		to := v.typeOf(name)
		if to == nil || len(rec.assoc[to.name]) == 0 {
			continue
		}
		results := []any{}
		for _, id := range rec.assoc[to.name] {
			results = append(results, map[string]any{"id": strconv.FormatInt(id, 10), "type": singular[t.name] + "_to_" + singular[to.name]})
		}
		links[to.name] = map[string]any{"results": results}
	}
	if len(links) > 0 {
		out["associations"] = links
	}
	return out
}

func (v *hubspot) list(r *request, t *hubType) response {
	limit, err := strconv.Atoi(orText(r.query.Get("limit"), "10"))
	if err != nil || limit < 1 || limit > 100 {
		return v.invalid("limit must be 1 to 100")
	}
	after, _ := strconv.ParseInt(r.query.Get("after"), 10, 64)
	results, last := []any{}, int64(0)
	for _, id := range slices.Sorted(maps.Keys(t.records)) {
		rec := t.records[id]
		if id <= after || rec.archived {
			continue
		}
		if len(results) == limit {
			return answer(http.StatusOK, map[string]any{"results": results, "paging": map[string]any{"next": map[string]any{"after": strconv.FormatInt(last, 10)}}})
		}
		results, last = append(results, v.json(t, rec, csv(r.query["properties"]), csv(r.query["associations"]))), id
	}
	return answer(http.StatusOK, map[string]any{"results": results})
}
