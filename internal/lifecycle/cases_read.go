package lifecycle

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/hub"
)

// Bounds of what a file's tests can hold.
const (
	maxTestEvents = 2_000                      // of one test, repeated ones included
	maxTests      = 1_000                      // of one file
	maxAhead      = 100 * 365 * 24 * time.Hour // of one relative time
)

// defaultStart is where the clock of a test stands whose first event has no date.
var defaultStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// testReader reads one test; at is the time on the line before, which relative ones count from.
type testReader struct {
	*source
	m     *Model
	env   Env
	kinds *hub.Kinds
	path  string
	t     Test
	at    time.Time
	first time.Time // of the events, by when they are known
	last  time.Time
	end   time.Time // the last instant that anything is said of
}

func (m *Model) readTests(s *source, n *yaml.Node, env Env) []Test {
	var tests []Test
	names := map[string]int{}
	items := s.items(n, "tests")
	if len(items) > maxTests {
		s.fail(n, "tests", "", "%d tests, at most %d are read", len(items), maxTests)
		return nil
	}
	for i, item := range items {
		r := testReader{source: s, m: m, env: env, kinds: env.Kinds, path: fmt.Sprintf("tests[%d]", i)}
		r.t.Line = item.Line
		r.read(item)
		if line, ok := names[r.t.Name]; ok && r.t.Name != "" {
			s.fail(item, r.path+".name", "", "the test on line %d has that name already", line)
		}
		names[r.t.Name] = item.Line
		tests = append(tests, r.t)
	}
	return tests
}

func (r *testReader) read(item *yaml.Node) {
	f := r.fields(item, r.path, keysOf(FormTest)...)
	t, mistakes := &r.t, len(r.problems)
	if t.Name = r.text(f["name"], r.path+".name"); f["name"] == nil {
		r.fail(item, r.path, "", "name is missing")
	}
	r.params(f["params"])
	t.Start = r.instant(f["start"], r.path+".start")
	r.at = t.Start
	if r.at.IsZero() {
		r.at = defaultStart
	}
	r.events(f["events"])
	if t.Start.IsZero() {
		if t.Start = r.first; t.Start.IsZero() {
			t.Start = r.at
		}
	} else if !r.first.IsZero() && r.first.Before(t.Start) {
		r.fail(f["start"], r.path+".start", "", "the first event is before that")
	}
	if r.first.IsZero() {
		r.first, r.last = t.Start, t.Start
	}
	r.traits(f["traits"])
	r.end = r.last
	r.otherStages(f["stages"])
	r.scores(f["scores"])
	r.identifiers(f["identifiers"])
	r.pins(f["pins"])
	r.at = r.last
	for j, e := range r.items(f["expect"], r.path+".expect") {
		t.Expect = append(t.Expect, r.expectation(e, fmt.Sprintf("%s.expect[%d]", r.path, j), time.Time{}))
	}
	r.transitions(f["transitions"])
	r.walk(f["walk"])
	slices.SortStableFunc(t.Events, func(a, b TestEvent) int { return a.Known.Compare(b.Known) })
	slices.SortStableFunc(t.Expect, func(a, b Expectation) int { return a.At.Compare(b.At) })
	slices.SortStableFunc(t.Pins, func(a, b TestPin) int { return a.At.Compare(b.At) })
	slices.SortStableFunc(t.Stages, func(a, b TestStage) int { return a.At.Compare(b.At) })
	slices.SortStableFunc(t.Scores, func(a, b TestScores) int { return a.At.Compare(b.At) })
	t.Until = r.end
	if f["until"] != nil {
		r.at = r.last
		if until, ok := r.when(f["until"], r.path+".until"); ok && until.Before(r.end) {
			r.fail(f["until"], r.path+".until", "", "the test says something of a later time, %s", r.end.Format(time.RFC3339))
		} else if ok {
			t.Until = until
		}
	}
	if len(t.Expect) == 0 && !t.AllMoves && t.Walk == nil && len(r.problems) == mistakes {
		at := item
		if f["expect"] != nil {
			at = f["expect"]
		}
		r.fail(at, r.path, "add expect, transitions or walk", "a test that expects nothing cannot fail")
	}
}

// when reads an instant: a date, a date and time, or +3d after the line before.
func (r *testReader) when(n *yaml.Node, path string) (time.Time, bool) {
	if n == nil {
		return time.Time{}, false
	}
	if !strings.HasPrefix(n.Value, "+") {
		at := r.instant(n, path)
		if !at.IsZero() {
			r.at = at
		}
		return at, !at.IsZero()
	}
	var sum time.Duration
	for part := range strings.FieldsSeq(n.Value) {
		sign := time.Duration(1)
		if part[0] == '-' {
			sign = -1
		}
		d, ok := expression.ParseDuration(strings.TrimLeft(part, "+-"))
		if !ok || d > maxAhead {
			r.fail(n, path, "write +3d, +12h or +89d 23h", "%q is not a time after the one before", n.Value)
			return time.Time{}, false
		}
		sum += sign * d
	}
	if sum < 0 || sum > maxAhead {
		r.fail(n, path, "", "%q is before the time it counts from, or more than a hundred years after it", n.Value)
		return time.Time{}, false
	}
	r.at = r.at.Add(sum).Truncate(hub.Resolution)
	return r.at, true
}

// asked is when for something that the test must look at: never before the customer is known.
func (r *testReader) asked(n *yaml.Node, path string) time.Time {
	at, ok := r.when(n, path)
	if ok && at.Before(r.first) {
		r.fail(n, path, "", "this is before the first event: there is no customer yet")
	}
	if ok && at.After(r.end) {
		r.end = at
	}
	return at
}

func (r *testReader) params(n *yaml.Node) {
	r.pairs(n, r.path+".params", func(k, v *yaml.Node) {
		path := r.path + ".params." + k.Value
		p, ok := r.m.env.Params[k.Value]
		if !ok {
			r.fail(k, path, r.meant(k.Value, slices.Sorted(maps.Keys(r.m.env.Params))), "the model has no parameter %s", k.Value)
			return
		}
		value, isScalar := scalar(v)
		over, err := expression.NewParam(value)
		if !isScalar || err != nil || !p.Same(over) {
			r.fail(v, path, "", "%q is not %s", v.Value, p.Type())
			return
		}
		if r.t.Params == nil {
			r.t.Params = map[string]string{}
		}
		r.t.Params[k.Value] = v.Value
	})
}

// meant suggests one of the names.
func (*source) meant(name string, names []string) string {
	if c := expression.Closest(name, names); c != "" {
		return "did you mean " + c + "?"
	}
	if len(names) > 0 && len(names) <= 12 {
		return "known here: " + strings.Join(names, ", ")
	}
	return ""
}

func (r *testReader) events(n *yaml.Node) {
	for j, e := range r.items(n, r.path+".events") {
		path := fmt.Sprintf("%s.events[%d]", r.path, j)
		ev := r.event(e, path)
		b := r.beside(e, path, ev)
		if len(r.t.Events)+b.times > maxTestEvents {
			r.fail(e, path, "", "a test has at most %d events", maxTestEvents)
			return
		}
		for k := range b.times {
			r.put(ev, time.Duration(k)*b.every, b.late, e.Line)
		}
		if ev.OccurredAt.IsZero() {
			continue
		}
		r.at = r.at.Add(time.Duration(b.times-1) * b.every)
		if b.expect != nil {
			known := r.t.Events[len(r.t.Events)-1].Known
			r.end = later(r.end, known)
			r.t.Expect = append(r.t.Expect, r.expectation(b.expect, path+".expect", known))
		}
	}
}

// beside is what stands beside an event and is none of it.
type beside struct {
	times       int
	every, late time.Duration
	expect      *yaml.Node
}

func (r *testReader) beside(n *yaml.Node, path string, ev hub.Event) beside {
	b := beside{times: 1, expect: child(n, "expect")}
	times, every := child(n, "times"), child(n, "every")
	if times != nil {
		count, err := strconv.Atoi(times.Value)
		if err != nil || count < 1 || count > 1000 {
			r.fail(times, path+".times", "", "an event is repeated 1 to 1000 times, not %q", times.Value)
		} else {
			b.times = count
		}
		if ev.Properties["id"] != nil {
			r.fail(times, path+".times", "leave out id", "events of one id tell of one and the same %s", objectOf(r.kinds, ev.Kind))
		}
	}
	b.every, b.late = r.duration(every, path+".every"), r.duration(child(n, "late"), path+".late")
	if (times == nil) != (every == nil) {
		r.fail(n, path, "write times: 5, every: 7d", "times and every belong together")
	}
	if b.every > maxAhead/time.Duration(b.times) {
		r.fail(every, path+".every", "", "the last of them would be more than a hundred years after the first")
		b.every = 0
	}
	return b
}

// put adds an event that happens shift later than ev says and becomes known late. Copies share their properties, which
// nothing changes.
func (r *testReader) put(ev hub.Event, shift, late time.Duration, line int) {
	ev.ID = fmt.Sprintf("%s-%04d", r.t.Name, len(r.t.Events))
	dated := !ev.OccurredAt.IsZero()
	ev.OccurredAt = ev.OccurredAt.Add(shift)
	ev.ReceivedAt = ev.OccurredAt.Add(late)
	ev.Traits = slices.Clone(ev.Traits)
	for i := range ev.Traits {
		ev.Traits[i].At = ev.OccurredAt
	}
	r.t.Events = append(r.t.Events, TestEvent{Event: ev, Known: ev.ReceivedAt, Line: line})
	if !dated {
		return // told already
	}
	if r.first.IsZero() || ev.ReceivedAt.Before(r.first) {
		r.first = ev.ReceivedAt
	}
	r.last = later(r.last, ev.ReceivedAt)
}

// child returns the value of a key, nil where it is not there.
func child(n *yaml.Node, key string) *yaml.Node {
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func objectOf(kinds *hub.Kinds, kind string) string {
	if k, ok := kinds.Lookup(kind); ok && k.Object != "" {
		return k.Object
	}
	return "thing"
}

// pins reads [{at, stage, until, by, why}, {at, release: true}].
func (r *testReader) pins(n *yaml.Node) {
	r.at = r.first
	for i, item := range r.items(n, r.path+".pins") {
		path := fmt.Sprintf("%s.pins[%d]", r.path, i)
		f := r.fields(item, path, keysOf(FormPin)...)
		p := TestPin{At: r.asked(f["at"], path+".at"), Release: r.flag(f["release"], path+".release")}
		r.text(f["by"], path+".by")
		r.text(f["why"], path+".why")
		if f["at"] == nil {
			r.fail(item, path, "", "at is missing")
		}
		switch {
		case p.Release && (f["stage"] != nil || f["until"] != nil):
			r.fail(f["release"], path, "", "a release has neither stage nor until")
		case p.Release:
		case f["stage"] == nil:
			r.fail(item, path, "", "stage is missing")
		default:
			if p.Stage = r.text(f["stage"], path+".stage"); p.Stage != "" {
				r.m.checkStage(r.source, f["stage"], path+".stage", p.Stage)
			}
		}
		if f["until"] != nil && !p.Release {
			mark := r.at
			if until, ok := r.when(f["until"], path+".until"); ok {
				if p.Until = until; !until.After(p.At) {
					r.fail(f["until"], path+".until", "", "a pin ends after it begins")
				}
			}
			r.at = mark // the next line counts from the pin, not from its end
		}
		r.t.Pins = append(r.t.Pins, p)
	}
}

// expectation reads a line of expect, or what stands beside an event; at is that event's instant.
func (r *testReader) expectation(n *yaml.Node, path string, at time.Time) Expectation {
	x := Expectation{At: at, Line: n.Line}
	if !at.IsZero() && n.Kind == yaml.ScalarNode {
		x.Stage = r.text(n, path)
		r.m.checkStage(r.source, n, path, x.Stage)
		return x
	}
	keys := keysOf(FormExpect) // at is the first
	if !at.IsZero() {
		keys = keys[1:]
	}
	f := r.fields(n, path, keys...)
	if at.IsZero() {
		if x.At = r.asked(f["at"], path+".at"); f["at"] == nil && n.Kind == yaml.MappingNode {
			r.fail(n, path, "", "at is missing")
		}
	}
	stage := func(key string) string {
		if f[key] == nil {
			return ""
		}
		name := r.text(f[key], path+"."+key)
		r.m.checkStage(r.source, f[key], path+"."+key, name)
		return name
	}
	x.Stage, x.From, x.To = stage("stage"), stage("from"), stage("to")
	if x.Move = f["from"] != nil || f["to"] != nil; x.Move && f["stage"] != nil {
		r.fail(f["stage"], path, "from and to say it already", "stage does not go with from and to")
	}
	if x.Move && x.From != "" && x.From == x.To {
		r.fail(f["to"], path+".to", "", "a move leads to another stage")
	}
	if w := f["wakes_at"]; w != nil {
		x.Wakes, x.AsksWake = r.ahead(w, path+".wakes_at", x.At), true
	}
	r.next(f["next"], path+".next", &x)
	x.Because = r.because(f["because"], path+".because")
	x.Nearest = r.because(f["nearest"], path+".nearest")
	r.clauses(f["clauses"], path+".clauses", &x)
	if n.Kind == yaml.MappingNode && !slices.ContainsFunc(keys, func(k string) bool { return k != "at" && f[k] != nil }) {
		r.fail(n, path, "add stage, or from and to, wakes_at, next, because, nearest, clauses", "nothing is expected here")
	}
	return x
}

// ahead reads an instant after at, or never.
func (r *testReader) ahead(n *yaml.Node, path string, at time.Time) time.Time {
	if n.Value == "never" {
		return time.Time{}
	}
	mark := r.at
	defer func() { r.at = mark }()
	r.at = at
	then, ok := r.when(n, path)
	if ok && !then.After(at) {
		r.fail(n, path, "", "this is not after the instant it is expected at")
	}
	return then
}

// next reads never, a stage, or {at, to}.
func (r *testReader) next(n *yaml.Node, path string, x *Expectation) {
	if n == nil {
		return
	}
	x.AsksNext = true
	if n.Kind == yaml.ScalarNode {
		if n.Value != "never" {
			x.NextTo = n.Value
			r.m.checkStage(r.source, n, path, x.NextTo)
		}
		return
	}
	f := r.fields(n, path, keysOf(FormNext)...)
	if len(f) == 0 && n.Kind == yaml.MappingNode {
		r.fail(n, path, "write next: never, or next: {at: +5d, to: lost}", "nothing is expected here")
	}
	if f["at"] != nil {
		x.NextAt = r.ahead(f["at"], path+".at", x.At)
	}
	if f["to"] != nil {
		x.NextTo = r.text(f["to"], path+".to")
		r.m.checkStage(r.source, f["to"], path+".to", x.NextTo)
	}
}

func (r *testReader) because(n *yaml.Node, path string) []string {
	list := r.texts(n, path)
	if n != nil && slices.Contains(list, "") {
		r.fail(n, path, "", "an empty text is part of everything")
	}
	return list
}

// clauses reads {"count(…) >= 2": true}: a condition of the model, or a part of one, and what it comes to.
func (r *testReader) clauses(n *yaml.Node, path string, x *Expectation) {
	known := r.m.clauseTexts()
	r.pairs(n, path, func(k, v *yaml.Node) {
		c := ExpectedClause{Text: plain(k.Value), Is: r.flag(v, path), Line: k.Line}
		if !slices.Contains(known, c.Text) && len(known) > 0 {
			r.fail(k, path, r.meant(c.Text, known), "no condition of the model has the part %s", c.Text)
		}
		x.Clauses = append(x.Clauses, c)
	})
}

// plain is text with its white space made single.
func plain(text string) string { return strings.Join(strings.Fields(text), " ") }

// clauseTexts returns the text of each condition and of its parts, and the names of defined ones.
func (m *Model) clauseTexts() []string {
	seen := map[string]bool{}
	var walk func(list []*expression.Clause)
	walk = func(list []*expression.Clause) {
		for _, c := range list {
			seen[plain(c.Text)] = true
			walk(c.Clauses)
		}
	}
	for i := range m.rules {
		if m.rules[i].when != nil {
			walk(m.rules[i].when.Clauses())
		}
	}
	for name, p := range m.defines {
		seen[name] = true
		walk(p.Clauses())
	}
	return slices.Sorted(maps.Keys(seen))
}

// transitions reads [{at, from, to, because}]: all moves and no others.
func (r *testReader) transitions(n *yaml.Node) {
	if n == nil {
		return
	}
	r.t.AllMoves, r.t.line = true, n.Line
	r.at = r.first
	for i, item := range r.items(n, r.path+".transitions") {
		path := fmt.Sprintf("%s.transitions[%d]", r.path, i)
		f := r.fields(item, path, keysOf(FormMove)...)
		x := ExpectedMove{At: r.asked(f["at"], path+".at"), Line: item.Line}
		for _, key := range []string{"from", "to"} {
			if f[key] == nil {
				continue
			}
			name := r.text(f[key], path+"."+key)
			r.m.checkStage(r.source, f[key], path+"."+key, name)
			if key == "from" {
				x.From = name
			} else {
				x.To = name
			}
		}
		if f["to"] == nil && item.Kind == yaml.MappingNode {
			r.fail(item, path, "", "to is missing")
		}
		if i > 0 && x.From != "" && x.From != r.t.Moves[i-1].To && r.t.Moves[i-1].To != "" {
			r.fail(f["from"], path+".from", "", "the move before leads to %s, so this one cannot start in %s", r.t.Moves[i-1].To, x.From)
		}
		if i > 0 && f["at"] != nil && x.At.Before(r.t.Moves[i-1].At) {
			r.fail(f["at"], path+".at", "", "the move before comes later: transitions stand in their order")
		}
		x.Because = r.because(f["because"], path+".because")
		r.t.Moves = append(r.t.Moves, x)
	}
}

// walk reads [prospect, new, lost]: the stages passed, with the first one.
func (r *testReader) walk(n *yaml.Node) {
	if n == nil {
		return
	}
	if r.t.line == 0 {
		r.t.line = n.Line
	}
	r.t.Walk = []string{}
	list := r.texts(n, r.path+".walk")
	for i, name := range list {
		at := n
		if n.Kind == yaml.SequenceNode {
			at = n.Content[i]
		}
		path := fmt.Sprintf("%s.walk[%d]", r.path, i)
		r.m.checkStage(r.source, at, path, name)
		if i > 0 && name == list[i-1] {
			r.fail(at, path, "", "%s is there twice in a row: a walk names a stage once for each time it is entered", name)
		}
		r.t.Walk = append(r.t.Walk, name)
	}
	if len(list) == 0 {
		r.fail(n, r.path+".walk", "", "a walk has at least the stage it starts in")
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
