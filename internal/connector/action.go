package connector

import (
	"slices"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// Vocabulary is the names of actions, the same for every vendor (LANGUAGE.md, Actions).
var Vocabulary = []string{
	"set_stage", "set_fields", "add_tag", "remove_tag", "add_to_list", "remove_from_list", "upsert_customer",
	"create_task", "update_task", "complete_task", "assign_owner", "create_note", "open_ticket", "update_ticket", "comment_ticket",
	"create_deal", "update_deal", "send_message", "notify", "start_campaign", "stop_campaign", "call",
	"create_coupon", "add_points", "track_event", "identify",
}

// actionDefaults are shared by all actions of a connector.
type actionDefaults struct {
	record          []string // kinds of identifier that name the customer's record, best first
	find            []finder
	outcome         []outcomeRule
	completesWithin time.Duration
}

// query1 is a request and the one text looked for in its answer.
type query1 struct {
	*requestTemplate
	outcome []outcomeRule
	found   *expression
}

// finder looks for the customer's record of one kind.
type finder struct {
	kind string
	*query1
}

type action struct {
	name       string
	noRecord   bool
	defaults   []string
	read       *query1
	lookup     *query1
	writes     []conditionalChange
	steps      []step
	externalID *expression
	values     []readBack
	check      *expression
}

// readBack is a field (its name may be a template) and its value in the last answer.
type readBack struct {
	field *template
	*expression
}

type conditionalChange struct {
	when *expression
	changeMapping
}

type step struct {
	when    *expression
	request *requestTemplate
	outcome []outcomeRule
	save    []named
	creates bool
}

func (l *loader) actions(a at, c *Connector) {
	c.common.completesWithin = time.Minute
	if a.absent() {
		return
	}
	keys := append([]string{"record", "find", "outcome", "completes_within"}, Vocabulary...)
	o := a.object(keys...)
	known := func(kind string, at at) {
		if _, ok := c.identifiers[kind]; !ok {
			at.problem(suggest(kind, sortedKeys(c.identifiers)), "%q is not under identifiers", kind)
		}
	}
	c.common.record = o["record"].texts()
	for _, kind := range c.common.record {
		known(kind, o["record"])
	}
	c.common.outcome = l.outcomes(o["outcome"], &actionEnv{})
	c.common.completesWithin = o["completes_within"].duration(time.Minute)
	for _, f := range o["find"].list() {
		x := finder{query1: l.query1(f, c, "found", "record")}
		if p := f.object(append([]string{"outcome", "found", "record"}, requestKeys...)...); !p["record"].absent() {
			x.kind = p["record"].text()
			known(x.kind, p["record"])
		} else if len(c.common.record) > 0 {
			x.kind = c.common.record[0]
		}
		c.common.find = append(c.common.find, x)
	}
	for _, e := range a.entries() {
		if slices.Contains(Vocabulary, e.key) {
			c.actions[e.key] = l.action(e.at, c, e.key)
		}
	}
}

// query1 reads a request and the expression named result; more names keys that the caller reads itself.
func (l *loader) query1(a at, c *Connector, result string, more ...string) *query1 {
	o := a.object(append(append([]string{"outcome", result}, requestKeys...), more...)...)
	q := &query1{requestTemplate: l.request(o, c, &actionEnv{}), outcome: l.outcomes(o["outcome"], &actionEnv{}), found: o[result].expression(&actionEnv{}, wantsAny)}
	if q.found == nil {
		a.problem("", "%s is missing", result)
	}
	return q
}

func (l *loader) action(a at, c *Connector, name string) *action {
	o := a.object("record", "defaults", "read", "lookup", "writes", "steps", "external_id", "values", "check")
	act := &action{name: name, noRecord: o["record"].oneOf("needed", "needed", "none") == "none", defaults: o["defaults"].texts()}
	if !act.noRecord && len(c.common.record) == 0 {
		a.problem("", "say under actions which identifier is the record, or `record: none`")
	}
	if !o["read"].absent() {
		act.read = l.query1(o["read"], c, "present")
	}
	if !o["lookup"].absent() {
		act.lookup = l.query1(o["lookup"], c, "found")
	}
	for _, w := range o["writes"].list() {
		p := w.object("when", "object", "id", "field", "value")
		ch := conditionalChange{when: p["when"].expression(&actionEnv{}, wantsBool)}
		ch.changeMapping = *l.changeOf(w, p, &actionEnv{})
		act.writes = append(act.writes, ch)
	}
	for _, s := range o["steps"].list() {
		p := s.object(append([]string{"when", "outcome", "save", "creates"}, requestKeys...)...)
		st := step{when: p["when"].expression(&actionEnv{}, wantsBool), request: l.request(p, c, &actionEnv{}), outcome: l.outcomes(p["outcome"], &actionEnv{}), creates: p["creates"].boolean()}
		for _, e := range p["save"].entries() {
			if x := e.expression(&actionEnv{}, wantsAny); x != nil {
				st.save = append(st.save, named{e.key, x})
			}
		}
		act.steps = append(act.steps, st)
	}
	if len(act.steps) == 0 {
		o["steps"].problem("", "an action needs steps")
	}
	act.externalID = o["external_id"].expression(&actionEnv{}, wantsAny)
	for _, e := range o["values"].entries() {
		if x := e.expression(&actionEnv{}, wantsAny); x != nil {
			act.values = append(act.values, readBack{l.template(e.keyAt, &actionEnv{}, plainEscape), x})
		}
	}
	act.check = o["check"].expression(&actionEnv{}, wantsBool)
	return act
}

// Task is one action for one customer, ready to be performed.
type Task struct {
	Action    hub.Action
	Recipient hub.Recipient
	// Reference marks what is created, so that it can be looked up before a second create.
	Reference string
	// Lookup says that an earlier attempt's outcome is unknown: look up first.
	Lookup bool
	// Previous is the value last written; "" for never.
	Previous string
	// Tried are values that attempts of unknown outcome may have left in Previous's place: they count as ours.
	Tried []string
	// Mode of a field write: always (default), if_empty, if_ours, never.
	Mode string
	// Business is business now, from which due dates are counted.
	Business time.Time
}

// env makes what an action's expressions see of in.
func (c *Connector) actionEnv(in Task, conn *hub.Connection) (*actionEnv, error) {
	p := in.Action.Params
	if p == nil {
		p = map[string]any{}
	}
	e := &actionEnv{
		Settings: c.settingsOf(conn), Action: in.Action.Name, Params: p, Customer: newCustomerEnv(in.Recipient, conn.Name),
		Previous: in.Previous, Reference: in.Reference, Business: in.Business.UTC().Truncate(hub.Resolution), Saved: map[string]any{},
		Header: func(...string) string { return "" },
	}
	for _, kind := range c.common.record {
		if e.Record = in.Recipient.Identifier(kind, conn.Name); e.Record != "" {
			e.Kind = kind
			break
		}
	}
	e.Field, _ = asText(p["field"])
	e.Value, _ = asText(p["value"])
	e.Tag, _ = asText(p["tag"])
	if e.Tag == "" {
		e.Tag = e.Value
	}
	if e.Fields, _ = p["fields"].(map[string]any); e.Fields == nil {
		e.Fields = map[string]any{}
		if e.Field != "" {
			e.Fields[e.Field] = p["value"]
		}
	}
	var err error
	e.Due, err = due(p["due"], e.Business)
	return e, err
}

// Writes returns the field changes that performing in would make, for the echo journal. It does no I/O: a record that must be
// found first has no id yet, and gives none.
func (c *Connector) Writes(in Task, conn *hub.Connection) []hub.FieldChange {
	act := c.actions[in.Action.Name]
	if act == nil {
		return nil
	}
	env, err := c.actionEnv(in, conn)
	if err != nil || env.Record == "" && !act.noRecord {
		return nil
	}
	var out []hub.FieldChange
	for i := range act.writes {
		w := &act.writes[i]
		if ok, err := w.when.holds(env); err != nil || !ok {
			continue
		}
		var ch hub.FieldChange
		var errs [4]error
		ch.Object, errs[0] = w.object.string(env)
		ch.ID, errs[1] = w.id.string(env)
		ch.Field, errs[2] = w.field.string(env)
		ch.Value, errs[3] = w.value.string(env)
		if errs == [4]error{} && ch.ID != "" && ch.Field != "" {
			out = append(out, ch)
		}
	}
	return out
}
