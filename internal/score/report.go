package score

import (
	"errors"
	"fmt"
	"time"

	"github.com/stagewire/stagewire/internal/hub"
)

// Report is what a fit of a table gives.
type Report struct {
	Purchases BGNBDFit
	Goodness  Goodness
	Values    *GammaGammaFit // nil where amounts are not known or do not determine it
	NoValues  error          // why Values is nil
	Until     time.Time      // of a log: the last day that was fitted
}

// Fit fits both models to a table. Of a log the days up to until are fitted and the rest is forecast; the zero until is the middle
// of the log. The error wraps ErrUnknown where the purchases do not determine a model, hub.ErrInvalid where until is outside the log.
func (t *Table) Fit(until time.Time) (Report, error) {
	var out Report
	histories := t.Histories
	var spends []Spend
	if t.Orders == nil {
		if !until.IsZero() {
			return out, fmt.Errorf("histories end where they were made: there is no day to fit until: %w", hub.ErrInvalid)
		}
		out.NoValues = unknownf("histories tell no amounts")
	} else {
		if until.IsZero() {
			until = t.First.AddDate(0, 0, int(t.Last.Sub(t.First).Hours()/24)/2)
		}
		if until.Before(t.First) || until.After(t.Last) {
			return out, fmt.Errorf("the log goes from %s to %s, %s is outside: %w", t.First.Format(time.DateOnly), t.Last.Format(time.DateOnly),
				until.Format(time.DateOnly), hub.ErrInvalid)
		}
		out.Until = until
		for _, orders := range t.Orders {
			if s, ok := Summarise(orders, until); ok {
				histories, spends = append(histories, s.History(until)), append(spends, s.Spend)
			}
		}
	}
	var err error
	if out.Purchases, err = FitBGNBD(histories); err != nil {
		return out, err
	}
	out.Goodness = out.Purchases.Assess(histories)
	if t.Orders == nil {
		return out, nil
	}
	if until.Before(t.Last) {
		out.Goodness.Holdout = out.Purchases.Forecast(t.Orders, until, t.Last)
	}
	values, err := FitGammaGamma(spends)
	switch {
	case err == nil:
		out.Values = &values
	case errors.Is(err, ErrUnknown):
		out.NoValues = err
	default:
		return out, err
	}
	return out, nil
}
