package sandbox

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// hubspot plays one HubSpot portal: contacts, deals, companies, tickets, tasks and notes as typed property bags.
type hubspot struct {
	*Sandbox
	types    map[string]*hubType
	byHandle map[string]int64 // deals by the story's handle
}

// hubType is one object type of the portal.
type hubType struct {
	name, id   string // "contacts", "0-1"
	properties map[string]*hubProperty
	records    map[int64]*hubRecord
	searchable *index
	firstID    int64
}

type hubProperty struct {
	name, label, typ, fieldType, group string
	options                            []hubOption
	unique, readOnly                   bool
	builtin                            bool
}

type hubOption struct{ value, label string }

type hubRecord struct {
	id               int64
	props            map[string]string
	created, updated time.Time
	archived         bool
	gone             bool               // deleted for good
	assoc            map[string][]int64 // type name → ids
}

// lifecycle is the portal's order of lifecycle stages; "1001" is a stage the portal's owner made.
var lifecycle = []hubOption{
	{"subscriber", "Subscriber"},
	{"lead", "Lead"},
	{"marketingqualifiedlead", "Marketing Qualified Lead"},
	{"salesqualifiedlead", "Sales Qualified Lead"},
	{"opportunity", "Opportunity"},
	{"customer", "Customer"},
	{"evangelist", "Evangelist"},
	{"other", "Other"},
	{"1001", "Lost customer"},
}

func newHubSpot(s *Sandbox) *hubspot {
	v := &hubspot{Sandbox: s, types: map[string]*hubType{}, byHandle: map[string]int64{}}
	add := func(name, id string, firstID int64, properties ...*hubProperty) {
		t := &hubType{name: name, id: id, firstID: firstID, records: map[int64]*hubRecord{}, searchable: newIndex(), properties: map[string]*hubProperty{}}
		modified := "hs_lastmodifieddate"
		if name == "contacts" {
			modified = "lastmodifieddate"
		}
		properties = append(properties, &hubProperty{name: "hs_object_id", typ: "number", readOnly: true}, &hubProperty{name: "createdate", typ: "datetime"},
			&hubProperty{name: modified, typ: "datetime", readOnly: true}, &hubProperty{name: "hubspot_owner_id", typ: "enumeration"})
		for _, p := range properties {
			p.builtin, p.label = true, p.name
			if p.typ == "" {
				p.typ = "string"
			}
			t.properties[p.name] = p
		}
		v.types[name] = t
	}
	plain := func(names ...string) []*hubProperty {
		var out []*hubProperty
		for _, n := range names {
			out = append(out, &hubProperty{name: n})
		}
		return out
	}
	options := func(name string, values ...string) *hubProperty {
		p := &hubProperty{name: name, typ: "enumeration"}
		for _, o := range values {
			p.options = append(p.options, hubOption{o, o})
		}
		return p
	}
	add("contacts", "0-1", 20500110000, append(plain("firstname", "lastname", "phone", "mobilephone", "company", "jobtitle", "city", "country", "hs_language"),
		&hubProperty{name: "email", unique: true}, &hubProperty{name: "lifecyclestage", typ: "enumeration", options: lifecycle},
		options("hs_email_optout", "true", "false"), options("hs_lead_status", "NEW", "OPEN", "IN_PROGRESS", "CONNECTED"),
		&hubProperty{name: "hs_merged_object_ids", readOnly: true})...)
	add("companies", "0-2", 30500110000, plain("name", "domain", "phone", "city")...)
	add("deals", "0-3", 24500110000, append(plain("dealname", "pipeline", "deal_currency_code", "closed_lost_reason"),
		options("dealstage", "appointmentscheduled", "qualifiedtobuy", "presentationscheduled", "decisionmakerboughtin", "contractsent", "closedwon", "closedlost"),
		&hubProperty{name: "amount", typ: "number"}, &hubProperty{name: "closedate", typ: "datetime"},
		&hubProperty{name: "hs_is_closed", readOnly: true}, &hubProperty{name: "hs_is_closed_won", readOnly: true},
		&hubProperty{name: "hs_deal_stage_probability", typ: "number", readOnly: true})...)
	add("tickets", "0-5", 44500110000, plain("subject", "content", "hs_pipeline", "hs_pipeline_stage")...)
	add("tasks", "0-27", 67780001200, append(plain("hs_task_subject", "hs_task_body"), &hubProperty{name: "hs_timestamp", typ: "datetime"},
		options("hs_task_status", "NOT_STARTED", "IN_PROGRESS", "WAITING", "COMPLETED", "DEFERRED"), options("hs_task_priority", "NONE", "LOW", "MEDIUM", "HIGH"),
		options("hs_task_type", "TODO", "CALL", "EMAIL"), &hubProperty{name: "hs_task_reminders"})...)
	add("notes", "0-46", 77780001200, append(plain("hs_note_body"), &hubProperty{name: "hs_timestamp", typ: "datetime"})...)
	return v
}

func hubTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// subscriptions are what the app subscribed to: (type, verb or property) → subscription id. Nothing else is told.
var subscriptions = map[string]int64{
	"contacts/creation": 700060, "contacts/deletion": 700066, "contacts/privacyDeletion": 700067, "contacts/merge": 700065,
	"contacts/lifecyclestage": 700012, "contacts/email": 700063, "contacts/hs_email_optout": 700064, "contacts/firstname": 700068, "contacts/lastname": 700069, "contacts/phone": 700061,
	"deals/creation": 700070, "deals/dealstage": 700071, "deals/associationChange": 700072, "deals/amount": 700073, "deals/deletion": 700074,
	"tasks/hs_task_status": 700080, "tasks/creation": 700081,
}

var singular = map[string]string{"contacts": "contact", "deals": "deal", "companies": "company", "tickets": "ticket", "tasks": "task", "notes": "note"}

// actor is who made a change.
type actor struct{ source, id string }

var person = actor{"CRM_UI", "userId:4400012"}

// app is how our own writes are marked, unless the knob hides the mark.
func (v *hubspot) app() actor {
	return actor{"INTEGRATION", orText(v.knobs[HubSpot].SourceID, v.cfg.Accounts[HubSpot]["app_id"])}
}

// emit queues one event where the app subscribed to it. Tasks are told in the generic form.
func (v *hubspot) emit(t *hubType, what string, id int64, by actor, more map[string]any, at time.Time) {
	subscription, ok := subscriptions[t.name+"/"+what]
	if !ok {
		return
	}
	serial := v.serial("hook/hubspot")
	counter, first := "hubspot/event", int64(900000100)
	if v.echo {
		counter, first = "hubspot/event/api", 950000100
	}
	appID, _ := strconv.ParseInt(v.cfg.Accounts[HubSpot]["app_id"], 10, 64)
	verb := what
	if _, property := more["propertyName"]; property {
		verb = "propertyChange"
	}
	ev := map[string]any{
		"eventId": first + v.next(counter), "subscriptionId": subscription, "portalId": 62515001, "appId": appID, "occurredAt": at.UnixMilli(),
		"subscriptionType": singular[t.name] + "." + verb, "changeSource": by.source, "sourceId": by.id,
	}
	if verb != "associationChange" {
		ev["objectId"] = id
	}
	if t.name == "tasks" || t.name == "notes" {
		ev["subscriptionType"], ev["objectTypeId"] = "object."+verb, t.id
		if verb == "propertyChange" {
			ev["isSensitive"] = false
		}
	}
	maps.Copy(ev, more)
	v.enqueue(&hook{vendor: HubSpot, id: serial, topic: ev["subscriptionType"].(string), events: []map[string]any{ev}, header: map[string]string{
		"Content-Type": "application/json", "User-Agent": "HubSpot Connect 2.0 (http://dev.hubspot.com/) - WebhooksExecutorDaemon-executor",
	}})
}

func (v *hubspot) find(email string) *hubRecord {
	for _, c := range v.types["contacts"].records {
		if !c.archived && c.props["email"] != "" && strings.EqualFold(c.props["email"], email) {
			return c
		}
	}
	return nil
}

// create makes a record and tells of it.
func (v *hubspot) create(t *hubType, props map[string]string, by actor, at time.Time) *hubRecord {
	counter, first := "hubspot/"+t.name, t.firstID
	if v.echo {
		counter, first = counter+"/api", first+500000
	}
	rec := &hubRecord{id: first + 11*v.next(counter), props: map[string]string{}, created: at, updated: at, assoc: map[string][]int64{}}
	t.records[rec.id] = rec
	rec.props["hs_object_id"], rec.props["createdate"] = strconv.FormatInt(rec.id, 10), hubTime(at)
	if t.name == "contacts" {
		if _, set := props["lifecyclestage"]; !set {
			props["lifecyclestage"] = "lead" // the portal's default for new contacts
		}
	}
	v.emit(t, "creation", rec.id, by, map[string]any{"changeFlag": "CREATED"}, at)
	v.write(t, rec, props, by, at, false)
	return rec
}

// write sets properties that were validated and tells of each that changed. The lifecycle stage moves forward only: a backward
// write is accepted and not applied, unless the field is empty.
func (v *hubspot) write(t *hubType, rec *hubRecord, props map[string]string, by actor, at time.Time, tell bool) {
	for _, name := range slices.Sorted(maps.Keys(props)) {
		value := props[name]
		if name == "lifecyclestage" && value != "" && stageRank(value) < stageRank(rec.props[name]) {
			continue
		}
		if p := t.properties[name]; p != nil && p.typ == "datetime" && value != "" {
			value = normalTime(value)
		}
		if rec.props[name] == value {
			continue
		}
		rec.props[name] = value
		if tell {
			v.emit(t, name, rec.id, by, map[string]any{"propertyName": name, "propertyValue": value}, at)
		}
	}
	if t.name == "deals" {
		stage := rec.props["dealstage"]
		rec.props["hs_is_closed"] = strconv.FormatBool(stage == "closedwon" || stage == "closedlost")
		rec.props["hs_is_closed_won"] = strconv.FormatBool(stage == "closedwon")
		rec.props["hs_deal_stage_probability"] = probabilities[stage]
	}
	rec.updated = at
	modified := "hs_lastmodifieddate"
	if t.name == "contacts" {
		modified = "lastmodifieddate"
	}
	rec.props[modified] = hubTime(at)
	t.searchable.put(strconv.FormatInt(rec.id, 10), maps.Clone(rec.props), v.cfg.Now())
}

// probabilities are those of the stages of HubSpot's default pipeline.
var probabilities = map[string]string{
	"appointmentscheduled": "0.2", "qualifiedtobuy": "0.4", "presentationscheduled": "0.6", "decisionmakerboughtin": "0.8",
	"contractsent": "0.9", "closedwon": "1", "closedlost": "0",
}

// stageRank is the stage's place in the portal's order; empty is before all.
func stageRank(stage string) int {
	return slices.IndexFunc(lifecycle, func(o hubOption) bool { return o.value == stage })
}

func normalTime(value string) string {
	if ms, err := strconv.ParseInt(value, 10, 64); err == nil {
		return hubTime(time.UnixMilli(ms))
	}
	if at, err := time.Parse(time.RFC3339, value); err == nil {
		return hubTime(at)
	}
	return value
}

func (v *hubspot) associate(from *hubType, a *hubRecord, to *hubType, b *hubRecord) {
	if !slices.Contains(a.assoc[to.name], b.id) {
		a.assoc[to.name] = append(a.assoc[to.name], b.id)
	}
	if !slices.Contains(b.assoc[from.name], a.id) {
		b.assoc[from.name] = append(b.assoc[from.name], a.id)
	}
}

func (v *hubspot) archive(t *hubType, rec *hubRecord, by actor, at time.Time) {
	rec.archived, rec.updated = true, at
	t.searchable.put(strconv.FormatInt(rec.id, 10), nil, v.cfg.Now())
	v.emit(t, "deletion", rec.id, by, map[string]any{"changeFlag": "DELETED"}, at)
}

func (v *hubspot) play(step Step, at time.Time) error {
	contacts, deals := v.types["contacts"], v.types["deals"]
	c := v.find(step.Customer)
	if step.Do == "customer.created" {
		if c != nil {
			return stepErr(step, "the portal knows %s already", step.Customer)
		}
		first, last := splitName(step.Name)
		props := map[string]string{"email": step.Customer, "firstname": first, "lastname": last, "phone": step.Phone}
		if step.Field != "" {
			props[step.Field] = step.Value
		}
		maps.DeleteFunc(props, func(_, value string) bool { return value == "" })
		v.create(contacts, props, person, at)
		return nil
	}
	if d := deals.records[v.byHandle[step.Object]]; d != nil && strings.HasPrefix(step.Do, "deal.") {
		props := map[string]string{}
		switch step.Do {
		case "deal.stage_changed":
			props["dealstage"] = step.Value
		case "deal.won":
			props["dealstage"], props["closedate"] = "closedwon", hubTime(at)
		case "deal.lost":
			props["dealstage"], props["closedate"], props["closed_lost_reason"] = "closedlost", hubTime(at), step.Reason
		case "deal.deleted":
			v.archive(deals, d, person, at)
			return nil
		default:
			return stepErr(step, "a deal cannot do that")
		}
		if step.Amount != "" {
			props["amount"] = step.Amount
		}
		v.write(deals, d, props, person, at, true)
		return nil
	}
	if c == nil {
		return stepErr(step, "the portal knows no %s", step.Customer)
	}
	switch step.Do {
	case "customer.updated", "consent.changed":
		field, value := step.Field, step.Value
		if step.Do == "consent.changed" {
			field, value = "hs_email_optout", strconv.FormatBool(value == "unsubscribed")
		}
		p := contacts.properties[field]
		if p == nil || p.readOnly || len(p.options) > 0 && value != "" && !slices.ContainsFunc(p.options, func(o hubOption) bool { return o.value == value }) {
			return stepErr(step, "no such field or value: %s=%s", field, value)
		}
		if field == "lifecyclestage" && stageRank(value) < stageRank(c.props[field]) {
			// The vendor's screens clear the field themselves, and both steps are told.
			v.write(contacts, c, map[string]string{field: ""}, person, at, true)
		}
		v.write(contacts, c, map[string]string{field: value}, person, at, true)
	case "customer.deleted":
		v.archive(contacts, c, person, at)
	case "customer.erased":
		v.archive(contacts, c, person, at)
		c.gone, c.props = true, map[string]string{}
		v.emit(contacts, "privacyDeletion", c.id, person, map[string]any{"changeFlag": "DELETED"}, at)
	case "customer.merged":
		return v.merge(step, c, at)
	case "deal.created":
		if step.Object == "" || v.byHandle[step.Object] != 0 {
			return stepErr(step, "a deal needs an object name of its own, not %q", step.Object)
		}
		d := v.create(deals, map[string]string{
			"dealname": step.Subject, "amount": step.Amount, "deal_currency_code": orText(step.Currency, "EUR"), "pipeline": "default",
			"dealstage": orText(step.Value, "appointmentscheduled"),
		}, person, at)
		v.byHandle[step.Object] = d.id
		v.associate(deals, d, contacts, c)
		v.emit(deals, "associationChange", d.id, actor{"USER", ""}, map[string]any{
			"associationType": "DEAL_TO_CONTACT", "fromObjectId": d.id, "toObjectId": c.id,
			"associationRemoved": false, "isPrimaryAssociation": false,
		}, at)
	case "task.completed":
		tasks := v.types["tasks"]
		for _, id := range slices.Sorted(maps.Keys(tasks.records)) {
			rec := tasks.records[id]
			if slices.Contains(rec.assoc["contacts"], c.id) && !rec.archived && rec.props["hs_task_status"] != "COMPLETED" {
				v.write(tasks, rec, map[string]string{"hs_task_status": "COMPLETED"}, person, at, true)
				return nil
			}
		}
		return stepErr(step, "%s has no open task", step.Customer)
	default:
		return stepErr(step, "hubspot cannot do that")
	}
	return nil
}

// merge makes step.Value (another e-mail) part of c; the winner gets a new id, as HubSpot does.
func (v *hubspot) merge(step Step, c *hubRecord, at time.Time) error {
	contacts := v.types["contacts"]
	other := v.find(step.Value)
	if other == nil || other == c {
		return stepErr(step, "nobody else to merge: %q", step.Value)
	}
	merged := &hubRecord{id: contacts.firstID + 11*v.next("hubspot/contacts"), props: maps.Clone(c.props), created: c.created, updated: at, assoc: c.assoc}
	merged.props["hs_object_id"] = strconv.FormatInt(merged.id, 10)
	merged.props["hs_merged_object_ids"] = strconv.FormatInt(c.id, 10) + ";" + strconv.FormatInt(other.id, 10)
	contacts.records[merged.id] = merged
	c.archived, other.archived = true, true
	v.emit(contacts, "merge", c.id, person, map[string]any{
		"primaryObjectId": c.id, "mergedObjectIds": []any{other.id}, "newObjectId": merged.id,
		"numberOfPropertiesMoved": len(other.props), "changeFlag": "UPDATED",
	}, at)
	return nil
}

func (v *hubspot) state() VendorState {
	var out VendorState
	contactOf := func(rec *hubRecord) string {
		if ids := rec.assoc["contacts"]; len(ids) > 0 {
			return strconv.FormatInt(ids[0], 10)
		}
		return ""
	}
	each := func(name string, fn func(id string, rec *hubRecord)) {
		t := v.types[name]
		for _, id := range slices.Sorted(maps.Keys(t.records)) {
			fn(strconv.FormatInt(id, 10), t.records[id])
		}
	}
	each("contacts", func(id string, rec *hubRecord) {
		p := rec.props
		out.Customers = append(out.Customers, Customer{
			ID: id, Kind: "contact", Email: p["email"], Phone: p["phone"], Name: strings.TrimSpace(p["firstname"] + " " + p["lastname"]),
			Tags: []string{}, Fields: maps.Clone(p), CreatedAt: rec.created, UpdatedAt: rec.updated, Deleted: rec.archived,
		})
	})
	each("tasks", func(id string, rec *hubRecord) {
		if rec.archived {
			return
		}
		fields := map[string]string{}
		for name, value := range rec.props {
			if p := v.types["tasks"].properties[name]; p != nil && !p.builtin {
				fields[name] = value
			}
		}
		out.Tasks = append(out.Tasks, Task{
			ID: id, Subject: rec.props["hs_task_subject"], Text: rec.props["hs_task_body"], Status: rec.props["hs_task_status"], Due: rec.props["hs_timestamp"],
			Customer: contactOf(rec), Owner: rec.props["hubspot_owner_id"], Fields: fields, CreatedAt: rec.created,
		})
	})
	each("notes", func(id string, rec *hubRecord) {
		if !rec.archived {
			out.Notes = append(out.Notes, Note{ID: id, Text: rec.props["hs_note_body"], Customer: contactOf(rec)})
		}
	})
	each("deals", func(id string, rec *hubRecord) {
		p := rec.props
		out.Deals = append(out.Deals, Deal{ID: id, Name: p["dealname"], Stage: p["dealstage"], Amount: p["amount"], Currency: p["deal_currency_code"], Customer: contactOf(rec)})
	})
	return out
}
