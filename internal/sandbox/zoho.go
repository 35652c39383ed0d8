package sandbox

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// zohoZone is the organisation's offset: Zoho writes times with it, in whole seconds.
var zohoZone = time.FixedZone("", 60*60)

func zohoTime(t time.Time) string { return t.In(zohoZone).Format("2006-01-02T15:04:05-07:00") }

// zohoPerson is who made a change in Zoho.
type zohoPerson struct{ id, name, email string }

var (
	zohoAna = zohoPerson{"4411220000000411001", "Ana Ruiz", "ana.ruiz@example.com"}
	zohoApp = zohoPerson{"4411220000000411099", "Stagewire", "stagewire@example.com"} // the user of the OAuth grant
)

func (p zohoPerson) json() map[string]any {
	return map[string]any{"name": p.name, "id": p.id, "email": p.email}
}

// zoho plays one Zoho CRM organisation.
type zoho struct {
	*Sandbox
	modules  map[string]*zohoModule
	byHandle map[string]string // leads and deals by the story's handle, "Deals/name" → id
	channels map[string]*zohoChannel
}

type zohoModule struct {
	name       string
	fields     map[string]*zohoField
	records    map[string]*zohoRecord
	order      []string // ids as they were made
	searchable *index
	firstID    int64
	channel    string
}

type zohoField struct {
	id, name, label, typ string // text, email, phone, picklist, boolean, date, datetime, double, lookup, ownerlookup, textarea
	values               []string
	lookup               string // module, for lookups
	unique, mandatory    bool
	readOnly, custom     bool
	maxLength            int
}

type zohoRecord struct {
	id                 string
	values             map[string]any // text, bool, float64, or map with id for lookups
	created, modified  time.Time
	createdBy, changed zohoPerson
	deleted            bool
	converted          bool // a lead that became a contact: gone from lists and searches, still there by its id
}

// zohoChannel is a subscription made by the watch API.
type zohoChannel struct {
	id, token string
	events    []string
	expiry    time.Time
	values    bool
}

func newZoho(s *Sandbox) *zoho {
	v := &zoho{Sandbox: s, modules: map[string]*zohoModule{}, byHandle: map[string]string{}, channels: map[string]*zohoChannel{}}
	fieldID := 0
	add := func(name string, firstID int64, channel string, fields ...*zohoField) {
		m := &zohoModule{name: name, fields: map[string]*zohoField{}, records: map[string]*zohoRecord{}, searchable: newIndex(), firstID: firstID, channel: channel}
		fields = append(fields, &zohoField{name: "Owner", typ: "ownerlookup"}, &zohoField{name: "Created_Time", typ: "datetime", readOnly: true},
			&zohoField{name: "Modified_Time", typ: "datetime", readOnly: true}, &zohoField{name: "Created_By", typ: "ownerlookup", readOnly: true},
			&zohoField{name: "Modified_By", typ: "ownerlookup", readOnly: true}, &zohoField{name: "id", typ: "bigint", readOnly: true}, &zohoField{name: "Tag", typ: "text", readOnly: true})
		for _, f := range fields {
			fieldID++
			f.id = strconv.FormatInt(4411220000000002000+int64(fieldID), 10)
			if f.typ == "" {
				f.typ = "text"
			}
			if f.maxLength == 0 {
				f.maxLength = 255
			}
			f.label = strings.ReplaceAll(f.name, "_", " ")
			m.fields[f.name] = f
		}
		v.modules[name] = m
	}
	people := func() []*zohoField {
		return []*zohoField{
			{name: "Last_Name", mandatory: true, maxLength: 80},
			{name: "First_Name", maxLength: 40},
			{name: "Full_Name", readOnly: true},
			{name: "Email", typ: "email", maxLength: 100},
			{name: "Phone", typ: "phone", maxLength: 30},
			{name: "Mobile", typ: "phone", maxLength: 30},
			{name: "Email_Opt_Out", typ: "boolean"},
			{name: "Lead_Source"},
			{name: "Description", typ: "textarea", maxLength: 32000},
		}
	}
	add("Contacts", 4411220000003000000, "1000000068001", append(people(), &zohoField{name: "Account_Name", typ: "lookup", lookup: "Accounts"},
		&zohoField{name: "Unsubscribed_Mode", readOnly: true}, &zohoField{name: "Unsubscribed_Time", typ: "datetime", readOnly: true})...)
	add("Leads", 4411220000002100000, "1000000068001", append(people(), &zohoField{name: "Company", mandatory: true},
		&zohoField{name: "Lead_Status", typ: "picklist", values: []string{"Not Contacted", "Contacted", "Qualified", "Lost Lead", "Junk Lead"}},
		&zohoField{name: "Converted__s", typ: "boolean", readOnly: true}, &zohoField{name: "Converted_Contact", typ: "lookup", lookup: "Contacts", readOnly: true})...)
	add("Accounts", 4411220000001900000, "", &zohoField{name: "Account_Name", mandatory: true})
	add("Deals", 4411220000004000000, "1000000068002", &zohoField{name: "Deal_Name", mandatory: true}, &zohoField{name: "Amount", typ: "double"}, &zohoField{name: "Currency"},
		&zohoField{name: "Stage", typ: "picklist", mandatory: true, values: []string{"Qualification", "Needs Analysis", "Proposal", "Negotiation", "Closed Won", "Closed Lost"}},
		&zohoField{name: "Probability", typ: "double"}, &zohoField{name: "Closing_Date", typ: "date"}, &zohoField{name: "Contact_Name", typ: "lookup", lookup: "Contacts"},
		&zohoField{name: "Account_Name", typ: "lookup", lookup: "Accounts"}, &zohoField{name: "Reason_For_Loss__s"}, &zohoField{name: "Description", typ: "textarea", maxLength: 32000})
	add("Tasks", 4411220000006000000, "1000000068003", &zohoField{name: "Subject", mandatory: true}, &zohoField{name: "Due_Date", typ: "date"},
		&zohoField{name: "Status", typ: "picklist", values: []string{"Not Started", "Deferred", "In Progress", "Completed", "Waiting for input"}},
		&zohoField{name: "Priority", typ: "picklist", values: []string{"Highest", "High", "Normal", "Low", "Lowest"}},
		&zohoField{name: "Who_Id", typ: "lookup", lookup: "Contacts"}, &zohoField{name: "What_Id", typ: "lookup"}, &zohoField{name: "$se_module"},
		&zohoField{name: "Description", typ: "textarea", maxLength: 32000}, &zohoField{name: "Closed_Time", typ: "datetime", readOnly: true})
	add("Notes", 4411220000007000000, "", &zohoField{name: "Note_Title", maxLength: 120}, &zohoField{name: "Note_Content", typ: "textarea", mandatory: true, maxLength: 32000},
		&zohoField{name: "Parent_Id", typ: "parent", mandatory: true})
	return v
}

// new makes a record of validated values.
func (v *zoho) new(m *zohoModule, values map[string]any, by zohoPerson, at time.Time) *zohoRecord {
	counter, first := "zoho/"+m.name, m.firstID
	if v.echo {
		counter, first = counter+"/api", first+500000
	}
	rec := &zohoRecord{id: strconv.FormatInt(first+10*v.next(counter), 10), values: values, created: at, modified: at, createdBy: by, changed: by}
	m.records[rec.id] = rec
	m.order = append(m.order, rec.id)
	if m.name == "Tasks" && values["Status"] == nil {
		values["Status"] = "Not Started"
	}
	if m.name == "Tasks" && values["Priority"] == nil {
		values["Priority"] = "Normal"
	}
	v.settle(m, rec)
	return rec
}

// set changes values and returns the names of those that differ.
func (v *zoho) set(m *zohoModule, rec *zohoRecord, values map[string]any, by zohoPerson, at time.Time) []string {
	var changed []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if string(encode(rec.values[name])) != string(encode(values[name])) {
			changed = append(changed, name)
			rec.values[name] = values[name]
		}
	}
	rec.modified, rec.changed = at, by
	v.settle(m, rec)
	return changed
}

// settle derives what Zoho derives, and makes the record known to the search index.
func (v *zoho) settle(m *zohoModule, rec *zohoRecord) {
	if m.name == "Contacts" || m.name == "Leads" {
		rec.values["Full_Name"] = strings.TrimSpace(text(rec.values["First_Name"]) + " " + text(rec.values["Last_Name"]))
		if rec.values["Email_Opt_Out"] == nil {
			rec.values["Email_Opt_Out"] = false
		}
	}
	if m.name == "Deals" {
		switch rec.values["Stage"] {
		case "Closed Won":
			rec.values["Probability"] = 100.0
		case "Closed Lost":
			rec.values["Probability"] = 0.0
		}
	}
	if rec.deleted || rec.converted {
		m.searchable.put(rec.id, nil, v.cfg.Now())
		return
	}
	fields := map[string]string{}
	for name, value := range rec.values {
		if s, ok := value.(string); ok {
			fields[name] = s
		}
	}
	m.searchable.put(rec.id, fields, v.cfg.Now())
}

// zohoChange is one changed record of a notification.
type zohoChange struct {
	rec    *zohoRecord
	fields []string
}

// notify queues one notification for all records that one call changed, to each channel that watches the module. Without a
// channel made by the watch API, the account's fixed channels and token are used.
func (v *zoho) notify(m *zohoModule, operation string, changes []zohoChange, at time.Time) {
	if len(changes) == 0 || m.channel == "" {
		return
	}
	type target struct {
		channel, token string
		values         bool
	}
	targets := []target{{m.channel, v.cfg.Accounts[Zoho]["token"], m.name == "Deals" || m.name == "Tasks"}}
	if len(v.channels) > 0 {
		targets = nil
		verb := map[string]string{"insert": "create", "update": "edit", "delete": "delete"}[operation]
		for _, id := range slices.Sorted(maps.Keys(v.channels)) {
			c := v.channels[id]
			if (slices.Contains(c.events, m.name+"."+verb) || slices.Contains(c.events, m.name+".all")) && v.cfg.Now().Before(c.expiry) {
				targets = append(targets, target{c.id, c.token, c.values})
			}
		}
	}
	ids, fields, values := []any{}, []any{}, []any{}
	for _, c := range changes {
		ids = append(ids, c.rec.id)
		if len(c.fields) > 0 {
			fields = append(fields, map[string]any{c.rec.id: c.fields})
			changed := map[string]any{}
			for _, f := range c.fields {
				changed[f] = c.rec.values[f]
			}
			values = append(values, map[string]any{"record_id": c.rec.id, "values": changed})
		}
	}
	for _, t := range targets {
		body := map[string]any{
			"server_time": at.UnixMilli(), "query_params": map[string]any{}, "module": m.name, "resource_uri": "https://www.zohoapis." + orText(v.cfg.Accounts[Zoho]["region"], "com") + "/crm/v8/" + m.name,
			"ids": ids, "affected_fields": fields, "operation": operation, "channel_id": t.channel, "token": t.token,
		}
		if t.values && len(values) > 0 {
			body["affected_values"] = values
		}
		v.enqueue(&hook{
			vendor: Zoho, id: v.serial("hook/zoho"), topic: m.name + "." + operation, body: encode(body),
			header: map[string]string{"Content-Type": "application/json; charset=utf-8"},
		})
	}
}

func (v *zoho) find(module, email string) *zohoRecord {
	m := v.modules[module]
	for _, id := range m.order {
		if rec := m.records[id]; !rec.deleted && !rec.converted && email != "" && strings.EqualFold(text(rec.values["Email"]), email) {
			return rec
		}
	}
	return nil
}

func (v *zoho) play(step Step, at time.Time) error {
	contacts, deals, tasks := v.modules["Contacts"], v.modules["Deals"], v.modules["Tasks"]
	named := func() map[string]any {
		first, last := splitName(step.Name)
		if last == "" {
			first, last = "", first
		}
		values := map[string]any{"Last_Name": last, "Email": step.Customer}
		if first != "" {
			values["First_Name"] = first
		}
		if step.Phone != "" {
			values["Phone"] = step.Phone
		}
		return values
	}
	switch step.Do {
	case "customer.created":
		if v.find("Contacts", step.Customer) != nil {
			return stepErr(step, "the organisation knows %s already", step.Customer)
		}
		rec := v.new(contacts, named(), zohoAna, at)
		v.notify(contacts, "insert", []zohoChange{{rec: rec}}, at)
		return nil
	case "lead.created":
		values := named()
		values["Company"], values["Lead_Status"] = orText(step.Text, "Example GmbH"), "Not Contacted"
		leads := v.modules["Leads"]
		rec := v.new(leads, values, zohoAna, at)
		v.notify(leads, "insert", []zohoChange{{rec: rec}}, at)
		return nil
	case "lead.converted":
		leads := v.modules["Leads"]
		lead := v.find("Leads", step.Customer)
		if lead == nil {
			return stepErr(step, "no lead %s", step.Customer)
		}
		values := map[string]any{}
		for _, f := range []string{"Last_Name", "First_Name", "Email", "Phone"} {
			if lead.values[f] != nil {
				values[f] = lead.values[f]
			}
		}
		rec := v.new(contacts, values, zohoAna, at)
		lead.values["Converted__s"], lead.values["Converted_Contact"] = true, map[string]any{"id": rec.id, "name": rec.values["Full_Name"]}
		lead.converted, lead.modified = true, at
		v.settle(leads, lead)
		v.notify(contacts, "insert", []zohoChange{{rec: rec}}, at)
		v.notify(leads, "update", []zohoChange{{lead, []string{"Converted__s", "Converted_Contact"}}}, at)
		return nil
	case "deal.stage_changed", "deal.won", "deal.lost":
		d := deals.records[v.byHandle["Deals/"+step.Object]]
		if d == nil {
			return stepErr(step, "no deal %q", step.Object)
		}
		values := map[string]any{"Stage": map[string]string{"deal.won": "Closed Won", "deal.lost": "Closed Lost"}[step.Do]}
		if step.Do == "deal.stage_changed" {
			values["Stage"] = step.Value
		} else {
			values["Closing_Date"] = at.In(zohoZone).Format(time.DateOnly)
		}
		if step.Reason != "" {
			values["Reason_For_Loss__s"] = step.Reason
		}
		v.notify(deals, "update", []zohoChange{{d, v.set(deals, d, values, zohoAna, at)}}, at)
		return nil
	}
	c := v.find("Contacts", step.Customer)
	if c == nil {
		return stepErr(step, "the organisation knows no %s", step.Customer)
	}
	switch step.Do {
	case "customer.updated", "consent.changed":
		field, value := step.Field, any(step.Value)
		if step.Do == "consent.changed" {
			field, value = "Email_Opt_Out", step.Value == "unsubscribed"
		}
		f := contacts.fields[field]
		if f == nil || f.readOnly || len(f.values) > 0 && !slices.Contains(f.values, step.Value) {
			return stepErr(step, "no such field or value: %s=%v", field, value)
		}
		v.notify(contacts, "update", []zohoChange{{c, v.set(contacts, c, map[string]any{field: value}, zohoAna, at)}}, at)
	case "customer.deleted":
		c.deleted, c.modified = true, at
		v.settle(contacts, c)
		v.notify(contacts, "delete", []zohoChange{{rec: c}}, at)
	case "deal.created":
		if step.Object == "" || v.byHandle["Deals/"+step.Object] != "" {
			return stepErr(step, "a deal needs an object name of its own, not %q", step.Object)
		}
		amount, err := strconv.ParseFloat(step.Amount, 64)
		if err != nil {
			return stepErr(step, "amount %q", step.Amount)
		}
		rec := v.new(deals, map[string]any{
			"Deal_Name": step.Subject, "Stage": orText(step.Value, "Qualification"), "Amount": amount, "Currency": orText(step.Currency, "EUR"),
			"Probability": 10.0, "Closing_Date": at.AddDate(0, 1, 0).In(zohoZone).Format(time.DateOnly), "Contact_Name": map[string]any{"name": c.values["Full_Name"], "id": c.id},
		}, zohoAna, at)
		v.byHandle["Deals/"+step.Object] = rec.id
		v.notify(deals, "insert", []zohoChange{{rec: rec}}, at)
	case "task.created":
		rec := v.new(tasks, map[string]any{"Subject": step.Subject, "Who_Id": map[string]any{"name": c.values["Full_Name"], "id": c.id}}, zohoAna, at)
		v.notify(tasks, "insert", []zohoChange{{rec: rec}}, at)
	case "task.completed":
		for _, id := range tasks.order {
			rec := tasks.records[id]
			who, _ := rec.values["Who_Id"].(map[string]any)
			if who["id"] == c.id && rec.values["Status"] != "Completed" && !rec.deleted {
				changed := v.set(tasks, rec, map[string]any{"Status": "Completed", "Closed_Time": zohoTime(at)}, zohoAna, at)
				v.notify(tasks, "update", []zohoChange{{rec, slices.DeleteFunc(changed, func(f string) bool { return f == "Closed_Time" })}}, at)
				return nil
			}
		}
		return stepErr(step, "%s has no open task", step.Customer)
	default:
		return stepErr(step, "zoho-crm cannot do that")
	}
	return nil
}

func (v *zoho) state() VendorState {
	var out VendorState
	lookup := func(value any) string {
		m, _ := value.(map[string]any)
		return text(m["id"])
	}
	for kind, module := range map[string]string{"contact": "Contacts", "lead": "Leads"} {
		m := v.modules[module]
		for _, id := range m.order {
			rec := m.records[id]
			fields := map[string]string{}
			for name, value := range rec.values {
				switch s := value.(type) {
				case string:
					fields[name] = s
				case bool:
					fields[name] = strconv.FormatBool(s)
				}
			}
			out.Customers = append(out.Customers, Customer{
				ID: id, Kind: kind, Email: text(rec.values["Email"]), Phone: text(rec.values["Phone"]), Name: text(rec.values["Full_Name"]),
				Tags: rec.tagNames(), Fields: fields, CreatedAt: rec.created, UpdatedAt: rec.modified, Deleted: rec.deleted || rec.converted,
			})
		}
	}
	slices.SortStableFunc(out.Customers, func(a, b Customer) int { return strings.Compare(a.Kind+a.ID, b.Kind+b.ID) })
	for _, id := range v.modules["Tasks"].order {
		rec := v.modules["Tasks"].records[id]
		if rec.deleted {
			continue
		}
		fields := map[string]string{}
		for name, value := range rec.values {
			if f := v.modules["Tasks"].fields[name]; f != nil && f.custom {
				fields[name] = text(value)
			}
		}
		who := lookup(rec.values["Who_Id"])
		if who == "" {
			who = lookup(rec.values["What_Id"])
		}
		out.Tasks = append(out.Tasks, Task{
			ID: id, Subject: text(rec.values["Subject"]), Text: text(rec.values["Description"]), Status: text(rec.values["Status"]), Due: text(rec.values["Due_Date"]),
			Customer: who, Owner: lookup(rec.values["Owner"]), Fields: fields, CreatedAt: rec.created,
		})
	}
	for _, id := range v.modules["Notes"].order {
		if rec := v.modules["Notes"].records[id]; !rec.deleted {
			out.Notes = append(out.Notes, Note{ID: id, Title: text(rec.values["Note_Title"]), Text: text(rec.values["Note_Content"]), Customer: lookup(rec.values["Parent_Id"])})
		}
	}
	for _, id := range v.modules["Deals"].order {
		rec := v.modules["Deals"].records[id]
		amount, _ := rec.values["Amount"].(float64)
		out.Deals = append(out.Deals, Deal{
			ID: id, Name: text(rec.values["Deal_Name"]), Stage: text(rec.values["Stage"]), Amount: strconv.FormatFloat(amount, 'f', -1, 64),
			Currency: text(rec.values["Currency"]), Customer: lookup(rec.values["Contact_Name"]),
		})
	}
	return out
}
