package main

import (
	"fmt"
	"net/url"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/server"
)

func newCustomersPinCommand(g *globals) *cobra.Command {
	var who, why, until, deal string
	c := &cobra.Command{
		Use: "pin <id or e-mail> <model> <stage>", Short: "Put a customer into a stage by hand, over all rules", Args: arguments(cobra.ExactArgs(3)),
		Long: "A pin is a person's decision: it wins over all rules until it is released (customers unpin) or its date has come, and stays with\n" +
			"the customer through a merge, where the later pin wins.",
		Example: "  stagewire customers pin ada@example.com clc loyal --until 30d --why \"signed for three years\"\n" +
			"  stagewire customers pin ada@example.com b2b-deals won --deal crm:4711",
		RunE: func(c *cobra.Command, args []string) error {
			body := server.PinRequest{Stage: args[2], Who: who, Why: why}
			if until != "" {
				at, err := untilTime(until, time.Now())
				if err != nil {
					return usageError{err}
				}
				body.Until = &at
			}
			return byHand(c, g, "PUT", args[0], args[1], forDeal(deal), body, func(p server.Pin) string {
				text := fmt.Sprintf("pinned to %s in %s", p.Stage, p.Model)
				if p.Until != nil {
					text += " until " + when(p.Until)
				}
				return text
			})
		},
	}
	c.Flags().StringVar(&who, "who", whoami(), "who decides")
	c.Flags().StringVar(&why, "why", "", "why")
	c.Flags().StringVar(&until, "until", "", "how long (30d), or a date or time; until it is released where not given")
	c.Flags().StringVar(&deal, "deal", "", "of a model of deals: which, such as crm:4711; may be left out where there is one")
	return c
}

func newCustomersUnpinCommand(g *globals) *cobra.Command {
	var who, why, deal string
	c := &cobra.Command{
		Use: "unpin <id or e-mail> <model>", Short: "Release a pin: the rules decide again", Args: arguments(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, args []string) error {
			query := forDeal(deal)
			query.Set("who", who)
			if why != "" {
				query.Set("why", why)
			}
			return byHand(c, g, "DELETE", args[0], args[1], query, nil, func(p server.Pin) string {
				return fmt.Sprintf("no longer pinned to %s in %s", p.Stage, p.Model)
			})
		},
	}
	c.Flags().StringVar(&who, "who", whoami(), "who releases it")
	c.Flags().StringVar(&why, "why", "", "why")
	c.Flags().StringVar(&deal, "deal", "", "of a model of deals: which, such as crm:4711; may be left out where there is one")
	return c
}

func byHand(c *cobra.Command, g *globals, method, customer, model string, query url.Values, body any, say func(server.Pin) string) error {
	a, err := g.api()
	if err != nil {
		return err
	}
	id, err := findCustomer(c, a, customer)
	if err != nil {
		return err
	}
	pin, raw, err := ask[server.Pin](c.Context(), a, method, server.PinPath(id, model), query, body)
	if err != nil {
		return err
	}
	if g.json {
		return printJSON(c.OutOrStdout(), raw)
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "%s %s\n", id, say(pin))
	return err
}

func forDeal(deal string) url.Values {
	q := url.Values{}
	if deal != "" {
		q.Set("deal", deal)
	}
	return q
}

// untilTime reads 30d from now, a date (its first instant in UTC) or a time.
func untilTime(text string, now time.Time) (time.Time, error) {
	if d, ok := expression.ParseDuration(text); ok {
		return now.Add(d).UTC(), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("--until %q is neither a length of time such as 30d, nor a date such as 2026-03-01, nor a time", text)
}

// whoami is the name under which somebody works on this machine.
func whoami() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}
