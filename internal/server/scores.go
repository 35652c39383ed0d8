package server

import (
	"context"
	"time"

	"github.com/gofiber/fiber/v2"
)

// Scores is what was fitted to the hub's own orders: what score.… and rfm.… derive from, with a customer's own orders.
type Scores struct {
	Version    int64                   `json:"version"`
	At         *time.Time              `json:"at"`        // business time of what it says
	Customers  int                     `json:"customers"` // with a paid order
	Repeaters  int                     `json:"repeaters"` // who ordered on another day too
	Sampled    int                     `json:"sampled"`   // how many of them were fitted
	BGNBD      *FittedPurchases        `json:"bgnbd"`
	GammaGamma map[string]FittedValues `json:"gammagamma"` // by currency
	Goodness   *Goodness               `json:"goodness"`
	RFM        *RFM                    `json:"rfm"`
	Unknown    []string                `json:"unknown"` // what is not known, and why
}

// FittedPurchases are the parameters of the BG/NBD model, time in weeks.
type FittedPurchases struct {
	R             float64 `json:"r"`
	Alpha         float64 `json:"alpha"`
	A             float64 `json:"a"`
	B             float64 `json:"b"`
	LogLikelihood float64 `json:"log_likelihood"`
}

// FittedValues are the parameters of the Gamma-Gamma model in one currency.
type FittedValues struct {
	P         float64 `json:"p"`
	Q         float64 `json:"q"`
	V         float64 `json:"v"`
	Customers int     `json:"customers"`
}

// Goodness tells how well the purchase model fits.
type Goodness struct {
	ChiSquare float64  `json:"chi_square"`
	Degrees   int      `json:"degrees"`
	P         *float64 `json:"p"`
	// Deviation is the share of customers whom the model expects at another number of repeat purchases.
	Deviation float64       `json:"deviation"`
	Counts    []RepeatCount `json:"counts"`
}

// RepeatCount is how many customers made a number of repeat purchases, and how many the model expects to.
type RepeatCount struct {
	Repeats  int     `json:"repeats"`
	OrMore   bool    `json:"or_more"`
	Actual   int     `json:"actual"`
	Expected float64 `json:"expected"`
}

// RFM are the four boundaries between fifths of the customers: of the last order, the number of orders, and what was spent, by currency.
type RFM struct {
	Recency   []*time.Time         `json:"recency"`
	Frequency []float64            `json:"frequency"`
	Monetary  map[string][]float64 `json:"monetary"`
}

// ModelList is the list of models with the scores they can read.
type ModelList struct {
	Items  []Model `json:"items"`
	Next   *string `json:"next"`
	Scores *Scores `json:"scores"` // null where nothing was fitted yet
}

// Refitter fits the scores anew.
type Refitter interface {
	// RefitNow returns what it found. It wraps hub.ErrConflict where a refit is under way, hub.ErrTransient where it takes longer than
	// ctx: it goes on all the same.
	RefitNow(ctx context.Context) (Scores, error)
}

func (s *Server) refit(c *fiber.Ctx) error {
	if s.opts.Refitter == nil {
		return fiber.NewError(fiber.StatusNotImplemented, "this process does not decide")
	}
	ctx, cancel := context.WithTimeout(context.Background(), slowTimeout)
	defer cancel()
	out, err := s.opts.Refitter.RefitNow(ctx)
	if err != nil {
		return err
	}
	return ok(c, out)
}
