package score

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"slices"
	"time"
)

// Ahead is how far expected orders and value look.
const Ahead = 365 * 24 * time.Hour

// Snapshot is what the hub knows of all its customers together at one instant: what a customer's scores are derived from,
// with her own orders, at whatever later instant. It is immutable, and kept as JSON.
type Snapshot struct {
	Version int64     `json:"version"`
	At      time.Time `json:"at"` // business time of what it says
	// Customers have at least one paid order, Repeaters bought on another day too.
	Customers int `json:"customers"`
	Repeaters int `json:"repeaters"`
	// Sampled is how many of them were fitted: all, or a bounded sample by their ids.
	Sampled   int                    `json:"sampled"`
	Purchases *PurchaseModel         `json:"bgnbd"`      // nil: unknown
	Values    map[string]*ValueModel `json:"gammagamma"` // by currency; none: unknown
	// Recency (milliseconds since 1970 of the last order), Frequency (orders) and Monetary (by currency) are the boundaries
	// between fifths of the customers; nil: unknown.
	Recency   Fifths            `json:"recency"`
	Frequency Fifths            `json:"frequency"`
	Monetary  map[string]Fifths `json:"monetary"`
	Goodness  *Goodness         `json:"goodness"`
	// Unknown says what is not known, and why.
	Unknown []string `json:"unknown"`
}

// PurchaseModel is a fitted purchase model as a snapshot keeps it.
type PurchaseModel struct {
	BGNBD
	LogLikelihood float64 `json:"log_likelihood"`
	Errors        BGNBD   `json:"standard_errors"`
}

// ValueModel is a fitted value model as a snapshot keeps it.
type ValueModel struct {
	GammaGamma
	LogLikelihood float64    `json:"log_likelihood"`
	Customers     int        `json:"customers"`
	Errors        GammaGamma `json:"standard_errors"`
}

// Empty reports whether nothing at all is known.
func (s *Snapshot) Empty() bool { return s.Purchases == nil && s.Recency == nil }

// maxSample bounds how many customers are fitted: with so many, parameters are known to a hundredth of themselves and
// boundaries to a fifth of a percent of the customers, and a fit takes a few seconds.
const maxSample = 100_000

// Sample gathers the customers that a snapshot is made of. The zero value is empty. Which customers a sample holds depends on
// their ids alone, not on the order in which they are added.
type Sample struct {
	customers, repeaters int
	kept                 []member
	shift                uint // customers are kept whose hash begins with that many zeros
}

type member struct {
	hash uint64
	Summary
}

// Add adds a customer; nobody twice.
func (s *Sample) Add(id string, summary Summary) {
	s.customers++
	if summary.Repeats > 0 {
		s.repeaters++
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(id))                           // never fails
	m := member{h.Sum64() * 0x9e3779b97f4a7c15, summary} // spreads what FNV leaves in the low bits
	if m.hash>>(64-s.shift) != 0 && s.shift > 0 {
		return
	}
	s.kept = append(s.kept, m)
	for len(s.kept) > maxSample {
		s.shift++
		s.kept = slices.DeleteFunc(s.kept, func(m member) bool { return m.hash>>(64-s.shift) != 0 })
	}
}

// Snapshot fits the models to the sample as it is at the instant at, and finds the boundaries. What the customers do not
// tell is unknown, and said so.
func (s *Sample) Snapshot(at time.Time) *Snapshot {
	slices.SortFunc(s.kept, func(a, b member) int { return cmp.Compare(a.hash, b.hash) }) // sums of the same numbers in the same order
	out := &Snapshot{
		At: at, Customers: s.customers, Repeaters: s.repeaters, Sampled: len(s.kept), Values: map[string]*ValueModel{}, Monetary: map[string]Fifths{}, Unknown: []string{},
	}
	var histories []History
	spends, totals := map[string][]Spend{}, map[string][]float64{}
	recency, frequency := make([]float64, 0, len(s.kept)), make([]float64, 0, len(s.kept))
	for _, m := range s.kept {
		histories = append(histories, m.History(at))
		recency, frequency = append(recency, millis(m.Last)), append(frequency, float64(m.Orders))
		if m.Currency != "" {
			spends[m.Currency] = append(spends[m.Currency], m.Spend)
			totals[m.Currency] = append(totals[m.Currency], m.Total)
		}
	}
	if fit, err := FitBGNBD(histories); err != nil {
		out.Unknown = append(out.Unknown, "score.active, score.expected_orders and score.value: "+err.Error())
	} else {
		out.Purchases = &PurchaseModel{BGNBD: fit.BGNBD, LogLikelihood: fit.LogLikelihood, Errors: fit.Error}
		goodness := fit.Assess(histories)
		out.Goodness = &goodness
	}
	if out.Recency, out.Frequency = fifthsOf(recency), fifthsOf(frequency); out.Recency == nil {
		out.Unknown = append(out.Unknown, fmt.Sprintf("rfm.recency, rfm.frequency and rfm.monetary: %d customers ordered, %d are needed", len(s.kept), MinRanked))
	}
	for _, currency := range slices.Sorted(maps.Keys(spends)) {
		if fit, err := FitGammaGamma(spends[currency]); err == nil {
			out.Values[currency] = &ValueModel{GammaGamma: fit.GammaGamma, LogLikelihood: fit.LogLikelihood, Customers: fit.Customers, Errors: fit.Error}
		} else if out.Purchases != nil {
			out.Unknown = append(out.Unknown, "score.value in "+currency+": "+err.Error())
		}
		if out.Monetary[currency] = fifthsOf(totals[currency]); out.Monetary[currency] == nil {
			delete(out.Monetary, currency)
			if out.Recency != nil {
				out.Unknown = append(out.Unknown, fmt.Sprintf("rfm.monetary in %s: %d customers ordered, %d are needed", currency, len(totals[currency]), MinRanked))
			}
		}
	}
	return out
}

// millis is an instant as a number that a float64 holds exactly.
func millis(t time.Time) float64 { return float64(t.UnixMilli()) }

// active, orders and value are the customer's scores at an instant; false where unknown.
func (s *Snapshot) active(c Summary, at time.Time) (float64, bool) {
	if s.Purchases == nil {
		return 0, false
	}
	return s.Purchases.Active(c.History(at)), true
}

func (s *Snapshot) orders(c Summary, at time.Time) (float64, bool) {
	if s.Purchases == nil {
		return 0, false
	}
	return s.Purchases.Orders(c.History(at), Weeks(Ahead)), true
}

func (s *Snapshot) value(c Summary, at time.Time) (float64, bool) {
	model := s.Values[c.Currency]
	orders, ok := s.orders(c, at)
	if model == nil || !ok {
		return 0, false
	}
	v := orders * model.Value(c.Spend)
	return v, !math.IsInf(v, 0) && !math.IsNaN(v)
}
