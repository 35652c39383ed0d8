package connector

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/stagewire/stagewire/internal/hub"
)

// Bounds of what one webhook can become. Nothing a vendor really sends comes near.
const (
	maxItems       = 10_000
	maxText        = 4 << 10 // bytes of a text property, trait or context value; longer ones are cut
	maxTexts       = 250     // entries of a list of texts; more are left out
	maxIdentifier  = 512     // bytes; a longer one is dropped
	maxIdentifiers = 20      // of one event
	maxID          = 512     // bytes of a vendor's id; a longer one is an error
	maxContext     = 16 << 10
	maxErrors      = 10
)

// Normalized is what a webhook or a fetched record became.
type Normalized struct {
	Events  []hub.Event
	Hydrate []hub.HydrationRecord
	// Ignored names the topics of items that no mapping takes, one per item.
	Ignored []string
}

// Normalize turns a stored webhook into events and hydration rows. It is pure: the same webhook, connection and manifest
// give the same result. Events carry w.Activation as their version.
//
// What cannot be mapped is an error that wraps hub.ErrInvalid and names file, line and field; the result then holds
// everything else of the webhook, so that one bad item of a batch does not cost the others.
func (c *Connector) Normalize(w *hub.Webhook, conn *hub.Connection) (Normalized, error) {
	lender := lenders.Get().(*objects)
	made, err := c.normalize(w, conn, lender)
	lender.back() // events hold texts, numbers and lists of texts, never an object of the body; after a panic it goes to the collector
	return made, err
}

func (c *Connector) normalize(w *hub.Webhook, conn *hub.Connection, lender *objects) (Normalized, error) {
	body, err := c.body(w, lender)
	if err != nil {
		return Normalized{}, err
	}
	env := &lender.env
	*env = c.requestEnv(w, conn, body)
	items, err := c.items(env)
	if err != nil {
		return Normalized{}, err
	}
	b := builder{c: c, conn: conn, received: w.ReceivedAt, known: w.ReceivedAt, webhook: w.ID, version: hub.Version{Activation: w.Activation}}
	if len(items) < 64 {
		b.out.Events = make([]hub.Event, 0, len(items))
	}
	for i, item := range items {
		env.Item, env.Index, env.Each, env.Topic = item, i, nil, ""
		if env.Topic, err = c.receive.topic.string(env); err != nil {
			b.fail(err)
			continue
		}
		b.item, b.topic = i, env.Topic
		b.all(c.receive.events, c.receive.byTopic, env)
	}
	return b.out, errors.Join(b.errs...)
}

// items splits the body. A list of more than maxItems is refused whole: bounded memory beats completeness for what
// no vendor sends.
func (c *Connector) items(env *webhookEnv) ([]any, error) {
	if c.receive.items == nil {
		return []any{env.Body}, nil
	}
	v, err := c.receive.items.run(env)
	if err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case nil:
		return nil, nil
	case []any:
		if len(v) > maxItems {
			return nil, c.receive.items.errorf("%d items are more than %d", len(v), maxItems)
		}
		return v, nil
	default:
		return []any{v}, nil
	}
}

// builder gathers what one webhook or record becomes.
type builder struct {
	c        *Connector
	conn     *hub.Connection
	out      Normalized
	errs     []error
	received time.Time
	known    time.Time // when what is mapped was learnt: times further ahead of it than hub.MaxAhead are clamped
	webhook  string
	version  hub.Version
	item     int
	topic    string
	// Of a fetched record only:
	object, id string
	gone       bool
}

func (b *builder) fail(err error) {
	if len(b.errs) < maxErrors {
		b.errs = append(b.errs, err)
	}
}

// all applies every mapping of the item's topic whose `when` holds.
func (b *builder) all(all []*mapping, byTopic map[string][]*mapping, env any) {
	matched := false
	apply := func(list []*mapping) {
		for _, m := range list {
			ok, err := m.when.holds(env)
			if err != nil {
				if b.gone {
					continue
				}
				b.fail(err)
				matched = true // it is an error, not an unknown kind
				continue
			}
			if !ok {
				continue
			}
			matched = true
			if err := b.each(m, env); err != nil {
				b.fail(err)
			}
		}
	}
	if b.topic != "" {
		apply(byTopic[b.topic])
	}
	apply(byTopic[""])
	if !matched {
		b.out.Ignored = append(b.out.Ignored, cutText(b.topic, 200))
	}
}

// each applies m once, or once per element where it says `each`.
func (b *builder) each(m *mapping, env any) error {
	if m.each == nil {
		return b.one(m, env, "")
	}
	v, err := m.each.run(env)
	if err != nil {
		if b.gone {
			return nil
		}
		return err
	}
	var list []any
	switch v := v.(type) {
	case nil:
	case []any:
		list = v
	case []string:
		for _, s := range v {
			list = append(list, s)
		}
	default:
		return m.each.errorf("each needs a list, not %T", v)
	}
	if len(list) > maxItems {
		return m.each.errorf("%d elements are more than %d", len(list), maxItems)
	}
	for i, x := range list {
		switch e := env.(type) {
		case *webhookEnv:
			e.Each = x
		case *recordEnv:
			e.Each = x
		}
		suffix, err := asText(x)
		if err != nil || suffix == "" {
			suffix = strconv.Itoa(i)
		}
		if err := b.one(m, env, "/"+suffix); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) one(m *mapping, env any, suffix string) error {
	if m.hydrate != nil {
		if err := b.hydrate(m, env); err != nil {
			return err
		}
	}
	if m.kind == nil {
		return nil
	}
	ev := hub.Event{Kind: m.kind.Name, Version: b.version, Connection: b.conn.Name, ReceivedAt: b.received, WebhookID: b.webhook}
	if err := b.time(m, env, &ev); err != nil {
		return err
	}
	id, err := b.vendorID(m, env, &ev)
	if err != nil {
		return err
	}
	ev.ID = hub.EventID(b.conn.Name, id+suffix, ev.Kind)
	if err := b.identify(m, env, &ev); err != nil {
		return err
	}
	if err := b.describe(m, env, &ev); err != nil {
		return err
	}
	if ev.Echo, err = b.echo(m, env); err != nil {
		return err
	}
	b.out.Events = append(b.out.Events, ev)
	return nil
}

// time sets OccurredAt by the best source that says something.
func (b *builder) time(m *mapping, env any, ev *hub.Event) error {
	ev.OccurredBy = hub.OccurredReceived
	t := b.received
	for i := range m.at {
		v, err := m.at[i].run(env)
		if err != nil {
			if b.gone {
				continue
			}
			return err
		}
		said, err := asTime(v, "")
		if err != nil {
			return m.at[i].errorf("%s", err)
		}
		if !said.IsZero() {
			t, ev.OccurredBy = said, m.at[i].by
			break
		}
	}
	if t.After(b.known.Add(hub.MaxAhead)) {
		ev.ClampedFrom = t.UTC().Truncate(hub.Resolution)
		t = b.known
	}
	ev.OccurredAt = t.UTC().Truncate(hub.Resolution)
	return nil
}

// vendorID is what makes the event the same fact when told again.
func (b *builder) vendorID(m *mapping, env any, ev *hub.Event) (string, error) {
	if m.id == nil {
		if b.gone && ev.OccurredBy == hub.OccurredReceived {
			return b.object + "/" + b.id + "@gone", nil
		}
		if !ev.ClampedFrom.IsZero() {
			return hub.FetchedID(b.object, b.id, ev.ClampedFrom), nil // the record's own time, whenever it was fetched
		}
		return hub.FetchedID(b.object, b.id, ev.OccurredAt), nil
	}
	id, err := m.id.string(env)
	if err != nil {
		return "", err
	}
	if id == "" {
		return "", m.id.errorf("%s has no id", ev.Kind)
	}
	if len(id) > maxID {
		return "", m.id.errorf("the id of %s is longer than %d bytes", ev.Kind, maxID)
	}
	return id, nil
}

func (b *builder) identify(m *mapping, env any, ev *hub.Event) error {
	region := ""
	ev.Identifiers = make([]hub.Identifier, 0, len(m.identifiers))
	for i := range m.identifiers {
		x := &m.identifiers[i]
		v, err := x.run(env)
		if err != nil {
			if b.gone {
				continue
			}
			return err
		}
		if x.kind == hub.IdentifierPhone && v != nil && region == "" {
			if region, err = b.region(m, env); err != nil {
				return err
			}
		}
		add := func(v any) error {
			s, err := asText(v)
			if err != nil {
				return x.errorf("%s", err)
			}
			addIdentifier(ev, x, s, region)
			return nil
		}
		switch v := v.(type) {
		case []any:
			for _, one := range v {
				if err := add(one); err != nil {
					return err
				}
			}
		case []string:
			for _, one := range v {
				addIdentifier(ev, x, one, region)
			}
		default:
			if err := add(v); err != nil {
				return err
			}
		}
	}
	return nil
}

// region is the country of phone numbers written without one: the payload's, else the connection's.
func (b *builder) region(m *mapping, env any) (string, error) {
	if m.country != nil {
		v, err := m.country.run(env)
		if err != nil && !b.gone {
			return "", err
		}
		if s, err := asText(v); err == nil && s != "" {
			return s, nil
		}
	}
	return b.conn.Settings["phone_region"], nil // never a data centre's region: a wrong country makes a stranger's number
}

func (b *builder) describe(m *mapping, env any, ev *hub.Event) error {
	ev.Properties = make(map[string]any, len(m.properties))
	for i := range m.properties {
		p := &m.properties[i]
		v, err := p.run(env)
		if err != nil {
			if b.gone {
				continue
			}
			return err
		}
		v, err = property(p.kind, v)
		if err != nil {
			return p.errorf("%s", err)
		}
		if v != nil {
			ev.Properties[p.name] = v
		}
	}
	if m.kind.Object != "" && ev.Properties["id"] == nil {
		return fmt.Errorf("%s:%d: %s.properties.id: %s has no id of its %s: %w", m.place.file, m.place.node.Line, m.place.path, ev.Kind, m.kind.Object, hub.ErrInvalid)
	}
	if b.gone {
		if _, ok := m.kind.Properties["reason"]; ok && ev.Properties["reason"] == nil {
			ev.Properties["reason"] = "gone"
		}
		return nil
	}
	if err := b.traits(m, env, ev); err != nil {
		return err
	}
	return b.written(m, env, ev)
}

func (b *builder) traits(m *mapping, env any, ev *hub.Event) error {
	if len(m.traits) == 0 {
		return nil
	}
	at := ev.OccurredAt
	if m.traitsAt != nil {
		v, err := m.traitsAt.run(env)
		if err != nil {
			return err
		}
		t, err := asTime(v, "")
		if err != nil {
			return m.traitsAt.errorf("%s", err)
		}
		if t = t.UTC().Truncate(hub.Resolution); !t.IsZero() && !t.After(b.known.Add(hub.MaxAhead)) {
			at = t
		}
	}
	ev.Traits = make([]hub.Trait, 0, len(m.traits))
	for i := range m.traits {
		x := &m.traits[i]
		v, err := x.run(env)
		if err != nil {
			return err
		}
		if v == nil {
			continue // not said
		}
		value, err := trait(v)
		if err != nil {
			return x.errorf("%s", err)
		}
		ev.Traits = append(ev.Traits, hub.Trait{Name: x.name, Value: value, At: at})
	}
	return nil
}

func (b *builder) written(m *mapping, env any, ev *hub.Event) error {
	if m.written == nil {
		return nil
	}
	var err error
	change := &hub.FieldChange{}
	for _, f := range []struct {
		to *string
		x  *expression
	}{{&change.Object, m.written.object}, {&change.ID, m.written.id}, {&change.Field, m.written.field}, {&change.Value, m.written.value}} {
		if *f.to, err = f.x.string(env); err != nil {
			return err
		}
		*f.to = cutText(*f.to, maxText)
	}
	if change.Field != "" {
		ev.Written = change
	}
	return nil
}

// echo tells whether the vendor marked the event as ours. What was fetched for a webhook with that mark is ours as well,
// unless the record has a mark of its own.
func (b *builder) echo(m *mapping, env any) (bool, error) {
	if b.gone {
		return false, nil
	}
	if m.echo == nil {
		r, ok := env.(*recordEnv)
		if !ok {
			return false, nil
		}
		context, _ := r.Context.(map[string]any)
		return context["echo"] == true, nil
	}
	return m.echo.holds(env)
}

func (b *builder) hydrate(m *mapping, env any) error {
	h := m.hydrate
	id, err := h.id.string(env)
	if err != nil {
		if b.gone {
			return nil
		}
		return err
	}
	if id == "" {
		return nil // names nobody: nothing to fetch
	}
	if len(id) > maxID {
		return h.id.errorf("the id of the %s to fetch is longer than %d bytes", h.object, maxID)
	}
	said := map[string]any{"topic": cutText(b.topic, 200)}
	if _, ok := env.(*webhookEnv); ok {
		echo, err := b.echo(m, env)
		if err != nil {
			return err
		}
		if echo {
			said["echo"] = true
		}
	}
	for i := range h.context {
		x := &h.context[i]
		v, err := x.run(env)
		if err != nil {
			if b.gone {
				continue
			}
			return err
		}
		if v, err = contextValue(v); err != nil {
			return x.errorf("%s", err)
		}
		said[x.name] = v
	}
	text, err := json.Marshal(said, json.Deterministic(true))
	if err != nil || len(text) > maxContext {
		return h.id.errorf("the context of the %s to fetch is longer than %d bytes", h.object, maxContext)
	}
	b.out.Hydrate = append(b.out.Hydrate, hub.HydrationRecord{
		Connection: b.conn.Name, Object: h.object, ID: id, WebhookID: b.webhook, Item: b.item,
		ReceivedAt: b.received, DueAt: b.received, Context: text, State: "due",
	})
	return nil
}

// property converts v to the Go type of t. nil, "" and zero values of typed helpers mean not said.
func property(t hub.PropertyType, v any) (any, error) {
	if v == nil || v == "" {
		return nil, nil
	}
	switch t {
	case hub.Number:
		return asNumber(v)
	case hub.Bool:
		switch v {
		case true, "true":
			return true, nil
		case false, "false":
			return false, nil
		}
		return nil, errors.New("is neither true nor false")
	case hub.Time:
		at, err := asTime(v, "")
		if err != nil || at.IsZero() {
			return nil, err
		}
		return at.Truncate(hub.Resolution), nil
	case hub.Amount:
		m, ok := v.(hub.Money)
		if !ok {
			return nil, errors.New("is not money: use money(amount, currency)")
		}
		if m.IsZero() {
			return nil, nil
		}
		return m, nil
	case hub.Texts:
		list, err := asTexts(v)
		if err != nil || len(list) == 0 {
			return nil, err
		}
		return cutTexts(list), nil
	default:
		s, err := asText(v)
		if err != nil || s == "" {
			return nil, err
		}
		return cutText(s, maxText), nil
	}
}

func cutTexts(list []string) []string {
	list = list[:min(len(list), maxTexts)]
	for i := range list {
		list[i] = cutText(list[i], maxIdentifier)
	}
	return list
}

// trait converts to string, float64, bool or []string; "" clears the trait.
func trait(v any) (any, error) {
	switch v := v.(type) {
	case string:
		if v == "" {
			return nil, nil
		}
		return cutText(v, maxText), nil
	case bool:
		return v, nil
	case int64, int, float64:
		return asNumber(v)
	case time.Time:
		return asText(v)
	case []any, []string:
		list, err := asTexts(v)
		return cutTexts(list), err
	}
	return nil, errors.New("is not text, a number, true or false, or a list of texts")
}

// contextValue converts to what a hydration row can hold: scalars and lists of them.
func contextValue(v any) (any, error) {
	switch v := v.(type) {
	case nil, bool, int64, int, float64:
		return v, nil
	case string:
		return cutText(v, maxText), nil
	case time.Time:
		return asText(v)
	case []any, []string:
		list, err := asTexts(v)
		return cutTexts(list), err
	}
	return nil, errors.New("is not text, a number, true or false, or a list of those")
}
