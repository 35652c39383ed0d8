package connector

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// Perform does in at the vendor through call and says what became of it. It never returns an error: whatever happens is an
// outcome. Its Error is fit for a log.
func (c *Connector) Perform(ctx context.Context, call Call, conn *hub.Connection, in Task) hub.Result {
	p := performance{c: c, call: call, conn: conn, in: in, act: c.actions[in.Action.Name]}
	r := p.run(ctx)
	r.Error = withoutSecrets(r.Error, conn)
	return r
}

// performance is one Perform under way.
type performance struct {
	c    *Connector
	call Call
	conn *hub.Connection
	in   Task
	act  *action
	env  *actionEnv
	last Response
	gone bool // the vendor says that the customer's record is not there any more
}

func (p *performance) run(ctx context.Context) hub.Result {
	if p.act == nil {
		return refused("connector %s cannot %s", p.c.name, p.in.Action.Name)
	}
	var err error
	if p.env, err = p.c.actionEnv(p.in, p.conn); err != nil {
		return refused("%s", publicText(err.Error()))
	}
	if p.in.Mode == "never" {
		return hub.Result{Outcome: hub.Skipped, Error: "the field is never written by us"}
	}
	if p.act.noRecord {
		return p.attempt(ctx)
	}
	known := p.env.Record
	if known != "" {
		r := p.attempt(ctx)
		if !p.gone {
			return r
		}
		// Merged into another or deleted: once more, with the record that has the address now.
		p.env.Record, p.env.Kind, p.gone = "", "", false
	}
	if r := p.find(ctx); r != nil {
		return *r
	}
	if p.env.Record == known {
		return hub.Result{Outcome: hub.Skipped, Status: p.last.Status, Error: "the customer's record is gone"}
	}
	return p.attempt(ctx)
}

// attempt does the action on the record at hand.
func (p *performance) attempt(ctx context.Context) hub.Result {
	clear(p.env.Saved)
	if p.in.Lookup && p.act.lookup != nil {
		id, v := p.ask(ctx, p.act.lookup)
		if v.outcome != hub.Delivered && !v.gone {
			return p.result(v)
		}
		if id != "" {
			return hub.Result{Outcome: hub.Delivered, Status: p.last.Status, ExternalID: id}
		}
	}
	if r := p.mayWrite(ctx); r != nil {
		return *r
	}
	for i := range p.act.steps {
		if r := p.step(ctx, &p.act.steps[i]); r != nil {
			return *r
		}
	}
	return p.done()
}

// find looks for the customer's record where we have not seen it yet. nil: found.
func (p *performance) find(ctx context.Context) *hub.Result {
	for i := range p.c.common.find {
		f := &p.c.common.find[i]
		if p.env.Customer.Email == "" {
			break
		}
		id, v := p.ask(ctx, f.query1)
		switch {
		case v.gone:
		case v.outcome != hub.Delivered:
			r := p.result(v)
			return &r
		case id != "":
			p.env.Record, p.env.Kind = id, f.kind
			return nil
		}
	}
	return &hub.Result{Outcome: hub.Skipped, Status: p.last.Status, Error: "the customer has no record there"}
}

// mayWrite reads the present value where the mode asks for it. nil: write.
func (p *performance) mayWrite(ctx context.Context) *hub.Result {
	if p.act.read == nil || p.in.Mode != "if_empty" && p.in.Mode != "if_ours" {
		return nil
	}
	present, v := p.ask(ctx, p.act.read)
	if v.outcome != hub.Delivered {
		r := p.result(v)
		return &r
	}
	p.env.Present = present
	values := map[string]string{p.env.Field: present}
	if present == p.env.Value {
		if p.in.Lookup || p.in.Previous != "" || slices.Contains(p.in.Tried, present) {
			// The uncertain attempt did arrive, or somebody put back what we had written.
			return &hub.Result{Outcome: hub.Delivered, Status: p.last.Status, Values: values}
		}
		return &hub.Result{Outcome: hub.Skipped, Status: p.last.Status, Error: "equal already", Values: values}
	}
	switch {
	case present == "":
		return nil
	case p.in.Mode == "if_empty":
		return &hub.Result{Outcome: hub.Skipped, Status: p.last.Status, Error: "the field is not empty", Values: values}
	case present == p.in.Previous, slices.Contains(p.in.Tried, present), p.in.Previous == "" && slices.Contains(p.act.defaults, present):
		return nil
	default:
		return &hub.Result{Outcome: hub.Skipped, Status: p.last.Status, Error: "the field holds a value that is not ours", Values: values}
	}
}

// ask sends a query and returns the text found, "" for none. A 404 means none.
func (p *performance) ask(ctx context.Context, q *query1) (string, verdict) {
	v, err := p.send(ctx, q.requestTemplate, q.outcome, false)
	if err != nil {
		return "", verdict{outcome: hub.Refused, reason: err.Error()}
	}
	if p.last.Status == 404 && v.outcome == hub.Refused {
		return "", verdict{outcome: hub.Delivered}
	}
	if v.outcome != hub.Delivered {
		return "", v
	}
	s, err := q.found.string(p.env)
	if err != nil {
		return "", verdict{outcome: hub.Refused, reason: err.Error()}
	}
	return s, v
}

// step does one step. nil: go on.
func (p *performance) step(ctx context.Context, s *step) *hub.Result {
	ok, err := s.when.holds(p.env)
	if err != nil {
		r := refused("%s", publicText(err.Error()))
		return &r
	}
	if !ok {
		return nil
	}
	v, err := p.send(ctx, s.request, s.outcome, s.creates)
	if err != nil {
		r := refused("%s", publicText(err.Error()))
		return &r
	}
	if v.outcome != hub.Delivered {
		r := p.result(v)
		return &r
	}
	for i := range s.save {
		x, err := s.save[i].run(p.env)
		if err != nil {
			// Done at the vendor, but the answer is not what the manifest expects.
			r := p.result(verdict{outcome: p.afterEffect(s), reason: publicText(err.Error())})
			return &r
		}
		p.env.Saved[s.save[i].name] = x
	}
	return nil
}

// afterEffect is the outcome of a step that succeeded but cannot be read.
func (p *performance) afterEffect(s *step) hub.Outcome {
	if s.creates {
		return hub.Uncertain
	}
	return hub.Refused
}

func (p *performance) send(ctx context.Context, r *requestTemplate, own []outcomeRule, creates bool) (verdict, error) {
	req, err := r.render(p.env)
	if err != nil {
		return verdict{}, err
	}
	resp, err := p.call(ctx, req)
	p.last = resp
	if err != nil {
		return noAnswer(err, creates), nil
	}
	p.env.Status, p.env.Body = resp.Status, nil
	p.env.Header = func(names ...string) string {
		for _, name := range names {
			if v := resp.Header.Get(name); v != "" {
				return cleanText(v)
			}
		}
		return ""
	}
	if len(resp.Body) > 0 {
		if p.env.Body, err = decodeJSON(resp.Body, nil, nil); err != nil {
			p.env.Body = nil // rules on the body then do not hold; the status decides
		}
	}
	return judge(own, p.c.common.outcome, p.env, resp, creates)
}

// done reads back what the answer tells.
func (p *performance) done() hub.Result {
	r := hub.Result{Outcome: hub.Delivered, Status: p.last.Status}
	id, err := p.act.externalID.string(p.env)
	if err == nil {
		r.ExternalID = id
	}
	for i := range p.act.values {
		s, err := p.act.values[i].string(p.env)
		field, err2 := p.act.values[i].field.text(p.env)
		if err == nil && err2 == nil && field != "" {
			if r.Values == nil {
				r.Values = map[string]string{}
			}
			r.Values[field] = s
		}
	}
	if ok, err := p.act.check.holds(p.env); err != nil || !ok {
		r.Outcome, r.Error = hub.Refused, "accepted by the vendor but not applied"
	}
	return r
}

func (p *performance) result(v verdict) hub.Result {
	p.gone = v.gone
	return hub.Result{Outcome: v.outcome, Status: p.last.Status, Error: v.reason, RetryAfter: v.after}
}

func refused(format string, args ...any) hub.Result {
	return hub.Result{Outcome: hub.Refused, Error: fmt.Sprintf(format, args...)}
}

// due reads params.due: a time or date as it is, or a span from business now: {days, business_days, hours, minutes, at: "17:00", zone}.
// Business days are Monday to Friday of zone (default UTC); whoever knows holidays passes the date itself.
func due(v any, business time.Time) (time.Time, error) {
	m, ok := v.(map[string]any)
	if !ok {
		t, err := asTime(v, "")
		if err != nil {
			return time.Time{}, fmt.Errorf("due %w", err)
		}
		return t, nil
	}
	zone := time.UTC
	if name, _ := m["zone"].(string); name != "" {
		var err error
		if zone, err = time.LoadLocation(name); err != nil {
			return time.Time{}, fmt.Errorf("due: zone is unknown: %w", hub.ErrInvalid)
		}
	}
	span := func(key string) (int, error) {
		if m[key] == nil {
			return 0, nil
		}
		n, err := asNumber(m[key])
		if err != nil || n < 0 || n > 100_000 {
			return 0, fmt.Errorf("due: %s is not a span: %w", key, hub.ErrInvalid)
		}
		return int(n), nil
	}
	n := map[string]int{}
	for _, key := range []string{"days", "business_days", "hours", "minutes"} {
		var err error
		if n[key], err = span(key); err != nil {
			return time.Time{}, err
		}
	}
	t := business.In(zone).AddDate(0, 0, n["days"])
	for left := min(n["business_days"], 3650); left > 0; {
		t = t.AddDate(0, 0, 1)
		if d := t.Weekday(); d != time.Saturday && d != time.Sunday {
			left--
		}
	}
	t = t.Add(time.Duration(n["hours"])*time.Hour + time.Duration(n["minutes"])*time.Minute)
	if text, _ := m["at"].(string); text != "" {
		clock, err := time.Parse("15:04", text)
		if err != nil {
			return time.Time{}, fmt.Errorf("due: at is not a time of day: %w", hub.ErrInvalid)
		}
		t = time.Date(t.Year(), t.Month(), t.Day(), clock.Hour(), clock.Minute(), 0, 0, zone)
	}
	return t.UTC(), nil
}
