package main

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stagewire/stagewire/internal/hub"
	"github.com/stagewire/stagewire/internal/server"
)

func newCustomersCommand(g *globals) *cobra.Command {
	f := filters{}
	c := &cobra.Command{
		Use: "customers", Short: "Customers, newest change first", GroupID: groupAsk, Args: none,
		Long: "Lists customers with the stage each has in every model, by its name and its labels: in the language the model was written in and\n" +
			"in English, or in the one of --lang. A customer in several models has a line for each.",
		Example: "  stagewire customers --model clc --stage lost\n  stagewire customers --lang en\n  stagewire customers show ada@example.com",
		RunE: func(c *cobra.Command, _ []string) error {
			return listCustomers(c, g, f.query())
		},
	}
	f.add(c, "q", "text in name or e-mail")
	f.add(c, "email", "e-mail address")
	f.add(c, "identifier", "<kind>:<value>")
	f.add(c, "model", "model of --stage")
	f.add(c, "stage", "in this stage of --model")
	f.add(c, "tag", "has this tag")
	f.add(c, "lang", "language of the labels, such as zh-Hant")
	f.page(c)
	c.AddCommand(newCustomersShowCommand(g), newCustomersPinCommand(g), newCustomersUnpinCommand(g))
	return c
}

// listCustomers prints a page of customers; those in several models take a line for each.
func listCustomers(c *cobra.Command, g *globals, query url.Values) error {
	a, err := g.api()
	if err != nil {
		return err
	}
	page, raw, err := ask[server.List[server.Customer]](c.Context(), a, "GET", "/customers", query, nil)
	if err != nil {
		return err
	}
	if g.json {
		return printJSON(c.OutOrStdout(), raw)
	}
	lines := server.List[[]string]{Next: page.Next}
	for _, cu := range page.Items {
		row := []string{cu.ID, cu.Name, identifiers(cu), when(cu.UpdatedAt)}
		if len(cu.Stages) == 0 && len(cu.Deals) == 0 {
			lines.Items = append(lines.Items, append(row, ""))
		}
		stand := func(subject string, stages map[string]server.Stage) {
			for _, model := range slices.Sorted(maps.Keys(stages)) {
				// What is written in other scripts stands last: its width differs from terminal to terminal.
				lines.Items = append(lines.Items, append(row, strings.TrimSpace(subject+model+"="+stages[model].Stage+"  "+labels(stages[model], query.Get("lang")))))
				row = []string{nothing, nothing, nothing, nothing}
			}
		}
		stand("", cu.Stages)
		for _, deal := range cu.Deals {
			stand(deal.ID+" ", deal.Stages)
		}
	}
	return printPage(c, lines, "id name identifiers updated stages", func(row []string) []string { return row })
}

// labels are what a stage is called: in the language asked for, else in the model's own and in English.
func labels(st server.Stage, lang string) string {
	switch english := st.Labels["en"]; {
	case lang != "" || english == "" || english == st.Label:
		if st.Label == st.Stage {
			return ""
		}
		return st.Label
	default:
		return st.Label + " · " + english
	}
}

func identifiers(cu server.Customer) string {
	var parts []string
	for _, id := range cu.Identifiers {
		parts = append(parts, id.Value)
	}
	return strings.Join(parts, " ")
}

func newCustomersShowCommand(g *globals) *cobra.Command {
	lang := ""
	show := &cobra.Command{
		Use: "show <id or e-mail>", Short: "One customer and what happened to her", Args: arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			a, err := g.api()
			if err != nil {
				return err
			}
			id, err := findCustomer(c, a, args[0])
			if err != nil {
				return err
			}
			spoken := url.Values{}
			if lang != "" {
				spoken.Set("lang", lang)
			}
			customer, raw, err := ask[server.Customer](c.Context(), a, "GET", "/customers/"+url.PathEscape(id), spoken, nil)
			if err != nil {
				return err
			}
			if g.json {
				return printJSON(c.OutOrStdout(), raw)
			}
			timeline, _, err := ask[server.List[server.Entry]](c.Context(), a, "GET", "/customers/"+url.PathEscape(id)+"/timeline", url.Values{"limit": {"30"}}, nil)
			if err != nil {
				return err
			}
			return showCustomer(c, customer, timeline, lang)
		},
	}
	show.Flags().StringVar(&lang, "lang", "", "language of the labels, such as zh-Hant")
	return show
}

// findCustomer takes an id as it is, looks an e-mail address up, and takes anything else for a part of a name.
func findCustomer(c *cobra.Command, a *api, who string) (string, error) {
	if strings.HasPrefix(who, hub.PrefixCustomer) || strings.TrimSpace(who) == "" {
		return who, nil
	}
	query, what := url.Values{"q": {who}}, "name like"
	if strings.Contains(who, "@") {
		query, what = url.Values{"email": {who}}, "e-mail address"
	}
	query.Set("limit", "6")
	page, _, err := ask[server.List[server.Customer]](c.Context(), a, "GET", "/customers", query, nil)
	if err != nil {
		return "", err
	}
	switch len(page.Items) {
	case 0:
		return "", fmt.Errorf("no customer has the %s %s: `stagewire customers` lists them, --identifier <kind>:<value> looks for others", what, visible(who))
	case 1:
		return page.Items[0].ID, nil
	}
	var some []string
	for _, item := range page.Items[:min(len(page.Items), 5)] {
		some = append(some, item.ID+" "+visible(item.Name))
	}
	return "", fmt.Errorf("several customers have the %s %s, say which by its id: %s", what, visible(who), strings.Join(some, ", "))
}

func showCustomer(c *cobra.Command, cu server.Customer, timeline server.List[server.Entry], lang string) error {
	out := c.OutOrStdout()
	pairs := []string{"id", cu.ID, "kind", cu.Kind, "name", cu.Name, "tags", strings.Join(cu.Tags, " "), "since", when(cu.CreatedAt)}
	for _, id := range cu.Identifiers {
		at := id.Value
		if id.Connection != "" {
			at += " at " + id.Connection
		}
		pairs = append(pairs, id.Kind, at)
	}
	for _, name := range slices.Sorted(maps.Keys(cu.Traits)) {
		pairs = append(pairs, "trait "+name, fmt.Sprintf("%v (%s)", cu.Traits[name].Value, cu.Traits[name].Connection))
	}
	for _, channel := range slices.Sorted(maps.Keys(cu.Consent)) {
		pairs = append(pairs, "consent "+channel, cu.Consent[channel])
	}
	if err := facts(out, pairs...); err != nil {
		return err
	}
	var rows, held [][]string
	stand := func(subject string, stages map[string]server.Stage) {
		for _, model := range slices.Sorted(maps.Keys(stages)) {
			s := stages[model]
			row := []string{model, s.Stage, when(s.Since), s.By, when(s.WakesAt), labels(s, lang)}
			if subject != "" {
				row[0] += " of " + subject
			}
			rows = append(rows, row)
			if s.Pin != nil {
				held = append(held, []string{row[0], s.Stage, s.Pin.Who, when(s.Pin.At), when(s.Pin.Until), s.Pin.Why})
			}
		}
	}
	stand("", cu.Stages)
	for _, deal := range cu.Deals {
		subject := "deal " + deal.ID
		if deal.Name != "" {
			subject += " (" + deal.Name + ")"
		}
		stand(subject, deal.Stages)
	}
	if err := section(c, "model stage since by wakes label", rows); err != nil {
		return err
	}
	if err := section(c, "pinned stage who at until why", held); err != nil {
		return err
	}
	rows = nil
	for _, kind := range slices.Sorted(maps.Keys(cu.Facts)) {
		f := cu.Facts[kind]
		var sums []string
		for _, m := range f.Sum {
			sums = append(sums, m.Amount+" "+m.Currency)
		}
		rows = append(rows, []string{kind, strconv.Itoa(f.Count), when(f.FirstAt), when(f.LastAt), strings.Join(sums, ", ")})
	}
	if err := section(c, "kind count first last sum", rows); err != nil {
		return err
	}
	rows = nil
	for _, e := range timeline.Items {
		rows = append(rows, []string{when(e.At), e.Type, e.Summary})
	}
	return section(c, "at what summary", rows)
}

// section is a table after an empty line, where there is something to tell.
func section(c *cobra.Command, head string, rows [][]string) error {
	if len(rows) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(c.OutOrStdout()); err != nil {
		return err
	}
	return table(c.OutOrStdout(), head, rows)
}
