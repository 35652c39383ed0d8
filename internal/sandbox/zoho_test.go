package sandbox

import (
	"fmt"
	"net/url"
	"testing"
	"time"
)

const zohoAPI = "/zoho/crm/v8"

// zohoBench knows Mei and has a provisioned stage picklist and task reference.
func zohoBench(t *testing.T) (*bench, string) {
	b := newBench(t)
	picklist := []any{}
	for _, s := range []string{"Prospect", "New", "Active", "Lost"} {
		picklist = append(picklist, map[string]any{"display_value": s, "actual_value": s})
	}
	for path, field := range map[string]map[string]any{
		"Contacts": {"field_label": "Lifecycle Stage", "data_type": "picklist", "pick_list_values": picklist},
		"Tasks":    {"field_label": "Stagewire Ref", "data_type": "text", "length": 64, "unique": map[string]any{"case_sensitive": false}},
	} {
		if got := b.call("POST", zohoAPI+"/settings/fields?module="+path, map[string]any{"fields": []any{field}}); got.status != 200 || got.at("fields.0.code") != "SUCCESS" {
			t.Fatalf("%s: %d %s", path, got.status, got.text)
		}
	}
	b.play(Step{Vendor: Zoho, Do: "customer.created", Customer: "mei.tan@example.com", Name: "Mei Tan"})
	b.queued(Zoho)
	return b, b.State()[Zoho].Customers[0].ID
}

func data(records ...map[string]any) map[string]any {
	list := []any{}
	for _, r := range records {
		list = append(list, r)
	}
	return map[string]any{"data": list, "trigger": []any{}}
}

func TestZohoIsStrict(t *testing.T) {
	b, id := zohoBench(t)
	for name, tc := range map[string]struct {
		method, path string
		body         any
		header       string
		status       int
		at           string
		want         any
	}{
		"by id":                   {"GET", "/Contacts/" + id, nil, "", 200, "data.0.Email", "mei.tan@example.com"},
		"none is 204":             {"GET", "/Contacts/1", nil, "", 204, "data", nil},
		"list needs fields":       {"GET", "/Contacts?ids=" + id, nil, "", 400, "details.param_name", "fields"},
		"list by ids":             {"GET", "/Contacts?ids=" + id + ",1&fields=Email,Created_By", nil, "", 200, "data.0.Created_By.id", zohoAna.id},
		"list of none":            {"GET", "/Contacts?ids=1&fields=Email", nil, "", 204, "data", nil},
		"bearer is not its word":  {"GET", "/Contacts/" + id, nil, "Authorization: Bearer fixed-token", 401, "code", "INVALID_TOKEN"},
		"no token":                {"GET", "/Contacts/" + id, nil, "Authorization: ", 401, "code", "AUTHENTICATION_FAILURE"},
		"unknown module":          {"GET", "/Unicorns/1", nil, "", 400, "code", "INVALID_MODULE"},
		"unknown version":         {"GET", "/../v9/Contacts/" + id, nil, "", 404, "code", "INVALID_URL_PATTERN"},
		"stage written":           {"PUT", "/Contacts", data(map[string]any{"id": id, "Lifecycle_Stage": "Active"}), "", 200, "data.0.code", "SUCCESS"},
		"unknown picklist value":  {"PUT", "/Contacts", data(map[string]any{"id": id, "Lifecycle_Stage": "Vip"}), "", 400, "data.0.details.api_name", "Lifecycle_Stage"},
		"unknown field ignored":   {"PUT", "/Contacts", data(map[string]any{"id": id, "Nope": "x"}), "", 200, "data.0.code", "SUCCESS"},
		"update without id":       {"PUT", "/Contacts", data(map[string]any{"Phone": "1"}), "", 400, "data.0.code", "MANDATORY_NOT_FOUND"},
		"update of nobody":        {"PUT", "/Contacts", data(map[string]any{"id": "1"}), "", 400, "data.0.code", "INVALID_DATA"},
		"no data":                 {"PUT", "/Contacts", map[string]any{}, "", 400, "code", "MANDATORY_NOT_FOUND"},
		"unknown member":          {"PUT", "/Contacts", map[string]any{"data": []any{}, "triggers": []any{}}, "", 400, "code", "INVALID_DATA"},
		"in part":                 {"PUT", "/Contacts", data(map[string]any{"id": id, "Phone": "1"}, map[string]any{"id": "1"}), "", 207, "data.1.status", "error"},
		"contact without name":    {"POST", "/Contacts", data(map[string]any{"Email": "x@example.com"}), "", 202, "data.0.details.api_name", "Last_Name"},
		"wrong type":              {"PUT", "/Contacts", data(map[string]any{"id": id, "Email_Opt_Out": "yes"}), "", 400, "data.0.details.expected_data_type", "boolean"},
		"task":                    {"POST", "/Tasks", data(map[string]any{"Subject": "Call Mei", "Due_Date": "2026-11-25", "Who_Id": map[string]any{"id": id}}), "", 201, "data.0.code", "SUCCESS"},
		"task of nobody":          {"POST", "/Tasks", data(map[string]any{"Subject": "x", "Who_Id": map[string]any{"id": "1"}}), "", 202, "data.0.details.api_name", "Who_Id"},
		"task with a wrong date":  {"POST", "/Tasks", data(map[string]any{"Subject": "x", "Due_Date": "2026-11-25T09:00:00Z"}), "", 202, "data.0.details.api_name", "Due_Date"},
		"what needs its module":   {"POST", "/Tasks", data(map[string]any{"Subject": "x", "What_Id": map[string]any{"id": id}}), "", 202, "data.0.details.api_name", "What_Id"},
		"note":                    {"POST", "/Contacts/" + id + "/Notes", map[string]any{"data": []any{map[string]any{"Note_Title": "t", "Note_Content": "c"}}}, "", 201, "data.0.code", "SUCCESS"},
		"note by its parent":      {"POST", "/Notes", map[string]any{"data": []any{map[string]any{"Note_Content": "c", "Parent_Id": map[string]any{"id": id, "module": map[string]any{"api_name": "Contacts"}}}}}, "", 201, "data.0.code", "SUCCESS"},
		"note without parent":     {"POST", "/Notes", data(map[string]any{"Note_Content": "c"}), "", 202, "data.0.code", "MANDATORY_NOT_FOUND"},
		"search lags":             {"GET", "/Contacts/search?email=mei.tan@example.com", nil, "", 204, "data", nil},
		"coql":                    {"POST", "/coql", map[string]any{"select_query": "select id, Email from Contacts where Email = 'mei.tan@example.com' limit 1"}, "", 200, "data.0.id", id},
		"coql of none":            {"POST", "/coql", map[string]any{"select_query": "select id from Tasks where Stagewire_Ref = 'none' limit 1"}, "", 204, "data", nil},
		"coql of no column":       {"POST", "/coql", map[string]any{"select_query": "select id from Tasks where Ref = 'none' limit 1"}, "", 400, "code", "INVALID_QUERY"},
		"coql without where":      {"POST", "/coql", map[string]any{"select_query": "select id from Tasks"}, "", 400, "code", "SYNTAX_ERROR"},
		"coql without query":      {"POST", "/coql", map[string]any{"query": "x"}, "", 400, "code", "MANDATORY_NOT_FOUND"},
		"who am I":                {"GET", "/users?type=CurrentUser", nil, "", 200, "users.0.id", zohoApp.id},
		"field twice":             {"POST", "/settings/fields?module=Contacts", map[string]any{"fields": []any{map[string]any{"field_label": "Lifecycle Stage", "data_type": "text"}}}, "", 400, "fields.0.code", "DUPLICATE_DATA"},
		"watch with a long token": {"POST", "/actions/watch", map[string]any{"watch": []any{map[string]any{"channel_id": "1", "events": []any{"Contacts.all"}, "notify_url": "https://h", "token": fmt.Sprintf("%051d", 1)}}}, "", 400, "details.api_name", "token"},
	} {
		t.Run(name, func(t *testing.T) {
			var headers []string
			if tc.header != "" {
				headers = append(headers, tc.header)
			}
			path := zohoAPI + tc.path
			if name == "unknown version" {
				path = "/zoho/crm/v9/Contacts/" + id
			}
			got := b.call(tc.method, path, tc.body, headers...)
			if got.status != tc.status || fmt.Sprint(got.at(tc.at)) != fmt.Sprint(tc.want) {
				t.Errorf("got %d %v, want %d %v\n%s", got.status, got.at(tc.at), tc.status, tc.want, got.text)
			}
		})
	}
}

// Zoho's token errors come with HTTP 200.
func TestZohoTokens(t *testing.T) {
	b, id := zohoBench(t)
	form := url.Values{"grant_type": {"refresh_token"}, "client_id": {"1000.SANDBOX"}, "client_secret": {"sandbox-zoho-secret"}, "refresh_token": {"1000.sandbox-zoho-refresh"}}
	got := b.call("POST", "/zoho/oauth/v2/token", form)
	token, _ := got.at("access_token").(string)
	if got.status != 200 || token == "" || got.at("api_domain") != "http://example.com/zoho" {
		t.Fatalf("%d %s", got.status, got.text)
	}
	use := func() int {
		return b.call("GET", zohoAPI+"/Contacts/"+id, nil, "Authorization: Zoho-oauthtoken "+token).status
	}
	if use() != 200 {
		t.Error("fresh token refused")
	}
	b.wire.add(time.Hour)
	if use() != 401 {
		t.Error("expired token taken")
	}
	form.Set("refresh_token", "no")
	if got := b.call("POST", "/zoho/oauth/v2/token", form); got.status != 200 || got.at("error") != "invalid_code" {
		t.Errorf("%d %s", got.status, got.text)
	}
}

func TestZohoUniqueReferenceAndConsistentLookup(t *testing.T) {
	b, id := zohoBench(t)
	create := func() reply {
		return b.call("POST", zohoAPI+"/Tasks", data(map[string]any{"Subject": "Win back", "Stagewire_Ref": "dlv_1", "Who_Id": map[string]any{"id": id}}))
	}
	first := create()
	if again := create(); again.at("data.0.code") != "DUPLICATE_DATA" || again.at("data.0.details.id") != first.at("data.0.details.id") {
		t.Errorf("%d %s", again.status, again.text)
	}
	got := b.call("POST", zohoAPI+"/coql", map[string]any{"select_query": "select id, Subject from Tasks where Stagewire_Ref = 'dlv_1' limit 1"})
	if got.at("data.0.id") != first.at("data.0.details.id") {
		t.Errorf("%d %s", got.status, got.text)
	}
	if got := b.call("GET", zohoAPI+"/Tasks/dlv_1", nil, "X-EXTERNAL: Tasks.Stagewire_Ref"); got.at("data.0.Subject") != "Win back" {
		t.Errorf("external: %d %s", got.status, got.text)
	}
	tasks := b.State()[Zoho].Tasks
	if len(tasks) != 1 || tasks[0].Customer != id || tasks[0].Fields["Stagewire_Ref"] != "dlv_1" {
		t.Errorf("%+v", tasks)
	}
}

func TestZohoWritesComeBackAsOneNotification(t *testing.T) {
	b, id := zohoBench(t)
	b.play(Step{Vendor: Zoho, Do: "customer.created", Customer: "b@example.com", Name: "B"})
	b.queued(Zoho)
	other := b.State()[Zoho].Customers[1].ID
	b.call("PUT", zohoAPI+"/Contacts", data(map[string]any{"id": id, "Lifecycle_Stage": "Active"}, map[string]any{"id": other, "Lifecycle_Stage": "Lost"}))
	topics, bodies := b.queued(Zoho)
	if len(topics) != 1 || fmt.Sprint(bodies[0]["ids"]) != fmt.Sprint([]any{id, other}) || bodies[0]["token"] != "sandbox-zoho-token" || bodies[0]["operation"] != "update" {
		t.Fatalf("%v %v", topics, bodies)
	}
	if got := b.call("GET", zohoAPI+"/Contacts/"+id, nil); got.at("data.0.Modified_By.id") != zohoApp.id {
		t.Errorf("%s", got.text)
	}
	b.call("PUT", zohoAPI+"/Contacts", data(map[string]any{"id": id, "Lifecycle_Stage": "Active"}))
	if topics, _ := b.queued(Zoho); len(topics) != 0 {
		t.Errorf("nothing changed, yet %v", topics)
	}
}

// A channel whose expiry is missing or too far lives one hour, and ends.
func TestZohoWatch(t *testing.T) {
	b, id := zohoBench(t)
	watch := func(expiry time.Time) reply {
		return b.call("POST", zohoAPI+"/actions/watch", map[string]any{"watch": []any{map[string]any{
			"channel_id": "77", "events": []any{"Contacts.edit"}, "token": "tok",
			"channel_expiry": expiry.Format(time.RFC3339), "notify_url": "https://hub.example.com/hooks/zoho",
		}}})
	}
	got := watch(b.wire.now().Add(30 * 24 * time.Hour))
	if got.status != 201 || got.at("watch.0.details.events.0.channel_expiry") != zohoTime(b.wire.now().Add(time.Hour)) {
		t.Fatalf("%d %s", got.status, got.text)
	}
	b.call("PUT", zohoAPI+"/Contacts", data(map[string]any{"id": id, "Phone": "1"}))
	if _, bodies := b.queued(Zoho); len(bodies) != 1 || bodies[0]["token"] != "tok" || bodies[0]["channel_id"] != "77" {
		t.Errorf("%v", bodies)
	}
	b.wire.add(time.Hour)
	b.call("PUT", zohoAPI+"/Contacts", data(map[string]any{"id": id, "Phone": "2"}))
	if topics, _ := b.queued(Zoho); len(topics) != 0 {
		t.Errorf("an expired channel still tells %v", topics)
	}
	if got := b.call("DELETE", zohoAPI+"/actions/watch?channel_ids=78", nil); got.at("code") != "NOT_SUBSCRIBED" {
		t.Errorf("%d %s", got.status, got.text)
	}
}

// A converted lead is gone from lists, and can be read by its id, which tells what became of it.
func TestZohoConvertsLeads(t *testing.T) {
	b, _ := zohoBench(t)
	b.play(Step{Vendor: Zoho, Do: "lead.created", Customer: "ben@example.com", Name: "Ben Vogel"})
	lead := b.State()[Zoho].Customers[1]
	b.queued(Zoho)
	b.play(Step{Vendor: Zoho, Do: "lead.converted", Customer: "ben@example.com"})
	if topics, _ := b.queued(Zoho); fmt.Sprint(topics) != "[Contacts.insert Leads.update]" {
		t.Errorf("%v", topics)
	}
	got := b.call("GET", zohoAPI+"/Leads/"+lead.ID, nil)
	if lead.Kind != "lead" || got.at("data.0.Converted__s") != true {
		t.Errorf("%s %d %s", lead.Kind, got.status, got.text)
	}
	for query, want := range map[string]int{"": 204, "&converted=both": 200, "&converted=true": 200} {
		if got := b.call("GET", zohoAPI+"/Leads?ids="+lead.ID+"&fields=Email"+query, nil); got.status != want {
			t.Errorf("%q: %d", query, got.status)
		}
	}
	if got := b.call("POST", zohoAPI+"/coql", map[string]any{"select_query": "select id from Contacts where Email = 'ben@example.com' limit 1"}); got.status != 200 {
		t.Errorf("contact: %d", got.status)
	}
}

func TestZohoTags(t *testing.T) {
	b, id := zohoBench(t)
	path := zohoAPI + "/Contacts/" + id + "/actions/"
	tags := func(names ...string) map[string]any {
		list := []any{}
		for _, n := range names {
			list = append(list, map[string]any{"name": n})
		}
		return map[string]any{"tags": list}
	}
	if got := b.call("POST", path+"add_tags", tags("stage:new", "vip")); got.status != 200 || got.at("data.0.code") != "SUCCESS" {
		t.Fatalf("%d %s", got.status, got.text)
	}
	b.call("POST", path+"add_tags", tags("vip")) // is there already: nobody is told
	b.call("POST", path+"remove_tags", tags("stage:new"))
	if got := b.State()[Zoho].Customers[0].Tags; fmt.Sprint(got) != "[vip]" {
		t.Errorf("%v", got)
	}
	if topics, _ := b.queued(Zoho); len(topics) != 2 {
		t.Errorf("%v", topics)
	}
	if got := b.call("POST", path+"add_tags", tags()); got.at("code") != "MANDATORY_NOT_FOUND" {
		t.Errorf("%d %s", got.status, got.text)
	}
	if got := b.call("GET", zohoAPI+"/Contacts?ids="+id+"&fields=Tag", nil); got.at("data.0.Tag.0.name") != "vip" {
		t.Errorf("%s", got.text)
	}
}
