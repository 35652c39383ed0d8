package sandbox

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

const graphqlPath = "/shopify/admin/api/2026-10/graphql.json"

// shopBench knows Ada and one order of hers.
func shopBench(t *testing.T) (*bench, string) {
	b := newBench(t)
	b.play(Step{Vendor: Shopify, Do: "customer.created", Customer: "ada@example.com", Name: "Ada Example", Phone: "+12025550143"},
		Step{Vendor: Shopify, Do: "order.placed", Customer: "ada@example.com", Object: "o1", Amount: "54.90"})
	b.queued(Shopify)
	return b, "gid://shopify/Customer/" + b.State()[Shopify].Customers[0].ID
}

func gql(query string, variables map[string]any) map[string]any {
	return map[string]any{"query": query, "variables": variables}
}

const (
	findQuery = `query($i:CustomerIdentifierInput!){customerByIdentifier(identifier:$i){id email tags updatedAt metafield(namespace:"lifecycle",key:"stage"){value compareDigest}}}`
	setStage  = `mutation($m:[MetafieldsSetInput!]!){metafieldsSet(metafields:$m){metafields{id key value compareDigest} userErrors{field message code elementIndex}}}`
	addTags   = `mutation($id:ID!,$tags:[String!]!){tagsAdd(id:$id,tags:$tags){node{id} userErrors{field message}}}`
)

func TestShopifyIsStrict(t *testing.T) {
	b, gid := shopBench(t)
	stage := func(more map[string]any) map[string]any {
		m := map[string]any{"ownerId": gid, "namespace": "lifecycle", "key": "stage", "type": "single_line_text_field", "value": "active"}
		maps.Copy(m, more)
		return map[string]any{"m": []any{m}}
	}
	for name, tc := range map[string]struct {
		path   string
		body   any
		header string
		status int
		at     string // where to look in the answer
		want   any
	}{
		"found":                    {"", gql(findQuery, map[string]any{"i": map[string]any{"emailAddress": "ADA@example.com"}}), "", 200, "data.customerByIdentifier.id", gid},
		"not found is null":        {"", gql(findQuery, map[string]any{"i": map[string]any{"emailAddress": "no@example.com"}}), "", 200, "data.customerByIdentifier", nil},
		"order to customer":        {"", gql(`{order(id:"gid://shopify/Order/5912345678901"){customer{id email}}}`, nil), "", 200, "data.order.customer.email", "ada@example.com"},
		"alias and fragment":       {"", gql(`{a:shop{...f}} fragment f on Shop{name}`, nil), "", 200, "data.a.name", "Example Shop"},
		"nodes":                    {"", gql(`query($ids:[ID!]!){result:nodes(ids:$ids){__typename ... on Order{id customer{__typename email}}}}`, map[string]any{"ids": []any{"gid://shopify/Order/5912345678901"}}), "", 200, "data.result.0", "map[__typename:Order customer:map[__typename:Customer email:ada@example.com] id:gid://shopify/Order/5912345678901]"},
		"a node that is not":       {"", gql(`{nodes(ids:["gid://shopify/Order/1"]){... on Order{id}}}`, nil), "", 200, "data.nodes", "[<nil>]"},
		"a fragment elsewhere":     {"", gql(`{shop{... on Order{id}}}`, nil), "", 200, "errors.0.extensions.code", "cannotSpreadFragment"},
		"a fragment of no type":    {"", gql(`{nodes(ids:[]){... on Unicorn{id}}}`, nil), "", 200, "errors.0.extensions.code", "undefinedType"},
		"no token":                 {"", gql(findQuery, nil), "X-Shopify-Access-Token: ", 401, "errors", "[API] Invalid API key or access token (unrecognized login or wrong password)"},
		"wrong token":              {"", gql(findQuery, nil), "X-Shopify-Access-Token: other", 401, "data", nil},
		"a version that never was": {"/shopify/admin/api/2026-11/graphql.json", gql("{shop{name}}", nil), "", 404, "errors", "Not Found"},
		"a version to come":        {"/shopify/admin/api/2027-01/graphql.json", gql("{shop{name}}", nil), "", 404, "errors", "Not Found"},
		"unknown field":            {"", gql("{shop{nome}}", nil), "", 200, "errors.0.extensions.code", "undefinedField"},
		"unknown argument":         {"", gql(`{customer(ident:"x"){id}}`, nil), "", 200, "errors.0.extensions.code", "argumentNotAccepted"},
		"missing argument":         {"", gql(`{customer{id}}`, nil), "", 200, "errors.0.extensions.code", "missingRequiredArguments"},
		"object without fields":    {"", gql(`{shop}`, nil), "", 200, "errors.0.extensions.code", "selectionMismatch"},
		"variable of another type": {"", gql(`query($id:String!){customer(id:$id){id}}`, map[string]any{"id": gid}), "", 200, "errors.0.extensions.code", "variableMismatch"},
		"variable unused":          {"", gql(`query($x:String){shop{name}}`, nil), "", 200, "errors.0.extensions.code", "variableNotUsed"},
		"variable undeclared":      {"", gql(`{customer(id:$id){id}}`, nil), "", 200, "errors.0.extensions.code", "variableNotDefined"},
		"variable missing":         {"", gql(findQuery, nil), "", 200, "errors.0.extensions.code", "INVALID_VARIABLE"},
		"input field unknown":      {"", gql(findQuery, map[string]any{"i": map[string]any{"mail": "x"}}), "", 200, "errors.0.extensions.code", "INVALID_VARIABLE"},
		"id that is no gid":        {"", gql(addTags, map[string]any{"id": "7012345678901", "tags": []any{"x"}}), "", 200, "errors.0.extensions.code", "INVALID_VARIABLE"},
		"syntax":                   {"", gql("{shop{name}", nil), "", 200, "errors.0.message", "syntax error, unexpected end of file"},
		"no query":                 {"", map[string]any{}, "", 400, "errors.query", "Required parameter missing or invalid"},
		"no JSON":                  {"", "nonsense", "", 400, "data", nil},
		"form":                     {"", url.Values{"query": {"{shop{name}}"}}, "", 415, "data", nil},
		"stage written":            {"", gql(setStage, stage(nil)), "", 200, "data.metafieldsSet.metafields.0.value", "active"},
		"stage of nobody":          {"", gql(setStage, stage(map[string]any{"ownerId": "gid://shopify/Customer/1"})), "", 200, "data.metafieldsSet.userErrors.0.message", "Owner does not exist."},
		"stage without type":       {"", gql(setStage, stage(map[string]any{"type": nil, "namespace": "other"})), "", 200, "data.metafieldsSet.userErrors.0.code", "BLANK"},
		"stage of two lines":       {"", gql(setStage, stage(map[string]any{"value": "a\nb"})), "", 200, "data.metafieldsSet.userErrors.0.code", "INVALID_VALUE"},
		"stale digest":             {"", gql(setStage, stage(map[string]any{"compareDigest": "0000"})), "", 200, "data.metafieldsSet.userErrors.0.code", "STALE_OBJECT"},
		"tag of nobody":            {"", gql(addTags, map[string]any{"id": "gid://shopify/Customer/1", "tags": []any{"x"}}), "", 200, "data.tagsAdd.userErrors.0.message", "Customer does not exist"},
		"tag too long":             {"", gql(addTags, map[string]any{"id": gid, "tags": []any{strings.Repeat("x", 41)}}), "", 200, "data.tagsAdd.userErrors.0.message", "Tags is too long (maximum is 40 characters)"},
		"note":                     {"", gql(`mutation($i:CustomerInput!){customerUpdate(input:$i){customer{note} userErrors{message}}}`, map[string]any{"i": map[string]any{"id": gid, "note": "n"}}), "", 200, "data.customerUpdate.customer.note", "n"},
		"too many metafields": {
			"", gql(setStage, map[string]any{"m": slices.Repeat([]any{map[string]any{"ownerId": gid, "key": "stage", "value": "x"}}, 26)}), "", 200,
			"data.metafieldsSet.userErrors.0.code", "LESS_THAN_OR_EQUAL_TO",
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := orText(tc.path, graphqlPath)
			var headers []string
			if tc.header != "" {
				headers = append(headers, tc.header)
			}
			got := b.call("POST", path, tc.body, headers...)
			if got.status != tc.status || fmt.Sprint(got.at(tc.at)) != fmt.Sprint(tc.want) {
				t.Errorf("got %d %v, want %d %v\n%s", got.status, got.at(tc.at), tc.status, tc.want, got.text)
			}
		})
	}
}

func TestShopifyFallsForwardToASupportedVersion(t *testing.T) {
	b, _ := shopBench(t)
	got := b.call("POST", "/shopify/admin/api/2024-01/graphql.json", gql("{shop{name}}", nil))
	if got.status != 200 || got.header.Get("X-Shopify-API-Version") != "2026-01" {
		t.Errorf("%d %s", got.status, got.header)
	}
}

func TestShopifyTokenExpires(t *testing.T) {
	b, _ := shopBench(t)
	b.Set(Shopify, func(k *Knobs) { k.TokenLife = Span(5 * time.Second) })
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"sandbox-shop"}, "client_secret": {"sandbox-shopify-secret"}}
	got := b.call("POST", "/shopify/admin/oauth/access_token", form)
	token, _ := got.at("access_token").(string)
	if got.status != 200 || token == "" || got.at("expires_in") != 5.0 {
		t.Fatalf("%d %s", got.status, got.text)
	}
	ask := func() int {
		return b.call("POST", graphqlPath, gql("{shop{name}}", nil), "X-Shopify-Access-Token: "+token).status
	}
	if ask() != 200 {
		t.Error("a fresh token is refused")
	}
	b.wire.add(5 * time.Second)
	if ask() != 401 {
		t.Error("an expired token is taken")
	}
	form.Set("client_secret", "wrong")
	if got := b.call("POST", "/shopify/admin/oauth/access_token", form); got.status != 400 || got.at("error") != "invalid_client" {
		t.Errorf("%d %s", got.status, got.text)
	}
}

func TestShopifyThrottlesInsideHTTP200(t *testing.T) {
	b, gid := shopBench(t)
	b.Set(Shopify, func(k *Knobs) { k.Limit = 25 })
	body := gql(addTags, map[string]any{"id": gid, "tags": []any{"x"}})
	for range 2 {
		if got := b.call("POST", graphqlPath, body); got.at("errors") != nil {
			t.Fatal(got.text)
		}
	}
	got := b.call("POST", graphqlPath, body)
	if got.status != 200 || got.at("errors.0.extensions.code") != "THROTTLED" || got.at("data") != nil || got.header.Get("Retry-After") != "" {
		t.Fatalf("%d %s", got.status, got.text)
	}
	if got.at("extensions.cost.throttleStatus.currentlyAvailable") != 5.0 || got.at("extensions.cost.requestedQueryCost") != 10.0 {
		t.Errorf("cost: %s", got.text)
	}
	b.wire.add(50 * time.Millisecond) // five points come back
	if got := b.call("POST", graphqlPath, body); got.at("errors") != nil {
		t.Errorf("after the wait: %s", got.text)
	}
}

func TestShopifyWritesComeBackAsWebhooks(t *testing.T) {
	b, gid := shopBench(t)
	b.business.set(time.Date(2025, 8, 28, 9, 17, 0, 0, time.UTC))
	body := gql(addTags, map[string]any{"id": gid, "tags": []any{"stage:active"}})
	b.call("POST", graphqlPath, body)
	topics, bodies := b.queued(Shopify)
	if !slices.Equal(topics, []string{"customer.tags_added", "customers/update"}) {
		t.Fatalf("%v", topics)
	}
	if bodies[0]["occurredAt"] != "2025-08-28T04:17:00-05:00" || bodies[1]["updated_at"] != "2025-08-28T04:17:00-05:00" {
		t.Errorf("not the story's clock: %v", bodies[0])
	}
	b.call("POST", graphqlPath, body)
	if topics, _ := b.queued(Shopify); len(topics) != 0 {
		t.Errorf("a tag that is there already tells %v", topics)
	}
	m := map[string]any{"m": []any{map[string]any{"ownerId": gid, "namespace": "lifecycle", "key": "stage", "type": "single_line_text_field", "value": "active"}}}
	b.call("POST", graphqlPath, gql(setStage, m))
	b.call("POST", graphqlPath, gql(setStage, m)) // the same value once more changes nothing
	if topics, _ := b.queued(Shopify); !slices.Equal(topics, []string{"customers/update"}) {
		t.Errorf("%v", topics)
	}
	b.call("POST", graphqlPath, gql(`mutation{tagsRemove(id:"`+gid+`",tags:["stage:active"]){userErrors{message}}}`, nil))
	if topics, _ := b.queued(Shopify); !slices.Equal(topics, []string{"customer.tags_removed", "customers/update"}) {
		t.Errorf("%v", topics)
	}
	c := b.State()[Shopify].Customers[0]
	if len(c.Tags) != 0 || c.Fields["lifecycle.stage"] != "active" {
		t.Errorf("state: %+v", c)
	}
}

func TestShopifyDefinitions(t *testing.T) {
	b, gid := shopBench(t)
	define := gql(`mutation($d:MetafieldDefinitionInput!){metafieldDefinitionCreate(definition:$d){createdDefinition{id name} userErrors{field message code}}}`,
		map[string]any{"d": map[string]any{"name": "Stage", "namespace": "lifecycle", "key": "stage", "type": "single_line_text_field", "ownerType": "CUSTOMER"}})
	if got := b.call("POST", graphqlPath, define); got.at("data.metafieldDefinitionCreate.createdDefinition.name") != "Stage" {
		t.Fatal(got.text)
	}
	if got := b.call("POST", graphqlPath, define); got.at("data.metafieldDefinitionCreate.userErrors.0.code") != "TAKEN" {
		t.Error(got.text)
	}
	got := b.call("POST", graphqlPath, gql(setStage, map[string]any{"m": []any{map[string]any{"ownerId": gid, "namespace": "lifecycle", "key": "stage", "type": "boolean", "value": "true"}}}))
	if got.at("data.metafieldsSet.userErrors.0.code") != "INVALID_TYPE" {
		t.Error(got.text)
	}
	got = b.call("POST", graphqlPath, gql(`{metafieldDefinitions(ownerType:CUSTOMER,namespace:"lifecycle",key:"stage",first:1){nodes{id key type{name}}}}`, nil))
	if got.at("data.metafieldDefinitions.nodes.0.type.name") != "single_line_text_field" {
		t.Error(got.text)
	}
}

func TestShopifySearchLagsAndLookupDoesNot(t *testing.T) {
	b, gid := shopBench(t)
	search := gql(`{customers(first:1,query:"email:ada@example.com"){nodes{id}}}`, nil)
	if got := b.call("POST", graphqlPath, search); got.at("data.customers.nodes.0") != nil {
		t.Errorf("found at once: %s", got.text)
	}
	if got := b.call("POST", graphqlPath, gql(findQuery, map[string]any{"i": map[string]any{"emailAddress": "ada@example.com"}})); got.at("data.customerByIdentifier.id") != gid {
		t.Error(got.text)
	}
	b.wire.add(defaultSearchLag)
	if got := b.call("POST", graphqlPath, search); got.at("data.customers.nodes.0.id") != gid {
		t.Errorf("not found after the lag: %s", got.text)
	}
}

// FuzzGraphQL: no document makes the engine fail, and what it accepts it can answer.
func FuzzGraphQL(f *testing.F) {
	for _, q := range []string{findQuery, setStage, addTags, `{nodes(ids:["gid://shopify/Order/1"]){... on Order{id}}}`, `query A{shop{...f}} fragment f on Shop{name}`, `{a:customer(id:"gid://shopify/Customer/1"){metafield(key:"a.b"){value}}}`} {
		f.Add(q)
	}
	b := newBench(f)
	b.play(Step{Vendor: Shopify, Do: "customer.created", Customer: "ada@example.com"})
	f.Fuzz(func(t *testing.T, query string) {
		one := *b
		one.t = t
		one.wire.add(time.Minute)
		got := one.call("POST", graphqlPath, map[string]any{"query": strings.ToValidUTF8(query, "?")})
		if got.status != 200 && got.status != 400 {
			t.Errorf("%d %s", got.status, got.text)
		}
	})
}
