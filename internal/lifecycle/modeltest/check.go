package modeltest

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/lifecycle"
)

// Limits bound a check. They count things, not seconds, so that one model gives one report on every machine.
type Limits struct {
	Mutants   int // of one model; of more, evenly chosen ones are tried
	Histories int // that a mutant no test notices is compared with the model over; 0 for no comparison
}

// DefaultLimits keep the check of a model of ten rules within seconds.
var DefaultLimits = Limits{Mutants: 600, Histories: 400}

// Report is what a check of a model's tests by mutants found.
type Report struct {
	Model string `json:"model"`
	File  string `json:"file"`
	Tests int    `json:"tests"`
	// Possible are the places and ways that the model could be changed in, of which those that compile were tried, or evenly
	// chosen ones where there are too many.
	Possible int `json:"possible"`
	Mutants  int `json:"mutants"`
	Noticed  int `json:"noticed"` // that some test fails on
	Equal    int `json:"equal"`   // that no test fails on, and that decide as the model does in all histories
	// Survivors are the changes that nothing notices though they decide differently, by line.
	Survivors []Survivor `json:"survivors"`
	// CannotFail are the tests that no mutant makes fail.
	CannotFail []TestRef `json:"cannot_fail"`
}

// Survivor is a change that no test notices. Example is a test that would, written as it stands in a file, if the model
// as it is now is right.
type Survivor struct {
	Mutant

	Example string `json:"example,omitempty"`
}

// TestRef names a test.
type TestRef struct {
	Name string `json:"name"`
	Line int    `json:"line"`
}

// Check tries the model's tests on its mutants. The tests must pass on the model itself. It ends early with ctx's error.
func Check(ctx context.Context, m *lifecycle.Model, limits Limits) (*Report, error) {
	for _, r := range lifecycle.RunTests(m) {
		if len(r.Failures) > 0 {
			return nil, fmt.Errorf("%s: test %q fails on the model as it is: %w", r.File, r.Name, hub.ErrInvalid)
		}
	}
	list, possible, err := mutants(ctx, m, affordable(m, limits.Mutants))
	if err != nil {
		return nil, err
	}
	file, _, _ := m.Source()
	report := &Report{Model: m.Name, File: file, Tests: len(m.Tests), Possible: possible, Mutants: len(list), Survivors: []Survivor{}, CannotFail: []TestRef{}}
	noticed := make([]bool, len(list))
	failed := make([]atomic.Bool, len(m.Tests))
	if err := each(ctx, len(list), func(i int) {
		for j := range m.Tests {
			// One test that notices is enough for the mutant; one mutant that makes it fail is enough for the test.
			if noticed[i] && failed[j].Load() {
				continue
			}
			notices, differs := m.Tests[j].Fails(list[i].model, list[i].textual)
			noticed[i] = noticed[i] || notices
			if differs {
				failed[j].Store(true)
			}
		}
		if noticed[i] {
			list[i].model = nil // it has done its work, and there are many
		}
	}); err != nil {
		return nil, err
	}
	for j := range m.Tests {
		if !failed[j].Load() {
			report.CannotFail = append(report.CannotFail, TestRef{m.Tests[j].Name, m.Tests[j].Line})
		}
	}
	examples := make([]*lifecycle.Test, len(list))
	histories := newHistories(m, limits.Histories/weight(m))
	if err := each(ctx, len(list), func(i int) {
		if !noticed[i] {
			examples[i] = histories.differ(list[i].model)
		}
	}); err != nil {
		return nil, err
	}
	for i, mutant := range list {
		switch {
		case noticed[i]:
			report.Noticed++
		case examples[i] == nil && limits.Histories > 0:
			report.Equal++
		default:
			s := Survivor{Mutant: *mutant}
			if examples[i] != nil {
				s.Example = write(examples[i], m, "notices "+mutant.What)
			}
			report.Survivors = append(report.Survivors, s)
		}
	}
	slices.SortStableFunc(report.Survivors, func(a, b Survivor) int { return a.Line - b.Line })
	return report, nil
}

// maxWork bounds what running all tests on all mutants costs, in events looked at.
const maxWork = 200_000_000

// affordable is how many mutants the tests can be run on: fewer than most where tests have very many events.
func affordable(m *lifecycle.Model, most int) int {
	work := 1
	for i := range m.Tests {
		n := len(m.Tests[i].Events) + 1
		work += n * (n + 100) // facts are made anew for each event
	}
	return min(most, max(20, maxWork/(work*weight(m))))
}

// weight is how much longer decisions of a model take than those of one with up to forty rules.
func weight(m *lifecycle.Model) int { return max(1, len(m.Rules())/20) }

// each calls fn for 0 to n-1 on all processors; it stops between two of them when ctx ends.
func each(ctx context.Context, n int, fn func(i int)) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				fn(i)
			}
		})
	}
	wg.Wait()
	return ctx.Err()
}

// histories are made-up customers and how the model decides them.
type histories struct {
	m    *lifecycle.Model
	list []*lifecycle.Test
	want []string
}

func newHistories(m *lifecycle.Model, n int) *histories {
	h := &histories{m: m, list: make([]*lifecycle.Test, n), want: make([]string, n)}
	v := newVocabulary(m)
	for i := range n {
		h.list[i] = v.history(i)
		h.want[i] = traced(h.list[i], m)
	}
	return h
}

// traced writes the walk of a history down.
func traced(t *lifecycle.Test, m *lifecycle.Model) string {
	var b strings.Builder
	for _, mv := range t.Trace(m) {
		fmt.Fprintf(&b, "%d %s\n", mv.At.UnixMilli(), mv.To)
	}
	return b.String()
}

// differ returns the shortest history it finds that a mutant decides differently, nil where it finds none.
func (h *histories) differ(mutant *lifecycle.Model) *lifecycle.Test {
	for i, t := range h.list {
		if traced(t, mutant) != h.want[i] {
			return h.shrink(t, mutant)
		}
	}
	return nil
}

// maxShrinks bounds how often a history is tried again while it is made shorter.
const maxShrinks = 400

// shrink leaves out what is not needed to tell the two apart.
func (h *histories) shrink(t *lifecycle.Test, mutant *lifecycle.Model) *lifecycle.Test {
	tries := 0
	keeps := func(c *lifecycle.Test) bool {
		tries++
		return tries <= maxShrinks && len(c.Events) > 0 && traced(c, h.m) != traced(c, mutant)
	}
	for changed := true; changed && tries < maxShrinks; {
		changed = false
		for size := max(1, len(t.Events)/2); size >= 1; size /= 2 {
			for i := 0; i+size <= len(t.Events); {
				c := *t
				c.Events = slices.Delete(slices.Clone(t.Events), i, i+size)
				if len(c.Events) > 0 {
					c.Start = c.Events[0].Known
				}
				if keeps(&c) {
					t, changed = &c, true
				} else {
					i++
				}
			}
		}
		for i := range t.Events {
			for _, name := range slices.Sorted(maps.Keys(t.Events[i].Properties)) {
				c := *t
				c.Events = slices.Clone(t.Events)
				c.Events[i].Properties = maps.Clone(t.Events[i].Properties)
				delete(c.Events[i].Properties, name)
				if keeps(&c) {
					t, changed = &c, true
				}
			}
			c := *t
			c.Events = slices.Clone(t.Events)
			if c.Events[i].Traits = nil; t.Events[i].Traits != nil && keeps(&c) {
				t, changed = &c, true
			}
		}
		for i := range t.Stages {
			c := *t
			c.Stages = slices.Delete(slices.Clone(t.Stages), i, i+1)
			if keeps(&c) {
				t, changed = &c, true
				break
			}
		}
		if c := *t; t.Identifiers != nil {
			if c.Identifiers = nil; keeps(&c) {
				t, changed = &c, true
			}
		}
		if c := *t; t.Scores != nil {
			if c.Scores = nil; keeps(&c) {
				t, changed = &c, true
			}
		}
	}
	for _, unit := range []time.Duration{24 * time.Hour, time.Hour, time.Minute} { // round times are easier to read
		c, collide := *t, false
		c.Events = slices.Clone(t.Events)
		for i := range c.Events {
			ev := &c.Events[i]
			collide = collide || i > 0 && ev.Known.After(t.Events[i-1].Known) && !ev.Known.Truncate(unit).After(c.Events[i-1].Known)
			ev.OccurredAt, ev.ReceivedAt, ev.Known = ev.OccurredAt.Truncate(unit), ev.ReceivedAt.Truncate(unit), ev.Known.Truncate(unit)
		}
		c.Start = c.Events[0].Known
		if !collide && keeps(&c) {
			t = &c
			break
		}
	}
	c := *t
	c.Until = h.parting(t, mutant)
	if keeps(&c) {
		return &c
	}
	return t
}

// parting returns when the two no longer agree, or the last thing that happens if that is later.
func (h *histories) parting(t *lifecycle.Test, mutant *lifecycle.Model) time.Time {
	a, b := t.Trace(h.m), t.Trace(mutant)
	i := 0
	for i < len(a) && i < len(b) && a[i].At.Equal(b[i].At) && a[i].To == b[i].To {
		i++
	}
	until := t.Events[len(t.Events)-1].Known
	for _, list := range [][]lifecycle.Taken{a, b} {
		if i < len(list) && list[i].At.After(until) {
			until = list[i].At
		}
	}
	for _, st := range t.Stages {
		if st.At.After(until) {
			until = st.At
		}
	}
	for _, sc := range t.Scores {
		if sc.At.After(until) {
			until = sc.At
		}
	}
	return until
}

// write gives a history as a test of the model: what it expects is what the model does.
func write(t *lifecycle.Test, m *lifecycle.Model, name string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "- name: %s\n", quote(name))
	byModel := map[string][]string{}
	for _, st := range t.Stages {
		text := "{stage: " + st.Stage + "}"
		if !st.At.IsZero() {
			text = fmt.Sprintf("{at: %s, stage: %s}", stamp(st.At), st.Stage)
		}
		byModel[st.Model] = append(byModel[st.Model], text)
	}
	if len(byModel) > 0 {
		var list []string
		for _, model := range slices.Sorted(maps.Keys(byModel)) {
			list = append(list, fmt.Sprintf("%s: [%s]", model, strings.Join(byModel[model], ", ")))
		}
		fmt.Fprintf(&b, "  stages: {%s}\n", strings.Join(list, ", "))
	}
	if len(t.Identifiers) > 0 {
		var list []string
		for _, id := range t.Identifiers {
			list = append(list, id.Kind+": "+quote(id.Value))
		}
		fmt.Fprintf(&b, "  identifiers: {%s}\n", strings.Join(list, ", "))
	}
	if len(t.Scores) > 0 {
		var list []string
		for _, sc := range t.Scores {
			list = append(list, writeScores(sc))
		}
		fmt.Fprintf(&b, "  scores: [%s]\n", strings.Join(list, ", "))
	}
	b.WriteString("  events:\n")
	for i := range t.Events {
		ev := &t.Events[i]
		fields := []string{"at: " + stamp(ev.OccurredAt), "kind: " + ev.Kind}
		for _, name := range slices.Sorted(maps.Keys(ev.Properties)) {
			fields = append(fields, name+": "+writeValue(ev.Properties[name]))
		}
		if len(ev.Traits) > 0 {
			var traits []string
			for _, trait := range ev.Traits {
				traits = append(traits, trait.Name+": "+writeValue(trait.Value))
			}
			fields = append(fields, "traits: {"+strings.Join(traits, ", ")+"}")
		}
		fmt.Fprintf(&b, "    - {%s}\n", strings.Join(fields, ", "))
	}
	var moves []string
	for _, mv := range t.Trace(m) {
		moves = append(moves, fmt.Sprintf("\n    - {at: %s, from: %s, to: %s}", stamp(mv.At), mv.From, mv.To))
	}
	if len(moves) == 0 {
		moves = []string{" []"}
	}
	fmt.Fprintf(&b, "  transitions:%s\n  until: %s\n", strings.Join(moves, ""), stamp(t.Until))
	return b.String()
}

func writeScores(sc lifecycle.TestScores) string {
	var fields []string
	add := func(name, value string) { fields = append(fields, name+": "+value) }
	if !sc.At.IsZero() {
		add("at", stamp(sc.At))
	}
	if sc.Active != nil {
		add("active", writeValue(*sc.Active))
	}
	if sc.ExpectedOrders != nil {
		add("expected_orders", writeValue(*sc.ExpectedOrders))
	}
	if sc.Value != nil {
		add("value", sc.Value.String())
	}
	for name, fifth := range map[string]*int{"recency": sc.Recency, "frequency": sc.Frequency, "monetary": sc.Monetary} {
		if fifth != nil {
			add(name, fmt.Sprint(*fifth))
		}
	}
	slices.Sort(fields)
	return "{" + strings.Join(fields, ", ") + "}"
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func writeValue(v any) string {
	switch v := v.(type) {
	case string:
		return quote(v)
	case time.Time:
		return stamp(v)
	case hub.Money:
		return v.String()
	case []string:
		list := make([]string, len(v))
		for i := range v {
			list[i] = quote(v[i])
		}
		return "[" + strings.Join(list, ", ") + "]"
	}
	return fmt.Sprint(v)
}

// quote writes a text that YAML reads back as that text.
func quote(s string) string { return fmt.Sprintf("%q", s) }
