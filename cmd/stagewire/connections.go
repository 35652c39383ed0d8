package main

import (
	"github.com/spf13/cobra"

	"github.com/stagewire/stagewire/internal/server"
)

func newConnectionsCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "connections", Short: "Configured accounts and how they do", GroupID: groupAsk, Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			return list(c, g, "/connections", nil, "name connector receives state webhook delivery problem", func(n server.Connection) []string {
				problem := ""
				if len(n.Problems) > 0 {
					problem = n.Problems[0].Message + "; " + n.Problems[0].Mend
				}
				return []string{n.Name, n.Connector, n.Receives, n.State, when(n.LastWebhookAt), when(n.LastDeliveryAt), problem}
			})
		},
	}
}
