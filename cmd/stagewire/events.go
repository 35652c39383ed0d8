package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stagewire/stagewire/internal/config"
	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/server"
)

func newEventsCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "events [kind]", Short: "The catalogue of event kinds, or one kind's JSON Schema", GroupID: groupWrite, Args: arguments(cobra.MaximumNArgs(1)),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return hub.Catalogue.Of("any"), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(c *cobra.Command, args []string) error {
			kinds, publicURL, err := catalogue(g)
			if err != nil {
				return reportProblems(c, err)
			}
			if len(args) == 1 {
				k, ok := kinds.Lookup(strings.TrimSuffix(args[0], ".v1"))
				if !ok {
					return config.Problem{File: "events", Message: fmt.Sprintf("no kind is called %q", args[0]), Suggestion: config.Nearest(args[0], kinds.Of("any"))}
				}
				return printJSON(c.OutOrStdout(), server.KindSchema(k, publicURL))
			}
			page := server.List[server.KindInfo]{Items: []server.KindInfo{}}
			for _, k := range kinds.All() {
				page.Items = append(page.Items, server.DescribeKind(k))
			}
			if g.json {
				return printJSON(c.OutOrStdout(), page)
			}
			return printPage(c, page, "kind group properties", func(k server.KindInfo) []string {
				var properties []string
				for _, name := range slices.Sorted(maps.Keys(k.Properties)) {
					properties = append(properties, name+":"+k.Properties[name])
				}
				return []string{k.Kind, k.Group, strings.Join(properties, " ")}
			})
		},
	}
}

// catalogue is the built-in kinds and, where there is a configuration, its own.
func catalogue(g *globals) (*hub.Kinds, string, error) {
	if _, err := os.Stat(g.config); errors.Is(err, fs.ErrNotExist) {
		return hub.Catalogue, "", nil
	}
	cfg, _, err := config.Load(g.config, config.Lookups{})
	for _, p := range config.Problems(err) {
		if p.Path == "kinds" || strings.HasPrefix(p.Path, "kinds.") {
			return nil, "", err
		}
	}
	return cfg.Catalogue(), cfg.PublicURL, nil // other mistakes, such as a secret that is not set here, do not matter for this
}
