package lifecycle

import (
	"fmt"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/hub"
)

// Each sentence names what was found and what was needed, in words.
func TestWhy(t *testing.T) {
	amount, _ := hub.ParseMoney("60.00", "EUR")
	f := facts(t,
		hub.Event{Kind: "order.paid", OccurredAt: day(0), Properties: map[string]any{"amount": amount, "id": "1"}},
		hub.Event{Kind: "order.paid", OccurredAt: day(20), Properties: map[string]any{"amount": amount, "id": "2"}},
		hub.Event{Kind: "ticket.opened", OccurredAt: day(25), Properties: map[string]any{"id": "t1", "type": "complaint"}},
		hub.Event{Kind: "survey.answered", OccurredAt: day(26), Properties: map[string]any{"metric": "nps", "score": 9.0}},
		hub.Event{
			Kind: "customer.updated", OccurredAt: day(27),
			Traits: []hub.Trait{{Name: "country", Value: "DE"}, {Name: "plan", Value: "pro"}, {Name: "seats", Value: 12.0}},
		},
		hub.Event{Kind: "consent.changed", OccurredAt: day(28), Properties: map[string]any{"channel": "email", "state": "granted"}},
	)
	st := State{Stage: "b", Since: day(10)}
	for when, want := range map[string]string{
		`since("order.paid") >= days(10)`:                              "last order.paid 10 days ago (2026-01-21), at least 10 days needed",
		`days(10) <= since("order.paid")`:                              "last order.paid 10 days ago (2026-01-21), at least 10 days needed",
		`not (since("order.paid") > days(90))`:                         "last order.paid 10 days ago (2026-01-21), at most 90 days needed",
		`not (since("call.completed") > days(90))`:                     "no call.completed so far",
		`last("order.paid").age < days(30)`:                            "last order.paid 10 days ago (2026-01-21), less than 30 days needed",
		`count("order.paid") >= 2`:                                     "2 order.paid, at least 2 needed",
		`often`:                                                        "2 order.paid within 60 days, at least 2 needed",
		`2 <= count("order.paid", days(60))`:                           "2 order.paid within 60 days, at least 2 needed",
		`count("service") > 0 and (nps() ?? 10) >= 7`:                  "1 service event, more than 0 needed; NPS 9, at least 7 needed",
		`(csat() ?? 5) >= 4`:                                           "no CSAT given, which counts as 5, at least 4 needed",
		`spent("EUR") >= eur(100)`:                                     "120.00 EUR spent, at least 100 EUR needed",
		`spent("EUR", days(15)) < eur(100)`:                            "60.00 EUR spent within 15 days, less than 100 EUR needed",
		`ever("order.paid")`:                                           "last order.paid 10 days ago (2026-01-21)",
		`never("call.completed")`:                                      "no call.completed so far",
		`within("attention", days(30)) or within("service", days(30))`: "last service event 5 days ago (2026-01-26), within 30 days",
		`never("order.paid", days(5))`:                                 "no order.paid within 5 days, the last 10 days ago (2026-01-21)",
		`not within("order.paid", days(5))`:                            "no order.paid within 5 days, the last 10 days ago (2026-01-21)",
		`any(tickets, .open and .type == "complaint")`:                 `any(tickets, .open and .type == "complaint") (1 of 1 tickets)`,
		`(customer.country ?? "") == "DE"`:                             "country is DE",
		`(customer.country ?? "") in ["DE", "AT"]`:                     "country is DE",
		`(customer.language ?? "") != "de"`:                            "language is not known, which counts as empty, other than de needed",
		`(fields.seats ?? 0) >= 10`:                                    "seats is 12, at least 10 needed",
		`(customer.consent.email ?? "") == "granted"`:                  "consent for email is granted",
		`stages.clc == "loyal"`:                                        "stage in clc is loyal",
		`stage_age >= days(20)`:                                        "stage entered 20 days ago (2026-01-11), at least 20 days needed",
		`usual_gap("order.paid") == days(20)`:                          "usual gap between order.paid 20 days",
		`since(date("2026-01-11")) >= days(1)`:                         `since(date("2026-01-11")) 20 days ago (2026-01-11), at least 1 day needed`,
		`count("order.paid", .amount >= eur(50)) >= 2`:                 `count("order.paid", .amount >= eur(50)) is 2, at least 2 needed`,
		`sum("order.paid", .amount) > eur(100)`:                        `sum("order.paid", .amount) is 120.00 EUR, more than 100 EUR needed`,
		`not (count("order.paid") > 5 or ever("call.completed"))`:      "2 order.paid, at most 5 needed; no call.completed so far",
		`not (ever("call.completed") and count("order.paid") == 2)`:    "no call.completed so far",
		`(trend("order.paid", days(16)) ?? 0) < 2`:                     `trend("order.paid", days(16)) is 1, less than 2 needed`,
		"count(\n \"order.paid\"\n) * 2 == 4":                          `count( "order.paid" ) * 2 is 4`,
	} {
		t.Run(when, func(t *testing.T) {
			m := compile(t, fmt.Sprintf("model: m\nstages: [{name: a, labels: {en: First, de: Erste}}, {name: b}]\n"+
				"define:\n  often: count(\"order.paid\", days(60)) >= 2\ndecide:\n  - stage: a\n    when: %q\n  - otherwise: b\n", when),
				Env{Models: []string{"clc"}, Stages: map[string][]string{"clc": {"loyal", "lost"}}, Fields: map[string]hub.PropertyType{"seats": hub.Number}})
			next, errs := m.Decide(f, map[string]string{"clc": "loyal"}, st, day(30))
			if next.Stage != "a" || errs != nil {
				t.Fatalf("does not hold: %+v %v", next, errs)
			}
			if why := m.Why(f, map[string]string{"clc": "loyal"}, st, next.Rule, day(30)); why != "First: "+want+"." {
				t.Errorf("%s\nwant First: %s.", why, want)
			}
		})
	}
	m := compile(t, "model: m\nstages: [{name: a}, {name: b}]\ndecide:\n  - stage: a\n    from: b\n    when: ever(\"order.paid\")\n  - otherwise: stay\n", Env{})
	for rule, want := range map[int]string{
		-1: "Set by hand.",
		0:  "a: last order.paid 10 days ago (2026-01-21); coming from b.",
		1:  "b: no rule holds, so the stage stays as it was.",
	} {
		if why := m.Why(f, nil, st, rule, day(30)); why != want {
			t.Errorf("rule %d: %s", rule, why)
		}
	}
}

// What a clause of the shipped model looks at is found in its text.
func TestLooks(t *testing.T) {
	p, problems := expression.Compile(`count("order.paid", .amount >= eur(50) and .connection == "shop") >= 2 and any(tickets, .open and not .solved and .type in ["complaint", "return"])
		and within("service", days(30)) and (nps(days(90)) ?? 5) >= 7 and spent("EUR", days(10)) > eur(9)`, &expression.Env{})
	if problems != nil {
		t.Fatal(problems)
	}
	var got []string
	for _, c := range p.Clauses()[0].Clauses {
		l := c.Looks()
		for _, list := range l.Lists {
			got = append(got, fmt.Sprintf("%s %s %v %v", list.Name, list.Object, list.Window, list.Predicate))
		}
		for _, v := range l.Compared {
			got = append(got, fmt.Sprintf("%s %s %s %v", v.Of, v.Name, v.Op, v.Value))
		}
		for _, w := range append(l.Surveys, l.Spent...) {
			got = append(got, fmt.Sprintf("%s %v", w.Name, int(w.Window/24/time.Hour)))
		}
	}
	want := []string{
		"order.paid  0s true", "field amount >= 50 EUR", "field connection == shop", "count  >= 2",
		"tickets ticket 0s true", "field type in complaint", "field type in return", "field open is true", "field solved is true",
		"service  720h0m0s false",
		"survey nps >= 7", "nps 90",
		"spent EUR > 9 EUR", "EUR 10",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%q\nwant\n%q", got, want)
	}
}

// While a person's decision holds, only its end moves the customer, and the rules are told without counting.
func TestExplainPinned(t *testing.T) {
	m := clc(t)
	f := facts(t, paid(0), paid(10))
	st := State{Stage: "loyal", Since: day(12), By: hub.ByPin, Rule: -1, WakesAt: day(40)}
	e := m.Explain(f, nil, st, day(20))
	if e.Why != "Loyal customer: set by a person until 2026-02-10." || e.Next.At == nil || !e.Next.At.Equal(day(40)) || *e.Next.To != "active" {
		t.Errorf("%s %+v", e.Why, e.Next)
	}
	if len(e.Nearest) != 1 || e.Nearest[0].Change != "the pin is released" || e.Nearest[0].To != "active" || !e.Nearest[0].Release {
		t.Errorf("%+v", e.Nearest)
	}
	st.WakesAt = time.Time{}
	if e = m.Explain(f, nil, st, day(20)); e.Why != "Loyal customer: set by a person." || e.Next.At != nil {
		t.Errorf("%s %+v", e.Why, e.Next)
	}
}

// Dwell, after and cooldown are told where they keep a rule that holds from deciding.
func TestExplainPathOptions(t *testing.T) {
	m := compile(t, `
model: m
stages: [{name: calm, labels: {en: Calm}}, {name: upset, dwell: 10d, yields_to: [gone]}, {name: worse}, {name: gone, terminal: true}]
decide:
  - stage: gone
    when: ever("customer.deleted")
  - stage: worse
    after: 3d
    when: any(tickets, .open and .type == "complaint")
  - stage: upset
    when: any(tickets, .open)
  - stage: worse
    from: [gone]
    when: ever("order.paid")
  - otherwise: calm
`, Env{})
	ticket := func(kind string, n int) hub.Event {
		return hub.Event{Kind: kind, OccurredAt: day(n), Properties: map[string]any{"id": "1", "type": "complaint"}}
	}
	f := facts(t, ticket("ticket.opened", 1))
	st := State{Stage: "calm", Since: day(0)}
	e := m.Explain(f, nil, st, day(2))
	if w := e.Rules[1].Waits; w == nil || w.Option != "after" || !w.Until.Equal(day(4)) || e.Rules[1].Won || !e.Rules[2].Won {
		t.Errorf("%+v", e.Rules)
	}
	if len(e.Path) == 0 || e.Rules[3].Closed != "" || e.Rules[3].Reached { // a line above decides
		t.Errorf("%+v", e.Rules[3])
	}
	f = facts(t, ticket("ticket.opened", 1), ticket("ticket.solved", 2))
	st = State{Stage: "upset", Since: day(1)}
	e = m.Explain(f, nil, st, day(3))
	if e.Held == nil || e.Held.To != "calm" || !e.Held.Until.Equal(day(11)) || e.Why != "upset: held by its dwell until 2026-01-12; then Calm: no other rule holds." {
		t.Errorf("%+v %s", e.Held, e.Why)
	}
	if e.Rules[3].Closed != "only from gone" {
		t.Errorf("%+v", e.Rules[3])
	}
	e = m.Explain(f, nil, State{Stage: "gone", Since: day(2)}, day(3))
	if e.Rules[0].Closed != "the present stage is terminal" || e.Why != "gone: the stage is terminal, and no rule leads out of it." {
		t.Errorf("%+v %s", e.Rules[0], e.Why)
	}
	var out []string
	for _, n := range e.Nearest {
		out = append(out, n.Change+" → "+n.To)
	}
	// worse is not asked again from worse, so that the customer goes on to calm in the same go.
	if fmt.Sprint(out) != "[a first order.paid → calm]" {
		t.Errorf("%q", out)
	}
}
