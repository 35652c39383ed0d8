package main

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/server"
)

func newPublishCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "publish [model]", Short: "Let the newest draft of models and reactions decide", GroupID: groupAsk, Args: arguments(cobra.MaximumNArgs(1)),
		Long: "Makes what the files say now the version that decides. Models, reactions and what is written of stages are published together, as\n" +
			"one set, whichever model is named. Customers in a changed model are decided anew in the background, and what that brings about is\n" +
			"sent; a new model takes everybody up where she belongs, without sending anything. `stagewire models` shows the draft before.",
		Example: "  stagewire check && stagewire test && stagewire publish",
		RunE: func(c *cobra.Command, args []string) error {
			a, err := g.api()
			if err != nil {
				return err
			}
			name := ""
			if len(args) == 1 {
				name = args[0]
			} else if name, err = anyModel(c, a); err != nil {
				return err
			}
			out, raw, err := ask[server.Published](c.Context(), a, "POST", "/models/"+url.PathEscape(name)+"/publish", nil, nil)
			if err != nil {
				return reportProblems(c, err)
			}
			if g.json {
				return printJSON(c.OutOrStdout(), raw)
			}
			return showPublished(c, out)
		},
	}
}

// anyModel names a model of the set: a draft's before one that decides already.
func anyModel(c *cobra.Command, a *api) (string, error) {
	page, _, err := ask[server.List[server.Model]](c.Context(), a, "GET", "/models", nil, nil)
	if err != nil {
		return "", err
	}
	for _, state := range []string{hub.ModelDraft, hub.ModelActive} {
		if i := slices.IndexFunc(page.Items, func(m server.Model) bool { return m.State == state }); i >= 0 {
			return page.Items[i].Name, nil
		}
	}
	return "", errors.New("the configuration uses no model: there is nothing to publish")
}

func showPublished(c *cobra.Command, p server.Published) error {
	rows := make([][]string, 0, len(p.Models))
	version := func(n int) string {
		if n == 0 {
			return ""
		}
		return strconv.Itoa(n)
	}
	for _, m := range p.Models {
		rows = append(rows, []string{m.Name, m.Change, version(m.From), version(m.Version)})
	}
	if err := table(c.OutOrStdout(), "model change from to", rows); err != nil {
		return err
	}
	also := ""
	if p.Reactions {
		also += "; reactions have changed"
	}
	if p.Write {
		also += "; what is written of stages has changed"
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), "set %d decides now%s; %s will be decided in the background\n", p.Set, also, plural(p.Customers, "customer"))
	return err
}
