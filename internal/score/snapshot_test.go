package score

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestFifths(t *testing.T) {
	values := make([]float64, 100)
	for i := range values {
		values[i] = float64(100 - i) // 1 to 100
	}
	f := fifthsOf(values)
	for v, want := range map[float64]int{-5: 1, 1: 1, 20: 1, 20.5: 2, 40: 2, 41: 3, 80: 4, 81: 5, 1000: 5} {
		if got, ok := f.Of(v); got != want || !ok {
			t.Errorf("%v is in %d, want %d", v, got, want)
		}
	}
	// Most bought once: they share the lowest fifth, and the few who bought more are in the upper ones.
	once := slices.Concat(slices.Repeat([]float64{1}, 70), slices.Repeat([]float64{2}, 15), slices.Repeat([]float64{9}, 15))
	f = fifthsOf(once)
	for v, want := range map[float64]int{1: 1, 2: 4, 9: 5} {
		if got, _ := f.Of(v); got != want {
			t.Errorf("of ties, %v is in %d, want %d", v, got, want)
		}
	}
	if f := fifthsOf(make([]float64, MinRanked-1)); f != nil {
		t.Errorf("of few: %v", f)
	}
	if _, ok := Fifths(nil).Of(3); ok {
		t.Error("unknown boundaries rank somebody")
	}
}

// A snapshot finds the parameters of simulated customers, whatever the order in which they are added, and says what is unknown.
func TestSnapshot(t *testing.T) {
	const seed, n = 99, 4000
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 5))
	truth, spending := BGNBD{0.5, 4, 0.8, 2.5}, GammaGamma{6, 4, 15}
	histories, spends := simulate(random, truth, spending, n)
	at := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	weeks := func(w float64) time.Duration { return time.Duration(w * float64(week)) }
	summaries := make([]Summary, n)
	for i, h := range histories {
		first := at.Add(-weeks(h.Span))
		currency := "EUR"
		if i%200 == 0 {
			currency = "CHF"
		}
		summaries[i] = Summary{
			First: first, Last: first.Add(weeks(h.Last)), Repeats: h.Repeats, Orders: h.Repeats + 1, Currency: currency, Spend: spends[i], Total: float64(h.Repeats) * spends[i].Mean,
		}
	}
	var one, other Sample
	for i, s := range summaries {
		one.Add(fmt.Sprint(i), s)
		other.Add(fmt.Sprint(n-1-i), summaries[n-1-i])
	}
	got := one.Snapshot(at)
	if p := got.Purchases; p == nil || math.Abs(p.R-truth.R) > 4*p.Errors.R || math.Abs(p.A-truth.A) > 4*p.Errors.A {
		t.Errorf("%+v, want %+v", p, truth)
	}
	if v := got.Values["EUR"]; v == nil || math.Abs(v.Q-spending.Q) > 4*v.Errors.Q {
		t.Errorf("%+v, want %+v", v, spending)
	}
	if got.Values["CHF"] != nil || got.Monetary["CHF"] != nil || len(got.Monetary["EUR"]) != 4 || !strings.Contains(strings.Join(got.Unknown, " "), "score.value in CHF") {
		t.Errorf("too few paid in CHF: %v", got.Unknown)
	}
	if got.Customers != n || got.Sampled != n || got.Goodness == nil || got.Empty() {
		t.Errorf("%+v", got)
	}
	if again := other.Snapshot(at); *again.Purchases != *got.Purchases {
		t.Errorf("in another order it is %+v, not %+v", again.Purchases, got.Purchases)
	}
	if nothing := (&Sample{}).Snapshot(at); !nothing.Empty() || len(nothing.Unknown) != 2 {
		t.Errorf("of nobody: %+v", nothing)
	}
}

func TestSampleIsBounded(t *testing.T) {
	var s Sample
	const n = 3 * maxSample
	for i := range n {
		s.Add(fmt.Sprint("cus_", i), Summary{})
	}
	if s.customers != n || len(s.kept) > maxSample || len(s.kept) < maxSample/4 {
		t.Errorf("%d of %d are kept", len(s.kept), s.customers)
	}
}
