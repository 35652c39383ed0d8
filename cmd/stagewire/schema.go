package main

import (
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/stagewire/stagewire/internal/config"
	"github.com/stagewire/stagewire/internal/store"
)

func newSchemaCommand(g *globals) *cobra.Command {
	var views bool
	c := &cobra.Command{
		Use: "schema", Short: "JSON Schema of stagewire.yaml, for editors; with --views, the SQL views for other programs", GroupID: groupWrite, Args: none,
		Long: "Prints the JSON Schema of stagewire.yaml. With --views it describes the SQL views that Tableau, Metabase or Excel can read, in the\n" +
			"hub's own database (data_dir/stagewire.db, opened read-only, or PostgreSQL). Their names and columns stay.",
		RunE: func(c *cobra.Command, _ []string) error {
			if views {
				return showViews(c, g)
			}
			schema, err := config.Schema()
			if err != nil {
				return err
			}
			return printJSON(c.OutOrStdout(), jsontext.Value(schema))
		},
	}
	c.Flags().BoolVar(&views, "views", false, "the SQL views with their columns")
	return c
}

func showViews(c *cobra.Command, g *globals) error {
	out := c.OutOrStdout()
	if g.json {
		return printJSON(out, map[string]any{"items": store.Views(), "next": nil})
	}
	for i, v := range store.Views() {
		space := "\n"
		if i == 0 {
			space = ""
		}
		if _, err := fmt.Fprintf(out, "%s%s\n%s\n\n", space, v.Name, v.About); err != nil {
			return err
		}
		var rows [][]string
		for _, column := range v.Columns {
			rows = append(rows, []string{column.Name, column.Type, column.About})
		}
		if err := table(out, "column type holds", rows); err != nil {
			return err
		}
	}
	return nil
}
