package sandbox

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// Fixed ids of the Zendesk account.
const (
	zendeskAccount     = 12514403
	zendeskAgent       = int64(8447388090494) // a person
	zendeskIntegration = int64(8447388090999) // the user behind the OAuth client
)

// zendesk plays one Zendesk Support account: users, tickets, user fields.
type zendesk struct {
	*Sandbox
	users      map[int64]*zenUser
	tickets    map[int64]*zenTicket
	byHandle   map[string]int64 // tickets by the story's handle
	fields     map[string]*zenField
	searchable *index
	keys       map[string]zenKey // Idempotency-Key of POST /tickets
}

type zenUser struct {
	id                           int64
	name, email, phone, external string
	notes                        string // of the user's page, for agents alone
	role                         string // end-user, agent
	tags                         []string
	fields                       map[string]any // string or bool or nil
	created, updated             time.Time
	deleted                      bool
}

type zenField struct {
	id               int64
	key, title, typ  string
	options          []string
	created, updated time.Time
}

type zenTicket struct {
	id                                            int64
	subject, status, typ, priority, external, due string
	requester, submitter, assignee                int64
	channel                                       string
	tags                                          []string
	comments                                      []zenComment
	created, updated                              time.Time
}

type zenComment struct {
	id, author int64
	public     bool
	body       string
	at         time.Time
}

type zenKey struct {
	at       time.Time
	body     string
	response response
}

func newZendesk(s *Sandbox) *zendesk {
	v := &zendesk{
		Sandbox: s, users: map[int64]*zenUser{}, tickets: map[int64]*zenTicket{}, byHandle: map[string]int64{}, fields: map[string]*zenField{},
		searchable: newIndex(), keys: map[string]zenKey{},
	}
	start := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	v.users[zendeskAgent] = &zenUser{id: zendeskAgent, name: "Grace Agent", email: "grace@example.com", role: "agent", fields: map[string]any{}, created: start, updated: start}
	v.users[zendeskIntegration] = &zenUser{id: zendeskIntegration, name: "Stagewire", email: "stagewire@example.com", role: "agent", fields: map[string]any{}, created: start, updated: start}
	return v
}

func (v *zendesk) find(email string) *zenUser {
	for _, u := range v.users {
		if !u.deleted && u.email != "" && strings.EqualFold(u.email, email) {
			return u
		}
	}
	return nil
}

func zenTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

func digits(n int64) string { return strconv.FormatInt(n, 10) }

func digitsOrNil(n int64) any {
	if n == 0 {
		return nil
	}
	return digits(n)
}

// emit queues one event webhook. event is merged with the sequence, detail with nothing.
func (v *zendesk) emit(kind, subject string, detail, event map[string]any, at time.Time) {
	serial := v.serial("hook/zendesk")
	seed := strconv.FormatUint(v.cfg.Seed, 10)
	event["meta"] = map[string]any{"sequence": map[string]any{"id": strings.ToUpper(strings.ReplaceAll(uuid("sequence", seed, serial), "-", "")), "position": 1, "total": 1}}
	body := map[string]any{
		"account_id": zendeskAccount, "detail": detail, "event": event, "id": uuid("event", Zendesk, seed, serial), "subject": subject,
		"time": at.UTC().Format("2006-01-02T15:04:05.000Z"), "type": "zen:event-type:" + kind, "zendesk_event_version": "2022-06-20",
	}
	invocation := strings.ToUpper(hub.DeriveID("", "invocation", seed, serial))
	v.enqueue(&hook{vendor: Zendesk, id: invocation, topic: kind, body: encode(body), header: map[string]string{
		"Content-Type": "application/json; charset=utf-8", "User-Agent": "Zendesk Webhook", "X-Zendesk-Account-Id": strconv.Itoa(zendeskAccount),
		"X-Zendesk-Webhook-Id": "01HZX3EXAMPLEWEBHOOKID0001", "X-Zendesk-Webhook-Invocation-Id": invocation,
	}})
}

func (v *zendesk) emitUser(kind string, u *zenUser, event map[string]any, at time.Time) {
	if u.role != "end-user" {
		return
	}
	v.emit(kind, "zen:user:"+digits(u.id), map[string]any{
		"created_at": zenTime(u.created), "default_group_id": "0", "email": u.email, "external_id": u.external, "id": digits(u.id), "organization_id": "0",
		"role": u.role, "updated_at": zenTime(u.updated),
	}, event, at)
}

func (v *zendesk) emitTicket(kind string, t *zenTicket, actor int64, event map[string]any, at time.Time) {
	tags := []any{}
	for _, tag := range t.tags {
		tags = append(tags, tag)
	}
	description := ""
	if len(t.comments) > 0 {
		description = t.comments[0].body
	}
	v.emit(kind, "zen:ticket:"+digits(t.id), map[string]any{
		"actor_id": digits(actor), "assignee_id": digitsOrNil(t.assignee), "brand_id": "8447346621310", "created_at": zenTime(t.created),
		"custom_status": "8447320465790", "description": description, "external_id": textOrNil(t.external), "form_id": "8646151517822",
		"group_id": "8447320466430", "id": digits(t.id), "is_public": true, "organization_id": nil, "priority": upperOrNil(t.priority),
		"requester_id": digits(t.requester), "status": strings.ToUpper(t.status), "subject": t.subject, "submitter_id": digits(t.submitter),
		"tags": tags, "type": upperOrNil(t.typ), "updated_at": zenTime(t.updated), "via": map[string]any{"channel": t.channel},
	}, event, at)
}

func upperOrNil(s string) any {
	if s == "" {
		return nil
	}
	return strings.ToUpper(s)
}

func (v *zendesk) newUser(name, email, phone, external string, at time.Time) *zenUser {
	counter := "zendesk/user"
	id := int64(6596848315900)
	if v.echo {
		counter, id = "zendesk/user/api", 6596848915900
	}
	u := &zenUser{id: id + v.next(counter), name: name, email: email, phone: phone, external: external, role: "end-user", fields: map[string]any{}, created: at, updated: at}
	v.users[u.id] = u
	v.index(u)
	v.emitUser("user.created", u, map[string]any{}, at)
	return u
}

func (v *zendesk) index(u *zenUser) {
	if u.deleted {
		v.searchable.put(digits(u.id), nil, v.cfg.Now())
		return
	}
	v.searchable.put(digits(u.id), map[string]string{"email": strings.ToLower(u.email), "name": strings.ToLower(u.name), "phone": u.phone}, v.cfg.Now())
}

// setField writes one user field that exists and tells of it where it changed.
func (v *zendesk) setField(u *zenUser, f *zenField, value any, at time.Time) {
	previous := u.fields[f.key]
	if previous == value {
		return
	}
	u.fields[f.key] = value
	u.updated = at
	v.emitUser("user.custom_field_changed", u, map[string]any{
		"current": value, "previous": previous,
		"custom_field": map[string]any{"field_type": f.typ, "id": digits(f.id), "relationship_target_type": "", "title": f.title},
	}, at)
}

func (v *zendesk) setTags(u *zenUser, tags []string, at time.Time) {
	slices.Sort(tags)
	tags = slices.Compact(tags)
	added, removed := []any{}, []any{}
	for _, t := range tags {
		if !slices.Contains(u.tags, t) {
			added = append(added, t)
		}
	}
	for _, t := range u.tags {
		if !slices.Contains(tags, t) {
			removed = append(removed, t)
		}
	}
	u.tags = tags
	if len(added)+len(removed) == 0 {
		return
	}
	u.updated = at
	v.emitUser("user.tags_changed", u, map[string]any{"added": map[string]any{"tags": added}, "removed": map[string]any{"tags": removed}}, at)
}

func (v *zendesk) setStatus(t *zenTicket, status string, actor int64, at time.Time) {
	if t.status == status {
		return
	}
	previous := t.status
	t.status, t.updated = status, at
	v.emitTicket("ticket.status_changed", t, actor, map[string]any{"current": strings.ToUpper(status), "previous": strings.ToUpper(previous)}, at)
}

func (v *zendesk) comment(t *zenTicket, author int64, public bool, body string, at time.Time) {
	c := v.appendComment(t, author, public, body, at)
	u := v.users[author]
	name := ""
	if u != nil {
		name = u.name
	}
	v.emitTicket("ticket.comment_added", t, author, map[string]any{"comment": map[string]any{
		"author": map[string]any{"id": digits(author), "is_staff": u != nil && u.role != "end-user", "name": name}, "body": body, "id": digits(c.id), "is_public": public,
	}}, at)
}

func (v *zendesk) appendComment(t *zenTicket, author int64, public bool, body string, at time.Time) zenComment {
	counter := "zendesk/comment"
	id := int64(18974155255400)
	if v.echo {
		counter, id = "zendesk/comment/api", 18974155955400
	}
	c := zenComment{id: id + v.next(counter), author: author, public: public, body: body, at: at}
	t.comments = append(t.comments, c)
	t.updated = at
	return c
}

func (v *zendesk) newTicket(t *zenTicket, actor int64, at time.Time) *zenTicket {
	counter := "zendesk/ticket"
	base := int64(5157)
	if v.echo {
		counter, base = "zendesk/ticket/api", 9000
	}
	t.id, t.created, t.updated = base+v.next(counter), at, at
	v.tickets[t.id] = t
	v.emitTicket("ticket.created", t, actor, map[string]any{}, at)
	return t
}

func (v *zendesk) play(step Step, at time.Time) error {
	if step.Do == "customer.created" {
		if v.find(step.Customer) != nil {
			return stepErr(step, "the helpdesk knows %s already", step.Customer)
		}
		v.newUser(step.Name, step.Customer, step.Phone, step.Value, at)
		return nil
	}
	if t := v.tickets[v.byHandle[step.Object]]; t != nil {
		return v.playTicket(step, t, at)
	}
	u := v.find(step.Customer)
	if u == nil {
		return stepErr(step, "the helpdesk knows no %s", step.Customer)
	}
	switch step.Do {
	case "customer.updated":
		if step.Field == "" {
			u.name, u.updated = orText(step.Name, u.name), at
			v.emitUser("user.name_changed", u, map[string]any{"current": u.name, "previous": u.name}, at)
			break
		}
		f := v.fields[step.Field]
		if f == nil {
			return stepErr(step, "no user field %q", step.Field)
		}
		v.setField(u, f, step.Value, at)
	case "customer.deleted":
		u.deleted, u.updated = true, at
		v.emitUser("user.deleted", u, map[string]any{}, at)
	case "tag.added":
		v.setTags(u, append(slices.Clone(u.tags), step.Tags...), at)
	case "tag.removed":
		v.setTags(u, slices.DeleteFunc(slices.Clone(u.tags), func(t string) bool { return slices.Contains(step.Tags, t) }), at)
	case "ticket.opened":
		if step.Object == "" {
			return stepErr(step, "a ticket needs an object name")
		}
		t := &zenTicket{
			subject: step.Subject, status: "new", typ: orText(step.Value, "question"), priority: "normal", requester: u.id, submitter: u.id,
			channel: "email", tags: slices.Clone(step.Tags),
		}
		t.comments = []zenComment{{id: 18974155255000 + v.next("zendesk/description"), author: u.id, public: true, body: step.Text, at: at}}
		v.byHandle[step.Object] = v.newTicket(t, u.id, at).id
	default:
		return stepErr(step, "zendesk cannot do that, or there is no ticket %q", step.Object)
	}
	v.index(u)
	return nil
}

func (v *zendesk) playTicket(step Step, t *zenTicket, at time.Time) error {
	t.assignee = zendeskAgent
	switch step.Do {
	case "ticket.commented":
		author := zendeskAgent
		if step.Customer != "" {
			u := v.find(step.Customer)
			if u == nil {
				return stepErr(step, "the helpdesk knows no %s", step.Customer)
			}
			author = u.id
		}
		v.comment(t, author, true, step.Text, at)
		if author == zendeskAgent {
			v.setStatus(t, "pending", author, at)
		} else if t.status != "new" {
			v.setStatus(t, "open", author, at)
		}
	case "ticket.solved":
		if step.Text != "" {
			v.comment(t, zendeskAgent, true, step.Text, at)
		}
		v.setStatus(t, "solved", zendeskAgent, at)
	case "ticket.reopened":
		v.setStatus(t, "open", t.requester, at)
	case "ticket.tagged":
		t.tags, t.updated = append(t.tags, step.Tags...), at
		v.emitTicket("ticket.tags_changed", t, zendeskAgent, map[string]any{"tags_added": step.Tags, "tags_removed": []any{}}, at)
	default:
		return stepErr(step, "a ticket cannot do that")
	}
	return nil
}

func (v *zendesk) state() VendorState {
	var out VendorState
	for _, id := range slices.Sorted(maps.Keys(v.users)) {
		u := v.users[id]
		if u.role != "end-user" {
			continue
		}
		fields := map[string]string{}
		for k, value := range u.fields {
			if s, ok := value.(string); ok {
				fields[k] = s
			}
			if b, ok := value.(bool); ok {
				fields[k] = strconv.FormatBool(b)
			}
		}
		out.Customers = append(out.Customers, Customer{
			ID: digits(id), Kind: "user", Email: u.email, Phone: u.phone, Name: u.name, Tags: notNil(slices.Clone(u.tags)),
			Fields: fields, CreatedAt: u.created, UpdatedAt: u.updated, Deleted: u.deleted,
		})
		if u.notes != "" {
			out.Notes = append(out.Notes, Note{ID: "note/" + digits(id), Text: u.notes, Customer: digits(id)})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(v.tickets)) {
		t := v.tickets[id]
		ticket := Ticket{
			ID: digits(id), Subject: t.subject, Status: t.status, Type: t.typ, Priority: t.priority, Requester: digits(t.requester), Submitter: digits(t.submitter),
			ExternalID: t.external, Tags: notNil(slices.Clone(t.tags)), Comments: []Comment{}, CreatedAt: t.created,
		}
		for _, c := range t.comments {
			ticket.Comments = append(ticket.Comments, Comment{Author: digits(c.author), Public: c.public, Body: c.body})
		}
		out.Tickets = append(out.Tickets, ticket)
		if t.typ == "task" {
			out.Tasks = append(out.Tasks, Task{
				ID: digits(id), Subject: t.subject, Status: t.status, Due: t.due, Customer: digits(t.requester),
				Fields: map[string]string{"external_id": t.external}, CreatedAt: t.created,
			})
		}
	}
	return out
}
