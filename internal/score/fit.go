package score

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/diff/fd"
	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/mathext"
	"gonum.org/v1/gonum/optimize"
)

// ErrUnknown is what every error is that says that the data does not determine the parameters: too few customers, or a
// likelihood without a maximum at plausible values. Scores are unknown then. Test with errors.Is.
var ErrUnknown = errors.New("the data does not determine the scores")

// unknown is an ErrUnknown with its reason.
type unknown string

func (u unknown) Error() string { return string(u) }

func (u unknown) Is(target error) bool { return target == ErrUnknown }

func unknownf(format string, args ...any) error { return unknown(fmt.Sprintf(format, args...)) }

// Bounds of what is taken for a fit.
const (
	// MinRepeaters is how many customers with a repeat purchase a fit needs.
	MinRepeaters = 30
	// smallest and largest are what parameters may be, in the natural units of the data (mean span, mean spend).
	smallest, largest = 1e-4, 1e4
	// flat is the greatest slope of the mean log-likelihood, by the logarithm of a parameter, that counts as a maximum.
	flat = 1e-6
)

// BGNBDFit is a fitted purchase model.
type BGNBDFit struct {
	BGNBD
	LogLikelihood float64
	Customers     int
	Repeaters     int   // customers with a repeat purchase
	Error         BGNBD // standard errors of the parameters
}

// GammaGammaFit is a fitted value model.
type GammaGammaFit struct {
	GammaGamma
	LogLikelihood float64
	Customers     int        // with a repeat purchase that cost something
	Error         GammaGamma // standard errors of the parameters
}

// FitBGNBD fits the purchase model to the histories by maximum likelihood. The error wraps ErrUnknown where they do not determine it,
// and says why.
func FitBGNBD(histories []History) (BGNBDFit, error) {
	fit := BGNBDFit{Customers: len(histories)}
	span := 0.0
	for _, h := range histories {
		if h.Repeats < 0 || h.Last < 0 || !(h.Span >= h.Last) || math.IsInf(h.Span, 0) || h.Repeats > 0 && h.Last == 0 {
			return fit, fmt.Errorf("a history of %d repeats until week %v of %v makes no sense", h.Repeats, h.Last, h.Span)
		}
		span += h.Span
		if h.Repeats > 0 {
			fit.Repeaters++
		}
	}
	if fit.Repeaters < MinRepeaters {
		return fit, unknownf("%d customers bought again, %d are needed", fit.Repeaters, MinRepeaters)
	}
	span /= float64(len(histories)) // above zero: somebody bought again
	scaled := slices.Clone(histories)
	for i := range scaled {
		scaled[i].Last /= span
		scaled[i].Span /= span
	}
	data := newPurchases(scaled)
	of := func(x []float64) BGNBD { return BGNBD{x[0], x[1], x[2], x[3]} }
	best, sigma, err := maximize("purchase", []string{"r", "alpha", "a", "b"}, [][]float64{{1, 1, 1, 1}, {0.3, 0.2, 0.5, 2}}, len(histories),
		func(x, slope []float64) float64 { return data.logLikelihood(of(x), slope) })
	if err != nil {
		return fit, err
	}
	fit.BGNBD, fit.Error = of(best), of(sigma)
	fit.Alpha *= span
	fit.Error.Alpha *= span
	fit.LogLikelihood = fit.BGNBD.LogLikelihood(histories)
	return fit, nil
}

// FitGammaGamma fits the value model to the spends of the customers with at least one repeat purchase by maximum likelihood; those of
// others, and those who spent nothing, are left out. The error wraps ErrUnknown where they do not determine it, and says why.
func FitGammaGamma(spends []Spend) (GammaGammaFit, error) {
	var fit GammaGammaFit
	used := make([]Spend, 0, len(spends))
	mean := 0.0
	for _, s := range spends {
		if s.Repeats > 0 && s.Mean > 0 {
			used = append(used, s)
			mean += s.Mean
		}
	}
	fit.Customers = len(used)
	if fit.Customers < MinRepeaters {
		return fit, unknownf("%d customers spent something at a repeat purchase, %d are needed", fit.Customers, MinRepeaters)
	}
	mean /= float64(len(used))
	for i := range used {
		used[i].Mean /= mean
	}
	of := func(x []float64) GammaGamma { return GammaGamma{x[0], x[1], x[2]} }
	best, sigma, err := maximize("value", []string{"p", "q", "v"}, [][]float64{{1, 2, 1}, {5, 4, 0.5}}, len(used),
		func(x, slope []float64) float64 { return logLikelihoodOfSpends(of(x), used, slope) })
	if err != nil {
		return fit, err
	}
	fit.GammaGamma, fit.Error = of(best), of(sigma)
	fit.V *= mean
	fit.Error.V *= mean
	for i := range used {
		used[i].Mean *= mean
	}
	fit.LogLikelihood = fit.GammaGamma.LogLikelihood(used)
	if fit.Q <= 1 {
		return fit, unknownf("the value model's mean is infinite (q = %.3g)", fit.Q)
	}
	return fit, nil
}

// maximize finds the maximum of a log-likelihood over positive parameters from the starts, and the standard errors from its curvature
// there. at returns the log-likelihood of n observations and fills slope, unless nil, with its derivatives by the parameters.
func maximize(model string, names []string, starts [][]float64, n int, at func(x, slope []float64) float64) (best, sigma []float64, err error) {
	natural := func(logs []float64) []float64 {
		x := make([]float64, len(logs))
		for i, l := range logs {
			x[i] = math.Exp(min(max(l, -30), 30))
		}
		return x
	}
	problem := optimize.Problem{
		Func: func(logs []float64) float64 { return -at(natural(logs), nil) / float64(n) },
		Grad: func(grad, logs []float64) {
			x := natural(logs)
			at(x, grad)
			for i := range grad {
				grad[i] *= -x[i] / float64(n)
			}
		},
	}
	slopeAt := func(logs []float64) float64 {
		grad := make([]float64, len(logs))
		problem.Grad(grad, logs)
		steepest := 0.0
		for _, g := range grad {
			if steepest = max(steepest, math.Abs(g)); math.IsNaN(g) {
				return math.Inf(1)
			}
		}
		return steepest
	}
	settings := optimize.Settings{GradientThreshold: flat / 100, MajorIterations: 500, FuncEvaluations: 5000}
	var top []float64
	value := math.Inf(1)
	for _, start := range starts {
		logs := make([]float64, len(start))
		for i, x := range start {
			logs[i] = math.Log(x)
		}
		// Where a line search stalls, the simplex goes on and hands back. How either ended matters less than the slope at the end.
		for _, method := range []optimize.Method{&optimize.BFGS{}, &optimize.NelderMead{}, &optimize.BFGS{}} {
			result, _ := optimize.Minimize(problem, logs, &settings, method)
			if result == nil {
				continue
			}
			if f := problem.Func(result.X); !(f > problem.Func(logs)) {
				logs = slices.Clone(result.X)
			}
			if slopeAt(logs) <= flat {
				break
			}
		}
		if f := problem.Func(logs); f < value {
			value, top = f, logs
		}
	}
	switch {
	case top == nil:
		return nil, nil, unknownf("the %s model's likelihood is nowhere defined", model)
	case !(slopeAt(top) <= flat):
		return nil, nil, unknownf("the fit of the %s model did not converge", model)
	}
	best = natural(top)
	for i, x := range best {
		if x < smallest || x > largest {
			return nil, nil, unknownf("the %s model has no maximum at plausible parameters (%s runs off)", model, names[i])
		}
	}
	sigma, ok := deviations(problem, top, n)
	if !ok {
		return nil, nil, unknownf("the %s model's parameters cannot be told apart", model)
	}
	for i := range sigma {
		sigma[i] *= best[i]
	}
	return best, sigma, nil
}

// deviations returns the standard errors of the logarithms of the parameters, from the inverse of the Hessian matrix; false where
// that is not positive definite.
func deviations(problem optimize.Problem, logs []float64, n int) (sigma []float64, ok bool) {
	k := len(logs)
	jacobian := mat.NewDense(k, k, nil)
	fd.Jacobian(jacobian, func(grad, x []float64) { problem.Grad(grad, x) }, logs, &fd.JacobianSettings{Formula: fd.Central})
	hessian := mat.NewSymDense(k, nil)
	for i := range k {
		for j := i; j < k; j++ {
			hessian.SetSym(i, j, float64(n)*(jacobian.At(i, j)+jacobian.At(j, i))/2)
		}
	}
	var factors mat.Cholesky
	if !factors.Factorize(hessian) || factors.Cond() > 1e14 {
		return nil, false
	}
	var inverse mat.SymDense
	if factors.InverseTo(&inverse) != nil {
		return nil, false
	}
	sigma = make([]float64, k)
	for i := range sigma {
		sigma[i] = math.Sqrt(inverse.At(i, i))
	}
	return sigma, true
}

// purchases are histories made ready: what depends on the number of repeats alone is computed once for each number.
type purchases struct {
	histories []History
	repeats   []int // distinct, ascending
	class     []int // of each history, in repeats
	size      []int // histories in each class
}

func newPurchases(histories []History) *purchases {
	p := &purchases{histories: histories, class: make([]int, len(histories))}
	for _, h := range histories {
		p.repeats = append(p.repeats, h.Repeats)
	}
	slices.Sort(p.repeats)
	p.repeats = slices.Compact(p.repeats)
	p.size = make([]int, len(p.repeats))
	for i, h := range histories {
		p.class[i], _ = slices.BinarySearch(p.repeats, h.Repeats)
		p.size[p.class[i]]++
	}
	return p
}

// logLikelihood is (6) of the paper, in the form of note 027; slope, unless nil, receives its derivatives by r, alpha, a, b.
func (p *purchases) logLikelihood(m BGNBD, slope []float64) float64 {
	n := float64(len(p.histories))
	total := n * m.R * math.Log(m.Alpha)
	var dr, dAlpha, da, db float64
	if slope != nil {
		dr, dAlpha = n*math.Log(m.Alpha), n*m.R/m.Alpha
	}
	for i, repeats := range p.repeats {
		if repeats == 0 {
			continue // the terms cancel out
		}
		x, size := float64(repeats), float64(p.size[i])
		total += size * (lgamma(m.R+x) - lgamma(m.R) + lbeta(m.A, m.B+x) - lbeta(m.A, m.B))
		if slope != nil {
			both := mathext.Digamma(m.A+m.B) - mathext.Digamma(m.A+m.B+x)
			dr += size * (mathext.Digamma(m.R+x) - mathext.Digamma(m.R))
			da += size * both
			db += size * (both + mathext.Digamma(m.B+x) - mathext.Digamma(m.B))
		}
	}
	for _, h := range p.histories {
		x := float64(h.Repeats)
		whole := math.Log(m.Alpha + h.Span)
		if h.Repeats == 0 {
			total -= m.R * whole
			if slope != nil {
				dr -= whole
				dAlpha -= m.R / (m.Alpha + h.Span)
			}
			continue
		}
		until := math.Log(m.Alpha + h.Last)
		stayed := -(m.R + x) * whole
		left := math.Log(m.A) - math.Log(m.B+x-1) - (m.R+x)*until
		high := max(stayed, left)
		total += high + math.Log1p(math.Exp(-math.Abs(stayed-left)))
		if slope != nil {
			w := 1 / (1 + math.Exp(stayed-left)) // the share of having left
			dr -= (1-w)*whole + w*until
			dAlpha -= (m.R + x) * ((1-w)/(m.Alpha+h.Span) + w/(m.Alpha+h.Last))
			da += w / m.A
			db -= w / (m.B + x - 1)
		}
	}
	if slope != nil {
		slope[0], slope[1], slope[2], slope[3] = dr, dAlpha, da, db
	}
	return total
}

// logLikelihoodOfSpends is (1a) of the note; slope, unless nil, receives its derivatives by p, q, v.
func logLikelihoodOfSpends(m GammaGamma, spends []Spend, slope []float64) float64 {
	var total, dp, dq, dv float64
	for _, s := range spends {
		x := float64(s.Repeats)
		shape := m.P*x + m.Q
		sum := math.Log(m.V + x*s.Mean)
		total += lgamma(shape) - lgamma(m.P*x) - lgamma(m.Q) + m.Q*math.Log(m.V) + (m.P*x-1)*math.Log(s.Mean) + m.P*x*math.Log(x) - shape*sum
		if slope != nil {
			psi := mathext.Digamma(shape)
			dp += x * (psi - mathext.Digamma(m.P*x) + math.Log(s.Mean) + math.Log(x) - sum)
			dq += psi - mathext.Digamma(m.Q) + math.Log(m.V) - sum
			dv += m.Q/m.V - shape/(m.V+x*s.Mean)
		}
	}
	if slope != nil {
		slope[0], slope[1], slope[2] = dp, dq, dv
	}
	return total
}
