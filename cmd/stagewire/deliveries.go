package main

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/stagewire/stagewire/internal/server"
)

func newDeliveriesCommand(g *globals) *cobra.Command {
	f := filters{}
	c := &cobra.Command{
		Use: "deliveries", Short: "What goes out, newest first", GroupID: groupAsk, Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			return list(c, g, "/deliveries", f.query(), "id action destination customer state attempts due last", func(d server.Delivery) []string {
				return []string{d.ID, d.Action, d.Destination, d.CustomerID, d.State, strconv.Itoa(d.Attempts), when(d.DueAt), lastAttempt(d)}
			})
		},
	}
	f.add(c, "state", "held, due, sending, retrying, delivered, dead, superseded, skipped or parked",
		"held", "due", "sending", "retrying", "delivered", "dead", "superseded", "skipped", "parked")
	f.add(c, "destination", "a connection, or subscription:<name>")
	f.add(c, "customer", "of this customer")
	f.page(c)
	c.AddCommand(&cobra.Command{
		Use: "show <id>", Short: "One delivery with all its attempts", Args: arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			a, err := g.api()
			if err != nil {
				return err
			}
			d, raw, err := ask[server.Delivery](c.Context(), a, "GET", "/deliveries/"+url.PathEscape(args[0]), nil, nil)
			if err != nil {
				return err
			}
			if g.json {
				return printJSON(c.OutOrStdout(), raw)
			}
			return showDelivery(c, d)
		},
	})
	return c
}

func lastAttempt(d server.Delivery) string {
	if d.Last == nil {
		return ""
	}
	text := d.Last.Outcome
	if d.Last.Status != 0 {
		text += " " + strconv.Itoa(d.Last.Status)
	}
	if d.Last.Error != "" {
		text += ": " + d.Last.Error
	}
	return text
}

func showDelivery(c *cobra.Command, d server.Delivery) error {
	pairs := []string{
		"id", d.ID, "action", d.Action, "destination", d.Destination, "customer", d.CustomerID, "state", d.State, "due", when(d.DueAt),
		"reaction", d.Cause.Reaction, "transition", d.Cause.TransitionID, "event", d.Cause.EventID, "webhook", d.Cause.WebhookID,
		"external id", d.ExternalID, "reference", d.Reference,
	}
	if err := facts(c.OutOrStdout(), pairs...); err != nil {
		return err
	}
	rows := make([][]string, len(d.History))
	for i, a := range d.History {
		rows[i] = []string{when(a.At), a.Outcome, strconv.Itoa(a.Status), fmt.Sprintf("%.0f ms", a.DurationMS), a.Error}
	}
	if err := section(c, "at outcome status took error", rows); err != nil {
		return err
	}
	if len(d.Params) > 0 {
		if _, err := fmt.Fprintln(c.OutOrStdout()); err != nil {
			return err
		}
		return printJSON(c.OutOrStdout(), d.Params)
	}
	return nil
}

func newRedriveCommand(g *globals) *cobra.Command {
	var ids []string
	c := &cobra.Command{
		Use: "redrive [destination]", Short: "Put dead deliveries back", GroupID: groupAsk, Args: arguments(cobra.MaximumNArgs(1)),
		Example: "  stagewire redrive crm\n  stagewire redrive subscription:erp\n  stagewire redrive --id dlv_…",
		RunE: func(c *cobra.Command, args []string) error {
			in := server.RedriveRequest{IDs: ids}
			if len(args) == 1 {
				in.Destination = args[0]
			}
			if in.Destination == "" && len(ids) == 0 {
				return usageError{errors.New("say which: a destination or --id")}
			}
			a, err := g.api()
			if err != nil {
				return err
			}
			result, raw, err := ask[server.RedriveResult](c.Context(), a, "POST", "/deliveries/redrive", nil, in)
			if err != nil {
				return err
			}
			if g.json {
				return printJSON(c.OutOrStdout(), raw)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%d put back\n", result.Redriven)
			return err
		},
	}
	c.Flags().StringSliceVar(&ids, "id", nil, "this delivery; may be given more than once")
	return c
}
