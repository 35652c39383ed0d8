package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/stagewire/stagewire/internal/score"
)

// fitted is what models fit prints with --json.
type fitted struct {
	BGNBD      *fittedPurchases `json:"bgnbd"`
	GammaGamma *fittedValues    `json:"gammagamma"`
	Customers  int              `json:"customers"`
	Repeaters  int              `json:"repeaters"`
	Until      string           `json:"until,omitempty"` // the last day of a log that was fitted
	Goodness   *score.Goodness  `json:"goodness"`
	Unknown    []string         `json:"unknown"` // what could not be fitted, and why
}

type fittedPurchases struct {
	score.BGNBD
	LogLikelihood float64     `json:"log_likelihood"`
	Errors        score.BGNBD `json:"standard_errors"`
}

type fittedValues struct {
	score.GammaGamma
	LogLikelihood float64          `json:"log_likelihood"`
	Customers     int              `json:"customers"`
	Errors        score.GammaGamma `json:"standard_errors"`
}

func newFitCommand(g *globals) *cobra.Command {
	file, until := "", ""
	c := &cobra.Command{
		Use: "fit --data file", Short: "Fit the models behind score.active, .expected_orders and .value to a table of purchases", Args: none,
		Long: "Fits BG/NBD (how often customers buy and when they stop) and, where amounts are known, Gamma-Gamma (what they spend) to a table by\n" +
			"maximum likelihood, and tells how well they fit. The hub does the same with its own orders every day; this is for other data.\n\n" +
			"The table is either one line a customer, with commas and a header naming x (repeat purchases), t_x (week of the last one) and T\n" +
			"(weeks observed); or one line an order, with spaces: customer, number, day as 19970118, units, amount. Orders of one day are\n" +
			"one purchase. Of a log of orders the first half is fitted and the second forecast, unless --until says otherwise.",
		Example: "  stagewire models fit --data customers.csv\n  stagewire models fit --data orders.txt --until 2026-03-31 --json",
		RunE: func(c *cobra.Command, _ []string) error {
			if file == "" {
				return usageError{errors.New("give the table: --data file")}
			}
			var day time.Time
			if until != "" {
				var err error
				if day, err = time.Parse(time.DateOnly, until); err != nil {
					return usageError{fmt.Errorf("--until %s is no day: write it as 2026-03-31", until)}
				}
			}
			table, err := readTable(file)
			if err != nil {
				return reportProblems(c, err)
			}
			report, err := table.Fit(day)
			if err != nil && !errors.Is(err, score.ErrUnknown) {
				return fmt.Errorf("%s: %w", file, err)
			}
			if g.json {
				if e := printJSON(c.OutOrStdout(), fittedShape(report, err)); e != nil {
					return e
				}
				if err != nil {
					return errSaid
				}
				return nil
			}
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			return printFit(c.OutOrStdout(), report)
		},
	}
	c.Flags().StringVar(&file, "data", "", "the table of purchases, a `file`")
	c.Flags().StringVar(&until, "until", "", "of a log of orders: the last `day` to fit; what follows is forecast (default: the middle)")
	_ = c.MarkFlagFilename("data") // fails only for an unknown flag
	return c
}

func readTable(file string) (*score.Table, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %s", file, pathReason(err))
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, fmt.Errorf("%s is a folder", file)
	}
	return score.Read(file, f)
}

func fittedShape(r score.Report, failed error) fitted {
	out := fitted{Customers: r.Purchases.Customers, Repeaters: r.Purchases.Repeaters, Unknown: []string{}}
	if !r.Until.IsZero() {
		out.Until = r.Until.Format(time.DateOnly)
	}
	if failed != nil {
		out.Unknown = append(out.Unknown, failed.Error())
		return out
	}
	p := r.Purchases
	out.BGNBD, out.Goodness = &fittedPurchases{BGNBD: p.BGNBD, LogLikelihood: p.LogLikelihood, Errors: p.Error}, &r.Goodness
	if v := r.Values; v != nil {
		out.GammaGamma = &fittedValues{GammaGamma: v.GammaGamma, LogLikelihood: v.LogLikelihood, Customers: v.Customers, Errors: v.Error}
	} else if r.NoValues != nil {
		out.Unknown = append(out.Unknown, r.NoValues.Error())
	}
	return out
}

// printFit prints a fit for people.
func printFit(w io.Writer, r score.Report) error {
	p := r.Purchases
	pairs := []string{
		"customers", fmt.Sprintf("%d, of whom %d bought again", p.Customers, p.Repeaters),
		"purchases (BG/NBD)", fmt.Sprintf("r=%.3f alpha=%.3f a=%.3f b=%.3f", p.R, p.Alpha, p.A, p.B),
		"  standard errors", fmt.Sprintf("r=%.3f alpha=%.3f a=%.3f b=%.3f", p.Error.R, p.Error.Alpha, p.Error.A, p.Error.B),
		"  log-likelihood", fmt.Sprintf("%.1f", p.LogLikelihood),
	}
	if !r.Until.IsZero() {
		pairs = append(pairs, "  fitted until", r.Until.Format(time.DateOnly))
	}
	if v := r.Values; v != nil {
		pairs = append(pairs, "spending (Gamma-Gamma)", fmt.Sprintf("p=%.2f q=%.2f v=%.2f, %.2f a purchase on average", v.P, v.Q, v.V, v.Mean()),
			"  standard errors", fmt.Sprintf("p=%.2f q=%.2f v=%.2f", v.Error.P, v.Error.Q, v.Error.V))
	} else if r.NoValues != nil {
		pairs = append(pairs, "spending (Gamma-Gamma)", "unknown: "+r.NoValues.Error())
	}
	pairs = append(pairs, goodness(r.Goodness)...)
	if err := facts(w, pairs...); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return table(w, "repeats customers expected", countRows(r.Goodness))
}

// goodness tells in words how well a fit fits.
func goodness(g score.Goodness) []string {
	test := fmt.Sprintf("chi-square %.2f with %d degrees of freedom", g.ChiSquare, g.Degrees)
	if g.P != nil {
		test += fmt.Sprintf(", p=%.3f", *g.P)
	}
	pairs := []string{"goodness of fit", test}
	pairs = append(pairs, "  misplaced", fmt.Sprintf("%.1f %% of the customers by their number of repeats", 100*g.Deviation()))
	if h := g.Holdout; h != nil {
		pairs = append(pairs, "forecast", fmt.Sprintf("%.0f purchases from %s to %s, %d happened; correlation %.2f over the customers",
			h.Expected, h.From.Format(time.DateOnly), h.Until.Format(time.DateOnly), h.Actual, h.Correlation))
	}
	return pairs
}

func countRows(g score.Goodness) [][]string {
	var rows [][]string
	for _, n := range g.Counts {
		name := strconv.Itoa(n.Repeats)
		if n.OrMore {
			name += "+"
		}
		rows = append(rows, []string{name, strconv.Itoa(n.Actual), strconv.FormatFloat(n.Expected, 'f', 1, 64)})
	}
	return rows
}
