package expression

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stagewire/stagewire/internal/fact"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/score"
)

// fitted is a snapshot of scores as a shop might have it.
var fitted = &score.Snapshot{
	Purchases: &score.PurchaseModel{BGNBD: score.BGNBD{R: 0.7, Alpha: 3, A: 0.8, B: 2.4}},
	Values:    map[string]*score.ValueModel{"EUR": {GammaGamma: score.GammaGamma{P: 6, Q: 4, V: 15}}},
	Recency:   score.Fifths{float64(start.UnixMilli()), float64(start.AddDate(0, 0, 10).UnixMilli()), float64(start.AddDate(0, 0, 30).UnixMilli()), float64(start.AddDate(0, 0, 60).UnixMilli())},
	Frequency: score.Fifths{1, 1, 2, 5},
	Monetary:  map[string]score.Fifths{"USD": {1, 2, 3, 4}},
}

// buyer ordered on days 0, 7, 15 and 20, for 40 EUR each.
func buyer(t *testing.T) *fact.Facts {
	t.Helper()
	var events []hub.Event
	for _, d := range []int{0, 7, 15, 20} {
		events = append(events, on(d, "order.paid", map[string]any{"amount": money(t, "40", "EUR")}))
	}
	f := history(events...)
	f.Know(fact.Known{Scores: fitted})
	return f
}

func TestScores(t *testing.T) {
	f := buyer(t) // on day 50
	check(t, f, &Env{}, map[string]bool{
		`(score.active ?? 0) > 0.2 and (score.active ?? 0) < 0.9`:                                    true,
		`score.active != nil and score.active < 0.9 and 0.9 > score.active`:                          true,
		`(score.expected_orders ?? 0) >= 1`:                                                          true,
		`(score.value ?? eur(0)) >= eur(10)`:                                                         true,
		`(score.value ?? usd(0)) >= eur(10)`:                                                         true,
		`(ever("order.paid") ? score.active : nil) != nil`:                                           true,
		`(rfm.recency ?? 1) == 3 and (rfm.frequency ?? 0) == 4 and rfm.monetary == nil`:              true,
		`(rfm.recency ?? 0) + (rfm.frequency ?? 0) >= 7 and (rfm.recency ?? 0) in [3, 4]`:            true,
		`(score.active ?? 1) == (1 - 1) or (score.active ?? 1) != 0 and (score.active ?? 1) <= 0.99`: true,
	})
	// Without a snapshot, or without orders, everything is unknown.
	unknown := `(score.active ?? 7) == 7 and score.value == nil and (rfm.recency ?? 0) == 0 and (score.value ?? eur(3)) == eur(3)`
	nobody := history(on(1, "customer.created", nil))
	nobody.Know(fact.Known{Scores: fitted})
	check(t, nobody, &Env{}, map[string]bool{unknown: true})
	check(t, customer(t), &Env{}, map[string]bool{unknown: true})
	// A model that is called rfm keeps its conditions.
	champion, _ := Compile(`true`, &Env{})
	check(t, f, &Env{Models: map[string]Model{"rfm": {Defines: map[string]*Program{"champion": champion}}}}, map[string]bool{
		`rfm.champion and (rfm.recency ?? 0) == 3`: true,
	})
	p, _ := Compile(`(rfm.recency ?? 1) >= 4`, &Env{})
	if !p.Needs.Has(NeedsScores) || p.Needs.Has(NeedsReferrals) || strings.Join(p.Reads, " ") != "order.cancelled order.paid order.refunded" {
		t.Errorf("needs %b, reads %v", p.Needs, p.Reads)
	}
	text, problems := CompileTemplate("${score.active} ${score.value} ${rfm.frequency}", &Env{})
	if problems != nil {
		t.Fatal(problems)
	}
	s := Begin(Input{Facts: f, At: day50})
	defer s.End()
	got, err := text.Render(s)
	active, _ := f.Score(fact.Active, day50)
	value, _ := f.Score(fact.Value, day50)
	if want := fmt.Sprintf("%.3f %.2f EUR 4", active, value); err != nil || got != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
	whole, _ := CompileTemplate("${score.active}", &Env{})
	if v, err := whole.Value(s); v != active || err != nil {
		t.Errorf("%v, %v, want %v", v, err, active)
	}
	// An amount in another currency than hers fails as it runs, and counts as not holding.
	dollars, _ := Compile(`(score.value ?? usd(0)) >= usd(10)`, &Env{})
	if held, err := s.Bool(dollars); held || err == nil || !strings.Contains(err.Error(), "currencies") {
		t.Errorf("%v, %v", held, err)
	}
}

func TestMistakesWithScores(t *testing.T) {
	for text, want := range map[string][2]string{
		`score.active < 0.3`:                                 {"score.active may be missing", "score.active ?? 0"},
		`score.value >= eur(5)`:                              {"score.value may be missing", "score.value ?? eur(0)"},
		`(score.activ ?? 1) < 0.3`:                           {"unknown field of score: activ", "active"},
		`(score.active ?? 1) * 2 < 0.3`:                      {"a score changes as time passes", "calculate on the other side"},
		`(score.value ?? eur(0)) >= 50`:                      {"a score cannot be compared with a number", "compare it with eur(50)"},
		`(score.active ?? 1) < eur(1)`:                       {"a score cannot be compared with", "are numbers"},
		`(score.active ?? 1) < (score.expected_orders ?? 1)`: {"two scores cannot be compared", ""},
		`(score.active ?? 1) in [0.5]`:                       {"cannot be looked up in a list", ""},
		`max([score.active ?? 1, 2]) > 1`:                    {"cannot be in a list", ""},
		`(score.active ?? eur(1)) < 1`:                       {"?? wants", ""},
		`score.active`:                                       {"a condition is true or false", "compare it"},
		`rfm.recency >= 4`:                                   {"rfm.recency may be missing", "rfm.recency ?? 0"},
		`(ever("any") ? score.active : score.value) != nil`:  {"a choice between", ""},
	} {
		_, problems := Compile(text, &Env{})
		if len(problems) != 1 || !strings.Contains(problems[0].Message, want[0]) || !strings.Contains(problems[0].Suggestion, want[1]) {
			t.Errorf("%s: %+v, want %q", text, problems, want)
		}
	}
}

// A comparison with a score wakes at the very millisecond at which it flips, and only then.
func TestScoresWakeWhenTheyFlip(t *testing.T) {
	f := buyer(t)
	at := start.AddDate(0, 0, 25)
	for text, flips := range map[string]bool{
		`(score.active ?? 1) < 0.3`:                true,
		`(score.active ?? 1) <= 0.3`:               true,
		`(score.active ?? 1) >= 0.3`:               true,
		`0.01 > (score.active ?? 1)`:               true,
		`(score.active ?? 1) == 0.3`:               true, // and does not hold for a millisecond
		`(score.active ?? 1) > 1`:                  false,
		`(score.active ?? 1) < 0`:                  false,
		`(score.expected_orders ?? 0) >= 1`:        true,
		`(score.value ?? eur(0)) < eur(33.33)`:     true,
		`(score.value ?? eur(0)) == eur(33.33)`:    true,
		`(rfm.recency ?? 0) < 3`:                   false,
		`(score.active ?? 1) < 0.3 or ever("any")`: true,
	} {
		p, problems := Compile(text, &Env{})
		if problems != nil {
			t.Fatalf("%s: %+v", text, problems)
		}
		eval := func(at time.Time) (bool, time.Time) {
			s := Begin(Input{Facts: f, At: at})
			defer s.End()
			held, err := s.Bool(p)
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			return held, s.Next()
		}
		held, next := eval(at)
		if next.IsZero() == flips {
			t.Errorf("%s: next is %s", text, next)
		}
		if next.IsZero() {
			if later, _ := eval(at.AddDate(50, 0, 0)); later != held {
				t.Errorf("%s: it flips within fifty years, unannounced", text)
			}
			continue
		}
		if before, again := eval(next.Add(-time.Millisecond)); before != held || !again.Equal(next) {
			t.Errorf("%s: a millisecond before %s it is %v, %v before; the wake-up moves to %s", text, next, before, held, again)
		}
		now, _ := eval(next)
		if exact := strings.Contains(text, "==") || strings.Contains(text, " or "); now == held && !exact {
			t.Errorf("%s: at %s nothing flips", text, next)
		}
	}
}

func BenchmarkScoreComparison(b *testing.B) {
	for _, text := range []string{`(score.active ?? 1) < 0.3`, `(score.value ?? eur(0)) < eur(30)`, `(rfm.recency ?? 1) >= 4`} {
		b.Run(text, func(b *testing.B) {
			p, _ := Compile(text, &Env{})
			amount, _ := hub.ParseMoney("40", "EUR")
			f := history(on(0, "order.paid", map[string]any{"amount": amount}), on(9, "order.paid", map[string]any{"amount": amount}), on(20, "order.paid", map[string]any{"amount": amount}))
			f.Know(fact.Known{Scores: fitted})
			for b.Loop() {
				s := Begin(Input{Facts: f, At: day50})
				_, _ = s.Bool(p)
				s.End()
			}
		})
	}
}
