package expression

import (
	"math"
	"slices"
	"time"

	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
)

// field is one thing that can follow a dot: of an event, an object or the customer. A property that an event or
// object does not have is a never-value, an empty text or list, or false; of nil everything is nil.
type field struct {
	name string
	doc  string
	typ  Type
	// get reads it off a *fact.Entry or *fact.Object; for the customer item is nil.
	get func(s *Session, item any) (any, error)
}

// getter is what events and objects have in common.
type getter interface {
	Text(string) (string, bool)
	Number(string) (float64, bool)
	Bool(string) (bool, bool)
	Money(string) (hub.Money, bool)
	Instant(string) (int64, bool)
	Texts(string) ([]string, bool)
}

// property makes the field of a catalogue property.
func property(name string, p hub.PropertyType) *field {
	f := &field{name: name, typ: ofProperty(p)}
	f.get = func(_ *Session, item any) (any, error) {
		g, ok := item.(getter)
		if !ok {
			return nil, nil
		}
		switch p {
		case hub.Number:
			if n, ok := g.Number(name); ok {
				return n, nil
			}
			return math.NaN(), nil
		case hub.Bool:
			b, _ := g.Bool(name)
			return b, nil
		case hub.Time:
			return toInstant(g.Instant(name)), nil
		case hub.Amount:
			if m, ok := g.Money(name); ok {
				return m, nil
			}
			return nil, nil
		case hub.Texts:
			l, _ := g.Texts(name)
			return l, nil
		}
		t, _ := g.Text(name)
		return t, nil
	}
	return f
}

func entryField(name, doc string, t Type, get func(*Session, *fact.Entry) any) *field {
	return &field{name: name, doc: doc, typ: t, get: func(s *Session, item any) (any, error) {
		e, ok := item.(*fact.Entry)
		if !ok {
			return nil, nil
		}
		return get(s, e), nil
	}}
}

func objectField(name, doc string, t Type, get func(*fact.Object) any) *field {
	return &field{name: name, doc: doc, typ: t, get: func(_ *Session, item any) (any, error) {
		o, ok := item.(*fact.Object)
		if !ok {
			return nil, nil
		}
		return get(o), nil
	}}
}

var boolean = Type{Base: Bool}

// entryFields are those every event has beside its kind's properties.
var entryFields = []*field{
	entryField("age", "time since the event", Type{Base: Elapsed, clamped: true}, func(_ *Session, e *fact.Entry) any { return e }),
	entryField("at", "when it happened", Type{Base: Instant}, func(_ *Session, e *fact.Entry) any { return instant(e.Millis()) }),
	entryField("kind", "its kind, such as order.paid", Type{Base: Text}, func(_ *Session, e *fact.Entry) any { return e.Kind }),
	entryField("connection", "the system that told it", Type{Base: Text}, func(_ *Session, e *fact.Entry) any { return e.Connection }),
}

// orderFields are those of an event about an order: what has become of that order.
var orderFields = []*field{
	entryField("refunded", "the order's whole amount went back", boolean, func(s *Session, e *fact.Entry) any {
		o := s.in.Facts.ObjectOf(e)
		return o != nil && o.Refunded
	}),
	entryField("cancelled", "the order was cancelled", boolean, func(s *Session, e *fact.Entry) any {
		o := s.in.Facts.ObjectOf(e)
		return o != nil && o.Cancelled
	}),
}

func at(name, doc string, get func(*fact.Object) int64) *field {
	return objectField(name, doc, Type{Base: Instant}, func(o *fact.Object) any { return instant(get(o)) })
}

func flag(name, doc string, get func(*fact.Object) bool) *field {
	return objectField(name, doc, boolean, func(o *fact.Object) any { return get(o) })
}

// objectFields are those of every object ("") and of one kind beside the catalogue's properties.
var objectFields = map[string][]*field{
	"": {
		flag("open", "still going on", func(o *fact.Object) bool { return o.Open }),
		objectField("open_for", "time since it was opened, never while it is not open", Type{Base: Elapsed, clamped: true},
			func(o *fact.Object) any { return instant(o.OpenSince) }),
		objectField("age", "time since it was first heard of", Type{Base: Elapsed, clamped: true},
			func(o *fact.Object) any { return instant(o.CreatedAt) }),
		at("at", "when it was first heard of", func(o *fact.Object) int64 { return o.CreatedAt }),
		at("closed_at", "when it ended", func(o *fact.Object) int64 { return o.ClosedAt }),
		objectField("connection", "the system it is in", Type{Base: Text}, func(o *fact.Object) any { return o.Connection }),
	},
	"order": {
		flag("paid", "was paid", func(o *fact.Object) bool { return o.Paid }),
		flag("fulfilled", "was sent", func(o *fact.Object) bool { return o.Fulfilled }),
		flag("cancelled", "was cancelled", func(o *fact.Object) bool { return o.Cancelled }),
		flag("refunded", "the whole amount went back", func(o *fact.Object) bool { return o.Refunded }),
		flag("partly_refunded", "a part of the amount went back", func(o *fact.Object) bool { return o.PartlyRefunded }),
		objectField("refunded_amount", "what went back", Type{Base: Money}, func(o *fact.Object) any { return o.RefundedAmount }),
		objectField("refunded_after", "from payment to the whole refund, never without one", Type{Base: Duration}, func(o *fact.Object) any {
			if ms := o.RefundedAfter(); ms != none {
				return length(float64(ms), time.Millisecond)
			}
			return neverSpan
		}),
		at("paid_at", "when it was paid", func(o *fact.Object) int64 { return o.PaidAt }),
		at("refunded_at", "when the whole amount had gone back", func(o *fact.Object) int64 { return o.RefundedAt }),
	},
	"ticket": {flag("solved", "is no longer open", func(o *fact.Object) bool { return !o.Open })},
	"deal": {
		flag("won", "was won", func(o *fact.Object) bool { return o.Won }),
		flag("lost", "was lost", func(o *fact.Object) bool { return o.Lost }),
	},
	"cart": {flag("abandoned", "was left and not touched since", func(o *fact.Object) bool { return o.Abandoned })},
	"subscription": {
		flag("active", "runs: neither cancelled nor paused", func(o *fact.Object) bool { return o.Open && !o.Paused }),
		flag("paused", "is paused", func(o *fact.Object) bool { return o.Paused }),
		flag("cancelled", "was cancelled", func(o *fact.Object) bool { return o.Cancelled }),
	},
	"referred": {
		objectField("id", "the customer's id", Type{Base: Text}, func(o *fact.Object) any { return o.ID }),
		at("at", "when the customer was first told of", func(o *fact.Object) int64 { return o.CreatedAt }),
		objectField("age", "time since the customer was first told of", Type{Base: Elapsed, clamped: true}, func(o *fact.Object) any { return instant(o.CreatedAt) }),
		at("created", "when that customer's first event happened", func(o *fact.Object) int64 {
			if t, ok := o.Instant("created"); ok {
				return t
			}
			return o.CreatedAt
		}),
	},
	"company": {
		objectField("id", "its id in the system it is in", Type{Base: Text}, func(o *fact.Object) any { return o.ID }),
		objectField("name", "its name", Type{Base: Text}, objectText("name")),
		objectField("domain", "its domain, such as example.com", Type{Base: Text}, objectText("domain")),
		at("at", "when it was first heard of", func(o *fact.Object) int64 { return o.CreatedAt }),
		objectField("age", "time since it was first heard of", Type{Base: Elapsed, clamped: true}, func(o *fact.Object) any { return instant(o.CreatedAt) }),
		objectField("connection", "the system it is in", Type{Base: Text}, func(o *fact.Object) any { return o.Connection }),
	},
	"task": {
		flag("completed", "is done", func(o *fact.Object) bool { return !o.Open }),
		flag("overdue", "is open past its date", func(o *fact.Object) bool { return o.Overdue }),
	},
}

func objectText(name string) func(*fact.Object) any {
	return func(o *fact.Object) any {
		t, _ := o.Text(name)
		return t
	}
}

// fieldsOf returns what can follow the dot of a type, by name.
func fieldsOf(t Type, kinds *hub.Kinds) map[string]*field {
	out := map[string]*field{}
	switch t.Base {
	case Entry:
		about := ""
		for name, p := range t.Kinds.fields {
			out[name] = property(name, p)
		}
		for i, k := range t.Kinds.kinds {
			kind, _ := kinds.Lookup(k)
			if i == 0 || about == kind.Object {
				about = kind.Object
			} else {
				about = "-"
			}
		}
		if about == "order" {
			for _, f := range orderFields {
				out[f.name] = f
			}
		}
		for _, f := range entryFields {
			out[f.name] = f
		}
	case Object:
		if staged[t.Object] {
			for _, f := range objectFields[t.Object] {
				out[f.name] = f
			}
			return out
		}
		for _, k := range kinds.All() {
			if k.Object == t.Object {
				for name, p := range k.Properties {
					out[name] = property(name, p)
				}
			}
		}
		for _, f := range slices.Concat(objectFields[""], objectFields[t.Object]) {
			out[f.name] = f
		}
	case Money:
		out["currency"] = &field{name: "currency", typ: Type{Base: Text}, get: func(_ *Session, item any) (any, error) {
			if m, ok := item.(hub.Money); ok {
				return m.Currency, nil
			}
			return "", nil
		}}
		out["amount"] = &field{name: "amount", typ: Type{Base: Number}, get: func(_ *Session, item any) (any, error) {
			if m, ok := item.(hub.Money); ok {
				f, _ := m.Amount.Float64()
				return f, nil
			}
			return math.NaN(), nil
		}}
	}
	return out
}

func textTrait(name, doc string, get func(*fact.Facts) string) *field {
	return &field{name: name, doc: doc, typ: optional(Type{Base: Text}), get: func(s *Session, _ any) (any, error) {
		if t := get(s.in.Facts); t != "" {
			return t, nil
		}
		return nil, nil
	}}
}

// customerFields are what can follow customer, beside the namespaces consent and traits.
var customerFields = []*field{
	textTrait("name", "the customer's name", (*fact.Facts).Name),
	textTrait("email", "the customer's e-mail address", (*fact.Facts).Email),
	textTrait("phone", "the customer's phone number", (*fact.Facts).Phone),
	{name: "zone", doc: "the customer's time zone: the trait timezone", typ: optional(zoneText), get: func(s *Session, _ any) (any, error) {
		if name := s.in.Facts.Text(zoneTrait); name != "" {
			return name, nil
		}
		return nil, nil
	}},
	textTrait("language", "language as the systems know it", func(f *fact.Facts) string { return f.Text("language") }),
	textTrait("country", "country as the systems know it", func(f *fact.Facts) string { return f.Text("country") }),
	{name: "tags", doc: "tags in all systems", typ: listOf(Type{Base: Text}), get: func(s *Session, _ any) (any, error) {
		return s.in.Facts.Tags(), nil
	}},
	{name: "created", doc: "when the first event happened", typ: Type{Base: Instant}, get: func(s *Session, _ any) (any, error) {
		t := s.in.Facts.FirstEventAt()
		return toInstant(t.UnixMilli(), !t.IsZero()), nil
	}},
}
