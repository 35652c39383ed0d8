package main

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stagewire/stagewire/examples"
	"github.com/stagewire/stagewire/internal/app"
)

func newQuickstartCommand(g *globals) *cobra.Command {
	var o app.QuickstartOptions
	var verbose bool
	c := &cobra.Command{
		Use:     "quickstart",
		Short:   "See it work: hub, sandbox and a story of nine months, in one process",
		GroupID: groupRun,
		Long: "Starts a hub, a sandbox that plays Shopify, Zendesk, HubSpot and Zoho CRM, and a receiver of callbacks; lets six customers live\n" +
			"through nine months; tells what happens, sums it up, and keeps running. Needs no configuration and installs nothing.\n" +
			"With --example lifecycle five customers live through a story with every shipped stage model deciding on them side by side.\n" +
			"With --once it ends after the story, with 0 only if every expected effect was found in the sandbox's own state.",
		Args: none,
	}
	c.Flags().BoolVar(&o.Once, "once", false, "end when the story is told")
	c.Flags().StringVar(&o.Dir, "dir", "", "keep the files in this `folder` (default: a temporary one)")
	c.Flags().StringVar(&o.Example, "example", "", "tell the story of this `example`: "+strings.Join(examples.Names, ", "))
	c.Flags().StringVar(&o.Listen, "listen", "", "`address` of the hub (default: a free port)")
	c.Flags().Uint64Var(&o.Seed, "seed", 7, "of the sandbox's random faults")
	c.Flags().BoolVar(&verbose, "verbose", false, "show the hub's own log")
	c.RunE = func(c *cobra.Command, _ []string) error {
		out := c.OutOrStdout()
		o.Version, o.Load, o.Account = buildVersion(), loadForApp, out
		if g.json {
			o.Account = nil
		}
		o.Log = slog.New(slog.DiscardHandler)
		if verbose {
			o.Log = slog.New(slog.NewTextHandler(c.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelDebug}))
		}
		summary, err := app.Quickstart(c.Context(), o, func(s *app.Summary, r *app.Running) {
			if g.json {
				_ = printJSON(out, s)
				return
			}
			_ = s.Print(out)
			if !o.Once {
				fmt.Fprintf(out, "\nStill running:\n  hub       %s (API under /api/v1)\n  sandbox   %s/state\n  receiver  %s\n", r.Hub, r.Sandbox, r.Receiver)
				fmt.Fprintf(out, "Ask it from another terminal:\n  export STAGEWIRE_TOKEN=%s\n  stagewire customers --server %s\n", r.Token.Reveal(), r.Hub)
			}
		})
		if err != nil {
			return err
		}
		if summary != nil && !summary.OK {
			return errSaid
		}
		return nil
	}
	return c
}
