package score

import (
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gonum.org/v1/gonum/diff/fd"
	"gonum.org/v1/gonum/mathext"
	"gonum.org/v1/gonum/stat/distuv"

	"github.com/stagewire/stagewire/internal/hub"
)

// shared opens a table that is not ours to keep here; without it the test is skipped.
func shared(t *testing.T, name string) *Table {
	t.Helper()
	dir := os.Getenv("STAGEWIRE_TEST_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data")
	}
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		t.Skipf("the published data is not here (STAGEWIRE_TEST_DATA names its folder): %v", err)
	}
	defer f.Close()
	table, err := Read(name, f)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if math.IsNaN(got) || math.Abs(got-want) > tolerance {
		t.Errorf("%s is %.6g, want %.6g within %g", what, got, want, tolerance)
	}
}

// Fader, Hardie and Lee (2005), table 2 and its text.
func TestFitsThePapersCustomers(t *testing.T) {
	report, err := shared(t, "cdnow_customers.csv").Fit(time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	p := report.Purchases
	near(t, "r", p.R, 0.243, 0.0005)
	near(t, "alpha", p.Alpha, 4.414, 0.0005)
	near(t, "a", p.A, 0.793, 0.0005)
	near(t, "b", p.B, 2.426, 0.0005)
	near(t, "log-likelihood", p.LogLikelihood, -9582.4, 0.05)
	near(t, "chi-square", report.Goodness.ChiSquare, 4.82, 0.005)
	if p.Customers != 2357 || report.Goodness.Degrees != 3 || report.Values != nil || !errors.Is(report.NoValues, ErrUnknown) {
		t.Errorf("%d customers, %d degrees of freedom, values %v (%v)", p.Customers, report.Goodness.Degrees, report.Values, report.NoValues)
	}
	// The paper's example of the conditional expectation: x = 2, t_x = 30.43, T = 38.86, 39 weeks ahead: 1.226.
	near(t, "conditional expectation", p.Orders(History{2, 30.43, 38.86}, 39), 1.226, 0.0005)
}

// Fader and Hardie (2013): 946 customers with a repeat purchase in the first 39 weeks, first purchases left out.
func TestFitsThePapersOrders(t *testing.T) {
	report, err := shared(t, "cdnow_sample_transactions.txt").Fit(time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if v := report.Values; v == nil || v.Customers != 946 {
		t.Fatalf("values are %+v (%v)", v, report.NoValues)
	}
	near(t, "p", report.Values.P, 6.25, 0.005)
	near(t, "q", report.Values.Q, 3.74, 0.005)
	near(t, "v", report.Values.V, 15.44, 0.005)
	near(t, "r", report.Purchases.R, 0.243, 0.0005)
	near(t, "alpha", report.Purchases.Alpha, 4.414, 0.0005)
	// The 2005 paper tells 0.626 for the correlation of the forecast.
	near(t, "correlation", report.Goodness.Holdout.Correlation, 0.626, 0.0005)
	if h := report.Goodness.Holdout; h.Actual != 1882 || math.Abs(h.Expected-float64(h.Actual)) > 0.15*float64(h.Actual) {
		t.Errorf("forecast %.0f of %d purchases", h.Expected, h.Actual)
	}
}

// simulate draws customers who behave as the models say, each observed for 20 to 80 weeks.
func simulate(random *rand.Rand, m BGNBD, g GammaGamma, n int) ([]History, []Spend) {
	rate := distuv.Gamma{Alpha: m.R, Beta: m.Alpha, Src: random}
	leave := distuv.Beta{Alpha: m.A, Beta: m.B, Src: random}
	scale := distuv.Gamma{Alpha: g.Q, Beta: g.V, Src: random}
	histories, spends := make([]History, n), make([]Spend, n)
	for i := range n {
		lambda, p, nu := rate.Rand(), leave.Rand(), scale.Rand()
		h := History{Span: 20 + 60*random.Float64()}
		total := 0.0
		for at := random.ExpFloat64() / lambda; at < h.Span; at += random.ExpFloat64() / lambda {
			h.Repeats, h.Last = h.Repeats+1, at
			total += distuv.Gamma{Alpha: g.P, Beta: nu, Src: random}.Rand()
			if random.Float64() < p {
				break
			}
		}
		histories[i] = h
		if h.Repeats > 0 {
			spends[i] = Spend{h.Repeats, total / float64(h.Repeats)}
		}
	}
	return histories, spends
}

func TestRecoversParametersOfSimulatedCustomers(t *testing.T) {
	const seed = 20051101
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	for _, truth := range []struct {
		BGNBD
		GammaGamma
	}{
		{BGNBD{0.243, 4.414, 0.793, 2.426}, GammaGamma{6.25, 3.74, 15.44}},
		{BGNBD{2.5, 20, 1.6, 7}, GammaGamma{2, 6, 400}}, // busier, loyal, dear
		{BGNBD{0.8, 2, 0.4, 0.9}, GammaGamma{12, 2.5, 0.8}},
	} {
		histories, spends := simulate(random, truth.BGNBD, truth.GammaGamma, 12_000)
		fit, err := FitBGNBD(histories)
		if err != nil {
			t.Fatalf("%+v: %v", truth, err)
		}
		within := func(name string, got, want, sigma float64) {
			t.Helper()
			if !(sigma > 0) || sigma > want/2 {
				t.Errorf("%s: standard error %v of %v", name, sigma, want)
			}
			near(t, name, got, want, 4*sigma)
		}
		within("r", fit.R, truth.R, fit.Error.R)
		within("alpha", fit.Alpha, truth.Alpha, fit.Error.Alpha)
		within("a", fit.A, truth.A, fit.Error.A)
		within("b", fit.B, truth.B, fit.Error.B)
		if better := truth.BGNBD.LogLikelihood(histories); fit.LogLikelihood < better {
			t.Errorf("likelihood %v, the true parameters have %v", fit.LogLikelihood, better)
		}
		if g := fit.Assess(histories); g.P == nil || *g.P < 1e-4 || g.Deviation() > 0.02 {
			t.Errorf("a true model fits badly: %+v", g)
		}
		values, err := FitGammaGamma(spends)
		if err != nil {
			t.Fatalf("%+v: %v", truth, err)
		}
		within("p", values.P, truth.P, values.Error.P)
		within("q", values.Q, truth.Q, values.Error.Q)
		within("v", values.V, truth.V, values.Error.V)
	}
}

// What is expected of a customer, against playing her future many times.
func TestExpectationsAgainstSimulation(t *testing.T) {
	const seed, n, weeks = 7, 40_000, 30.0
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 2))
	m := BGNBD{0.8, 6, 0.9, 2.5}
	rate, leave := distuv.Gamma{Alpha: m.R, Beta: m.Alpha, Src: random}, distuv.Beta{Alpha: m.A, Beta: m.B, Src: random}
	counts := make([]float64, 4)
	total := 0.0
	for range n {
		lambda, p, x := rate.Rand(), leave.Rand(), 0
		for at := random.ExpFloat64() / lambda; at < weeks; at += random.ExpFloat64() / lambda {
			x++
			if random.Float64() < p {
				break
			}
		}
		total += float64(x)
		if x < len(counts) {
			counts[x]++
		}
	}
	near(t, "expected", m.Expected(weeks), total/n, 0.05)
	for x, p := range m.Repeats(len(counts), weeks) {
		near(t, "share", p, counts[x]/n, 4*math.Sqrt(p/n))
	}
}

func TestLikelihoodSlopes(t *testing.T) {
	histories := []History{{0, 0, 10}, {1, 0.5, 30}, {3, 28, 30}, {40, 12, 52}, {200, 51.9, 52}}
	spends := []Spend{{1, 20}, {3, 0.5}, {40, 1000}}
	at := []float64{0.7, 3, 1.4, 2.2}
	slope := make([]float64, 4)
	newPurchases(histories).logLikelihood(BGNBD{at[0], at[1], at[2], at[3]}, slope)
	want := fd.Gradient(nil, func(x []float64) float64 { return BGNBD{x[0], x[1], x[2], x[3]}.LogLikelihood(histories) }, at, &fd.Settings{Formula: fd.Central})
	for i := range slope {
		near(t, "slope of purchases", slope[i], want[i], 1e-5*(1+math.Abs(want[i])))
	}
	at, slope = []float64{2, 3, 14}, make([]float64, 3)
	logLikelihoodOfSpends(GammaGamma{at[0], at[1], at[2]}, spends, slope)
	want = fd.Gradient(nil, func(x []float64) float64 { return GammaGamma{x[0], x[1], x[2]}.LogLikelihood(spends) }, at, &fd.Settings{Formula: fd.Central})
	for i := range slope {
		near(t, "slope of spends", slope[i], want[i], 1e-5*(1+math.Abs(want[i])))
	}
}

func TestExtremeHistories(t *testing.T) {
	for _, m := range []BGNBD{{0.243, 4.414, 0.793, 2.426}, {0.3, 0.05, 1, 0.2}, {5, 80, 1.00005, 30}, {0.5, 1, 0.2, 0.3}, {1, 3, 0.5, 0.5}} {
		for _, h := range []History{{}, {0, 0, 1000}, {1, 0.001, 2000}, {5000, 700, 701}, {5000, 1, 4000}, {3, 2, 2}} {
			active, before := m.Active(h), 0.0
			if !(active >= 0 && active <= 1) || (h.Repeats == 0) != (active == 1) && h.Span > h.Last {
				t.Errorf("%+v: %+v is active with %v", m, h, active)
			}
			for _, weeks := range []float64{0, 1e-6, 1, 52, 520} {
				orders := m.Orders(h, weeks)
				if math.IsNaN(orders) || math.IsInf(orders, 0) || orders < before || orders > (m.R+float64(h.Repeats))/m.Alpha*weeks*1.01 {
					t.Errorf("%+v: %v orders of %+v in %v weeks, %v in fewer", m, orders, h, weeks, before)
				}
				before = orders
			}
		}
	}
	// On both sides of a = 1 and at it the expectation is one curve.
	h := History{4, 20, 30}
	low, at, high := BGNBD{0.5, 5, 0.9998, 3}.Orders(h, 52), BGNBD{0.5, 5, 1, 3}.Orders(h, 52), BGNBD{0.5, 5, 1.0002, 3}.Orders(h, 52)
	near(t, "orders where a is 1", at, (low+high)/2, 1e-7)
}

// The transformed series against the library's function and the paper's own form.
func TestHypergeometricFunction(t *testing.T) {
	m := BGNBD{0.243, 4.414, 0.793, 2.426}
	for _, h := range []History{{0, 0, 3}, {1, 10, 12}, {7, 30, 39}, {20, 38, 39}} {
		for _, weeks := range []float64{1, 39, 400} {
			x, z := float64(h.Repeats), weeks/(m.Alpha+h.Span+weeks)
			c := m.A + m.B + x - 1
			near(t, "2F1", scaled2F1(m.A+m.B-1-m.R, m.A-1, c, z)/c, mathext.Hypergeo(m.A+m.B-1-m.R, m.A-1, c, z), 1e-12)
			paper := c / (m.A - 1) * (1 - math.Pow((m.Alpha+h.Span)/(m.Alpha+h.Span+weeks), m.R+x)*mathext.Hypergeo(m.R+x, m.B+x, c, z))
			near(t, "expectation", m.unlessGone(h, weeks), paper, 1e-8*(1+paper))
		}
	}
	near(t, "2F1 where c is 0", scaled2F1(0.5, -0.25, 0, 0.5), scaled2F1(0.5, -0.25, 1e-12, 0.5), 1e-11)
}

func TestTooLittleToTell(t *testing.T) {
	const seed = 3
	random := rand.New(rand.NewPCG(seed, 3))
	regular := make([]History, 500) // all alike: nothing tells the customers apart
	for i := range regular {
		regular[i] = History{9, 9, 10}
	}
	few, spends := simulate(random, BGNBD{0.243, 4.414, 0.793, 2.426}, GammaGamma{6, 4, 15}, 60)
	for name, histories := range map[string][]History{"nobody": nil, "few": few, "alike": regular, "never again": make([]History, 1000)} {
		if fit, err := FitBGNBD(histories); !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %+v, %v", name, fit, err)
		}
	}
	if fit, err := FitGammaGamma(spends[:20]); !errors.Is(err, ErrUnknown) {
		t.Errorf("%+v, %v", fit, err)
	}
	same := make([]Spend, 200)
	for i := range same {
		same[i] = Spend{3, 10}
	}
	if fit, err := FitGammaGamma(same); !errors.Is(err, ErrUnknown) {
		t.Errorf("everybody spends the same: %+v, %v", fit, err)
	}
	if _, err := FitBGNBD([]History{{1, 5, 4}}); err == nil || errors.Is(err, ErrUnknown) {
		t.Errorf("a history that makes no sense: %v", err)
	}
}

func TestSummarise(t *testing.T) {
	at := func(text string) time.Time {
		v, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	orders := []Order{
		{at("2026-01-01T10:00:00Z"), 5, "EUR"},
		{at("2026-01-01T23:59:59Z"), 7, "EUR"}, // the first day: no repeat, nor its amounts
		{at("2026-01-08T10:00:00Z"), 20, "EUR"},
		{at("2026-01-08T12:00:00Z"), 10, "EUR"}, // one occasion of 30
		{at("2026-01-09T12:00:00Z"), 9000, "CNY"},
		{at("2026-01-10T12:00:00Z"), 0, ""}, // occasions of which the amount does not count
		{at("2026-01-15T10:00:00Z"), 50, "EUR"},
		{at("2026-03-01T00:00:00Z"), 99, "EUR"},
	}
	until := at("2026-01-22T10:00:00Z")
	got, ok := Summarise(orders, until)
	if want := (Summary{orders[0].At, orders[6].At, 4, 7, "EUR", Spend{2, 40}, 92}); !ok || got != want || got.History(until) != (History{4, 2, 3}) {
		t.Errorf("%+v %v, want %+v", got, ok, want)
	}
	if h := got.History(orders[0].At); h.Span != h.Last {
		t.Errorf("a history ends before its last occasion: %+v", h)
	}
	if got, ok := Summarise(orders, at("2026-01-01T12:00:00Z")); !ok || got.Repeats != 0 || got.Spend != (Spend{}) {
		t.Errorf("on the first day: %+v %v", got, ok)
	}
	if _, ok := Summarise(orders, at("2025-01-01T00:00:00Z")); ok {
		t.Error("an order that is still to come counts")
	}
	if got, _ := Summarise([]Order{{orders[0].At, 1, "USD"}, {orders[1].At, 1, "EUR"}, {orders[2].At, 1, ""}}, until); got.Currency != "EUR" {
		t.Errorf("the latest of two currencies is %q", got.Currency)
	}
	if n := occasions(orders, at("2026-01-08T11:00:00Z")); n != 4 {
		t.Errorf("%d occasions after the eighth, want 4", n)
	}
	if day(at("1969-12-31T23:00:00Z")) != -1 {
		t.Error("days before 1970")
	}
}

func TestRead(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []string // of the messages; empty: it is read
	}{
		"histories":   {"\ufeffid, x,t_x , T\r\n1,2,30.43,38.86\r\n\r\n2,0,0,3\r\n", nil},
		"other order": {"T,t_x,x\n38,30,2\n", nil},
		"log":         {" 00004 0001 19970101  2   29.33\n 00004 0001 19970118  2   29.73\n", nil},
		"empty":       {"\n \n", []string{"f:2:1: the file holds no purchases"}},
		"only header": {"id,x,t_x,T\n", []string{"f:1:1: the file holds no purchases"}},
		"column":      {"id,x,recency,T\n1,2,3,4\n", []string{"f:1:1: the header names no column t_x"}},
		"cells": {"id,x,t_x,T\n1,2,3\n2,1,x,3\n3,1,4,3\n4,0,1,3\n5,1,0,3\n6,0.5,1,3\n7,-1,1,2\n", []string{
			"f:2:1: 3 columns, the header has 4", `f:3:5: t_x is "x"`, "f:4:5: the last purchase is in week 4, after the 3 observed",
			"f:5:5: without repeat purchases t_x is 0", "f:6:5: with repeat purchases t_x is above 0", "f:7:3: x is the number of repeat purchases", `f:8:3: x is "-1"`,
		}},
		"log mistakes": {"1 1 19970101 2 3\n1 1 19970132 2 3\n1 1 19970101 x 3\n1 1 19970101 2 NaN\n1 1 19970101\n", []string{
			`f:2:5: "19970132" is no day`, `f:3:14: "x" is no number of units`, `f:4:16: "NaN" is no amount`, "f:5:1: 3 columns: an order has five",
		}},
		"other shape": {"package score\nimport 4\n", []string{"f:1:1: 2 columns: an order has five (give a header"}},
		"a long line": {strings.Repeat("x", 70_000), []string{"f:1:1: a line of more than 64 KiB"}},
		"many":        {"x,t_x,T\n" + strings.Repeat("no\n", 1000), append(slices.Repeat([]string{"1 columns, the header has 3"}, maxProblems), "f: and more")},
	} {
		table, err := Read("f", strings.NewReader(c.text))
		if len(c.want) == 0 {
			if err != nil || len(table.Histories)+len(table.Orders) == 0 {
				t.Errorf("%s: %v, %v", name, table, err)
			}
			continue
		}
		if !errors.Is(err, hub.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := strings.Split(err.Error(), "\n")
		if len(got) != len(c.want) {
			t.Errorf("%s: %d messages, want %d:\n%v", name, len(got), len(c.want), err)
			continue
		}
		for i, want := range c.want {
			if !strings.Contains(got[i], want) {
				t.Errorf("%s: %q, want %q", name, got[i], want)
			}
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add("id,x,t_x,T\n1,2,30.43,38.86\n")
	f.Add(" 00004 0001 19970101  2   29.33\n")
	f.Fuzz(func(t *testing.T, text string) {
		table, err := Read("f", strings.NewReader(text))
		if err == nil {
			if _, err := table.Fit(time.Time{}); err != nil && !errors.Is(err, ErrUnknown) && !errors.Is(err, hub.ErrInvalid) {
				t.Errorf("%v", err)
			}
		}
	})
}

func TestFitUntil(t *testing.T) {
	table := &Table{Orders: [][]Order{{{At: time.Unix(0, 0)}}}, First: time.Unix(0, 0), Last: time.Unix(86400, 0)}
	if _, err := table.Fit(time.Unix(10*86400, 0)); !errors.Is(err, hub.ErrInvalid) {
		t.Errorf("%v", err)
	}
	if _, err := (&Table{Histories: []History{{}}}).Fit(time.Unix(5, 0)); !errors.Is(err, hub.ErrInvalid) {
		t.Errorf("%v", err)
	}
}
