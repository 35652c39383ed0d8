package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stagewire/stagewire/internal/server"
)

func newRefitCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "refit", Short: "Fit what score.… and rfm.… go by to the hub's orders now", Args: none,
		Long: "The hub fits its scores once a day by itself (scores: {refit: 24h} in the configuration). This does it now, after an import say.\n" +
			"Customers of models that read scores are decided anew in the background.",
		RunE: func(c *cobra.Command, _ []string) error {
			a, err := g.api()
			if err != nil {
				return err
			}
			out, raw, err := ask[server.Scores](c.Context(), a, "POST", "/scores/refit", nil, nil)
			if err != nil {
				return err
			}
			if g.json {
				return printJSON(c.OutOrStdout(), raw)
			}
			return printScores(c.OutOrStdout(), &out)
		},
	}
}

// printScores prints what is known of all customers together; nil is nothing yet.
func printScores(w io.Writer, s *server.Scores) error {
	if s == nil {
		_, err := fmt.Fprintln(w, "\nscores  unknown: nothing was fitted yet; `stagewire models refit` does it now")
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	customers := fmt.Sprintf("version %d, as of %s: %s ordered, of whom %d on another day again", s.Version, when(s.At), plural(s.Customers, "customer"), s.Repeaters)
	if s.Sampled < s.Customers {
		customers += fmt.Sprintf("; a sample of %d was fitted", s.Sampled)
	}
	pairs := []string{"scores", customers}
	if p := s.BGNBD; p != nil {
		pairs = append(pairs, "  purchases (BG/NBD)", fmt.Sprintf("r=%.3f alpha=%.3f a=%.3f b=%.3f, log-likelihood %.1f", p.R, p.Alpha, p.A, p.B, p.LogLikelihood))
	}
	if g := s.Goodness; g != nil {
		test := fmt.Sprintf("chi-square %.2f with %d degrees of freedom", g.ChiSquare, g.Degrees)
		if g.P != nil {
			test += fmt.Sprintf(", p=%.3f", *g.P)
		}
		pairs = append(pairs, "  goodness of fit", test+fmt.Sprintf("; %.1f %% of the customers misplaced by their number of repeats", 100*g.Deviation))
	}
	for _, currency := range slices.Sorted(maps.Keys(s.GammaGamma)) {
		v := s.GammaGamma[currency]
		pairs = append(pairs, "  spending in "+currency+" (Gamma-Gamma)", fmt.Sprintf("p=%.2f q=%.2f v=%.2f, from %s", v.P, v.Q, v.V, plural(v.Customers, "customer")))
	}
	if r := s.RFM; r != nil {
		var days []string
		for _, t := range r.Recency {
			days = append(days, t.Format(time.DateOnly))
		}
		pairs = append(pairs, "  rfm.recency", "last order after "+strings.Join(days, ", "), "  rfm.frequency", "orders above "+numbers(r.Frequency))
		for _, currency := range slices.Sorted(maps.Keys(r.Monetary)) {
			pairs = append(pairs, "  rfm.monetary", "spent above "+numbers(r.Monetary[currency])+" "+currency)
		}
	}
	if err := facts(w, pairs...); err != nil {
		return err
	}
	for _, u := range s.Unknown {
		if _, err := fmt.Fprintln(w, "  unknown: "+visible(u)); err != nil {
			return err
		}
	}
	return nil
}

func numbers(list []float64) string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = strconv.FormatFloat(v, 'f', -1, 64)
	}
	return strings.Join(out, ", ")
}

// noteScores says, where a hub runs and a model reads scores, what of them is unknown so far: rules then go by what stands after ??.
func noteScores(c *cobra.Command, g *globals) error {
	a, err := g.api()
	if err != nil {
		return nil // check has told what keeps the configuration from saying where the hub is
	}
	ctx, cancel := context.WithTimeout(c.Context(), 2*time.Second)
	defer cancel()
	page, _, err := ask[server.ModelList](ctx, a, "GET", "/models", nil, nil)
	if err != nil {
		return nil // no hub, or one that does not let us ask: nothing is known to note
	}
	var readers []string
	for _, m := range page.Items {
		if m.ReadsScores && m.State != "shipped" && !slices.Contains(readers, m.Name) {
			readers = append(readers, m.Name)
		}
	}
	if len(readers) == 0 {
		return nil
	}
	unknown := []string{"nothing was fitted yet"}
	if page.Scores != nil {
		unknown = page.Scores.Unknown
	}
	for _, u := range unknown {
		if _, err := fmt.Fprintf(c.ErrOrStderr(), "note: %s reads scores, of which some are unknown so far: %s\n", strings.Join(readers, ", "), visible(u)); err != nil {
			return err
		}
	}
	return nil
}
