package score

import "math"

// Spend is what the value model knows of one customer.
type Spend struct {
	// Repeats is the number of purchase occasions after the first.
	Repeats int
	// Mean is what she spent at one of them on average, above zero.
	Mean float64
}

// GammaGamma are the parameters of the value model: what a customer spends at a time is gamma distributed with shape P about her
// own mean; the scale of these is gamma distributed over the customers with shape Q and rate V (money). All are above zero.
type GammaGamma struct {
	P float64 `json:"p"`
	Q float64 `json:"q"`
	V float64 `json:"v"`
}

// LogLikelihood returns the logarithm of the probability density of the mean spends.
func (m GammaGamma) LogLikelihood(spends []Spend) float64 {
	return logLikelihoodOfSpends(m, spends, nil)
}

// Mean returns what a customer of whom nothing is known spends at a time; infinite unless Q is above 1.
func (m GammaGamma) Mean() float64 { return m.Value(Spend{}) }

// Value returns what to expect of a customer at her next purchase: between her own mean and that of all customers, the
// nearer to her own the more often she bought.
func (m GammaGamma) Value(s Spend) float64 {
	n := m.P * float64(s.Repeats)
	if n+m.Q <= 1 {
		return math.Inf(1)
	}
	return m.P * (m.V + float64(s.Repeats)*s.Mean) / (n + m.Q - 1)
}
