package sandbox

import (
	"cmp"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

func (v *zendesk) ticketList(match func(*zenTicket) bool) response {
	list := []any{}
	for _, id := range slices.Sorted(maps.Keys(v.tickets)) {
		if t := v.tickets[id]; match(t) {
			list = append(list, t.json())
		}
	}
	return answer(http.StatusOK, map[string]any{"tickets": list, "count": len(list), "next_page": nil, "previous_page": nil})
}

// listTickets answers the list, by external_id where asked: consistent, no search index.
func (v *zendesk) listTickets(r *request) response {
	external := r.query.Get("external_id")
	return v.ticketList(func(t *zenTicket) bool { return external == "" || t.external == external })
}

func (t *zenTicket) json() map[string]any {
	description := ""
	if len(t.comments) > 0 {
		description = t.comments[0].body
	}
	return map[string]any{
		"id": t.id, "subject": t.subject, "raw_subject": t.subject, "description": description, "status": t.status, "type": textOrNil(t.typ), "priority": textOrNil(t.priority),
		"requester_id": t.requester, "submitter_id": t.submitter, "assignee_id": idOrNil(t.assignee), "external_id": textOrNil(t.external), "due_at": textOrNil(t.due),
		"tags": notNil(t.tags), "via": map[string]any{"channel": t.channel}, "is_public": true, "created_at": zenTime(t.created), "updated_at": zenTime(t.updated),
		"custom_fields": []any{}, "group_id": 8447320466430, "brand_id": 8447346621310, "organization_id": nil,
	}
}

func idOrNil(n int64) any {
	if n == 0 {
		return nil
	}
	return n
}

// createTicket honours Idempotency-Key for two hours: the same body gives the same answer, another body is refused.
func (v *zendesk) createTicket(body map[string]any, r *request) response {
	key := r.header.Get("Idempotency-Key")
	if have, ok := v.keys[key]; ok && key != "" && r.wire.Sub(have.at) < 2*time.Hour {
		if have.body != string(r.body) {
			return zenError(http.StatusBadRequest, "IdempotentRequestError", "The request parameters differ from those first sent with this Idempotency-Key")
		}
		res := have.response
		res.header = maps.Clone(res.header)
		return res.with("x-idempotency-lookup", "hit")
	}
	in, ok := body["ticket"].(map[string]any)
	if !ok {
		return zenParameter("You passed an invalid value for the ticket attribute. Invalid type. Expected hash")
	}
	comment, _ := in["comment"].(map[string]any)
	if text(comment["body"]) == "" {
		return zenInvalid("base", "BlankValue", "Description: cannot be blank")
	}
	t := &zenTicket{
		subject: text(in["subject"]), status: cmp.Or(text(in["status"]), "new"), typ: text(in["type"]), priority: text(in["priority"]),
		external: text(in["external_id"]), due: text(in["due_at"]), channel: "api", submitter: zendeskIntegration, requester: zendeskIntegration,
	}
	if res := v.checkTicket(t, in); res != nil {
		return *res
	}
	if requester, ok := in["requester"].(map[string]any); ok {
		u := v.find(text(requester["email"]))
		if u == nil {
			if text(requester["email"]) == "" || text(requester["name"]) == "" {
				return zenInvalid("requester", "BlankValue", "Requester Name: is too short (minimum one character)")
			}
			u = v.newUser(text(requester["name"]), text(requester["email"]), "", "", r.business)
		}
		t.requester = u.id
	}
	public := true
	if p, ok := comment["public"].(bool); ok {
		public = p
	}
	v.appendComment(t, zendeskIntegration, public, text(comment["body"]), r.business)
	v.newTicket(t, zendeskIntegration, r.business)
	res := answer(http.StatusCreated, map[string]any{"ticket": t.json(), "audit": map[string]any{"id": t.id*10 + 1, "ticket_id": t.id, "author_id": zendeskIntegration}}).
		with("Location", r.base+"/api/v2/tickets/"+digits(t.id)+".json")
	if key != "" {
		res = res.with("x-idempotency-lookup", "miss")
		v.keys[key] = zenKey{at: r.wire, body: string(r.body), response: res}
	}
	return res
}

// checkTicket validates what a create and an update share, and fills t's tags and people.
func (v *zendesk) checkTicket(t *zenTicket, in map[string]any) *response {
	fail := func(res response) *response { return &res }
	for key, allowed := range map[string][]string{
		"status": {"new", "open", "pending", "hold", "solved", "closed"}, "type": {"problem", "incident", "question", "task"}, "priority": {"urgent", "high", "normal", "low"},
	} {
		if raw, sent := in[key]; sent && raw != nil && !slices.Contains(allowed, text(raw)) {
			return fail(zenInvalid(key, "InvalidValue", strings.ToUpper(key[:1])+key[1:]+": "+text(raw)+" is not included in the list"))
		}
	}
	if due, sent := in["due_at"]; sent && due != nil {
		if _, err := time.Parse(time.RFC3339, text(due)); err != nil {
			return fail(zenInvalid("due_at", "InvalidValue", "Due At: is not a date"))
		}
		if t.typ != "task" {
			t.due = "" // kept for tasks alone
		}
	}
	for key, field := range map[string]*int64{"requester_id": &t.requester, "assignee_id": &t.assignee} {
		raw, sent := in[key]
		if !sent || raw == nil {
			continue
		}
		n, ok := raw.(float64)
		if s, isText := raw.(string); isText {
			parsed, err := strconv.ParseInt(s, 10, 64)
			n, ok = float64(parsed), err == nil
		}
		u := v.users[int64(n)]
		if !ok || u == nil || u.deleted {
			return fail(zenInvalid(strings.TrimSuffix(key, "_id"), "InvalidValue", strings.TrimSuffix(key, "_id")+": is invalid"))
		}
		*field = u.id
	}
	if raw, sent := in["tags"]; sent {
		tags, ok := texts(raw)
		if !ok {
			return fail(zenParameter("You passed an invalid value for the tags attribute. Invalid type. Expected array"))
		}
		t.tags = tags
	}
	return nil
}

func (v *zendesk) ticketRoute(r *request, p []string, t *zenTicket, body map[string]any) response {
	switch {
	case r.method == http.MethodGet && len(p) == 0:
		return answer(http.StatusOK, map[string]any{"ticket": t.json()})
	case r.method == http.MethodGet && len(p) == 1 && p[0] == "comments":
		list := []any{}
		for _, c := range t.comments {
			list = append(list, map[string]any{"id": c.id, "type": "Comment", "author_id": c.author, "body": c.body, "public": c.public, "created_at": zenTime(c.at)})
		}
		if r.query.Get("sort_order") == "desc" || r.query.Get("sort") == "-created_at" {
			slices.Reverse(list)
		}
		return answer(http.StatusOK, map[string]any{"comments": list, "count": len(list), "next_page": nil, "previous_page": nil})
	case r.method != http.MethodPut || len(p) != 0:
		return zenError(http.StatusNotFound, "InvalidEndpoint", "Not found")
	}
	in, ok := body["ticket"].(map[string]any)
	if !ok {
		return zenParameter("You passed an invalid value for the ticket attribute. Invalid type. Expected hash")
	}
	if t.status == "closed" {
		return zenInvalid("status", "InvalidValue", "Status: closed prevents ticket update")
	}
	if in["safe_update"] == true && text(in["updated_stamp"]) != zenTime(t.updated) {
		return zenError(http.StatusConflict, "UpdateConflict", "Safe Update prevented the update due to outdated ticket data. Please fetch the latest ticket data and try again.")
	}
	if _, wait, ok := v.allow("zendesk/ticket/"+digits(t.id), 30, 10*time.Minute, r.wire); !ok {
		return zenError(http.StatusTooManyRequests, "TooManyRequests", "Too many updates of one ticket").with("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
	}
	before := *t
	next := *t
	if typ, sent := in["type"]; sent {
		next.typ = text(typ)
	}
	if due, sent := in["due_at"]; sent {
		next.due = text(due)
	}
	if res := v.checkTicket(&next, in); res != nil {
		return *res
	}
	for key, field := range map[string]*string{"subject": &next.subject, "priority": &next.priority, "external_id": &next.external} {
		if raw, sent := in[key]; sent {
			*field = text(raw)
		}
	}
	*t = next
	t.updated = r.business
	if comment, ok := in["comment"].(map[string]any); ok && text(comment["body"]) != "" {
		public := true
		if p, ok := comment["public"].(bool); ok {
			public = p
		}
		v.comment(t, zendeskIntegration, public, text(comment["body"]), r.business)
	}
	if status := text(in["status"]); status != "" {
		v.setStatus(t, status, zendeskIntegration, r.business)
	}
	if t.priority != before.priority {
		v.emitTicket("ticket.priority_changed", t, zendeskIntegration, map[string]any{"current": upperOrNil(t.priority), "previous": upperOrNil(before.priority)}, r.business)
	}
	if !slices.Equal(t.tags, before.tags) {
		v.emitTicket("ticket.tags_changed", t, zendeskIntegration, map[string]any{"tags_added": minus(t.tags, before.tags), "tags_removed": minus(before.tags, t.tags)}, r.business)
	}
	return answer(http.StatusOK, map[string]any{"ticket": t.json(), "audit": map[string]any{"id": t.id*10 + int64(len(t.comments)), "ticket_id": t.id, "author_id": zendeskIntegration}})
}

func minus(a, b []string) []any {
	out := []any{}
	for _, s := range a {
		if !slices.Contains(b, s) {
			out = append(out, s)
		}
	}
	return out
}
