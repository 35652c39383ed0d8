package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stagewire/stagewire/internal/expression"
	"github.com/stagewire/stagewire/internal/lifecycle"
	"github.com/stagewire/stagewire/internal/server"
	"github.com/stagewire/stagewire/rules"
)

func newModelsCommand(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use: "models", Short: "Models in use, drafts of them, and shipped ones, with their customers", GroupID: groupAsk, Args: none,
		Long: "Lists models with their stages and how many customers are in each. A draft is what the files say and the hub does not decide by\n" +
			"yet: `stagewire publish` changes that. Below them stands what score.… and rfm.… in rules go by: the models fitted to the hub's own\n" +
			"orders, how well they fit, and what is unknown so far. Where no hub answers and none was named, it lists the shipped models.",
		RunE: func(c *cobra.Command, _ []string) error {
			page, err := models(c, g)
			if err != nil {
				return err
			}
			if g.json {
				return printJSON(c.OutOrStdout(), page)
			}
			if err := printPage(c, server.List[server.Model]{Items: page.Items}, "name version state of path stages", func(m server.Model) []string {
				var stages []string
				for _, s := range m.Stages {
					stages = append(stages, s.Name+":"+strconv.Itoa(s.Customers))
				}
				return []string{m.Name, strconv.Itoa(m.Version), m.State, m.Of, yes(m.PathDependent), strings.Join(stages, " ")}
			}); err != nil {
				return err
			}
			for _, m := range page.Items {
				if m.Failures > 0 {
					if _, err := fmt.Fprintf(c.OutOrStdout(), "%s: %d conditions failed since the hub started and counted as not holding; its log and stagewire explain say which\n", m.Name, m.Failures); err != nil {
						return err
					}
				}
			}
			if !slices.ContainsFunc(page.Items, func(m server.Model) bool { return m.ReadsScores }) && page.Scores == nil {
				return nil
			}
			return printScores(c.OutOrStdout(), page.Scores)
		},
	}
	c.AddCommand(newFitCommand(g), newRefitCommand(g))
	return c
}

func models(c *cobra.Command, g *globals) (server.ModelList, error) {
	a, err := g.api()
	if err != nil {
		return server.ModelList{}, err
	}
	page, _, err := ask[server.ModelList](c.Context(), a, "GET", "/models", nil, nil)
	if err == nil || !errors.Is(err, errNoHub) || g.server != "" {
		return page, err
	}
	if _, err := fmt.Fprintf(c.ErrOrStderr(), "%v; these are the shipped models\n", err); err != nil {
		return page, err
	}
	page.Items = []server.Model{}
	for _, name := range rules.Names() {
		text, _ := rules.Text(name)
		m, err := lifecycle.Compile("rules/"+name+".yaml", text, lifecycle.Env{})
		if err != nil {
			return page, err
		}
		depends, _ := m.PathDependent()
		shape := server.Model{Name: m.Name, State: "draft", Of: string(m.Of), PathDependent: depends, ReadsScores: m.Needs().Has(expression.NeedsScores), Labels: m.Labels}
		for _, s := range m.Stages {
			shape.Stages = append(shape.Stages, server.ModelStage{Name: s.Name, Labels: s.Labels, Asks: s.Asks})
		}
		page.Items = append(page.Items, shape)
	}
	return page, nil
}
