package score

import (
	"math"
)

// History is what the purchase model knows of one customer, in weeks.
type History struct {
	// Repeats is the number of purchase occasions after the first (x).
	Repeats int
	// Last is the time from the first occasion to the last (t_x), 0 without repeats.
	Last float64
	// Span is the time from the first occasion to the end of the observation (T), at least Last.
	Span float64
}

// BGNBD are the parameters of the purchase model: rates are gamma distributed with shape R and rate Alpha (weeks), drop-out
// probabilities beta distributed with A and B. All are above zero.
type BGNBD struct {
	R     float64 `json:"r"`
	Alpha float64 `json:"alpha"`
	A     float64 `json:"a"`
	B     float64 `json:"b"`
}

// LogLikelihood returns the logarithm of the probability density of the histories.
func (m BGNBD) LogLikelihood(histories []History) float64 {
	return newPurchases(histories).logLikelihood(m, nil)
}

// oddsGone is the odds that a customer has dropped out: 0 without repeats.
func (m BGNBD) oddsGone(h History) float64 {
	if h.Repeats == 0 {
		return 0
	}
	x := float64(h.Repeats)
	return m.A / (m.B + x - 1) * math.Exp((m.R+x)*math.Log1p((h.Span-h.Last)/(m.Alpha+h.Last)))
}

// Active returns the probability that a customer with this history has not dropped out, 0 to 1.
func (m BGNBD) Active(h History) float64 { return 1 / (1 + m.oddsGone(h)) }

// Orders returns the number of purchase occasions to expect of a customer in the weeks after the end of her history.
func (m BGNBD) Orders(h History, weeks float64) float64 {
	if weeks <= 0 {
		return 0
	}
	return m.unlessGone(h, weeks) / (1 + m.oddsGone(h))
}

// unlessGone is the expectation for a customer who is active at the end of her history. By 15.3.3 of Abramowitz and Stegun the
// paper's (alpha+T)/(alpha+T+t))^(r+x) 2F1(r+x, b+x; a+b+x-1; z) is (1-z)^(a-1) 2F1(a+b-1-r, a-1; a+b+x-1; z), which
// neither overflows for a hundred orders nor needs many terms.
func (m BGNBD) unlessGone(h History, weeks float64) float64 {
	const near = 1e-4 // of a = 1 the formula is 0/0: there the line between both sides is right to the eighth digit
	if off := m.A - 1; math.Abs(off) < near {
		lower, upper := m, m
		lower.A, upper.A = 1-near, 1+near
		share := (off + near) / (2 * near)
		return lower.apart(h, weeks)*(1-share) + upper.apart(h, weeks)*share
	}
	return m.apart(h, weeks)
}

// apart is unlessGone where A is not 1.
func (m BGNBD) apart(h History, weeks float64) float64 {
	x := float64(h.Repeats)
	z := weeks / (m.Alpha + h.Span + weeks)
	c := m.A + m.B + x - 1
	rest := math.Exp((m.A - 1) * math.Log((m.Alpha+h.Span)/(m.Alpha+h.Span+weeks)))
	return max(0, (c-rest*scaled2F1(m.A+m.B-1-m.R, m.A-1, c, z))/(m.A-1))
}

// maxTerms bounds the series of scaled2F1: it needs some 35/(1-z) of them.
const maxTerms = 100_000

// scaled2F1 is c 2F1(a, b; c; z) for c > -1 and 0 <= z < 1, by its series. With the factor c it is finite also where c is 0,
// which is a customer without repeats where a+b = 1.
func scaled2F1(a, b, c, z float64) float64 {
	term := a * b * z
	sum := c + term
	for n := 1.0; n < maxTerms; n++ {
		term *= (a + n) * (b + n) / ((c + n) * (n + 1)) * z
		sum += term
		if math.Abs(term) <= 1e-16*math.Abs(sum)*(1-z) {
			break
		}
	}
	return sum
}

// Expected returns the number of repeat occasions of a customer in her first weeks, before anything is known of her.
func (m BGNBD) Expected(weeks float64) float64 {
	return m.Orders(History{}, weeks)
}

// Repeats returns the probability that a customer makes exactly 0, 1, … n-1 repeat purchases in her first weeks (8).
func (m BGNBD) Repeats(n int, weeks float64) []float64 {
	out := make([]float64, n)
	stay, buy := math.Log(m.Alpha/(m.Alpha+weeks)), weeks/(m.Alpha+weeks)
	term := math.Exp(m.R * stay) // of the negative binomial distribution, for j = x
	below := 0.0                 // its sum for j < x
	for x := range out {
		f := float64(x)
		out[x] = math.Exp(lbeta(m.A, m.B+f)-lbeta(m.A, m.B)) * term
		if x > 0 {
			out[x] += math.Exp(lbeta(m.A+1, m.B+f-1)-lbeta(m.A, m.B)) * max(0, 1-below)
		}
		below += term
		term *= (m.R + f) / (f + 1) * buy
	}
	return out
}

func lgamma(x float64) float64 {
	v, _ := math.Lgamma(x)
	return v
}

func lbeta(a, b float64) float64 { return lgamma(a) + lgamma(b) - lgamma(a+b) }
