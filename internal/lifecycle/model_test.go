package lifecycle

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func day(n int) time.Time { return start.AddDate(0, 0, n) }

func clc(t testing.TB) *Model {
	t.Helper()
	text, err := os.ReadFile("../../rules/clc.yaml")
	if err != nil {
		t.Fatal(err)
	}
	m, err := Compile("clc.yaml", text, Env{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func compile(t testing.TB, text string, env Env) *Model {
	t.Helper()
	m, err := Compile("m.yaml", []byte(text), env)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func facts(t testing.TB, events ...hub.Event) *fact.Facts {
	t.Helper()
	var p fact.Profile
	for i := range events {
		events[i].ID, events[i].Connection = fmt.Sprintf("evt_%d", i), "shop"
		p.Put(&events[i])
	}
	return fact.Union(&p)
}

func paid(n int) hub.Event { return hub.Event{Kind: "order.paid", OccurredAt: day(n)} }

func TestDecide(t *testing.T) {
	m := clc(t)
	st := m.Initial(day(0).Add(-time.Millisecond))
	want := State{Stage: "prospect", Since: day(0).Add(-time.Millisecond), DecidedAt: day(0).Add(-time.Millisecond), By: hub.ByInitial, Rule: 4}
	if d := cmp.Diff(want, st); d != "" {
		t.Fatal(d)
	}
	f := facts(t, paid(0))
	st, errs := m.Decide(f, nil, st, day(0))
	want = State{Stage: "new", Since: day(0), DecidedAt: day(0), WakesAt: day(180), By: hub.ByRule, Rule: 3}
	if d := cmp.Diff(want, st); d != "" || errs != nil {
		t.Fatal(d, errs)
	}
	steps, st, errs := m.Advance(f, nil, st, day(400), 100)
	wantSteps := []Step{{From: "new", To: "lost", At: day(180), Rule: 0, Why: "Lost customer: last order.paid 180 days ago (2026-01-01), at least 180 days needed."}}
	if d := cmp.Diff(wantSteps, steps); d != "" || errs != nil {
		t.Error(d, errs)
	}
	if st.Stage != "lost" || !st.WakesAt.IsZero() || !st.Since.Equal(day(180)) {
		t.Errorf("%+v", st)
	}
	if dependent, reasons := m.PathDependent(); dependent {
		t.Errorf("clc is path dependent: %v", reasons)
	}
}

func TestPathOptions(t *testing.T) {
	m := compile(t, `
model: care
stages:
  - {name: fine}
  - {name: upset, dwell: 3d, yields_to: [gone]}
  - {name: calm}
  - {name: gone, terminal: true}
decide:
  - stage: gone
    when: ever("customer.deleted")
  - stage: upset
    when: any(tickets, .open)
  - stage: calm
    from: [upset]
    when: stage_age < days(10)
  - stage: fine
    from: [calm]
    when: stage_age >= days(5)
  - stage: fine
    from: gone
    when: ever("customer.restored")
  - otherwise: stay
`, Env{})
	if _, reasons := m.PathDependent(); !slices.Equal(reasons, []string{"stage", "from", "dwell", "yields_to", "terminal", "stay"}) {
		t.Errorf("reasons %v", reasons)
	}
	ticket := func(kind string, n int) hub.Event {
		return hub.Event{Kind: kind, OccurredAt: day(n), Properties: map[string]any{"id": "1"}}
	}
	st := m.Initial(day(0))
	if st.Stage != "fine" {
		t.Fatalf("%+v", st)
	}
	f := facts(t, ticket("ticket.opened", 1))
	st, _ = m.Decide(f, nil, st, day(1))
	if st.Stage != "upset" {
		t.Fatalf("%+v", st)
	}
	f = facts(t, ticket("ticket.opened", 1), ticket("ticket.solved", 2))
	st, _ = m.Decide(f, nil, st, day(2))
	if st.Stage != "upset" || !st.WakesAt.Equal(day(4)) {
		t.Fatalf("dwell: %+v", st)
	}
	steps, st, _ := m.Advance(f, nil, st, day(30), 100)
	if len(steps) != 2 || steps[0].To != "calm" || !steps[0].At.Equal(day(4)) || steps[1].To != "fine" || !steps[1].At.Equal(day(9)) {
		t.Fatalf("%+v %+v", steps, st)
	}
	f = facts(t, ticket("ticket.opened", 31), hub.Event{Kind: "customer.deleted", OccurredAt: day(31)})
	st, _ = m.Decide(f, nil, State{Stage: "upset", Since: day(31)}, day(31))
	if st.Stage != "gone" {
		t.Fatalf("yields_to: %+v", st)
	}
	f = facts(t, ticket("ticket.opened", 32))
	if st, _ = m.Decide(f, nil, st, day(32)); st.Stage != "gone" {
		t.Fatalf("terminal: %+v", st)
	}
	f = facts(t, hub.Event{Kind: "customer.restored", OccurredAt: day(33)})
	if st, _ = m.Decide(f, nil, st, day(33)); st.Stage != "fine" {
		t.Fatalf("terminal with from: %+v", st)
	}
}

// TestDecidingTwice: a decision taken again at the same instant changes nothing, path options or not.
func TestDecidingTwice(t *testing.T) {
	for _, m := range []*Model{clc(t), compile(t, `
model: loop
stages: [{name: a, dwell: 2d}, {name: b}, {name: c}]
decide:
  - stage: b
    from: [a]
    when: within("order.paid", days(20))
  - stage: c
    from: [b]
    when: stage_age >= days(4) or within("order.paid", days(1))
  - stage: a
    when: count("order.paid", days(20)) == 0
  - otherwise: stay
`, Env{})} {
		f := facts(t, paid(0), paid(3), paid(40))
		st := m.Initial(day(0).Add(-time.Millisecond))
		for h := range 24 * 90 {
			at := start.Add(time.Duration(h) * time.Hour)
			next, _ := m.Decide(f, nil, st, at)
			again, _ := m.Decide(f, nil, next, at)
			if again.Stage != next.Stage || !again.Since.Equal(next.Since) || !again.WakesAt.Equal(next.WakesAt) {
				t.Fatalf("%s at %s: %+v, then %+v", m.Name, at, next, again)
			}
			if !next.WakesAt.IsZero() && !next.WakesAt.After(at) {
				t.Fatalf("%s wakes at %s", m.Name, next.WakesAt)
			}
			st = next
		}
	}
}

func TestProblems(t *testing.T) {
	text := `model: Bad
of: customer
params: {w: 30d, size: 5}
stages:
  - {name: a}
  - name: b
    dwel: 3d
  - {name: a}
define:
  often: count("order.piad", days(30)) > 2
  tour: trip
  trip: tour
decide:
  - stage: c
    when: 'since("order.paid") >= params.ww'
  - stage: b
    when: >
      ever("order.paid")
      and nps() > 3
      and count("order.paid", .ammount > eur(1)) > 0
  - stage: b
    when: "\"x\" == customer.nmae"
  - stage: a
    when: |
      ever("order.paid") and
        stage == "bb"
    after: 3d
  - stage: a
tests:
  - name: t
    events:
      - {at: 2026-01-02T00:00:00Z, kind: order.pad, amount: 4 EUR}
      - {at: 2026-01-02T00:00:00Z, kind: order.paid, amont: 4 EUR, items: many}
    expect:
      - {at: 2026-01-01T00:00:00Z, stage: bb}
`
	_, err := Compile("m.yaml", []byte(text), Env{Params: map[string]string{"w": "ten", "sise": "3"}})
	var got []string
	for _, p := range Problems(err) {
		got = append(got, p.Error())
	}
	want := []string{
		`m.yaml:1:8: model: a model's name has small letters, digits, _ and -, not "Bad" (write bad)`,
		`m.yaml:3:9: params: the model has no parameter sise, which is set where it is used (did you mean size?)`,
		`m.yaml:3:13: params.w: it is overridden by "ten" where the model is used, which is not a duration`,
		`m.yaml:7:5: stages[1]: unknown key dwel (did you mean dwell?)`,
		`m.yaml:8:12: stages[2].name: stage a is there twice (take one of them out, or give it another name)`,
		`m.yaml:10:16: define.often: unknown event kind order.piad (did you mean order.paid?)`,
		`m.yaml:11:9: define.tour: conditions go round in a circle: tour → trip → tour (a condition can use others, but in the end not itself)`,
		`m.yaml:14:12: decide[0].stage: unknown stage c (did you mean a?)`,
		`m.yaml:15:42: decide[0].when: unknown parameter ww (did you mean w?)`,
		`m.yaml:19:11: decide[1].when: nps() may be missing (say what counts then: nps() ?? 0)`,
		`m.yaml:20:32: decide[1].when: unknown field of an event order.paid: ammount (did you mean amount?)`,
		`m.yaml:22:30: decide[2].when: unknown field of customer: nmae (did you mean name?)`,
		`m.yaml:26:18: decide[3].when: unknown stage bb (did you mean b?)`,
		`m.yaml:28:5: decide: the last line of decide is missing: otherwise (end with otherwise: a stage, or stay)`,
		`m.yaml:28:5: decide[4]: when is missing (when: the condition)`,
		`m.yaml:32:42: tests[0].events[0].kind: unknown event kind order.pad (did you mean order.paid?)`,
		`m.yaml:33:54: tests[0].events[1]: order.paid has no property amont (did you mean amount?)`,
		`m.yaml:33:75: tests[0].events[1].items: this must be a number`,
		`m.yaml:35:14: tests[0].expect[0].at: this is before the first event: there is no customer yet`,
		`m.yaml:35:43: tests[0].expect[0].stage: unknown stage bb (did you mean b?)`,
	}
	slices.Sort(got)
	slices.Sort(want)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for _, p := range Problems(err) {
		if strings.Contains(p.Message, "ammount") && p.Excerpt != "      and count(\"order.paid\", .ammount > eur(1)) > 0\n                               ^" {
			t.Errorf("excerpt:\n%s", p.Excerpt)
		}
	}
}

func TestUnreadableFiles(t *testing.T) {
	for text, want := range map[string]string{
		"":                                      "m.yaml: the file is empty",
		"a: [":                                  "m.yaml:1:1: did not find expected node content",
		"- 1":                                   "m.yaml:1:1: this must be keys with values (known here: model, of, labels, zone, calendar, params, stages, define, decide, tests)",
		"model: \xff":                           "m.yaml: the file is not valid UTF-8",
		"model: m\nof: &x customer\nlabels: *x": "m.yaml:3:9: aliases (*x) are not read (write out what it stands for)",
		"decide:\n  - {stage: a, when: count(\"a\", days(9)) > \"x\": b}": "m.yaml:2:5: decide[0]: YAML cuts the condition at its first comma (write when: on a line of its own, not inside { })",
	} {
		_, err := Compile("m.yaml", []byte(text), Env{})
		p := Problems(err)
		if !slices.ContainsFunc(p, func(p *Problem) bool { return p.Error() == want }) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestConditionErrors(t *testing.T) {
	m := compile(t, `
model: m
stages: [{name: rich}, {name: poor}]
decide:
  - stage: rich
    when: any("order.paid", .amount >= eur(5))
  - otherwise: poor
`, Env{})
	usd, _ := hub.ParseMoney("9", "USD")
	ev := paid(1)
	ev.Properties = map[string]any{"amount": usd}
	f := facts(t, ev)
	st, errs := m.Decide(f, nil, m.Initial(day(0)), day(1))
	if st.Stage != "poor" || len(errs) != 1 || errs[0].Error() != "model m: decide[0] (6:37): 9 USD and 5 EUR have different currencies" {
		t.Errorf("%+v %v", st, errs)
	}
	e := m.Explain(f, nil, st, day(1))
	if e.Rules[0].Error == nil || e.Rules[0].Result != nil {
		t.Errorf("%+v", e.Rules[0])
	}
}

func TestExplain(t *testing.T) {
	m := clc(t)
	f := facts(t, paid(0), paid(10))
	st, _ := m.Decide(f, nil, m.Initial(day(0)), day(10))
	e := m.Explain(f, nil, st, day(20))
	if e.Stage != "active" || len(e.Rules) != 5 || !e.Rules[2].Reached || e.Rules[3].Reached || e.Rules[4].Reached {
		t.Fatalf("%+v", e)
	}
	if e.Next.At == nil || !e.Next.At.Equal(day(190)) || *e.Next.To != "lost" {
		t.Errorf("next %+v", e.Next)
	}
	loyal := e.Rules[1].Clauses[0]
	if loyal.Op != "and" || len(loyal.Clauses) != 2 {
		t.Fatalf("%+v", loyal)
	}
	left, right := loyal.Clauses[0], loyal.Clauses[1]
	if left.Text != `count("order.paid", days(365)) >= params.loyal_orders` || left.Value != "2" || *left.Result || left.FlipsAt != nil || left.Column != 11 {
		t.Errorf("%+v", left)
	}
	if d := cmp.Diff([]FactExplanation{{Name: "order.paid within 365 days", Value: "2", EventIDs: []string{"evt_1", "evt_0"}}}, left.Facts); d != "" {
		t.Error(d)
	}
	if right.Text != "(nps() ?? 10) >= 7" || right.Value != "10" || !*right.Result {
		t.Errorf("%+v", right)
	}
	regular := e.Rules[2].Clauses[0]
	if regular.Text != "regular" || len(regular.Clauses) != 1 || regular.Clauses[0].Value != "2" {
		t.Errorf("%+v", regular)
	}
	if why := m.Why(f, nil, st, 2, day(20)); why != "Active customer: 2 order.paid, at least 2 needed." {
		t.Error(why)
	}
}

func TestReadsAndHash(t *testing.T) {
	m := clc(t)
	for _, k := range []string{"order.paid", "order.refunded", "survey.answered"} {
		if !m.Touches(&hub.Event{Kind: k}) {
			t.Errorf("clc does not read %s", k)
		}
	}
	if m.Touches(&hub.Event{Kind: "page.viewed", Traits: []hub.Trait{{Name: "x"}}}) {
		t.Error("clc reads traits or pages")
	}
	text, _ := os.ReadFile("../../rules/clc.yaml")
	other, err := Compile("clc.yaml", text, Env{Params: map[string]string{"lost_after": "60d"}})
	if err != nil {
		t.Fatal(err)
	}
	if other.Hash == m.Hash {
		t.Error("a parameter does not change the hash")
	}
	st, _ := other.Decide(facts(t, paid(0)), nil, other.Initial(day(0)), day(0))
	if !st.WakesAt.Equal(day(60)) {
		t.Errorf("the parameter is not overridden: %+v", st)
	}
}

func TestFailingTestsSaySo(t *testing.T) {
	text, _ := os.ReadFile("../../rules/clc.yaml")
	broken := strings.Replace(string(text), "stage: lost}", "stage: new}", 1)
	m, err := Compile("clc.yaml", []byte(broken), Env{})
	if err != nil {
		t.Fatal(err)
	}
	var failures []string
	for _, r := range RunTests(m) {
		failures = append(failures, r.Failures...)
	}
	if len(failures) != 1 || !strings.Contains(failures[0], "the stage is lost, expected new (Lost customer: last order.paid 180 days ago (2026-01-01), at least 180 days needed.)") {
		t.Errorf("%q", failures)
	}
}

func TestLocateInEveryStyle(t *testing.T) {
	for _, text := range []string{
		"when: a and X",
		"when: 'it''s a and X'",
		`when: "a \"b\" \u00e9 \x41 and X"`,
		"when: |\n  a\n\n    b and\n  X",
		"when: >-\n  a\n  b and\n  X",
		"when: a\n  b and\n   X",
		"when: \"a\n  b and\n   X\"",
	} {
		s, root := open("f", []byte(text))
		if root == nil {
			t.Fatal(s.problems[0])
		}
		value := root.Content[1]
		offset := len([]rune(value.Value[:strings.Index(value.Value, "X")]))
		line, column := s.locate(value, offset)
		if got := []rune(s.lines[line-1]); column > len(got) || got[column-1] != 'X' {
			t.Errorf("%q: %d:%d", text, line, column)
		}
	}
}

func FuzzModel(f *testing.F) {
	text, err := os.ReadFile("../../rules/clc.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("model: m\nstages: [{name: a}]\ndecide:\n  - stage: a\n    when: >\n     ever(\"any\")\n  - otherwise: stay\n"))
	f.Add([]byte("reactions:\n  - name: n\n    enter: clc.lost\n    do:\n      - create_note: {via: crm, text: \"${stage}\"}\n"))
	models := map[string]*Model{"clc": clc(f)}
	can := map[string]func(string) bool{"crm": func(string) bool { return true }}
	f.Fuzz(func(t *testing.T, text []byte) {
		if m, err := Compile("f.yaml", text, Env{}); err == nil {
			st := m.Initial(day(0))
			if m.Stage(st.Stage) == nil {
				t.Fatalf("initial stage %q", st.Stage)
			}
			fs := facts(t, paid(0), paid(9))
			m.Advance(fs, nil, st, day(400), 50)
			m.Explain(fs, nil, st, day(10))
		} else if len(Problems(err)) == 0 {
			t.Fatalf("an error without problems: %v", err)
		}
		if list, err := CompileReactions("f.yaml", text, ReactionEnv{Models: models, Connections: can}); err == nil {
			for _, r := range list {
				_, _, _ = r.Actions(facts(t, paid(0)), nil, "why", day(1))
			}
		}
	})
}

// BenchmarkDecide is one decision of clc with the facts at hand: a customer of 20 events.
func BenchmarkDecide(b *testing.B) {
	m := clc(b)
	var events []hub.Event
	for i := range 20 {
		events = append(events, hub.Event{
			Kind: []string{"order.paid", "page.viewed", "survey.answered"}[i%3], OccurredAt: day(i * 9),
			Properties: map[string]any{"metric": "nps", "score": 9.0, "id": fmt.Sprint(i)},
		})
	}
	f := facts(b, events...)
	st := m.Initial(day(0))
	b.ReportAllocs()
	for b.Loop() {
		if next, _ := m.Decide(f, nil, st, day(180)); next.Stage != "loyal" {
			b.Fatal(next)
		}
	}
}
