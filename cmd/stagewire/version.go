package main

import (
	"fmt"
	"net/http"
	"runtime"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"github.com/stagewire/stagewire/internal/server"
)

func newVersionCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Which version this is", Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			if g.json {
				return printJSON(c.OutOrStdout(), map[string]string{"version": buildVersion(), "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH})
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "stagewire %s %s %s/%s\n", buildVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

// newHealthzCommand is what a container's health check runs: the image holds nothing else that could ask.
func newHealthzCommand(g *globals) *cobra.Command {
	ready := false
	c := &cobra.Command{
		Use: "healthz", Short: "Exit 0 when the hub is alive, 1 when not", GroupID: groupRun, Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			a, err := g.api()
			if err != nil {
				return err
			}
			path := "/healthz"
			if ready {
				path = "/readyz"
			}
			req, err := http.NewRequestWithContext(c.Context(), http.MethodGet, a.base+path, nil)
			if err != nil {
				return err
			}
			resp, err := (&http.Client{Timeout: 5 * time.Second}).Do(req)
			if err != nil {
				return err
			}
			defer func() { _ = resp.Body.Close() }()
			var state server.Readiness
			if err := json.UnmarshalRead(resp.Body, &state); err != nil {
				return fmt.Errorf("%s answers %s: it does not seem to be a hub", a.base, resp.Status)
			}
			if g.json {
				err = printJSON(c.OutOrStdout(), state)
			} else if state.OK {
				_, err = fmt.Fprintln(c.OutOrStdout(), "ok")
			}
			if err != nil || state.OK {
				return err
			}
			for name, reason := range state.Checks {
				if reason != "ok" {
					if _, err := fmt.Fprintf(c.ErrOrStderr(), "%s: %s\n", name, reason); err != nil {
						return err
					}
				}
			}
			return errSaid
		},
	}
	c.Flags().BoolVar(&ready, "ready", false, "ask whether NATS, database and disk work too")
	return c
}
