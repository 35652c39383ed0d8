package main

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/stagewire/stagewire/internal/server"
)

func newWebhooksCommand(g *globals) *cobra.Command {
	f := filters{}
	c := &cobra.Command{
		Use: "webhooks", Short: "What came in, newest first", GroupID: groupAsk, Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			return list(c, g, "/webhooks", f.query(), "id connection received state kinds reason", func(w server.Webhook) []string {
				return []string{w.ID, w.Connection, when(w.ReceivedAt), w.State, strings.Join(w.Kinds, " "), w.Reason}
			})
		},
	}
	f.add(c, "state", "queued, hydrating, done, ignored or dead", "queued", "hydrating", "done", "ignored", "dead")
	f.add(c, "connection", "of this connection")
	f.page(c)
	c.AddCommand(&cobra.Command{
		Use: "show <id>", Short: "One webhook, byte for byte, with masked headers", Args: arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			a, err := g.api()
			if err != nil {
				return err
			}
			w, raw, err := ask[server.Webhook](c.Context(), a, "GET", "/webhooks/"+url.PathEscape(args[0]), nil, nil)
			if err != nil {
				return err
			}
			if g.json {
				return printJSON(c.OutOrStdout(), raw)
			}
			return showWebhook(c, w)
		},
	})
	return c
}

func showWebhook(c *cobra.Command, w server.Webhook) error {
	out := c.OutOrStdout()
	err := facts(out, "id", w.ID, "connection", w.Connection, "received", when(w.ReceivedAt), "state", w.State, "reason", w.Reason,
		"kinds", strings.Join(w.Kinds, " "), "events", strings.Join(w.EventIDs, " "))
	if err != nil {
		return err
	}
	if w.Purged {
		_, err = fmt.Fprintln(out, "\nIts bytes are past retention.")
		return err
	}
	if _, err = fmt.Fprintln(out); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(w.Headers)) {
		if _, err = fmt.Fprintf(out, "%s: %s\n", visible(name), visible(w.Headers[name])); err != nil {
			return err
		}
	}
	body := string(w.Body)
	if !utf8.ValidString(body) || strings.ContainsFunc(body, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' && r != '\r' || r == 0x7f }) {
		body = strconv.Quote(body) // not to be shown to a terminal as it is
	}
	_, err = fmt.Fprintf(out, "\n%s\n", body)
	return err
}

func newRejectedCommand(g *globals) *cobra.Command {
	f := filters{}
	c := &cobra.Command{
		Use: "rejected", Short: "Refused requests, newest first", GroupID: groupAsk, Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			return list(c, g, "/rejected", f.query(), "at connection reason size detail", func(r server.Rejected) []string {
				return []string{when(r.At), r.Connection, r.Reason, strconv.Itoa(r.Size), r.Detail}
			})
		},
	}
	f.page(c)
	return c
}

func newReplayCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "replay <webhook id>...", Short: "Run stored webhooks through today's connector", GroupID: groupAsk, Args: arguments(cobra.MinimumNArgs(1)),
		Long: "Runs stored webhooks through the connector as it is today. Events that come out the same change nothing; others replace\nwhat the webhook gave before.",
		RunE: func(c *cobra.Command, args []string) error {
			a, err := g.api()
			if err != nil {
				return err
			}
			out := server.List[server.Webhook]{Items: []server.Webhook{}}
			for _, id := range args {
				w, _, err := ask[server.Webhook](c.Context(), a, "POST", "/webhooks/"+url.PathEscape(id)+"/replay", nil, nil)
				if err != nil {
					return fmt.Errorf("%s: %w", id, err)
				}
				out.Items = append(out.Items, w)
			}
			if g.json {
				return printJSON(c.OutOrStdout(), out)
			}
			return printPage(c, out, "id connection state kinds reason", func(w server.Webhook) []string {
				return []string{w.ID, w.Connection, w.State, strings.Join(w.Kinds, " "), w.Reason}
			})
		},
	}
}
