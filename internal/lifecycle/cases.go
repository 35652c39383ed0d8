package lifecycle

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
)

// Test is one case that a model's file carries: events in, stages out, with a clock of its own.
type Test struct {
	Name   string
	Line   int
	Events []hub.Event
	Stages map[string]string // the stage in other models, throughout
	Expect []Expectation
}

// Expectation is a stage at an instant.
type Expectation struct {
	At    time.Time
	Stage string
	Line  int
}

// TestResult is what became of a test. Failures is empty for one that passed.
type TestResult struct {
	Model    string   `json:"model"`
	Name     string   `json:"name"`
	Line     int      `json:"line"`
	Failures []string `json:"failures,omitempty"`
}

func (m *Model) readTests(s *source, n *yaml.Node, kinds *hub.Kinds) []Test {
	var tests []Test
	for i, item := range s.items(n, "tests") {
		path := fmt.Sprintf("tests[%d]", i)
		f := s.fields(item, path, keysOf(FormTest)...)
		t := Test{Name: s.text(f["name"], path+".name"), Line: item.Line, Stages: s.textMap(f["stages"], path+".stages")}
		for _, key := range []string{"name", "expect"} {
			if f[key] == nil {
				s.fail(item, path, "", "%s is missing", key)
			}
		}
		for j, e := range s.items(f["events"], path+".events") {
			ev := s.event(e, fmt.Sprintf("%s.events[%d]", path, j), kinds)
			ev.ID = fmt.Sprintf("%s-%04d", t.Name, j)
			t.Events = append(t.Events, ev)
		}
		slices.SortStableFunc(t.Events, func(a, b hub.Event) int { return a.OccurredAt.Compare(b.OccurredAt) })
		for j, e := range s.items(f["expect"], path+".expect") {
			where := fmt.Sprintf("%s.expect[%d]", path, j)
			ef := s.fields(e, where, keysOf(FormExpect)...)
			x := Expectation{At: s.instant(ef["at"], where+".at"), Stage: s.text(ef["stage"], where+".stage"), Line: e.Line}
			for _, key := range []string{"at", "stage"} {
				if ef[key] == nil {
					s.fail(e, where, "", "%s is missing", key)
				}
			}
			if ef["stage"] != nil {
				m.checkStage(s, ef["stage"], where+".stage", x.Stage)
			}
			if len(t.Events) > 0 && ef["at"] != nil && x.At.Before(t.Events[0].OccurredAt) {
				s.fail(ef["at"], where+".at", "", "this is before the first event: there is no customer yet")
			}
			t.Expect = append(t.Expect, x)
		}
		if f["expect"] != nil && len(t.Expect) == 0 {
			s.fail(f["expect"], path+".expect", "", "a test that expects nothing cannot fail")
		}
		slices.SortStableFunc(t.Expect, func(a, b Expectation) int { return a.At.Compare(b.At) })
		tests = append(tests, t)
	}
	return tests
}

// event reads {at, kind, amount: 40 EUR, …}: what is not at, kind, connection or traits is a property of the kind.
func (s *source) event(n *yaml.Node, path string, kinds *hub.Kinds) hub.Event {
	ev := hub.Event{Connection: "test", Properties: map[string]any{}}
	var kind hub.Kind
	known := false
	s.pairs(n, path, func(k, v *yaml.Node) {
		if k.Value != "kind" {
			return
		}
		ev.Kind = s.text(v, path+".kind")
		if kind, known = kinds.Lookup(ev.Kind); !known {
			suggestion := ""
			if c := expression.Closest(ev.Kind, kinds.Of("any")); c != "" {
				suggestion = "did you mean " + c + "?"
			}
			s.fail(v, path+".kind", suggestion, "unknown event kind %s", ev.Kind)
		}
	})
	var traits *yaml.Node
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			k, v := n.Content[i], n.Content[i+1]
			switch k.Value {
			case "kind":
			case "at":
				ev.OccurredAt = s.instant(v, path+".at")
			case "connection":
				ev.Connection = s.text(v, path+".connection")
			case "traits":
				traits = v
			default:
				if !known {
					continue
				}
				t, ok := kind.Properties[k.Value]
				if !ok {
					suggestion := ""
					names := keysOf(FormEvent)
					for p := range kind.Properties {
						names = append(names, p)
					}
					slices.Sort(names)
					if c := expression.Closest(k.Value, names); c != "" {
						suggestion = "did you mean " + c + "?"
					}
					s.fail(k, path, suggestion, "%s has no property %s", ev.Kind, k.Value)
					continue
				}
				if value, ok := s.property(v, path+"."+k.Value, t); ok {
					ev.Properties[k.Value] = value
				}
			}
		}
	}
	if ev.Kind == "" && n.Kind == yaml.MappingNode {
		s.fail(n, path, "", "kind is missing")
	}
	if ev.OccurredAt.IsZero() && n.Kind == yaml.MappingNode {
		s.fail(n, path, "", "at is missing")
	}
	s.pairs(traits, path+".traits", func(k, v *yaml.Node) {
		var value any
		if v.Kind == yaml.SequenceNode {
			value = s.texts(v, path+".traits."+k.Value)
		} else if x, ok := scalar(v); ok {
			if i, isInt := x.(int); isInt {
				x = float64(i)
			}
			value = x
		}
		ev.Traits = append(ev.Traits, hub.Trait{Name: k.Value, Value: value, At: ev.OccurredAt})
	})
	ev.ReceivedAt = ev.OccurredAt
	return ev
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

// RunTests runs the tests that the model's file carries.
func RunTests(m *Model) []TestResult {
	out := make([]TestResult, 0, len(m.Tests))
	for _, t := range m.Tests {
		out = append(out, t.run(m))
	}
	return out
}

// maxWakes bounds the wake-ups between two points of a test.
const maxWakes = 10_000

func (t Test) run(m *Model) TestResult {
	r := TestResult{Model: m.Name, Name: t.Name, Line: t.Line}
	start := t.Expect[0].At
	if len(t.Events) > 0 {
		start = t.Events[0].OccurredAt
	}
	var p fact.Profile
	facts := fact.Union()
	st := m.Initial(start.Add(-hub.Resolution))
	failed := func(errs []error) {
		for _, err := range errs {
			if text := err.Error(); !slices.Contains(r.Failures, text) {
				r.Failures = append(r.Failures, text)
			}
		}
	}
	advance := func(until time.Time) {
		var errs []error
		if _, st, errs = m.Advance(facts, t.Stages, st, until, maxWakes); errs != nil {
			failed(errs)
		}
	}
	events := t.Events
	for _, x := range t.Expect {
		for len(events) > 0 && !events[0].OccurredAt.After(x.At) {
			ev := events[0]
			advance(ev.OccurredAt.Add(-hub.Resolution))
			p.Put(&ev)
			facts = fact.Union(&p)
			var errs []error
			st, errs = m.Decide(facts, t.Stages, st, ev.OccurredAt)
			failed(errs)
			events = events[1:]
		}
		advance(x.At)
		if st.Stage != x.Stage {
			r.Failures = append(r.Failures, fmt.Sprintf("line %d: at %s the stage is %s, expected %s (%s)",
				x.Line, x.At.Format(time.RFC3339), st.Stage, x.Stage, m.Why(facts, t.Stages, st, st.Rule, x.At)))
		}
	}
	return r
}
