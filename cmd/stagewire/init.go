package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stagewire/stagewire/examples"
	"github.com/stagewire/stagewire/internal/app"
)

func newInitCommand(*globals) *cobra.Command {
	c := &cobra.Command{
		Use:     "init [folder]",
		Short:   "Write the files a real installation starts from",
		GroupID: groupRun,
		Long: "Writes stagewire.yaml, a reaction and secrets into the folder (default: here). They run against `stagewire sandbox` as they are;\n" +
			"put your own accounts in their place one by one. Nothing is overwritten.",
		Args: arguments(cobra.MaximumNArgs(1)),
	}
	o := app.InitOptions{}
	c.Flags().StringVar(&o.Example, "example", "", "write the files of this `example`: "+strings.Join(examples.Names, ", "))
	c.RunE = func(c *cobra.Command, args []string) error {
		dir := "."
		if len(args) > 0 {
			dir = args[0]
		}
		path, err := app.Init(dir, o)
		if err != nil {
			return err
		}
		fmt.Fprintf(c.OutOrStdout(), "wrote %s\n\nNext:\n  stagewire check --config %s\n  stagewire sandbox --config %s     # plays the vendors until you have real accounts\n  stagewire serve --config %s\n", path, path, path, path)
		return nil
	}
	return c
}
