package score

import (
	"math"
	"time"

	"gonum.org/v1/gonum/mathext"
)

// Goodness tells how well a purchase model fits the data it was fitted to.
type Goodness struct {
	// Counts compares how many customers made 0, 1, 2, … repeat purchases with how many the model expects to; the last one stands for
	// that many and more.
	Counts []Count `json:"counts"`
	// ChiSquare is Pearson's statistic over the counts, Degrees its degrees of freedom, P the probability of one at least as
	// great were the model true. With many customers P is small for every model: then look at the counts.
	ChiSquare float64  `json:"chi_square"`
	Degrees   int      `json:"degrees"`
	P         *float64 `json:"p"` // nil with too few counts to tell
	// Holdout compares what happened after the data that was fitted with what the model expected. Nil without such data.
	Holdout *Holdout `json:"holdout"`
}

// Count is how many customers made a number of repeat purchases.
type Count struct {
	Repeats  int     `json:"repeats"`
	OrMore   bool    `json:"or_more"`
	Actual   int     `json:"actual"`
	Expected float64 `json:"expected"`
}

// Holdout is a forecast and what became of it.
type Holdout struct {
	From     time.Time `json:"from"`
	Until    time.Time `json:"until"`
	Actual   int       `json:"actual"`   // purchase occasions of the customers
	Expected float64   `json:"expected"` // of them
	// Correlation is that of what each customer did with what was expected of her, -1 to 1.
	Correlation float64 `json:"correlation"`
	// Error is the mean of the absolute differences, in purchase occasions a customer.
	Error float64 `json:"mean_absolute_error"`
}

const (
	mostCounts  = 8 // 0 to 6, and 7 and more, as in the paper
	leastInCell = 5 // expected customers, below which Pearson's statistic is not chi-square distributed
)

// Assess compares the model with the histories it was fitted to.
func (m BGNBD) Assess(histories []History) Goodness {
	n := len(histories)
	expected := make([]float64, mostCounts)
	actual := make([]int, mostCounts)
	spans := map[float64]int{} // many began on the same day
	for _, h := range histories {
		spans[h.Span]++
		actual[min(h.Repeats, mostCounts-1)]++
	}
	rest := float64(n)
	for span, size := range spans {
		for x, p := range m.Repeats(mostCounts-1, span) {
			expected[x] += p * float64(size)
		}
	}
	for _, e := range expected {
		rest -= e
	}
	expected[mostCounts-1] = max(0, rest)
	cells := mostCounts
	for ; cells > 1 && expected[cells-1] < leastInCell; cells-- {
		expected[cells-2] += expected[cells-1]
		actual[cells-2] += actual[cells-1]
	}
	g := Goodness{Degrees: max(0, cells-1-4)} // four parameters were fitted
	for x := range cells {
		g.Counts = append(g.Counts, Count{Repeats: x, OrMore: x == cells-1, Actual: actual[x], Expected: expected[x]})
		if d := float64(actual[x]) - expected[x]; expected[x] > 0 {
			g.ChiSquare += d * d / expected[x]
		}
	}
	if g.Degrees > 0 {
		p := mathext.GammaIncRegComp(float64(g.Degrees)/2, g.ChiSquare/2)
		g.P = &p
	}
	return g
}

// Deviation is the share of customers whom the model expects at another number of repeat purchases than they made, 0 to 1.
func (g Goodness) Deviation() float64 {
	off, all := 0.0, 0
	for _, c := range g.Counts {
		off += math.Abs(float64(c.Actual) - c.Expected)
		all += c.Actual
	}
	if all == 0 {
		return 0
	}
	return off / 2 / float64(all)
}

// Forecast compares what the model expects of the customers between two instants with what they did. orders are a
// customer's, the earliest first; those who had not bought by from are left out. It returns nil where there is nobody or no time.
func (m BGNBD) Forecast(orders [][]Order, from, until time.Time) *Holdout {
	out := &Holdout{From: from, Until: until}
	weeks := Weeks(until.Sub(from))
	var n, sx, sy, sxx, syy, sxy float64
	for _, list := range orders {
		s, ok := Summarise(list, from)
		if !ok {
			continue
		}
		x, actual := m.Orders(s.History(from), weeks), occasions(list, from)
		y := float64(actual)
		out.Actual += actual
		out.Expected += x
		out.Error += math.Abs(y - x)
		n, sx, sy, sxx, syy, sxy = n+1, sx+x, sy+y, sxx+x*x, syy+y*y, sxy+x*y
	}
	if n == 0 || weeks <= 0 {
		return nil
	}
	out.Error /= n
	if spread := (n*sxx - sx*sx) * (n*syy - sy*sy); spread > 0 {
		out.Correlation = (n*sxy - sx*sy) / math.Sqrt(spread)
	}
	return out
}
