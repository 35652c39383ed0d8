package expression

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// grammar draws conditions. Spans come from a short list so that boundaries fall together often.
type grammar struct{ *rapid.T }

func (g grammar) pick(label string, of ...string) string {
	return rapid.SampledFrom(of).Draw(g.T, label)
}

func (g grammar) kind() string {
	return g.pick("kind", `"order.paid"`, `"ticket.opened"`, `"page.viewed"`, `"service"`, `"any"`, `"survey.answered"`)
}

func (g grammar) span() string {
	return g.pick("span", "days(1)", "days(7)", "days(30)", "days(90)", "hours(36)", "months(3)", "weeks(2)", "params.w")
}

func (g grammar) op() string { return g.pick("op", "<", "<=", ">", ">=", "==", "!=") }

func (g grammar) n() string { return g.pick("n", "0", "1", "2", "3", "1.5") }

func (g grammar) predicate() string {
	switch rapid.IntRange(0, 4).Draw(g.T, "predicate") {
	case 0:
		return ".age " + g.op() + " " + g.span()
	case 1:
		return `.age < ` + g.span() + ` and .connection == "shop"`
	case 2:
		return ".at >= date(\"2026-05-01\") or .age > " + g.span()
	case 3:
		return "since(.at) " + g.op() + " " + g.span()
	}
	return `.age >= since("page.viewed")`
}

func (g grammar) leaf() string {
	switch rapid.IntRange(0, 20).Draw(g.T, "leaf") {
	case 0:
		return fmt.Sprintf("since(%s) %s %s", g.kind(), g.op(), g.span())
	case 1:
		return fmt.Sprintf("count(%s, %s) %s %s", g.kind(), g.span(), g.op(), g.n())
	case 2:
		return fmt.Sprintf("%s %s count(%s, %s)", g.n(), g.op(), g.kind(), g.span())
	case 3:
		return fmt.Sprintf("count(%s, %s) %s count(%s, %s) + 1", g.kind(), g.span(), g.op(), g.kind(), g.span())
	case 4:
		return fmt.Sprintf("count(%s, %s) %s %s", g.kind(), g.predicate(), g.op(), g.n())
	case 5:
		return fmt.Sprintf("%s(%s, %s)", g.pick("quantifier", "any", "none", "all", "one"), g.kind(), g.predicate())
	case 6:
		return fmt.Sprintf("%s(%s, %s)", g.pick("presence", "ever", "never", "within"), g.kind(), g.span())
	case 7:
		return fmt.Sprintf("since(%s) %s since(%s)", g.kind(), g.op(), g.kind())
	case 8:
		return fmt.Sprintf("since(%s) %s 2 * usual_gap(%s)", g.kind(), g.op(), g.kind())
	case 9:
		return fmt.Sprintf("%s(%s, %s).age %s %s", g.pick("end", "first", "last"), g.kind(), g.span(), g.op(), g.span())
	case 10:
		return fmt.Sprintf("(trend(%s, %s) ?? 1) %s %s", g.kind(), g.span(), g.op(), g.n())
	case 11:
		return fmt.Sprintf("spent(\"EUR\", %s) %s eur(%s)", g.span(), g.op(), g.n())
	case 12:
		return fmt.Sprintf("sum(events(\"order.paid\", %s), .amount) %s eur(2)", g.span(), g.op())
	case 13:
		return fmt.Sprintf("any(tickets, .open and .open_for %s %s)", g.op(), g.span())
	case 14:
		return fmt.Sprintf("(nps(%s) ?? 5) %s 7", g.span(), g.op())
	case 15:
		return fmt.Sprintf("since(date(\"2026-06-01\")) %s %s", g.op(), g.span())
	case 16:
		return fmt.Sprintf("since(customer.created) %s since(date(\"2026-04-01\"))", g.op())
	case 17:
		return fmt.Sprintf("(score.active ?? 1) %s %s", g.op(), g.pick("p", "0.1", "0.5", "0.9", "1"))
	case 18:
		return fmt.Sprintf("(score.expected_orders ?? 0) %s %s", g.op(), g.pick("orders", "0", "0.5", "1", "2", "4"))
	case 19:
		return fmt.Sprintf("eur(%s) %s (score.value ?? eur(0))", g.pick("value", "0", "1", "3.5"), g.op())
	}
	return "regular"
}

func (g grammar) condition(depth int) string {
	if depth == 0 {
		return g.leaf()
	}
	switch rapid.IntRange(0, 4).Draw(g.T, "shape") {
	case 0:
		return g.condition(depth-1) + " and " + g.condition(depth-1)
	case 1:
		return "(" + g.condition(depth-1) + " or " + g.condition(depth-1) + ")"
	case 2:
		return "not (" + g.condition(depth-1) + ")"
	case 3:
		return "((" + g.leaf() + ") ? (" + g.condition(depth-1) + ") : (" + g.leaf() + "))"
	}
	return g.leaf()
}

func (g grammar) history() *fact.Facts {
	var p fact.Profile
	for i := range rapid.IntRange(0, 10).Draw(g.T, "events") {
		ev := hub.Event{
			ID: fmt.Sprint(i), Kind: g.pick("event", "order.paid", "order.paid", "ticket.opened", "ticket.solved", "page.viewed", "survey.answered", "order.refunded"),
			Connection: g.pick("connection", "shop", "crm"),
			OccurredAt: start.Add(time.Duration(rapid.IntRange(0, 300).Draw(g.T, "day")) * 24 * time.Hour),
			Properties: map[string]any{"id": g.pick("id", "1", "2", "3"), "metric": "nps", "score": float64(rapid.IntRange(0, 10).Draw(g.T, "score"))},
		}
		amount, _ := hub.ParseMoney(g.pick("amount", "1", "2"), "EUR")
		ev.Properties["amount"] = amount
		p.Put(&ev)
	}
	f := fact.Union(&p)
	f.Know(fact.Known{Scores: fitted})
	return f
}

// boundaries returns every instant at which anything about the facts can change by silence alone, and the millisecond
// on both sides.
func boundaries(f *fact.Facts) []time.Time {
	spans := []time.Duration{0}
	for _, s := range []time.Duration{1, 7, 14, 30, 60, 90, 180, 182} {
		spans = append(spans, s*24*time.Hour)
	}
	spans = append(spans, 36*time.Hour, 72*time.Hour, 3*month, 6*month, 45*24*time.Hour, 28*24*time.Hour)
	bases := []time.Time{start}
	for _, e := range f.Entries() {
		bases = append(bases, e.At())
	}
	for _, d := range []string{"2026-04-01", "2026-05-01", "2026-06-01"} {
		t, _ := date(d)
		bases = append(bases, t)
	}
	// Twice the usual gap, of whatever set.
	for _, k := range []string{"order.paid", "ticket.opened", "page.viewed", "service", "any", "survey.answered"} {
		s := set(hub.Catalogue, k)
		s.standing = k == "order.paid"
		session := Begin(Input{Facts: f, At: start})
		if gap := usualGap(session.entries(s)); gap != neverSpan {
			spans = append(spans, 2*gap)
		}
		session.End()
	}
	var out []time.Time
	end := start.AddDate(0, 0, 400)
	for _, b := range bases {
		for _, s := range spans {
			for _, near := range []time.Duration{-time.Millisecond, 0, time.Millisecond} {
				if t := b.Add(s + near); !t.Before(start) && t.Before(end) {
					out = append(out, t)
				}
			}
		}
	}
	slices.SortFunc(out, time.Time.Compare)
	return slices.Compact(out)
}

// TestWakeUpsAgreeWithBruteForce evaluates random conditions over random histories at every instant at which they could
// change, and demands that the result stays until the instant the evaluation before promised.
func TestWakeUpsAgreeWithBruteForce(t *testing.T) {
	w, _ := NewParam("45d")
	env := &Env{Params: map[string]Param{"w": w}}
	regular, problems := Compile(`count("order.paid", days(60)) >= 2 or since("ticket.opened") < days(14)`, env)
	if problems != nil {
		t.Fatal(problems)
	}
	env.Defines = map[string]*Program{"regular": regular}
	flips, wakes := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		g := grammar{t}
		text := g.condition(2)
		p, problems := Compile(text, env)
		if problems != nil {
			t.Fatalf("%s: %+v", text, problems)
		}
		f := g.history()
		eval := func(at time.Time) (bool, time.Time, error) {
			s := Begin(Input{Facts: f, At: at})
			defer s.End()
			b, err := s.Bool(p)
			return b, s.Next(), err
		}
		held, next, failed := eval(start)
		if failed != nil {
			t.Fatalf("%s: %v", text, failed)
		}
		for _, at := range boundaries(f) {
			// Chain the wake-ups up to here.
			for !next.IsZero() && !next.After(at) {
				before := next
				held, next, _ = eval(before)
				wakes++
				if !next.IsZero() && !next.After(before) {
					t.Fatalf("%s: at %s the next wake-up is %s", text, before, next)
				}
			}
			truth, _, err := eval(at)
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			if truth != held {
				t.Fatalf("%s\nat %s it is %v, the wake-ups say %v (next %s)\n%s", text, at, truth, held, next, dump(f))
			}
			if truth {
				flips++
			}
		}
	})
	if flips == 0 {
		t.Error("no condition ever held: the generator is broken")
	}
	t.Logf("%d wake-ups", wakes)
}

func dump(f *fact.Facts) string {
	var b strings.Builder
	for _, e := range f.Entries() {
		fmt.Fprintf(&b, "%s %s %s %v\n", e.At().Format(time.RFC3339), e.Kind, e.Connection, e.Properties())
	}
	return b.String()
}
