package main

import (
	"fmt"
	"os"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/stagewire/stagewire/internal/config"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/lifecycle"
)

func newSchemaCommand(g *globals) *cobra.Command {
	var views bool
	c := &cobra.Command{
		Use: "schema [configuration|model|reactions]", Short: "JSON Schema of stagewire.yaml, models and reactions, for editors; SQL views", GroupID: groupWrite,
		Args: arguments(cobra.MaximumNArgs(1)), ValidArgs: []string{"configuration", "model", "reactions"},
		Long: "Prints the JSON Schema of stagewire.yaml, or of a model's or reactions' file. Editors with a YAML extension complete keys and\n" +
			"underline mistakes by it; `stagewire check --lsp` does more. The kinds of the configuration are known where there is one.\n" +
			"With --views it describes the SQL views that Tableau, Metabase or Excel read in the hub's own database (data_dir/stagewire.db,\n" +
			"opened read-only, or PostgreSQL). Their names and columns stay.",
		Example: "  stagewire schema model > model.schema.json\n  # yaml-language-server: $schema=model.schema.json      (first line of a model)",
		RunE: func(c *cobra.Command, args []string) error {
			what := "configuration"
			if len(args) > 0 {
				what = args[0]
			}
			if views {
				if len(args) > 0 {
					return usageError{fmt.Errorf("--views goes without %s", what)}
				}
				return showViews(c, g)
			}
			kinds := hub.Catalogue
			if _, err := os.Stat(g.config); err == nil {
				if cfg, _, _, err := loadSetup(g.config); err == nil {
					kinds = cfg.Catalogue()
				}
			}
			var schema []byte
			var err error
			switch what {
			case "configuration":
				schema, err = config.Schema()
			case "model":
				schema, err = lifecycle.ModelSchema(kinds)
			case "reactions":
				schema, err = lifecycle.ReactionSchema(kinds)
			default:
				return usageError{fmt.Errorf("there is no schema of %s: configuration, model, reactions", what)}
			}
			if err != nil {
				return err
			}
			return printJSON(c.OutOrStdout(), jsontext.Value(schema))
		},
	}
	c.Flags().BoolVar(&views, "views", false, "the SQL views with their columns")
	return c
}
