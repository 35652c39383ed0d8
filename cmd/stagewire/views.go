package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/stagewire/stagewire/internal/store"
)

// showViews describes the SQL views that other programs read.
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
