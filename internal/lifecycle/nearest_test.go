package lifecycle

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
)

// maker draws models and customers.
type maker struct{ *rand.Rand }

func (g maker) pick(of ...string) string { return of[g.IntN(len(of))] }

func (g maker) kind() string {
	return g.pick(`"order.paid"`, `"order.paid"`, `"ticket.opened"`, `"page.viewed"`, `"service"`, `"any"`, `"survey.answered"`)
}

func (g maker) span() string {
	return g.pick("days(1)", "days(7)", "days(30)", "days(90)", "hours(36)", "months(3)", "params.w")
}

func (g maker) op() string    { return g.pick("<", "<", "<=", ">", ">", ">=", ">=", ">=", "==", "!=") }
func (g maker) n() string     { return g.pick("0", "1", "2", "3", "1.5") }
func (g maker) money() string { return g.pick("0", "20", "55.50", "120") }

func (g maker) leaf() string {
	switch g.IntN(26) {
	case 0, 1:
		return fmt.Sprintf("since(%s) %s %s", g.kind(), g.op(), g.span())
	case 2, 3:
		return fmt.Sprintf("count(%s, %s) %s %s", g.kind(), g.span(), g.op(), g.n())
	case 4:
		return fmt.Sprintf("%s %s count(%s)", g.n(), g.op(), g.kind())
	case 5:
		return fmt.Sprintf(`count("order.paid", .amount %s eur(%s)) %s %s`, g.op(), g.money(), g.op(), g.n())
	case 6:
		return fmt.Sprintf("%s(%s)", g.pick("ever", "never"), g.kind())
	case 7:
		return fmt.Sprintf("%s(%s, %s)", g.pick("ever", "never", "within"), g.kind(), g.span())
	case 8:
		return fmt.Sprintf("since(%s) %s 2 * usual_gap(%s)", g.kind(), g.op(), g.kind())
	case 9:
		return fmt.Sprintf("last(%s).age %s %s", g.kind(), g.op(), g.span())
	case 10:
		return fmt.Sprintf("(trend(%s, %s) ?? 1) %s %s", g.kind(), g.span(), g.op(), g.n())
	case 11, 12:
		return fmt.Sprintf(`spent("EUR"%s) %s eur(%s)`, g.pick("", ", "+g.span()), g.op(), g.money())
	case 13:
		return fmt.Sprintf("any(tickets, .open and .open_for %s %s)", g.op(), g.span())
	case 14:
		return fmt.Sprintf(`any(tickets, .open and .type == %s)`, g.pick(`"complaint"`, `"question"`))
	case 15, 16:
		return fmt.Sprintf("(%s(%s) ?? 5) %s %s", g.pick("nps", "nps", "csat"), g.pick("", g.span()), g.op(), g.pick("3", "5", "7", "9"))
	case 17:
		return fmt.Sprintf(`stages.other == %s`, g.pick(`"x"`, `"y"`))
	case 18:
		return fmt.Sprintf(`(customer.country ?? "") %s`, g.pick(`== "DE"`, `!= "DE"`, `in ["DE", "AT"]`))
	case 19:
		return fmt.Sprintf(`(fields.seats ?? 0) %s 10`, g.op())
	case 20:
		return fmt.Sprintf(`(customer.consent.email ?? "") %s "granted"`, g.pick("==", "!="))
	case 21:
		return `"vip" in customer.tags`
	case 22:
		return fmt.Sprintf(`count(orders, .refunded) %s %s`, g.op(), g.n())
	case 23:
		return fmt.Sprintf(`sum("points.changed", .points) %s 10`, g.op())
	case 24:
		return g.pick(`wechat.following`, `reachable("wechat")`, `none(customer.referred, .stages.other == "y")`, `hour() >= 12`, `count(customer.tags) == 1`)
	}
	return "regular"
}

func (g maker) condition(depth int) string {
	if depth > 0 {
		switch g.IntN(5) {
		case 0, 1:
			return g.condition(depth-1) + " and " + g.condition(depth-1)
		case 2:
			return "(" + g.condition(depth-1) + " or " + g.condition(depth-1) + ")"
		case 3:
			return "not (" + g.condition(depth-1) + ")"
		}
	}
	return g.leaf()
}

func (g maker) model() string {
	stages := []string{"a", "b", "c", "d"}[:2+g.IntN(3)]
	var b strings.Builder
	b.WriteString("model: m\nparams: {w: 45d}\nstages:\n")
	for _, stage := range stages {
		b.WriteString("  - {name: " + stage)
		if g.IntN(8) == 0 {
			b.WriteString(", dwell: 5d")
		}
		b.WriteString("}\n")
	}
	fmt.Fprintf(&b, "define:\n  regular: %s\ndecide:\n", `count("order.paid", days(60)) >= 2 or since("ticket.opened") < days(14)`)
	for i := range 1 + g.IntN(4) {
		stage := stages[(i+1)%len(stages)]
		if g.IntN(4) == 0 {
			stage = g.pick(stages...)
		}
		fmt.Fprintf(&b, "  - stage: %s\n", stage)
		if g.IntN(8) == 0 {
			fmt.Fprintf(&b, "    from: [%s, %s]\n", stages[0], g.pick(stages...))
		}
		if g.IntN(8) == 0 {
			fmt.Fprintf(&b, "    %s: %s\n", g.pick("after", "cooldown"), g.pick("1d", "10d", "30d"))
		}
		fmt.Fprintf(&b, "    when: |\n      %s\n", g.condition(2))
	}
	fmt.Fprintf(&b, "  - otherwise: %s\n", g.pick(stages[0], stages[0], stages[1], "stay"))
	return b.String()
}

func (g maker) events() []hub.Event {
	var out []hub.Event
	for i := range g.IntN(9) {
		ev := hub.Event{
			ID: fmt.Sprint(i), Connection: g.pick("shop", "crm"),
			Kind:       g.pick("order.paid", "order.paid", "order.paid", "ticket.opened", "ticket.solved", "page.viewed", "survey.answered", "order.refunded", "points.changed", "tag.added", "consent.changed", "customer.updated"),
			OccurredAt: start.Add(time.Duration(g.IntN(200*24)) * time.Hour),
			Properties: map[string]any{
				"id": g.pick("1", "2", "3", "4"), "metric": g.pick("nps", "csat"), "score": float64(g.IntN(6)), "points": float64(g.IntN(9)), "type": "complaint",
				"tags": []string{g.pick("vip", "old")}, "channel": "email", "state": g.pick("granted", "withdrawn"),
			},
		}
		currency := "EUR"
		if g.IntN(10) == 0 {
			currency = "USD" // comparing it with euros fails at run time
		}
		amount, _ := hub.ParseMoney(g.pick("10", "49.90", "60"), currency)
		ev.Properties["amount"] = amount
		if ev.Kind == "order.refunded" {
			delete(ev.Properties, "amount")
		}
		if ev.Kind == "customer.updated" {
			ev.Traits = []hub.Trait{{Name: "country", Value: g.pick("DE", "FR")}, {Name: "seats", Value: float64(g.IntN(20))}}
		}
		out = append(out, ev)
	}
	slices.SortStableFunc(out, func(a, b hub.Event) int { return a.OccurredAt.Compare(b.OccurredAt) })
	return out
}

// player is a subject that events happen to: what the pipeline does, in short.
type player struct {
	m       *Model
	stages  map[string]string
	profile fact.Profile
	st      State
	moves   []Move
}

func (p *player) wait(until time.Time) {
	var steps []Step
	steps, p.st, _ = p.m.Advance(fact.Union(&p.profile), p.stages, p.st, until, 1000)
	for _, step := range steps {
		p.moves = append(p.moves, Move{Model: p.m.Name, From: step.From, To: step.To, At: step.At, By: hub.ByRule})
	}
}

func (p *player) happens(events ...hub.Event) {
	for i := range events {
		p.wait(events[i].OccurredAt.Add(-hub.Resolution))
		p.profile.Put(&events[i])
		from := p.st.Stage
		if p.st, _ = p.m.Decide(fact.Union(&p.profile), p.stages, p.st, events[i].OccurredAt); p.st.Stage != from {
			p.moves = append(p.moves, Move{Model: p.m.Name, From: from, To: p.st.Stage, At: events[i].OccurredAt, By: hub.ByRule})
		}
	}
}

// For random models and customers every clause of an explanation has the value that evaluating its text gives, and every
// nearest change, played on a copy of the customer, leads to the stage it names.
func TestExplanationsAreTrue(t *testing.T) {
	seed := uint64(20260301)
	if text := os.Getenv("STAGEWIRE_TEST_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	t.Logf("seed %d (STAGEWIRE_TEST_SEED)", seed)
	clauses, changes, before, later, withNone, failing := 0, 0, 0, 0, 0, 0
	for n := range 1000 {
		g := maker{rand.New(rand.NewPCG(seed, uint64(n)))}
		text := g.model()
		m, err := Compile("m.yaml", []byte(text), Env{
			Models: []string{"other"}, Stages: map[string][]string{"other": {"x", "y", "z"}}, Fields: map[string]hub.PropertyType{"seats": hub.Number},
		})
		if err != nil {
			t.Fatalf("model %d: %v\n%s", n, err, text)
		}
		events := g.events()
		customer := func() *player {
			p := &player{m: m, stages: map[string]string{"other": "x"}}
			p.st = m.Initial(start.Add(-hub.Resolution))
			p.happens(events...)
			return p
		}
		at := start.Add(time.Duration(200*24+g.IntN(15*24)) * time.Hour)
		p := customer()
		p.wait(at)
		f := fact.Union(&p.profile)
		e := m.Explain(f, p.stages, p.st, at)
		fail := func(format string, args ...any) {
			t.Helper()
			var b strings.Builder
			for _, ev := range f.Entries() {
				fmt.Fprintf(&b, "%s %s %s %v\n", ev.At().Format(time.RFC3339), ev.Kind, ev.Connection, ev.Properties())
			}
			t.Fatalf("seed %d, model %d at %s, in %s: %s\n%s\n%s", seed, n, at.Format(time.RFC3339), p.st.Stage, fmt.Sprintf(format, args...), text, b.String())
		}

		one := decision{m: m, facts: f, stages: p.stages, at: millis(at)}
		one.mem, _ = m.recall(p.st.Path)
		now, _ := one.decide(p.st)
		if dwells := m.Stage(p.st.Stage).Dwell > 0; !dwells {
			for i, rule := range e.Rules {
				if rule.Won != (i == now.Rule) {
					fail("rule %d: reached %v, result %v, won %v; the evaluator chose %d", i, rule.Reached, rule.Result, rule.Won, now.Rule)
				}
			}
		}
		in := expression.Input{Facts: f, At: at, Stages: p.stages, Stage: p.st.Stage, Since: p.st.Since}
		for _, rule := range e.Rules {
			if rule.Error != nil {
				failing++
			}
			if len(rule.Clauses) == 1 && rule.Clauses[0].Error == nil && rule.Error == nil && *rule.Clauses[0].Result != *rule.Result {
				fail("rule %q is %v, its clause %v", rule.When, *rule.Result, *rule.Clauses[0].Result)
			}
			checkClauses(m, in, rule.Clauses, func() { clauses++ }, fail)
		}

		// What is gathered from the recorded moves says the same as what was remembered.
		begin := m.Initial(start.Add(-hub.Resolution))
		again, stages := m.Recollect(begin, p.stages, p.moves)
		if again.Stage != p.st.Stage || !again.Since.Equal(p.st.Since) || stages["other"] != "x" {
			fail("recollected %+v %v from %+v", again, stages, p.moves)
		}
		if d := cmp.Diff(m.Waiting(f, p.stages, p.st, at), m.Waiting(f, p.stages, again, at)); d != "" {
			fail("recollected from %+v: %s", p.moves, d)
		}

		decided, _ := m.Decide(f, p.stages, p.st, at) // in a model that goes round in circles another stage than the one kept
		if len(e.Nearest) == 0 {
			withNone++
			for _, kind := range []string{"order.paid", "ticket.opened", "page.viewed", "survey.answered", "customer.updated", "points.changed", "tag.added"} {
				ev := hub.Event{ID: "more", Kind: kind, Connection: "shop", OccurredAt: at, Properties: map[string]any{
					"id": "9", "metric": "nps", "score": float64(g.IntN(11)), "points": 11.0, "tags": []string{"vip"}, "type": "complaint",
				}, Traits: []hub.Trait{{Name: "seats", Value: 11.0, At: at}}}
				q := customer()
				q.wait(at)
				if q.happens(ev); len(events) > 0 && q.st.Stage != p.st.Stage && decided.Stage == p.st.Stage {
					fail("nothing is near, yet %s leads to %s", kind, q.st.Stage)
				}
			}
		}
		for _, near := range e.Nearest {
			changes++
			if near.To == decided.Stage {
				fail("%q leads nowhere", near.Change)
			}
			played := func(shift time.Duration) *player {
				q := customer()
				q.wait(at)
				q.st, _ = m.Decide(fact.Union(&q.profile), q.stages, q.st, at)
				if shift > 0 {
					q.wait(at.Add(shift - hub.Resolution))
				}
				maps.Copy(q.stages, near.Stages)
				for _, ev := range near.Events {
					ev.OccurredAt = ev.OccurredAt.Add(shift)
					for i := range ev.Traits {
						ev.Traits[i].At = ev.OccurredAt
					}
					q.happens(ev)
				}
				if len(near.Events) == 0 && len(near.Stages) > 0 {
					q.st, _ = m.Decide(fact.Union(&q.profile), q.stages, q.st, at.Add(shift))
				}
				q.wait(near.At.Add(shift))
				return q
			}
			if q := played(0); q.st.Stage != near.To {
				fail("%q (at %s) leads to %s, not to %s", near.Change, near.At, q.st.Stage, near.To)
			}
			if near.At.After(at) {
				later++
			}
			if near.Before != nil {
				before++
				if !strings.HasSuffix(near.Change, " before "+near.Before.Format(time.RFC3339Nano)) {
					fail("%q does not say %s", near.Change, near.Before)
				}
				if q := played(near.Before.Sub(at) - hub.Resolution); q.st.Stage != near.To {
					fail("%q just before leads to %s", near.Change, q.st.Stage)
				}
				if q := played(near.Before.Sub(at)); q.st.Stage == near.To {
					fail("%q holds at that instant too", near.Change)
				}
			}
		}
	}
	t.Logf("%d clauses, %d nearest changes (%d with an end, %d with silence), %d customers without, %d conditions failed at run time", clauses, changes, before, later, withNone, failing)
	if clauses < 3000 || changes < 1000 || before < 20 || later < 100 || withNone > 350 || failing == 0 {
		t.Error("the generator or the search is broken")
	}
}

// checkClauses compares each clause with its text, compiled and evaluated by itself.
func checkClauses(m *Model, in expression.Input, list []ClauseExplanation, count func(), fail func(string, ...any)) {
	ask := func(p *expression.Program, at time.Time) (bool, error) {
		in := in
		in.At = at
		s := expression.Begin(in)
		defer s.End()
		return s.Bool(p)
	}
	for _, c := range list {
		count()
		p, problems := expression.Compile(c.Text, m.env)
		if problems != nil {
			fail("clause %q does not compile: %v", c.Text, problems)
		}
		truth, err := ask(p, in.At)
		if (err != nil) != (c.Error != nil) || (c.Result == nil) != (err != nil) || err == nil && truth != *c.Result {
			fail("clause %q: explained %v %v, evaluated %v %v", c.Text, c.Result, c.Error, truth, err)
		}
		if p != nil && c.Op == "" && c.Value != "" && c.Error == nil {
			checkValue(m, in, p.Clauses()[0], c.Value, fail)
		}
		if c.FlipsAt != nil {
			just, _ := ask(p, c.FlipsAt.Add(-hub.Resolution))
			then, thenErr := ask(p, *c.FlipsAt)
			if just != truth || then == truth && (thenErr == nil) == (err == nil) {
				fail("clause %q is %v and flips at %s: before %v, then %v", c.Text, truth, c.FlipsAt, just, then)
			}
		}
		if c.Op != "" && c.Error == nil {
			got := c.Op == "and"
			known := true
			for _, part := range c.Clauses {
				if known = known && part.Result != nil; !known {
					break
				}
				switch c.Op {
				case "and":
					got = got && *part.Result
				case "or":
					got = got || *part.Result
				default:
					got = !*part.Result
				}
			}
			if known && got != *c.Result {
				fail("%q is %v, its parts say %v", c.Text, *c.Result, got)
			}
		}
		checkClauses(m, in, c.Clauses, count, fail)
	}
}

// checkValue compares what a clause is told to have found with one of its sides, evaluated by itself.
func checkValue(m *Model, in expression.Input, c *expression.Clause, value string, fail func(string, ...any)) {
	var got []string
	for _, side := range []string{c.Left, c.Right} {
		p, problems := expression.CompileValue(side, m.env)
		if problems != nil || side == "" {
			continue
		}
		s := expression.Begin(in)
		got = append(got, s.Describe(p))
		s.End()
	}
	if len(got) > 0 && !slices.Contains(got, value) {
		fail("clause %q found %q, its sides are %q", c.Text, value, got)
	}
}

// Whatever the language can say is explained and told without going astray.
func TestEveryFunctionIsExplained(t *testing.T) {
	events := maker{rand.New(rand.NewPCG(1, 2))}.events()
	var p fact.Profile
	for i := range events {
		p.Put(&events[i])
	}
	f := fact.Union(&p)
	said := 0
	for _, fn := range expression.Functions() {
		for _, when := range []string{fn.Example, "not (" + fn.Example + ")", "ever(\"order.paid\") and (" + fn.Example + ")"} {
			m, err := Compile("m.yaml", fmt.Appendf(nil, "model: m\nstages: [{name: a}, {name: b}]\ndecide:\n  - stage: a\n    when: |\n      %s\n  - otherwise: b\n", when), Env{})
			if err != nil {
				continue // an example of a value, or one that wants a calendar
			}
			st, _ := m.Decide(f, nil, m.Initial(day(0)), day(220))
			e := m.Explain(f, nil, st, day(220))
			if e.Why == "" || !strings.HasSuffix(e.Why, ".") || strings.Contains(e.Why, "%!") || e.Stage != st.Stage {
				t.Errorf("%s: %+v", when, e)
			}
			for _, n := range e.Nearest {
				if n.Change == "" || n.To == st.Stage {
					t.Errorf("%s: %+v", when, n)
				}
			}
			said++
		}
	}
	if said < 60 {
		t.Errorf("only %d examples compile as conditions", said)
	}
}
