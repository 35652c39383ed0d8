package main

import (
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/stagewire/stagewire/internal/config"
)

func newSchemaCommand(*globals) *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "JSON Schema of stagewire.yaml, for editors", GroupID: groupWrite, Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			schema, err := config.Schema()
			if err != nil {
				return err
			}
			return printJSON(c.OutOrStdout(), jsontext.Value(schema))
		},
	}
}
