package main

import (
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stagewire/stagewire/internal/server"
)

func newExplainCommand(g *globals) *cobra.Command {
	f := filters{}
	c := &cobra.Command{
		Use: "explain <id or e-mail>", Short: "Why a customer is in her stage, clause by clause", GroupID: groupAsk, Args: arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			a, err := g.api()
			if err != nil {
				return err
			}
			id, err := findCustomer(c, a, args[0])
			if err != nil {
				return err
			}
			why, raw, err := ask[server.Explain](c.Context(), a, "GET", "/customers/"+url.PathEscape(id)+"/explain", f.query(), nil)
			if err != nil {
				return err
			}
			if g.json {
				return printJSON(c.OutOrStdout(), raw)
			}
			return showExplain(c.OutOrStdout(), why)
		},
	}
	f.add(c, "model", "the model; may be left out where there is one")
	f.add(c, "at", "the instant, such as 2026-03-01T10:00:00Z; now where not given")
	return c
}

func showExplain(w io.Writer, why server.Explain) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", why.Model, why.Stage)
	if why.Since != nil {
		fmt.Fprintf(&b, " since %s", when(why.Since))
	}
	fmt.Fprintf(&b, " (version %d, asked at %s)\n", why.Version, when(why.At))
	for _, r := range why.Rules {
		if !r.Reached {
			continue // decided before
		}
		fmt.Fprintf(&b, "\n%s %s, line %d: %s\n", mark(&r.Result), r.Stage, r.Line, visible(r.When))
		if r.Error != nil {
			fmt.Fprintf(&b, "    error: %s\n", visible(*r.Error))
		}
		writeClauses(&b, r.Clauses, "    ")
	}
	if why.Next.At != nil {
		to := "decided again"
		if why.Next.To != nil {
			to = *why.Next.To
		}
		fmt.Fprintf(&b, "\nIf nothing happens: %s at %s\n", to, when(why.Next.At))
	}
	for _, n := range why.Nearest {
		fmt.Fprintf(&b, "Nearest: %s leads to %s\n", visible(n.Change), n.To)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeClauses(b *strings.Builder, clauses []server.Clause, indent string) {
	for _, c := range clauses {
		fmt.Fprintf(b, "%s%s %s", indent, mark(c.Result), visible(c.Text))
		if c.Value != nil {
			fmt.Fprintf(b, " = %s", visible(fmt.Sprint(c.Value)))
		}
		if c.FlipsAt != nil {
			fmt.Fprintf(b, ", flips at %s", when(c.FlipsAt))
		}
		b.WriteString("\n")
		for _, f := range c.Facts {
			fmt.Fprintf(b, "%s    %s: %s\n", indent, visible(f.Name), visible(fmt.Sprint(f.Value)))
		}
		writeClauses(b, c.Clauses, indent+"    ")
	}
}

func mark(result *bool) string {
	switch {
	case result == nil:
		return "·"
	case *result:
		return "✓"
	default:
		return "✗"
	}
}
