package main

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stagewire/stagewire/internal/config"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/server"
)

func newConnectorsCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "connectors", Short: "What each vendor's connector can do", GroupID: groupWrite, Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			dir, kinds := "", hub.Catalogue
			if _, err := os.Stat(g.config); !errors.Is(err, fs.ErrNotExist) {
				cfg, _, _ := config.Load(g.config, config.Lookups{}) // its mistakes do not matter for this
				dir, kinds = cfg.ConnectorsDir, cfg.Catalogue()
			}
			set, err := loadConnectors(dir, kinds)
			if err != nil {
				return reportProblems(c, err)
			}
			page := server.List[server.ConnectorInfo]{Items: []server.ConnectorInfo{}}
			for _, con := range set.All() {
				page.Items = append(page.Items, server.Describe(con))
			}
			if g.json {
				return printJSON(c.OutOrStdout(), page)
			}
			return printPage(c, page, "name title category verify handshake hydrate actions events", func(i server.ConnectorInfo) []string {
				return []string{i.Name, i.Title, i.Category, i.Verify, yes(i.Handshake), yes(i.Hydrate), strings.Join(i.Actions, " "), strings.Join(i.Events, " ")}
			})
		},
	}
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
