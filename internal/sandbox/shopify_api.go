package sandbox

import (
	"math"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// shopVersions are the API versions that are supported, oldest first. An older one falls forward to the first.
var shopVersions = []string{"2026-01", "2026-04", "2026-07", "2026-10"}

var quarter = regexp.MustCompile(`^20\d\d-(01|04|07|10)$`)

const (
	money     = "MoneyV2"
	shopErr   = "UserError"
	customer  = "Customer"
	metaField = "Metafield"
)

var shopSchema = &gqlSchema{
	objects: map[string]map[string]gqlDef{
		"QueryRoot": {
			"customerByIdentifier": {customer, map[string]string{"identifier": "CustomerIdentifierInput!"}},
			"customer":             {customer, map[string]string{"id": "ID!"}},
			"customers":            {"CustomerConnection!", map[string]string{"first": "Int", "after": "String", "query": "String"}},
			"order":                {"Order", map[string]string{"id": "ID!"}},
			"shop":                 {"Shop!", nil},
			"nodes":                {"[Node]!", map[string]string{"ids": "[ID!]!"}},
			"node":                 {"Node", map[string]string{"id": "ID!"}},
			"metafieldDefinitions": {"MetafieldDefinitionConnection!", map[string]string{"ownerType": "MetafieldOwnerType!", "namespace": "String", "key": "String", "first": "Int", "after": "String"}},
		},
		"Mutation": {
			"tagsAdd":                   {"TagsPayload", map[string]string{"id": "ID!", "tags": "[String!]!"}},
			"tagsRemove":                {"TagsPayload", map[string]string{"id": "ID!", "tags": "[String!]!"}},
			"metafieldsSet":             {"MetafieldsSetPayload", map[string]string{"metafields": "[MetafieldsSetInput!]!"}},
			"customerUpdate":            {"CustomerUpdatePayload", map[string]string{"input": "CustomerInput!"}},
			"metafieldDefinitionCreate": {"MetafieldDefinitionCreatePayload", map[string]string{"definition": "MetafieldDefinitionInput!"}},
		},
		customer: {
			"id": {"ID!", nil}, "legacyResourceId": {"UnsignedInt64!", nil}, "email": {"String", nil}, "phone": {"String", nil}, "firstName": {"String", nil},
			"lastName": {"String", nil}, "displayName": {"String!", nil}, "note": {"String", nil}, "tags": {"[String!]!", nil}, "createdAt": {"DateTime!", nil},
			"updatedAt": {"DateTime!", nil}, "numberOfOrders": {"UnsignedInt64!", nil}, "amountSpent": {money + "!", nil}, "locale": {"String!", nil},
			"verifiedEmail": {"Boolean!", nil}, "state": {"CustomerState!", nil}, "metafield": {metaField, map[string]string{"namespace": "String", "key": "String!"}},
			"defaultEmailAddress": {"CustomerEmailAddress", nil}, "defaultPhoneNumber": {"CustomerPhoneNumber", nil},
			"emailMarketingConsent": {"CustomerEmailMarketingConsentState", nil},
		},
		"CustomerEmailAddress":               {"emailAddress": {"String!", nil}, "marketingState": {"String!", nil}},
		"CustomerPhoneNumber":                {"phoneNumber": {"String!", nil}},
		"CustomerEmailMarketingConsentState": {"marketingState": {"String!", nil}, "marketingOptInLevel": {"String", nil}, "consentUpdatedAt": {"DateTime", nil}},
		money:                                {"amount": {"Decimal!", nil}, "currencyCode": {"CurrencyCode!", nil}},
		"MoneyBag":                           {"shopMoney": {money + "!", nil}, "presentmentMoney": {money + "!", nil}},
		metaField: {
			"id": {"ID!", nil}, "namespace": {"String!", nil}, "key": {"String!", nil}, "value": {"String!", nil}, "type": {"String!", nil},
			"compareDigest": {"String!", nil}, "ownerType": {"MetafieldOwnerType!", nil},
		},
		"CustomerConnection": {"nodes": {"[Customer!]!", nil}, "edges": {"[CustomerEdge!]!", nil}, "pageInfo": {"PageInfo!", nil}},
		"CustomerEdge":       {"node": {customer + "!", nil}, "cursor": {"String!", nil}},
		"PageInfo":           {"hasNextPage": {"Boolean!", nil}, "endCursor": {"String", nil}},
		"Order": {
			"id": {"ID!", nil}, "legacyResourceId": {"UnsignedInt64!", nil}, "name": {"String!", nil}, "email": {"String", nil}, "phone": {"String", nil},
			"createdAt": {"DateTime!", nil}, "processedAt": {"DateTime!", nil}, "updatedAt": {"DateTime!", nil}, "cancelledAt": {"DateTime", nil},
			"cancelReason": {"OrderCancelReason", nil}, "displayFinancialStatus": {"OrderDisplayFinancialStatus", nil},
			"displayFulfillmentStatus": {"OrderDisplayFulfillmentStatus!", nil}, "currencyCode": {"CurrencyCode!", nil}, "totalPriceSet": {"MoneyBag!", nil},
			"currentTotalPriceSet": {"MoneyBag!", nil}, "totalRefundedSet": {"MoneyBag!", nil}, "customer": {customer, nil},
		},
		"Shop":                             {"id": {"ID!", nil}, "name": {"String!", nil}, "myshopifyDomain": {"String!", nil}, "currencyCode": {"CurrencyCode!", nil}},
		shopErr:                            {"field": {"[String!]", nil}, "message": {"String!", nil}},
		"CodedError":                       {"field": {"[String!]", nil}, "message": {"String!", nil}, "code": {"String", nil}, "elementIndex": {"Int", nil}},
		"Node":                             {"id": {"ID!", nil}},
		"SubscriptionContract":             {"id": {"ID!", nil}, "status": {"SubscriptionContractSubscriptionStatus!", nil}, "updatedAt": {"DateTime!", nil}, "createdAt": {"DateTime!", nil}, "nextBillingDate": {"DateTime", nil}, "customer": {customer, nil}},
		"TagsPayload":                      {"node": {"Node", nil}, "userErrors": {"[UserError!]!", nil}},
		"MetafieldsSetPayload":             {"metafields": {"[Metafield!]", nil}, "userErrors": {"[CodedError!]!", nil}},
		"CustomerUpdatePayload":            {"customer": {customer, nil}, "userErrors": {"[UserError!]!", nil}},
		"MetafieldDefinition":              {"id": {"ID!", nil}, "name": {"String!", nil}, "namespace": {"String!", nil}, "key": {"String!", nil}, "type": {"MetafieldDefinitionType!", nil}},
		"MetafieldDefinitionType":          {"name": {"String!", nil}, "category": {"String!", nil}},
		"MetafieldDefinitionConnection":    {"nodes": {"[MetafieldDefinition!]!", nil}, "pageInfo": {"PageInfo!", nil}},
		"MetafieldDefinitionCreatePayload": {"createdDefinition": {"MetafieldDefinition", nil}, "userErrors": {"[CodedError!]!", nil}},
	},
	inputs: map[string]map[string]string{
		"CustomerIdentifierInput":   {"id": "ID", "emailAddress": "String", "phoneNumber": "String", "customId": "UniqueMetafieldValueInput"},
		"UniqueMetafieldValueInput": {"namespace": "String", "key": "String!", "value": "String!"},
		"MetafieldsSetInput":        {"ownerId": "ID!", "namespace": "String", "key": "String!", "type": "String", "value": "String!", "compareDigest": "String"},
		"CustomerInput": {
			"id": "ID", "note": "String", "firstName": "String", "lastName": "String", "email": "String", "phone": "String", "locale": "String",
			"tags": "[String!]", "taxExempt": "Boolean",
		},
		"MetafieldDefinitionInput": {"name": "String!", "namespace": "String", "key": "String!", "type": "String!", "ownerType": "MetafieldOwnerType!", "description": "String", "pin": "Boolean"},
	},
	enums: map[string][]string{"MetafieldOwnerType": {"CUSTOMER", "ORDER", "PRODUCT", "SHOP"}},
}

func (v *shopify) reads(r *request) bool {
	if !strings.HasSuffix(r.path, "/graphql.json") {
		return false
	}
	var call struct {
		Query string `json:"query"`
	}
	_ = json.Unmarshal(r.body, &call)
	return !strings.HasPrefix(strings.TrimSpace(call.Query), "mutation")
}

// serve answers the token endpoint and the Admin GraphQL API.
func (v *shopify) serve(r *request) response {
	if r.path == "/admin/oauth/access_token" {
		return v.token(r)
	}
	parts := strings.Split(strings.Trim(r.path, "/"), "/")
	if len(parts) != 4 || parts[0] != "admin" || parts[1] != "api" || parts[3] != "graphql.json" {
		return answer(http.StatusNotFound, map[string]any{"errors": "Not Found"})
	}
	asked := parts[2]
	if !quarter.MatchString(asked) && asked != "unstable" || asked > shopVersions[len(shopVersions)-1] && asked != "unstable" {
		return answer(http.StatusNotFound, map[string]any{"errors": "Not Found"})
	}
	used := max(asked,
		// falls forward
		shopVersions[0])
	return v.graphql(r).with("X-Shopify-API-Version", used)
}

func (v *shopify) token(r *request) response {
	if r.method != http.MethodPost {
		return answer(http.StatusNotFound, map[string]any{"errors": "Not Found"})
	}
	form, ok := formOrJSON(r)
	account := v.cfg.Accounts[Shopify]
	switch {
	case !ok:
		return answer(http.StatusBadRequest, map[string]any{"error": "invalid_request", "error_description": "The request is malformed"})
	case form["client_id"] != account["client_id"] || form["client_secret"] != account["client_secret"]:
		return answer(http.StatusBadRequest, map[string]any{"error": "invalid_client", "error_description": "client authentication failed"})
	case form["grant_type"] != "client_credentials":
		return answer(http.StatusBadRequest, map[string]any{"error": "unsupported_grant_type", "error_description": "grant_type must be client_credentials"})
	}
	token, expires := v.issue(Shopify, "shpca_", 86399*time.Second, r.wire)
	return answer(http.StatusOK, map[string]any{"access_token": token, "scope": "read_customers,write_customers,read_orders", "expires_in": expires})
}

// formOrJSON reads a token request; its content type decides.
func formOrJSON(r *request) (map[string]string, bool) {
	out := map[string]string{}
	switch kind, _, _ := strings.Cut(r.header.Get("Content-Type"), ";"); strings.TrimSpace(kind) {
	case "application/x-www-form-urlencoded":
		values, err := url.ParseQuery(string(r.body))
		if err != nil {
			return nil, false
		}
		for k := range values {
			out[k] = values.Get(k)
		}
		return out, true
	case "application/json":
		var raw map[string]any
		if json.Unmarshal(r.body, &raw) != nil {
			return nil, false
		}
		for k, v := range raw {
			if s, ok := v.(string); ok {
				out[k] = s
			}
		}
		return out, true
	}
	return nil, false
}

func (v *shopify) graphql(r *request) response {
	if r.method != http.MethodPost {
		return answer(http.StatusMethodNotAllowed, map[string]any{"errors": "Method Not Allowed"})
	}
	if !v.tokenValid(Shopify, r.header.Get("X-Shopify-Access-Token"), r.wire) {
		return answer(http.StatusUnauthorized, map[string]any{"errors": "[API] Invalid API key or access token (unrecognized login or wrong password)"})
	}
	if kind, _, _ := strings.Cut(r.header.Get("Content-Type"), ";"); strings.TrimSpace(kind) != "application/json" {
		return answer(http.StatusUnsupportedMediaType, map[string]any{"errors": "Unsupported Media Type"})
	}
	var call struct {
		Query         string         `json:"query"`
		Variables     map[string]any `json:"variables"`
		OperationName string         `json:"operationName"`
	}
	if err := json.Unmarshal(r.body, &call); err != nil || call.Query == "" {
		return answer(http.StatusBadRequest, map[string]any{"errors": map[string]any{"query": "Required parameter missing or invalid"}})
	}
	op, gerr := parseGraphQL(call.Query, call.OperationName)
	if gerr == nil {
		gerr = shopSchema.check(op, call.Variables)
	}
	if gerr != nil {
		return answer(http.StatusOK, map[string]any{"errors": []any{gerr}})
	}
	cost := gqlCost(op)
	extensions, ok := v.spend(cost, r.wire)
	if !ok {
		return answer(http.StatusOK, map[string]any{"errors": []any{gqlErr("THROTTLED", "Throttled")}, "extensions": extensions})
	}
	data := map[string]any{}
	for _, f := range op.fields {
		def := shopSchema.objects[map[string]string{"query": "QueryRoot", "mutation": "Mutation"}[op.kind]][f.name]
		data[f.alias] = project(v.resolve(f, r), f.fields, base(def.typ))
	}
	return answer(http.StatusOK, map[string]any{"data": data, "extensions": extensions})
}

// gqlCost is ten points per mutation and one per object asked for.
func gqlCost(op *gqlOperation) float64 {
	cost := 0.0
	var walk func([]gqlField) float64
	walk = func(fields []gqlField) float64 {
		n := 0.0
		for _, f := range fields {
			if len(f.fields) > 0 && f.name != "userErrors" {
				first, _ := f.args["first"].(float64)
				n += math.Max(1, first) * (1 + walk(f.fields))
			}
		}
		return n
	}
	for _, f := range op.fields {
		if op.kind == "mutation" {
			cost += 10
		} else {
			cost += walk([]gqlField{f})
		}
	}
	return math.Min(cost, 1000)
}

// spend takes points from the leaky bucket of the Standard plan: 100 a second, 2,000 at most.
func (v *shopify) spend(cost float64, now time.Time) (map[string]any, bool) {
	const perSecond = 100.0
	limit := float64(v.limit(Shopify, 2000))
	if v.bucketMax != limit {
		v.bucketMax, v.bucket, v.bucketAt = limit, limit, now
	}
	v.bucket = math.Min(limit, v.bucket+now.Sub(v.bucketAt).Seconds()*perSecond)
	v.bucketAt = now
	ok := cost <= v.bucket
	var actual any
	if ok {
		v.bucket -= cost
		actual = cost
	}
	return map[string]any{"cost": map[string]any{
		"requestedQueryCost": cost, "actualQueryCost": actual,
		"throttleStatus": map[string]any{"maximumAvailable": limit, "currentlyAvailable": math.Floor(v.bucket), "restoreRate": perSecond},
	}}, ok
}

func (v *shopify) resolve(f gqlField, r *request) any {
	switch f.name {
	case "shop":
		return map[string]any{"id": "gid://shopify/Shop/65512345678", "name": "Example Shop", "myshopifyDomain": v.cfg.Accounts[Shopify]["shop"], "currencyCode": "EUR"}
	case "customer":
		return v.customerData(v.customerByGID(f.args["id"]))
	case "customerByIdentifier":
		return v.customerData(v.identify(f.args["identifier"].(map[string]any)))
	case "customers":
		return v.search(f, r)
	case "order":
		return v.orderData(v.orders[gidNumber(f.args["id"], "Order")])
	case "node":
		return v.node(f.args["id"])
	case "nodes":
		out := []any{}
		for _, id := range f.args["ids"].([]any) {
			out = append(out, v.node(id))
		}
		return out
	case "metafieldDefinitions":
		nodes := []any{}
		for _, d := range v.definitions {
			if d["ownerType"] == f.args["ownerType"] && (f.args["namespace"] == nil || f.args["namespace"] == d["namespace"]) && (f.args["key"] == nil || f.args["key"] == d["key"]) {
				nodes = append(nodes, definitionData(d))
			}
		}
		return map[string]any{"nodes": nodes, "pageInfo": map[string]any{"hasNextPage": false, "endCursor": nil}}
	case "tagsAdd", "tagsRemove":
		c := v.customerByGID(f.args["id"])
		if c == nil {
			return map[string]any{"node": nil, "userErrors": []any{userError("Customer does not exist", "id")}}
		}
		var tags []string
		for _, t := range f.args["tags"].([]any) {
			text, _ := t.(string)
			if len(text) > 40 {
				return map[string]any{"node": nil, "userErrors": []any{userError("Tags is too long (maximum is 40 characters)", "tags")}}
			}
			tags = append(tags, text)
		}
		if f.name == "tagsAdd" {
			v.addTags(c, tags, r.business)
		} else {
			v.removeTags(c, tags, r.business)
		}
		return map[string]any{"node": map[string]any{"id": c.gid()}, "userErrors": []any{}}
	case "metafieldsSet":
		return v.metafieldsSet(f.args["metafields"].([]any), r)
	case "customerUpdate":
		return v.customerUpdate(f.args["input"].(map[string]any), r)
	case "metafieldDefinitionCreate":
		return v.define(f.args["definition"].(map[string]any))
	}
	return nil
}

// node is any object by its id; one that does not exist is null.
func (v *shopify) node(id any) any {
	if o := v.orders[gidNumber(id, "Order")]; o != nil {
		return v.orderData(o)
	}
	return v.customerData(v.customerByGID(id))
}

func userError(message string, field ...string) map[string]any {
	path := []any{}
	for _, f := range field {
		path = append(path, f)
	}
	return map[string]any{"field": path, "message": message}
}

func gidNumber(id any, kind string) int64 {
	text, _ := id.(string)
	digits, ok := strings.CutPrefix(text, "gid://shopify/"+kind+"/")
	if !ok {
		return 0
	}
	n, _ := strconv.ParseInt(digits, 10, 64)
	return n
}

func (v *shopify) customerByGID(id any) *shopCustomer {
	c := v.customers[gidNumber(id, "Customer")]
	if c == nil || c.deleted {
		return nil
	}
	return c
}

func (v *shopify) identify(by map[string]any) *shopCustomer {
	if id, ok := by["id"]; ok && id != nil {
		return v.customerByGID(id)
	}
	if email, ok := by["emailAddress"].(string); ok {
		return v.find(email)
	}
	if phone, ok := by["phoneNumber"].(string); ok {
		for _, c := range v.customers {
			if !c.deleted && c.phone == phone {
				return c
			}
		}
	}
	if custom, ok := by["customId"].(map[string]any); ok {
		ns, _ := custom["namespace"].(string)
		for _, c := range v.customers {
			if m, ok := c.metafields[ns+"."+custom["key"].(string)]; ok && !c.deleted && m.value == custom["value"] {
				return c
			}
		}
	}
	return nil
}

// search answers customers(query: "email:…"); it sees writes after the lag.
func (v *shopify) search(f gqlField, r *request) any {
	query, _ := f.args["query"].(string)
	key, want, _ := strings.Cut(query, ":")
	want = strings.ToLower(strings.Trim(want, `"' `))
	nodes, edges := []any{}, []any{}
	first, _ := f.args["first"].(float64)
	for _, id := range v.searchable.find(r.wire, v.knobs[Shopify].searchLag(), func(fields map[string]string) bool {
		return query == "" || fields[strings.TrimSpace(key)] == want || key == "tag" && slices.Contains(strings.Split(strings.ToLower(fields["tag"]), ","), want)
	}) {
		n, _ := strconv.ParseInt(id, 10, 64)
		if c := v.customers[n]; c != nil && !c.deleted && len(nodes) < int(first) {
			data := v.customerData(c)
			nodes, edges = append(nodes, data), append(edges, map[string]any{"node": data, "cursor": id})
		}
	}
	return map[string]any{"nodes": nodes, "edges": edges, "pageInfo": map[string]any{"hasNextPage": false, "endCursor": nil}}
}

func (v *shopify) customerData(c *shopCustomer) any {
	if c == nil {
		return nil
	}
	tags := []any{}
	for _, t := range c.tags {
		tags = append(tags, t)
	}
	consent := map[string]any{"marketingState": strings.ToUpper(c.consent), "marketingOptInLevel": "SINGLE_OPT_IN", "consentUpdatedAt": utcOrNil(c.consentAt)}
	var email, phone any
	if c.email != "" {
		email = map[string]any{"emailAddress": c.email, "marketingState": strings.ToUpper(c.consent)}
	}
	if c.phone != "" {
		phone = map[string]any{"phoneNumber": c.phone}
	}
	return map[string]any{
		"__typename": customer,
		"id":         c.gid(), "legacyResourceId": strconv.FormatInt(c.id, 10), "email": textOrNil(c.email), "phone": textOrNil(c.phone), "firstName": textOrNil(c.first),
		"lastName": textOrNil(c.last), "displayName": strings.TrimSpace(c.first + " " + c.last), "note": textOrNil(c.note), "tags": tags, "locale": "en",
		"createdAt": utcOrNil(c.created), "updatedAt": utcOrNil(c.updated), "numberOfOrders": strconv.Itoa(c.orders), "verifiedEmail": true, "state": "DISABLED",
		"amountSpent": map[string]any{"amount": cents(c.spent), "currencyCode": c.currency}, "defaultEmailAddress": email, "defaultPhoneNumber": phone,
		"emailMarketingConsent": consent,
		"metafield": func(args map[string]any) any {
			ns, _ := args["namespace"].(string)
			key, _ := args["key"].(string)
			if before, after, ok := strings.Cut(key, "."); ok && ns == "" {
				ns, key = before, after
			}
			m, ok := c.metafields[orText(ns, "$app")+"."+key]
			if !ok {
				return nil
			}
			return metafieldData(m, orText(ns, "$app"), key)
		},
	}
}

func metafieldData(m metafield, ns, key string) map[string]any {
	return map[string]any{
		"id": "gid://shopify/Metafield/" + strconv.FormatInt(m.id, 10), "namespace": ns, "key": key, "value": m.value, "type": m.typ,
		"compareDigest": m.digest(), "ownerType": "CUSTOMER",
	}
}

func utcOrNil(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

func (v *shopify) orderData(o *shopOrder) any {
	if o == nil {
		return nil
	}
	set := func(amount string) map[string]any {
		m := map[string]any{"amount": amount, "currencyCode": o.currency}
		return map[string]any{"shopMoney": m, "presentmentMoney": m}
	}
	fulfilment, current := "UNFULFILLED", cents(o.amount)
	if !o.fulfilled.IsZero() {
		fulfilment = "FULFILLED"
	}
	if left, err := o.amount.Sub(o.refunded); err == nil {
		current = cents(left)
	}
	return map[string]any{
		"__typename": "Order",
		"id":         o.gid(), "legacyResourceId": strconv.FormatInt(o.id, 10), "name": "#" + strconv.Itoa(o.number), "email": textOrNil(o.customer.email), "phone": nil,
		"createdAt": utcOrNil(o.created), "processedAt": utcOrNil(o.created), "updatedAt": utcOrNil(o.updated), "cancelledAt": utcOrNil(o.cancelled),
		"cancelReason": textOrNil(strings.ToUpper(o.reason)), "displayFinancialStatus": strings.ToUpper(o.financial), "displayFulfillmentStatus": fulfilment,
		"currencyCode": o.currency, "totalPriceSet": set(cents(o.amount)), "currentTotalPriceSet": set(current), "totalRefundedSet": set(cents(o.refunded)),
		"customer": v.customerData(o.customer),
	}
}

// metafieldsSet writes all or nothing, at most 25.
func (v *shopify) metafieldsSet(inputs []any, r *request) any {
	fail := func(i int, code, field, message string) map[string]any {
		e := userError(message, "metafields", strconv.Itoa(i), field)
		e["code"], e["elementIndex"] = code, i
		return map[string]any{"metafields": nil, "userErrors": []any{e}}
	}
	if len(inputs) > 25 {
		e := userError("Exceeded the maximum metafields input limit of 25.", "metafields")
		e["code"], e["elementIndex"] = "LESS_THAN_OR_EQUAL_TO", nil
		return map[string]any{"metafields": nil, "userErrors": []any{e}}
	}
	for i, raw := range inputs {
		in := raw.(map[string]any)
		c := v.customerByGID(in["ownerId"])
		if c == nil {
			return fail(i, "INVALID", "ownerId", "Owner does not exist.")
		}
		ns, key := orText(text(in["namespace"]), "$app"), text(in["key"])
		typ, value := text(in["type"]), text(in["value"])
		switch definition := v.definitions["CUSTOMER/"+ns+"."+key]; {
		case len(key) < 2:
			return fail(i, "TOO_SHORT", "key", "Key is too short (minimum is 2 characters)")
		case len(key) > 64:
			return fail(i, "TOO_LONG", "key", "Key is too long (maximum is 64 characters)")
		case typ == "" && definition == nil:
			return fail(i, "BLANK", "type", "Type can't be blank")
		case definition != nil && typ != "" && definition["type"] != typ:
			return fail(i, "INVALID_TYPE", "type", "Type must be consistent with the definition's type")
		case !slices.Contains([]string{"", "single_line_text_field", "multi_line_text_field", "date_time", "date", "number_integer", "number_decimal", "boolean", "json", "id"}, typ):
			return fail(i, "INVALID_TYPE", "type", "Type must be one of the supported types")
		case value == "":
			return fail(i, "BLANK", "value", "Value can't be blank.")
		case typ == "single_line_text_field" && strings.ContainsAny(value, "\n\r"):
			return fail(i, "INVALID_VALUE", "value", "Value must be a single line text string.")
		}
		have, exists := c.metafields[ns+"."+key]
		if digest, asked := in["compareDigest"]; asked && (digest == nil && exists || digest != nil && (!exists || have.digest() != digest)) {
			return fail(i, "STALE_OBJECT", "compareDigest", "The resource has been updated since it was loaded. Try again with an updated `compareDigest` value.")
		}
	}
	out := []any{}
	changed := map[*shopCustomer]bool{}
	var order []*shopCustomer
	for _, raw := range inputs {
		in := raw.(map[string]any)
		c := v.customerByGID(in["ownerId"])
		ns, key := orText(text(in["namespace"]), "$app"), text(in["key"])
		m, exists := c.metafields[ns+"."+key]
		if !exists {
			m.id = 31012345678900 + v.next("shopify/metafield")
		}
		typ := text(in["type"])
		if typ == "" {
			typ = text(v.definitions["CUSTOMER/"+ns+"."+key]["type"])
		}
		if !exists || m.value != text(in["value"]) || m.typ != typ {
			m.typ, m.value = typ, text(in["value"])
			c.metafields[ns+"."+key] = m
			if !changed[c] {
				changed[c] = true
				order = append(order, c)
			}
		}
		out = append(out, metafieldData(m, ns, key))
	}
	for _, c := range order {
		v.touch(c, r.business)
	}
	return map[string]any{"metafields": out, "userErrors": []any{}}
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

func (v *shopify) customerUpdate(in map[string]any, r *request) any {
	c := v.customerByGID(in["id"])
	if c == nil {
		return map[string]any{"customer": nil, "userErrors": []any{userError("Customer does not exist", "id")}}
	}
	if email, ok := in["email"].(string); ok {
		if !strings.Contains(email, "@") {
			return map[string]any{"customer": nil, "userErrors": []any{userError("Email is invalid", "email")}}
		}
		if other := v.find(email); other != nil && other != c {
			return map[string]any{"customer": nil, "userErrors": []any{userError("Email has already been taken", "email")}}
		}
		c.email = email
	}
	for name, field := range map[string]*string{"note": &c.note, "firstName": &c.first, "lastName": &c.last, "phone": &c.phone} {
		if value, ok := in[name]; ok {
			*field = text(value)
		}
	}
	if tags, ok := in["tags"].([]any); ok {
		c.tags = nil
		for _, t := range tags {
			c.tags = append(c.tags, text(t))
		}
		slices.Sort(c.tags)
	}
	v.touch(c, r.business)
	return map[string]any{"customer": v.customerData(c), "userErrors": []any{}}
}

func (v *shopify) define(in map[string]any) any {
	key := text(in["ownerType"]) + "/" + orText(text(in["namespace"]), "$app") + "." + text(in["key"])
	if _, ok := v.definitions[key]; ok {
		e := userError("Key is in use for "+text(in["ownerType"])+" metafields on the '"+text(in["namespace"])+"' namespace.", "definition", "key")
		e["code"] = "TAKEN"
		return map[string]any{"createdDefinition": nil, "userErrors": []any{e}}
	}
	in["id"] = "gid://shopify/MetafieldDefinition/" + strconv.FormatInt(9012345600+v.next("shopify/definition"), 10)
	in["namespace"] = orText(text(in["namespace"]), "$app")
	v.definitions[key] = in
	return map[string]any{"createdDefinition": definitionData(in), "userErrors": []any{}}
}

func definitionData(d map[string]any) map[string]any {
	return map[string]any{"id": d["id"], "name": d["name"], "namespace": d["namespace"], "key": d["key"], "type": map[string]any{"name": d["type"], "category": "TEXT"}}
}
