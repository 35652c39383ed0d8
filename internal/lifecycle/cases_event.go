package lifecycle

import (
	"maps"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/stagewire/stagewire/internal/hub"
)

// defaultConnection is what tells events whose connection a test does not say; own events are the hub's.
const defaultConnection = "test"

// event reads {at, kind, amount: 40 EUR, …}: what is none of the keys of FormEvent is a property of the kind. Of those that stand
// beside the event itself (times, every, late, expect) the caller takes care.
func (r *testReader) event(n *yaml.Node, path string) hub.Event {
	kinds := r.kinds
	ev := hub.Event{Connection: defaultConnection, Properties: map[string]any{}}
	var kind hub.Kind
	known := false
	r.pairs(n, path, func(k, v *yaml.Node) {
		if k.Value != "kind" {
			return
		}
		ev.Kind = r.text(v, path+".kind")
		if kind, known = kinds.Lookup(ev.Kind); !known {
			r.fail(v, path+".kind", r.meant(ev.Kind, kinds.Of("any")), "unknown event kind %s", ev.Kind)
		}
	})
	var traits *yaml.Node
	dated := false
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			k, v := n.Content[i], n.Content[i+1]
			switch k.Value {
			case "kind", "times", "every", "late", "expect":
			case "at":
				dated = true
				ev.OccurredAt, _ = r.when(v, path+".at")
			case "connection":
				ev.Connection = r.text(v, path+".connection")
			case "traits":
				traits = v
			default:
				if !known {
					continue
				}
				t, ok := kind.Properties[k.Value]
				if !ok {
					names := append(keysOf(FormEvent), slices.Collect(maps.Keys(kind.Properties))...)
					slices.Sort(names)
					r.fail(k, path, r.meant(k.Value, names), "%s has no property %s", ev.Kind, k.Value)
					continue
				}
				if value, ok := r.eventProperty(v, path+"."+k.Value, t); ok {
					ev.Properties[k.Value] = value
				}
			}
		}
	}
	if kind.Own && ev.Connection == defaultConnection {
		ev.Connection = hub.OwnConnection
	}
	if ev.Kind == "" && n.Kind == yaml.MappingNode {
		r.fail(n, path, "", "kind is missing")
	}
	if !dated && n.Kind == yaml.MappingNode {
		r.fail(n, path, "", "at is missing")
	}
	if traits != nil {
		ev.Traits = r.traitList(traits, path+".traits", ev.OccurredAt)
	}
	ev.ReceivedAt = ev.OccurredAt
	return ev
}

// eventProperty reads a property; one that is a time may count from the event, as in closes_at: +30d.
func (r *testReader) eventProperty(n *yaml.Node, path string, t hub.PropertyType) (any, bool) {
	if t != hub.Time {
		return r.property(n, path, t)
	}
	mark := r.at
	defer func() { r.at = mark }()
	return r.when(n, path)
}

// property reads a value of a declared type.
func (s *source) property(n *yaml.Node, path string, t hub.PropertyType) (any, bool) {
	v, _ := scalar(n)
	switch t {
	case hub.Text:
		if n.Kind == yaml.ScalarNode {
			return n.Value, true
		}
	case hub.Number:
		switch v := v.(type) {
		case int:
			return float64(v), true
		case float64:
			return v, true
		}
	case hub.Bool:
		if b, ok := v.(bool); ok {
			return b, true
		}
	case hub.Time:
		at := s.instant(n, path)
		return at, !at.IsZero()
	case hub.Amount:
		if text, ok := v.(string); ok {
			if amount, currency, ok := strings.Cut(text, " "); ok {
				if m, err := hub.ParseMoney(amount, currency); err == nil {
					return m, true
				}
			}
		}
		s.fail(n, path, "write 40 EUR", "%q is not an amount of money", n.Value)
		return nil, false
	case hub.Texts:
		l := s.texts(n, path)
		return l, l != nil
	}
	s.fail(n, path, "", "this must be a %s", t)
	return nil, false
}
